//! Events of sockets find their container.
use super::{MAX_SUMS, MAX_UNHEARD, RegistryState, Target};
use crate::{
    base::{
        ids::{NetnsId, ProcKey},
        ledger::Reason,
        now::Now,
    },
    container::{destination::SkipReason, state::ContainerEvent},
    decode::{Owner, Role, Route, SocketEvent, SumEvent},
    registry::{
        effects::{Ask, Effects, SlotId},
        identity,
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Of a sum that only a cgroup is known of.
const NOBODY: ProcKey = ProcKey { tgid: 0, start_ns: 0 };

impl RegistryState {
    pub(super) fn socket(
        &mut self,
        event: &SocketEvent,
        kind: Option<u16>,
        make: impl Fn(SocketEvent) -> ContainerEvent,
        now: Now,
        effects: &mut Effects,
    ) {
        let ends = matches!(
            make(event.clone()),
            ContainerEvent::Closed(_) | ContainerEvent::ListenClosed(_) | ContainerEvent::Failed(_)
        );
        let unheard = self.unheard.contains(&event.socket);
        if ends && unheard {
            self.unheard.remove(&event.socket);
        }
        if let Some(reason) = self.refuses(event) {
            if ends {
                // What it is judged by may have been another when it began.
                self.slots.socket_closed(event.socket);
            }
            return drop_event(kind, reason, effects);
        }
        let slot = match self.target_of_socket(event, now, effects) {
            Target::Slot(slot) => Ok(slot),
            Target::Unnamed => {
                let of = (event.owner.process, event.owner.cgroup);
                self.slots.of_process(of, event.owner.comm, now)
            }
            Target::Nowhere(reason) => Err(reason),
        };
        let slot = slot.and_then(|slot| self.with_tcp(slot));
        let slot = match slot {
            Ok(slot) => slot,
            Err(reason) => {
                // What nobody wants to see does not count later, either.
                let missed = !ends && !event.shown && kind.is_none() && reason != Reason::Filtered;
                if missed && self.unheard.len() < MAX_UNHEARD {
                    self.unheard.insert(event.socket);
                }
                return drop_event(kind, reason, effects);
            }
        };
        // To the kernel it was shown, to its container it was not.
        let event = &SocketEvent {
            shown: event.shown && !unheard,
            ..event.clone()
        };
        self.unheard.remove(&event.socket);
        let event_for = make(event.clone());
        match event_for {
            // Without a bind the port comes after the state; the next totals pass shows it.
            ContainerEvent::Seen(_) | ContainerEvent::ListenOpened(_)
                if !(event.listening && event.local.port() == 0) =>
            {
                self.slots.socket_opened(event, slot);
            }
            ContainerEvent::Closed(_) | ContainerEvent::ListenClosed(_) => self.slots.socket_closed(event.socket),
            _ => {}
        }
        if !self.found.is_empty() {
            self.no_longer_only_found(event.socket, now, effects);
        }
        let wildcard = event.listening && event.local.ip().is_unspecified();
        let opens = !matches!(event_for, ContainerEvent::ListenClosed(_));
        self.slots
            .route(slot, event_for, kind.map(|kind| (kind, 1)), now, effects);
        if wildcard && opens {
            self.tell_addresses(event.netns, event.owner.process.tgid, slot, now, effects);
        }
    }

    fn with_tcp(&self, slot: SlotId) -> Result<SlotId, Reason> {
        let carries = self.slots.carries(slot);
        carries.tcp.then_some(slot).ok_or(Reason::Filtered)
    }

    pub(super) fn refuses(&self, event: &SocketEvent) -> Option<Reason> {
        if event.owner.process.tgid == self.node.own_tgid {
            return Some(Reason::Own);
        }
        if event.owner.kernel_thread {
            return Some(Reason::KernelThread);
        }
        let in_host = event.netns == self.node.host_netns;
        self.refuses_address(event.listening, event.role, event.local, event.route(), in_host)
    }

    /// A connection is judged by the address that it is shown under.
    pub(super) fn refuses_address(
        &self,
        listening: bool,
        role: Role,
        local: SocketAddr,
        route: Route,
        in_host: bool,
    ) -> Option<Reason> {
        let filter = &self.settings.filter;
        let decision = match role {
            _ if listening => filter.decide_listen(local),
            Role::Server => filter.decide_accepted(local, in_host),
            Role::Client => filter.decide_route(route, in_host),
        };
        decision.err().map(reason_of)
    }

    /// A socket stays with the container it was first seen with, unless another process is found to have it.
    fn target_of_socket(&mut self, event: &SocketEvent, now: Now, effects: &mut Effects) -> Target {
        let Some(known) = self.slots.socket(event.socket) else {
            return self.target_of_owner(&event.owner, now, effects);
        };
        if known.tgid == event.owner.process.tgid {
            return Target::Slot(known.slot);
        }
        let target = self.target_of_owner(&event.owner, now, effects);
        if !matches!(target, Target::Slot(slot) if slot == known.slot) {
            self.slots.socket_closed(event.socket);
            self.slots
                .route(known.slot, ContainerEvent::Released(event.socket), None, now, effects);
        }
        target
    }

    /// A socket's owner is who connected or listened: by now it may be elsewhere, or gone and its pid another's. So this
    /// looks the owner up, and moves nobody.
    pub(super) fn target_of_owner(&mut self, owner: &Owner, now: Now, effects: &mut Effects) -> Target {
        let (tgid, unified) = (
            owner.process.tgid,
            owner.cgroup != self.node.root_cgroup && owner.cgroup.0 != 0,
        );
        if let Some(process) = self.known(owner.process) {
            // /proc does not tell the cgroup's id, the socket does.
            let cgroup = *process.cgroup.get_or_insert(owner.cgroup);
            if cgroup == owner.cgroup {
                if let Some(slot) = process.slot {
                    return Target::Slot(slot);
                }
                self.place(tgid, now, effects);
                return self.target(tgid, now, effects);
            }
        } else {
            let other = self.processes.get(&tgid);
            // The news of its start was lost, or comes with the inventory; or it ended long ago.
            if other.is_none_or(|other| other.key.start_ns < owner.process.start_ns) {
                if !self.add_unconfirmed(owner, now, effects) {
                    return Target::Nowhere(Reason::TableFull);
                }
                return self.target(tgid, now, effects);
            }
        }
        // From another time of the process, or of another process with this pid.
        let of = if unified {
            self.owner_of_cgroup(owner.cgroup, None, owner.process, now, effects)
        } else {
            Some(identity::Owner::Standalone)
        };
        of.map_or(Target::Unnamed, |of| {
            self.target_of(&of, (owner.process, owner.cgroup), &owner.comm, now, effects)
        })
    }

    pub(super) fn sum(&mut self, sum: &SumEvent, now: Now, effects: &mut Effects) {
        let in_host = sum.netns == self.node.host_netns;
        if let Some(reason) = self.refuses_address(false, sum.role, sum.address, Route::direct(sum.address), in_host) {
            return effects.outcome.drop_many(sum.kind(), reason, sum.ended());
        }
        let target = match sum.process {
            Some(process) => {
                let owner = Owner {
                    process,
                    cgroup: sum.cgroup,
                    comm: sum.comm,
                    kernel_thread: false,
                };
                self.target_of_owner(&owner, now, effects)
            }
            None => match self.owner_of_cgroup(sum.cgroup, None, NOBODY, now, effects) {
                Some(owner) => self.target_of(&owner, (NOBODY, sum.cgroup), &sum.comm, now, effects),
                None if !self.cgroups.contains_key(&sum.cgroup) => Target::Nowhere(Reason::TableFull),
                None => Target::Unnamed,
            },
        };
        if let (Target::Unnamed, None) = (&target, sum.process) {
            // Asked for: kept until the answer, as what happens to a process without a name is.
            if self.sums.len() < MAX_SUMS {
                effects.outcome.delivered.add(sum.kind(), sum.ended());
                return self.sums.push(sum.clone());
            }
        }
        let target = match (target, sum.process) {
            (Target::Unnamed, Some(process)) => self.slots.of_process((process, sum.cgroup), sum.comm, now),
            (Target::Slot(slot), _) => Ok(slot),
            (Target::Nowhere(reason), _) => Err(reason),
            (Target::Unnamed, None) => Err(Reason::PendingFull),
        };
        match target.and_then(|slot| self.with_tcp(slot)) {
            Ok(slot) => {
                let booked = Some((sum.kind(), sum.ended()));
                self.slots
                    .route(slot, ContainerEvent::SumSpilled(sum.clone()), booked, now, effects);
            }
            Err(reason) => {
                self.rejected_sums += 1;
                effects.outcome.drop_many(sum.kind(), reason, sum.ended());
            }
        }
    }

    /// One that was kept, and is in the books already.
    pub(super) fn route_kept_sum(&mut self, slot: Option<SlotId>, sum: SumEvent, now: Now, effects: &mut Effects) {
        match slot.filter(|slot| self.slots.carries(*slot).tcp) {
            Some(slot) => self
                .slots
                .route(slot, ContainerEvent::SumSpilled(sum), None, now, effects),
            None => self.rejected_sums += 1,
        }
    }

    pub(super) fn tell_addresses(&mut self, netns: NetnsId, tgid: u32, slot: SlotId, now: Now, effects: &mut Effects) {
        // Without its addresses the listen is shown as it was made.
        if self.namespaces.len() >= self.settings.max_containers && !self.namespaces.contains_key(&netns) {
            self.rejected_namespaces += 1;
            return;
        }
        let namespace = self.namespaces.entry(netns).or_default();
        namespace.tgid = tgid;
        if namespace.told.insert(slot)
            && let Some(ips) = namespace.ips.clone()
        {
            self.slots
                .route(slot, ContainerEvent::Addresses { netns, ips }, None, now, effects);
        }
        let Some(namespace) = self.namespaces.get_mut(&netns) else {
            return;
        };
        if namespace.asked_ns.is_none() {
            namespace.asked_ns = Some(now.monotonic_ns);
            effects.asks.push(Ask::Addresses { netns, tgid });
        }
    }

    pub(super) fn addresses(&mut self, netns: NetnsId, ips: Option<Arc<[IpAddr]>>, now: Now, effects: &mut Effects) {
        let Some(namespace) = self.namespaces.get_mut(&netns) else {
            return;
        };
        let Some(ips) = ips else {
            // Its process is gone or not to be looked at; the next listen there asks through its own.
            self.namespaces.remove(&netns);
            return;
        };
        if namespace.ips.as_ref() == Some(&ips) {
            return;
        }
        namespace.ips = Some(Arc::clone(&ips));
        for slot in namespace.told.clone() {
            let event = ContainerEvent::Addresses {
                netns,
                ips: Arc::clone(&ips),
            };
            self.slots.route(slot, event, None, now, effects);
        }
    }
}

fn drop_event(kind: Option<u16>, reason: Reason, effects: &mut Effects) {
    if let Some(kind) = kind {
        effects.outcome.drop_one(kind, reason);
    }
}

fn reason_of(skip: SkipReason) -> Reason {
    match skip {
        SkipReason::EphemeralPort => Reason::EphemeralPort,
        SkipReason::LoopbackInContainer => Reason::LoopbackInContainer,
        SkipReason::LinkLocal => Reason::LinkLocal,
        SkipReason::PublicNetwork => Reason::PublicNetwork,
    }
}
