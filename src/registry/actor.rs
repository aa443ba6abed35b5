//! The registry.
//!
//! Owns the index of processes and cgroups, and the states of containers that have no actor (yet). Receives batches
//! from the tracer, answers from the collectors, news of actors from the supervisor. Tells containers their shares and
//! the supervisor whom to start and end. When it panics the core starts anew: containers are re-created empty, the
//! index from /proc, open sockets from the next totals pass.
use super::{
    effects::{Answer, Ask, Effects, SlotId},
    filters::Filters,
    hub::{Flush, Hub, SubscriberSnapshot},
    lifecycle::Subscribe,
    messages::{
        CollectGarbage, ContainerLost, ContainerRecipients, ContainerRuns, EventBatch, ReapContainers, RegistryStopped,
        RenameContainer, RuntimesRecipients, SetFilters, SetRuntimes, SpawnContainer, SupervisorRecipients,
    },
    questions::{Limits, Questions},
    state::{Inventory, Node, RegistryState, Settings},
};
use crate::{
    base::{context::Ctx, features::feature, ledger::InFlight, mailbox::tell, memory::give_back},
    collect::worker::{Work, Worker},
    container::{
        actor::{Absorb, Ack, ApplyShare, HandOver, HandedOver, Rename},
        samples::Samples,
    },
    recording::Recorder,
    runtimes::facade::{Forget, Resolve, Resolved},
};
use actix::{
    Actor, AsyncContext, Context, Handler, Message, MessageResult, Recipient, WrapFuture, fut::ActorFutureExt,
};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Who is who: one load at a time, so that a slow /proc costs one thread.
const IDENTITIES: Limits = Limits {
    waiting: 65_536,
    load: 256,
    loads: 1,
    patience_ns: u64::MAX,
};
/// A command line lies in the memory of its process, and whoever reads it waits while that is locked: not the identities.
const APPLICATIONS: Limits = Limits {
    waiting: 65_536,
    load: 32,
    loads: 4,
    patience_ns: STUCK_NS,
};
const STUCK_NS: u64 = 10_000_000_000;

pub struct RegistryActor {
    pub(super) state: RegistryState,
    pub(super) ctx: Ctx,
    pub(super) hub: Hub,
    worker: Arc<Worker>,
    identities: Questions,
    applications: Questions,
    inventory_wanted: bool,
    next_inventory_ns: u64,
    /// A look at /proc did not come back in time.
    hung: bool,
    containers: HashMap<SlotId, ContainerRecipients>,
    supervisor: SupervisorRecipients,
    pub(super) recorder: Option<Arc<Recorder>>,
    runtimes: Option<RuntimesRecipients>,
    stopped: Option<Recipient<RegistryStopped>>,
    inventory_interval: Duration,
    batches: u64,
    #[cfg(feature = "test-hooks")]
    pub(super) lose: u32,
}

#[derive(Clone)]
pub struct Blueprint {
    pub ctx: Ctx,
    pub settings: Settings,
    pub node: Node,
    pub worker: Arc<Worker>,
    /// Where the kernel's iterators do not work.
    pub inventory_interval: Duration,
    pub supervisor: SupervisorRecipients,
    pub recorder: Option<Arc<Recorder>>,
    /// `None`: nobody is asked what containers are called.
    pub runtimes: Option<RuntimesRecipients>,
    /// Those of the registry before.
    pub subscriptions: Vec<Subscribe>,
    pub stopped: Recipient<RegistryStopped>,
}

impl RegistryActor {
    pub fn new(blueprint: Blueprint) -> Self {
        let ctx = blueprint.ctx;
        let hub = Hub::of(blueprint.subscriptions, &ctx.depths, ctx.now());
        let mut state = RegistryState::new(blueprint.settings, blueprint.node);
        state.tell_lifecycle(hub.is_wanted());
        Self {
            state,
            ctx,
            hub,
            worker: blueprint.worker,
            identities: Questions::new(IDENTITIES),
            applications: Questions::new(APPLICATIONS),
            // The tracer says when.
            inventory_wanted: false,
            next_inventory_ns: 0,
            inventory_interval: blueprint.inventory_interval,
            hung: false,
            containers: HashMap::new(),
            supervisor: blueprint.supervisor,
            recorder: blueprint.recorder,
            runtimes: blueprint.runtimes,
            stopped: Some(blueprint.stopped),
            batches: 0,
            #[cfg(feature = "test-hooks")]
            lose: 0,
        }
    }

    /// Does what the logic wants done.
    fn perform(&mut self, mut effects: Effects, batch: Option<(InFlight, Arc<Ack>)>, context: &mut Context<Self>) {
        let (mut in_flight, ack) = batch.unzip();
        // First: the shares may speak of sockets that come with it.
        for (slot, state) in std::mem::take(&mut effects.absorbs) {
            if let Some(container) = self.containers.get(&slot) {
                tell(&container.absorb, Absorb(state));
            }
        }
        let container_depth = self.ctx.depths.of("container");
        for (slot, share) in std::mem::take(&mut effects.shares) {
            let guard = in_flight.as_mut().map(|in_flight| in_flight.split(share.counts));
            // Without a receiver the guard books the share as lost.
            let Some(container) = self.containers.get(&slot) else {
                continue;
            };
            let message = ApplyShare {
                events: share.events,
                counts: share.counts,
                in_flight: guard,
                ack: ack.clone(),
                queued: container_depth.queued(),
            };
            tell(&container.share, message);
        }
        if let Some(in_flight) = in_flight {
            in_flight.settle(&effects.outcome);
        }
        for (slot, id) in effects.spawns {
            tell(&self.supervisor.spawn, SpawnContainer { slot, id });
        }
        for (slot, id) in effects.renames {
            if let Some(container) = self.containers.get(&slot) {
                tell(&container.rename, Rename(id.clone()));
            }
            tell(&self.supervisor.rename, RenameContainer { slot, id });
        }
        for slot in effects.hand_overs {
            if let Some(container) = self.containers.get(&slot) {
                tell(&container.hand_over, HandOver(context.address().recipient()));
            }
        }
        if let Some(runtimes) = &self.runtimes {
            for lookup in effects.resolves {
                tell(&runtimes.resolve, Resolve { lookup });
            }
            for lookup in effects.forgets {
                tell(&runtimes.forget, Forget { lookup });
            }
        }
        if !effects.reaps.is_empty() {
            for slot in &effects.reaps {
                self.containers.remove(slot);
            }
            tell(&self.supervisor.reap, ReapContainers(effects.reaps));
        }
        if self.hub.collect(effects.lifecycle) {
            context.notify(Flush);
        }
        for ask in effects.asks {
            // An identity that finds no room is answered by its deadline.
            match ask {
                Ask::Application { .. } | Ask::Sandbox { .. } => self.applications.ask(ask),
                _ => self.identities.ask(ask),
            }
        }
        self.work(context);
    }

    /// Hands questions to the blocking pool.
    fn work(&mut self, context: &mut Context<Self>) {
        let now_ns = self.ctx.clock.monotonic_ns();
        if let Some(asks) = self.identities.take(now_ns, self.inventory_wanted) {
            let inventory = std::mem::take(&mut self.inventory_wanted);
            let back = move |actor: &mut Self| actor.identities.returned(now_ns);
            self.send(Work { asks, inventory }, back, context);
        }
        if let Some(asks) = self.applications.take(now_ns, false) {
            let back = move |actor: &mut Self| actor.applications.returned(now_ns);
            let inventory = false;
            self.send(Work { asks, inventory }, back, context);
        }
    }

    fn send(&mut self, work: Work, back: impl FnOnce(&mut Self) + 'static, context: &mut Context<Self>) {
        let worker = Arc::clone(&self.worker);
        let done = actix_rt::task::spawn_blocking(move || worker.work(work));
        let then = done.into_actor(self).map(|done, actor, context| {
            back(actor);
            match done {
                Ok(done) => {
                    for answer in done.answers {
                        actor.answered(answer, context);
                    }
                    if let Some(inventory) = done.inventory {
                        actor.inventoried(&inventory, context);
                    }
                }
                Err(error) => {
                    actor.ctx.restarts.count("collector", "panic");
                    slog::error!(actor.ctx.log, "a look at /proc failed"; "error" => %error);
                }
            }
            actor.work(context);
        });
        context.spawn(then);
    }

    fn answered(&mut self, answer: Answer, context: &mut Context<Self>) {
        let now = self.ctx.now();
        if let Some(recorder) = &self.recorder {
            recorder.answer(now, &answer);
        }
        let effects = self.state.answer(answer, now);
        self.perform(effects, None, context);
    }

    fn inventoried(&mut self, inventory: &Inventory, context: &mut Context<Self>) {
        let now = self.ctx.now();
        if let Some(recorder) = &self.recorder {
            recorder.inventory(now, inventory);
        }
        let effects = self.state.inventory(inventory, now);
        self.perform(effects, None, context);
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let now = self.ctx.now();
        self.ctx.pulses.beat("core", now.monotonic_ns);
        let hang = |questions: &Questions| questions.hang(now.monotonic_ns, STUCK_NS);
        if hang(&self.identities) || hang(&self.applications) {
            self.ctx
                .features
                .degraded(feature::PROC, "hangs", "a read of /proc has not returned for 10 s");
            self.hung = true;
        } else if std::mem::take(&mut self.hung) {
            // Its result is the word on whether all is well again.
            self.inventory_wanted = true;
        }
        if self.ctx.features.needs_other_inventory() && now.monotonic_ns >= self.next_inventory_ns {
            self.next_inventory_ns = now.monotonic_ns + self.inventory_interval.as_nanos() as u64;
            self.inventory_wanted = true;
        }
        if let Some(recorder) = &self.recorder {
            recorder.tick(now);
        }
        let effects = self.state.tick(now);
        self.perform(effects, None, context);
        self.hub.remind(now);
    }
}

impl Actor for RegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // One batch at a time comes from the tracer; the rest are answers and news of actors.
        context.set_mailbox_capacity(64);
        context.run_interval(Duration::from_secs(1), Self::tick);
        self.ctx.pulses.beat("core", self.ctx.clock.monotonic_ns());
        self.work(context);
    }

    /// Also runs while a panic unwinds, so nothing here may fail.
    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(stopped) = self.stopped.take() {
            tell(
                &stopped,
                RegistryStopped {
                    panicked: std::thread::panicking(),
                },
            );
        }
    }
}

impl Handler<EventBatch> for RegistryActor {
    type Result = ();

    fn handle(&mut self, batch: EventBatch, context: &mut Context<Self>) {
        self.batches += 1;
        if let (Some(recorder), Some(raw)) = (&self.recorder, &batch.raw) {
            recorder.routes(&batch.routes);
            recorder.batch(batch.now, raw);
            let said: Vec<_> = batch.events.iter().filter(|event| event.is_said()).collect();
            recorder.said(batch.now, &said);
        }
        self.inventory_wanted |= batch.inventory;
        #[cfg(feature = "test-hooks")]
        let batch = self.lose_one(batch);
        let effects = self.state.apply(batch.events, batch.now);
        self.perform(effects, Some((batch.in_flight, batch.ack)), context);
        if let Some(before_ns) = batch.sweep_before_ns {
            if let Some(recorder) = &self.recorder {
                recorder.sweep(batch.now, before_ns);
            }
            let effects = self.state.sweep(before_ns, batch.now);
            self.perform(effects, None, context);
        }
    }
}

impl Handler<ContainerRuns> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: ContainerRuns, context: &mut Context<Self>) {
        self.containers.insert(message.slot, message.recipients);
        let (wanted, effects) = self.state.container_runs(message.slot, &message.id);
        self.perform(effects, None, context);
        if !wanted {
            self.containers.remove(&message.slot);
            tell(&self.supervisor.reap, ReapContainers(vec![message.slot]));
        }
    }
}

impl Handler<HandedOver> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: HandedOver, context: &mut Context<Self>) {
        let slot = SlotId(message.token);
        let effects = self.state.container_handed_over(slot, message.state, self.ctx.now());
        self.perform(effects, None, context);
    }
}

impl Handler<SetRuntimes> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: SetRuntimes, context: &mut Context<Self>) {
        self.runtimes = Some(message.0);
        let effects = self.state.ask_runtimes_again();
        self.perform(effects, None, context);
    }
}

impl Handler<SetFilters> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: SetFilters, context: &mut Context<Self>) {
        let now = self.ctx.now();
        if let Some(recorder) = &self.recorder {
            recorder.filters(now, &message.0);
        }
        let filters = Arc::new(Filters::new(&message.0));
        let effects = self.state.set_filters(filters, now);
        self.perform(effects, None, context);
    }
}

impl Handler<Resolved> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: Resolved, context: &mut Context<Self>) {
        let Resolved { lookup, found } = message;
        self.answered(Answer::Runtime { lookup, found }, context);
    }
}

impl Handler<ContainerLost> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: ContainerLost, context: &mut Context<Self>) {
        self.containers.remove(&message.0);
        let effects = self.state.container_lost(message.0, self.ctx.now());
        self.perform(effects, None, context);
    }
}

impl Handler<CollectGarbage> for RegistryActor {
    type Result = ();

    fn handle(&mut self, _: CollectGarbage, context: &mut Context<Self>) {
        let now = self.ctx.now();
        if let Some(recorder) = &self.recorder {
            recorder.garbage(now);
        }
        let effects = self.state.collect_garbage(now);
        self.perform(effects, None, context);
        give_back();
        // Exits may have been missed: /proc knows who lives.
        self.inventory_wanted = true;
        self.work(context);
    }
}

#[derive(Debug, Message)]
#[rtype(result = "Snapshot")]
pub struct GetSnapshot;

#[derive(Debug, Serialize)]
pub struct TableSnapshot {
    pub table: &'static str,
    pub entries: usize,
    pub capacity: usize,
    pub rejected: u64,
}

#[derive(Debug, Serialize)]
pub struct Snapshot {
    pub batches: u64,
    pub questions_waiting: usize,
    pub containers_running: usize,
    pub tables: Vec<TableSnapshot>,
    pub subscribers: Vec<SubscriberSnapshot>,
}

impl Handler<GetSnapshot> for RegistryActor {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Context<Self>) -> Self::Result {
        let tables = self
            .state
            .tables()
            .map(|(table, entries, capacity, rejected)| TableSnapshot {
                table,
                entries,
                capacity,
                rejected,
            });
        let questions = |table, questions: &Questions| TableSnapshot {
            table,
            entries: questions.len(),
            capacity: questions.capacity(),
            rejected: questions.rejected(),
        };
        let waiting = [
            questions("questions", &self.identities),
            questions("application_questions", &self.applications),
        ];
        MessageResult(Snapshot {
            batches: self.batches,
            questions_waiting: self.identities.len() + self.applications.len(),
            containers_running: self.containers.len(),
            tables: tables.into_iter().chain(waiting).collect(),
            subscribers: self.hub.snapshot(),
        })
    }
}

/// Samples of the containers that have no actor yet.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Samples>")]
pub struct GetHeldSamples;

impl Handler<GetHeldSamples> for RegistryActor {
    type Result = MessageResult<GetHeldSamples>;

    fn handle(&mut self, _: GetHeldSamples, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.samples(self.ctx.now()))
    }
}
