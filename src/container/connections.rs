//! Open connections, and per destination and per listen address what all of them have added up to.
use super::{exchanges::ByProtocol, names::Destinations};
use crate::{
    base::{ids::NetnsId, table::Table},
    decode::{CloseReason, Closes, DestinationKey, Exchanges, Role, SocketEvent, SumEvent},
};
use std::{collections::BTreeMap, hash::Hash, net::SocketAddr};

#[derive(Debug)]
pub(super) struct Connection {
    /// Where it is counted, for good: an address that comes to the table later is another series, and so is a name.
    pub bucket: Bucket,
    /// It is not counted: nobody has used it yet, so it may turn out to be another container's.
    waiting: bool,
    /// It began before the agent: not to be counted.
    old: bool,
    sent_bytes: u64,
    received_bytes: u64,
    retransmits: u32,
    /// When anybody last told of it, on the kernel's clock.
    pub last_ns: u64,
}

impl Connection {
    /// Nothing of it is counted yet.
    pub(super) fn new(event: &SocketEvent, bucket: Bucket) -> Self {
        Self {
            bucket,
            waiting: true,
            old: event.old,
            sent_bytes: 0,
            received_bytes: 0,
            retransmits: 0,
            last_ns: event.time_ns,
        }
    }

    /// What it has done so far is counted elsewhere.
    pub(super) fn adopted(event: &SocketEvent, bucket: Bucket) -> Self {
        Self {
            waiting: false,
            sent_bytes: event.sent_bytes,
            received_bytes: event.received_bytes,
            retransmits: event.retransmits,
            ..Self::new(event, bucket)
        }
    }

    /// It will be counted, and is not yet.
    pub(super) fn awaits_its_count(&self) -> bool {
        self.waiting && !self.old
    }

    /// Totals are absolute: what is new is added. `last`: it is known by now whose it is, or never will be.
    pub(super) fn advance(&mut self, stats: &mut Stats, event: &SocketEvent, last: bool) {
        self.last_ns = self.last_ns.max(event.time_ns);
        stats.last_ns = stats.last_ns.max(event.time_ns);
        if self.waiting {
            if !event.settled && !last {
                return;
            }
            self.waiting = false;
            stats.began(event);
        }
        stats.sent_bytes += event.sent_bytes.saturating_sub(self.sent_bytes);
        stats.received_bytes += event.received_bytes.saturating_sub(self.received_bytes);
        stats.retransmits += u64::from(event.retransmits.saturating_sub(self.retransmits));
        self.sent_bytes = self.sent_bytes.max(event.sent_bytes);
        self.received_bytes = self.received_bytes.max(event.received_bytes);
        self.retransmits = self.retransmits.max(event.retransmits);
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Or accepts.
    pub connects: u64,
    pub failures: u64,
    pub failures_by_errno: BTreeMap<i32, u64>,
    pub active: i64,
    /// Of those, how many are still to be counted as connects or accepts.
    pub waiting: i64,
    pub connect_ns: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u64,
    pub closes: Closes,
    /// What was asked for there.
    pub exchanges: ByProtocol,
    /// Of the last attempt, or the last request, on the kernel's clock.
    pub last_ns: u64,
}

impl Stats {
    /// Counts a connection, unless it is older than the agent.
    pub(super) fn began(&mut self, event: &SocketEvent) {
        self.last_ns = self.last_ns.max(event.time_ns);
        if !event.old {
            self.connects += 1;
            self.connect_ns += event.connect_ns.unwrap_or(0);
        }
    }

    /// One more is open, or (by -1) one fewer.
    pub(super) fn open(&mut self, awaits_its_count: bool, by: i64) {
        self.active += by;
        if awaits_its_count {
            self.waiting += by;
        }
    }

    pub(super) fn ended(&mut self, reason: CloseReason) {
        self.closes[reason.index()] += 1;
    }

    pub(super) fn failed(&mut self, event: &SocketEvent) {
        self.failures += 1;
        *self.failures_by_errno.entry(event.errno).or_default() += 1;
        self.retransmits += u64::from(event.retransmits);
        self.last_ns = self.last_ns.max(event.time_ns);
    }

    pub(super) fn add_sum(&mut self, sum: &SumEvent, now_ns: u64) {
        self.connects += sum.connects;
        self.failures += sum.failures;
        self.connect_ns += sum.connect_ns;
        self.sent_bytes += sum.sent_bytes;
        self.received_bytes += sum.received_bytes;
        self.retransmits += sum.retransmits;
        add(&mut self.closes, &sum.closes);
        self.last_ns = self.last_ns.max(now_ns);
    }

    pub(super) fn exchanged(&mut self, exchanges: &Exchanges, now_ns: u64) {
        self.exchanges.add(exchanges);
        self.last_ns = self.last_ns.max(now_ns);
    }

    /// All but what was said.
    fn has_traffic(&self) -> bool {
        let nothing = Self {
            exchanges: self.exchanges.clone(),
            last_ns: self.last_ns,
            ..Self::default()
        };
        *self != nothing
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.connects += other.connects;
        self.failures += other.failures;
        for (errno, n) in other.failures_by_errno {
            *self.failures_by_errno.entry(errno).or_default() += n;
        }
        self.active += other.active;
        self.waiting += other.waiting;
        self.connect_ns += other.connect_ns;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.retransmits += other.retransmits;
        add(&mut self.closes, &other.closes);
        self.exchanges.absorb(&other.exchanges);
        self.last_ns = self.last_ns.max(other.last_ns);
    }

    /// Something other than failures has happened here.
    pub fn has_connected(&self) -> bool {
        self.connects > 0 || self.active > 0 || self.sent_bytes > 0 || self.received_bytes > 0
    }
}

pub(super) fn add(to: &mut Closes, closes: &Closes) {
    to.iter_mut().zip(closes).for_each(|(to, n)| *to += n);
}

/// A listen address, in the network namespace where it is one.
pub(super) type Place = (NetnsId, SocketAddr);

/// An address of its own, or all those beyond the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    Destination(Option<DestinationKey>),
    Listen(Option<Place>),
}

/// What all connections of a container have added up to.
#[derive(Debug)]
pub(super) struct Traffic {
    pub destinations: Destinations,
    pub listens: Counters<Place>,
}

impl Traffic {
    pub(super) fn new(destinations: usize, names: usize, listens: usize) -> Self {
        Self {
            destinations: Destinations::new(destinations, names),
            listens: Counters::new(listens),
        }
    }

    /// Where something new to this address is counted.
    pub(super) fn bucket(&mut self, event: &SocketEvent) -> Bucket {
        match event.role {
            Role::Client => Bucket::Destination(self.destinations.key(event.destination())),
            Role::Server => Bucket::Listen(self.listens.key((event.netns, event.local))),
        }
    }

    pub(super) fn of_sum(&mut self, sum: &SumEvent) -> &mut Stats {
        match sum.role {
            Role::Client => self.destinations.of(sum.destination()),
            Role::Server => self.listens.of((sum.netns, sum.address)),
        }
    }

    pub(super) fn at(&mut self, bucket: &Bucket) -> &mut Stats {
        match bucket {
            Bucket::Destination(key) => self.destinations.at(key.as_ref()),
            Bucket::Listen(key) => self.listens.at(key.as_ref()),
        }
    }

    /// Where that is after the tables of two have become one.
    pub(super) fn after_absorbing(&self, bucket: Bucket) -> Bucket {
        match bucket {
            Bucket::Destination(key) => Bucket::Destination(key.filter(|key| self.destinations.knows(key))),
            Bucket::Listen(key) => Bucket::Listen(key.filter(|key| self.listens.knows(key))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.destinations.is_empty() && self.listens.is_empty()
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.destinations.absorb(other.destinations);
        self.listens.absorb(other.listens);
    }

    /// What was said stays.
    pub(super) fn forget_connections(&mut self) {
        self.listens = Counters::new(self.listens.known.capacity());
        self.destinations.change(|stats| {
            let exchanges = std::mem::take(&mut stats.exchanges);
            let last_ns = stats.last_ns;
            *stats = Stats {
                exchanges,
                last_ns,
                ..Stats::default()
            };
        });
    }

    /// Connections stay.
    pub(super) fn forget_exchanges(&mut self) {
        self.destinations
            .change(|stats| stats.exchanges = ByProtocol::default());
    }

    /// But there may be what was said.
    #[cfg(test)]
    pub(super) fn has_no_connections(&self) -> bool {
        self.listens.is_empty() && !self.destinations.iter().any(|(_, stats)| stats.has_traffic())
    }

    pub(super) fn forget_before(&mut self, before_ns: u64) {
        self.destinations.forget_before(before_ns);
        self.listens.forget_before(before_ns);
    }
}

/// Bounded: beyond the limit all further addresses are one, `~other`.
#[derive(Debug)]
pub(super) struct Counters<K> {
    known: Table<K, Stats>,
    other: Stats,
}

impl<K: Clone + Eq + Hash> Counters<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            known: Table::new(limit),
            other: Stats::default(),
        }
    }

    pub(super) fn of(&mut self, key: K) -> &mut Stats {
        let key = self.key(key);
        self.at(key.as_ref())
    }

    pub(super) fn key(&mut self, key: K) -> Option<K> {
        self.known.get_or_insert_with(key.clone(), Stats::default).map(|_| key)
    }

    /// `None`: all further ones, together.
    pub(super) fn at(&mut self, key: Option<&K>) -> &mut Stats {
        let known = key.and_then(|key| self.known.get_mut(key));
        known.unwrap_or(&mut self.other)
    }

    pub(super) fn knows(&self, key: &K) -> bool {
        self.known.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.known.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&K>, &Stats)> {
        let other = (self.other.last_ns > 0).then_some((None, &self.other));
        self.known.iter().map(|(key, stats)| (Some(key), stats)).chain(other)
    }

    pub(super) fn drain(&mut self) -> (impl Iterator<Item = (K, Stats)> + use<K>, Stats) {
        (self.known.drain(), std::mem::take(&mut self.other))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.other.last_ns == 0
    }

    fn absorb(&mut self, mut other: Self) {
        let (known, rest) = other.drain();
        known.for_each(|(key, stats)| self.of(key).absorb(stats));
        self.other.absorb(rest);
    }

    /// What then has nothing to show goes.
    pub(super) fn change(&mut self, mut change: impl FnMut(&mut Stats)) {
        let mut keep = |stats: &mut Stats| {
            change(stats);
            stats.has_traffic() || !stats.exchanges.is_empty()
        };
        self.known.retain(|_, stats| keep(stats));
        if !keep(&mut self.other) {
            self.other = Stats::default();
        }
    }

    /// An address that comes back later starts from zero, as after a restart.
    pub(super) fn forget_before(&mut self, before_ns: u64) {
        self.known
            .retain(|_, stats| stats.active > 0 || stats.last_ns >= before_ns);
    }
}
