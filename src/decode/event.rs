//! What happened, in the agent's own terms.
use crate::base::ids::{CgroupId, NetnsId, ProcKey, SocketId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use tarsier_common::{COMM_LEN, kind};

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
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupEvent {
    pub cgroup: CgroupId,
    /// From the root of the unified hierarchy. `None`: longer than a record carries, or unreadable.
    pub path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub listening: bool,
    /// The ring took the news of its beginning.
    pub announced: bool,
}

/// Connections that nobody has heard of, added up by owner and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumEvent {
    pub cgroup: CgroupId,
    /// Only where the cgroup does not tell the owner.
    pub process: Option<ProcKey>,
    pub netns: NetnsId,
    pub remote: SocketAddr,
    pub comm: Comm,
    pub connects: u64,
    pub failures: u64,
    pub connect_ns: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    ProcessStarted(ProcessEvent),
    ProcessExec(ProcessEvent),
    ProcessExited(ProcessEvent),
    CgroupMoved(ProcessEvent),
    CgroupMade(CgroupEvent),
    CgroupRemoved(CgroupEvent),
    ConnectionOpened(SocketEvent),
    ConnectionFailed(SocketEvent),
    ConnectionClosed(SocketEvent),
    ListenOpened(SocketEvent),
    ListenClosed(SocketEvent),
    /// A totals pass found it open.
    SocketSeen(SocketEvent),
    /// Its close found the ring full.
    SocketSpilled(SocketEvent),
    SumSpilled(SumEvent),
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
            Self::ConnectionOpened(_) => kind::CONNECT,
            Self::ConnectionFailed(_) => kind::CONNECT_FAILED,
            Self::ConnectionClosed(_) => kind::CLOSE,
            Self::ListenOpened(_) => kind::LISTEN,
            Self::ListenClosed(_) => kind::LISTEN_CLOSE,
            Self::SocketSeen(_) | Self::SocketSpilled(_) | Self::SumSpilled(_) => return None,
        })
    }
}
