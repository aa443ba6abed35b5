//! Slots get their names from the runtimes, sometimes late, and sometimes one that another slot has already.
use super::{Place, Slots};
use crate::{
    base::{ids::ContainerId, now::Now},
    container::state::{ContainerEvent, ContainerState},
    registry::effects::{Effects, SlotId},
};

/// Which of two slots that have turned out to be one container is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Absorbed {
    /// The older.
    Into,
    /// The newer, because it has an actor and the older has none.
    From,
}

impl Slots {
    pub(in crate::registry) fn of_id(&self, id: &ContainerId) -> Option<SlotId> {
        self.by_id.get(id).copied()
    }

    /// Nobody is to see it until it has its name.
    pub(in crate::registry) fn veil(&mut self, slot: SlotId) {
        if let Some(entry) = self.slots.get_mut(&slot) {
            entry.veiled = true;
        }
    }

    pub(in crate::registry) fn unveil(&mut self, slot: SlotId, effects: &mut Effects) {
        if let Some(entry) = self.slots.get_mut(&slot) {
            entry.veiled = false;
            self.spawn_if_due(slot, effects);
        }
    }

    pub(in crate::registry) fn rename(&mut self, slot: SlotId, id: &ContainerId, effects: &mut Effects) {
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        if let Some(old) = entry.id.replace(id.clone()) {
            self.by_id.remove(&old);
        }
        self.by_id.insert(id.clone(), slot);
        if entry.spawned {
            effects.renames.push((slot, id.clone()));
        }
    }

    /// Two slots are one container: `newer` goes by the name of `older` from now on.
    pub(in crate::registry) fn absorb(
        &mut self,
        newer: SlotId,
        older: SlotId,
        now: Now,
        effects: &mut Effects,
    ) -> Absorbed {
        let runs = |slot: &SlotId| {
            let place = self.slots.get(slot).map(|entry| &entry.place);
            matches!(place, Some(Place::Running))
        };
        let kept = if runs(&newer) && !runs(&older) {
            Absorbed::From
        } else {
            Absorbed::Into
        };
        let (from, into) = match kept {
            Absorbed::Into => (newer, older),
            Absorbed::From => (older, newer),
        };
        let Some(gone) = self.slots.remove(&from) else {
            return kept;
        };
        if let Some(id) = &gone.id {
            self.by_id.remove(id);
        }
        for (_, socket) in self.sockets.iter_mut() {
            if socket.slot == from {
                socket.slot = into;
            }
        }
        let Some(entry) = self.slots.get_mut(&into) else {
            return kept;
        };
        let restarted = match kept {
            Absorbed::Into => entry.restarts.follow(&gone.restarts),
            Absorbed::From => {
                let newer = std::mem::replace(&mut entry.restarts, gone.restarts);
                entry.restarts.follow(&newer)
            }
        };
        entry.processes += gone.processes;
        entry.sockets += gone.sockets;
        entry.has_news |= gone.has_news;
        entry.veiled = false;
        entry.since_ns = entry.since_ns.min(gone.since_ns);
        entry.zombie_since_ns = if entry.processes > 0 {
            None
        } else {
            entry.zombie_since_ns.max(gone.zombie_since_ns)
        };
        match (gone.place, &mut entry.place) {
            (Place::Held(state) | Place::Spawning(state), Place::Held(held) | Place::Spawning(held)) => {
                held.absorb(*state);
            }
            (Place::Held(state) | Place::Spawning(state), Place::Running) => effects.absorbs.push((into, state)),
            (Place::Running, place) => {
                // What happens until the actor has handed over what it has must not come before that.
                *place = Place::Spawning(Box::new(ContainerState::new(self.limits)));
                self.handing_over.insert(from, into);
                effects.hand_overs.push((from, into));
            }
        }
        if let (Absorbed::From, Some(id)) = (kept, gone.id) {
            self.rename(into, &id, effects);
        }
        if restarted {
            self.route(into, ContainerEvent::Restarted, None, now, effects);
        }
        self.spawn_if_due(into, effects);
        kept
    }

    /// The actor has given what it had to the other one, or died.
    pub(in crate::registry) fn handed_over(&mut self, from: SlotId, effects: &mut Effects) {
        let Some(into) = self.handing_over.remove(&from) else {
            return;
        };
        if let Some(id) = self.slots.get(&into).and_then(|entry| entry.id.clone()) {
            effects.reaps.push((from, id));
        }
        self.running(into, effects);
    }

    /// With its actor, if it has one.
    pub(in crate::registry) fn drop_slot(&mut self, slot: SlotId, effects: &mut Effects) {
        if let Some(entry) = self.remove(slot)
            && let (Some(id), true) = (entry.id, !matches!(entry.place, Place::Held(_)))
        {
            effects.reaps.push((slot, id));
        }
    }
}
