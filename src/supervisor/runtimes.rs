//! The facade of the runtimes and its clients: started together, on a thread of their own.
use super::actor::Supervisor;
use crate::{
    base::{context::Ctx, mailbox::tell},
    registry::messages::{RuntimesRecipients, SetRuntimes},
    runtimes::{
        Runtime,
        client::{self, ClientStopped, FacadeRecipients, Factory, Handle},
        facade::{
            Resolved,
            actor::{Blueprint, ClientLost, ExplainLookup, Retire, RuntimesActor, RuntimesStopped, SetRegistry},
            state::Limits,
        },
        statistics::{Connection, Statistics},
    },
};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient};
use actix_rt::ArbiterHandle;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// What they are made of.
#[derive(Clone)]
pub struct RuntimeParts {
    pub edge: ArbiterHandle,
    pub statistics: Arc<Statistics>,
    pub clients: Vec<ClientPart>,
}

#[derive(Clone)]
pub struct ClientPart {
    pub runtime: Runtime,
    pub sockets: Vec<PathBuf>,
    pub factory: Factory,
}

pub struct Runtimes {
    parts: RuntimeParts,
    ctx: Ctx,
    facade: Option<(u64, Addr<RuntimesActor>)>,
    clients: BTreeMap<Runtime, (u64, Handle)>,
    registry: Option<Recipient<Resolved>>,
    next_token: u64,
}

impl Runtimes {
    pub fn new(parts: RuntimeParts, ctx: Ctx) -> Self {
        // Of the thread, not of an actor: one that waits for its successor is no thread that hangs.
        parts.edge.spawn(beat(ctx.clone()));
        Self {
            parts,
            ctx,
            facade: None,
            clients: BTreeMap::new(),
            registry: None,
            next_token: 0,
        }
    }

    /// Whom to ask, while there is one.
    pub fn recipients(&self) -> Option<RuntimesRecipients> {
        self.facade.clone().map(|(_, facade)| RuntimesRecipients {
            resolve: facade.clone().recipient(),
            forget: facade.recipient(),
        })
    }

    pub fn explainer(&self) -> Option<Recipient<ExplainLookup>> {
        self.facade.clone().map(|(_, facade)| facade.recipient())
    }

    /// Whom to tell from now on.
    pub fn set_registry(&mut self, registry: Recipient<Resolved>) {
        if let Some((_, facade)) = &self.facade {
            tell(&facade.clone().recipient(), SetRegistry(registry.clone()));
        }
        self.registry = Some(registry);
    }

    pub fn start(&mut self, facade: Recipient<RuntimesStopped>, client: &Recipient<ClientStopped>) {
        let token = self.token();
        let sockets = self
            .parts
            .clients
            .iter()
            .map(|part| (part.runtime, part.sockets.clone()));
        let blueprint = Blueprint {
            ctx: self.ctx.component("runtimes"),
            token,
            limits: Limits::default(),
            sockets: sockets.collect(),
            registry: self.registry.clone(),
            statistics: Arc::clone(&self.parts.statistics),
            stopped: facade,
        };
        let facade = RuntimesActor::start_in_arbiter(&self.parts.edge, |_| RuntimesActor::new(blueprint));
        self.facade = Some((token, facade));
        for runtime in self.parts.clients.iter().map(|part| part.runtime).collect::<Vec<_>>() {
            self.start_client(runtime, client.clone());
        }
    }

    /// Unless the facade has ended, and with it this client's place.
    pub fn start_client(&mut self, runtime: Runtime, stopped: Recipient<ClientStopped>) {
        let Some((_, facade)) = self.facade.clone() else { return };
        if self.clients.contains_key(&runtime) {
            return;
        }
        let token = self.token();
        let Some(part) = self.parts.clients.iter().find(|part| part.runtime == runtime) else {
            return;
        };
        let blueprint = client::Blueprint {
            ctx: self.ctx.component("runtimes"),
            token,
            sockets: part.sockets.clone(),
            statistics: Arc::clone(&self.parts.statistics),
            facade: FacadeRecipients {
                started: facade.clone().recipient(),
                answered: facade.clone().recipient(),
                connection: facade.clone().recipient(),
                changed: facade.recipient(),
            },
            stopped,
        };
        let handle = (part.factory)(&self.parts.edge, blueprint);
        self.clients.insert(runtime, (token, handle));
    }

    /// Says whether it was the one there is.
    pub fn client_stopped(&mut self, message: &ClientStopped) -> bool {
        let (runtime, token) = (message.runtime, message.token);
        let current = self.clients.get(&runtime).is_some_and(|(current, _)| *current == token);
        if current {
            self.clients.remove(&runtime);
            if let Some((_, facade)) = &self.facade {
                tell(&facade.clone().recipient(), ClientLost { runtime, token });
            }
        }
        current
    }

    /// Says whether it was the one there is. Its clients end with it: their answers are of no use to another.
    pub fn facade_stopped(&mut self, message: &RuntimesStopped) -> bool {
        let current = self.facade.as_ref().is_some_and(|(token, _)| *token == message.token);
        if current {
            self.facade = None;
            self.retire_clients();
        }
        current
    }

    fn retire_clients(&mut self) {
        for (runtime, (_, client)) in std::mem::take(&mut self.clients) {
            self.parts.statistics.of(runtime).set_connection(Connection::Broken);
            tell(&client.retire, client::Retire);
        }
    }

    pub fn retire(&mut self) {
        self.retire_clients();
        if let Some((_, facade)) = self.facade.take() {
            tell(&facade.recipient(), Retire);
        }
    }

    /// Names of the actors, and whether they run.
    pub fn rows(&self) -> Vec<(&'static str, bool)> {
        let mut rows = vec![(
            "runtimes",
            self.facade.as_ref().is_some_and(|(_, facade)| facade.connected()),
        )];
        let clients = self.parts.clients.iter().map(|part| part.runtime);
        rows.extend(clients.map(|runtime| {
            let client = self.clients.get(&runtime);
            (
                runtime.as_str(),
                client.is_some_and(|(_, client)| client.retire.connected()),
            )
        }));
        rows
    }

    #[cfg(feature = "test-hooks")]
    pub fn panic(&self, actor: &str) -> Option<()> {
        use super::hooks::Panic;
        if actor == "runtimes" {
            let facade = self.facade.as_ref();
            return facade.map(|(_, facade)| tell(&facade.clone().recipient(), Panic));
        }
        let client = self.clients.iter().find(|(runtime, _)| runtime.as_str() == actor);
        client.map(|(_, (_, client))| tell(&client.panic, Panic))
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

async fn beat(ctx: Ctx) {
    loop {
        ctx.pulses.beat("edge", ctx.clock.monotonic_ns());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Supervisor {
    pub(super) fn start_runtimes(&mut self, context: &mut Context<Self>) {
        if let Some(runtimes) = self.runtimes.as_mut().filter(|_| !self.ending) {
            runtimes.start(context.address().recipient(), &context.address().recipient());
            if let (Some(registry), Some(recipients)) = (&self.registry, runtimes.recipients()) {
                tell(&registry.clone().recipient(), SetRuntimes(recipients));
            }
        }
    }
}

impl Handler<RuntimesStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: RuntimesStopped, context: &mut Context<Self>) {
        let current = self
            .runtimes
            .as_mut()
            .is_some_and(|runtimes| runtimes.facade_stopped(&message));
        if current && !self.ending {
            let wait = self.ended("runtimes", "runtimes", message.panicked);
            context.run_later(wait, |actor, context| actor.start_runtimes(context));
        }
    }
}

impl Handler<ClientStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: ClientStopped, context: &mut Context<Self>) {
        let current = self
            .runtimes
            .as_mut()
            .is_some_and(|runtimes| runtimes.client_stopped(&message));
        if !current || self.ending {
            return;
        }
        let name = message.runtime.as_str();
        let wait = self.ended(name, name, message.panicked);
        context.run_later(wait, move |actor, context| {
            if let Some(runtimes) = actor.runtimes.as_mut().filter(|_| !actor.ending) {
                runtimes.start_client(message.runtime, context.address().recipient());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::SystemClock,
        runtimes::{Change, Client, Found, Lookup, RuntimeError, facade::Resolve, metadata::Metadata},
    };
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    /// Panics at its first two questions, about units, and knows all others.
    struct Fragile;

    static ASKED: AtomicU32 = AtomicU32::new(0);

    impl Client for Fragile {
        const RUNTIME: Runtime = Runtime::Systemd;

        async fn connect(_: &[PathBuf]) -> Result<Self, RuntimeError> {
            Ok(Self)
        }

        async fn inspect(&self, _: &Lookup) -> Result<Option<Metadata>, RuntimeError> {
            assert!(ASKED.fetch_add(1, SeqCst) >= 2, "on purpose");
            Ok(Some(Metadata::new(Runtime::Systemd)))
        }

        async fn next_change(&self) -> Result<Change, RuntimeError> {
            std::future::pending().await
        }
    }

    /// What the supervisor does, without its back-off, and the registry.
    struct Both {
        runtimes: Runtimes,
        resolved: Arc<Mutex<Vec<Found>>>,
        panics: Arc<AtomicU32>,
    }

    impl Actor for Both {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Context<Self>) {
            self.runtimes.set_registry(context.address().recipient());
            self.start(context);
        }
    }

    impl Both {
        fn start(&mut self, context: &mut Context<Self>) {
            let address = context.address();
            self.runtimes.start(address.clone().recipient(), &address.recipient());
            self.ask();
        }

        fn ask(&self) {
            let unit = "a.service".into();
            let lookup = Lookup::Unit { unit };
            tell(&self.runtimes.recipients().unwrap().resolve, Resolve { lookup });
        }
    }

    impl Handler<Resolved> for Both {
        type Result = ();

        fn handle(&mut self, message: Resolved, _: &mut Context<Self>) {
            self.resolved.lock().push(message.found);
        }
    }

    impl Handler<ClientStopped> for Both {
        type Result = ();

        fn handle(&mut self, message: ClientStopped, context: &mut Context<Self>) {
            assert!(self.runtimes.client_stopped(&message));
            assert!(!self.runtimes.client_stopped(&message), "it is another by now");
            self.panics.fetch_add(u32::from(message.panicked), SeqCst);
            self.runtimes
                .start_client(message.runtime, context.address().recipient());
        }
    }

    impl Handler<RuntimesStopped> for Both {
        type Result = ();

        fn handle(&mut self, message: RuntimesStopped, context: &mut Context<Self>) {
            assert!(self.runtimes.facade_stopped(&message));
            assert!(self.runtimes.recipients().is_none() && self.runtimes.clients.is_empty());
            self.start(context);
        }
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let held = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), held).await.expect(what);
    }

    #[actix::test]
    async fn clients_that_panic_and_a_facade_that_ends_are_replaced() {
        let edge = actix_rt::Arbiter::new();
        let ctx = Ctx {
            log: slog::Logger::root(slog::Discard, slog::o!()),
            clock: Arc::new(SystemClock),
            ledger: Arc::default(),
            features: Arc::default(),
            depths: Arc::default(),
            pulses: Arc::default(),
            restarts: Arc::default(),
        };
        let parts = RuntimeParts {
            edge: edge.handle(),
            statistics: Arc::default(),
            clients: vec![ClientPart {
                runtime: Runtime::Systemd,
                sockets: Vec::new(),
                factory: client::factory::<Fragile>(),
            }],
        };
        let (resolved, panics) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU32::new(0)));
        let both = Both {
            runtimes: Runtimes::new(parts, ctx.clone()),
            resolved: Arc::clone(&resolved),
            panics: Arc::clone(&panics),
        };
        let both = both.start();
        let known = || {
            resolved
                .lock()
                .iter()
                .filter(|found| matches!(found, Found::Known(_)))
                .count()
        };
        until("it is known in the end", || known() == 1).await;
        assert_eq!(panics.load(SeqCst), 2);
        assert!(resolved.lock().contains(&Found::Unanswered));
        let beats = ctx.pulses.silent(u64::MAX, Duration::ZERO);
        assert_eq!(beats.len(), 1, "the thread gives signs of life: {beats:?}");

        // Without a word to the supervisor it would be missed; with it, all is new.
        both.send(EndFacade).await.unwrap();
        until("it is known again", || known() == 2).await;
        edge.stop();
    }

    #[derive(Debug, actix::Message)]
    #[rtype(result = "()")]
    struct EndFacade;

    impl Handler<EndFacade> for Both {
        type Result = ();

        fn handle(&mut self, _: EndFacade, context: &mut Context<Self>) {
            let (token, facade) = self.runtimes.facade.clone().unwrap();
            tell(&facade.recipient(), Retire);
            let panicked = true;
            tell(&context.address().recipient(), RuntimesStopped { token, panicked });
        }
    }
}
