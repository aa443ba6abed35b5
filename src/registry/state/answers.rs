//! A runtime says what a container is called, perhaps not for the first time.
//!
//! | it was | and is now | |
//! | --- | --- | --- |
//! | the only one of its name | called otherwise | its slot gets the name, with all it has |
//! | the only one of its name | called as another is | the two become one: a restart, if it is the younger |
//! | the only one of its name | nobody's wish to see | it goes, with all it had |
//! | one of several | called otherwise, or hidden | its processes go, what was counted stays |
//! | hidden, or taken for bare processes | a container | its processes come |
use super::{
    RegistryState,
    names::{Hidden, Naming, filtered},
};
use crate::{
    base::{ids::ContainerId, now::Now},
    container::state::ContainerEvent,
    registry::{
        effects::{Effects, SlotId},
        identity::{self, Named, Owner},
        lifecycle::Lifecycle,
        slots::Merged,
    },
    runtimes::{Found, Lookup, Runtime},
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

impl RegistryState {
    pub(super) fn resolved(&mut self, lookup: &Lookup, found: Found, now: Now, effects: &mut Effects) {
        for path_id in self.names.paths_of(lookup) {
            self.answered(&path_id, &found, now, effects);
        }
    }

    fn answered(&mut self, path_id: &ContainerId, found: &Found, now: Now, effects: &mut Effects) {
        let filters = &self.settings.filters;
        let (rule, naming, metadata) = match found {
            // The deadline decides.
            Found::Unanswered => return,
            // What was known stays known when the runtime has forgotten it: its last events are still to come.
            Found::Nobody if self.names.is_known(path_id) => return,
            Found::Nobody if self.names.is_perhaps(path_id) => (None, Naming::Path, None),
            Found::Nobody => (None, filtered(filters, path_id.clone(), false, None), None),
            Found::Known(metadata) => {
                let (rule, named) = identity::named_by(path_id, metadata, now.wall_ns / 1_000_000_000);
                let naming = match named {
                    Named::Ignored(reason) => Naming::Hidden(Hidden::Ignored(reason)),
                    Named::Unchanged => filtered(filters, path_id.clone(), false, Some(metadata)),
                    Named::Container(id) => filtered(filters, id, true, Some(metadata)),
                };
                (rule, naming, Some(Arc::clone(metadata)))
            }
        };
        let (before, alone) = (self.names.current(path_id), self.names.is_alone(path_id));
        let waited = self.names.is_asked(path_id);
        let runtime = metadata.as_ref().map(|metadata| metadata.runtime);
        let first_known = metadata.is_some() && !self.names.is_known(path_id);
        self.names.set(path_id, rule, naming, metadata.clone());
        let after = self.names.current(path_id);
        if before != after {
            let slot = before.as_ref().and_then(|id| self.slots.of_id(id));
            match (slot.filter(|_| alone), &after) {
                (Some(slot), None) => self.hide(&BTreeSet::from([slot]), effects),
                (Some(slot), Some(id)) => self.called((slot, runtime), id, path_id, now, effects),
                // Those who wait are told below; others may have joined who has had this name.
                (None, _) if waited && self.names.is_perhaps(path_id) => {}
                (None, _) => self.transfer(path_id, now, effects),
            }
        }
        // It may have been told what is true of the one that went.
        if let (false, Some(before)) = (alone, &before)
            && let (Some(slot), Some(metadata)) = (self.slots.of_id(before), self.names.metadata(before))
        {
            self.slots
                .route(slot, ContainerEvent::Described(metadata), None, now, effects);
        }
        self.release(path_id, now, effects);
        if let Some(slot) = after.as_ref().and_then(|id| self.slots.of_id(id)) {
            if let Some(metadata) = metadata {
                let described = ContainerEvent::Described(metadata);
                self.slots.route(slot, described, None, now, effects);
            }
            let veiled = self.slots.unveil(slot, effects);
            if before == after && (veiled || first_known) {
                self.tell_identified(before, slot, runtime, effects);
            }
        }
    }

    pub(super) fn tell_identified(
        &self,
        was: Option<ContainerId>,
        slot: SlotId,
        runtime: Option<Runtime>,
        effects: &mut Effects,
    ) {
        if let (Some(was), Some(container)) = (was, self.slots.name(Some(slot))) {
            self.slots.tell(effects, || Lifecycle::ContainerIdentified {
                container,
                was,
                runtime,
            });
        }
    }

    /// `runtime`: who says so.
    fn called(
        &mut self,
        (slot, runtime): (SlotId, Option<Runtime>),
        id: &ContainerId,
        path_id: &ContainerId,
        now: Now,
        effects: &mut Effects,
    ) {
        let was = self.slots.name(Some(slot));
        let other = self.slots.of_id(id).filter(|other| *other != slot);
        let Some(other) = other else {
            self.slots.rename(slot, id, now, effects);
            return self.tell_identified(was, slot, runtime, effects);
        };
        let Some(Merged { gone, kept }) = self.slots.merge(slot, other, now, effects) else {
            return self.transfer(path_id, now, effects);
        };
        self.tell_identified(was, kept, runtime, effects);
        for process in self.processes.values_mut() {
            if process.slot == Some(gone) {
                process.slot = Some(kept);
            }
        }
        for found in self.found.values_mut() {
            if *found == gone {
                *found = kept;
            }
        }
        self.holders.rename(gone, kept);
        for namespace in self.namespaces.values_mut() {
            if namespace.told.remove(&gone) {
                // It knows the addresses by what it gets from the other.
                namespace.told.insert(kept);
            }
        }
    }

    /// Nobody wants to see them.
    pub(super) fn hide(&mut self, slots: &BTreeSet<SlotId>, effects: &mut Effects) {
        if slots.is_empty() {
            return;
        }
        for process in self.processes.values_mut() {
            process.slot = process.slot.filter(|slot| !slots.contains(slot));
        }
        self.found.retain(|_, found| !slots.contains(found));
        self.slots.drop_all(slots, effects);
    }

    /// Its processes are another's from now on, or nobody's any more, or somebody's now.
    fn transfer(&mut self, path_id: &ContainerId, now: Now, effects: &mut Effects) {
        let tgids: HashSet<u32> = self
            .processes
            .iter()
            .filter(|(_, process)| self.is_of(process, path_id))
            .map(|(tgid, _)| *tgid)
            .collect();
        self.slots.let_go(&tgids, now, effects);
        for tgid in tgids {
            self.place(tgid, now, effects);
        }
    }

    fn is_of(&self, process: &super::Process, path_id: &ContainerId) -> bool {
        let is = |owner: &Owner| matches!(owner, Owner::Container(id) | Owner::Perhaps(id) if id == path_id);
        match (self.unified(process), &process.path) {
            (Some(cgroup), _) => {
                let owner = self.cgroups.get(&cgroup).and_then(|cgroup| cgroup.owner.as_ref());
                owner.is_some_and(is)
            }
            (None, Some(path)) => is(&identity::owner(path)),
            (None, None) => false,
        }
    }

    /// Those who waited to learn whether they are in a container have been told.
    pub(super) fn release(&mut self, path_id: &ContainerId, now: Now, effects: &mut Effects) {
        let owner = Owner::Perhaps(path_id.clone());
        let mut cgroups = BTreeSet::new();
        for of in self.names.take_waiting(path_id) {
            self.settle(of, &owner, now, effects);
            let root = self.node.root_cgroup;
            let there = |process: &&mut super::Process| process.cgroup.unwrap_or(root) == of.1;
            if self.known(of.0).filter(there).is_some() {
                self.named(of.0.tgid, now, effects);
            }
            cgroups.insert(of.1);
        }
        for cgroup in cgroups {
            self.sums_named(cgroup, now, effects);
        }
    }
}
