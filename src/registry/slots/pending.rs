//! Slots of processes whose container nobody has named yet.
use super::{Awaited, Pending, Place, Slots};
use crate::{
    base::{ledger::Reason, now::Now},
    decode::Comm,
    registry::effects::{Effects, SlotId},
};

impl Slots {
    /// The slot of a process whose container nobody has named yet.
    pub(in crate::registry) fn of_process(&mut self, of: Awaited, comm: Comm, now: Now) -> Result<SlotId, Reason> {
        if let Some(slot) = self.by_process.get(&of) {
            return Ok(*slot);
        }
        if self.by_process.len() >= self.max_pending {
            self.rejected_pending += 1;
            return Err(Reason::PendingFull);
        }
        let pending = Pending {
            of,
            since_ns: now.monotonic_ns,
            comm,
        };
        let slot = self.add(None, Some(pending), now);
        self.by_process.insert(of, slot);
        Ok(slot)
    }

    /// What the process was called that is waited for.
    pub(in crate::registry) fn awaited(&self, of: Awaited) -> Option<Comm> {
        let slot = self.slots.get(self.by_process.get(&of)?)?;
        slot.pending.map(|pending| pending.comm)
    }

    pub(in crate::registry) fn overdue(&self, before_ns: u64) -> Vec<Awaited> {
        let pending = self.slots.values().filter_map(|slot| slot.pending);
        pending
            .filter(|pending| pending.since_ns < before_ns)
            .map(|pending| pending.of)
            .collect()
    }

    /// The name is there: the pending state becomes, or is merged into, the container's. Without a target it goes.
    pub(in crate::registry) fn settle(&mut self, of: Awaited, target: Option<SlotId>, now: Now, effects: &mut Effects) {
        let Some(pending) = self.by_process.remove(&of) else {
            return;
        };
        let Some(slot) = self.slots.remove(&pending) else {
            return;
        };
        let (Place::Held(mut state) | Place::Spawning(mut state)) = slot.place else {
            return;
        };
        let target = target.filter(|target| self.slots.contains_key(target));
        let heir = target.filter(|target| self.carries(*target).tcp);
        let mut left = slot.sockets;
        for socket in state.sockets() {
            let Some(entry) = self.sockets.get_mut(&socket).filter(|entry| entry.slot == pending) else {
                continue;
            };
            left = left.saturating_sub(1);
            match heir {
                Some(target) => entry.slot = target,
                None => drop(self.sockets.remove(&socket)),
            }
        }
        if left > 0 {
            // For those the state had no room.
            self.sockets.retain(|_, socket| {
                let was = socket.slot == pending;
                if let (true, Some(target)) = (was, heir) {
                    socket.slot = target;
                }
                !was || heir.is_some()
            });
        }
        let Some(target) = target else { return };
        let Some(into) = self.slots.get_mut(&target) else {
            return;
        };
        if heir.is_some() {
            into.sockets += slot.sockets;
        }
        state.keep(into.carries);
        into.has_news |= slot.has_news;
        into.since_ns = into.since_ns.min(slot.since_ns);
        match &mut into.place {
            Place::Held(held) | Place::Spawning(held) => held.absorb(*state),
            Place::Running | Place::Merging(_) => effects.absorbs.push((target, state)),
        }
        self.mark_zombie(target, now);
        self.spawn_if_due(target, effects);
    }
}
