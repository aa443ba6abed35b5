//! The names of addresses.
//!
//! Stands between conntrack and the registry: every batch passes through, and leaves with the connections in it knowing the
//! names that they are shown by. Learns from answers of name servers, by whomever they are told, and forgets what the
//! supervisor has found nobody to refer to. It outlives a registry: an answer comes once, and nobody could be asked for it
//! again. When it panics, the batch it had is booked as lost, and its successor knows no names: open connections keep
//! theirs, those made later count under their addresses until there are answers again.
use super::table::{Learnt, Names, Referred, Stale};
use crate::{
    base::{
        context::Ctx,
        features::{State, feature},
        fqdn::Fqdn,
        mailbox::tell,
        now::Now,
    },
    decode::DnsAnswered,
    registry::messages::{EventBatch, RecordNames},
};
use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, Recipient};
use parking_lot::Mutex;
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A table with its entries, limit and refusals.
pub type Fill = (&'static str, usize, usize, u64);

/// What came of the answers, for the metrics.
#[derive(Debug, Default)]
pub struct Statistics {
    outcomes: [AtomicU64; 4],
    table: Mutex<Option<Fill>>,
}

impl Statistics {
    pub const OUTCOMES: [&'static str; 4] = ["learnt", "cut", "no_address", "no_name"];

    pub fn read(&self) -> [(&'static str, u64); 4] {
        let mut read = Self::OUTCOMES.map(|outcome| (outcome, 0));
        for ((_, n), counter) in read.iter_mut().zip(&self.outcomes) {
            *n = counter.load(Relaxed);
        }
        read
    }

    pub fn table(&self) -> Option<Fill> {
        *self.table.lock()
    }

    fn count(&self, learnt: Learnt) {
        let at = match learnt {
            Learnt::Names => 0,
            Learnt::SomeNames => 1,
            Learnt::NoAddress => 2,
            Learnt::NotAName => 3,
        };
        if let Some(counter) = self.outcomes.get(at) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub max_entries: usize,
    /// What was heard of within that time is kept, whoever refers to it.
    pub keep: Duration,
    pub recording: bool,
}

#[derive(Clone, Debug)]
pub struct RegistryRecipients {
    pub batches: Recipient<EventBatch>,
    /// In the order of the batches.
    pub record: Recipient<RecordNames>,
}

pub struct Blueprint {
    pub ctx: Ctx,
    pub settings: Settings,
    pub statistics: Arc<Statistics>,
    pub registry: Option<RegistryRecipients>,
    pub stopped: Recipient<FqdnStopped>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FqdnStopped {
    pub panicked: bool,
}

pub struct FqdnActor {
    ctx: Ctx,
    settings: Settings,
    names: Names,
    statistics: Arc<Statistics>,
    registry: Option<RegistryRecipients>,
    stopped: Option<Recipient<FqdnStopped>>,
    /// Somebody has told it an answer.
    told: bool,
}

impl FqdnActor {
    pub fn new(blueprint: Blueprint) -> Self {
        Self {
            names: Names::new(blueprint.settings.max_entries),
            ctx: blueprint.ctx,
            settings: blueprint.settings,
            statistics: blueprint.statistics,
            registry: blueprint.registry,
            stopped: Some(blueprint.stopped),
            told: false,
        }
    }

    fn publish(&self) {
        let names = &self.names;
        *self.statistics.table.lock() = Some(("fqdn", names.len(), names.capacity(), names.evicted()));
    }

    fn record(&self, what: RecordNames) {
        if let Some(registry) = self.registry.as_ref().filter(|_| self.settings.recording) {
            tell(&registry.record, what);
        }
    }

    /// What has not been heard of since then may go.
    fn before_ns(&self, now: Now) -> u64 {
        let keep_ns = u64::try_from(self.settings.keep.as_nanos()).unwrap_or(u64::MAX);
        now.monotonic_ns.saturating_sub(keep_ns)
    }
}

impl Actor for FqdnActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // One batch at a time, and answers.
        context.set_mailbox_capacity(256);
        let features = &self.ctx.features;
        if self.settings.max_entries == 0 {
            features.set(feature::FQDN, State::Off, "configured", "the configuration says so");
        } else {
            let hint = "no name server has answered anybody yet: destinations are shown by their addresses";
            features.set(feature::FQDN, State::Off, "no_answers", hint);
        }
        self.publish();
        context.run_interval(Duration::from_secs(1), |actor, _| actor.publish());
    }

    /// Also runs while a panic unwinds, so nothing here may fail.
    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(stopped) = self.stopped.take() {
            let panicked = std::thread::panicking();
            tell(&stopped, FqdnStopped { panicked });
        }
    }
}

impl Handler<EventBatch> for FqdnActor {
    type Result = ();

    fn handle(&mut self, mut batch: EventBatch, _: &mut Context<Self>) {
        self.names.name(&mut batch.events, batch.now.monotonic_ns);
        // Without a registry it is booked as lost.
        if let Some(registry) = &self.registry {
            tell(&registry.batches, batch);
        }
    }
}

impl Message for DnsAnswered {
    type Result = ();
}

impl Handler<DnsAnswered> for FqdnActor {
    type Result = ();

    fn handle(&mut self, answer: DnsAnswered, _: &mut Context<Self>) {
        let now = self.ctx.now();
        let learnt = self.names.learn(&answer, now.monotonic_ns);
        self.statistics.count(learnt);
        if self.settings.max_entries > 0 && !std::mem::replace(&mut self.told, true) {
            self.ctx.features.ok(feature::FQDN);
        }
        self.record(RecordNames::Answered(now, answer));
    }
}

/// Addresses and names of `ip_to_fqdn`.
#[derive(Debug, Message)]
#[rtype(result = "Vec<(IpAddr, Fqdn)>")]
pub struct GetNames;

impl Handler<GetNames> for FqdnActor {
    type Result = MessageResult<GetNames>;

    fn handle(&mut self, _: GetNames, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.names.specified())
    }
}

/// Which names nobody has heard of for a period.
#[derive(Debug, Message)]
#[rtype(result = "Stale")]
pub struct GetStale;

impl Handler<GetStale> for FqdnActor {
    type Result = MessageResult<GetStale>;

    fn handle(&mut self, _: GetStale, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.names.stale(self.before_ns(self.ctx.now())))
    }
}

/// To the registry and to containers: which of these names do you refer to? `None`: it cannot be told now.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Option<Referred>")]
pub struct GetReferred(pub Arc<Stale>);

/// Nobody refers to them.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ForgetNames(pub Vec<IpAddr>);

impl Handler<ForgetNames> for FqdnActor {
    type Result = ();

    fn handle(&mut self, message: ForgetNames, _: &mut Context<Self>) {
        let before_ns = self.before_ns(self.ctx.now());
        let gone = self.names.forget(&message.0, before_ns);
        if !gone.is_empty() {
            self.record(RecordNames::Forgotten(gone));
        }
        self.publish();
    }
}

/// Another registry has taken the place of the one before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetRegistry(pub RegistryRecipients);

impl Handler<SetRegistry> for FqdnActor {
    type Result = ();

    fn handle(&mut self, message: SetRegistry, _: &mut Context<Self>) {
        self.registry = Some(message.0);
    }
}

#[cfg(feature = "test-hooks")]
impl Handler<crate::supervisor::hooks::Panic> for FqdnActor {
    type Result = ();

    #[expect(clippy::panic, reason = "this is what the hook is for")]
    fn handle(&mut self, _: crate::supervisor::hooks::Panic, _: &mut Context<Self>) {
        panic!("on request");
    }
}
