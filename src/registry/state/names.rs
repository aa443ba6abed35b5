//! What the runtimes call the containers that the cgroup paths only number.
//!
//! | the runtime | the container is shown |
//! | --- | --- |
//! | knows it | under that name, or not at all if nobody wants to see such a one |
//! | knows nothing of it, or there is none | under what its path says |
//! | has not answered yet | not yet |
//! | has not answered for some seconds | under what its path says, until it does: then under its name, with all it has |
use super::{RegistryState, Target};
use crate::{
    base::{ids::ContainerId, ledger::Reason, now::Now},
    container::state::ContainerEvent,
    registry::{
        effects::{Effects, SlotId},
        filters::Verdict,
        identity::{self, Named},
        slots::Absorbed,
    },
    runtimes::{Found, Lookup, metadata::Metadata},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Then it is shown under what its path says.
const NAME_DEADLINE_NS: u64 = 5_000_000_000;

#[derive(Debug)]
enum Naming {
    /// Since then.
    Asked(u64),
    Late,
    Path,
    Name(ContainerId),
    Hidden,
}

#[derive(Debug)]
struct Entry {
    lookup: Lookup,
    naming: Naming,
    metadata: Option<Arc<Metadata>>,
}

/// By what the path says.
#[derive(Debug, Default)]
pub(super) struct Names {
    entries: HashMap<ContainerId, Entry>,
    by_lookup: HashMap<Lookup, ContainerId>,
    /// Whom nobody has asked for yet.
    lookups: HashMap<ContainerId, Lookup>,
}

impl Names {
    /// Containers whose cgroup may be met again.
    pub(super) const MAX_LOOKUPS: usize = 65_536;

    /// A path names a container that somebody may know.
    pub(super) fn met(&mut self, id: &ContainerId, path: &str) {
        if self.lookups.contains_key(id) || self.lookups.len() >= Self::MAX_LOOKUPS {
            return;
        }
        if let Some(lookup) = identity::lookup(path) {
            self.lookups.insert(id.clone(), lookup);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn current(&self, path_id: &ContainerId) -> Option<ContainerId> {
        match &self.entries.get(path_id)?.naming {
            Naming::Name(name) => Some(name.clone()),
            Naming::Hidden => None,
            Naming::Asked(_) | Naming::Late | Naming::Path => Some(path_id.clone()),
        }
    }
}

impl RegistryState {
    /// The slot of a container by what its path says.
    pub(super) fn named_target(&mut self, path_id: &ContainerId, now: Now, effects: &mut Effects) -> Target {
        if self.settings.runtimes
            && !self.names.entries.contains_key(path_id)
            && let Some(lookup) = self.names.lookups.get(path_id)
        {
            let entry = Entry {
                lookup: lookup.clone(),
                naming: Naming::Asked(now.monotonic_ns),
                metadata: None,
            };
            self.names.by_lookup.insert(lookup.clone(), path_id.clone());
            effects.resolves.push(lookup.clone());
            self.names.entries.insert(path_id.clone(), entry);
        }
        let (id, asked, metadata) = match self.names.entries.get(path_id) {
            None => (path_id, false, None),
            Some(entry) => match &entry.naming {
                Naming::Hidden => return Target::Nowhere(Reason::Filtered),
                Naming::Name(name) => (name, false, entry.metadata.clone()),
                Naming::Asked(_) => (path_id, true, None),
                Naming::Late | Naming::Path => (path_id, false, entry.metadata.clone()),
            },
        };
        let known = self.slots.of_id(id).is_some();
        let unasked = !self.names.entries.contains_key(path_id);
        if !known && unasked && self.settings.filters.allows(id, None) != Verdict::Shown {
            return Target::Nowhere(Reason::Filtered);
        }
        match self.slots.of_container(id, now) {
            Ok(slot) => {
                if !known && asked {
                    self.slots.veil(slot);
                }
                if let (false, Some(metadata)) = (known, metadata) {
                    let described = ContainerEvent::Described(metadata);
                    self.slots.route(slot, described, None, now, effects);
                }
                Target::Slot(slot)
            }
            Err(reason) => Target::Nowhere(reason),
        }
    }

    /// Whoever was asked before has forgotten it.
    pub fn ask_runtimes_again(&self) -> Effects {
        Effects {
            resolves: self.names.by_lookup.keys().cloned().collect(),
            ..Effects::default()
        }
    }

    /// A runtime has answered, perhaps not for the first time.
    pub(super) fn resolved(&mut self, lookup: &Lookup, found: Found, now: Now, effects: &mut Effects) {
        let Some(path_id) = self.names.by_lookup.get(lookup).cloned() else {
            return;
        };
        let (naming, metadata) = match found {
            // The deadline decides.
            Found::Unanswered => return,
            Found::Nobody => match self.settings.filters.allows(&path_id, None) {
                Verdict::Shown => (Naming::Path, None),
                Verdict::Hidden(_) => (Naming::Hidden, None),
            },
            Found::Known(metadata) => {
                let naming = match identity::named(&path_id, &metadata, now.wall_ns / 1_000_000_000) {
                    Named::Ignored(_) => Naming::Hidden,
                    Named::Unchanged => self.filtered(path_id.clone(), &metadata, |_| Naming::Path),
                    Named::Container(id) => self.filtered(id, &metadata, Naming::Name),
                };
                (naming, Some(metadata))
            }
        };
        let from = self.names.current(&path_id).and_then(|id| self.slots.of_id(&id));
        let Some(entry) = self.names.entries.get_mut(&path_id) else {
            return;
        };
        // What was known stays known when the runtime has forgotten it: its last events are still to come.
        if metadata.is_none() && entry.metadata.is_some() {
            return;
        }
        entry.naming = naming;
        entry.metadata.clone_from(&metadata);
        let to = self.names.current(&path_id);
        let Some(from) = from else { return };
        match to {
            None => self.hide(from, effects),
            Some(id) => {
                let slot = self.rename(from, &id, now, effects);
                if let Some(metadata) = metadata {
                    let described = ContainerEvent::Described(metadata);
                    self.slots.route(slot, described, None, now, effects);
                }
                self.slots.unveil(slot, effects);
            }
        }
    }

    fn filtered(&self, id: ContainerId, metadata: &Metadata, shown: impl FnOnce(ContainerId) -> Naming) -> Naming {
        match self.settings.filters.allows(&id, Some(metadata)) {
            Verdict::Shown => shown(id),
            Verdict::Hidden(_) => Naming::Hidden,
        }
    }

    /// Says which slot has what the slot had.
    fn rename(&mut self, slot: SlotId, id: &ContainerId, now: Now, effects: &mut Effects) -> SlotId {
        let into = match self.slots.of_id(id) {
            Some(into) if into != slot => into,
            Some(_) => return slot,
            None => {
                self.slots.rename(slot, id, effects);
                return slot;
            }
        };
        // It was here before, in another cgroup: a restart.
        let (from, into) = match self.slots.absorb(slot, into, now, effects) {
            Absorbed::Into => (slot, into),
            Absorbed::From => (into, slot),
        };
        for process in self.processes.values_mut() {
            if process.slot == Some(from) {
                process.slot = Some(into);
            }
        }
        for found in self.found.values_mut() {
            if *found == from {
                *found = into;
            }
        }
        into
    }

    /// Nobody wants to see it.
    fn hide(&mut self, slot: SlotId, effects: &mut Effects) {
        for process in self.processes.values_mut() {
            if process.slot == Some(slot) {
                process.slot = None;
            }
        }
        self.found.retain(|_, found| *found != slot);
        self.slots.drop_slot(slot, effects);
    }

    /// Once a second: who has waited long enough.
    pub(super) fn name_the_late(&mut self, now: Now, effects: &mut Effects) {
        let mut late = Vec::new();
        for (path_id, entry) in &mut self.names.entries {
            if let Naming::Asked(since) = entry.naming
                && now.monotonic_ns.saturating_sub(since) >= NAME_DEADLINE_NS
            {
                entry.naming = Naming::Late;
                late.push(path_id.clone());
            }
        }
        for path_id in late {
            let Some(slot) = self.slots.of_id(&path_id) else {
                continue;
            };
            match self.settings.filters.allows(&path_id, None) {
                Verdict::Shown => self.slots.unveil(slot, effects),
                // Under another name it may be wanted.
                Verdict::Hidden(_) => {}
            }
        }
    }

    /// Names of containers that have no slot, and no cgroup that may bring one.
    pub(super) fn forget_names(&mut self, effects: &mut Effects) {
        let by_cgroups: HashSet<ContainerId> = self
            .cgroups
            .values()
            .flat_map(|cgroup| [&cgroup.owner, &cgroup.by_path])
            .filter_map(|owner| match owner {
                Some(identity::Owner::Container(id)) => Some(id.clone()),
                _ => None,
            })
            .collect();
        let slots = &self.slots;
        let names = &mut self.names;
        let gone: Vec<ContainerId> = names
            .entries
            .iter()
            .filter(|(path_id, entry)| {
                let id = match &entry.naming {
                    Naming::Name(name) => name,
                    _ => *path_id,
                };
                slots.of_id(id).is_none() && !by_cgroups.contains(*path_id)
            })
            .map(|(path_id, _)| path_id.clone())
            .collect();
        for path_id in gone {
            if let Some(entry) = names.entries.remove(&path_id) {
                names.by_lookup.remove(&entry.lookup);
                effects.forgets.push(entry.lookup);
            }
        }
        let entries = &names.entries;
        names
            .lookups
            .retain(|path_id, _| by_cgroups.contains(path_id) || entries.contains_key(path_id));
    }
}
