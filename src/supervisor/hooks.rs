//! What the integration tests may do to an actor. Only in builds with the feature `test-hooks`.
use super::{actor::Supervisor, messages::Break};
use crate::base::mailbox::tell;
use actix::{Context, Handler, Message, MessageResult};
use std::time::Duration;

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Block(pub Duration);

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LoseEvent;

impl Handler<Break> for Supervisor {
    type Result = MessageResult<Break>;

    fn handle(&mut self, message: Break, _: &mut Context<Self>) -> Self::Result {
        let found = match message {
            Break::Panic(actor) => match actor.as_str() {
                "tracer" => self
                    .tracer
                    .as_ref()
                    .map(|tracer| tell(&tracer.clone().recipient(), Panic)),
                "conntrack" => self
                    .conntrack
                    .as_ref()
                    .map(|conntrack| tell(&conntrack.clone().recipient(), Panic)),
                "fqdn" => self.fqdn.as_ref().map(|fqdn| tell(&fqdn.clone().recipient(), Panic)),
                "registry" => self
                    .registry
                    .as_ref()
                    .map(|registry| tell(&registry.clone().recipient(), Panic)),
                "container" => {
                    let first = self.containers.values().next();
                    first.map(|(_, container)| tell(&container.clone().recipient(), Panic))
                }
                id if !id.starts_with('/') => self.runtimes.as_ref().and_then(|runtimes| runtimes.panic(id)),
                id => {
                    let named = self.containers.values().find(|(of, _)| of.as_str() == id);
                    named.map(|(_, container)| tell(&container.clone().recipient(), Panic))
                }
            },
            Break::BlockCore(time) => self
                .registry
                .as_ref()
                .map(|registry| tell(&registry.clone().recipient(), Block(time))),
            Break::DnsAnswered(answer) => self.fqdn.as_ref().map(|fqdn| tell(&fqdn.clone().recipient(), answer)),
            Break::LoseEvent => self
                .registry
                .as_ref()
                .map(|registry| tell(&registry.clone().recipient(), LoseEvent)),
        };
        MessageResult(found.is_some())
    }
}
