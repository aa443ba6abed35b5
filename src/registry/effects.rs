//! What the registry's logic wants done. It does nothing itself, so that a recording can drive it.
use crate::{
    base::{
        ids::{Application, CgroupId, ContainerId, NetnsId, ProcKey},
        ledger::{Counts, Outcome},
    },
    container::state::{ContainerEvent, ContainerState},
    registry::lifecycle::Lifecycle,
    runtimes::{Found, Lookup},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// A place for one container's state, from the first event on; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u64);

/// Questions for the blocking collectors. The answers come back as `Answer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Which path has this cgroup? The process was in it a moment ago.
    Cgroup { cgroup: CgroupId, tgid: u32 },
    /// Where is this process placed?
    Process { process: ProcKey },
    /// Which addresses has the network namespace of this process?
    Addresses { netns: NetnsId, tgid: u32 },
    /// What does this process run?
    Application { process: ProcKey },
    /// Which container of gVisor's is this process the sandbox of?
    Sandbox { process: ProcKey, container: ContainerId },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// `None`: the cgroup is gone or was never to be seen.
    Cgroup {
        cgroup: CgroupId,
        path: Option<Arc<str>>,
    },
    Process {
        process: ProcKey,
        path: Option<Arc<str>>,
    },
    Addresses {
        netns: NetnsId,
        ips: Option<Arc<[IpAddr]>>,
    },
    Application {
        process: ProcKey,
        application: Option<Application>,
    },
    Sandbox {
        container: ContainerId,
        /// The engine's id: 64 hexadecimal digits.
        id: Option<Arc<str>>,
    },
    Runtime {
        lookup: Lookup,
        found: Found,
    },
}

/// The part of a batch that concerns one container.
#[derive(Debug, Default)]
pub struct Share {
    pub events: Vec<ContainerEvent>,
    pub counts: Counts,
}

#[derive(Debug, Default)]
pub struct Effects {
    pub shares: BTreeMap<SlotId, Share>,
    pub asks: Vec<Ask>,
    pub spawns: Vec<(SlotId, ContainerId)>,
    pub absorbs: Vec<(SlotId, Box<ContainerState>)>,
    pub reaps: Vec<SlotId>,
    /// Slots with an actor that are called otherwise from now on.
    pub renames: Vec<(SlotId, ContainerId)>,
    /// Their actors give back what they have.
    pub hand_overs: Vec<SlotId>,
    /// Questions for the runtimes.
    pub resolves: Vec<Lookup>,
    /// Of those nobody needs an answer any more.
    pub forgets: Vec<Lookup>,
    /// For those who have subscribed; empty while nobody has.
    pub lifecycle: Vec<Lifecycle>,
    /// Of the events that ended here.
    pub outcome: Outcome,
}
