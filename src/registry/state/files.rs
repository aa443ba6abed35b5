//! Files that are open for writing. They are told with the process that has them, and make no container: a process that
//! nobody knows yet will be known when the next pass shows them again.
use super::RegistryState;
use crate::{
    base::{ids::ProcKey, now::Now},
    container::state::ContainerEvent,
    decode::FileEvent,
    registry::effects::{Effects, SlotId},
};
use std::collections::BTreeSet;

impl RegistryState {
    pub(super) fn file_seen(&mut self, event: FileEvent, now: Now, effects: &mut Effects) {
        let FileEvent { owner, file, append } = event;
        let process = owner.process;
        if let Some(slot) = self.slot_with_files(process) {
            let event = ContainerEvent::FileSeen { process, file, append };
            self.slots.route(slot, event, None, now, effects);
        }
    }

    pub(super) fn files_left_out(&mut self, process: ProcKey, files: u64, now: Now, effects: &mut Effects) {
        if let Some(slot) = self.slot_with_files(process) {
            self.slots
                .route(slot, ContainerEvent::FilesLeftOut(files), None, now, effects);
        }
    }

    /// Those that had files before are told too, to forget what was not seen any more.
    pub(super) fn files_passed(&mut self, now: Now, effects: &mut Effects) {
        for slot in self.holders.passed() {
            self.slots.route(slot, ContainerEvent::FilesPassed, None, now, effects);
        }
    }

    fn slot_with_files(&mut self, process: ProcKey) -> Option<SlotId> {
        let slot = self.known(process)?.slot?;
        if !self.slots.carries(slot).files {
            return None;
        }
        self.holders.found.insert(slot);
        Some(slot)
    }
}

/// Slots with files, by the pass that goes on and by the one before it.
#[derive(Debug, Default)]
pub(super) struct Holders {
    found: BTreeSet<SlotId>,
    before: BTreeSet<SlotId>,
}

impl Holders {
    pub(super) fn rename(&mut self, gone: SlotId, kept: SlotId) {
        for slots in [&mut self.found, &mut self.before] {
            if slots.remove(&gone) {
                slots.insert(kept);
            }
        }
    }

    /// Those that the end of a pass concerns.
    fn passed(&mut self) -> BTreeSet<SlotId> {
        let found = std::mem::take(&mut self.found);
        let before = std::mem::replace(&mut self.before, found);
        &before | &self.before
    }
}
