//! Where the states of containers are: held here until they have an actor, and from then on with it.
mod ends;
mod naming;
mod pending;
mod signals;
mod sockets;

pub(super) use naming::Merged;

use sockets::Socket;

use super::{
    effects::{Effects, SlotId},
    filters::Filters,
    identity,
    lifecycle::Lifecycle,
    restarts::Restarts,
};
use crate::{
    base::{
        ids::{Application, CgroupId, ContainerId, ProcKey, SocketId},
        ledger::Reason,
        now::Now,
        table::Table,
    },
    container::{
        signals::Carries,
        state::{ContainerEvent, ContainerState, Limits},
    },
    decode::Comm,
    runtimes::metadata::Metadata,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

/// Containers without a process that nothing has happened to, kept for the next one's restart to be seen.
const MAX_LINGERING: usize = 1000;

#[derive(Debug)]
pub(super) enum Place {
    Held(Box<ContainerState>),
    /// An actor was asked for; events still come here.
    Spawning(Box<ContainerState>),
    Running,
    /// With its actor, which is still to get another's state: what happens comes after that.
    Merging(Vec<ContainerEvent>),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub id: Option<ContainerId>,
    pub place: Place,
    pub processes: u32,
    restarts: Restarts,
    /// Among those that may go when there are too many.
    lingers: bool,
    pub sockets: u32,
    pub since_ns: u64,
    /// On the boot clock.
    pub zombie_since_ns: Option<u64>,
    /// Something that is worth an actor has happened.
    pub has_news: bool,
    /// It has, or in a replay would have, an actor: it stays until the garbage collection.
    pub spawned: bool,
    /// Its runtime has been asked what it is called: nobody is to see it yet.
    pub veiled: bool,
    /// By its name.
    pub carries: Carries,
    /// Pending slots only: whose identity is awaited, since when.
    pub pending: Option<Pending>,
}

/// What a process did in one cgroup: it may be in another when the first gets its name.
pub(super) type Awaited = (ProcKey, CgroupId);

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    of: Awaited,
    since_ns: u64,
    /// The index may have forgotten the process by then, or have another one with its pid.
    comm: Comm,
}

/// A process, as far as its container is concerned.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub start_ns: u64,
    pub application: Option<Application>,
    /// By a process that was in the same container.
    pub forked_inside: bool,
}

impl Slot {
    fn is_bare(&self) -> bool {
        self.id.as_ref().is_none_or(identity::is_standalone)
    }

    /// Without it, nothing would be missed but a later restart.
    fn is_over(&self) -> bool {
        let trivial = matches!(&self.place, Place::Held(state) if state.is_trivial());
        self.processes == 0 && !self.spawned && self.pending.is_none() && trivial
    }
}

#[derive(Clone, Copy, Debug)]
struct HandOver {
    to: SlotId,
    /// The other one's actor has died meanwhile: its processes have been told of anew, and its ends are gone.
    late: bool,
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: BTreeMap<SlotId, Slot>,
    by_id: HashMap<ContainerId, SlotId>,
    by_process: HashMap<Awaited, SlotId>,
    /// Actors that are to give what they have to another slot's.
    handing_over: HashMap<SlotId, HandOver>,
    sockets: Table<SocketId, Socket>,
    /// In the order of their ends.
    lingering: VecDeque<SlotId>,
    next: u64,
    limits: Limits,
    filters: Arc<Filters>,
    max: usize,
    max_pending: usize,
    /// Containers, and processes without a name, that found no room.
    rejected: u64,
    rejected_pending: u64,
    /// Off in a replay: states stay here.
    actors: bool,
    /// Somebody wants to know what becomes of processes and containers.
    pub(super) told: bool,
}

impl Slots {
    pub(super) fn new(
        limits: Limits,
        filters: Arc<Filters>,
        max: usize,
        max_pending: usize,
        max_sockets: usize,
        actors: bool,
        next: u64,
    ) -> Self {
        Self {
            slots: BTreeMap::new(),
            by_id: HashMap::new(),
            by_process: HashMap::new(),
            handing_over: HashMap::new(),
            sockets: Table::new(max_sockets),
            lingering: VecDeque::new(),
            next,
            limits,
            filters,
            max,
            max_pending,
            rejected: 0,
            rejected_pending: 0,
            actors,
            told: false,
        }
    }

    pub(super) fn get(&self, slot: SlotId) -> Option<&Slot> {
        self.slots.get(&slot)
    }

    pub(super) fn name(&self, slot: Option<SlotId>) -> Option<ContainerId> {
        self.slots.get(&slot?)?.id.clone()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots.iter().map(|(id, slot)| (*id, slot))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn rejected(&self) -> (u64, u64) {
        (self.rejected, self.rejected_pending)
    }

    pub(super) fn pending(&self) -> usize {
        self.by_process.len()
    }

    /// Not even made while nobody wants to know it.
    pub(super) fn tell(&self, effects: &mut Effects, news: impl FnOnce() -> Lifecycle) {
        if self.told {
            effects.lifecycle.push(news());
        }
    }

    fn add(&mut self, id: Option<ContainerId>, pending: Option<Pending>, now: Now) -> SlotId {
        let slot = SlotId(self.next);
        self.next += 1;
        let state = Box::new(ContainerState::new(self.limits));
        let carries = id.as_ref().map_or(Carries::ALL, |id| self.filters.carries(id));
        self.slots.insert(
            slot,
            Slot {
                id,
                place: Place::Held(state),
                processes: 0,
                restarts: Restarts::default(),
                lingers: false,
                sockets: 0,
                since_ns: now.boottime_ns,
                // Until a process joins: a late event may bring a container back whose processes are gone.
                zombie_since_ns: Some(now.boottime_ns),
                has_news: false,
                spawned: false,
                veiled: false,
                carries,
                pending,
            },
        );
        slot
    }

    /// The slot of a container whose id is known. `veiled`: if it is new, nobody is to see it until it has its name.
    pub(super) fn of_container(
        &mut self,
        id: &ContainerId,
        veiled: bool,
        now: Now,
        effects: &mut Effects,
    ) -> Result<SlotId, Reason> {
        if let Some(slot) = self.by_id.get(id) {
            return Ok(*slot);
        }
        while self.by_id.len() >= self.max && !self.lingering.is_empty() {
            self.shorten(effects);
        }
        if self.by_id.len() >= self.max {
            self.rejected += 1;
            return Err(Reason::TableFull);
        }
        let slot = self.add(Some(id.clone()), None, now);
        self.by_id.insert(id.clone(), slot);
        if let Some(entry) = self.slots.get_mut(&slot) {
            entry.veiled = veiled;
        }
        self.tell(effects, || Lifecycle::ContainerAppeared {
            container: id.clone(),
            identified: !veiled,
        });
        Ok(slot)
    }

    /// Applies an event where the state is, or makes it part of the actor's share. `booked`: what it is in the ledger,
    /// and how many of it.
    pub(super) fn route(
        &mut self,
        slot: SlotId,
        event: ContainerEvent,
        booked: Option<(u16, u64)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(entry) = self.slots.get_mut(&slot) else {
            if let Some((kind, n)) = booked {
                effects.outcome.drop_many(kind, Reason::TableFull, n);
            }
            return;
        };
        entry.has_news |= event.is_news();
        match &mut entry.place {
            Place::Held(state) | Place::Spawning(state) => {
                let applied = state.apply(event, now);
                match booked {
                    Some((kind, n)) if applied => effects.outcome.delivered.add(kind, n),
                    Some((kind, n)) => effects.outcome.drop_many(kind, Reason::TableFull, n),
                    None => {}
                }
            }
            Place::Running => {
                let share = effects.shares.entry(slot).or_default();
                share.events.push(event);
                if let Some((kind, n)) = booked {
                    share.counts.add(kind, n);
                }
            }
            Place::Merging(events) => {
                events.push(event);
                if let Some((kind, n)) = booked {
                    effects.outcome.delivered.add(kind, n);
                }
            }
        }
        self.spawn_if_due(slot, effects);
    }

    fn spawn_if_due(&mut self, slot: SlotId, effects: &mut Effects) {
        let Some(entry) = self.slots.get(&slot) else { return };
        if entry.has_news && !entry.veiled && matches!(entry.place, Place::Held(_)) {
            self.spawn(slot, effects);
        }
    }

    pub(super) fn spawn(&mut self, slot: SlotId, effects: &mut Effects) {
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        let Some(id) = &entry.id else { return };
        entry.spawned = true;
        if !self.actors {
            return;
        }
        effects.spawns.push((slot, id.clone()));
        let state = match std::mem::replace(&mut entry.place, Place::Running) {
            Place::Held(state) | Place::Spawning(state) => state,
            Place::Running | Place::Merging(_) => Box::new(ContainerState::new(self.limits)),
        };
        entry.place = Place::Spawning(state);
    }

    /// The actor is there: it gets what has been gathered.
    pub(super) fn running(&mut self, slot: SlotId, effects: &mut Effects) -> bool {
        let Some(entry) = self.slots.get_mut(&slot) else {
            return false;
        };
        if matches!(entry.place, Place::Merging(_)) {
            return true;
        }
        if let Place::Spawning(state) | Place::Held(state) = std::mem::replace(&mut entry.place, Place::Running) {
            effects.absorbs.push((slot, state));
        }
        true
    }

    /// The actor died with all it knew. Its successor starts empty, but for the processes.
    pub(super) fn lost(
        &mut self,
        slot: SlotId,
        living: Vec<Member>,
        metadata: Option<Arc<Metadata>>,
        now: Now,
        effects: &mut Effects,
    ) {
        let limits = self.limits;
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        for hand_over in self.handing_over.values_mut().filter(|hand_over| hand_over.to == slot) {
            hand_over.late = true;
        }
        let mut state = ContainerState::new(limits);
        match std::mem::replace(&mut entry.place, Place::Running) {
            Place::Spawning(gathered) | Place::Held(gathered) => {
                state.absorb(*gathered);
                state.forget_processes();
            }
            Place::Merging(events) => {
                let no_process = |event: &ContainerEvent| {
                    !matches!(
                        event,
                        ContainerEvent::ProcessJoined { .. }
                            | ContainerEvent::ProcessLeft
                            | ContainerEvent::ApplicationChanged { .. }
                    )
                };
                for event in events.into_iter().filter(no_process) {
                    state.apply(event, now);
                }
            }
            Place::Running => {}
        }
        if let Some(metadata) = metadata {
            state.apply(ContainerEvent::Described(metadata), now);
        }
        for Member {
            start_ns, application, ..
        } in living
        {
            state.apply(ContainerEvent::ProcessJoined { start_ns }, now);
            if application.is_some() {
                let (from, to) = (None, application);
                state.apply(ContainerEvent::ApplicationChanged { from, to }, now);
            }
        }
        state.since_ns = Some(entry.since_ns);
        state.ended_ns = entry.zombie_since_ns;
        entry.place = Place::Held(Box::new(state));
        self.spawn(slot, effects);
    }

    pub(super) fn join(&mut self, slot: SlotId, member: Member, now: Now, effects: &mut Effects) {
        let Member {
            start_ns,
            application,
            forked_inside,
        } = member;
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        entry.processes += 1;
        entry.since_ns = entry.since_ns.min(start_ns);
        entry.zombie_since_ns = None;
        let restarted = entry.restarts.join(start_ns, forked_inside) && !entry.is_bare();
        self.route(slot, ContainerEvent::ProcessJoined { start_ns }, None, now, effects);
        if restarted {
            self.route(slot, ContainerEvent::Restarted, None, now, effects);
        }
        self.application(slot, None, application, now, effects);
    }

    pub(super) fn leave(&mut self, slot: SlotId, member: Member, now: Now, effects: &mut Effects) {
        self.application(slot, member.application, None, now, effects);
        self.route(slot, ContainerEvent::ProcessLeft, None, now, effects);
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        entry.processes = entry.processes.saturating_sub(1);
        entry.restarts.leave(member.start_ns);
        self.mark_zombie(slot, now);
        self.end_if_over(slot, effects);
    }

    /// What one of the slot's processes is.
    pub(super) fn application(
        &mut self,
        slot: SlotId,
        from: Option<Application>,
        to: Option<Application>,
        now: Now,
        effects: &mut Effects,
    ) {
        if from != to {
            let event = ContainerEvent::ApplicationChanged { from, to };
            self.route(slot, event, None, now, effects);
        }
    }

    fn mark_zombie(&mut self, slot: SlotId, now: Now) {
        if let Some(entry) = self.slots.get_mut(&slot)
            && entry.processes == 0
        {
            entry.zombie_since_ns.get_or_insert(now.boottime_ns);
        }
    }

    /// The same, of all. `None`: one is neither here nor with an actor that keeps it.
    pub(super) fn held(&self) -> Option<impl Iterator<Item = &ContainerState>> {
        let held = self.slots.values().filter_map(|slot| match &slot.place {
            Place::Held(state) | Place::Spawning(state) => Some(state.as_ref()),
            Place::Running | Place::Merging(_) => None,
        });
        self.handing_over.is_empty().then_some(held)
    }

    /// States that are here rather than with an actor.
    pub(super) fn held_mut(&mut self) -> impl Iterator<Item = (Option<&ContainerId>, &mut ContainerState)> {
        self.slots.values_mut().filter_map(|slot| match &mut slot.place {
            Place::Held(state) | Place::Spawning(state) => {
                Some((slot.id.as_ref().filter(|_| !slot.veiled), state.as_mut()))
            }
            Place::Running | Place::Merging(_) => None,
        })
    }

    /// All that run or are asked for.
    pub(super) fn all(&self) -> Vec<SlotId> {
        self.slots.keys().copied().collect()
    }
}
