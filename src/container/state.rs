//! All that is known about one container: its processes, its open sockets, and what they add up to, per destination and
//! per listen address.
//!
//! A connection is counted once, whoever tells of it first: a totals pass or its end.
//!
//! | told by | socket not known yet | known |
//! | --- | --- | --- |
//! | seen for the first time | counts it and all its bytes | (never) |
//! | seen, accepted and not used yet | active; an accept until it is another container's | nothing, until it is used: then all of it |
//! | seen, older than the agent | active, all bytes since the inventory | adds the increase |
//! | seen, shown before | adopted: active; a predecessor has counted what it did so far | adds the increase |
//! | closed, never shown | counts it and all its bytes | (never) |
//! | closed, older than the agent | its bytes since the inventory | adds the increase, no longer active |
//! | closed, shown before | nothing: a predecessor has counted it | adds the increase, no longer active |
//! | released | nothing | no longer active here: it is another container's |
//!
//! Most connections end before any pass: those come added up, as sums.
use super::{
    connections::{Connection, Traffic},
    files::Files,
    health::HealthByRole,
    lifecycle::Lifecycle,
    listens::Listens,
    requests::Requests,
    signals::Carries,
};
use crate::{
    base::{
        ids::{Application, NetnsId, ProcKey, SocketId},
        now::Now,
        table::Table,
    },
    decode::{DestinationKey, DnsRequests, DnsUnanswered, Exchanges, OpenFile, Role, SocketEvent, SumEvent, Unparsed},
    runtimes::metadata::Metadata,
};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// What the registry tells a container.
#[derive(Clone, Debug)]
pub enum ContainerEvent {
    ProcessJoined {
        start_ns: u64,
    },
    ProcessLeft,
    /// What one of its processes is; `None`: nothing known, or it comes or goes.
    ApplicationChanged {
        from: Option<Application>,
        to: Option<Application>,
    },
    Restarted,
    OomKilled,
    Failed(SocketEvent),
    Closed(SocketEvent),
    Seen(SocketEvent),
    /// It is another container's: who used it first was not who listened.
    Released(SocketId),
    SumSpilled(SumEvent),
    ListenOpened(SocketEvent),
    ListenClosed(SocketEvent),
    /// The addresses of a network namespace, for listens on all of them.
    Addresses {
        netns: NetnsId,
        ips: Arc<[IpAddr]>,
    },
    /// Ends of sockets were lost: those that no pass has seen since then are gone.
    Sweep {
        before_ns: u64,
    },
    /// One of its processes has it open for writing.
    FileSeen {
        process: ProcKey,
        file: OpenFile,
        append: bool,
    },
    /// More of them than a pass shows.
    FilesLeftOut(u64),
    /// What has not been seen since the last time is closed.
    FilesPassed,
    DnsAsked(DnsRequests),
    DnsUnanswered(DnsUnanswered),
    Exchanged(Exchanges),
    Unparsed(Unparsed),
    /// By its runtime.
    Described(Arc<Metadata>),
    /// Nobody wants to see those signals of it.
    Keeps(Carries),
}

impl ContainerEvent {
    /// Something other than processes that come and go, and what they have open.
    pub fn is_news(&self) -> bool {
        !matches!(
            self,
            Self::ProcessJoined { .. }
                | Self::ProcessLeft
                | Self::ApplicationChanged { .. }
                | Self::FileSeen { .. }
                | Self::FilesLeftOut(_)
                | Self::FilesPassed
                | Self::Described(_)
                | Self::Keeps(_)
        )
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub destinations: usize,
    /// Among the destinations.
    pub names: usize,
    pub listens: usize,
    pub connections: usize,
}

#[derive(Debug)]
pub struct ContainerState {
    limits: Limits,
    pub processes: u32,
    /// The earliest start of a process, or the first event, on the boot clock.
    pub since_ns: Option<u64>,
    /// When the last process left.
    pub ended_ns: Option<u64>,
    pub(super) lifecycle: Lifecycle,
    connections: Table<SocketId, Connection>,
    pub(super) traffic: Traffic,
    pub(super) health: HealthByRole,
    pub(super) listens: Listens,
    pub(super) files: Files,
    pub(super) requests: Requests,
    /// What its runtime knows of it.
    pub(super) metadata: Option<Arc<Metadata>>,
}

impl ContainerState {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            processes: 0,
            since_ns: None,
            ended_ns: None,
            lifecycle: Lifecycle::default(),
            connections: Table::new(limits.connections),
            traffic: Traffic::new(limits.destinations, limits.names, limits.listens),
            health: HealthByRole::default(),
            listens: Listens::new(limits.listens),
            files: Files::default(),
            requests: Requests::default(),
            metadata: None,
        }
    }

    /// `false`: a table was full, and the event has left nothing.
    pub fn apply(&mut self, event: ContainerEvent, now: Now) -> bool {
        let mut applied = true;
        match event {
            ContainerEvent::ProcessJoined { start_ns } => {
                self.processes += 1;
                self.ended_ns = None;
                self.began(start_ns);
            }
            ContainerEvent::ProcessLeft => {
                self.processes = self.processes.saturating_sub(1);
                if self.processes == 0 {
                    self.ended_ns = Some(now.boottime_ns);
                }
            }
            ContainerEvent::ApplicationChanged { from, to } => self.lifecycle.application(from.as_ref(), to),
            ContainerEvent::Restarted => self.lifecycle.restarts += 1,
            ContainerEvent::OomKilled => self.lifecycle.oom_kills += 1,
            ContainerEvent::Failed(event) => self.traffic.destinations.of(event.destination()).failed(&event),
            ContainerEvent::Closed(event) => self.closed(&event),
            ContainerEvent::Seen(event) if event.listening => applied = self.listens.opened(&event),
            ContainerEvent::Seen(event) => self.seen(&event),
            ContainerEvent::Released(socket) => self.released(socket),
            ContainerEvent::SumSpilled(sum) => {
                self.health.add_sum(&sum);
                self.traffic.of_sum(&sum).add_sum(&sum, now.monotonic_ns);
            }
            ContainerEvent::ListenOpened(event) => applied = self.listens.opened(&event),
            ContainerEvent::ListenClosed(event) => self.listens.closed(&event),
            ContainerEvent::Addresses { netns, ips } => self.listens.set_addresses(netns, ips),
            ContainerEvent::Sweep { before_ns } => self.sweep(before_ns),
            ContainerEvent::FileSeen { process, file, append } => self.files.seen(process, file, append),
            ContainerEvent::FilesLeftOut(files) => self.files.left_out(files),
            ContainerEvent::FilesPassed => self.files.passed(),
            ContainerEvent::DnsAsked(requests) => self.requests.dns(&requests, self.limits.names),
            ContainerEvent::DnsUnanswered(unanswered) => self.requests.dns_unanswered(&unanswered),
            ContainerEvent::Exchanged(exchanges) => self.exchanged(&exchanges, now),
            ContainerEvent::Unparsed(unparsed) => self.requests.unparsed(&unparsed),
            ContainerEvent::Described(metadata) => self.metadata = Some(metadata),
            ContainerEvent::Keeps(carries) => self.keep(carries),
        }
        if self.since_ns.is_none() {
            self.since_ns = Some(now.boottime_ns);
        }
        applied
    }

    /// What it asks for counts with the destination, however the connection there counts.
    fn exchanged(&mut self, exchanges: &Exchanges, now: Now) {
        match exchanges.role {
            Role::Client => {
                let destination = self.traffic.destinations.of(exchanges.destination());
                destination.exchanged(exchanges, now.monotonic_ns);
            }
            Role::Server => self.requests.answered(exchanges),
        }
    }

    fn began(&mut self, start_ns: u64) {
        self.since_ns = Some(self.since_ns.map_or(start_ns, |since| since.min(start_ns)));
    }

    fn seen(&mut self, event: &SocketEvent) {
        self.health.observe(event.role, event.rtt_us);
        if self.advance(event) {
            return;
        }
        let bucket = self.traffic.bucket(event);
        let connection = if event.shown {
            Connection::adopted(event, bucket.clone())
        } else {
            Connection::new(event, bucket.clone())
        };
        let awaits = connection.awaits_its_count();
        // Where there is no room, all of it is counted at its end.
        if self.connections.insert(event.socket, connection).is_ok() {
            self.traffic.at(&bucket).open(awaits, 1);
            self.advance(event);
        }
    }

    /// `false`: nobody knows it.
    fn advance(&mut self, event: &SocketEvent) -> bool {
        let Some(connection) = self.connections.get_mut(&event.socket) else {
            return false;
        };
        let stats = self.traffic.at(&connection.bucket);
        stats.open(connection.awaits_its_count(), -1);
        connection.advance(stats, event, false);
        stats.open(connection.awaits_its_count(), 1);
        true
    }

    fn closed(&mut self, event: &SocketEvent) {
        if let Some(mut connection) = self.connections.remove(&event.socket) {
            let stats = self.traffic.at(&connection.bucket);
            stats.open(connection.awaits_its_count(), -1);
            connection.advance(stats, event, true);
            stats.ended(event.reason);
            return self.health.ended(event.role, event.reason);
        }
        if event.shown && self.connections.rejected() == 0 {
            return;
        }
        // Either nobody had heard of it, or there was no room to remember it.
        self.health.ended(event.role, event.reason);
        let bucket = self.traffic.bucket(event);
        let stats = self.traffic.at(&bucket);
        stats.ended(event.reason);
        Connection::new(event, bucket).advance(stats, event, true);
    }

    fn released(&mut self, socket: SocketId) {
        if let Some(connection) = self.connections.remove(&socket) {
            let awaits = connection.awaits_its_count();
            self.traffic.at(&connection.bucket).open(awaits, -1);
        }
        self.listens.released(socket);
    }

    fn sweep(&mut self, before_ns: u64) {
        self.listens.sweep(before_ns);
        let traffic = &mut self.traffic;
        self.connections.retain(|_, connection| {
            let alive = connection.last_ns >= before_ns;
            if !alive {
                let awaits = connection.awaits_its_count();
                traffic.at(&connection.bucket).open(awaits, -1);
            }
            alive
        });
    }

    /// Takes over all that `other` has counted and watches.
    pub fn absorb(&mut self, mut other: Self) {
        self.processes += other.processes;
        if let Some(since) = other.since_ns {
            self.began(since);
        }
        self.ended_ns = if self.processes > 0 {
            None
        } else {
            self.ended_ns.max(other.ended_ns)
        };
        self.lifecycle.absorb(other.lifecycle);
        self.traffic.absorb(other.traffic);
        self.health.add(&other.health);
        self.listens.absorb(other.listens);
        self.files.absorb(other.files);
        self.requests.absorb(&other.requests, self.limits.names);
        self.metadata = self.metadata.take().or(other.metadata);
        for (socket, mut connection) in other.connections.drain() {
            // What did not fit as a destination of its own went to the others, with what was active of it.
            connection.bucket = self.traffic.after_absorbing(connection.bucket);
            let (bucket, awaits) = (connection.bucket.clone(), connection.awaits_its_count());
            let known = self.connections.contains_key(&socket);
            if known || self.connections.insert(socket, connection).is_err() {
                self.traffic.at(&bucket).open(awaits, -1);
            }
        }
    }

    /// Forgets the other signals.
    pub fn keep(&mut self, carries: Carries) {
        if !carries.tcp {
            self.connections = Table::new(self.limits.connections);
            self.traffic.forget_connections();
            self.health = HealthByRole::default();
            self.listens = Listens::new(self.limits.listens);
        }
        if !carries.files {
            self.files = Files::default();
        }
        if !carries.l7 {
            self.requests = Requests::default();
            self.traffic.forget_exchanges();
        }
    }

    /// Forgets what has been quiet for longer than `keep`.
    pub fn collect_garbage(&mut self, now: Now, keep: Duration) {
        let before_ns = now.monotonic_ns.saturating_sub(nanos(keep));
        self.traffic.forget_before(before_ns);
        self.listens.forget_before(before_ns);
    }

    /// Nothing but processes has ever been here: not worth keeping once they are gone.
    pub fn is_trivial(&self) -> bool {
        self.has_no_traffic() && self.lifecycle.is_trivial()
    }

    /// Nor has there been any.
    pub fn has_no_traffic(&self) -> bool {
        self.connections.is_empty() && self.traffic.is_empty() && self.listens.is_empty() && self.requests.is_empty()
    }

    /// But there may be what was said.
    #[cfg(test)]
    pub fn has_no_connections(&self) -> bool {
        self.connections.is_empty() && self.traffic.has_no_connections() && self.listens.is_empty()
    }

    /// Those who count them will tell of them again.
    pub fn forget_processes(&mut self) {
        self.processes = 0;
        self.lifecycle.forget_applications();
    }

    /// What its connections go to, further ones than the limit excepted.
    pub fn destinations(&self) -> impl Iterator<Item = &DestinationKey> {
        self.traffic.destinations.keys()
    }

    pub fn sockets(&self) -> impl Iterator<Item = SocketId> + '_ {
        self.connections.keys().copied().chain(self.listens.sockets())
    }

    /// Long enough to be shown: what lives for a moment only would leave series behind that nobody can use.
    pub fn is_exposed(&self, now: Now, min_age: Duration) -> bool {
        let Some(since) = self.since_ns else { return false };
        let end = if self.processes > 0 {
            now.boottime_ns
        } else {
            // All that was ever seen of it came after its end.
            self.ended_ns.unwrap_or(since)
        };
        end.saturating_sub(since) >= nanos(min_age)
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub fn rejected(&self) -> u64 {
        self.connections.rejected() + self.listens.rejected()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
