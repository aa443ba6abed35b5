//! What was said finds its container: that of the process which has sent or received it.
use super::{RegistryState, Target};
use crate::{
    base::{ledger::Reason, now::Now},
    container::state::ContainerEvent,
    decode::{Exchanges, Owner, Role},
    registry::effects::Effects,
};

impl RegistryState {
    /// What a client's connection is not shown for, what it asks for there is not shown for, either. Those connections are in
    /// the books; requests are not once more.
    pub(super) fn exchanged(&mut self, exchanges: Exchanges, now: Now, effects: &mut Effects) {
        let in_host = exchanges.netns == self.node.host_netns;
        let (role, local, route) = (exchanges.role, exchanges.local, exchanges.route());
        if role == Role::Client && self.refuses_address(false, role, local, route, in_host).is_some() {
            return;
        }
        self.said(exchanges.owner, ContainerEvent::Exchanged(exchanges), now, effects);
    }

    pub(super) fn said(&mut self, owner: Owner, event: ContainerEvent, now: Now, effects: &mut Effects) {
        if owner.kernel_thread || owner.process.tgid == self.node.own_tgid {
            return;
        }
        let slot = match self.target_of_owner(&owner, now, effects) {
            Target::Slot(slot) => Ok(slot),
            Target::Unnamed => self.slots.of_process((owner.process, owner.cgroup), owner.comm, now),
            Target::Nowhere(reason) => Err(reason),
        };
        match slot {
            Ok(slot) if self.slots.carries(slot).l7 => self.slots.route(slot, event, None, now, effects),
            Ok(_) => {}
            // Left out on purpose, like all that it does.
            Err(reason) if !matches!(reason, Reason::TableFull | Reason::PendingFull) => {}
            Err(_) => self.rejected_said += 1,
        }
    }
}
