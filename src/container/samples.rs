//! What a scrape and the API are told of a container: plain values, taken in one short handler.
use super::state::ContainerState;
use crate::base::{
    ids::{ContainerId, NetnsId},
    now::Now,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
    net::SocketAddr,
    time::Duration,
};

#[derive(Clone, Debug)]
pub struct Destination {
    /// `None`: those beyond the limit, together.
    pub remote: Option<SocketAddr>,
    pub connects: u64,
    pub failures: u64,
    pub failures_by_errno: BTreeMap<i32, u64>,
    pub active: i64,
    pub connect_ns: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub has_connected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    /// None of them is left: it is closed.
    pub sockets: usize,
}

#[derive(Clone, Debug)]
pub struct Samples {
    pub id: ContainerId,
    pub exposed: bool,
    pub since_wall_ns: u64,
    pub processes: u32,
    /// In the order of the remotes.
    pub destinations: Vec<Destination>,
    /// In the order of the addresses.
    pub listens: Vec<Listen>,
    pub rejected: u64,
}

impl Samples {
    /// One answer about a container for each id. Two come while the registry holds events of a container that runs.
    pub fn merge(samples: &[Self]) -> Vec<Cow<'_, Self>> {
        let mut merged: BTreeMap<&ContainerId, Cow<'_, Self>> = BTreeMap::new();
        for sample in samples {
            match merged.entry(&sample.id) {
                Entry::Vacant(entry) => {
                    entry.insert(Cow::Borrowed(sample));
                }
                Entry::Occupied(mut entry) => entry.get_mut().to_mut().add(sample),
            }
        }
        merged.into_values().collect()
    }

    fn add(&mut self, other: &Self) {
        self.exposed |= other.exposed;
        self.since_wall_ns = self.since_wall_ns.min(other.since_wall_ns);
        self.processes += other.processes;
        self.rejected += other.rejected;
        for theirs in &other.destinations {
            match self
                .destinations
                .binary_search_by_key(&theirs.remote, |ours| ours.remote)
            {
                Ok(at) => self.destinations[at].add(theirs),
                Err(at) => self.destinations.insert(at, theirs.clone()),
            }
        }
        for theirs in &other.listens {
            match self.listens.binary_search_by_key(&theirs.address, |ours| ours.address) {
                Ok(at) => self.listens[at].sockets += theirs.sockets,
                Err(at) => self.listens.insert(at, *theirs),
            }
        }
    }
}

impl Destination {
    fn add(&mut self, other: &Self) {
        self.connects += other.connects;
        self.failures += other.failures;
        for (errno, n) in &other.failures_by_errno {
            *self.failures_by_errno.entry(*errno).or_default() += n;
        }
        self.active += other.active;
        self.connect_ns += other.connect_ns;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.has_connected |= other.has_connected;
    }
}

impl ContainerState {
    pub fn samples(&self, id: &ContainerId, now: Now, min_age: Duration, host: NetnsId) -> Samples {
        let mut destinations: Vec<Destination> = self.destinations.iter().map(destination).collect();
        destinations.sort_by_key(|destination| destination.remote);
        let listens = self.listens.rows(host).into_iter();
        Samples {
            id: id.clone(),
            exposed: self.is_exposed(now, min_age),
            since_wall_ns: now.date_of_boottime(self.since_ns.unwrap_or(now.boottime_ns)),
            processes: self.processes,
            destinations,
            listens: listens.map(|(address, sockets)| Listen { address, sockets }).collect(),
            rejected: self.rejected(),
        }
    }
}

fn destination((remote, stats): (Option<SocketAddr>, &super::connections::Stats)) -> Destination {
    Destination {
        remote,
        connects: stats.connects,
        failures: stats.failures,
        failures_by_errno: stats.failures_by_errno.clone(),
        active: stats.active.max(0),
        connect_ns: stats.connect_ns,
        sent_bytes: stats.sent_bytes,
        received_bytes: stats.received_bytes,
        has_connected: stats.has_connected(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::ids::{CgroupId, ProcKey, SocketId},
        container::state::{ContainerEvent, Limits},
        decode::{Owner, SocketEvent},
    };

    const HOST: NetnsId = NetnsId(1);

    fn listen(cookie: u64, netns: NetnsId, local: &str) -> SocketEvent {
        SocketEvent {
            time_ns: 1,
            socket: SocketId { cookie, generation: 1 },
            owner: Owner {
                process: ProcKey { tgid: 7, start_ns: 1 },
                cgroup: CgroupId(9),
                comm: Default::default(),
                kernel_thread: false,
            },
            netns,
            local: local.parse().unwrap(),
            remote: "0.0.0.0:0".parse().unwrap(),
            connect_ns: None,
            sent_bytes: 0,
            received_bytes: 0,
            errno: 0,
            listening: true,
            announced: true,
        }
    }

    fn listens(events: impl IntoIterator<Item = ContainerEvent>) -> Vec<(String, usize)> {
        let mut state = ContainerState::new(Limits {
            destinations: 1,
            listens: 10,
            connections: 1,
        });
        for event in events {
            state.apply(event, Now::default());
        }
        let samples = state.samples(&"/a".into(), Now::default(), Duration::ZERO, HOST);
        let rows = samples.listens.iter();
        rows.map(|row| (row.address.to_string(), row.sockets)).collect()
    }

    #[test]
    fn a_listen_has_as_many_sockets_as_are_open() {
        use ContainerEvent::{Addresses, ListenClosed, ListenOpened};
        let (one, two) = (listen(1, HOST, "10.0.0.1:80"), listen(2, HOST, "10.0.0.1:80"));
        let row = |sockets| vec![("10.0.0.1:80".to_owned(), sockets)];
        let both = [ListenOpened(one), ListenOpened(two)];
        assert_eq!(listens(both.clone()), row(2));
        let mut ending = both.to_vec();
        ending.push(ListenClosed(one));
        assert_eq!(listens(ending.clone()), row(1));
        ending.push(ListenClosed(two));
        assert_eq!(listens(ending), row(0), "closed, and shown for some time");

        let addresses = Addresses {
            netns: HOST,
            ips: ["10.0.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap()].into(),
        };
        let everywhere = [
            ListenOpened(listen(3, HOST, "0.0.0.0:80")),
            ListenOpened(one),
            addresses,
        ];
        let expected = [("10.0.0.1:80".to_owned(), 2), ("127.0.0.1:80".to_owned(), 1)];
        assert_eq!(listens(everywhere), expected);
        let elsewhere = [ListenOpened(listen(4, NetnsId(2), "127.0.0.1:80"))];
        assert_eq!(listens(elsewhere), [], "whose loopback that is nobody can tell");
    }
}
