//! What processes are: nobody is asked about one that lives for a moment only.
use super::{Process, RegistryState};
use crate::{
    base::{
        ids::{Application, ProcKey},
        now::Now,
    },
    registry::effects::{Ask, Effects},
};

/// A command line is read when it is that old: by then wrappers have executed what they wrap, servers have said who they
/// are, and most processes have ended.
const SETTLED_NS: u64 = 1_000_000_000;
/// A second: what is there when the agent starts takes a few.
const MAX_ASKS: usize = 1000;

impl RegistryState {
    /// It runs something else than before, or has just been found.
    pub(super) fn unread(&mut self, tgid: u32, now: Now, effects: &mut Effects) {
        let room = self.unread.len() < self.processes.capacity();
        let Some(process) = self.processes.get_mut(&tgid) else {
            return;
        };
        let (from, slot) = (process.application.take(), process.slot);
        process.unread_ns = Some(now.monotonic_ns);
        if room {
            self.unread.push_back((now.monotonic_ns, process.key));
        } else {
            self.rejected_unread += 1;
        }
        if let Some(slot) = slot {
            self.slots.application(slot, from, None, now, effects);
        }
    }

    pub(super) fn ask_for_applications(&mut self, now: Now, effects: &mut Effects) {
        let settled = now.monotonic_ns.saturating_sub(SETTLED_NS);
        let mut asked = 0;
        while asked < MAX_ASKS
            && let Some((since, key)) = self.unread.pop_front_if(|(since, _)| *since <= settled)
        {
            let waits = |process: &&mut Process| process.unread_ns == Some(since) && process.exited_ns.is_none();
            if let Some(process) = self.known(key).filter(waits) {
                process.unread_ns = None;
                effects.asks.push(Ask::Application { process: process.key });
                asked += 1;
            }
        }
        // A storm leaves no mark.
        self.unread.shrink_to(2 * self.unread.len());
    }

    pub(super) fn application(
        &mut self,
        process: ProcKey,
        application: Option<Application>,
        now: Now,
        effects: &mut Effects,
    ) {
        // Executed once more since it was asked about: then the next answer is the right one.
        let awaited = |process: &&mut Process| process.unread_ns.is_none() && process.exited_ns.is_none();
        let Some(process) = self.known(process).filter(awaited) else {
            return;
        };
        let from = std::mem::replace(&mut process.application, application.clone());
        if let Some(slot) = process.slot {
            self.slots.application(slot, from, application, now, effects);
        }
    }
}
