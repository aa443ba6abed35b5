//! What a scrape and the API are told of a container: plain values, taken in one short handler.
use super::{
    connections::{Stats, add},
    exchanges::ByProtocol,
    files::{FileInUse, together},
    health::HealthByRole,
    requests::Requests,
    state::ContainerState,
};
use crate::{
    base::{
        ids::{Application, ContainerId, NetnsId},
        now::Now,
    },
    decode::{Closes, DestinationKey},
    runtimes::metadata::Metadata,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

#[derive(Clone, Debug)]
pub struct Destination {
    /// `None`: those beyond the limit, together.
    pub key: Option<DestinationKey>,
    pub connects: u64,
    pub failures: u64,
    pub failures_by_errno: BTreeMap<i32, u64>,
    pub active: i64,
    pub connect_ns: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u64,
    pub closes: Closes,
    pub exchanges: ByProtocol,
    pub has_connected: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// `None`: those beyond the limit, together.
    pub address: Option<SocketAddr>,
    /// Of this container. None where it was given connections, or a listening socket, that another one made.
    pub sockets: usize,
    /// Somebody can connect, or is connected where nobody of this container listened.
    pub open: bool,
    pub accepted: u64,
    pub active: i64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u64,
    pub closes: Closes,
}

#[derive(Clone, Debug)]
pub struct Samples {
    pub id: ContainerId,
    pub exposed: bool,
    pub since_wall_ns: u64,
    pub processes: u32,
    pub restarts: u64,
    pub oom_kills: u64,
    pub applications: BTreeSet<Application>,
    /// In the order of their keys.
    pub destinations: Vec<Destination>,
    /// In the order of the addresses.
    pub listens: Vec<Listen>,
    /// In the order of the paths.
    pub files: Arc<[FileInUse]>,
    pub files_left_out: u64,
    pub health: HealthByRole,
    pub requests: Requests,
    pub metadata: Option<Arc<Metadata>>,
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
        self.restarts += other.restarts;
        self.oom_kills += other.oom_kills;
        self.applications.extend(other.applications.iter().cloned());
        self.rejected += other.rejected;
        self.health.add(&other.health);
        // Each has kept to the limit.
        self.requests.absorb(&other.requests, usize::MAX);
        let (files, left_out) = together(&self.files, &other.files);
        self.files = files;
        self.files_left_out += other.files_left_out + left_out;
        if self.metadata.is_none() {
            self.metadata.clone_from(&other.metadata);
        }
        for theirs in &other.destinations {
            match self.destinations.binary_search_by(|ours| ours.key.cmp(&theirs.key)) {
                Ok(at) => self.destinations[at].add(theirs),
                Err(at) => self.destinations.insert(at, theirs.clone()),
            }
        }
        for theirs in &other.listens {
            match self.listens.binary_search_by_key(&theirs.address, |ours| ours.address) {
                Ok(at) => self.listens[at].add(theirs),
                Err(at) => self.listens.insert(at, *theirs),
            }
        }
    }
}

impl Destination {
    /// Not only requests, where connections are not collected, or count under another name of the destination.
    pub fn has_connections(&self) -> bool {
        self.has_connected || self.failures > 0 || self.retransmits > 0 || self.exchanges.is_empty()
    }

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
        self.retransmits += other.retransmits;
        add(&mut self.closes, &other.closes);
        self.exchanges.absorb(&other.exchanges);
        self.has_connected |= other.has_connected;
    }
}

impl Listen {
    fn add(&mut self, other: &Self) {
        self.sockets += other.sockets;
        self.open |= other.open;
        self.accepted += other.accepted;
        self.active += other.active;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.retransmits += other.retransmits;
        add(&mut self.closes, &other.closes);
    }

    fn of(address: Option<SocketAddr>, stats: &Stats) -> Self {
        Self {
            address,
            sockets: 0,
            open: stats.active > 0,
            // What nobody has used yet may still turn out to be another container's.
            accepted: stats.connects + u64::try_from(stats.waiting).unwrap_or(0),
            active: stats.active.max(0),
            sent_bytes: stats.sent_bytes,
            received_bytes: stats.received_bytes,
            retransmits: stats.retransmits,
            closes: stats.closes,
        }
    }
}

impl ContainerState {
    pub fn samples(&self, id: &ContainerId, now: Now, min_age: Duration, host: NetnsId) -> Samples {
        let mut destinations: Vec<Destination> = self.traffic.destinations.iter().map(destination).collect();
        destinations.sort_by(|one, other| one.key.cmp(&other.key));
        Samples {
            id: id.clone(),
            exposed: self.is_exposed(now, min_age),
            since_wall_ns: now.date_of_boottime(self.since_ns.unwrap_or(now.boottime_ns)),
            processes: self.processes,
            restarts: self.lifecycle.restarts,
            oom_kills: self.lifecycle.oom_kills,
            applications: self.lifecycle.applications().cloned().collect(),
            destinations,
            listens: self.listens_with_traffic(host),
            files: self.files.shown(),
            files_left_out: self.files.shown_left_out(),
            health: self.health.clone(),
            requests: self.requests.clone(),
            metadata: self.metadata.clone(),
            rejected: self.rejected(),
        }
    }

    /// The listen addresses of this container, and those where it serves what others have opened.
    fn listens_with_traffic(&self, host: NetnsId) -> Vec<Listen> {
        let mut rows: BTreeMap<Option<SocketAddr>, Listen> = BTreeMap::new();
        for (place, stats) in self.traffic.listens.iter() {
            // Elsewhere nobody can tell whose loopback it is.
            if place.is_some_and(|(netns, address)| *netns != host && address.ip().is_loopback()) {
                continue;
            }
            let address = place.map(|(_, address)| *address);
            rows.entry(address)
                .or_insert_with(|| Listen {
                    address,
                    ..Listen::default()
                })
                .add(&Listen::of(address, stats));
        }
        for (address, sockets) in self.listens.rows(host) {
            let row = rows.entry(Some(address)).or_default();
            (row.address, row.sockets, row.open) = (Some(address), sockets, sockets > 0);
        }
        rows.into_values().collect()
    }
}

fn destination((key, stats): (Option<&DestinationKey>, &Stats)) -> Destination {
    Destination {
        key: key.cloned(),
        connects: stats.connects,
        failures: stats.failures,
        failures_by_errno: stats.failures_by_errno.clone(),
        active: stats.active.max(0),
        connect_ns: stats.connect_ns,
        sent_bytes: stats.sent_bytes,
        received_bytes: stats.received_bytes,
        retransmits: stats.retransmits,
        closes: stats.closes,
        exchanges: stats.exchanges.clone(),
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
            listening: true,
            ..crate::decode::SocketEvent::example()
        }
    }

    fn listens(events: impl IntoIterator<Item = ContainerEvent>) -> Vec<(String, usize)> {
        let mut state = ContainerState::new(Limits {
            destinations: 1,
            names: 1,
            listens: 10,
            connections: 1,
        });
        for event in events {
            state.apply(event, Now::default());
        }
        let samples = state.samples(&"/a".into(), Now::default(), Duration::ZERO, HOST);
        let rows = samples.listens.iter();
        rows.map(|row| (row.address.unwrap().to_string(), row.sockets))
            .collect()
    }

    #[test]
    fn a_listen_has_as_many_sockets_as_are_open() {
        use ContainerEvent::{Addresses, ListenClosed, ListenOpened};
        let (one, two) = (listen(1, HOST, "10.0.0.1:80"), listen(2, HOST, "10.0.0.1:80"));
        let row = |sockets| vec![("10.0.0.1:80".to_owned(), sockets)];
        let both = [ListenOpened(one.clone()), ListenOpened(two.clone())];
        assert_eq!(listens(both.clone()), row(2));
        let mut ending = both.to_vec();
        ending.push(ListenClosed(one.clone()));
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
