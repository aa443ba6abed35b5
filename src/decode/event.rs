//! What happened, in the agent's own terms.
use super::{DnsRequests, DnsUnanswered, Exchanges, FileEvent, Unparsed};
use crate::base::{
    fqdn::Fqdn,
    ids::{CgroupId, NetnsId, ProcKey, SocketId},
};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use tarsier_common::{COMM_LEN, close_reason, kind};

pub type Comm = [u8; COMM_LEN];

/// The bytes before the terminating zero.
pub fn comm_bytes(comm: &Comm) -> &[u8] {
    comm.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub process: ProcKey,
    pub cgroup: CgroupId,
    pub comm: Comm,
    pub kernel_thread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEvent {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    pub owner: Owner,
    pub parent_tgid: u32,
    pub exit_code: i32,
    /// A move within a v1 hierarchy: only /proc knows the new path.
    pub legacy_hierarchy: bool,
    /// An end that the kernel brought about because memory had run out.
    pub oom_killed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupEvent {
    pub cgroup: CgroupId,
    /// From the root of the unified hierarchy. `None`: longer than a record carries, or unreadable.
    pub path: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketEvent {
    pub time_ns: u64,
    pub socket: SocketId,
    pub owner: Owner,
    pub netns: NetnsId,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// From SYN to established. `None`: the kernel skipped the program that measures it.
    pub connect_ns: Option<u64>,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub errno: i32,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// Smoothed. `None`: nothing has come back yet.
    pub rtt_us: Option<u32>,
    /// Of an end only.
    pub reason: CloseReason,
    pub listening: bool,
    pub role: Role,
    /// A pass has shown it before.
    pub shown: bool,
    /// It began before anybody looked.
    pub old: bool,
    /// The owner is the one who uses it. Otherwise it is who listens, and nothing has been sent or received yet.
    pub settled: bool,
    /// Where the packets go, if something on the way gives them another destination (NAT).
    pub actual: Option<SocketAddr>,
    /// What the destination is shown under, if not its address.
    pub name: Option<Fqdn>,
}

impl SocketEvent {
    pub fn route(&self) -> Route {
        Route {
            destination: self.remote,
            actual: self.actual.unwrap_or(self.remote),
        }
    }

    /// What it counts under.
    pub fn destination(&self) -> DestinationKey {
        DestinationKey::new(self.name.clone(), self.route())
    }
}

/// Where a client connects to, and where that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    pub destination: SocketAddr,
    pub actual: SocketAddr,
}

impl Route {
    pub fn direct(destination: SocketAddr) -> Self {
        Self {
            destination,
            actual: destination,
        }
    }
}

/// What connections of a client count under: with these labels, for good.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DestinationKey {
    Address(Route),
    /// All addresses of that name, by their port.
    Name(Fqdn, u16),
}

impl DestinationKey {
    pub fn new(name: Option<Fqdn>, route: Route) -> Self {
        match name {
            Some(name) => Self::Name(name, route.destination.port()),
            None => Self::Address(route),
        }
    }

    pub fn direct(address: SocketAddr) -> Self {
        Self::Address(Route::direct(address))
    }

    pub fn name(&self) -> Option<&Fqdn> {
        match self {
            Self::Address(_) => None,
            Self::Name(name, _) => Some(name),
        }
    }
}

/// A name server has said which addresses a name has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsAnswered {
    /// The one that was asked for, as it was written: what the answer calls an alias of it is not looked at, for nobody
    /// connects by that name. Any bytes, with dots between the labels.
    pub name: Box<[u8]>,
    /// All that came in one answer.
    pub addresses: Vec<IpAddr>,
}

#[cfg(test)]
impl SocketEvent {
    /// A client's, of no importance: for tests that need only some of it.
    pub fn example() -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            time_ns: 1,
            socket: SocketId {
                cookie: 1,
                generation: 1,
            },
            owner: Owner {
                process: ProcKey { tgid: 7, start_ns: 1 },
                cgroup: CgroupId(9),
                comm: Comm::default(),
                kernel_thread: false,
            },
            netns: NetnsId(1),
            local: nowhere,
            remote: nowhere,
            connect_ns: None,
            sent_bytes: 0,
            received_bytes: 0,
            errno: 0,
            retransmits: 0,
            rtt_us: None,
            reason: CloseReason::LOCAL,
            listening: false,
            role: Role::Client,
            shown: false,
            old: false,
            settled: true,
            actual: None,
            name: None,
        }
    }
}

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It connected.
    #[default]
    Client,
    /// The other side did.
    Server,
}

impl Role {
    pub const ALL: [Self; 2] = [Self::Client, Self::Server];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What ended a connection; an index into `CLOSE_REASON_NAMES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseReason(u8);

impl CloseReason {
    pub const LOCAL: Self = Self(close_reason::LOCAL);

    pub fn new(reason: u8) -> Option<Self> {
        (usize::from(reason) < close_reason::COUNT).then_some(Self(reason))
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Ends by `CloseReason`.
pub type Closes = [u64; close_reason::COUNT];

/// Connections that nobody has heard of, added up by owner and destination, or by owner and listen address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumEvent {
    pub cgroup: CgroupId,
    /// Only where the cgroup does not tell the owner.
    pub process: Option<ProcKey>,
    pub netns: NetnsId,
    pub role: Role,
    /// The remote end's; the local one's where the other side connected.
    pub address: SocketAddr,
    pub comm: Comm,
    /// Or accepts.
    pub connects: u64,
    pub failures: u64,
    pub connect_ns: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u64,
    pub closes: Closes,
    /// What the remote end is shown under, if not its address.
    pub name: Option<Fqdn>,
}

impl SumEvent {
    /// What it counts under, a client's.
    pub fn destination(&self) -> DestinationKey {
        DestinationKey::new(self.name.clone(), Route::direct(self.address))
    }

    /// The kind that the ends in it have in the ledger.
    pub fn kind(&self) -> u16 {
        match self.role {
            Role::Client => kind::CLOSE,
            Role::Server => kind::ACCEPTED_CLOSE,
        }
    }

    /// How many ends are in it.
    pub fn ended(&self) -> u64 {
        self.closes.iter().sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    ProcessStarted(ProcessEvent),
    ProcessExec(ProcessEvent),
    ProcessExited(ProcessEvent),
    CgroupMoved(ProcessEvent),
    CgroupMade(CgroupEvent),
    CgroupRemoved(CgroupEvent),
    ConnectionFailed(SocketEvent),
    ConnectionClosed(SocketEvent),
    /// A connection that the other side had begun has ended.
    AcceptedClosed(SocketEvent),
    ListenOpened(SocketEvent),
    ListenClosed(SocketEvent),
    /// A totals pass found it open.
    SocketSeen(SocketEvent),
    /// Its close found the ring full.
    SocketSpilled(SocketEvent),
    SumSpilled(SumEvent),
    FileSeen(FileEvent),
    /// More of them than a pass shows of one process.
    FilesLeftOut(ProcKey, u64),
    /// All files have been seen that were open.
    FilesPassed {
        left_out: u64,
    },
    DnsAsked(DnsRequests),
    DnsUnanswered(DnsUnanswered),
    Exchanges(Exchanges),
    /// What was said and is in no other count.
    Unparsed(Unparsed),
}

impl Event {
    /// The kind it has in the ledger. What repairs the counts is in no kind: it was observed as something else.
    pub fn kind(&self) -> Option<u16> {
        Some(match self {
            Self::ProcessStarted(_) => kind::FORK,
            Self::ProcessExec(_) => kind::EXEC,
            Self::ProcessExited(_) => kind::EXIT,
            Self::CgroupMoved(_) => kind::CGROUP_MOVE,
            Self::CgroupMade(_) => kind::CGROUP_MADE,
            Self::CgroupRemoved(_) => kind::CGROUP_GONE,
            Self::ConnectionFailed(_) => kind::CONNECT_FAILED,
            Self::ConnectionClosed(_) => kind::CLOSE,
            Self::AcceptedClosed(_) => kind::ACCEPTED_CLOSE,
            Self::ListenOpened(_) => kind::LISTEN,
            Self::ListenClosed(_) => kind::LISTEN_CLOSE,
            Self::SocketSeen(_) | Self::SocketSpilled(_) | Self::SumSpilled(_) => return None,
            Self::FileSeen(_) | Self::FilesLeftOut(..) | Self::FilesPassed { .. } => return None,
            // The messages they were made of are delivered by then.
            Self::DnsAsked(_) | Self::DnsUnanswered(_) | Self::Exchanges(_) | Self::Unparsed(_) => return None,
        })
    }

    /// It comes from what was said: a recording has no payload, so it has these.
    pub fn is_said(&self) -> bool {
        matches!(
            self,
            Self::DnsAsked(_) | Self::DnsUnanswered(_) | Self::Exchanges(_) | Self::Unparsed(_)
        )
    }
}
