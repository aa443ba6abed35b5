//! The facade.
//!
//! Owns the answers. Receives questions from the registry, answers and news from the clients; tells the clients whom to ask
//! for and the registry who it is. Nobody waits for it. When it ends, the supervisor makes another with new clients, and
//! what was known is asked for again.
use super::{
    Forget, Resolve, Resolved, Said,
    state::{FacadeState, Limits},
};
use crate::{
    base::{
        context::Ctx,
        mailbox::{Depth, tell},
    },
    runtimes::{
        Lookup, Runtime,
        client::{self, Answered, Ask, ClientStarted, ConnectionChanged, RuntimeChanged},
        statistics::{Connection, Outcome, Statistics},
    },
};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, MessageResult, Recipient};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

pub struct RuntimesActor {
    state: FacadeState,
    ctx: Ctx,
    clients: BTreeMap<Runtime, (u64, Recipient<Ask>)>,
    sockets: BTreeMap<Runtime, Vec<PathBuf>>,
    registry: Option<Recipient<Resolved>>,
    statistics: Arc<Statistics>,
    depth: Depth,
    stopped: Option<Recipient<RuntimesStopped>>,
    token: u64,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RuntimesStopped {
    pub token: u64,
    pub panicked: bool,
}

pub struct Blueprint {
    pub ctx: Ctx,
    pub token: u64,
    pub limits: Limits,
    /// Whom there will be a client for, and where it looks.
    pub sockets: BTreeMap<Runtime, Vec<PathBuf>>,
    pub registry: Option<Recipient<Resolved>>,
    pub statistics: Arc<Statistics>,
    pub stopped: Recipient<RuntimesStopped>,
}

impl RuntimesActor {
    pub fn new(blueprint: Blueprint) -> Self {
        Self {
            state: FacadeState::new(blueprint.limits, blueprint.sockets.keys().copied()),
            depth: blueprint.ctx.depths.of("runtime"),
            ctx: blueprint.ctx,
            clients: BTreeMap::new(),
            sockets: blueprint.sockets,
            registry: blueprint.registry,
            statistics: blueprint.statistics,
            stopped: Some(blueprint.stopped),
            token: blueprint.token,
        }
    }

    fn now_ns(&self) -> u64 {
        self.ctx.clock.monotonic_ns()
    }

    /// Does what the logic wants done.
    fn perform(&mut self) {
        let effects = self.state.take_effects();
        for (runtime, lookup) in effects.asks {
            // A client that ends meanwhile is reported by its supervisor.
            if let Some((_, client)) = self.clients.get(&runtime) {
                client::ask(client, lookup, &self.depth);
            }
        }
        for resolved in effects.resolved {
            if let Some(registry) = &self.registry {
                tell(registry, resolved);
            }
        }
    }

    fn is_current(&self, runtime: Runtime, token: u64) -> bool {
        self.clients.get(&runtime).is_some_and(|(current, _)| *current == token)
    }

    fn tick(&mut self, _: &mut Context<Self>) {
        self.state.tick(self.now_ns());
        self.perform();
    }
}

impl Actor for RuntimesActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // All who send here tell; what is in its mailbox is bounded by what it asks and by the registry's containers.
        context.set_mailbox_capacity(16);
        context.run_interval(Duration::from_secs(1), Self::tick);
    }

    /// Also runs while a panic unwinds, so nothing here may fail.
    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(stopped) = self.stopped.take() {
            let (token, panicked) = (self.token, std::thread::panicking());
            tell(&stopped, RuntimesStopped { token, panicked });
        }
    }
}

impl Handler<Resolve> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, message: Resolve, _: &mut Context<Self>) {
        self.state.resolve(&message.lookup, self.now_ns());
        self.perform();
    }
}

impl Handler<Forget> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, message: Forget, _: &mut Context<Self>) {
        self.state.forget(&message.lookup);
    }
}

impl Handler<Answered> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, message: Answered, _: &mut Context<Self>) {
        let now_ns = self.now_ns();
        self.state
            .answered(message.runtime, &message.lookup, message.answer, now_ns);
        self.perform();
    }
}

impl Handler<ConnectionChanged> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, message: ConnectionChanged, _: &mut Context<Self>) {
        if self.is_current(message.runtime, message.token) {
            self.state
                .connection(message.runtime, message.connection, self.now_ns());
            self.perform();
        }
    }
}

impl Handler<RuntimeChanged> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, message: RuntimeChanged, _: &mut Context<Self>) {
        self.state.changed(message.runtime, &message.change, self.now_ns());
        self.perform();
    }
}

impl Handler<ClientStarted> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, message: ClientStarted, _: &mut Context<Self>) {
        self.clients.insert(message.runtime, (message.token, message.ask));
    }
}

/// Whom a question went to, and what they said. `None`: nobody has asked it.
#[derive(Debug, Message)]
#[rtype(result = "Option<Vec<(Runtime, Said)>>")]
pub struct ExplainLookup(pub Lookup);

impl Handler<ExplainLookup> for RuntimesActor {
    type Result = MessageResult<ExplainLookup>;

    fn handle(&mut self, message: ExplainLookup, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.explain(&message.0).map(<[_]>::to_vec))
    }
}

/// From the supervisor: a client has ended, and will not answer what it was asked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ClientLost {
    pub runtime: Runtime,
    pub token: u64,
}

impl Handler<ClientLost> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, message: ClientLost, _: &mut Context<Self>) {
        let runtime = message.runtime;
        if self.is_current(runtime, message.token) {
            self.clients.remove(&runtime);
            self.statistics.of(runtime).set_connection(Connection::Broken);
            self.ctx.features.degraded(runtime.as_str(), "restarting", "");
            self.state.lost(runtime, self.now_ns());
            self.perform();
        }
    }
}

/// A registry that knows nothing yet.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetRegistry(pub Recipient<Resolved>);

impl Handler<SetRegistry> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, message: SetRegistry, _: &mut Context<Self>) {
        self.registry = Some(message.0);
        self.state.forget_told();
    }
}

/// The end, from the supervisor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Retire;

impl Handler<Retire> for RuntimesActor {
    type Result = ();

    fn handle(&mut self, _: Retire, context: &mut Context<Self>) {
        self.stopped = None;
        context.stop();
    }
}

#[derive(Debug, Message)]
#[rtype(result = "Snapshot")]
pub struct GetSnapshot;

#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub runtimes: Vec<RuntimeSnapshot>,
    /// Answers that are kept, good and bad ones.
    pub cached: usize,
    pub capacity: usize,
    /// Answers that made room for others.
    pub evicted: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct RuntimeSnapshot {
    pub runtime: Runtime,
    pub connection: Connection,
    /// Where it is looked for.
    pub sockets: Vec<PathBuf>,
    pub waiting: usize,
    pub running: usize,
    /// By what came of them.
    pub calls: BTreeMap<&'static str, u64>,
    /// How often the connection or its actor ended, by cause.
    pub restarts: BTreeMap<&'static str, u64>,
}

impl Handler<GetSnapshot> for RuntimesActor {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Context<Self>) -> Self::Result {
        let restarts = self.ctx.restarts.read();
        let row = |(runtime, sockets): (&Runtime, &Vec<PathBuf>)| {
            let of = self.statistics.of(*runtime);
            let (waiting, running) = of.load();
            let own = restarts.iter().filter(|(actor, _, _)| *actor == runtime.as_str());
            RuntimeSnapshot {
                runtime: *runtime,
                connection: of.connection(),
                sockets: sockets.clone(),
                waiting,
                running,
                calls: Outcome::ALL
                    .into_iter()
                    .map(|outcome| (outcome.as_str(), of.calls(outcome)))
                    .collect(),
                restarts: own.map(|(_, cause, count)| (*cause, *count)).collect(),
            }
        };
        MessageResult(Snapshot {
            runtimes: self.sockets.iter().map(row).collect(),
            cached: self.state.len(),
            capacity: self.state.capacity(),
            evicted: self.state.evicted(),
        })
    }
}

#[cfg(feature = "test-hooks")]
impl Handler<crate::supervisor::hooks::Panic> for RuntimesActor {
    type Result = ();

    #[expect(clippy::panic, reason = "this is what the hook is for")]
    fn handle(&mut self, _: crate::supervisor::hooks::Panic, _: &mut Context<Self>) {
        panic!("on request");
    }
}
