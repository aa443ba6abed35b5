//! The supervisor.
//!
//! Owns every other actor: starts it, hears of its end, starts it again after a back-off. Ticks the garbage collection
//! and ends the containers that the registry then calls dead. Lives on the main thread, so it answers while the core
//! hangs. When it fails, the process ends, and systemd or the kubelet starts another.
//!
//! | who ends | what follows |
//! | --- | --- |
//! | tracer | a new one on the same programs, maps and ring |
//! | conntrack | a new one, which knows nothing and asks; until then news waits in the ring |
//! | fqdn | a new one, which knows no names; until then news waits in the ring |
//! | registry | the core starts anew: all containers are retired, a new registry learns from /proc and the totals pass |
//! | a container | the registry holds its state until there is a new actor |
//! | the runtimes' facade | it and its clients start anew; what is known of containers stays with the registry |
//! | a client of a runtime | the facade keeps its answers, and asks again what was open |
use super::{
    backoff::Backoffs,
    messages::{ActorRow, Containers, Explainer, GetActors, GetContainers},
    names::{self, FqdnParts},
    runtimes::{RuntimeParts, Runtimes},
};
use crate::{
    base::{
        context::Ctx,
        ids::ContainerId,
        mailbox::{offer, tell},
    },
    conntrack::actor::{self as conntrack, ConntrackActor, ConntrackStopped},
    container::actor::{
        Blueprint as ContainerBlueprint, CollectGarbage as CollectContainerGarbage, ContainerActor, ContainerStopped,
        Retire,
    },
    fqdn::actor::{self as fqdn, FqdnActor},
    registry::{
        actor::{Blueprint as RegistryBlueprint, RegistryActor},
        effects::SlotId,
        lifecycle::Subscribe,
        messages::{
            CollectGarbage, ContainerLost, ContainerRecipients, ContainerRuns, ReapContainers, RegistryStopped,
            RenameContainer, SpawnContainer, SupervisorRecipients,
        },
        state::{Node, Settings},
    },
    tracer::{
        actor::{Blueprint as TracerBlueprint, Settings as TracerSettings, TracerActor, TracerStopped},
        kernel::Kernel,
        messages::{SetConntrack, SetRegistry},
        stats::KernelStats,
        tap::Watch,
    },
};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult};
use actix_rt::ArbiterHandle;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// All that the actors are made of.
#[derive(Clone)]
pub struct Parts {
    pub ctx: Ctx,
    pub registry: Settings,
    pub tracer: TracerSettings,
    pub node: Node,
    pub worker: Arc<crate::collect::worker::Worker>,
    pub recorder: Option<Arc<crate::recording::Recorder>>,
    pub kernel: Arc<Mutex<Kernel>>,
    pub stats: Arc<KernelStats>,
    pub gc_interval: Duration,
    pub backoff: (Duration, Duration),
    pub conntrack: ConntrackParts,
    pub fqdn: FqdnParts,
    pub core: ArbiterHandle,
    pub tracer_thread: ArbiterHandle,
    /// `None`: nobody is asked who a container is.
    pub runtimes: Option<RuntimeParts>,
}

#[derive(Clone)]
pub struct ConntrackParts {
    pub settings: conntrack::Settings,
    pub statistics: Arc<conntrack::Statistics>,
}

pub struct Supervisor {
    pub(super) parts: Parts,
    pub(super) registry: Option<Addr<RegistryActor>>,
    pub(super) tracer: Option<Addr<TracerActor>>,
    pub(super) conntrack: Option<Addr<ConntrackActor>>,
    pub(super) fqdn: Option<Addr<FqdnActor>>,
    pub(super) containers: BTreeMap<SlotId, (ContainerId, Addr<ContainerActor>)>,
    backoffs: Backoffs,
    /// Containers whose actor failed, and how long the next one has to wait.
    waits: BTreeMap<SlotId, Duration>,
    cores: u64,
    /// They outlive the registry that tells them.
    subscriptions: Vec<Subscribe>,
    pub(super) watch: Watch,
    pub(super) runtimes: Option<Runtimes>,
    pub(super) ending: bool,
}

impl Supervisor {
    pub fn new(parts: Parts) -> Self {
        Self {
            backoffs: Backoffs::new(parts.backoff.0, parts.backoff.1),
            runtimes: parts
                .runtimes
                .clone()
                .map(|runtimes| Runtimes::new(runtimes, parts.ctx.clone())),
            parts,
            registry: None,
            tracer: None,
            conntrack: None,
            fqdn: None,
            containers: BTreeMap::new(),
            waits: BTreeMap::new(),
            cores: 0,
            subscriptions: Vec::new(),
            watch: Watch::default(),
            ending: false,
        }
    }

    fn start_registry(&mut self, context: &mut Context<Self>) {
        let address = context.address();
        let mut settings = self.parts.registry.clone();
        settings.first_slot = self.cores << 32;
        self.cores += 1;
        let blueprint = RegistryBlueprint {
            ctx: self.parts.ctx.component("registry"),
            settings,
            node: self.parts.node.clone(),
            worker: Arc::clone(&self.parts.worker),
            inventory_interval: self.parts.tracer.inventory_interval,
            supervisor: SupervisorRecipients {
                spawn: address.clone().recipient(),
                reap: address.clone().recipient(),
                rename: address.clone().recipient(),
            },
            runtimes: self.runtimes.as_ref().and_then(Runtimes::recipients),
            recorder: self.parts.recorder.clone(),
            subscriptions: self.subscriptions.clone(),
            stopped: address.recipient(),
        };
        let registry = RegistryActor::start_in_arbiter(&self.parts.core, |_| RegistryActor::new(blueprint));
        // Before it is told of anything: its questions are answered to whom they came from.
        if let Some(runtimes) = &mut self.runtimes {
            runtimes.set_registry(registry.clone().recipient());
        }
        if let Some(fqdn) = &self.fqdn {
            let message = fqdn::SetRegistry(names::recipients(registry.clone()));
            tell(&fqdn.clone().recipient(), message);
        }
        if let Some(tracer) = &self.tracer {
            tell(&tracer.clone().recipient(), SetRegistry(registry.clone().recipient()));
        }
        self.registry = Some(registry);
    }

    /// On the thread of the tracer, which has nothing else to do while a batch is under way.
    fn start_conntrack(&mut self, context: &mut Context<Self>) {
        let blueprint = conntrack::Blueprint {
            ctx: self.parts.ctx.component("conntrack"),
            settings: self.parts.conntrack.settings.clone(),
            kernel: Arc::clone(&self.parts.kernel),
            statistics: Arc::clone(&self.parts.conntrack.statistics),
            next: self.fqdn.clone().map(Addr::recipient),
            stopped: context.address().recipient(),
        };
        let conntrack = ConntrackActor::start_in_arbiter(&self.parts.tracer_thread, |_| ConntrackActor::new(blueprint));
        if let Some(tracer) = &self.tracer {
            tell(&tracer.clone().recipient(), SetConntrack(conntrack.clone().recipient()));
        }
        self.conntrack = Some(conntrack);
    }

    fn start_tracer(&mut self, context: &mut Context<Self>) {
        let blueprint = TracerBlueprint {
            settings: self.parts.tracer.clone(),
            ctx: self.parts.ctx.component("tracer"),
            kernel: Arc::clone(&self.parts.kernel),
            stats: Arc::clone(&self.parts.stats),
            registry: self.registry.clone().map(Addr::recipient),
            conntrack: self.conntrack.clone().map(Addr::recipient),
            fqdn: self.fqdn.clone().map(names::of_tracer),
            watch: self.watch.clone(),
            stopped: context.address().recipient(),
        };
        let tracer = TracerActor::start_in_arbiter(&self.parts.tracer_thread, |_| TracerActor::new(blueprint));
        self.tracer = Some(tracer);
    }

    fn start_container(&mut self, slot: SlotId, id: ContainerId, context: &mut Context<Self>) {
        let Some(registry) = self.registry.clone().filter(|_| !self.ending) else {
            return;
        };
        let log = self
            .parts
            .ctx
            .log
            .new(slog::o!("component" => "container", "container_id" => id.to_string()));
        let blueprint = ContainerBlueprint {
            ctx: Ctx {
                log,
                ..self.parts.ctx.clone()
            },
            limits: self.parts.registry.limits,
            min_age: self.parts.registry.min_age,
            keep: self.parts.registry.keep,
            host: self.parts.node.host_netns,
            stopped: context.address().recipient(),
        };
        let name = id.clone();
        let container =
            ContainerActor::start_in_arbiter(&self.parts.core, move |_| ContainerActor::new(name, slot.0, blueprint));
        let recipients = ContainerRecipients {
            share: container.clone().recipient(),
            absorb: container.clone().recipient(),
            rename: container.clone().recipient(),
            hand_over: container.clone().recipient(),
        };
        self.containers.insert(slot, (id.clone(), container));
        tell(&registry.recipient(), ContainerRuns { slot, id, recipients });
    }

    fn retire(&mut self, slot: SlotId) {
        if let Some((_, container)) = self.containers.remove(&slot) {
            tell(&container.recipient(), Retire);
        }
    }

    /// Counts what happened and says how long to wait.
    pub(super) fn ended(&mut self, actor: &'static str, name: &str, panicked: bool) -> Duration {
        let cause = if panicked { "panic" } else { "stopped" };
        self.parts.ctx.restarts.count(actor, cause);
        let wait = self.backoffs.next(name, self.parts.ctx.clock.monotonic_ns());
        slog::error!(self.parts.ctx.log, "an actor ended, another will take its place"; "component" => actor,
            "cause" => cause, "elapsed_ms" => wait.as_millis() as u64);
        wait
    }

    fn tick(&mut self, _: &mut Context<Self>) {
        self.parts.ctx.pulses.beat("main", self.parts.ctx.clock.monotonic_ns());
        self.forget_taps();
    }

    fn collect_garbage(&mut self, context: &mut Context<Self>) {
        if let Some(registry) = &self.registry {
            tell(&registry.clone().recipient(), CollectGarbage);
        }
        // A container that is too busy to take it has the next one.
        let dropped = self.parts.ctx.depths.dropped("container", "CollectGarbage");
        for (_, container) in self.containers.values() {
            offer(&container.clone().recipient(), CollectContainerGarbage, &dropped);
        }
        self.collect_names(context);
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // Questions of concurrent scrapes and the news of a storm of containers.
        context.set_mailbox_capacity(1024);
        self.start_registry(context);
        self.start_fqdn(context);
        self.start_conntrack(context);
        self.start_tracer(context);
        self.start_runtimes(context);
        context.run_interval(Duration::from_secs(1), Self::tick);
        self.parts.ctx.depths.dropped("container", "CollectGarbage");
        context.run_interval(self.parts.gc_interval, Self::collect_garbage);
        self.parts.ctx.pulses.beat("main", self.parts.ctx.clock.monotonic_ns());
    }
}

impl Handler<SpawnContainer> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: SpawnContainer, context: &mut Context<Self>) {
        // Of a registry that is no more.
        if message.slot.0 >> 32 != self.cores - 1 {
            return;
        }
        match self.waits.remove(&message.slot) {
            None => self.start_container(message.slot, message.id, context),
            Some(wait) => {
                context.run_later(wait, move |actor, context| {
                    actor.start_container(message.slot, message.id, context)
                });
            }
        }
    }
}

impl Handler<ReapContainers> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: ReapContainers, _: &mut Context<Self>) {
        for slot in message.0 {
            self.waits.remove(&slot);
            self.retire(slot);
        }
    }
}

impl Handler<RenameContainer> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: RenameContainer, _: &mut Context<Self>) {
        if let Some((id, _)) = self.containers.get_mut(&message.slot) {
            *id = message.id;
        }
    }
}

impl Handler<ContainerStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: ContainerStopped, _: &mut Context<Self>) {
        let slot = SlotId(message.token);
        if self.containers.remove(&slot).is_none() || self.ending {
            return;
        }
        let wait = self.ended("container", message.id.as_str(), message.panicked);
        self.waits.insert(slot, wait);
        // From now on the registry keeps what comes for it, and asks for a new actor.
        if let Some(registry) = &self.registry {
            tell(&registry.clone().recipient(), ContainerLost(slot));
        }
    }
}

impl Handler<RegistryStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: RegistryStopped, context: &mut Context<Self>) {
        if self.ending {
            return;
        }
        self.registry = None;
        for slot in self.containers.keys().copied().collect::<Vec<_>>() {
            self.retire(slot);
        }
        let wait = self.ended("registry", "registry", message.panicked);
        context.run_later(wait, |actor, context| actor.start_registry(context));
    }
}

impl Handler<ConntrackStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: ConntrackStopped, context: &mut Context<Self>) {
        if self.ending {
            return;
        }
        self.conntrack = None;
        let wait = self.ended("conntrack", "conntrack", message.panicked);
        context.run_later(wait, |actor, context| actor.start_conntrack(context));
    }
}

impl Handler<TracerStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: TracerStopped, context: &mut Context<Self>) {
        if self.ending {
            return;
        }
        self.tracer = None;
        let wait = self.ended("tracer", "tracer", message.panicked);
        context.run_later(wait, |actor, context| actor.start_tracer(context));
    }
}

impl Handler<Subscribe> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: Subscribe, _: &mut Context<Self>) {
        self.subscriptions.retain(|of| of.to.connected());
        self.subscriptions.push(message.clone());
        if let Some(registry) = &self.registry {
            tell(&registry.clone().recipient(), message);
        }
    }
}

impl Handler<GetContainers> for Supervisor {
    type Result = MessageResult<GetContainers>;

    fn handle(&mut self, _: GetContainers, _: &mut Context<Self>) -> Self::Result {
        let running = self
            .containers
            .values()
            .map(|(id, container)| (id.clone(), container.clone().recipient()));
        MessageResult(Containers {
            running: running.collect(),
            held: self.registry.clone().map(Addr::recipient),
            registry: self.registry.clone().map(Addr::recipient),
            names: self.fqdn.clone().map(Addr::recipient),
            runtimes: self.runtimes.as_ref().and_then(Runtimes::explainer),
            explain: self.registry.as_ref().map(|registry| Explainer {
                process: registry.clone().recipient(),
                address: registry.clone().recipient(),
            }),
            members: self.registry.clone().map(Addr::recipient),
        })
    }
}

impl Handler<GetActors> for Supervisor {
    type Result = MessageResult<GetActors>;

    fn handle(&mut self, _: GetActors, _: &mut Context<Self>) -> Self::Result {
        let restarts = self.parts.ctx.restarts.read();
        let depths = self.parts.ctx.depths.read();
        let row = |actor: &'static str, running: bool| ActorRow {
            actor: actor.to_owned(),
            state: if running { "running" } else { "restarting" },
            restarts: restarts
                .iter()
                .filter(|(of, _, _)| *of == actor)
                .map(|(_, _, n)| n)
                .sum(),
            queued: depths
                .iter()
                .find(|(of, _)| *of == actor)
                .map_or(0, |(_, depth)| *depth),
        };
        let mut rows = vec![
            row("tracer", self.tracer.as_ref().is_some_and(Addr::connected)),
            row("conntrack", self.conntrack.as_ref().is_some_and(Addr::connected)),
            row("fqdn", self.fqdn.as_ref().is_some_and(Addr::connected)),
            row("registry", self.registry.as_ref().is_some_and(Addr::connected)),
        ];
        let runtimes = self.runtimes.iter().flat_map(Runtimes::rows);
        rows.extend(runtimes.map(|(actor, running)| row(actor, running)));
        rows.extend(self.containers.values().map(|(id, container)| ActorRow {
            actor: format!("container {id}"),
            ..row("container", container.connected())
        }));
        MessageResult(rows)
    }
}

/// The end of the agent: nobody is started any more, and everybody is asked to stop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;

impl Handler<Shutdown> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _: &mut Context<Self>) {
        self.ending = true;
        self.tracer = None;
        self.conntrack = None;
        self.fqdn = None;
        if let Some(runtimes) = &mut self.runtimes {
            runtimes.retire();
        }
        for slot in self.containers.keys().copied().collect::<Vec<_>>() {
            self.retire(slot);
        }
        self.registry = None;
    }
}
