//! One runtime.
//!
//! Owns the connection. Is asked by the facade, and tells it the answers, what changes, and whether there is a connection;
//! asks nobody here. Whatever the runtime does, every question is answered: without a connection, beyond the queue and after
//! the deadline with `Unanswered`.
//!
//! | what happens | what follows |
//! | --- | --- |
//! | no socket | the runtime is not there, which is fine; another look in some seconds |
//! | connecting fails | back-off with jitter, for ever |
//! | a call is late | the runtime is asked for a sign of life, and without one the connection is given up |
//! | the connection breaks | what waits is `Unanswered`, and the way begins anew |
//! | a panic | the supervisor makes another, and tells the facade |
use super::{
    Change, Client, Lookup, Runtime, RuntimeError, brief,
    metadata::Metadata,
    statistics::{Connection, OfRuntime, Outcome, Statistics},
};
use crate::{
    base::{
        context::Ctx,
        mailbox::{Depth, Queued, tell},
    },
    supervisor::backoff::Backoffs,
};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient, WrapFuture, fut::ActorFutureExt};
use slog::{info, warn};
use std::{collections::VecDeque, path::PathBuf, rc::Rc, sync::Arc, time::Duration};
use tokio::time::timeout;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const CALL_LIMIT: Duration = Duration::from_secs(5);
const ABSENT_INTERVAL: Duration = Duration::from_secs(5);
/// The last is short: who comes back is to be seen within seconds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
const MAX_RUNNING: usize = 16;
const MAX_QUEUE: usize = 4096;

/// Whom it tells.
#[derive(Clone, Debug)]
pub struct FacadeRecipients {
    pub started: Recipient<ClientStarted>,
    pub answered: Recipient<Answered>,
    pub connection: Recipient<ConnectionChanged>,
    pub changed: Recipient<RuntimeChanged>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ask {
    pub lookup: Lookup,
    pub queued: Queued,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Known(Arc<Metadata>),
    Nobody,
    Unanswered,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Answered {
    pub runtime: Runtime,
    pub lookup: Lookup,
    pub answer: Answer,
}

/// The first word of a client: it is who answers for its runtime from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ClientStarted {
    pub runtime: Runtime,
    pub token: u64,
    pub ask: Recipient<Ask>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ConnectionChanged {
    pub runtime: Runtime,
    pub token: u64,
    pub connection: Connection,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RuntimeChanged {
    pub runtime: Runtime,
    pub change: Change,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ClientStopped {
    pub runtime: Runtime,
    pub token: u64,
    pub panicked: bool,
}

#[derive(Clone)]
pub struct Blueprint {
    pub ctx: Ctx,
    pub token: u64,
    pub sockets: Vec<PathBuf>,
    pub statistics: Arc<Statistics>,
    pub facade: FacadeRecipients,
    pub stopped: Recipient<ClientStopped>,
}

pub struct ClientActor<C: Client> {
    ctx: Ctx,
    sockets: Vec<PathBuf>,
    statistics: Arc<Statistics>,
    facade: FacadeRecipients,
    stopped: Option<Recipient<ClientStopped>>,
    token: u64,
    client: Option<Rc<C>>,
    /// Of the connection, so that what an earlier one ends with is not taken for the end of this one.
    generation: u64,
    queue: VecDeque<Ask>,
    running: usize,
    checking: bool,
    backoffs: Backoffs,
}

impl<C: Client> ClientActor<C> {
    pub fn new(blueprint: Blueprint) -> Self {
        Self {
            ctx: blueprint.ctx,
            sockets: blueprint.sockets,
            statistics: blueprint.statistics,
            facade: blueprint.facade,
            stopped: Some(blueprint.stopped),
            token: blueprint.token,
            client: None,
            generation: 0,
            queue: VecDeque::new(),
            running: 0,
            checking: false,
            backoffs: Backoffs::new(BACKOFF.0, BACKOFF.1),
        }
    }

    fn own(&self) -> &OfRuntime {
        self.statistics.of(C::RUNTIME)
    }

    fn set_connection(&self, connection: Connection) {
        self.own().set_connection(connection);
        let changed = ConnectionChanged {
            runtime: C::RUNTIME,
            token: self.token,
            connection,
        };
        tell(&self.facade.connection, changed);
    }

    fn connect(&mut self, context: &mut Context<Self>) {
        let sockets = self.sockets.clone();
        let attempt = async move { connect::<C>(&sockets).await };
        context.spawn(attempt.into_actor(self).map(Self::connected));
    }

    fn connected(attempt: Result<C, RuntimeError>, actor: &mut Self, context: &mut Context<Self>) {
        let (name, log) = (C::RUNTIME.as_str(), &actor.ctx.log);
        match attempt {
            Ok(client) => {
                if actor.ctx.features.ok(name) {
                    info!(log, "connected to a runtime"; "runtime" => name);
                }
                actor.client = Some(Rc::new(client));
                actor.set_connection(Connection::Connected);
                actor.listen(context);
            }
            Err(RuntimeError::NoSocket { paths, .. }) => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                let state = crate::base::features::State::Off;
                actor.ctx.features.set(name, state, "absent", paths.join(", "));
                actor.set_connection(Connection::Absent);
                context.run_later(ABSENT_INTERVAL, Self::connect);
            }
            Err(error) => {
                if actor.ctx.features.degraded(name, cause(&error), chain(&error)) {
                    warn!(log, "a runtime does not answer"; "runtime" => name, "error" => chain(&error));
                }
                actor.set_connection(Connection::Broken);
                actor.connect_later(context);
            }
        }
    }

    fn connect_later(&mut self, context: &mut Context<Self>) {
        let wait = self.backoffs.next("connect", self.ctx.clock.monotonic_ns());
        context.run_later(wait, Self::connect);
    }

    fn listen(&self, context: &mut Context<Self>) {
        let Some(client) = self.client.clone() else { return };
        let generation = self.generation;
        let next = async move { client.next_change().await };
        context.spawn(next.into_actor(self).map(move |change, actor, context| {
            if generation != actor.generation {
                return;
            }
            match change {
                Ok(change) => {
                    let runtime = C::RUNTIME;
                    tell(&actor.facade.changed, RuntimeChanged { runtime, change });
                    actor.listen(context);
                }
                Err(error) => actor.broke(&error, context),
            }
        }));
    }

    /// The connection is of no use any more.
    fn broke(&mut self, error: &RuntimeError, context: &mut Context<Self>) {
        if self.client.take().is_none() {
            return;
        }
        self.generation += 1;
        let (name, cause) = (C::RUNTIME.as_str(), cause(error));
        self.ctx.restarts.count(name, cause);
        self.ctx.features.degraded(name, cause, chain(error));
        warn!(self.ctx.log, "the connection to a runtime broke"; "runtime" => name, "error" => chain(error));
        self.set_connection(Connection::Broken);
        for ask in std::mem::take(&mut self.queue) {
            self.answer(ask.lookup, Outcome::Rejected, Answer::Unanswered);
        }
        self.connect_later(context);
    }

    fn answer(&self, lookup: Lookup, outcome: Outcome, answer: Answer) {
        self.own().count(outcome);
        let runtime = C::RUNTIME;
        tell(
            &self.facade.answered,
            Answered {
                runtime,
                lookup,
                answer,
            },
        );
    }

    fn pump(&mut self, context: &mut Context<Self>) {
        // Nobody is sent where perhaps nobody comes back from.
        while self.running < MAX_RUNNING && !self.checking {
            let Some(client) = self.client.clone() else { break };
            let Some(Ask { lookup, .. }) = self.queue.pop_front() else {
                break;
            };
            self.running += 1;
            let generation = self.generation;
            let call = async move {
                let answer = timeout(CALL_LIMIT, client.inspect(&lookup)).await;
                (
                    lookup,
                    answer.unwrap_or_else(|_elapsed| Err(late("inspect", CALL_LIMIT))),
                )
            };
            context.spawn(call.into_actor(self).map(move |(lookup, answer), actor, context| {
                actor.running -= 1;
                actor.inspected(lookup, answer, generation, context);
                actor.pump(context);
            }));
        }
        self.own().set_load(self.queue.len(), self.running);
    }

    fn inspected(
        &mut self,
        lookup: Lookup,
        answer: Result<Option<Metadata>, RuntimeError>,
        generation: u64,
        context: &mut Context<Self>,
    ) {
        let error = match answer {
            Ok(Some(metadata)) => return self.answer(lookup, Outcome::Ok, Answer::Known(Arc::new(metadata))),
            Ok(None) => return self.answer(lookup, Outcome::Unknown, Answer::Nobody),
            Err(error) => error,
        };
        let outcome = match error {
            RuntimeError::Deadline { .. } => Outcome::Timeout,
            _ => Outcome::Error,
        };
        self.answer(lookup, outcome, Answer::Unanswered);
        if generation != self.generation {
            return;
        }
        match error {
            // Perhaps about this one only.
            RuntimeError::Nonsense { .. } => {
                warn!(self.ctx.log, "runtime call failed"; "runtime" => C::RUNTIME.as_str(), "error" => chain(&error));
            }
            RuntimeError::Deadline { .. } => self.check(context),
            _ => self.broke(&error, context),
        }
    }

    /// A call that does not end may be about one container, or all of them.
    fn check(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.checking, true) {
            return;
        }
        let (sockets, generation) = (self.sockets.clone(), self.generation);
        let check = async move { connect::<C>(&sockets).await.map(drop) };
        context.spawn(check.into_actor(self).map(move |alive, actor, context| {
            actor.checking = false;
            if let (Err(error), true) = (alive, generation == actor.generation) {
                actor.broke(&error, context);
            }
            actor.pump(context);
        }));
    }
}

async fn connect<C: Client>(sockets: &[PathBuf]) -> Result<C, RuntimeError> {
    let attempt = timeout(CONNECT_LIMIT, C::connect(sockets)).await;
    attempt.unwrap_or_else(|_elapsed| Err(late("connect", CONNECT_LIMIT)))
}

fn late(op: &'static str, after: Duration) -> RuntimeError {
    RuntimeError::Deadline { op, after }
}

fn cause(error: &RuntimeError) -> &'static str {
    match error {
        RuntimeError::NoSocket { .. } => "absent",
        RuntimeError::Connect { .. } => "unreachable",
        RuntimeError::Deadline { .. } => "timeout",
        RuntimeError::Broken { .. } => "connection",
        RuntimeError::Nonsense { .. } => "nonsense",
    }
}

/// With its sources, none of which is ours.
fn chain(error: &RuntimeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&brief(&error.to_string()));
        source = error.source();
    }
    brief(&text)
}

impl<C: Client> Actor for ClientActor<C> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // The facade tells; its questions are bounded by the queue.
        context.set_mailbox_capacity(16);
        let started = ClientStarted {
            runtime: C::RUNTIME,
            token: self.token,
            ask: context.address().recipient(),
        };
        tell(&self.facade.started, started);
        self.set_connection(Connection::Connecting);
        self.connect(context);
    }

    /// Also runs while a panic unwinds, so nothing here may fail.
    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(stopped) = self.stopped.take() {
            let (runtime, token) = (C::RUNTIME, self.token);
            let panicked = std::thread::panicking();
            tell(
                &stopped,
                ClientStopped {
                    runtime,
                    token,
                    panicked,
                },
            );
        }
    }
}

impl<C: Client> Handler<Ask> for ClientActor<C> {
    type Result = ();

    fn handle(&mut self, ask: Ask, context: &mut Context<Self>) {
        if self.client.is_none() || self.queue.len() >= MAX_QUEUE {
            return self.answer(ask.lookup, Outcome::Rejected, Answer::Unanswered);
        }
        self.queue.push_back(ask);
        self.pump(context);
    }
}

/// The end, from the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Retire;

impl<C: Client> Handler<Retire> for ClientActor<C> {
    type Result = ();

    fn handle(&mut self, _: Retire, context: &mut Context<Self>) {
        self.stopped = None;
        context.stop();
    }
}

#[cfg(feature = "test-hooks")]
impl<C: Client> Handler<crate::supervisor::hooks::Panic> for ClientActor<C> {
    type Result = ();

    #[expect(clippy::panic, reason = "this is what the hook is for")]
    fn handle(&mut self, _: crate::supervisor::hooks::Panic, _: &mut Context<Self>) {
        panic!("on request");
    }
}

/// A client of whatever runtime, as the supervisor holds it.
#[derive(Clone)]
pub struct Handle {
    pub retire: Recipient<Retire>,
    #[cfg(feature = "test-hooks")]
    pub panic: Recipient<crate::supervisor::hooks::Panic>,
}

/// Starts a client on a thread.
pub type Factory = Arc<dyn Fn(&actix_rt::ArbiterHandle, Blueprint) -> Handle + Send + Sync>;

pub fn factory<C: Client>() -> Factory {
    Arc::new(|thread, blueprint| {
        let client = ClientActor::<C>::start_in_arbiter(thread, |_| ClientActor::new(blueprint));
        Handle {
            retire: client.clone().recipient(),
            #[cfg(feature = "test-hooks")]
            panic: client.recipient(),
        }
    })
}

/// Sends a question, and counts it while it waits.
pub(super) fn ask(to: &Recipient<Ask>, lookup: Lookup, depth: &Depth) {
    let queued = depth.queued();
    tell(to, Ask { lookup, queued });
}
