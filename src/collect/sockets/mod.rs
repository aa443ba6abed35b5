//! All TCP sockets of all network namespaces that processes are in, with their owners: for kernels and rights with which the
//! BPF iterators do not load.
//!
//! The kernel is asked by INET_DIAG from a socket inside the namespace, which needs CAP_SYS_ADMIN for every namespace but
//! the agent's own. Where that is refused, `/proc/PID/net` tells the same sockets without their cookies and counters.
//!
//! A namespace in which no process is (sockets can be handed out of it) is not seen, and neither is a descriptor that only
//! a thread with a table of its own has. Under load both sources may miss a socket, where others
//! leave its hash chain meanwhile.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

mod dump;
mod gaps;
mod namespaces;
mod owners;
mod roles;
mod seen;

#[cfg(test)]
mod tests;

pub mod diag;
pub mod table;

pub use gaps::{Gap, Gaps, Reason};
pub use seen::{Counters, Seen};

use super::processes::Inventory;
use crate::base::ids::{NetnsId, ProcKey};
use serde::Serialize;
use std::{net::SocketAddr, path::Path};

/// One socket. Its id is the cookie: BPF programs read the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Socket {
    pub netns: NetnsId,
    pub role: Role,
    pub state: State,
    pub local: SocketAddr,
    /// Unspecified for a listener.
    pub remote: SocketAddr,
    /// The process that uses it (`owners`). Of a connection that nobody has accepted: who uses its listener.
    pub owner: Option<ProcKey>,
    /// Established, and waiting to be accepted.
    pub backlog: bool,
    /// 0 where no descriptor refers to it.
    pub inode: u64,
    /// `None` where only `/proc` could be read.
    pub cookie: Option<u64>,
    /// `None` for a listener, and where only `/proc` could be read.
    pub traffic: Option<Traffic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Payload, each byte once, acknowledged or not.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Segments sent again.
    pub retransmits: u32,
    /// Smoothed; `None` before the first measurement.
    pub rtt_us: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Listener,
    Server,
    Client,
}

/// The states in which a socket is somebody's; a connection that is being accepted or waits out its end is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Established = 1,
    SynSent = 2,
    FinWait1 = 4,
    FinWait2 = 5,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Established,
        Self::SynSent,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
    ];

    pub fn from_kernel(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&state| state as u8 == number)
    }

    pub fn bit(self) -> u32 {
        1 << self as u32
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
        }
    }
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Which source to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// INET_DIAG, and `/proc` for the namespaces in which it fails.
    #[default]
    Auto,
    Diag,
    Proc,
}

/// What is beyond them is counted and left out. Listeners are counted apart, so that no flood of connections hides them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A namespace may be full because its owner wants it so: the others still find room.
    pub per_namespace: usize,
    pub total: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_namespace: 65_536,
            total: 262_144,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SocketInventory {
    /// In the order of namespace, role, local and remote address.
    pub sockets: Vec<Socket>,
    /// What could not be seen, and why.
    pub gaps: Gaps,
}

/// `processes` is a pass over the same `/proc`, as new as can be. Never fails as a whole: what fails is a gap.
pub fn sockets(proc_root: &Path, processes: &Inventory, source: Source, limits: Limits) -> SocketInventory {
    let mut gaps = Gaps::default();
    let spaces = namespaces::look(proc_root, processes, source, limits, &mut gaps);
    let owners = owners::owners(proc_root, processes, &spaces, &mut gaps);
    let sockets = spaces
        .into_iter()
        .flat_map(|(netns, seen)| roles::settle(netns, seen, &owners))
        .collect();
    SocketInventory { sockets, gaps }
}
