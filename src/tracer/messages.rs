//! What the tracer is told and asked by the supervisor.
use super::actor::{FqdnRecipients, TracerActor};
use crate::{config::L7, registry::messages::EventBatch};
use actix::{Context, Handler, Message, MessageResult, Recipient};
use serde::Serialize;

/// A new registry knows nothing: it hears of all open sockets at once.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetRegistry(pub Recipient<EventBatch>);

impl Handler<SetRegistry> for TracerActor {
    type Result = ();

    fn handle(&mut self, message: SetRegistry, context: &mut Context<Self>) {
        self.registry = Some(message.0);
        self.next_totals_ns = 0;
        self.losses.inventory = true;
        self.files.begin_anew();
        self.under_way = false;
        self.drain(context);
    }
}

/// Another has taken its place.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetConntrack(pub Recipient<EventBatch>);

impl Handler<SetConntrack> for TracerActor {
    type Result = ();

    fn handle(&mut self, message: SetConntrack, context: &mut Context<Self>) {
        self.conntrack = Some(message.0);
        self.drain(context);
    }
}

/// The same, of that one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetFqdn(pub FqdnRecipients);

impl Handler<SetFqdn> for TracerActor {
    type Result = ();

    fn handle(&mut self, message: SetFqdn, context: &mut Context<Self>) {
        self.fqdn = Some(message.0);
        self.drain(context);
    }
}

/// From now on that is read of what processes say to each other.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetL7(pub L7);

impl Handler<SetL7> for TracerActor {
    type Result = ();

    fn handle(&mut self, message: SetL7, _: &mut Context<Self>) {
        self.kernel.lock().set_l7(&message.0);
        self.sessions.set(&message.0);
        self.settings.l7 = message.0;
        self.ensure();
    }
}

#[derive(Debug, Message)]
#[rtype(result = "Snapshot")]
pub struct GetSnapshot;

#[derive(Debug, Serialize)]
pub struct Snapshot {
    pub batches: u64,
    pub totals_passes: u64,
    pub batch_under_way: bool,
    pub more_in_ring: bool,
}

impl Handler<GetSnapshot> for TracerActor {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Snapshot {
            batches: self.batches,
            totals_passes: self.passes,
            batch_under_way: self.under_way,
            more_in_ring: self.more,
        })
    }
}

#[cfg(feature = "test-hooks")]
impl Handler<crate::supervisor::hooks::Panic> for TracerActor {
    type Result = ();

    #[expect(clippy::panic, reason = "this is what the hook is for")]
    fn handle(&mut self, _: crate::supervisor::hooks::Panic, _: &mut Context<Self>) {
        panic!("on request");
    }
}
