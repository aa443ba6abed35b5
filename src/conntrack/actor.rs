//! The conntrack cache.
//!
//! Stands between the tracer and the names of addresses: every batch passes through, and leaves with the connections in it knowing
//! where they go. Tells the kernel's programs of which destinations nobody has to be asked. What it knows is a cache: when it
//! panics, the batch it had is booked as lost, and its successor asks anew.
use super::{
    cilium::{Cilium, Told},
    lookups::{Flow, Lookups},
    netlink::Answer,
    routes::{Known, Routes},
};
use crate::{
    base::{
        context::Ctx,
        features::{State, feature},
        ids::NetnsId,
        mailbox::tell,
    },
    decode::{Event, Exchanges, Role, SocketEvent},
    registry::messages::EventBatch,
    tracer::kernel::Kernel,
};
use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What came of the questions, for the metrics.
#[derive(Debug, Default)]
pub struct Statistics {
    outcomes: [AtomicU64; 5],
    cilium: [AtomicU64; 4],
    tables: Mutex<Vec<Fill>>,
}

/// A table with its entries, limit and refusals.
pub type Fill = (&'static str, usize, usize, u64);

impl Statistics {
    pub const OUTCOMES: [&'static str; 5] = ["translated", "direct", "unknown", "too_late", "error"];
    pub const OF_CILIUM: [&'static str; 4] = ["translated", "unknown", "no_backend", "error"];

    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::OUTCOMES.into_iter().zip(self.outcomes.iter().map(count))
    }

    pub fn read_cilium(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::OF_CILIUM.into_iter().zip(self.cilium.iter().map(count))
    }

    pub fn tables(&self) -> Vec<Fill> {
        self.tables.lock().clone()
    }

    fn count(&self, answer: &io::Result<Option<Answer>>) {
        let at = match answer {
            Ok(Some(Answer::To(_))) => 0,
            Ok(Some(Answer::Direct)) => 1,
            Ok(Some(Answer::Unknown)) => 2,
            Ok(None) => 3,
            Err(_) => 4,
        };
        if let Some(counter) = self.outcomes.get(at) {
            counter.fetch_add(1, Relaxed);
        }
    }

    fn count_cilium<E>(&self, told: &Result<Told, E>) {
        let at = match told {
            Ok(Told::To(_)) => 0,
            Ok(Told::Unknown) => 1,
            Ok(Told::NoBackend) => 2,
            Err(_) => 3,
        };
        if let Some(counter) = self.cilium.get(at) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

pub struct ConntrackActor {
    ctx: Ctx,
    routes: Routes,
    /// `None`: nobody is to be asked.
    lookups: Option<Lookups>,
    /// `None`: the configuration says so.
    cilium: Option<Cilium>,
    look_again: Duration,
    kernel: Arc<Mutex<Kernel>>,
    statistics: Arc<Statistics>,
    /// Whom the batches go to.
    next: Option<Recipient<EventBatch>>,
    stopped: Option<Recipient<ConntrackStopped>>,
    /// In this batch.
    asked: bool,
    failure: Option<(&'static str, String)>,
}

/// For the feature table.
fn reason(error: &io::Error) -> (&'static str, String) {
    match Errno::from_io_error(error) {
        Some(Errno::PERM) => (
            "no_permission",
            "destinations behind NAT are shown as they were connected to: give the agent CAP_NET_ADMIN".to_owned(),
        ),
        _ => ("fails", error.to_string()),
    }
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ConntrackStopped {
    pub panicked: bool,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub enabled: bool,
    /// The folder of Cilium's tables.
    pub cilium_maps: Option<PathBuf>,
    /// How often for those.
    pub look_again: Duration,
    pub proc: PathBuf,
    /// Of the host's files.
    pub root: PathBuf,
    /// `host.netns`.
    pub host_netns: PathBuf,
    pub host: NetnsId,
}

pub struct Blueprint {
    pub ctx: Ctx,
    pub settings: Settings,
    pub kernel: Arc<Mutex<Kernel>>,
    pub statistics: Arc<Statistics>,
    pub next: Option<Recipient<EventBatch>>,
    pub stopped: Recipient<ConntrackStopped>,
}

impl ConntrackActor {
    pub fn new(blueprint: Blueprint) -> Self {
        let Settings {
            enabled,
            cilium_maps,
            look_again,
            proc,
            root,
            host_netns,
            host,
        } = blueprint.settings;
        Self {
            ctx: blueprint.ctx,
            routes: Routes::new(),
            lookups: enabled.then(|| Lookups::new(&proc, &root, &host_netns, host)),
            cilium: cilium_maps.map(Cilium::new),
            look_again,
            kernel: blueprint.kernel,
            statistics: blueprint.statistics,
            next: blueprint.next,
            stopped: Some(blueprint.stopped),
            asked: false,
            failure: None,
        }
    }

    /// Where it goes, if not where it was sent.
    fn route(&mut self, event: &mut SocketEvent, ended: bool, now_ns: u64) {
        if self.lookups.is_none() || event.role != Role::Client || event.listening {
            return;
        }
        match self.routes.known(event, ended, now_ns) {
            Known::Route(actual) => event.actual = actual,
            Known::Ask => {
                let Some(answer) = self.ask(&Flow::from(&*event), event.owner.process.tgid) else {
                    return;
                };
                if let Answer::To(actual) = answer {
                    event.actual = Some(actual);
                }
                if self.routes.answered(event, ended, answer, now_ns) {
                    self.kernel.lock().set_direct(event.netns.0, event.remote);
                }
            }
        }
    }

    /// The same of the connection that it was said on.
    fn route_said(&mut self, said: &mut Exchanges, now_ns: u64) {
        if self.lookups.is_none() || said.role != Role::Client {
            return;
        }
        let flow = Flow::from(&*said);
        match self.routes.known_flow(&flow, now_ns) {
            Known::Route(actual) => said.actual = actual,
            Known::Ask => {
                let Some(answer) = self.ask(&flow, said.owner.process.tgid) else {
                    return;
                };
                if let Answer::To(actual) = answer {
                    said.actual = Some(actual);
                }
                if self.routes.answered_flow(flow, answer, now_ns) {
                    self.kernel.lock().set_direct(flow.netns.0, flow.remote);
                }
            }
        }
    }

    fn ask(&mut self, flow: &Flow, tgid: u32) -> Option<Answer> {
        let answer = self.lookups.as_mut()?.ask(flow, tgid);
        self.statistics.count(&answer);
        self.asked = true;
        self.failure = answer.as_ref().err().map(reason).or(self.failure.take());
        // Where the question fails it is not put again for every connection.
        let answer = answer.unwrap_or(Some(Answer::Unknown));
        self.of_cilium(flow, answer)
    }

    /// Where it goes, if Cilium leads it there and the kernel nowhere else.
    fn of_cilium(&mut self, flow: &Flow, answer: Option<Answer>) -> Option<Answer> {
        let cilium = match (answer, &mut self.cilium) {
            (Some(Answer::To(_)), _) | (_, None) => return answer,
            (_, Some(cilium)) => cilium,
        };
        // Before a table is there it is no question.
        if !cilium.is_there() {
            return answer;
        }
        let told = cilium.ask(flow.local, flow.remote);
        self.statistics.count_cilium(&told);
        match told {
            Ok(Told::To(backend)) if backend != flow.remote => Some(Answer::To(backend)),
            _ => answer,
        }
    }

    /// Tables may have come, and others taken the place of some.
    fn look_for_cilium(&mut self) {
        let Some(cilium) = &mut self.cilium else { return };
        let news = cilium.look();
        cilium.say(&self.ctx.features);
        if news {
            self.routes.forget_direct();
            self.kernel.lock().forget_direct();
        }
    }

    /// Once for each batch: the table is locked for it.
    fn say_how_it_went(&mut self) {
        if !std::mem::take(&mut self.asked) {
            return;
        }
        let features = &self.ctx.features;
        if let Some(cilium) = &self.cilium {
            cilium.say(features);
        }
        let is = |what: fn(&Lookups) -> bool| self.lookups.as_ref().is_some_and(what);
        let (tracks, barred, away) = (is(Lookups::tracks), is(Lookups::barred), is(Lookups::away));
        match self.failure.take() {
            Some((reason, hint)) => features.degraded(feature::CONNTRACK, reason, hint),
            None if !tracks => features.set(feature::CONNTRACK, State::Off, "absent", "the kernel tracks nothing"),
            None if away => {
                let hint = "destinations that the host translates are shown as they were connected to: start the agent in \
                            the host's network namespace (--network host, hostNetwork), or give it CAP_SYS_ADMIN";
                features.degraded(feature::CONNTRACK, "no_permission", hint)
            }
            // Nothing that is worth so much power.
            None if barred => {
                let hint = "what containers' own network namespaces translate is not seen; CAP_SYS_ADMIN would show it";
                features.set(feature::CONNTRACK, State::Ok, "host_only", hint)
            }
            None => features.ok(feature::CONNTRACK),
        };
    }

    fn tick(&mut self, _: &mut Context<Self>) {
        *self.statistics.tables.lock() = self.routes.tables().to_vec();
        let again = self.routes.expire(self.ctx.clock.monotonic_ns());
        if !again.is_empty() {
            let mut kernel = self.kernel.lock();
            for (netns, address) in again {
                kernel.unset_direct(netns.0, address);
            }
        }
    }
}

impl Actor for ConntrackActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // One batch at a time.
        context.set_mailbox_capacity(16);
        // What a predecessor has said there would never be asked for again.
        self.kernel.lock().forget_direct();
        if let Some(lookups) = &mut self.lookups {
            self.failure = lookups.probe().err().as_ref().map(reason);
            self.asked = true;
            self.say_how_it_went();
        }
        self.look_for_cilium();
        context.run_interval(self.look_again, |actor, _| actor.look_for_cilium());
        context.run_interval(Duration::from_secs(1), Self::tick);
    }

    /// Also runs while a panic unwinds, so nothing here may fail.
    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(stopped) = self.stopped.take() {
            let panicked = std::thread::panicking();
            tell(&stopped, ConntrackStopped { panicked });
        }
    }
}

impl Handler<EventBatch> for ConntrackActor {
    type Result = ();

    fn handle(&mut self, mut batch: EventBatch, _: &mut Context<Self>) {
        let now_ns = batch.now.monotonic_ns;
        let recording = batch.raw.is_some();
        for event in &mut batch.events {
            let (event, ended) = match event {
                Event::SocketSeen(event) => (event, false),
                Event::ConnectionClosed(event) | Event::SocketSpilled(event) => (event, true),
                _ => continue,
            };
            self.route(event, ended, now_ns);
            if let (true, Some(actual)) = (recording, event.actual) {
                batch.routes.push((event.socket, actual));
            }
        }
        // By then it is known of the connections that the requests were on.
        for event in &mut batch.events {
            if let Event::Exchanges(said) = event {
                self.route_said(said, now_ns);
            }
        }
        if let Some(lookups) = &mut self.lookups {
            lookups.end_batch();
        }
        self.say_how_it_went();
        // Without anybody it is booked as lost.
        if let Some(next) = &self.next {
            tell(next, batch);
        }
    }
}

/// Another has taken the place of the one before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetNext(pub Recipient<EventBatch>);

impl Handler<SetNext> for ConntrackActor {
    type Result = ();

    fn handle(&mut self, message: SetNext, _: &mut Context<Self>) {
        self.next = Some(message.0);
    }
}

#[cfg(feature = "test-hooks")]
impl Handler<crate::supervisor::hooks::Panic> for ConntrackActor {
    type Result = ();

    #[expect(clippy::panic, reason = "this is what the hook is for")]
    fn handle(&mut self, _: crate::supervisor::hooks::Panic, _: &mut Context<Self>) {
        panic!("on request");
    }
}

#[cfg(test)]
mod tests;
