//! Where every event went. Per kind: observed = delivered + dropped + in flight, at every moment.
//!
//! What is in flight is counted by itself: the ring's share from what the kernel handed to it and what was read from
//! it, the rest from guards that travel with the events. An event that somebody forgets to account for leaves the
//! flight with its guard and appears nowhere else: the balance shows it.
use parking_lot::Mutex;
use serde::Serialize;
use std::{io, sync::Arc};
use tarsier_common::{KIND_NAMES, Row, column, kind};

pub const KINDS: usize = kind::COUNT as usize;

/// Why an event was not delivered. A closed list: dashboards and alerts are written against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Reason {
    Thread,
    KernelThread,
    OtherHierarchy,
    Own,
    Ignored,
    StandaloneOff,
    Filtered,
    EphemeralPort,
    LoopbackInContainer,
    LinkLocal,
    PublicNetwork,
    Deferred,
    RingFull,
    Malformed,
    ActorDied,
    TableFull,
    PendingFull,
}

impl Reason {
    /// As in the label `reason`.
    pub fn as_str(self) -> &'static str {
        let found = REASONS.iter().find(|(reason, _, _)| *reason == self);
        found.map_or("", |(_, name, _)| name)
    }
}

pub const REASONS: [(Reason, &str, Class); 17] = [
    (Reason::Thread, "thread", Class::Policy),
    (Reason::KernelThread, "kernel_thread", Class::Policy),
    (Reason::OtherHierarchy, "other_hierarchy", Class::Policy),
    (Reason::Own, "own", Class::Policy),
    (Reason::Ignored, "ignored", Class::Policy),
    (Reason::StandaloneOff, "standalone_off", Class::Policy),
    (Reason::Filtered, "filtered", Class::Policy),
    (Reason::EphemeralPort, "ephemeral_port", Class::Policy),
    (Reason::LoopbackInContainer, "loopback_in_container", Class::Policy),
    (Reason::LinkLocal, "link_local", Class::Policy),
    (Reason::PublicNetwork, "public_network", Class::Policy),
    (Reason::Deferred, "deferred", Class::Policy),
    (Reason::RingFull, "ring_full", Class::Loss),
    (Reason::Malformed, "malformed", Class::Loss),
    (Reason::ActorDied, "actor_died", Class::Loss),
    (Reason::TableFull, "table_full", Class::Loss),
    (Reason::PendingFull, "pending_full", Class::Loss),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Left out on purpose, or delivered another way.
    Policy,
    Loss,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Loss => "loss",
        }
    }
}

/// Events by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; KINDS]);

impl Counts {
    pub fn add(&mut self, kind: u16, n: u64) {
        if let Some(cell) = self.0.get_mut(usize::from(kind)) {
            *cell += n;
        }
    }

    /// One fewer of this kind.
    pub fn remove(&mut self, kind: u16) {
        if let Some(cell) = self.0.get_mut(usize::from(kind)) {
            *cell = cell.saturating_sub(1);
        }
    }

    pub fn get(&self, kind: u16) -> u64 {
        self.0.get(usize::from(kind)).copied().unwrap_or(0)
    }

    fn plus(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a += b);
    }

    fn minus(&mut self, other: &Self) {
        self.0
            .iter_mut()
            .zip(other.0)
            .for_each(|(a, b)| *a = a.saturating_sub(b));
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What became of a group of events.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub delivered: Counts,
    /// With how many.
    pub dropped: Vec<(u16, Reason, u64)>,
}

impl Outcome {
    pub fn drop_one(&mut self, kind: u16, reason: Reason) {
        self.drop_many(kind, reason, 1);
    }

    pub fn drop_many(&mut self, kind: u16, reason: Reason, n: u64) {
        self.dropped.push((kind, reason, n));
    }
}

#[derive(Default)]
struct Books {
    read: Counts,
    in_flight: Counts,
    delivered: Counts,
    dropped: [[u64; REASONS.len()]; KINDS],
}

impl Books {
    fn drop_events(&mut self, kind: u16, reason: Reason, n: u64) {
        if let Some(row) = self.dropped.get_mut(usize::from(kind)) {
            row[reason as usize] += n;
        }
    }
}

/// Reads the kernel's counters.
pub trait KernelCounters: Send + Sync {
    fn rows(&self) -> io::Result<[Row; KINDS]>;
}

#[derive(Default)]
pub struct Ledger {
    books: Mutex<Books>,
    kernel: Mutex<Option<Arc<dyn KernelCounters>>>,
}

/// Counted since the programs were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events that found the ring full, whether something else carries them or not.
    pub refused: u64,
    /// News of processes that nothing but a look at /proc brings back.
    pub processes: u64,
    /// Ends of sockets that nothing else carries.
    pub ends: u64,
}

/// How often a snapshot is tried again when events happened while it was taken.
const TRIES: usize = 100;

impl Ledger {
    pub fn set_kernel(&self, counters: Arc<dyn KernelCounters>) {
        *self.kernel.lock() = Some(counters);
    }

    /// Events that were read from the ring or as part of a sum.
    pub fn take(self: &Arc<Self>, counts: Counts) -> InFlight {
        let mut books = self.books.lock();
        books.read.plus(&counts);
        books.in_flight.plus(&counts);
        InFlight {
            ledger: Arc::clone(self),
            counts,
        }
    }

    /// What the kernel's side could not hand over so far. `None`: it cannot be read.
    pub fn losses(&self) -> Option<Losses> {
        let kernel = self.kernel.lock().clone();
        let rows = kernel?.rows().ok()?;
        let lost = |kinds: &[u16]| kinds.iter().map(|kind| rows[usize::from(*kind)][column::LOST]).sum();
        Some(Losses {
            refused: rows.iter().map(|row| row[column::DEFERRED] + row[column::LOST]).sum(),
            processes: lost(&[kind::FORK, kind::EXEC, kind::EXIT, kind::CGROUP_MOVE]),
            ends: lost(&[kind::CLOSE, kind::LISTEN_CLOSE, kind::ACCEPTED_CLOSE]),
        })
    }

    pub fn snapshot(&self) -> Snapshot {
        let kernel = self.kernel.lock().clone();
        let books = self.books.lock();
        let (rows, consistent) = match &kernel {
            Some(kernel) => steady(kernel.as_ref()),
            // Nothing was ever loaded, or a recording is replayed: all that was read had been observed.
            None => {
                let mut rows = [Row::default(); KINDS];
                for (row, read) in rows.iter_mut().zip(books.read.0) {
                    row[column::OBSERVED] = read;
                    row[column::SENT] = read;
                }
                (rows, true)
            }
        };
        let kinds = rows
            .iter()
            .enumerate()
            .map(|(i, row)| account(&books, i, row))
            .collect();
        Snapshot { consistent, kinds }
    }
}

/// Reads until two readings agree and no program was caught between its first counter and its last.
fn steady(kernel: &dyn KernelCounters) -> ([Row; KINDS], bool) {
    let mut before = kernel.rows();
    for _ in 0..TRIES {
        let now = kernel.rows();
        if let (Ok(before), Ok(now)) = (&before, &now) {
            let settled = |row: &Row| row[column::OBSERVED] == row.iter().skip(1).sum::<u64>();
            if before == now && now.iter().all(settled) {
                return (*now, true);
            }
        }
        before = now;
    }
    // Either the node is too busy for a still picture, or the kernel's side does not add up: the reader sees which.
    let still = matches!((&before, kernel.rows()), (Ok(before), Ok(now)) if *before == now);
    (before.unwrap_or([Row::default(); KINDS]), still)
}

fn account(books: &Books, index: usize, row: &Row) -> KindAccount {
    let kind = index as u16;
    let handed_over = row[column::SENT] + row[column::SUMMED];
    let in_ring = handed_over as i64 - books.read.get(kind) as i64;
    let ignored = match kind {
        kind::FORK | kind::EXIT | kind::CGROUP_MOVE => Reason::Thread,
        kind::CONNECT_FAILED | kind::CLOSE | kind::ACCEPTED_CLOSE => Reason::Own,
        _ => Reason::OtherHierarchy,
    };
    let kernel = [
        (ignored, row[column::IGNORED]),
        (Reason::Deferred, row[column::DEFERRED]),
        (Reason::RingFull, row[column::LOST]),
    ];
    let count_of = |reason: Reason| {
        let here = books.dropped[index][reason as usize];
        here + kernel
            .iter()
            .filter(|(of, _)| *of == reason)
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    let dropped: Vec<Dropped> = REASONS
        .iter()
        .map(|(reason, name, class)| Dropped {
            reason: name,
            class: *class,
            count: count_of(*reason),
        })
        .filter(|dropped| dropped.count > 0)
        .collect();
    let in_flight = in_ring + books.in_flight.get(kind) as i64;
    let observed = row[column::OBSERVED];
    let delivered = books.delivered.get(kind);
    let accounted = delivered + dropped.iter().map(|dropped| dropped.count).sum::<u64>();
    KindAccount {
        kind: KIND_NAMES[index],
        observed,
        delivered,
        in_flight,
        in_ring,
        imbalance: observed as i64 - accounted as i64 - in_flight,
        dropped,
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// No event happened while the picture was taken.
    pub consistent: bool,
    pub kinds: Vec<KindAccount>,
}

#[derive(Clone, Debug, Serialize)]
pub struct KindAccount {
    pub kind: &'static str,
    pub observed: u64,
    pub delivered: u64,
    pub in_flight: i64,
    pub in_ring: i64,
    pub dropped: Vec<Dropped>,
    /// Zero, or an event went missing.
    pub imbalance: i64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Dropped {
    pub reason: &'static str,
    pub class: Class,
    pub count: u64,
}

/// Travels with events until they are settled. Dropped unsettled, as by a panic, it books them as lost.
#[derive(Debug)]
pub struct InFlight {
    ledger: Arc<Ledger>,
    counts: Counts,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

impl InFlight {
    /// A guard for some of the events, which this one no longer covers.
    pub fn split(&mut self, counts: Counts) -> Self {
        self.counts.minus(&counts);
        Self {
            ledger: Arc::clone(&self.ledger),
            counts,
        }
    }

    /// Books what became of the events, all at once.
    pub fn settle(mut self, outcome: &Outcome) {
        let mut books = self.ledger.books.lock();
        books.in_flight.minus(&self.counts);
        self.counts = Counts::default();
        books.delivered.plus(&outcome.delivered);
        for (kind, reason, n) in &outcome.dropped {
            books.drop_events(*kind, *reason, *n);
        }
    }

    /// All of them.
    pub fn deliver(self) {
        let outcome = Outcome {
            delivered: self.counts,
            ..Outcome::default()
        };
        self.settle(&outcome);
    }

    pub fn settle_all(mut self, reason: Reason) {
        self.book(reason);
    }

    fn book(&mut self, reason: Reason) {
        let mut books = self.ledger.books.lock();
        let counts = std::mem::take(&mut self.counts);
        books.in_flight.minus(&counts);
        for (kind, n) in counts.0.iter().enumerate() {
            books.drop_events(kind as u16, reason, *n);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.counts.total() > 0 {
            self.book(Reason::ActorDied);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Row);

    impl KernelCounters for Fixed {
        fn rows(&self) -> io::Result<[Row; KINDS]> {
            let mut rows = [Row::default(); KINDS];
            rows[usize::from(kind::CLOSE)] = self.0;
            Ok(rows)
        }
    }

    fn counts(n: u64) -> Counts {
        let mut counts = Counts::default();
        counts.add(kind::CLOSE, n);
        counts
    }

    fn connects(ledger: &Ledger) -> KindAccount {
        ledger.snapshot().kinds[usize::from(kind::CLOSE)].clone()
    }

    #[test]
    fn balances_at_every_step() {
        let ledger = Arc::new(Ledger::default());
        ledger.set_kernel(Arc::new(Fixed([10, 7, 0, 2, 1, 0])));
        assert_eq!((connects(&ledger).in_flight, connects(&ledger).imbalance), (7, 0));

        let mut batch = ledger.take(counts(5));
        assert_eq!(
            (
                connects(&ledger).in_ring,
                connects(&ledger).in_flight,
                connects(&ledger).imbalance
            ),
            (2, 7, 0)
        );

        let share = batch.split(counts(3));
        share.settle(&Outcome {
            delivered: counts(3),
            ..Outcome::default()
        });
        assert_eq!((connects(&ledger).delivered, connects(&ledger).imbalance), (3, 0));

        let outcome = Outcome {
            delivered: counts(1),
            dropped: vec![(kind::CLOSE, Reason::LinkLocal, 1)],
        };
        batch.settle(&outcome);
        let account = connects(&ledger);
        assert_eq!((account.delivered, account.in_flight, account.imbalance), (4, 2, 0));
        let reasons: Vec<_> = account
            .dropped
            .iter()
            .map(|dropped| (dropped.reason, dropped.count))
            .collect();
        assert_eq!(reasons, [("link_local", 1), ("deferred", 2), ("ring_full", 1)]);
    }

    #[test]
    fn a_dead_owner_is_a_loss() {
        let ledger = Arc::new(Ledger::default());
        drop(ledger.take(counts(2)));
        let account = connects(&ledger);
        assert_eq!(
            (account.dropped[0].reason, account.dropped[0].count, account.imbalance),
            ("actor_died", 2, 0)
        );
    }

    #[test]
    fn a_forgotten_event_shows() {
        let ledger = Arc::new(Ledger::default());
        ledger.take(counts(2)).settle(&Outcome {
            delivered: counts(1),
            ..Outcome::default()
        });
        assert_eq!(connects(&ledger).imbalance, 1);
    }

    #[test]
    fn reasons_stand_in_the_order_of_their_numbers() {
        for (i, (reason, _, _)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
    }
}
