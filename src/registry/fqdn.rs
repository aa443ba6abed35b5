//! What the registry has to do with the names of addresses: it writes them down, and knows what is referred to.
use super::{actor::RegistryActor, messages::RecordNames};
use crate::fqdn::actor::GetReferred;
use actix::{Context, Handler, MessageResult};

impl Handler<RecordNames> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: RecordNames, _: &mut Context<Self>) {
        let Some(recorder) = &self.recorder else { return };
        match message {
            RecordNames::Answered(now, answer) => recorder.dns_answered(now, &answer),
            RecordNames::Forgotten(addresses) => recorder.names_forgotten(&addresses),
        }
    }
}

impl Handler<GetReferred> for RegistryActor {
    type Result = MessageResult<GetReferred>;

    fn handle(&mut self, message: GetReferred, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.referred(&message.0))
    }
}
