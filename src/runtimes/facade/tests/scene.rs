//! Runtimes that do what they are told, and who asks them.
use crate::runtimes::facade::{
    Found, Resolve, Resolved,
    actor::{Blueprint, GetSnapshot, RuntimesActor, RuntimesStopped, Snapshot},
    state::Limits,
};
use crate::{
    base::{clock::Clock, context::Ctx, features::State, mailbox::tell},
    runtimes::{
        Change, Client, Engines, Lookup, Runtime, RuntimeError,
        client::{self, ClientActor, ClientStopped, FacadeRecipients},
        metadata::Metadata,
        statistics::{Outcome, Statistics},
    },
};
use actix::{Actor, Addr, Context, Handler, Recipient};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

pub(super) const A_MOMENT: Duration = Duration::from_millis(10);

/// What a fake runtime does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Mood {
    #[default]
    Absent,
    Well,
    /// Not even a connect ends.
    Hangs,
    /// All is well, but for calls about one container or another.
    HangsInCalls,
    Refuses,
    ClosesAtOnce,
    Garbage,
    Panics,
}

#[derive(Default)]
pub(super) struct Fake {
    pub(super) mood: Cell<Mood>,
    pub(super) known: RefCell<BTreeMap<Lookup, Metadata>>,
    pub(super) takes: Cell<Duration>,
    pub(super) asked: RefCell<Vec<Lookup>>,
    pub(super) running: Cell<usize>,
    pub(super) most: Cell<usize>,
    pub(super) connects: RefCell<Vec<Instant>>,
    pub(super) changes: RefCell<VecDeque<Change>>,
    pub(super) news: Notify,
}

thread_local! {
    static FAKES: RefCell<BTreeMap<Runtime, Rc<Fake>>> = RefCell::default();
}

pub(super) fn fake(runtime: Runtime) -> Rc<Fake> {
    FAKES.with_borrow_mut(|fakes| Rc::clone(fakes.entry(runtime).or_default()))
}

impl Fake {
    pub(super) fn knows(&self, runtime: Runtime, lookup: &Lookup, name: &str) {
        let mut metadata = Metadata::new(runtime);
        metadata.set_name(name);
        self.known.borrow_mut().insert(lookup.clone(), metadata);
    }

    pub(super) fn happens(&self, change: Change) {
        self.changes.borrow_mut().push_back(change);
        self.news.notify_one();
    }

    pub(super) fn set(&self, mood: Mood) {
        self.mood.set(mood);
        self.news.notify_one();
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.borrow().len()
    }
}

/// `RUNTIME` by its place among all.
struct FakeClient<const PLACE: usize>(Rc<Fake>);

fn broken() -> RuntimeError {
    RuntimeError::Broken {
        op: "inspect",
        source: "closed".into(),
    }
}

fn nonsense() -> RuntimeError {
    RuntimeError::Nonsense {
        op: "inspect",
        what: "\0".to_owned(),
    }
}

impl<const PLACE: usize> Client for FakeClient<PLACE> {
    const RUNTIME: Runtime = Runtime::ALL[PLACE];

    async fn connect(sockets: &[PathBuf]) -> Result<Self, RuntimeError> {
        let fake = fake(Self::RUNTIME);
        fake.connects.borrow_mut().push(Instant::now());
        match fake.mood.get() {
            Mood::Absent => Err(RuntimeError::NoSocket {
                runtime: Self::RUNTIME.as_str(),
                paths: sockets.to_vec(),
            }),
            Mood::Hangs => std::future::pending().await,
            Mood::Refuses => Err(RuntimeError::Connect {
                path: "/fake".into(),
                source: std::io::ErrorKind::ConnectionRefused.into(),
            }),
            _ => Ok(Self(fake)),
        }
    }

    async fn inspect(&self, lookup: &Lookup) -> Result<Option<Metadata>, RuntimeError> {
        let fake = &self.0;
        fake.asked.borrow_mut().push(lookup.clone());
        match fake.mood.get() {
            Mood::Hangs | Mood::HangsInCalls => std::future::pending().await,
            Mood::ClosesAtOnce => return Err(broken()),
            Mood::Garbage => return Err(nonsense()),
            Mood::Panics => panic!("on purpose"),
            _ => {}
        }
        fake.running.set(fake.running.get() + 1);
        fake.most.set(fake.most.get().max(fake.running.get()));
        if !fake.takes.get().is_zero() {
            sleep(fake.takes.get()).await;
        }
        fake.running.set(fake.running.get() - 1);
        Ok(fake.known.borrow().get(lookup).cloned())
    }

    async fn next_change(&self) -> Result<Change, RuntimeError> {
        loop {
            if let Some(change) = self.0.changes.borrow_mut().pop_front() {
                return Ok(change);
            }
            if self.0.mood.get() == Mood::Refuses {
                return Err(broken());
            }
            self.0.news.notified().await;
        }
    }
}

/// The paused clock of tokio, as the actors see it.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn monotonic_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn boottime_ns(&self) -> u64 {
        self.monotonic_ns()
    }

    fn wall_ns(&self) -> u64 {
        self.monotonic_ns()
    }
}

/// The registry and the supervisor.
#[derive(Default)]
struct Probe {
    resolved: Rc<RefCell<Vec<Resolved>>>,
    stopped: Rc<RefCell<Vec<ClientStopped>>>,
}

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<Resolved> for Probe {
    type Result = ();

    fn handle(&mut self, message: Resolved, _: &mut Context<Self>) {
        self.resolved.borrow_mut().push(message);
    }
}

impl Handler<ClientStopped> for Probe {
    type Result = ();

    fn handle(&mut self, message: ClientStopped, _: &mut Context<Self>) {
        self.stopped.borrow_mut().push(message);
    }
}

impl Handler<RuntimesStopped> for Probe {
    type Result = ();

    fn handle(&mut self, _: RuntimesStopped, _: &mut Context<Self>) {}
}

pub(super) struct Scene {
    pub(super) ctx: Ctx,
    pub(super) facade: Addr<RuntimesActor>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) resolved: Rc<RefCell<Vec<Resolved>>>,
    pub(super) stopped: Rc<RefCell<Vec<ClientStopped>>>,
    probe: Addr<Probe>,
}

impl Scene {
    /// Docker, Podman and containerd are looked for, in these moods.
    pub(super) async fn new(docker: Mood, podman: Mood, containerd: Mood) -> Self {
        Self::with(Limits::default(), [docker, podman, containerd]).await
    }

    pub(super) async fn with(limits: Limits, moods: [Mood; 3]) -> Self {
        tokio::time::pause();
        FAKES.with_borrow_mut(BTreeMap::clear);
        for (runtime, mood) in Runtime::ALL.into_iter().zip(moods) {
            fake(runtime).set(mood);
        }
        let ctx = Ctx {
            log: slog::Logger::root(slog::Discard, slog::o!()),
            clock: Arc::new(TokioClock(Instant::now())),
            ledger: Arc::default(),
            features: Arc::default(),
            depths: Arc::default(),
            pulses: Arc::default(),
            restarts: Arc::default(),
        };
        let (probe, statistics) = (Probe::default(), Arc::new(Statistics::default()));
        let (resolved, stopped) = (Rc::clone(&probe.resolved), Rc::clone(&probe.stopped));
        let probe = probe.start();
        let sockets = Runtime::ALL
            .into_iter()
            .take(3)
            .map(|runtime| (runtime, vec!["/fake".into()]));
        let facade = RuntimesActor::new(Blueprint {
            ctx: ctx.clone(),
            token: 0,
            limits,
            sockets: sockets.collect(),
            registry: Some(probe.clone().recipient()),
            statistics: Arc::clone(&statistics),
            stopped: probe.clone().recipient(),
        });
        let scene = Self {
            ctx,
            facade: facade.start(),
            statistics,
            resolved,
            stopped,
            probe,
        };
        scene.start::<0>(1);
        scene.start::<1>(2);
        scene.start::<2>(3);
        sleep(A_MOMENT).await;
        scene
    }

    pub(super) fn start<const PLACE: usize>(&self, token: u64) {
        let blueprint = client::Blueprint {
            ctx: self.ctx.clone(),
            token,
            sockets: vec!["/fake".into()],
            statistics: Arc::clone(&self.statistics),
            facade: FacadeRecipients {
                started: self.facade.clone().recipient(),
                answered: self.facade.clone().recipient(),
                connection: self.facade.clone().recipient(),
                changed: self.facade.clone().recipient(),
            },
            stopped: self.probe.clone().recipient(),
        };
        ClientActor::<FakeClient<PLACE>>::new(blueprint).start();
    }

    pub(super) fn ask(&self, lookup: &Lookup) {
        let facade: Recipient<Resolve> = self.facade.clone().recipient();
        let lookup = lookup.clone();
        tell(&facade, Resolve { lookup });
    }

    /// What the registry was told since the last look.
    pub(super) fn told(&self) -> Vec<String> {
        let resolved = self.resolved.take();
        let told = resolved.into_iter().map(|resolved| match resolved.found {
            Found::Known(known) => format!("{} {}", known.runtime.as_str(), known.name),
            Found::Nobody => "nobody".to_owned(),
            Found::Unanswered => "unanswered".to_owned(),
        });
        told.collect()
    }

    pub(super) async fn after(&self, time: Duration) -> Vec<String> {
        sleep(time).await;
        self.told()
    }

    pub(super) async fn asked(&self, lookup: &Lookup) -> Vec<String> {
        self.ask(lookup);
        self.after(A_MOMENT).await
    }

    pub(super) async fn snapshot(&self) -> Snapshot {
        self.facade.send(GetSnapshot).await.unwrap()
    }

    pub(super) fn row(&self, name: &str) -> (State, &'static str) {
        let rows = self.ctx.features.rows();
        let row = rows.iter().find(|row| row.feature == name).unwrap();
        (row.state, row.reason)
    }

    pub(super) fn calls(&self, runtime: Runtime, outcome: Outcome) -> u64 {
        self.statistics.of(runtime).calls(outcome)
    }
}

pub(super) fn engine(number: usize, engines: Engines) -> Lookup {
    let id = format!("{number:064x}").into();
    Lookup::Engine { id, engines }
}

pub(super) fn id(lookup: &Lookup) -> Arc<str> {
    match lookup {
        Lookup::Engine { id, .. } => Arc::clone(id),
        other => panic!("{other:?}"),
    }
}

pub(super) const NONE: [&str; 0] = [];
