//! Which process belongs to which container, and so which event to whom. Pure: no actor, no clock, no file.
//!
//! A process is found by its cgroup in the unified hierarchy; where it is placed in v1 hierarchies only (the id is then
//! the root's), by its path in /proc, which children inherit until somebody moves them.
mod answers;
mod applications;
mod cgroups;
mod explain;
mod files;
mod filters;
mod found;
mod names;
mod processes;
mod requests;
mod sockets;
mod upkeep;

use super::{
    effects::{Effects, SlotId},
    filters::Filters,
    identity::{self, CgroupRoot},
    slots::Slots,
};
use crate::{
    base::{
        ids::{Application, CgroupId, ContainerId, NetnsId, ProcKey, SocketId},
        ledger::Reason,
        now::Now,
        table::Table,
    },
    config::Standalone,
    container::{
        destination::Filter,
        samples::Samples,
        state::{ContainerEvent, ContainerState, Limits},
    },
    decode::{Comm, Event, Role, SumEvent},
    fqdn::table::{Referred, Stale},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tarsier_common::kind;

/// What does not change while the agent runs, but for the filters.
#[derive(Clone, Debug)]
pub struct Settings {
    pub standalone: Standalone,
    pub cgroup_root: String,
    pub filter: Filter,
    pub limits: Limits,
    pub min_age: Duration,
    pub keep: Duration,
    pub max_containers: usize,
    pub max_pending: usize,
    pub max_processes: usize,
    pub max_sockets: usize,
    /// Whether runtimes are asked what containers are called.
    pub runtimes: bool,
    pub filters: Arc<Filters>,
    /// Off in a replay: then all states stay with the registry.
    pub actors: bool,
    /// No slot of an earlier registry may be taken for one of this one.
    pub first_slot: u64,
}

/// What was found out about the node before the first event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    pub host_netns: NetnsId,
    pub root_cgroup: CgroupId,
    /// Where the agent itself is, if it looks from another cgroup namespace.
    pub cgroup_base: String,
    /// v1 hierarchies are mounted: only /proc tells the whole placement.
    pub legacy_hierarchies: bool,
    pub own_tgid: u32,
}

/// A process as /proc shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessFound {
    pub process: ProcKey,
    pub comm: Comm,
    pub kernel_thread: bool,
    pub path: Arc<str>,
}

/// A socket as /proc and INET_DIAG show it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SocketFound {
    /// Of the socket, or of its inode where nobody tells the cookie.
    pub cookie: u64,
    pub owner: ProcKey,
    pub netns: NetnsId,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub role: Role,
    pub listening: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inventory {
    pub taken_boottime_ns: u64,
    pub processes: Vec<ProcessFound>,
    /// All processes were seen: one that is not here is gone.
    pub complete: bool,
    /// Only where the kernel's iterators do not work.
    pub sockets: Option<Vec<SocketFound>>,
}

#[derive(Debug)]
struct Process {
    key: ProcKey,
    parent_tgid: u32,
    comm: Comm,
    /// `None`: found in /proc, which does not tell.
    cgroup: Option<CgroupId>,
    /// From /proc, or inherited.
    path: Option<Arc<str>>,
    slot: Option<SlotId>,
    /// What it inherited, until it executes something; then what somebody has found out about that.
    application: Option<Application>,
    /// Since when somebody is to look at its command line.
    unread_ns: Option<u64>,
    /// Has been with a container, however shortly.
    placed: bool,
    exited_ns: Option<u64>,
    /// Only a socket spoke of it: it may have ended long ago. It counts as ended until somebody sees it.
    unconfirmed: bool,
}

#[derive(Debug, Default)]
struct Cgroup {
    /// That of its owner.
    path: Option<Arc<str>>,
    owner: Option<identity::Owner>,
    /// What its path in the unified hierarchy says: where v1 hierarchies exist too, /proc goes before it.
    by_path: Option<identity::Owner>,
    asked_ns: Option<u64>,
    removed_ns: Option<u64>,
}

#[derive(Debug, Default)]
struct Namespace {
    ips: Option<Arc<[IpAddr]>>,
    told: HashSet<SlotId>,
    /// Whom to ask through.
    tgid: u32,
    asked_ns: Option<u64>,
}

/// Sockets of which that is remembered; of more of them the beginning is not counted.
const MAX_UNHEARD: usize = 65_536;
/// By owner and destination: more than that in the moment before an answer is a broken kernel side.
const MAX_SUMS: usize = 65_536;
/// For events that come after their process has gone.
const KEEP_EXITED_NS: u64 = 5_000_000_000;
/// Then a process is shown under its own name.
const IDENTITY_DEADLINE_NS: u64 = 5_000_000_000;
const ADDRESSES_EVERY_NS: u64 = 30_000_000_000;
/// /proc counts start times in ticks of this many nanoseconds.
pub(super) const TICK_NS: u64 = 10_000_000;

pub struct RegistryState {
    settings: Settings,
    node: Node,
    cgroup_root: CgroupRoot,
    processes: Table<u32, Process>,
    exited: VecDeque<(u64, ProcKey)>,
    /// Processes whose command line is to be looked at, and since when.
    unread: VecDeque<(u64, ProcKey)>,
    rejected_unread: u64,
    cgroups: Table<CgroupId, Cgroup>,
    owners: HashMap<Arc<str>, identity::Owner>,
    names: names::Names,
    waiting: HashMap<CgroupId, HashSet<ProcKey>>,
    /// Of cgroups that were asked for.
    sums: Vec<SumEvent>,
    /// Sums that ended nowhere: no room to wait, or no container to go to. Their events are `deferred` in the ledger.
    rejected_sums: u64,
    rejected_namespaces: u64,
    /// What was said by those for whom a table had no room.
    rejected_said: u64,
    slots: Slots,
    namespaces: HashMap<NetnsId, Namespace>,
    /// Sockets whose first row found no container that would take it.
    unheard: HashSet<SocketId>,
    /// Sockets that only an inventory has shown, by their cookies.
    found: HashMap<u64, SlotId>,
    holders: files::Holders,
}

/// Where an event goes.
enum Target {
    Slot(SlotId),
    /// To the process's own pending slot, until somebody names its container.
    Unnamed,
    Nowhere(Reason),
}

impl RegistryState {
    pub fn new(settings: Settings, node: Node) -> Self {
        Self {
            // The kernel's own paths begin at the root of the hierarchy, wherever the agent is.
            cgroup_root: CgroupRoot::new("/", &settings.cgroup_root),
            processes: Table::new(settings.max_processes),
            exited: VecDeque::new(),
            unread: VecDeque::new(),
            rejected_unread: 0,
            cgroups: Table::new(settings.max_processes),
            owners: HashMap::new(),
            names: names::Names::default(),
            waiting: HashMap::new(),
            sums: Vec::new(),
            rejected_sums: 0,
            rejected_namespaces: 0,
            rejected_said: 0,
            slots: Slots::new(
                settings.limits,
                Arc::clone(&settings.filters),
                settings.max_containers,
                settings.max_pending,
                settings.max_sockets,
                settings.actors,
                settings.first_slot,
            ),
            namespaces: HashMap::new(),
            unheard: HashSet::new(),
            found: HashMap::new(),
            holders: files::Holders::default(),
            settings,
            node,
        }
    }

    /// Whether anybody wants to know what becomes of processes and containers.
    pub fn tell_lifecycle(&mut self, wanted: bool) {
        self.slots.told = wanted;
    }

    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>, now: Now) -> Effects {
        let mut effects = Effects::default();
        for event in events {
            self.event(event, now, &mut effects);
        }
        effects
    }

    fn event(&mut self, event: Event, now: Now, effects: &mut Effects) {
        match event {
            Event::ProcessStarted(event) => self.started(&event, now, effects),
            Event::ProcessExec(event) => self.executed(&event, now, effects),
            Event::ProcessExited(event) => self.exited(&event, now, effects),
            Event::CgroupMoved(event) => self.moved(&event, now, effects),
            Event::CgroupMade(event) => self.cgroup_made(event, now, effects),
            Event::CgroupRemoved(event) => self.cgroup_removed(&event, now, effects),
            Event::ConnectionFailed(event) => {
                self.socket(&event, Some(kind::CONNECT_FAILED), ContainerEvent::Failed, now, effects);
            }
            Event::ConnectionClosed(event) => {
                self.socket(&event, Some(kind::CLOSE), ContainerEvent::Closed, now, effects);
            }
            Event::AcceptedClosed(event) => {
                self.socket(&event, Some(kind::ACCEPTED_CLOSE), ContainerEvent::Closed, now, effects);
            }
            Event::ListenOpened(event) => {
                self.socket(&event, Some(kind::LISTEN), ContainerEvent::ListenOpened, now, effects);
            }
            Event::ListenClosed(event) => {
                self.socket(
                    &event,
                    Some(kind::LISTEN_CLOSE),
                    ContainerEvent::ListenClosed,
                    now,
                    effects,
                );
            }
            Event::SocketSeen(event) => self.socket(&event, None, ContainerEvent::Seen, now, effects),
            Event::SocketSpilled(event) if event.listening => {
                self.socket(&event, None, ContainerEvent::ListenClosed, now, effects);
            }
            Event::SocketSpilled(event) => self.socket(&event, None, ContainerEvent::Closed, now, effects),
            Event::SumSpilled(event) => self.sum(&event, now, effects),
            Event::FileSeen(event) => self.file_seen(event, now, effects),
            Event::FilesLeftOut(process, files) => self.files_left_out(process, files, now, effects),
            Event::FilesPassed { .. } => self.files_passed(now, effects),
            Event::DnsAsked(event) => self.said(event.owner, ContainerEvent::DnsAsked(event), now, effects),
            Event::DnsUnanswered(event) => self.said(event.owner, ContainerEvent::DnsUnanswered(event), now, effects),
            Event::Exchanges(event) => self.exchanged(event, now, effects),
            Event::Unparsed(event) => self.said(event.owner, ContainerEvent::Unparsed(event), now, effects),
        }
    }

    /// `false`: the slot is gone, and so the actor may go.
    pub fn container_runs(&mut self, slot: SlotId, id: &ContainerId) -> (bool, Effects) {
        let mut effects = Effects::default();
        let wanted = self.slots.running(slot, &mut effects);
        let name = self.slots.get(slot).and_then(|slot| slot.id.as_ref());
        if let Some(name) = name.filter(|name| *name != id) {
            effects.renames.push((slot, name.clone()));
        }
        (wanted, effects)
    }

    /// The actor of a slot that is no more has given back what it had.
    pub fn container_handed_over(&mut self, slot: SlotId, state: Box<ContainerState>, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.slots.handed_over(slot, Some(state), now, &mut effects);
        effects
    }

    pub fn container_lost(&mut self, slot: SlotId, now: Now) -> Effects {
        let mut effects = Effects::default();
        if let Some(kept) = self.slots.handed_over(slot, None, now, &mut effects) {
            // The addresses that it knew of went with it.
            for namespace in self.namespaces.values_mut() {
                namespace.told.remove(&kept);
            }
            return effects;
        }
        let name = self.slots.get(slot).and_then(|slot| slot.id.clone());
        let metadata = name.and_then(|name| self.names.metadata(&name));
        let living = self.processes.iter().map(|(_, process)| process);
        let living = living.filter(|process| process.slot == Some(slot));
        let living = living.map(|process| process.member(false)).collect();
        self.slots.lost(slot, living, metadata, now, &mut effects);
        for namespace in self.namespaces.values_mut() {
            namespace.told.remove(&slot);
        }
        effects
    }

    /// What containers whose state is here refer to. `None`: a state is on its way from one actor to another's.
    pub fn referred(&self, stale: &Stale) -> Option<Referred> {
        let states = self.slots.held()?;
        Some(stale.referred(states.flat_map(ContainerState::destinations)))
    }

    /// Of the containers whose state is here.
    pub fn samples(&mut self, now: Now) -> Vec<Samples> {
        let (min_age, host) = (self.settings.min_age, self.node.host_netns);
        let held = self.slots.held_mut();
        held.filter_map(|(id, state)| Some(state.samples(id?, now, min_age, host)))
            .collect()
    }

    #[cfg(test)]
    pub fn check(&self) {
        let mut processes = std::collections::BTreeMap::new();
        for slot in self.processes.iter().filter_map(|(_, process)| process.slot) {
            *processes.entry(slot).or_insert(0) += 1;
        }
        self.slots.check(&processes);
        self.names.check();
    }

    /// Tables with their entries, limits and refusals.
    pub fn tables(&self) -> [(&'static str, usize, usize, u64); 10] {
        let table = |name, len, capacity, rejected| (name, len, capacity, rejected);
        let sockets = self.slots.sockets();
        let (containers, pending) = self.slots.rejected();
        [
            table(
                "processes",
                self.processes.len(),
                self.processes.capacity(),
                self.processes.rejected(),
            ),
            table(
                "cgroups",
                self.cgroups.len(),
                self.cgroups.capacity(),
                self.cgroups.rejected(),
            ),
            table("containers", self.slots.len(), self.settings.max_containers, containers),
            table("pending", self.slots.pending(), self.settings.max_pending, pending),
            table("sockets", sockets.len(), sockets.capacity(), sockets.rejected()),
            table(
                "namespaces",
                self.namespaces.len(),
                self.settings.max_containers,
                self.rejected_namespaces,
            ),
            table(
                "unread_commands",
                self.unread.len(),
                self.processes.capacity(),
                self.rejected_unread,
            ),
            table("names", self.names.len(), names::Names::MAX, self.names.rejected()),
            table("sums", self.sums.len(), MAX_SUMS, self.rejected_sums),
            // Holds nothing: it goes to a container at once, or nowhere.
            table("said", 0, 0, self.rejected_said),
        ]
    }
}
