//! Processes come, go, and are with their containers.
use super::{Cgroup, Process, RegistryState, TICK_NS, Target};
use crate::{
    base::{
        ids::{CgroupId, ContainerId, ProcKey},
        ledger::Reason,
        now::Now,
    },
    config::Standalone,
    container::state::ContainerEvent,
    decode::{Comm, Owner, ProcessEvent},
    registry::{
        effects::{Ask, Effects, SlotId},
        filters::Verdict,
        identity,
        lifecycle::Lifecycle,
        slots::{Awaited, Member},
    },
};
use std::sync::Arc;
use tarsier_common::kind;

impl RegistryState {
    pub(super) fn started(&mut self, event: &ProcessEvent, now: Now, effects: &mut Effects) {
        let owner = &event.owner;
        if event.owner.kernel_thread {
            return effects.outcome.drop_one(kind::FORK, Reason::KernelThread);
        }
        if owner.process.tgid == self.node.own_tgid {
            return effects.outcome.drop_one(kind::FORK, Reason::Own);
        }
        let root = self.node.root_cgroup;
        let parent = self.processes.get(&event.parent_tgid);
        // A path is inherited, unless the child was cloned into another cgroup. Of a parent that only /proc has shown
        // the cgroup is not known; all that are in the root, by this hierarchy, share their v1 placement.
        let together = |parent: &&Process| match parent.cgroup {
            Some(cgroup) => cgroup == owner.cgroup,
            None => owner.cgroup == root,
        };
        let process = Process {
            parent_tgid: event.parent_tgid,
            path: parent.filter(together).and_then(|parent| parent.path.clone()),
            application: parent.and_then(|parent| parent.application.clone()),
            ..Process::new(owner)
        };
        if self.add(process, now, effects) {
            effects.outcome.delivered.add(kind::FORK, 1);
        } else {
            effects.outcome.drop_one(kind::FORK, Reason::TableFull);
        }
    }

    /// Puts a process into the index and with its container. `false`: the index is full.
    pub(super) fn add(&mut self, process: Process, now: Now, effects: &mut Effects) -> bool {
        let tgid = process.key.tgid;
        // Its exit was missed, or the pid is used again while late events may still come.
        self.forget(tgid, now, effects);
        if self.processes.len() >= self.processes.capacity() {
            self.expire(now.monotonic_ns);
        }
        if self.processes.insert(tgid, process).is_err() {
            return false;
        }
        self.place(tgid, now, effects);
        true
    }

    /// As if it had just ended: for the answer to a question about it. `false`: the index is full.
    pub(super) fn add_unconfirmed(&mut self, owner: &Owner, now: Now, effects: &mut Effects) -> bool {
        self.forget(owner.process.tgid, now, effects);
        let process = Process {
            exited_ns: Some(now.monotonic_ns),
            unconfirmed: true,
            ..Process::new(owner)
        };
        self.exited.push_back((now.monotonic_ns, owner.process));
        self.processes.insert(owner.process.tgid, process).is_ok()
    }

    pub(super) fn forget(&mut self, tgid: u32, now: Now, effects: &mut Effects) {
        let Some(old) = self.processes.remove(&tgid) else {
            return;
        };
        if old.placed && old.exited_ns.is_none() {
            self.tell_exited(old.key, old.comm, old.slot, effects);
        }
        if let Some(slot) = old.slot {
            self.slots.leave(slot, old.member(false), now, effects);
        }
    }

    pub(super) fn executed(&mut self, event: &ProcessEvent, now: Now, effects: &mut Effects) {
        let owner = &event.owner;
        let tgid = owner.process.tgid;
        if tgid == self.node.own_tgid {
            return effects.outcome.delivered.add(kind::EXEC, 1);
        }
        match self.known(owner.process) {
            Some(process) => {
                process.comm = owner.comm;
                if std::mem::take(&mut process.unconfirmed) {
                    process.exited_ns = None;
                }
                process.enter(owner.cgroup);
                let key = process.key;
                self.names.executed(key);
                self.place(tgid, now, effects);
            }
            None => {
                let process = Process {
                    parent_tgid: event.parent_tgid,
                    ..Process::new(owner)
                };
                if !self.add(process, now, effects) {
                    return effects.outcome.drop_one(kind::EXEC, Reason::TableFull);
                }
            }
        }
        self.unread(tgid, now, effects);
        effects.outcome.delivered.add(kind::EXEC, 1);
    }

    pub(super) fn exited(&mut self, event: &ProcessEvent, now: Now, effects: &mut Effects) {
        let key = event.owner.process;
        if event.owner.kernel_thread {
            return effects.outcome.drop_one(kind::EXIT, Reason::KernelThread);
        }
        if key.tgid == self.node.own_tgid {
            return effects.outcome.drop_one(kind::EXIT, Reason::Own);
        }
        let ended = |process: &mut Process| process.exited_ns.is_some() && !process.unconfirmed;
        if self.known(key).is_some_and(ended) {
            // Two threads ended at once, and each of them looked like the last.
            return effects.outcome.drop_one(kind::EXIT, Reason::Thread);
        }
        if event.oom_killed {
            self.oom_killed(&event.owner, now, effects);
        } else {
            effects.outcome.delivered.add(kind::EXIT, 1);
        }
        let Some(process) = self.known(key) else { return };
        process.exited_ns = Some(now.monotonic_ns);
        process.unconfirmed = false;
        let (slot, member, key) = (process.slot.take(), process.member(false), process.key);
        let (comm, placed) = (process.comm, process.placed);
        self.exited.push_back((now.monotonic_ns, key));
        if placed {
            self.tell_exited(key, comm, slot, effects);
        }
        if let Some(slot) = slot {
            self.slots.leave(slot, member, now, effects);
        }
    }

    /// Comes with the end of the process, and is in the books as that.
    fn oom_killed(&mut self, owner: &Owner, now: Now, effects: &mut Effects) {
        let slot = match self.target_of_owner(owner, now, effects) {
            Target::Slot(slot) => Ok(slot),
            Target::Unnamed => self.slots.of_process((owner.process, owner.cgroup), owner.comm, now),
            Target::Nowhere(reason) => Err(reason),
        };
        match slot {
            Ok(slot) => {
                let killed = ContainerEvent::OomKilled;
                self.slots.route(slot, killed, Some((kind::EXIT, 1)), now, effects);
            }
            Err(reason @ (Reason::TableFull | Reason::PendingFull)) => {
                effects.outcome.drop_one(kind::EXIT, reason);
            }
            // Nobody wants to see it.
            Err(_) => effects.outcome.delivered.add(kind::EXIT, 1),
        }
    }

    pub(super) fn moved(&mut self, event: &ProcessEvent, now: Now, effects: &mut Effects) {
        effects.outcome.delivered.add(kind::CGROUP_MOVE, 1);
        let root = self.node.root_cgroup;
        let Some(process) = self.known(event.owner.process) else {
            return;
        };
        if !event.legacy_hierarchy {
            if process.cgroup.is_none() {
                // What /proc has shown may be where it was before.
                process.path = None;
            }
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
    pub(super) fn known(&mut self, key: ProcKey) -> Option<&mut Process> {
        let process = self.processes.get_mut(&key.tgid)?;
        if !same_start(process.key.start_ns, key.start_ns) {
            return None;
        }
        // The kernel knows it better than /proc.
        process.key.start_ns = process.key.start_ns.max(key.start_ns);
        Some(process)
    }

    /// Finds the process's container anew and moves it there.
    pub(super) fn place(&mut self, tgid: u32, now: Now, effects: &mut Effects) {
        let target = self.target(tgid, now, effects);
        let Some(process) = self.processes.get_mut(&tgid) else {
            return;
        };
        let to = match target {
            Target::Slot(slot) => Some(slot),
            // Nowhere until somebody says where: what it does meanwhile is not its old container's.
            Target::Unnamed | Target::Nowhere(_) => None,
        };
        let gone = process.exited_ns.is_some();
        if gone && (process.unconfirmed || process.placed) {
            return;
        }
        let from = std::mem::replace(&mut process.slot, to);
        if from == to {
            return;
        }
        let first = !process.placed;
        process.placed |= to.is_some();
        let (parent, member) = (process.parent_tgid, process.member(false));
        let left = member.clone();
        let (key, comm) = (process.key, process.comm);
        // Before what it leaves may be retired.
        self.tell_placed(key, comm, to, first, effects);
        if let Some(to) = to {
            let forked_inside = self
                .processes
                .get(&parent)
                .is_some_and(|parent| parent.slot == Some(to));
            let member = Member {
                forked_inside,
                ..member
            };
            self.slots.join(to, member.clone(), now, effects);
            // Ended before anybody had named its container: it was there all the same.
            if gone {
                self.processes.get_mut(&tgid).map(|process| process.slot.take());
                self.tell_exited(key, comm, Some(to), effects);
                self.slots.leave(to, member, now, effects);
            }
        }
        // Last: room that this makes may be made of the other.
        if let Some(from) = from {
            self.slots.leave(from, left, now, effects);
        }
    }

    fn tell_placed(&self, process: ProcKey, comm: Comm, to: Option<SlotId>, first: bool, effects: &mut Effects) {
        self.slots.tell(effects, || match self.slots.name(to) {
            Some(container) if first => Lifecycle::ProcessStarted {
                process,
                comm,
                container,
            },
            container => Lifecycle::ProcessMoved {
                process,
                comm,
                container,
            },
        });
    }

    fn tell_exited(&self, process: ProcKey, comm: Comm, from: Option<SlotId>, effects: &mut Effects) {
        self.slots.tell(effects, || Lifecycle::ProcessExited {
            process,
            comm,
            container: self.slots.name(from),
        });
    }

    pub(super) fn target(&mut self, tgid: u32, now: Now, effects: &mut Effects) -> Target {
        let Some(process) = self.processes.get(&tgid) else {
            return Target::Nowhere(Reason::Ignored);
        };
        let (key, comm, cgroup, path) = (process.key, process.comm, process.cgroup, process.path.clone());
        let unified = self.unified(process);
        let owner = match (unified, path) {
            (Some(cgroup), path) => self.owner_of_cgroup(cgroup, path, key, now, effects),
            (None, Some(path)) => Some(self.owner_of_path(&path)),
            (None, None) => {
                effects.asks.push(Ask::Process { process: key });
                None
            }
        };
        match owner {
            Some(owner) => {
                let of = (key, cgroup.unwrap_or(self.node.root_cgroup));
                self.target_of(&owner, of, &comm, now, effects)
            }
            None => Target::Unnamed,
        }
    }

    /// The cgroup that says where it is placed, unless only /proc does.
    pub(super) fn unified(&self, process: &Process) -> Option<CgroupId> {
        process
            .cgroup
            .filter(|cgroup| *cgroup != self.node.root_cgroup && cgroup.0 != 0)
    }

    pub(super) fn owner_of_cgroup(
        &mut self,
        cgroup: CgroupId,
        path: Option<Arc<str>>,
        process: ProcKey,
        now: Now,
        effects: &mut Effects,
    ) -> Option<identity::Owner> {
        let learned = path.as_ref().map(|path| self.owner_of_path(path));
        let entry = self.cgroups.get_or_insert_with(cgroup, Cgroup::default);
        let Some(entry) = entry else { return learned };
        if entry.owner.is_none() && learned.is_some() {
            entry.owner = learned;
            entry.path = path;
        }
        if entry.owner.is_none() {
            if entry.asked_ns.is_none() {
                entry.asked_ns = Some(now.monotonic_ns);
                let tgid = process.tgid;
                effects.asks.push(Ask::Cgroup { cgroup, tgid });
            }
            self.waiting.entry(cgroup).or_default().insert(process);
        }
        entry.owner.clone()
    }

    pub(super) fn owner_of_path(&mut self, path: &Arc<str>) -> identity::Owner {
        const CACHED: usize = 10_000;
        if let Some(owner) = self.owners.get(path) {
            return owner.clone();
        }
        let owner = identity::owner(path);
        self.names.met(&owner, path);
        if self.owners.len() >= CACHED {
            self.owners.clear();
        }
        self.owners.insert(Arc::clone(path), owner.clone());
        owner
    }

    pub(super) fn target_of(
        &mut self,
        owner: &identity::Owner,
        of: Awaited,
        comm: &Comm,
        now: Now,
        effects: &mut Effects,
    ) -> Target {
        match owner {
            identity::Owner::Ignored(_) => return Target::Nowhere(Reason::Ignored),
            identity::Owner::Container(id) | identity::Owner::Perhaps(id) => {
                let perhaps = matches!(owner, identity::Owner::Perhaps(_));
                if let Some(target) = self.target_of_path(id, perhaps, of, now, effects) {
                    return target;
                }
            }
            identity::Owner::Standalone => {}
        }
        let Some(id) = self.standalone_id(comm, of.0.tgid) else {
            return Target::Nowhere(Reason::StandaloneOff);
        };
        if self.slots.of_id(&id).is_none() && self.settings.filters.allows(&id, None) != Verdict::Shown {
            return Target::Nowhere(Reason::Filtered);
        }
        match self.slots.of_container(&id, false, now, effects) {
            Ok(slot) => Target::Slot(slot),
            Err(reason) => Target::Nowhere(reason),
        }
    }
}

impl RegistryState {
    /// `None`: bare processes are left out.
    pub(super) fn standalone_id(&self, comm: &Comm, tgid: u32) -> Option<ContainerId> {
        let mode = self.settings.standalone;
        (mode != Standalone::Off).then(|| identity::standalone_id(comm, tgid, mode == Standalone::PerProcess))
    }
}

impl Process {
    pub(super) fn new(owner: &Owner) -> Self {
        Self {
            key: owner.process,
            parent_tgid: 0,
            comm: owner.comm,
            cgroup: Some(owner.cgroup),
            path: None,
            slot: None,
            application: None,
            unread_ns: None,
            placed: false,
            exited_ns: None,
            unconfirmed: false,
        }
    }

    pub(super) fn member(&self, forked_inside: bool) -> Member {
        Member {
            start_ns: self.key.start_ns,
            application: self.application.clone(),
            forked_inside,
        }
    }

    /// A path was true for the cgroup the process was in.
    pub(super) fn enter(&mut self, cgroup: CgroupId) {
        if self.cgroup.is_some_and(|old| old != cgroup) {
            self.path = None;
        }
        self.cgroup = Some(cgroup);
    }
}

/// Start times from /proc are cut to ticks. Two that are not, are of different processes: whoever chooses pids (clone3 does
/// if told to) may give one twice within a tick.
pub(super) fn same_start(a: u64, b: u64) -> bool {
    let cut = |ns: u64| ns.is_multiple_of(TICK_NS);
    a == b || ((cut(a) || cut(b)) && a / TICK_NS == b / TICK_NS)
}
