//! Which process belongs to which container, and so which event to whom. Pure: no actor, no clock, no file.
//!
//! A process is found by its cgroup in the unified hierarchy; where it is placed in v1 hierarchies only (the id is then
//! the root's), by its path in /proc, which children inherit until somebody moves them.
use super::{
    effects::{Answer, Ask, Effects, SlotId},
    identity::{self, CgroupFile, CgroupRoot},
    slots::Slots,
};
use crate::{
    base::{
        ids::{CgroupId, ContainerId, NetnsId, ProcKey, SocketId},
        ledger::Reason,
        now::Now,
        table::Table,
    },
    config::Standalone,
    container::{
        destination::{Filter, SkipReason},
        samples::Samples,
        state::{ContainerEvent, Limits},
    },
    decode::{CgroupEvent, Comm, Event, Owner, ProcessEvent, SocketEvent, SumEvent},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use tarsier_common::kind;

/// What does not change while the agent runs.
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

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inventory {
    pub taken_boottime_ns: u64,
    pub processes: Vec<ProcessFound>,
    /// All processes were seen: one that is not here is gone.
    pub complete: bool,
}

#[derive(Debug)]
struct Process {
    key: ProcKey,
    comm: Comm,
    /// `None`: found in /proc, which does not tell.
    cgroup: Option<CgroupId>,
    /// From /proc, or inherited.
    path: Option<Arc<str>>,
    slot: Option<SlotId>,
    exited_ns: Option<u64>,
}

#[derive(Debug)]
struct Cgroup {
    owner: Option<identity::Owner>,
    asked: bool,
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

/// For events that come after their process has gone.
const KEEP_EXITED_NS: u64 = 5_000_000_000;
/// Then a process is shown under its own name.
const IDENTITY_DEADLINE_NS: u64 = 5_000_000_000;
const ADDRESSES_EVERY_NS: u64 = 30_000_000_000;
/// /proc counts start times in ticks of this many nanoseconds.
const TICK_NS: u64 = 10_000_000;

pub struct RegistryState {
    settings: Settings,
    node: Node,
    cgroup_root: CgroupRoot,
    processes: Table<u32, Process>,
    exited: VecDeque<(u64, ProcKey)>,
    cgroups: Table<CgroupId, Cgroup>,
    owners: HashMap<Arc<str>, identity::Owner>,
    waiting: HashMap<CgroupId, HashSet<u32>>,
    slots: Slots,
    namespaces: HashMap<NetnsId, Namespace>,
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
            cgroups: Table::new(settings.max_processes),
            owners: HashMap::new(),
            waiting: HashMap::new(),
            slots: Slots::new(
                settings.limits,
                settings.max_containers,
                settings.max_pending,
                settings.max_sockets,
                settings.actors,
                settings.first_slot,
            ),
            namespaces: HashMap::new(),
            settings,
            node,
        }
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
            Event::ConnectionOpened(event) => {
                self.socket(&event, Some(kind::CONNECT), ContainerEvent::Opened, now, effects);
            }
            Event::ConnectionFailed(event) => {
                self.socket(&event, Some(kind::CONNECT_FAILED), ContainerEvent::Failed, now, effects);
            }
            Event::ConnectionClosed(event) => {
                self.socket(&event, Some(kind::CLOSE), ContainerEvent::Closed, now, effects);
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
        }
    }

    // Processes

    fn started(&mut self, event: &ProcessEvent, now: Now, effects: &mut Effects) {
        let owner = &event.owner;
        if event.kernel_thread {
            return effects.outcome.dropped.push((kind::FORK, Reason::KernelThread));
        }
        if owner.process.tgid == self.node.own_tgid {
            return effects.outcome.dropped.push((kind::FORK, Reason::Own));
        }
        let parent = self.processes.get(&event.parent_tgid);
        // A path is inherited; a child that was cloned into another cgroup has that one's.
        let path = parent.filter(|parent| parent.cgroup.is_none_or(|cgroup| cgroup == owner.cgroup));
        let path = path.and_then(|parent| parent.path.clone());
        if self.add(owner, path, now, effects) {
            effects.outcome.delivered.add(kind::FORK, 1);
        } else {
            effects.outcome.dropped.push((kind::FORK, Reason::TableFull));
        }
    }

    /// Puts a process into the index and with its container. `false`: the index is full.
    fn add(&mut self, owner: &Owner, path: Option<Arc<str>>, now: Now, effects: &mut Effects) -> bool {
        let tgid = owner.process.tgid;
        // Its exit was missed, or the pid is used again while late events may still come.
        self.forget(tgid, now, effects);
        let process = Process {
            key: owner.process,
            comm: owner.comm,
            cgroup: Some(owner.cgroup),
            path,
            slot: None,
            exited_ns: None,
        };
        if self.processes.len() >= self.processes.capacity() {
            self.expire(now.monotonic_ns);
        }
        if self.processes.insert(tgid, process).is_err() {
            return false;
        }
        self.place(tgid, now, effects);
        true
    }

    fn forget(&mut self, tgid: u32, now: Now, effects: &mut Effects) {
        if let Some(old) = self.processes.remove(&tgid)
            && let Some(slot) = old.slot
        {
            self.slots.leave(slot, now, effects);
        }
    }

    fn executed(&mut self, event: &ProcessEvent, now: Now, effects: &mut Effects) {
        effects.outcome.delivered.add(kind::EXEC, 1);
        let owner = &event.owner;
        if owner.process.tgid == self.node.own_tgid {
            return;
        }
        match self.known(owner.process) {
            Some(process) => {
                process.comm = owner.comm;
                process.key = owner.process;
                process.enter(owner.cgroup);
                self.place(owner.process.tgid, now, effects);
            }
            None => {
                self.add(owner, None, now, effects);
            }
        }
    }

    fn exited(&mut self, event: &ProcessEvent, now: Now, effects: &mut Effects) {
        let key = event.owner.process;
        if event.kernel_thread {
            return effects.outcome.dropped.push((kind::EXIT, Reason::KernelThread));
        }
        if key.tgid == self.node.own_tgid {
            return effects.outcome.dropped.push((kind::EXIT, Reason::Own));
        }
        effects.outcome.delivered.add(kind::EXIT, 1);
        let Some(process) = self.known(key) else { return };
        if process.exited_ns.is_some() {
            return;
        }
        process.exited_ns = Some(now.monotonic_ns);
        let slot = process.slot.take();
        let key = process.key;
        self.exited.push_back((now.monotonic_ns, key));
        if let Some(slot) = slot {
            self.slots.leave(slot, now, effects);
        }
    }

    fn moved(&mut self, event: &ProcessEvent, now: Now, effects: &mut Effects) {
        effects.outcome.delivered.add(kind::CGROUP_MOVE, 1);
        let root = self.node.root_cgroup;
        let Some(process) = self.known(event.owner.process) else {
            return;
        };
        if !event.legacy_hierarchy {
            process.enter(event.owner.cgroup);
        } else if event.owner.cgroup == root {
            // Only /proc knows where it is now.
            process.path = None;
        } else {
            return;
        }
        self.place(event.owner.process.tgid, now, effects);
    }

    /// The living or lately ended process of this key.
    fn known(&mut self, key: ProcKey) -> Option<&mut Process> {
        let process = self.processes.get_mut(&key.tgid)?;
        same_start(process.key.start_ns, key.start_ns).then_some(process)
    }

    /// Finds the process's container anew and moves it there.
    fn place(&mut self, tgid: u32, now: Now, effects: &mut Effects) {
        let target = self.target(tgid, now, effects);
        let Some(process) = self.processes.get_mut(&tgid) else {
            return;
        };
        if process.exited_ns.is_some() {
            return;
        }
        let start_ns = process.key.start_ns;
        let to = match target {
            Target::Slot(slot) => Some(slot),
            // Nowhere until somebody says where: what it does meanwhile is not its old container's.
            Target::Unnamed | Target::Nowhere(_) => None,
        };
        let from = std::mem::replace(&mut process.slot, to);
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.slots.leave(from, now, effects);
        }
        if let Some(to) = to {
            self.slots.join(to, start_ns, now, effects);
        }
    }

    fn target(&mut self, tgid: u32, now: Now, effects: &mut Effects) -> Target {
        let Some(process) = self.processes.get(&tgid) else {
            return Target::Nowhere(Reason::Ignored);
        };
        let (key, comm, cgroup, path) = (process.key, process.comm, process.cgroup, process.path.clone());
        let unified = cgroup.filter(|cgroup| *cgroup != self.node.root_cgroup && cgroup.0 != 0);
        let owner = match (unified, path) {
            (Some(cgroup), path) => self.owner_of_cgroup(cgroup, path, tgid, effects),
            (None, Some(path)) => Some(self.owner_of_path(&path)),
            (None, None) => {
                effects.asks.push(Ask::Process { process: key });
                None
            }
        };
        match owner {
            Some(owner) => self.target_of(&owner, key, &comm, now),
            None => Target::Unnamed,
        }
    }

    fn owner_of_cgroup(
        &mut self,
        cgroup: CgroupId,
        path: Option<Arc<str>>,
        tgid: u32,
        effects: &mut Effects,
    ) -> Option<identity::Owner> {
        let learned = path.map(|path| self.owner_of_path(&path));
        let entry = self.cgroups.get_or_insert_with(cgroup, || Cgroup {
            owner: None,
            asked: false,
            removed_ns: None,
        });
        let Some(entry) = entry else { return learned };
        if entry.owner.is_none() {
            entry.owner = learned;
        }
        if entry.owner.is_none() {
            if !entry.asked {
                entry.asked = true;
                effects.asks.push(Ask::Cgroup { cgroup, tgid });
            }
            self.waiting.entry(cgroup).or_default().insert(tgid);
        }
        entry.owner.clone()
    }

    fn owner_of_path(&mut self, path: &Arc<str>) -> identity::Owner {
        const CACHED: usize = 10_000;
        if let Some(owner) = self.owners.get(path) {
            return owner.clone();
        }
        let owner = identity::owner(path);
        if self.owners.len() >= CACHED {
            self.owners.clear();
        }
        self.owners.insert(Arc::clone(path), owner.clone());
        owner
    }

    fn target_of(&mut self, owner: &identity::Owner, process: ProcKey, comm: &Comm, now: Now) -> Target {
        let id: ContainerId = match (owner, self.settings.standalone) {
            (identity::Owner::Ignored(_), _) => return Target::Nowhere(Reason::Ignored),
            (identity::Owner::Container(id), _) => id.clone(),
            (identity::Owner::Standalone, Standalone::Off) => return Target::Nowhere(Reason::StandaloneOff),
            (identity::Owner::Standalone, mode) => {
                identity::standalone_id(comm, process.tgid, mode == Standalone::PerProcess)
            }
        };
        match self.slots.of_container(&id, now) {
            Ok(slot) => Target::Slot(slot),
            Err(reason) => Target::Nowhere(reason),
        }
    }

    // Cgroups

    fn cgroup_made(&mut self, event: CgroupEvent, now: Now, effects: &mut Effects) {
        effects.outcome.delivered.add(kind::CGROUP_MADE, 1);
        // Where v1 hierarchies exist too, the path in the unified one is half the truth.
        if self.node.legacy_hierarchies {
            return;
        }
        let Some(path) = event.path else { return };
        let file = CgroupFile {
            unified: Some(path),
            ..CgroupFile::default()
        };
        let path = identity::placement(&file, &self.cgroup_root).path;
        self.cgroup_named(event.cgroup, Some(path), now, effects);
    }

    fn cgroup_removed(&mut self, event: &CgroupEvent, now: Now, effects: &mut Effects) {
        effects.outcome.delivered.add(kind::CGROUP_GONE, 1);
        if let Some(cgroup) = self.cgroups.get_mut(&event.cgroup) {
            cgroup.removed_ns = Some(now.monotonic_ns);
        }
    }

    fn cgroup_named(&mut self, cgroup: CgroupId, path: Option<Arc<str>>, now: Now, effects: &mut Effects) {
        let owner = path.map(|path| self.owner_of_path(&path));
        let entry = self.cgroups.get_or_insert_with(cgroup, || Cgroup {
            owner: None,
            asked: false,
            removed_ns: None,
        });
        if let Some(entry) = entry {
            entry.asked = owner.is_some();
            entry.owner = owner.clone();
        }
        for tgid in self.waiting.remove(&cgroup).unwrap_or_default() {
            if owner.is_none()
                && let Some(process) = self.processes.get_mut(&tgid)
            {
                // Nobody could name its cgroup any more: it stands for itself.
                process.path = Some("/".into());
                process.cgroup = None;
            }
            self.named(tgid, now, effects);
        }
    }

    /// A process that waited for its container's name has it now.
    fn named(&mut self, tgid: u32, now: Now, effects: &mut Effects) {
        let Some(process) = self.processes.get(&tgid) else {
            return;
        };
        let key = process.key;
        let target = self.target(tgid, now, effects);
        let to = match target {
            Target::Unnamed => return,
            Target::Slot(slot) => Some(slot),
            Target::Nowhere(_) => None,
        };
        self.place(tgid, now, effects);
        self.slots.settle(key, to, now, effects);
    }

    pub fn answer(&mut self, answer: Answer, now: Now) -> Effects {
        let mut effects = Effects::default();
        match answer {
            Answer::Cgroup { cgroup, path } => self.cgroup_named(cgroup, path, now, &mut effects),
            Answer::Process { process, path } => {
                if let Some(known) = self.known(process) {
                    // Gone before anybody looked: it stands for itself.
                    known.path = Some(path.unwrap_or_else(|| "/".into()));
                    self.named(process.tgid, now, &mut effects);
                }
            }
            Answer::Addresses { netns, ips } => self.addresses(netns, ips, now, &mut effects),
        }
        effects
    }

    // Sockets

    fn socket(
        &mut self,
        event: &SocketEvent,
        kind: Option<u16>,
        make: impl FnOnce(SocketEvent) -> ContainerEvent,
        now: Now,
        effects: &mut Effects,
    ) {
        let target = match self.refuses(event) {
            Some(reason) => Target::Nowhere(reason),
            None => self.target_of_socket(event.socket, &event.owner, now, effects),
        };
        let slot = match target {
            Target::Slot(slot) => slot,
            Target::Unnamed => match self.slots.of_process(event.owner.process, now) {
                Ok(slot) => slot,
                Err(reason) => return drop_event(kind, reason, effects),
            },
            Target::Nowhere(reason) => return drop_event(kind, reason, effects),
        };
        let event_for = make(*event);
        match event_for {
            ContainerEvent::Opened(_) | ContainerEvent::Seen(_) | ContainerEvent::ListenOpened(_) => {
                self.slots.socket_opened(event.socket, slot);
            }
            ContainerEvent::Closed(_) | ContainerEvent::ListenClosed(_) => self.slots.socket_closed(event.socket),
            _ => {}
        }
        let wildcard = event.listening && event.local.ip().is_unspecified();
        let opens = !matches!(event_for, ContainerEvent::ListenClosed(_));
        self.slots.route(slot, event_for, kind, now, effects);
        if wildcard && opens {
            self.tell_addresses(event.netns, event.owner.process.tgid, slot, now, effects);
        }
    }

    fn refuses(&self, event: &SocketEvent) -> Option<Reason> {
        if event.owner.process.tgid == self.node.own_tgid {
            return Some(Reason::Own);
        }
        let decision = if event.listening {
            self.settings.filter.decide_listen(event.local)
        } else {
            self.settings
                .filter
                .decide(event.remote, event.netns == self.node.host_netns)
        };
        decision.err().map(reason_of)
    }

    fn target_of_socket(&mut self, socket: SocketId, owner: &Owner, now: Now, effects: &mut Effects) -> Target {
        if let Some(slot) = self.slots.slot_of_socket(socket) {
            return Target::Slot(slot);
        }
        self.target_of_owner(owner, now, effects)
    }

    fn target_of_owner(&mut self, owner: &Owner, now: Now, effects: &mut Effects) -> Target {
        let tgid = owner.process.tgid;
        match self.known(owner.process) {
            // The kernel's word at the event is newer than ours.
            Some(process) if process.cgroup != Some(owner.cgroup) => {
                process.enter(owner.cgroup);
                self.place(tgid, now, effects);
            }
            Some(_) => {}
            None => {
                // The news of its start was lost, or comes with the inventory.
                if !self.add(owner, None, now, effects) {
                    return Target::Nowhere(Reason::TableFull);
                }
            }
        }
        match self.processes.get(&tgid).and_then(|process| process.slot) {
            Some(slot) => Target::Slot(slot),
            None => self.target(tgid, now, effects),
        }
    }

    fn sum(&mut self, sum: &SumEvent, now: Now, effects: &mut Effects) {
        let in_host = sum.netns == self.node.host_netns;
        if self.settings.filter.decide(sum.remote, in_host).is_err() {
            return;
        }
        let target = match sum.process {
            Some(process) => {
                let owner = Owner {
                    process,
                    cgroup: sum.cgroup,
                    comm: sum.comm,
                };
                self.target_of_owner(&owner, now, effects)
            }
            None => {
                let owner = self.cgroups.get(&sum.cgroup).and_then(|cgroup| cgroup.owner.clone());
                // All processes of this cgroup are gone and it was never named: under their own name.
                let owner = owner.unwrap_or(identity::Owner::Standalone);
                let nobody = ProcKey { tgid: 0, start_ns: 0 };
                self.target_of(&owner, nobody, &sum.comm, now)
            }
        };
        let slot = match (target, sum.process) {
            (Target::Slot(slot), _) => Some(slot),
            (Target::Unnamed, Some(process)) => self.slots.of_process(process, now).ok(),
            _ => None,
        };
        if let Some(slot) = slot {
            self.slots
                .route(slot, ContainerEvent::SumSpilled(*sum), None, now, effects);
        }
    }

    // Addresses of network namespaces

    fn tell_addresses(&mut self, netns: NetnsId, tgid: u32, slot: SlotId, now: Now, effects: &mut Effects) {
        let namespace = self.namespaces.entry(netns).or_default();
        namespace.tgid = tgid;
        if namespace.told.insert(slot)
            && let Some(ips) = namespace.ips.clone()
        {
            self.slots
                .route(slot, ContainerEvent::Addresses { netns, ips }, None, now, effects);
        }
        let Some(namespace) = self.namespaces.get_mut(&netns) else {
            return;
        };
        if namespace.asked_ns.is_none() {
            namespace.asked_ns = Some(now.monotonic_ns);
            effects.asks.push(Ask::Addresses { netns, tgid });
        }
    }

    fn addresses(&mut self, netns: NetnsId, ips: Option<Arc<[IpAddr]>>, now: Now, effects: &mut Effects) {
        let Some(namespace) = self.namespaces.get_mut(&netns) else {
            return;
        };
        let Some(ips) = ips.filter(|ips| namespace.ips.as_ref() != Some(ips)) else {
            return;
        };
        namespace.ips = Some(Arc::clone(&ips));
        for slot in namespace.told.clone() {
            let event = ContainerEvent::Addresses {
                netns,
                ips: Arc::clone(&ips),
            };
            self.slots.route(slot, event, None, now, effects);
        }
    }

    // Repair and the passing of time

    /// What /proc showed: brings processes whose start was missed, and ends those whose exit was.
    pub fn inventory(&mut self, inventory: &Inventory, now: Now) -> Effects {
        let mut effects = Effects::default();
        let mut present = HashSet::new();
        for found in &inventory.processes {
            let tgid = found.process.tgid;
            if found.kernel_thread || tgid == self.node.own_tgid {
                continue;
            }
            present.insert(tgid);
            if let Some(process) = self.known(found.process) {
                // Known from events, which are newer, except where it is placed.
                if process.path.is_none() && process.exited_ns.is_none() {
                    process.path = Some(Arc::clone(&found.path));
                    self.named(tgid, now, &mut effects);
                }
                continue;
            }
            // Another process has this pid by now.
            if self
                .processes
                .get(&tgid)
                .is_some_and(|other| other.key.start_ns > found.process.start_ns)
            {
                continue;
            }
            let owner = Owner {
                process: found.process,
                cgroup: self.node.root_cgroup,
                comm: found.comm,
            };
            if self.add(&owner, Some(Arc::clone(&found.path)), now, &mut effects)
                && let Some(process) = self.processes.get_mut(&tgid)
            {
                process.cgroup = None;
            }
        }
        // What began after the look may well be alive.
        let taken = inventory.taken_boottime_ns;
        let gone: Vec<u32> = self
            .processes
            .iter()
            .filter(|(tgid, process)| {
                inventory.complete
                    && process.exited_ns.is_none()
                    && process.key.start_ns + TICK_NS < taken
                    && !present.contains(tgid)
            })
            .map(|(tgid, _)| *tgid)
            .collect();
        for tgid in gone {
            self.forget(tgid, now, &mut effects);
        }
        effects
    }

    /// Once a second.
    pub fn tick(&mut self, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.expire(now.monotonic_ns.saturating_sub(KEEP_EXITED_NS));
        for process in self
            .slots
            .overdue(now.monotonic_ns.saturating_sub(IDENTITY_DEADLINE_NS))
        {
            self.give_up(process, now, &mut effects);
        }
        let due: Vec<SlotId> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                let age = now.boottime_ns.saturating_sub(slot.since_ns);
                let old = u128::from(age) >= self.settings.min_age.as_nanos();
                slot.processes > 0 && old && matches!(slot.place, super::slots::Place::Held(_))
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in due {
            self.slots.spawn(slot, &mut effects);
        }
        for (netns, namespace) in &mut self.namespaces {
            let stale = now.monotonic_ns.saturating_sub(ADDRESSES_EVERY_NS);
            if namespace.asked_ns.is_some_and(|asked| asked < stale) {
                namespace.asked_ns = Some(now.monotonic_ns);
                effects.asks.push(Ask::Addresses {
                    netns: *netns,
                    tgid: namespace.tgid,
                });
            }
        }
        effects
    }

    fn expire(&mut self, before_ns: u64) {
        while let Some((_, key)) = self.exited.pop_front_if(|(at, _)| *at <= before_ns) {
            if self
                .processes
                .get(&key.tgid)
                .is_some_and(|process| process.key == key && process.exited_ns.is_some())
            {
                self.processes.remove(&key.tgid);
            }
        }
    }

    /// Nobody has named its container in time.
    fn give_up(&mut self, process: ProcKey, now: Now, effects: &mut Effects) {
        let comm = self.known(process).map(|process| process.comm).unwrap_or_default();
        let to = match self.target_of(&identity::Owner::Standalone, process, &comm, now) {
            Target::Slot(slot) => Some(slot),
            _ => None,
        };
        self.slots.settle(process, to, now, effects);
    }

    /// Ends of sockets were lost in the kernel: what the pass that began then has not seen is gone.
    pub fn sweep(&mut self, before_ns: u64, now: Now) -> Effects {
        let mut effects = Effects::default();
        for slot in self.slots.all() {
            self.slots
                .route(slot, ContainerEvent::Sweep { before_ns }, None, now, &mut effects);
        }
        effects
    }

    /// Decides who is dead. The supervisor ends their actors.
    pub fn collect_garbage(&mut self, now: Now) -> Effects {
        let mut effects = Effects::default();
        let keep = u64::try_from(self.settings.keep.as_nanos()).unwrap_or(u64::MAX);
        let dead: Vec<SlotId> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                let quiet = slot
                    .zombie_since_ns
                    .is_some_and(|since| now.boottime_ns.saturating_sub(since) >= keep);
                slot.processes == 0 && slot.sockets == 0 && quiet && slot.pending.is_none()
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in dead {
            if let Some(entry) = self.slots.remove(slot)
                && let (Some(id), true) = (entry.id, !matches!(entry.place, super::slots::Place::Held(_)))
            {
                effects.reaps.push((slot, id));
            }
        }
        let keep_duration = self.settings.keep;
        for (_, state) in self.slots.held_mut() {
            state.collect_garbage(now, keep_duration);
        }
        let before = now.monotonic_ns.saturating_sub(keep);
        self.cgroups
            .retain(|_, cgroup| cgroup.removed_ns.is_none_or(|removed| removed > before));
        self.owners.clear();
        let slots = &self.slots;
        for namespace in self.namespaces.values_mut() {
            namespace.told.retain(|slot| slots.get(*slot).is_some());
        }
        self.namespaces.retain(|_, namespace| !namespace.told.is_empty());
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        effects
    }

    // Actors come and go

    /// `false`: the slot is gone, and so the actor may go.
    pub fn container_runs(&mut self, slot: SlotId) -> (bool, Effects) {
        let mut effects = Effects::default();
        let wanted = self.slots.running(slot, &mut effects);
        (wanted, effects)
    }

    pub fn container_lost(&mut self, slot: SlotId, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.slots.lost(slot, now, &mut effects);
        for namespace in self.namespaces.values_mut() {
            namespace.told.remove(&slot);
        }
        effects
    }

    // Looking in from outside

    /// Of the containers whose state is here.
    pub fn samples(&mut self, now: Now) -> Vec<Samples> {
        let (min_age, host) = (self.settings.min_age, self.node.host_netns);
        let held = self.slots.held_mut();
        held.filter_map(|(id, state)| Some(state.samples(id?, now, min_age, host)))
            .collect()
    }

    /// Tables with their entries, limits and refusals.
    pub fn tables(&self) -> [(&'static str, usize, usize, u64); 6] {
        let table = |name, len, capacity, rejected| (name, len, capacity, rejected);
        let sockets = self.slots.sockets();
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
            table("containers", self.slots.len(), self.settings.max_containers, 0),
            table("pending", self.slots.pending(), self.settings.max_pending, 0),
            table("sockets", sockets.len(), sockets.capacity(), sockets.rejected()),
            table("namespaces", self.namespaces.len(), self.settings.max_containers, 0),
        ]
    }
}

impl Process {
    /// A path was true for the cgroup the process was in.
    fn enter(&mut self, cgroup: CgroupId) {
        if self.cgroup.is_some_and(|old| old != cgroup) {
            self.path = None;
        }
        self.cgroup = Some(cgroup);
    }
}

fn same_start(a: u64, b: u64) -> bool {
    a == b || a / TICK_NS == b / TICK_NS
}

fn drop_event(kind: Option<u16>, reason: Reason, effects: &mut Effects) {
    if let Some(kind) = kind {
        effects.outcome.dropped.push((kind, reason));
    }
}

fn reason_of(skip: SkipReason) -> Reason {
    match skip {
        SkipReason::EphemeralPort => Reason::EphemeralPort,
        SkipReason::LoopbackInContainer => Reason::LoopbackInContainer,
        SkipReason::LinkLocal => Reason::LinkLocal,
        SkipReason::PublicNetwork => Reason::PublicNetwork,
    }
}
