//! Slots get their names from the runtimes, sometimes late, and sometimes one that another slot has already.
//!
//! Two slots that turn out to be one container become one. Where both have an actor, the one that goes gives its state back
//! here, and what happens to the other meanwhile waits: an end must not come before its beginning.
use super::{HandOver, Place, Slots};
use crate::{
    base::{
        ids::{ContainerId, SocketId},
        now::Now,
    },
    container::state::{ContainerEvent, ContainerState},
    registry::effects::{Effects, SlotId},
};
use std::collections::HashSet;

/// Of two slots that have become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) struct Merged {
    pub gone: SlotId,
    pub kept: SlotId,
}

impl Slots {
    pub(in crate::registry) fn of_id(&self, id: &ContainerId) -> Option<SlotId> {
        self.by_id.get(id).copied()
    }

    /// Says whether nobody was to see it until now.
    pub(in crate::registry) fn unveil(&mut self, slot: SlotId, effects: &mut Effects) -> bool {
        let Some(entry) = self.slots.get_mut(&slot) else {
            return false;
        };
        let veiled = std::mem::take(&mut entry.veiled);
        self.spawn_if_due(slot, effects);
        veiled
    }

    pub(in crate::registry) fn rename(&mut self, slot: SlotId, id: &ContainerId, now: Now, effects: &mut Effects) {
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        entry.carries = self.filters.carries(id);
        if let Some(old) = entry.id.replace(id.clone()) {
            self.by_id.remove(&old);
        }
        self.by_id.insert(id.clone(), slot);
        if entry.spawned {
            effects.renames.push((slot, id.clone()));
        }
        self.shed(slot, now, effects);
    }

    /// `newer` goes by the name of `older` from now on. One that has an actor is kept before one that has none. `None`: both
    /// wait for the state of others.
    pub(in crate::registry) fn merge(
        &mut self,
        newer: SlotId,
        older: SlotId,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Merged> {
        let (of_newer, of_older) = (&self.slots.get(&newer)?.place, &self.slots.get(&older)?.place);
        let runs = |place: &Place| matches!(place, Place::Running | Place::Merging(_));
        let keep_newer = match (of_newer, of_older) {
            (Place::Merging(_), Place::Merging(_)) => return None,
            (Place::Merging(_), _) => true,
            _ => runs(of_newer) && !runs(of_older),
        };
        let (gone, kept) = if keep_newer { (older, newer) } else { (newer, older) };
        for (_, socket) in self.sockets.iter_mut() {
            if socket.slot == gone {
                socket.slot = kept;
            }
        }
        for hand_over in self.handing_over.values_mut().filter(|hand_over| hand_over.to == gone) {
            hand_over.to = kept;
        }
        let from = self.remove(gone)?;
        let entry = self.slots.get_mut(&kept)?;
        let restarted = if keep_newer {
            let newer = std::mem::replace(&mut entry.restarts, from.restarts);
            entry.restarts.follow(&newer)
        } else {
            entry.restarts.follow(&from.restarts)
        };
        entry.processes += from.processes;
        entry.sockets += from.sockets;
        entry.has_news |= from.has_news;
        let spawn = from.spawned && !entry.spawned;
        entry.veiled = false;
        entry.since_ns = entry.since_ns.min(from.since_ns);
        entry.zombie_since_ns = if entry.processes > 0 {
            None
        } else {
            entry.zombie_since_ns.max(from.zombie_since_ns)
        };
        match (from.place, &mut entry.place) {
            (Place::Held(state) | Place::Spawning(state), Place::Held(held) | Place::Spawning(held)) => {
                held.absorb(*state);
            }
            (Place::Held(state) | Place::Spawning(state), Place::Running | Place::Merging(_)) => {
                effects.absorbs.push((kept, state));
            }
            (Place::Running | Place::Merging(_), place) => {
                if !matches!(place, Place::Merging(_)) {
                    *place = Place::Merging(Vec::new());
                }
                self.handing_over.insert(gone, HandOver { to: kept, late: false });
                effects.hand_overs.push(gone);
            }
        }
        if let (true, Some(id)) = (keep_newer, from.id) {
            self.rename(kept, &id, now, effects);
        } else {
            self.shed(kept, now, effects);
        }
        if restarted {
            self.route(kept, ContainerEvent::Restarted, None, now, effects);
        }
        if spawn {
            self.spawn(kept, effects);
        }
        self.spawn_if_due(kept, effects);
        Some(Merged { gone, kept })
    }

    /// What its actor had comes back, or nothing if it died. Says to whom it belongs now; `None`: it was not asked to.
    pub(in crate::registry) fn handed_over(
        &mut self,
        from: SlotId,
        state: Option<Box<ContainerState>>,
        now: Now,
        effects: &mut Effects,
    ) -> Option<SlotId> {
        let HandOver { to, late } = self.handing_over.remove(&from)?;
        effects.reaps.push(from);
        let more = self.handing_over.values().any(|other| other.to == to);
        let entry = self.slots.get_mut(&to)?;
        let state = state.map(|mut state| {
            if late {
                let ended = |socket: &SocketId| self.sockets.get(socket).is_none_or(|entry| entry.slot != to);
                for socket in state.sockets().filter(ended).collect::<Vec<_>>() {
                    state.apply(ContainerEvent::Released(socket), now);
                }
                state.forget_processes();
            }
            state.keep(entry.carries);
            state
        });
        match &mut entry.place {
            Place::Merging(events) => {
                effects.absorbs.extend(state.map(|state| (to, state)));
                if !more {
                    let events = std::mem::take(events);
                    entry.place = Place::Running;
                    effects.shares.entry(to).or_default().events.extend(events);
                }
            }
            Place::Running => effects.absorbs.extend(state.map(|state| (to, state))),
            Place::Held(held) | Place::Spawning(held) => {
                if let Some(state) = state {
                    held.absorb(*state);
                }
            }
        }
        Some(to)
    }

    /// Open sockets of these processes are another's from now on: what comes of them finds it.
    pub(in crate::registry) fn let_go(&mut self, tgids: &HashSet<u32>, now: Now, effects: &mut Effects) {
        let theirs = self.sockets.iter().filter(|(_, socket)| tgids.contains(&socket.tgid));
        let sockets: Vec<(SocketId, SlotId)> = theirs.map(|(id, socket)| (*id, socket.slot)).collect();
        for (socket, slot) in sockets {
            self.socket_closed(socket);
            self.route(slot, ContainerEvent::Released(socket), None, now, effects);
        }
    }

    /// That nothing points to what is not there, and everything is counted once. `processes`: how many are in each slot.
    #[cfg(test)]
    pub(in crate::registry) fn check(&self, processes: &std::collections::BTreeMap<SlotId, u32>) {
        let mut sockets = std::collections::BTreeMap::new();
        for (id, socket) in self.sockets.iter() {
            assert!(self.slots.contains_key(&socket.slot), "{id:?} is nowhere");
            *sockets.entry(socket.slot).or_insert(0) += 1;
        }
        for (slot, entry) in &self.slots {
            let counted = (
                processes.get(slot).copied().unwrap_or(0),
                sockets.get(slot).copied().unwrap_or(0),
            );
            assert_eq!((entry.processes, entry.sockets), counted, "{:?}", entry.id);
            if let (Some(id), Place::Held(state) | Place::Spawning(state)) = (&entry.id, &entry.place) {
                assert_eq!(entry.carries, self.filters.carries(id), "{id}");
                assert!(entry.carries.tcp || state.has_no_connections(), "{id}");
            }
            if let Some(id) = &entry.id {
                assert_eq!(self.by_id.get(id), Some(slot));
            }
        }
        assert!(
            processes.keys().all(|slot| self.slots.contains_key(slot)),
            "{processes:?}"
        );
        assert!(self.by_id.values().all(|slot| self.slots.contains_key(slot)));
        assert!(self.by_process.values().all(|slot| self.slots.contains_key(slot)));
    }
}
