//! For tests: a supervisor, a registry and containers that answer what they are told to, when they are told to.
use super::{admin::tap::Taps, scrape::Faces};
use crate::{
    base::{
        clock::ManualClock,
        context::Ctx,
        ids::{Application, CgroupId, ContainerId, NetnsId},
    },
    collect::worker::Worker,
    config::{self, Config, Live},
    container::{
        actor::GetSamples,
        exchanges::ByProtocol,
        files::FileInUse,
        health::HealthByRole,
        requests::Requests,
        samples::{Destination, Listen, Samples},
    },
    decode::{OpenFile, Protocol},
    metrics::families::NodeLabels,
    registry::{
        actor::{GetHeldSamples, GetSnapshot, Snapshot, TableSnapshot},
        explain::{ExplainAddress, ExplainProcess},
        lifecycle::Subscribe,
        members::GetMembers,
        messages::SetFilters,
        state::{Node, RegistryState},
    },
    supervisor::messages::{ActorRow, Containers, EndTap, Explainer, GetActors, GetContainers, SetTap},
    tracer::messages::SetL7,
};
use actix::{Actor, Addr, Context, Handler, MessageResult, Recipient, ResponseFuture};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

/// As good as never.
pub(super) const NEVER: Duration = Duration::from_secs(1_000_000);

pub(super) fn samples(id: &str) -> Samples {
    Samples {
        id: id.into(),
        exposed: true,
        since_wall_ns: 1_500_000_000,
        processes: 2,
        restarts: 3,
        oom_kills: 1,
        applications: ["nginx", "php"].map(Application::from).into(),
        destinations: vec![Destination {
            key: Some(crate::decode::DestinationKey::direct("10.0.0.1:80".parse().unwrap())),
            connects: 3,
            failures: 1,
            failures_by_errno: BTreeMap::from([(libc::ECONNREFUSED, 1)]),
            active: 1,
            connect_ns: 1_000_000,
            sent_bytes: 10,
            received_bytes: 20,
            retransmits: 4,
            closes: [1, 1, 0, 0],
            exchanges: ByProtocol::example(Protocol::Redis),
            has_connected: true,
        }],
        listens: vec![Listen {
            address: Some("[::1]:443".parse().unwrap()),
            sockets: 2,
            open: true,
            ..Listen::default()
        }],
        files: [FileInUse {
            file: OpenFile {
                path: (*b"/var/log/a\xff").into(),
                truncated: false,
                mount_id: 29,
                device: (259, 1),
                inode: 77,
                deleted: false,
            },
            append: true,
            processes: 2,
        }]
        .into(),
        files_left_out: 3,
        health: HealthByRole::default(),
        requests: Requests::example(),
        metadata: None,
        rejected: 0,
    }
}

pub(super) struct FakeContainer {
    pub samples: Samples,
    pub after: Duration,
}

impl Actor for FakeContainer {
    type Context = Context<Self>;
}

impl Handler<GetSamples> for FakeContainer {
    type Result = ResponseFuture<Samples>;

    fn handle(&mut self, _: GetSamples, _: &mut Context<Self>) -> Self::Result {
        let (samples, after) = (self.samples.clone(), self.after);
        Box::pin(async move {
            sleep(after).await;
            samples
        })
    }
}

pub(super) fn running(id: &str, after: Duration) -> (ContainerId, Recipient<GetSamples>) {
    let samples = samples(id);
    (id.into(), FakeContainer { samples, after }.start().recipient())
}

/// Its mailbox is closed.
pub(super) fn dead(id: &str) -> (ContainerId, Recipient<GetSamples>) {
    let arbiter = actix_rt::Arbiter::new();
    let samples = samples(id);
    let start = |_: &mut Context<_>| FakeContainer {
        samples,
        after: Duration::ZERO,
    };
    let addr = FakeContainer::start_in_arbiter(&arbiter.handle(), start);
    arbiter.stop();
    arbiter.join().unwrap();
    (id.into(), addr.recipient())
}

pub(super) struct FakeRegistry {
    pub held: Vec<Samples>,
    pub after: Duration,
}

impl Actor for FakeRegistry {
    type Context = Context<Self>;
}

impl Handler<GetHeldSamples> for FakeRegistry {
    type Result = ResponseFuture<Vec<Samples>>;

    fn handle(&mut self, _: GetHeldSamples, _: &mut Context<Self>) -> Self::Result {
        let (held, after) = (self.held.clone(), self.after);
        Box::pin(async move {
            sleep(after).await;
            held
        })
    }
}

impl Handler<GetSnapshot> for FakeRegistry {
    type Result = ResponseFuture<Snapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Context<Self>) -> Self::Result {
        let after = self.after;
        Box::pin(async move {
            sleep(after).await;
            Snapshot {
                batches: 1,
                questions_waiting: 0,
                containers_running: 1,
                tables: vec![TableSnapshot {
                    table: "processes",
                    entries: 5,
                    capacity: 10,
                    rejected: 0,
                }],
                subscribers: Vec::new(),
            }
        })
    }
}

/// A registry that knows one process, which is itself.
pub(super) struct FakeExplainer {
    pub state: RegistryState,
}

impl Actor for FakeExplainer {
    type Context = Context<Self>;
}

impl Handler<ExplainProcess> for FakeExplainer {
    type Result = MessageResult<ExplainProcess>;

    fn handle(&mut self, message: ExplainProcess, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.explain(message.tgid))
    }
}

impl Handler<ExplainAddress> for FakeExplainer {
    type Result = MessageResult<ExplainAddress>;

    fn handle(&mut self, message: ExplainAddress, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.explain_address(message.0))
    }
}

/// Of this machine, by default.
pub(super) fn worker(proc: &std::path::Path) -> Arc<Worker> {
    let (features, clock) = (Arc::default(), Arc::new(ManualClock::default()));
    Arc::new(Worker::new(proc.to_owned(), "/", &node(), None, features, clock))
}

pub(super) fn node() -> Node {
    Node {
        host_netns: NetnsId(1),
        root_cgroup: CgroupId(1),
        cgroup_base: "/".to_owned(),
        legacy_hierarchies: true,
        own_tgid: 999,
    }
}

#[derive(Default)]
pub(super) struct FakeSupervisor {
    pub running: Vec<(ContainerId, Recipient<GetSamples>)>,
    pub registry: Option<Addr<FakeRegistry>>,
    /// Answers that many times, and then no more.
    pub answers: Option<usize>,
    pub explainer: Option<Addr<FakeExplainer>>,
    pub asked: Arc<AtomicUsize>,
    pub subscribed: Arc<parking_lot::Mutex<Vec<Subscribe>>>,
    pub filters: Arc<parking_lot::Mutex<Vec<Arc<config::Filters>>>>,
    pub dns: Arc<parking_lot::Mutex<Vec<bool>>>,
    pub proc: Option<std::path::PathBuf>,
    pub config_file: Option<std::path::PathBuf>,
    pub config: Config,
    /// Of any container that runs.
    pub members: Arc<parking_lot::Mutex<std::collections::BTreeSet<u32>>>,
    pub tapped: Arc<parking_lot::Mutex<Vec<SetTap>>>,
    pub untapped: Arc<parking_lot::Mutex<Vec<u64>>>,
    #[cfg(feature = "test-hooks")]
    pub broken: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl FakeSupervisor {
    fn hangs(&self) -> bool {
        self.answers
            .is_some_and(|answers| self.asked.load(Ordering::SeqCst) > answers)
    }
}

impl Actor for FakeSupervisor {
    type Context = Context<Self>;
}

impl Handler<GetContainers> for FakeSupervisor {
    type Result = ResponseFuture<Containers>;

    fn handle(&mut self, _: GetContainers, _: &mut Context<Self>) -> Self::Result {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let after = if self.hangs() { NEVER } else { Duration::ZERO };
        let containers = Containers {
            running: self.running.clone(),
            held: self.registry.clone().map(Addr::recipient),
            registry: self.registry.clone().map(Addr::recipient),
            names: None,
            runtimes: None,
            members: self.registry.as_ref().map(|_| {
                let ids = self.running.iter().map(|(id, _)| id.clone()).collect();
                FakeMembers(ids, Arc::clone(&self.members)).start().recipient()
            }),
            explain: self.explainer.clone().map(|explainer| Explainer {
                process: explainer.clone().recipient(),
                address: explainer.recipient(),
            }),
        };
        Box::pin(async move {
            sleep(after).await;
            containers
        })
    }
}

impl Handler<Subscribe> for FakeSupervisor {
    type Result = ();

    fn handle(&mut self, message: Subscribe, _: &mut Context<Self>) {
        self.subscribed.lock().push(message);
    }
}

impl Handler<SetFilters> for FakeSupervisor {
    type Result = ();

    fn handle(&mut self, message: SetFilters, _: &mut Context<Self>) {
        self.filters.lock().push(message.0);
    }
}

impl Handler<SetL7> for FakeSupervisor {
    type Result = ();

    fn handle(&mut self, message: SetL7, _: &mut Context<Self>) {
        self.dns.lock().push(message.0.dns);
    }
}

/// A registry that knows who is in those.
struct FakeMembers(
    Vec<ContainerId>,
    Arc<parking_lot::Mutex<std::collections::BTreeSet<u32>>>,
);

impl Actor for FakeMembers {
    type Context = Context<Self>;
}

impl Handler<GetMembers> for FakeMembers {
    type Result = MessageResult<GetMembers>;

    fn handle(&mut self, message: GetMembers, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.0.contains(&message.0).then(|| self.1.lock().clone()))
    }
}

impl Handler<SetTap> for FakeSupervisor {
    type Result = ();

    fn handle(&mut self, message: SetTap, _: &mut Context<Self>) {
        self.tapped.lock().push(message);
    }
}

impl Handler<EndTap> for FakeSupervisor {
    type Result = ();

    fn handle(&mut self, message: EndTap, _: &mut Context<Self>) {
        self.untapped.lock().push(message.number);
    }
}

impl Handler<GetActors> for FakeSupervisor {
    type Result = ResponseFuture<Vec<ActorRow>>;

    fn handle(&mut self, _: GetActors, _: &mut Context<Self>) -> Self::Result {
        let after = if self.hangs() { NEVER } else { Duration::ZERO };
        Box::pin(async move {
            sleep(after).await;
            vec![ActorRow {
                actor: "registry".to_owned(),
                state: "running",
                restarts: 1,
                queued: 0,
            }]
        })
    }
}

#[cfg(feature = "test-hooks")]
impl Handler<crate::supervisor::messages::Break> for FakeSupervisor {
    type Result = bool;

    fn handle(&mut self, what: crate::supervisor::messages::Break, _: &mut Context<Self>) -> bool {
        let what = format!("{what:?}");
        let known = !what.contains("nobody");
        self.broken.lock().push(what);
        known
    }
}

impl FakeSupervisor {
    /// The faces of an agent whose supervisor this is, and the hands of its clock.
    pub(super) fn faces(self) -> (Arc<Faces>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(0, 0, 0));
        let ctx = Ctx {
            log: slog::Logger::root(slog::Discard, slog::o!()),
            clock: Arc::clone(&clock) as _,
            ledger: Arc::default(),
            features: Arc::default(),
            depths: Arc::default(),
            pulses: Arc::default(),
            restarts: Arc::default(),
        };
        let worker = worker(self.proc.as_deref().unwrap_or(std::path::Path::new("/proc")));
        let config = Live::new(
            self.config.clone(),
            self.config_file.clone(),
            config::Overrides::default(),
        );
        let taps = Arc::new(Taps::new(config.get().admin.tap));
        let supervisor = self.start();
        let faces = Faces {
            ctx,
            config: Arc::new(config),
            node: NodeLabels::default(),
            kernel: Arc::default(),
            runtimes: Arc::default(),
            conntrack: Arc::default(),
            fqdn: Arc::default(),
            containers: supervisor.clone().recipient(),
            actors: supervisor.clone().recipient(),
            subscribe: supervisor.clone().recipient(),
            filters: supervisor.clone().recipient(),
            l7: supervisor.clone().recipient(),
            tap: supervisor.clone().recipient(),
            untap: supervisor.clone().recipient(),
            taps,
            verbosity: crate::base::logging::Verbosity::new(slog::Level::Info),
            streams: Arc::default(),
            worker,
            own_tgid: node().own_tgid,
            #[cfg(feature = "test-hooks")]
            breaker: supervisor.recipient(),
        };
        (Arc::new(faces), clock)
    }
}
