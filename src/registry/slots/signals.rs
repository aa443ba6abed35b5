//! What is collected of each container, which its name decides.
use super::Slots;
use crate::{
    base::now::Now,
    container::{signals::Carries, state::ContainerEvent},
    registry::{
        effects::{Effects, SlotId},
        filters::Filters,
    },
};
use std::{collections::BTreeSet, mem, sync::Arc};

impl Slots {
    pub(in crate::registry) fn carries(&self, slot: SlotId) -> Carries {
        self.slots.get(&slot).map_or(Carries::ALL, |entry| entry.carries)
    }

    /// Says of which more or less is collected than before.
    pub(in crate::registry) fn set_filters(
        &mut self,
        filters: &Arc<Filters>,
        now: Now,
        effects: &mut Effects,
    ) -> Vec<SlotId> {
        self.filters = Arc::clone(filters);
        let mut changed = Vec::new();
        for (slot, entry) in &mut self.slots {
            let Some(id) = &entry.id else { continue };
            let carries = filters.carries(id);
            if mem::replace(&mut entry.carries, carries) != carries {
                changed.push(*slot);
            }
        }
        for slot in &changed {
            self.shed(*slot, now, effects);
        }
        changed
    }

    /// What is not collected of it goes, wherever it has been gathered.
    pub(super) fn shed(&mut self, slot: SlotId, now: Now, effects: &mut Effects) {
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        let carries = entry.carries;
        if carries == Carries::ALL {
            return;
        }
        if !carries.tcp && mem::take(&mut entry.sockets) > 0 {
            self.sockets.retain(|_, socket| socket.slot != slot);
        }
        self.route(slot, ContainerEvent::Keeps(carries), None, now, effects);
    }

    /// All at once: the table of sockets is long.
    pub(in crate::registry) fn drop_all(&mut self, slots: &BTreeSet<SlotId>, effects: &mut Effects) {
        self.sockets.retain(|_, socket| !slots.contains(&socket.slot));
        for slot in slots {
            if let Some(entry) = self.slots.get_mut(slot) {
                entry.sockets = 0;
            }
            self.drop_slot(*slot, effects);
        }
    }
}
