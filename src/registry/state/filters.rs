//! Other filters, while everything goes on.
//!
//! | the container | was shown | was hidden |
//! | --- | --- | --- |
//! | is to be shown | nothing changes, but for single signals | its processes come at once, its sockets with the next pass |
//! | is to be hidden | it goes with all it had | nothing changes |
//!
//! Of a socket that was open while nobody wanted to see it, what it did meanwhile is not counted: it is taken over, as from a
//! predecessor.
use super::{
    RegistryState,
    names::{Hidden, Names, Naming, filtered},
};
use crate::{
    base::{ids::ContainerId, now::Now},
    registry::{
        effects::{Effects, SlotId},
        filters::{Filters, Verdict},
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// How those stand who go by a name. The last of them has the say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Hidden,
    Asked,
    Late,
    Shown,
}

impl RegistryState {
    pub fn set_filters(&mut self, filters: Arc<Filters>, now: Now) -> Effects {
        let mut effects = Effects::default();
        if *filters == *self.settings.filters {
            return effects;
        }
        self.settings.filters = Arc::clone(&filters);
        let standings = self.names.filter(&filters);
        let (mut hidden, mut unveiled) = (BTreeSet::new(), Vec::new());
        for (slot, entry) in self.slots.iter() {
            let Some(id) = &entry.id else { continue };
            // Of one whose name has been forgotten, or who never had any but this.
            let shown = || filters.allows(id, None) == Verdict::Shown;
            let goes = match standings.get(id) {
                Some(Standing::Shown) => false,
                Some(Standing::Hidden) => true,
                // It has another name to come: what was counted under this one goes, and what comes is kept for that.
                Some(Standing::Asked | Standing::Late) => !entry.veiled && !shown(),
                None => !shown(),
            };
            if goes {
                hidden.insert(slot);
            } else if entry.veiled && standings.get(id) == Some(&Standing::Late) && shown() {
                unveiled.push((slot, id.clone()));
            }
        }
        self.hide(&hidden, &mut effects);
        for (slot, id) in unveiled {
            if self.slots.unveil(slot, &mut effects) {
                self.tell_identified(Some(id), slot, None, &mut effects);
            }
        }
        for slot in self.slots.set_filters(&filters, now, &mut effects) {
            self.forget_sockets(slot);
        }
        self.place_all(now, &mut effects);
        effects
    }

    /// What it listened on, and what only an inventory has shown, it will be told of anew.
    fn forget_sockets(&mut self, slot: SlotId) {
        if self.slots.carries(slot).tcp {
            return;
        }
        self.found.retain(|_, found| *found != slot);
        for namespace in self.namespaces.values_mut() {
            namespace.told.remove(&slot);
        }
    }

    /// Whoever lives and is nowhere. The oldest first, as they came: the order tells what a restart is.
    fn place_all(&mut self, now: Now, effects: &mut Effects) {
        let nowhere = self
            .processes
            .iter()
            .filter(|(_, process)| process.slot.is_none() && process.exited_ns.is_none());
        let mut nowhere: Vec<(u64, u32)> = nowhere.map(|(tgid, process)| (process.key.start_ns, *tgid)).collect();
        nowhere.sort_unstable();
        for (_, tgid) in nowhere {
            self.named(tgid, now, effects);
        }
    }
}

impl Names {
    /// Judges all by other filters, and says how it stands with each name.
    fn filter(&mut self, filters: &Filters) -> HashMap<ContainerId, Standing> {
        let mut standings: HashMap<ContainerId, Standing> = HashMap::new();
        let paths: Vec<ContainerId> = self.entries.keys().cloned().collect();
        for path_id in paths {
            let Some(entry) = self.entries.get(&path_id) else {
                continue;
            };
            let (rule, metadata) = (entry.rule, entry.metadata.clone());
            let judge = |id: &ContainerId, named| filtered(filters, id.clone(), named, metadata.as_deref());
            let naming = match &entry.naming {
                Naming::Name(id) => judge(id, true),
                // Of bare processes, who knows its name is not asked.
                Naming::Path if entry.perhaps && metadata.is_none() => continue,
                Naming::Path => judge(&path_id, false),
                Naming::Hidden(Hidden::Filtered { id, named }) => judge(id, *named),
                naming => naming.clone(),
            };
            let standing = match &naming {
                Naming::Hidden(Hidden::Filtered { id, .. }) => Some((id.clone(), Standing::Hidden)),
                Naming::Hidden(Hidden::Ignored(_)) => None,
                Naming::Name(id) => Some((id.clone(), Standing::Shown)),
                _ if entry.perhaps => None,
                Naming::Path => Some((path_id.clone(), Standing::Shown)),
                Naming::Late => Some((path_id.clone(), Standing::Late)),
                Naming::Unasked | Naming::Asked(_) => Some((path_id.clone(), Standing::Asked)),
            };
            if let Some((id, standing)) = standing {
                let of_all = standings.entry(id).or_insert(standing);
                *of_all = standing.max(*of_all);
            }
            self.set(&path_id, rule, naming, metadata);
        }
        standings
    }
}
