//! The registry.
//!
//! Owns the index of processes and cgroups, and the states of containers that have no actor (yet). Receives batches
//! from the tracer, answers from the collectors, news of actors from the supervisor. Tells containers their shares and
//! the supervisor whom to start and end. When it panics the core starts anew: containers are re-created empty, the
//! index from /proc, open sockets from the next totals pass.
use super::{
    effects::{Answer, Ask, Effects, SlotId},
    state::{Inventory, Node, RegistryState, Settings},
};
use crate::{
    base::{
        context::Ctx,
        features::feature,
        ids::ContainerId,
        ledger::InFlight,
        mailbox::{Queued, tell},
        memory::give_back,
        now::Now,
    },
    collect::worker::{Work, Worker},
    container::{
        actor::{Absorb, Ack, ApplyShare},
        samples::Samples,
    },
    decode::Event,
    recording::Recorder,
    tracer::kernel::RawBatch,
};
use actix::{
    Actor, AsyncContext, Context, Handler, Message, MessageResult, Recipient, WrapFuture, fut::ActorFutureExt,
};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Questions that may wait for the blocking pool.
const MAX_ASKS: usize = 65_536;

pub struct RegistryActor {
    state: RegistryState,
    ctx: Ctx,
    worker: Arc<Worker>,
    asks: VecDeque<Ask>,
    /// The same, to ask nothing twice.
    asked: HashSet<Ask>,
    rejected_asks: u64,
    inventory_wanted: bool,
    next_inventory_ns: u64,
    working_since_ns: Option<u64>,
    containers: HashMap<SlotId, ContainerRecipients>,
    supervisor: SupervisorRecipients,
    recorder: Option<Arc<Recorder>>,
    stopped: Option<Recipient<RegistryStopped>>,
    inventory_interval: Duration,
    batches: u64,
    #[cfg(feature = "test-hooks")]
    lose: u32,
}

#[derive(Clone, Debug)]
pub struct ContainerRecipients {
    pub share: Recipient<ApplyShare>,
    pub absorb: Recipient<Absorb>,
}

#[derive(Clone, Debug)]
pub struct SupervisorRecipients {
    pub spawn: Recipient<SpawnContainer>,
    pub reap: Recipient<ReapContainers>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SpawnContainer {
    pub slot: SlotId,
    pub id: ContainerId,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ReapContainers(pub Vec<(SlotId, ContainerId)>);

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RegistryStopped {
    pub panicked: bool,
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
    pub stopped: Recipient<RegistryStopped>,
}

impl RegistryActor {
    pub fn new(blueprint: Blueprint) -> Self {
        Self {
            state: RegistryState::new(blueprint.settings, blueprint.node),
            ctx: blueprint.ctx,
            worker: blueprint.worker,
            asks: VecDeque::new(),
            asked: HashSet::new(),
            rejected_asks: 0,
            inventory_wanted: true,
            next_inventory_ns: 0,
            inventory_interval: blueprint.inventory_interval,
            working_since_ns: None,
            containers: HashMap::new(),
            supervisor: blueprint.supervisor,
            recorder: blueprint.recorder,
            stopped: Some(blueprint.stopped),
            batches: 0,
            #[cfg(feature = "test-hooks")]
            lose: 0,
        }
    }

    /// Does what the logic wants done.
    fn perform(&mut self, mut effects: Effects, batch: Option<(InFlight, Arc<Ack>)>, context: &mut Context<Self>) {
        let (mut in_flight, ack) = batch.unzip();
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
        for (slot, state) in effects.absorbs {
            if let Some(container) = self.containers.get(&slot) {
                tell(&container.absorb, Absorb(state));
            }
        }
        for (slot, id) in effects.spawns {
            tell(&self.supervisor.spawn, SpawnContainer { slot, id });
        }
        if !effects.reaps.is_empty() {
            for (slot, _) in &effects.reaps {
                self.containers.remove(slot);
            }
            tell(&self.supervisor.reap, ReapContainers(effects.reaps));
        }
        for ask in effects.asks {
            self.ask(ask);
        }
        self.work(context);
    }

    fn ask(&mut self, ask: Ask) {
        // What finds no room is answered by the deadline for identities.
        if self.asked.contains(&ask) {
            return;
        }
        if self.asks.len() >= MAX_ASKS {
            self.rejected_asks += 1;
            return;
        }
        self.asked.insert(ask);
        self.asks.push_back(ask);
    }

    /// Hands questions to the blocking pool: one load at a time, so that a slow /proc costs one thread.
    fn work(&mut self, context: &mut Context<Self>) {
        const LOAD: usize = 256;
        if self.working_since_ns.is_some() || (self.asks.is_empty() && !self.inventory_wanted) {
            return;
        }
        let asks: Vec<Ask> = self.asks.drain(..self.asks.len().min(LOAD)).collect();
        for ask in &asks {
            self.asked.remove(ask);
        }
        let work = Work {
            asks,
            inventory: std::mem::take(&mut self.inventory_wanted),
        };
        self.working_since_ns = Some(self.ctx.clock.monotonic_ns());
        let worker = Arc::clone(&self.worker);
        let done = actix_rt::task::spawn_blocking(move || worker.work(work));
        let then = done.into_actor(self).map(|done, actor, context| {
            actor.working_since_ns = None;
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
        const STUCK: Duration = Duration::from_secs(10);
        let now = self.ctx.now();
        self.ctx.pulses.beat("core", now.monotonic_ns);
        let stuck = self
            .working_since_ns
            .map(|since| now.monotonic_ns.saturating_sub(since));
        if stuck.is_some_and(|for_ns| u128::from(for_ns) > STUCK.as_nanos()) {
            self.ctx
                .features
                .degraded(feature::PROC, "hangs", "a read of /proc has not returned for 10 s");
        }
        if self.ctx.features.needs_other_inventory() && now.monotonic_ns >= self.next_inventory_ns {
            let interval = u64::try_from(self.inventory_interval.as_nanos()).unwrap_or(u64::MAX);
            self.next_inventory_ns = now.monotonic_ns.saturating_add(interval);
            self.inventory_wanted = true;
        }
        if let Some(recorder) = &self.recorder {
            recorder.tick(now);
        }
        let effects = self.state.tick(now);
        self.perform(effects, None, context);
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

/// What one reading of the kernel has brought.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct EventBatch {
    pub events: Vec<Event>,
    pub in_flight: InFlight,
    pub ack: Arc<Ack>,
    pub now: Now,
    /// Ends of sockets were lost: what a pass has not seen since then is gone.
    pub sweep_before_ns: Option<u64>,
    /// News of processes was lost: look at /proc.
    pub inventory: bool,
    /// The same, as it came: only where it is being recorded.
    pub raw: Option<RawBatch>,
    pub queued: Queued,
}

impl Handler<EventBatch> for RegistryActor {
    type Result = ();

    fn handle(&mut self, batch: EventBatch, context: &mut Context<Self>) {
        self.batches += 1;
        if let (Some(recorder), Some(raw)) = (&self.recorder, &batch.raw) {
            recorder.batch(batch.now, raw);
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

/// The actor of a slot has started.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ContainerRuns {
    pub slot: SlotId,
    pub id: ContainerId,
    pub recipients: ContainerRecipients,
}

impl Handler<ContainerRuns> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: ContainerRuns, context: &mut Context<Self>) {
        self.containers.insert(message.slot, message.recipients);
        let (wanted, effects) = self.state.container_runs(message.slot);
        self.perform(effects, None, context);
        if !wanted {
            self.containers.remove(&message.slot);
            tell(&self.supervisor.reap, ReapContainers(vec![(message.slot, message.id)]));
        }
    }
}

/// The actor of a slot has died.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ContainerLost(pub SlotId);

impl Handler<ContainerLost> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: ContainerLost, context: &mut Context<Self>) {
        self.containers.remove(&message.0);
        let effects = self.state.container_lost(message.0, self.ctx.now());
        self.perform(effects, None, context);
    }
}

/// The supervisor's timer: decide who is dead.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CollectGarbage;

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
        let questions = TableSnapshot {
            table: "questions",
            entries: self.asks.len(),
            capacity: MAX_ASKS,
            rejected: self.rejected_asks,
        };
        MessageResult(Snapshot {
            batches: self.batches,
            questions_waiting: self.asks.len(),
            containers_running: self.containers.len(),
            tables: tables.into_iter().chain([questions]).collect(),
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

#[cfg(feature = "test-hooks")]
mod hooks {
    use super::{EventBatch, RegistryActor};
    use crate::supervisor::hooks::{Block, LoseEvent, Panic};
    use actix::{Context, Handler};

    impl RegistryActor {
        /// Loses one event without a word, which the ledger must notice.
        pub(super) fn lose_one(&mut self, mut batch: EventBatch) -> EventBatch {
            if self.lose > 0
                && let Some(at) = batch.events.iter().position(|event| event.kind().is_some())
            {
                batch.events.swap_remove(at);
                self.lose -= 1;
            }
            batch
        }
    }

    impl Handler<LoseEvent> for RegistryActor {
        type Result = ();

        fn handle(&mut self, _: LoseEvent, _: &mut Context<Self>) {
            self.lose += 1;
        }
    }

    impl Handler<Panic> for RegistryActor {
        type Result = ();

        #[expect(clippy::panic, reason = "this is what the hook is for")]
        fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
            panic!("on request");
        }
    }

    impl Handler<Block> for RegistryActor {
        type Result = ();

        #[expect(clippy::disallowed_methods, reason = "this is what the hook is for")]
        fn handle(&mut self, block: Block, _: &mut Context<Self>) {
            std::thread::sleep(block.0);
        }
    }
}
