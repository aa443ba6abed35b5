//! Cgroups get their names, and with them the processes that waited.
use super::{Cgroup, RegistryState, Target};
use crate::{
    base::{
        ids::{CgroupId, ProcKey},
        now::Now,
    },
    decode::CgroupEvent,
    registry::{
        effects::{Answer, Effects},
        identity::{self, CgroupFile},
        slots::Awaited,
    },
};
use std::sync::Arc;
use tarsier_common::kind;

impl RegistryState {
    pub(super) fn cgroup_made(&mut self, event: CgroupEvent, now: Now, effects: &mut Effects) {
        effects.outcome.delivered.add(kind::CGROUP_MADE, 1);
        let Some(path) = event.path else { return };
        let file = CgroupFile {
            unified: Some(path),
            ..CgroupFile::default()
        };
        let path = identity::placement(&file, &self.cgroup_root).path;
        if !self.node.legacy_hierarchies {
            return self.cgroup_named(event.cgroup, Some(path), now, effects);
        }
        // The path in the unified hierarchy is half the truth, and all there is once the processes are gone.
        let owner = self.owner_of_path(&path);
        if let Some(entry) = self.cgroups.get_or_insert_with(event.cgroup, Cgroup::default) {
            entry.by_path = Some(owner);
            entry.path.get_or_insert(path);
        }
    }

    pub(super) fn cgroup_removed(&mut self, event: &CgroupEvent, now: Now, effects: &mut Effects) {
        effects.outcome.delivered.add(kind::CGROUP_GONE, 1);
        if let Some(cgroup) = self.cgroups.get_mut(&event.cgroup) {
            cgroup.removed_ns = Some(now.monotonic_ns);
        }
    }

    pub(super) fn cgroup_named(&mut self, cgroup: CgroupId, path: Option<Arc<str>>, now: Now, effects: &mut Effects) {
        let owner = path.as_ref().map(|path| self.owner_of_path(path));
        let entry = self.cgroups.get_or_insert_with(cgroup, Cgroup::default);
        // A second question, asked when it was gone, takes nothing back.
        let known = |entry: &Cgroup| entry.by_path.clone().or_else(|| entry.owner.clone());
        let owner = owner.or_else(|| entry.as_deref().and_then(known));
        if let Some(entry) = entry {
            entry.asked_ns = None;
            entry.owner = owner.clone();
            entry.path = path.or_else(|| entry.path.take());
        }
        for waiting in self.waiting.remove(&cgroup).unwrap_or_default() {
            let of_cgroup = owner.clone().unwrap_or(identity::Owner::Standalone);
            self.settle((waiting, cgroup), &of_cgroup, now, effects);
            let Some(process) = self.known(waiting).filter(|process| process.cgroup == Some(cgroup)) else {
                continue;
            };
            if owner.is_none() {
                // Nobody could name its cgroup any more: it stands for itself.
                process.path = Some("/".into());
                process.cgroup = None;
            }
            self.named(waiting.tgid, now, effects);
        }
        self.sums_named(cgroup, now, effects);
    }

    /// Sums that only a cgroup is known of.
    pub(super) fn sums_named(&mut self, cgroup: CgroupId, now: Now, effects: &mut Effects) {
        let (named, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sums)
            .into_iter()
            .partition(|sum| sum.cgroup == cgroup);
        self.sums = rest;
        let known = self.cgroups.get(&cgroup).and_then(|entry| entry.owner.clone());
        // Nobody can name it any more: under the names of their processes.
        let owner = known.unwrap_or(identity::Owner::Standalone);
        for sum in named {
            let nobody = ProcKey { tgid: 0, start_ns: 0 };
            let slot = match self.target_of(&owner, (nobody, cgroup), &sum.comm, now, effects) {
                Target::Slot(slot) => Some(slot),
                Target::Unnamed => {
                    self.sums.push(sum);
                    continue;
                }
                Target::Nowhere(_) => None,
            };
            self.route_kept_sum(slot, sum, now, effects);
        }
    }

    /// A process that waited for its container's name has it now.
    pub(super) fn named(&mut self, tgid: u32, now: Now, effects: &mut Effects) {
        let Some(process) = self.processes.get(&tgid) else {
            return;
        };
        let of = (process.key, process.cgroup.unwrap_or(self.node.root_cgroup));
        let to = match self.target(tgid, now, effects) {
            Target::Unnamed => return,
            Target::Slot(slot) => Some(slot),
            Target::Nowhere(_) => None,
        };
        // First what it did: a process that has ended leaves nothing behind where there is nothing.
        self.slots.settle(of, to, now, effects);
        self.place(tgid, now, effects);
    }

    /// The process may be elsewhere by now, or gone, or its pid another's: what it did there is somebody's all the same.
    pub(super) fn settle(&mut self, of: Awaited, owner: &identity::Owner, now: Now, effects: &mut Effects) {
        let Some(comm) = self.slots.awaited(of) else { return };
        let to = match self.target_of(owner, of, &comm, now, effects) {
            Target::Slot(slot) => Some(slot),
            // Whether it is a container is still to be told.
            Target::Unnamed => return,
            Target::Nowhere(_) => None,
        };
        self.slots.settle(of, to, now, effects);
    }

    pub fn answer(&mut self, answer: Answer, now: Now) -> Effects {
        let root = self.node.root_cgroup;
        let mut effects = Effects::default();
        match answer {
            Answer::Cgroup { cgroup, path } => self.cgroup_named(cgroup, path, now, &mut effects),
            Answer::Process { process, path } => {
                let owner = path.as_ref().map(|path| self.owner_of_path(path));
                if let Some(known) = self.known(process) {
                    // Gone before anybody looked: it stands for itself, unless it is known where it went meanwhile.
                    let elsewhere = known.cgroup.is_some_and(|cgroup| cgroup != root && cgroup.0 != 0);
                    // The news of its start may have come after the question, and with it its parent's place.
                    let path = path.or_else(|| known.path.take());
                    known.path = path.or_else(|| (!elsewhere).then(|| "/".into()));
                    self.named(process.tgid, now, &mut effects);
                }
                let owner = owner.unwrap_or(identity::Owner::Standalone);
                let key = self.known(process).map_or(process, |known| known.key);
                self.settle((key, root), &owner, now, &mut effects);
            }
            Answer::Addresses { netns, ips } => self.addresses(netns, ips, now, &mut effects),
            Answer::Sandbox { container, id } => self.sandbox(&container, id, &mut effects),
            Answer::Runtime { lookup, found } => self.resolved(&lookup, found, now, &mut effects),
            Answer::Application { process, application } => self.application(process, application, now, &mut effects),
        }
        effects
    }
}
