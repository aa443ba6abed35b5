//! One container.
//!
//! Owns its state. Receives its shares of the events from the registry, questions from scrapes and the API; asks
//! nobody. When it panics, its share is booked as lost, and a successor starts with the container's processes and no
//! counts: to a Prometheus that is a counter reset.
use super::{
    samples::Samples,
    state::{ContainerEvent, ContainerState, Limits},
};
use crate::{
    base::{
        context::Ctx,
        ids::{ContainerId, NetnsId},
        ledger::{Counts, InFlight, Outcome, Reason},
        mailbox::{Queued, tell},
    },
    fqdn::actor::GetReferred,
};
use actix::{Actor, ActorContext, Context, Handler, Message, MessageResult, Recipient};
use std::{sync::Arc, time::Duration};
use tarsier_common::kind;

pub struct ContainerActor {
    id: ContainerId,
    state: ContainerState,
    ctx: Ctx,
    min_age: Duration,
    keep: Duration,
    host: NetnsId,
    stopped: Option<Recipient<ContainerStopped>>,
    token: u64,
}

/// Told to the supervisor by whoever ends.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ContainerStopped {
    pub token: u64,
    pub id: ContainerId,
    pub panicked: bool,
}

/// What a container actor is made of.
#[derive(Clone)]
pub struct Blueprint {
    pub ctx: Ctx,
    pub limits: Limits,
    pub min_age: Duration,
    pub keep: Duration,
    pub host: NetnsId,
    pub stopped: Recipient<ContainerStopped>,
}

impl ContainerActor {
    pub fn new(id: ContainerId, token: u64, blueprint: Blueprint) -> Self {
        Self {
            id,
            token,
            state: ContainerState::new(blueprint.limits),
            ctx: blueprint.ctx,
            min_age: blueprint.min_age,
            keep: blueprint.keep,
            host: blueprint.host,
            stopped: Some(blueprint.stopped),
        }
    }
}

impl Actor for ContainerActor {
    type Context = Context<Self>;

    /// Also runs while a panic unwinds, so nothing here may fail.
    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(stopped) = self.stopped.take() {
            let message = ContainerStopped {
                token: self.token,
                id: self.id.clone(),
                panicked: std::thread::panicking(),
            };
            tell(&stopped, message);
        }
    }
}

/// Acknowledges a batch to the tracer once all its shares are gone, applied or dead.
#[derive(Debug)]
pub struct Ack(pub Option<Recipient<BatchDone>>);

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct BatchDone;

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(to) = self.0.take() {
            tell(&to, BatchDone);
        }
    }
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ApplyShare {
    pub events: Vec<ContainerEvent>,
    pub counts: Counts,
    /// `None`: nothing in it is in the ledger.
    pub in_flight: Option<InFlight>,
    pub ack: Option<Arc<Ack>>,
    pub queued: Queued,
}

impl Handler<ApplyShare> for ContainerActor {
    type Result = ();

    fn handle(&mut self, share: ApplyShare, _: &mut Context<Self>) {
        let now = self.ctx.now();
        let mut outcome = Outcome {
            delivered: share.counts,
            ..Outcome::default()
        };
        for event in share.events {
            // Of the events that may find no room, this one is in the ledger.
            let kind = matches!(event, ContainerEvent::ListenOpened(_)).then_some(kind::LISTEN);
            if let (false, Some(kind)) = (self.state.apply(event, now), kind) {
                outcome.delivered.remove(kind);
                outcome.drop_one(kind, Reason::TableFull);
            }
        }
        if let Some(in_flight) = share.in_flight {
            in_flight.settle(&outcome);
        }
    }
}

/// State that was gathered for this container elsewhere.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Absorb(pub Box<ContainerState>);

impl Handler<Absorb> for ContainerActor {
    type Result = ();

    fn handle(&mut self, absorb: Absorb, _: &mut Context<Self>) {
        self.state.absorb(*absorb.0);
    }
}

/// What it is called from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Rename(pub ContainerId);

impl Handler<Rename> for ContainerActor {
    type Result = ();

    fn handle(&mut self, rename: Rename, _: &mut Context<Self>) {
        self.id = rename.0;
    }
}

/// It has turned out to be the same container as another, which is to get what this one has. The registry then ends it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HandOver(pub Recipient<HandedOver>);

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HandedOver {
    pub token: u64,
    pub state: Box<ContainerState>,
}

impl Handler<HandOver> for ContainerActor {
    type Result = ();

    fn handle(&mut self, hand_over: HandOver, _: &mut Context<Self>) {
        let empty = ContainerState::new(self.state.limits());
        let state = Box::new(std::mem::replace(&mut self.state, empty));
        let token = self.token;
        tell(&hand_over.0, HandedOver { token, state });
    }
}

#[derive(Debug, Message)]
#[rtype(result = "Samples")]
pub struct GetSamples;

impl Handler<GetSamples> for ContainerActor {
    type Result = MessageResult<GetSamples>;

    fn handle(&mut self, _: GetSamples, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.samples(&self.id, self.ctx.now(), self.min_age, self.host))
    }
}

impl Handler<GetReferred> for ContainerActor {
    type Result = MessageResult<GetReferred>;

    fn handle(&mut self, message: GetReferred, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Some(message.0.referred(self.state.destinations())))
    }
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CollectGarbage;

impl Handler<CollectGarbage> for ContainerActor {
    type Result = ();

    fn handle(&mut self, _: CollectGarbage, _: &mut Context<Self>) {
        self.state.collect_garbage(self.ctx.now(), self.keep);
    }
}

/// The end, from the supervisor: an actor does not end by itself.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Retire;

impl Handler<Retire> for ContainerActor {
    type Result = ();

    fn handle(&mut self, _: Retire, context: &mut Context<Self>) {
        self.stopped = None;
        context.stop();
    }
}

#[cfg(feature = "test-hooks")]
impl Handler<crate::supervisor::hooks::Panic> for ContainerActor {
    type Result = ();

    #[expect(clippy::panic, reason = "this is what the hook is for")]
    fn handle(&mut self, _: crate::supervisor::hooks::Panic, _: &mut Context<Self>) {
        panic!("on request");
    }
}
