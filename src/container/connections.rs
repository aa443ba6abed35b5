//! Open connections, and per destination what all of them have added up to.
use crate::{
    base::{ids::SocketId, table::Table},
    decode::{SocketEvent, SumEvent},
};
use std::{collections::BTreeMap, net::SocketAddr};

#[derive(Debug)]
pub(super) struct Connection {
    pub socket: SocketId,
    /// Where it is counted, for good: a destination that comes to the table later is another series.
    pub bucket: Bucket,
    /// Its connect is in the count. Otherwise it was found by a pass, and the news of its beginning may still come.
    counted: bool,
    timed: bool,
    sent_bytes: u64,
    received_bytes: u64,
    /// Bytes it had moved when it was adopted.
    skipped: (u64, u64),
    /// When anybody last told of it, on the kernel's clock.
    pub last_ns: u64,
}

impl Connection {
    pub(super) fn counted(event: &SocketEvent, bucket: Bucket) -> Self {
        Self {
            socket: event.socket,
            bucket,
            counted: true,
            timed: event.connect_ns.is_some(),
            sent_bytes: 0,
            received_bytes: 0,
            skipped: (0, 0),
            last_ns: event.time_ns,
        }
    }

    pub(super) fn adopted(event: &SocketEvent, bucket: Bucket) -> Self {
        Self {
            counted: false,
            sent_bytes: event.sent_bytes,
            received_bytes: event.received_bytes,
            skipped: (event.sent_bytes, event.received_bytes),
            ..Self::counted(event, bucket)
        }
    }

    /// The news of its beginning, after a pass was faster.
    pub(super) fn announced(&mut self, stats: &mut Stats, event: &SocketEvent) {
        if !self.counted {
            self.counted = true;
            self.timed = event.connect_ns.is_some();
            stats.connected(event.connect_ns, event.time_ns);
            let (sent, received) = std::mem::take(&mut self.skipped);
            stats.sent_bytes += sent;
            stats.received_bytes += received;
        } else if !self.timed {
            self.timed = true;
            stats.connect_ns += event.connect_ns.unwrap_or(0);
        }
    }

    /// Totals are absolute: what is new is added.
    pub(super) fn advance(&mut self, stats: &mut Stats, event: &SocketEvent) {
        stats.sent_bytes += event.sent_bytes.saturating_sub(self.sent_bytes);
        stats.received_bytes += event.received_bytes.saturating_sub(self.received_bytes);
        self.sent_bytes = self.sent_bytes.max(event.sent_bytes);
        self.received_bytes = self.received_bytes.max(event.received_bytes);
        self.last_ns = self.last_ns.max(event.time_ns);
        stats.last_ns = stats.last_ns.max(event.time_ns);
    }
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub connects: u64,
    pub failures: u64,
    pub failures_by_errno: BTreeMap<i32, u64>,
    pub active: i64,
    pub connect_ns: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Of the last attempt, on the kernel's clock.
    pub last_ns: u64,
}

impl Stats {
    pub(super) fn connected(&mut self, connect_ns: Option<u64>, time_ns: u64) {
        self.connects += 1;
        self.connect_ns += connect_ns.unwrap_or(0);
        self.last_ns = self.last_ns.max(time_ns);
    }

    pub(super) fn failed(&mut self, errno: i32, time_ns: u64) {
        self.failures += 1;
        *self.failures_by_errno.entry(errno).or_default() += 1;
        self.last_ns = self.last_ns.max(time_ns);
    }

    pub(super) fn add_sum(&mut self, sum: &SumEvent, now_ns: u64) {
        self.connects += sum.connects;
        self.failures += sum.failures;
        self.connect_ns += sum.connect_ns;
        self.sent_bytes += sum.sent_bytes;
        self.received_bytes += sum.received_bytes;
        self.last_ns = self.last_ns.max(now_ns);
    }

    fn absorb(&mut self, other: Self) {
        self.connects += other.connects;
        self.failures += other.failures;
        for (errno, n) in other.failures_by_errno {
            *self.failures_by_errno.entry(errno).or_default() += n;
        }
        self.active += other.active;
        self.connect_ns += other.connect_ns;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.last_ns = self.last_ns.max(other.last_ns);
    }

    /// Something other than failures has happened here.
    pub fn has_connected(&self) -> bool {
        self.connects > 0 || self.active > 0 || self.sent_bytes > 0 || self.received_bytes > 0
    }
}

/// A destination of its own, or all those beyond the limit.
pub(super) type Bucket = Option<SocketAddr>;

/// Bounded: beyond the limit all further destinations are one, `~other`.
#[derive(Debug)]
pub(super) struct Destinations {
    known: Table<SocketAddr, Stats>,
    other: Stats,
}

impl Destinations {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            known: Table::new(limit),
            other: Stats::default(),
        }
    }

    pub(super) fn of(&mut self, remote: SocketAddr) -> &mut Stats {
        let bucket = self.bucket(remote);
        self.at(bucket)
    }

    /// Where something new to this destination is counted.
    pub(super) fn bucket(&mut self, remote: SocketAddr) -> Bucket {
        self.known.get_or_insert_with(remote, Stats::default).map(|_| remote)
    }

    pub(super) fn at(&mut self, bucket: Bucket) -> &mut Stats {
        let known = bucket.and_then(|remote| self.known.get_mut(&remote));
        known.unwrap_or(&mut self.other)
    }

    pub(super) fn knows(&self, remote: &SocketAddr) -> bool {
        self.known.contains_key(remote)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<SocketAddr>, &Stats)> {
        let other = (self.other.last_ns > 0).then_some((None, &self.other));
        self.known
            .iter()
            .map(|(remote, stats)| (Some(*remote), stats))
            .chain(other)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.other.last_ns == 0
    }

    pub(super) fn absorb(&mut self, mut other: Self) {
        for (remote, stats) in other.known.drain() {
            self.of(remote).absorb(stats);
        }
        self.other.absorb(other.other);
    }

    /// A destination that comes back later starts from zero, as after a restart.
    pub(super) fn forget_before(&mut self, before_ns: u64) {
        self.known
            .retain(|_, stats| stats.active > 0 || stats.last_ns >= before_ns);
    }
}
