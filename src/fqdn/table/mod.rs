//! Addresses and their names. Pure: no actor, no clock.
//!
//! | an address | and is then |
//! | --- | --- |
//! | comes with others of the name, all of them external | shown by the name |
//! | comes alone, or with one that is not external | shown by itself; its name is in `ip_to_fqdn` |
//! | is shown by its name, and comes alone under the same one | shown by the name, as before: servers answer with a part of the addresses, and a series for each kind of answer would help nobody |
//! | comes under another name | all the other name's: a client connects right after the answer, so of two names the later is the likelier, and the older may have moved on |
//!
//! What is counted already stays where it is counted: a connection has its name before it has a series.
use crate::{
    base::{fqdn::Fqdn, table::Table},
    container::destination::is_external,
    decode::{DestinationKey, DnsAnswered, Event, Role, Route},
};
use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
};

/// Of one answer. The largest services give a few dozen.
const MAX_ADDRESSES: usize = 64;

#[derive(Debug)]
struct Entry {
    name: Fqdn,
    /// Its connections are shown by the address, which is one of the name's own.
    specify_ip: bool,
    connected: bool,
    /// When it was last heard of: in an answer, or by a connection to it.
    last_ns: u64,
    /// In the order of the answers; no two have the same.
    number: u64,
}

impl Entry {
    /// The smallest goes first.
    fn worth(&self) -> (bool, u64, u64) {
        (self.connected, self.last_ns, self.number)
    }
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    Names,
    /// Of the first of its addresses.
    SomeNames,
    NoAddress,
    NotAName,
}

#[derive(Debug)]
pub struct Names {
    entries: Table<IpAddr, Entry>,
    answers: u64,
    /// Had to make room.
    evicted: u64,
}

impl Names {
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Table::new(capacity),
            answers: 0,
            evicted: 0,
        }
    }

    pub fn learn(&mut self, answer: &DnsAnswered, now_ns: u64) -> Learnt {
        let Ok(name) = Fqdn::new(&answer.name) else {
            return Learnt::NotAName;
        };
        let all = || answer.addresses.iter().map(IpAddr::to_canonical);
        let several = all().skip(1).any(|ip| all().next() != Some(ip));
        let specify_ip = !(several && all().all(is_external));
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut some = false;
        for ip in all().filter(|ip| is_a_host(*ip)) {
            if addresses.contains(&ip) {
                continue;
            }
            if addresses.len() == MAX_ADDRESSES {
                some = true;
                break;
            }
            addresses.push(ip);
        }
        if addresses.is_empty() {
            return Learnt::NoAddress;
        }
        for ip in addresses {
            self.set(ip, &name, specify_ip, now_ns);
        }
        if some { Learnt::SomeNames } else { Learnt::Names }
    }

    fn set(&mut self, ip: IpAddr, name: &Fqdn, specify_ip: bool, now_ns: u64) {
        self.answers += 1;
        if let Some(entry) = self.entries.get_mut(&ip) {
            entry.specify_ip = specify_ip && (entry.specify_ip || entry.name != *name);
            // The text that is there is shared by many.
            if entry.name != *name {
                entry.name = name.clone();
            }
            entry.last_ns = entry.last_ns.max(now_ns);
            entry.number = self.answers;
            return;
        }
        if self.entries.len() >= self.entries.capacity() {
            self.make_room();
        }
        let entry = Entry {
            name: name.clone(),
            specify_ip,
            connected: false,
            last_ns: now_ns,
            number: self.answers,
        };
        // Without any room, as configured, nothing is learnt.
        drop(self.entries.insert(ip, entry));
    }

    /// Several at a time: all have to be looked at.
    fn make_room(&mut self) {
        let mut worths: Vec<_> = self.entries.values().map(Entry::worth).collect();
        let go = worths.len().div_ceil(16);
        if go == 0 {
            return;
        }
        let last = *worths.select_nth_unstable(go - 1).1;
        self.entries.retain(|_, entry| entry.worth() > last);
        self.evicted += go as u64;
    }

    /// Gives connections the names that their destinations are shown by.
    pub fn name(&mut self, events: &mut [Event], now_ns: u64) {
        if self.entries.is_empty() {
            return;
        }
        for event in events {
            match event {
                Event::SocketSeen(event)
                | Event::ConnectionClosed(event)
                | Event::SocketSpilled(event)
                | Event::ConnectionFailed(event)
                    if event.role == Role::Client && !event.listening =>
                {
                    event.name = self.of(event.remote, event.actual.unwrap_or(event.remote), now_ns);
                }
                Event::Exchanges(exchanges) if exchanges.role == Role::Client => {
                    let Route { destination, actual } = exchanges.route();
                    exchanges.name = self.of(destination, actual, now_ns);
                }
                Event::SumSpilled(sum) if sum.role == Role::Client => {
                    sum.name = self.of(sum.address, sum.address, now_ns);
                }
                _ => {}
            }
        }
    }

    /// Of a connection to `destination` that goes to `actual`.
    fn of(&mut self, destination: SocketAddr, actual: SocketAddr, now_ns: u64) -> Option<Fqdn> {
        let entry = self.entries.get_mut(&destination.ip().to_canonical())?;
        entry.connected = true;
        entry.last_ns = entry.last_ns.max(now_ns);
        (!entry.specify_ip && is_external(actual.ip())).then(|| entry.name.clone())
    }

    /// Those whose connections are shown by their addresses.
    pub fn specified(&self) -> Vec<(IpAddr, Fqdn)> {
        let specified = self.entries.iter().filter(|(_, entry)| entry.specify_ip);
        specified.map(|(ip, entry)| (*ip, entry.name.clone())).collect()
    }

    /// Not heard of since then: they go, unless a container refers to them.
    pub fn stale(&self, before_ns: u64) -> Stale {
        let entries = self.entries.iter().filter(|(_, entry)| entry.last_ns < before_ns);
        let addresses: BTreeMap<_, _> = entries.map(|(ip, entry)| (*ip, entry.name.clone())).collect();
        let names = addresses.values().cloned().collect();
        Stale { addresses, names }
    }

    /// Says which are gone: meanwhile some may have been heard of.
    pub fn forget(&mut self, addresses: &[IpAddr], before_ns: u64) -> Vec<IpAddr> {
        let is_stale = |ip: &&IpAddr| self.entries.get(ip).is_some_and(|entry| entry.last_ns < before_ns);
        let gone: Vec<IpAddr> = addresses.iter().filter(is_stale).copied().collect();
        for ip in &gone {
            self.entries.remove(ip);
        }
        gone
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Nobody connects to the others; servers that block names give `0.0.0.0` as the address of thousands.
fn is_a_host(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

/// Names that nobody has heard of for some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    addresses: BTreeMap<IpAddr, Fqdn>,
    /// The same: many containers look for theirs.
    names: HashSet<Fqdn>,
}

/// What containers show of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referred {
    addresses: HashSet<IpAddr>,
    names: HashSet<Fqdn>,
}

impl Stale {
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Which of them these destinations refer to, by address or by name.
    pub fn referred<'a>(&self, destinations: impl Iterator<Item = &'a DestinationKey>) -> Referred {
        let mut referred = Referred::default();
        for destination in destinations {
            match destination {
                DestinationKey::Address(route) => {
                    let ip = route.destination.ip().to_canonical();
                    if self.addresses.contains_key(&ip) {
                        referred.addresses.insert(ip);
                    }
                }
                DestinationKey::Name(name, _) => {
                    if self.names.contains(name) {
                        referred.names.insert(name.clone());
                    }
                }
            }
        }
        referred
    }

    /// Those that nobody refers to.
    pub fn without(&self, referred: &Referred) -> Vec<IpAddr> {
        let is_free =
            |(ip, name): &(&IpAddr, &Fqdn)| !referred.addresses.contains(ip) && !referred.names.contains(name);
        self.addresses.iter().filter(is_free).map(|(ip, _)| *ip).collect()
    }
}

impl Referred {
    pub fn add(&mut self, other: Self) {
        self.addresses.extend(other.addresses);
        self.names.extend(other.names);
    }
}

#[cfg(test)]
mod tests;
