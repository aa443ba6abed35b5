//! Sockets that only /proc and INET_DIAG show, where the kernel's iterators do not work.
//!
//! They are active, and that is all that is counted of them: what the programs see of a connection is told at its end, in
//! sums that know of no socket, so that bytes counted from here would be counted twice.
use super::{RegistryState, SocketFound};
use crate::{
    base::{ids::SocketId, now::Now},
    container::state::ContainerEvent,
    decode::{CloseReason, Comm, Owner, SocketEvent},
    registry::effects::{Effects, SlotId},
};
use std::collections::HashMap;

/// The programs count the lives of a socket from one on.
fn id(cookie: u64) -> SocketId {
    SocketId { cookie, generation: 0 }
}

impl RegistryState {
    pub(super) fn found(&mut self, sockets: &[SocketFound], now: Now, effects: &mut Effects) {
        let mut before = std::mem::take(&mut self.found);
        let mut found = HashMap::new();
        for socket in sockets {
            let known = SocketId {
                cookie: socket.cookie,
                generation: 1,
            };
            let slot = self.processes.get(&socket.owner.tgid).and_then(|process| process.slot);
            let wanted = |slot: &SlotId| self.slots.carries(*slot).tcp && self.slots.socket(known).is_none();
            let Some(slot) = slot.filter(wanted) else {
                continue;
            };
            let event = self.event_of(socket, now);
            if self.refuses(&event).is_some() || found.len() >= self.settings.max_sockets {
                continue;
            }
            if let Some(other) = before.remove(&socket.cookie).filter(|other| *other != slot) {
                let released = ContainerEvent::Released(id(socket.cookie));
                self.slots.route(other, released, None, now, effects);
            }
            found.insert(socket.cookie, slot);
            let wildcard = event.listening && event.local.ip().is_unspecified();
            self.slots.route(slot, ContainerEvent::Seen(event), None, now, effects);
            if wildcard {
                self.tell_addresses(socket.netns, socket.owner.tgid, slot, now, effects);
            }
        }
        for (cookie, slot) in before {
            let released = ContainerEvent::Released(id(cookie));
            self.slots.route(slot, released, None, now, effects);
        }
        self.found = found;
    }

    /// The programs know it by now.
    pub(super) fn no_longer_only_found(&mut self, socket: SocketId, now: Now, effects: &mut Effects) {
        if let Some(slot) = self.found.remove(&socket.cookie) {
            let released = ContainerEvent::Released(id(socket.cookie));
            self.slots.route(slot, released, None, now, effects);
        }
    }

    fn event_of(&self, socket: &SocketFound, now: Now) -> SocketEvent {
        SocketEvent {
            time_ns: now.monotonic_ns,
            socket: id(socket.cookie),
            owner: Owner {
                process: socket.owner,
                cgroup: self.node.root_cgroup,
                comm: Comm::default(),
                kernel_thread: false,
            },
            netns: socket.netns,
            local: socket.local,
            remote: socket.remote,
            connect_ns: None,
            sent_bytes: 0,
            received_bytes: 0,
            errno: 0,
            retransmits: 0,
            rtt_us: None,
            reason: CloseReason::LOCAL,
            listening: socket.listening,
            role: socket.role,
            shown: false,
            old: true,
            settled: false,
            actual: None,
            name: None,
        }
    }
}
