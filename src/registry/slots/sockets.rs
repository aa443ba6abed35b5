//! Which container an open socket belongs to.
use super::Slots;
use crate::{
    base::{ids::SocketId, table::Table},
    decode::SocketEvent,
    registry::effects::SlotId,
};

/// Where the news of a socket goes.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) struct Socket {
    pub slot: SlotId,
    /// The process that was its owner when it came here.
    pub tgid: u32,
    /// Of the last news of it, on the kernel's clock.
    last_ns: u64,
}

impl Slots {
    pub(in crate::registry) fn sockets(&self) -> &Table<SocketId, Socket> {
        &self.sockets
    }

    pub(in crate::registry) fn socket(&self, socket: SocketId) -> Option<Socket> {
        self.sockets.get(&socket).copied()
    }

    pub(in crate::registry) fn socket_opened(&mut self, event: &SocketEvent, slot: SlotId) {
        let tgid = event.owner.process.tgid;
        if let Some(known) = self.sockets.get_mut(&event.socket) {
            known.last_ns = known.last_ns.max(event.time_ns);
            known.tgid = tgid;
            return;
        }
        let socket = Socket {
            slot,
            tgid,
            last_ns: event.time_ns,
        };
        if self.sockets.insert(event.socket, socket).is_ok()
            && let Some(entry) = self.slots.get_mut(&slot)
        {
            entry.sockets += 1;
        }
    }

    pub(in crate::registry) fn socket_closed(&mut self, socket: SocketId) {
        if let Some(socket) = self.sockets.remove(&socket)
            && let Some(entry) = self.slots.get_mut(&socket.slot)
        {
            entry.sockets = entry.sockets.saturating_sub(1);
        }
    }

    /// Sockets that nobody has told of since then are gone.
    pub(in crate::registry) fn sweep(&mut self, before_ns: u64) {
        let slots = &mut self.slots;
        self.sockets.retain(|_, socket| {
            let alive = socket.last_ns >= before_ns;
            if !alive && let Some(entry) = slots.get_mut(&socket.slot) {
                entry.sockets = entry.sockets.saturating_sub(1);
            }
            alive
        });
    }
}
