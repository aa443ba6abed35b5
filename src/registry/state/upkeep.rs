//! Repair, and the passing of time.
use super::{ADDRESSES_EVERY_NS, IDENTITY_DEADLINE_NS, Inventory, KEEP_EXITED_NS, Process, RegistryState, TICK_NS};
use crate::{
    base::{ids::ProcKey, now::Now},
    container::state::ContainerEvent,
    decode::Owner,
    registry::{
        effects::{Ask, Effects, SlotId},
        identity,
        slots::Awaited,
    },
};
use std::{collections::HashSet, sync::Arc};

impl RegistryState {
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
            let root = self.node.root_cgroup;
            if let Some(process) = self.known(found.process) {
                let confirmed = std::mem::take(&mut process.unconfirmed);
                if confirmed {
                    process.exited_ns = None;
                }
                // Known from events, which are newer than this look, except for what only /proc knows.
                let placed_by_proc = process.cgroup.is_none_or(|cgroup| cgroup == root);
                if process.path.is_none() && process.exited_ns.is_none() && placed_by_proc {
                    process.path = Some(Arc::clone(&found.path));
                    self.named(tgid, now, &mut effects);
                } else if confirmed {
                    self.named(tgid, now, &mut effects);
                }
                if confirmed {
                    // A socket spoke of it first, which does not tell what it runs.
                    self.unread(tgid, now, &mut effects);
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
                kernel_thread: false,
            };
            let process = Process {
                path: Some(Arc::clone(&found.path)),
                ..Process::new(&owner)
            };
            if self.add(process, now, &mut effects)
                && let Some(process) = self.processes.get_mut(&tgid)
            {
                process.cgroup = None;
                self.unread(tgid, now, &mut effects);
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
        if let Some(sockets) = &inventory.sockets {
            self.found(sockets, now, &mut effects);
        }
        effects
    }

    /// Once a second.
    pub fn tick(&mut self, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.expire(now.monotonic_ns.saturating_sub(KEEP_EXITED_NS));
        for of in self
            .slots
            .overdue(now.monotonic_ns.saturating_sub(IDENTITY_DEADLINE_NS))
        {
            self.give_up(of, now, &mut effects);
        }
        self.name_the_late(now, &mut effects);
        self.ask_again(now, &mut effects);
        self.ask_for_applications(now, &mut effects);
        let due: Vec<SlotId> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                let age = now.boottime_ns.saturating_sub(slot.since_ns);
                let old = u128::from(age) >= self.settings.min_age.as_nanos();
                slot.processes > 0 && old && !slot.spawned && !slot.veiled
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

    /// An answer that has not come was lost with its question.
    fn ask_again(&mut self, now: Now, effects: &mut Effects) {
        let stale = now.monotonic_ns.saturating_sub(IDENTITY_DEADLINE_NS);
        for (cgroup, waiting) in &self.waiting {
            let Some(entry) = self.cgroups.get_mut(cgroup) else {
                continue;
            };
            if entry.owner.is_none() && entry.asked_ns.is_some_and(|asked| asked < stale) {
                entry.asked_ns = Some(now.monotonic_ns);
                let alive = |key: &&ProcKey| {
                    let process = self.processes.get(&key.tgid);
                    process.is_some_and(|process| process.exited_ns.is_none())
                };
                let whom = waiting.iter().find(alive).or(waiting.iter().next());
                let tgid = whom.map_or(0, |process| process.tgid);
                effects.asks.push(Ask::Cgroup { cgroup: *cgroup, tgid });
            }
        }
    }

    pub(super) fn expire(&mut self, before_ns: u64) {
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
    pub(super) fn give_up(&mut self, of: Awaited, now: Now, effects: &mut Effects) {
        if self.names.waits(of) {
            // It is known whose it may be; what a runtime says of that has a deadline of its own.
            return;
        }
        let (process, cgroup) = of;
        let root = self.node.root_cgroup;
        let there = |known: &&mut Process| known.cgroup.unwrap_or(root) == cgroup;
        if let Some(known) = self.known(process).filter(there) {
            known.path = Some("/".into());
            known.cgroup = None;
            self.named(process.tgid, now, effects);
        }
        self.settle(of, &identity::Owner::Standalone, now, effects);
    }

    /// Ends of sockets were lost in the kernel: what the pass that began then has not seen is gone.
    pub fn sweep(&mut self, before_ns: u64, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.slots.sweep(before_ns);
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
            self.slots.drop_slot(slot, &mut effects);
        }
        let keep_duration = self.settings.keep;
        for (_, state) in self.slots.held_mut() {
            state.collect_garbage(now, keep_duration);
        }
        let before = now.monotonic_ns.saturating_sub(keep);
        self.cgroups
            .retain(|_, cgroup| cgroup.removed_ns.is_none_or(|removed| removed > before));
        self.owners.clear();
        self.forget_names(&mut effects);
        let slots = &self.slots;
        for namespace in self.namespaces.values_mut() {
            namespace.told.retain(|slot| slots.get(*slot).is_some());
        }
        self.namespaces.retain(|_, namespace| !namespace.told.is_empty());
        let (processes, cgroups, slots) = (&self.processes, &self.cgroups, &self.slots);
        self.waiting.retain(|cgroup, waiting| {
            waiting.retain(|key| processes.contains_key(&key.tgid) || slots.awaited((*key, *cgroup)).is_some());
            cgroups.contains_key(cgroup)
        });
        effects
    }
}
