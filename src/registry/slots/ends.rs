//! Slots whose processes are gone, and how they go.
use super::{MAX_LINGERING, Slot, Slots};
use crate::registry::{
    effects::{Effects, SlotId},
    lifecycle::Lifecycle,
};

impl Slots {
    /// A process that did nothing leaves nothing behind.
    pub(super) fn end_if_over(&mut self, slot: SlotId, effects: &mut Effects) {
        let Some(entry) = self.slots.get(&slot) else { return };
        if entry.is_over() && entry.is_bare() {
            self.retire(slot, effects);
        } else if entry.is_over() {
            self.linger(slot, effects);
        }
    }

    /// Somewhat longer than its processes: when the next one starts, it has been restarted.
    fn linger(&mut self, slot: SlotId, effects: &mut Effects) {
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        if !std::mem::replace(&mut entry.lingers, true) {
            self.lingering.push_back(slot);
        }
        if self.lingering.len() > MAX_LINGERING {
            self.shorten(effects);
        }
    }

    pub(super) fn shorten(&mut self, effects: &mut Effects) {
        let Some(oldest) = self.lingering.pop_front() else {
            return;
        };
        let Some(entry) = self.slots.get_mut(&oldest) else {
            return;
        };
        entry.lingers = false;
        if entry.is_over() {
            self.retire(oldest, effects);
        }
    }

    pub(super) fn remove(&mut self, slot: SlotId) -> Option<Slot> {
        let entry = self.slots.remove(&slot)?;
        if let Some(id) = &entry.id {
            self.by_id.remove(id);
        }
        if entry.sockets > 0 {
            self.sockets.retain(|_, socket| socket.slot != slot);
        }
        Some(entry)
    }

    fn retire(&mut self, slot: SlotId, effects: &mut Effects) -> Option<Slot> {
        let entry = self.remove(slot)?;
        if let Some(id) = &entry.id {
            self.tell(effects, || Lifecycle::ContainerRetired { container: id.clone() });
        }
        Some(entry)
    }

    /// With its actor, if it has one, and all that is known of it.
    pub(in crate::registry) fn drop_slot(&mut self, slot: SlotId, effects: &mut Effects) {
        if let Some(entry) = self.retire(slot, effects)
            && !matches!(entry.place, super::Place::Held(_))
        {
            effects.reaps.push(slot);
        }
    }
}
