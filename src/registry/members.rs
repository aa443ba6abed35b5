//! Which processes are in a container.
use super::actor::RegistryActor;
use crate::base::ids::ContainerId;
use actix::{Context, Handler, Message, MessageResult};
use std::collections::BTreeSet;

/// Their tgids. `None`: there is no such container.
#[derive(Debug, Message)]
#[rtype(result = "Option<BTreeSet<u32>>")]
pub struct GetMembers(pub ContainerId);

impl Handler<GetMembers> for RegistryActor {
    type Result = MessageResult<GetMembers>;

    fn handle(&mut self, message: GetMembers, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.members(&message.0))
    }
}
