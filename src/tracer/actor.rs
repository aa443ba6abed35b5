//! The tracer.
//!
//! Owns the reading of the kernel: drains the news ring on a timer, reads the totals every few seconds, tells the
//! registry what happened. One batch is under way at a time: until the registry and every container it touched have
//! taken theirs, news waits in the ring, where it is counted. Programs and maps are not its own and outlive it: when it
//! panics, its successor goes on where it stopped.
use super::{
    batch::decode_batch,
    crowding::Crowding,
    files::FilesPasses,
    kernel::{Kernel, RawBatch},
    losses::Losses,
    said::{Heard, Said},
    stats::{KernelReport, KernelStats, MapFill},
    tap::{Taps, Watch},
};
use crate::{
    base::{
        context::Ctx,
        features::{State, feature},
        ledger::Reason,
        mailbox::{Depth, tell},
        memory::give_back,
        now::Now,
        realtime::Share,
    },
    config::L7,
    container::actor::{Ack, BatchDone},
    decode::{DnsAnswered, Event},
    registry::messages::EventBatch,
};
use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[derive(Clone, Debug)]
pub struct Settings {
    pub drain_interval: Duration,
    pub totals_interval: Duration,
    pub inventory_interval: Duration,
    pub files_interval: Duration,
    pub retry_interval: Duration,
    pub realtime_percent: u8,
    pub batch: usize,
    pub recording: bool,
    pub l7: L7,
}

pub struct TracerActor {
    pub(super) settings: Settings,
    pub(super) ctx: Ctx,
    pub(super) kernel: Arc<Mutex<Kernel>>,
    stats: Arc<KernelStats>,
    pub(super) registry: Option<Recipient<EventBatch>>,
    /// By whom the batches come to the registry: first, and last.
    pub(super) conntrack: Option<Recipient<EventBatch>>,
    pub(super) fqdn: Option<FqdnRecipients>,
    depth: Depth,
    stopped: Option<Recipient<TracerStopped>>,
    pub(super) under_way: bool,
    /// Of a processor, on a full node.
    pub(super) share: Share,
    /// Records of what is said that were heard since then.
    ahead: usize,
    /// The last reading left news in the ring.
    pub(super) more: bool,
    raw: RawBatch,
    pub(super) next_totals_ns: u64,
    next_sums_ns: u64,
    pub(super) next_inventory_ns: u64,
    pub(super) last_inventory_ns: u64,
    pub(super) crowding: Crowding,
    pub(super) files: FilesPasses,
    pub(super) sessions: Said,
    pub(super) taps: Taps,
    /// Somebody wakes it when the ring of what is said fills up.
    pub(super) watches: bool,
    next_retry_ns: u64,
    last_tick_ns: u64,
    pub(super) losses: Losses,
    pub(super) passes: u64,
    pub(super) batches: u64,
    /// What the log was last told of each feature.
    said: BTreeMap<&'static str, (State, &'static str)>,
}

/// Records of what is said for each of the news: they are added up before anybody has to take them.
const WORDS_PER_NEWS: usize = 16;

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct TracerStopped {
    pub panicked: bool,
}

#[derive(Clone, Debug)]
pub struct FqdnRecipients {
    pub batches: Recipient<EventBatch>,
    /// Before the batch with what came of them.
    pub answers: Recipient<DnsAnswered>,
}

#[derive(Clone)]
pub struct Blueprint {
    pub settings: Settings,
    pub ctx: Ctx,
    pub kernel: Arc<Mutex<Kernel>>,
    pub stats: Arc<KernelStats>,
    pub registry: Option<Recipient<EventBatch>>,
    pub conntrack: Option<Recipient<EventBatch>>,
    pub fqdn: Option<FqdnRecipients>,
    /// That held for the one before.
    pub watch: Watch,
    pub stopped: Recipient<TracerStopped>,
}

impl TracerActor {
    pub fn new(blueprint: Blueprint) -> Self {
        Self {
            depth: blueprint.ctx.depths.of("registry"),
            kernel: blueprint.kernel,
            stats: blueprint.stats,
            registry: blueprint.registry,
            conntrack: blueprint.conntrack,
            fqdn: blueprint.fqdn,
            stopped: Some(blueprint.stopped),
            under_way: false,
            share: Share::new(blueprint.settings.realtime_percent),
            ahead: 0,
            more: false,
            raw: RawBatch::default(),
            next_totals_ns: 0,
            next_sums_ns: 0,
            next_inventory_ns: 0,
            last_inventory_ns: 0,
            crowding: Crowding::new(blueprint.settings.inventory_interval),
            files: FilesPasses::new(blueprint.settings.files_interval),
            sessions: Said::default(),
            taps: Taps::new(blueprint.watch, &blueprint.ctx.depths),
            watches: false,
            next_retry_ns: 0,
            last_tick_ns: blueprint.ctx.clock.monotonic_ns(),
            losses: Losses::default(),
            passes: 0,
            batches: 0,
            said: BTreeMap::new(),
            ctx: blueprint.ctx,
            settings: blueprint.settings,
        }
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let now = self.ctx.now();
        self.ctx.pulses.beat("tracer", now.monotonic_ns);
        let blind = !self.kernel.lock().collects();
        if now.monotonic_ns >= self.next_retry_ns {
            self.next_retry_ns = now.monotonic_ns + nanos(self.settings.retry_interval);
            self.ensure();
        }
        // Loading is part of it.
        let end_ns = self.ctx.clock.monotonic_ns();
        if blind {
            self.stats.add_blind_ns(end_ns.saturating_sub(self.last_tick_ns));
        }
        self.last_tick_ns = end_ns;
        self.watch_ring(context);
        self.drain(context);
    }

    /// Loads what is not loaded yet: what was missing may have come.
    pub(super) fn ensure(&mut self) {
        let mut kernel = self.kernel.lock();
        if kernel.complete() {
            return;
        }
        let before = kernel.collects();
        // The verifier takes its time.
        self.share.give_back();
        let alive = || self.ctx.pulses.beat("tracer", self.ctx.clock.monotonic_ns());
        kernel.ensure(&self.ctx.features, &alive);
        give_back();
        if let Some(counters) = kernel.counters() {
            self.ctx.ledger.set_kernel(counters);
        }
        let collects = kernel.collects();
        drop(kernel);
        // Before anybody is told that it collects: what happens from then on is not to be taken for older.
        self.next_inventory_ns = 0;
        self.take_inventory(self.ctx.now());
        self.say_what_changed();
        if !before && collects {
            slog::info!(self.ctx.log, "programs attached");
        }
        self.publish(0);
    }

    /// Rows of the feature table that are not what they were: an absent feature is no news every half minute.
    fn say_what_changed(&mut self) {
        for row in self.ctx.features.rows() {
            let now = (row.state, row.reason);
            let before = self.said.insert(row.feature, now);
            match row.state {
                _ if before == Some(now) => {}
                State::Degraded => slog::warn!(self.ctx.log, "a feature does not work"; "feature" => row.feature,
                    "reason" => row.reason, "hint" => row.hint),
                State::Ok if before.is_some() => slog::info!(self.ctx.log, "a feature works again";
                    "feature" => row.feature),
                State::Ok | State::Off => {}
            }
        }
    }

    /// What is said waits for nobody: on a busy node its ring is full before all have taken the batch before. It is only added
    /// up here.
    fn hear_ahead(&mut self) {
        // Somebody may never take it.
        const MAX_AHEAD: usize = 1 << 20;
        if self.ahead >= MAX_AHEAD {
            return;
        }
        let mut heard = 0;
        let more = self
            .kernel
            .lock()
            .read_payload(WORDS_PER_NEWS * self.settings.batch, |record| {
                heard += 1;
                self.sessions.hear(record);
            });
        self.ahead += heard;
        self.sessions.end(!more);
    }

    pub(super) fn drain(&mut self, context: &mut Context<Self>) {
        self.read_rings(context);
        self.claim_share();
    }

    fn read_rings(&mut self, context: &mut Context<Self>) {
        // Most connections are counted here; each reading waits for the kernel some milliseconds.
        const SUMS_INTERVAL: Duration = Duration::from_secs(1);
        let connected = |actor: Option<&Recipient<EventBatch>>| actor.cloned().filter(Recipient::connected);
        let fqdn = self.fqdn.as_ref().map(|fqdn| &fqdn.batches);
        let (Some(conntrack), Some(_), Some(_)) = (
            connected(self.conntrack.as_ref()),
            connected(fqdn),
            connected(self.registry.as_ref()),
        ) else {
            return;
        };
        if self.under_way {
            return self.hear_ahead();
        }
        let now = self.ctx.now();
        let spilled = self.look_for_losses(now);
        self.take_inventory(now);
        let due = now.monotonic_ns >= self.next_totals_ns;
        let all_read = !self.more;
        let (mut pass, mut failed) = (false, None);
        self.raw.clear();
        let mut rows = Vec::new();
        self.more = {
            let mut kernel = self.kernel.lock();
            if due {
                self.next_totals_ns = now.monotonic_ns + nanos(self.settings.totals_interval);
                match kernel.read_totals(&mut self.raw) {
                    Ok(read) => {
                        pass = read;
                        if read {
                            self.ctx.features.ok(feature::TOTALS);
                        }
                    }
                    // What it has shown is shown, but what is missing is not gone.
                    Err(error) => failed = Some(error),
                }
                // What it has shown counts, and the rest comes with the next pass.
                if let Err(error) = kernel.read_exchanges(&mut rows) {
                    failed = failed.or(Some(error));
                }
            }
            let begin = due || now.monotonic_ns >= self.next_sums_ns;
            if begin {
                self.next_sums_ns = now.monotonic_ns + nanos(SUMS_INTERVAL);
            }
            kernel.read_sums(begin, &mut self.raw, &mut rows);
            self.sessions.count(&rows);
            self.files.read(&mut kernel, &mut self.raw, now, &self.ctx);
            let news = kernel.read(&mut self.raw, self.settings.batch, spilled);
            let said = kernel.read_payload(WORDS_PER_NEWS * self.settings.batch, |record| {
                self.sessions.hear(record)
            });
            self.sessions.end(!said);
            self.ahead = 0;
            news || said
        };
        if let Some(error) = failed {
            self.unreadable(feature::TOTALS, &error);
        }
        if due {
            self.passes += u64::from(pass);
            self.publish(self.raw.seen.len() / size_of::<tarsier_common::SocketRecord>());
        }
        // Only what a whole pass has not seen is gone, and only if no end of it still waits in the ring.
        let sweep = pass && all_read && !self.more && std::mem::take(&mut self.losses.sweep);
        let inventory = std::mem::take(&mut self.losses.inventory);
        let heard = self.listen(now);
        if self.raw.is_empty() && heard.is_empty() && !sweep && !inventory {
            return;
        }
        let (mut events, counts, malformed) = decode_batch(&self.raw);
        events.extend(heard);
        self.files.count(&events);
        let mut in_flight = self.ctx.ledger.take(counts);
        if malformed.total() > 0 {
            in_flight.split(malformed).settle_all(Reason::Malformed);
        }
        self.under_way = true;
        self.batches += 1;
        let batch = EventBatch {
            events,
            in_flight,
            ack: Arc::new(Ack(Some(context.address().recipient()))),
            now,
            sweep_before_ns: sweep.then_some(now.monotonic_ns),
            inventory,
            routes: Vec::new(),
            raw: self.settings.recording.then(|| self.raw.clone()),
            queued: self.depth.queued(),
        };
        tell(&conntrack, batch);
    }

    /// What was said, as requests. Delivered with that: payload goes no further.
    fn listen(&mut self, now: Now) -> Vec<Event> {
        let Heard {
            events,
            answers,
            given_up,
            passed_over,
            ended,
            told,
            untold,
            counts,
            malformed,
        } = self.sessions.take(now);
        self.taps.share(&told, &untold, now);
        if !(given_up.is_empty() && passed_over.is_empty() && ended.is_empty()) {
            let mut kernel = self.kernel.lock();
            kernel.pass_over(&passed_over);
            kernel.give_up(&given_up);
            kernel.forget(&ended);
        }
        let mut in_flight = self.ctx.ledger.take(counts);
        in_flight.split(malformed).settle_all(Reason::Malformed);
        in_flight.deliver();
        if let Some(fqdn) = &self.fqdn {
            answers.into_iter().for_each(|answer| tell(&fqdn.answers, answer));
        }
        events
    }

    /// What the kernel counts by itself nobody can tell one by one.
    pub(super) fn watch(&mut self) {
        let watch = self.taps.watch();
        if let Err(error) = self.kernel.lock().watch(&watch.tgids) {
            slog::warn!(self.ctx.log, "who is watched cannot be told to the kernel"; "error" => #error);
        }
        self.sessions.watch(watch);
    }

    fn publish(&self, sockets: usize) {
        let kernel = self.kernel.lock();
        let maps = kernel
            .fill()
            .into_iter()
            .map(|(map, entries, capacity)| MapFill { map, entries, capacity });
        self.stats.publish(KernelReport {
            programs: kernel.program_stats(),
            maps: maps.collect(),
            collects: kernel.collects(),
            totals_passes: self.passes,
            sockets_in_last_pass: sockets as u64,
            files_in_last_pass: self.files.seen,
            files_left_out: self.files.left_out,
            tables: self.sessions.tables().to_vec(),
        });
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Actor for TracerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // Acknowledgements, one at a time, and the supervisor's rare words.
        context.set_mailbox_capacity(16);
        // Not before the programs are attached: what is looked at earlier may change without anybody telling.
        self.losses.inventory = true;
        self.kernel.lock().set_l7(&self.settings.l7);
        self.sessions.set(&self.settings.l7);
        self.watch();
        // Its row is there before anybody is told that programs are.
        self.claim_share();
        self.tick(context);
        context.run_interval(self.settings.drain_interval, Self::tick);
    }

    /// Also runs while a panic unwinds, so nothing here may fail.
    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(stopped) = self.stopped.take() {
            let panicked = std::thread::panicking();
            tell(&stopped, TracerStopped { panicked });
        }
    }
}

impl Handler<BatchDone> for TracerActor {
    type Result = ();

    fn handle(&mut self, _: BatchDone, context: &mut Context<Self>) {
        self.under_way = false;
        if self.more {
            self.drain(context);
        }
    }
}
