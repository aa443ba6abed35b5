//! The agent's end of one tap: whom it watches, and what it is told.
//!
//! Subscribes to the registry's news, has the supervisor watch the container's processes, gets its share of each reading from
//! the tracer. When it ends, by whatever, nobody is watched for it any more.
use super::{Peer, Shared};
use crate::{
    base::{ids::ContainerId, mailbox::tell},
    config::TapDetail,
    http::scrape::Faces,
    registry::lifecycle::{Lifecycle, News},
    supervisor::messages::{EndTap, SetTap},
    tracer::tap::{Overheard, Tap},
};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use actix_web::web::Data;
use slog::{info, o};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
};
use tokio::sync::mpsc;

/// Some seconds of a busy service, and with texts as long as they may be five megabytes.
pub(super) const QUEUE_EXCHANGES: usize = 4096;
/// Messages of up to 1024 exchanges that may wait for the HTTP thread.
const MAILBOX: usize = 16;

pub(super) struct Tapper {
    faces: Data<Faces>,
    log: slog::Logger,
    number: u64,
    container: ContainerId,
    detail: TapDetail,
    tgids: BTreeSet<u32>,
    /// Somebody looks who is there, and that has been told of meanwhile.
    looking: Option<BTreeMap<u32, bool>>,
    /// What was seen is old already.
    look_again: bool,
    queue: mpsc::UnboundedSender<Overheard>,
    shared: Arc<Shared>,
    begun_ns: Option<u64>,
}

impl Tapper {
    pub(super) fn new(
        faces: Data<Faces>,
        number: u64,
        container: ContainerId,
        detail: TapDetail,
        peer: Option<Peer>,
        (queue, shared): (mpsc::UnboundedSender<Overheard>, Arc<Shared>),
    ) -> Self {
        let uid = peer.map(|peer| peer.uid);
        let pid = peer.and_then(|peer| peer.pid);
        let log = faces
            .ctx
            .log
            .new(o!("component" => "tap", "tap" => number, "uid" => uid, "pid" => pid));
        Self {
            faces,
            log,
            number,
            container,
            detail,
            tgids: BTreeSet::new(),
            looking: Some(BTreeMap::new()),
            look_again: false,
            queue,
            shared,
            begun_ns: None,
        }
    }

    fn wish(&self, context: &Context<Self>) -> SetTap {
        SetTap {
            tap: Tap {
                number: self.number,
                tgids: Arc::new(self.tgids.clone()),
                to: context.address().recipient(),
            },
            text: self.detail == TapDetail::Payload,
        }
    }

    fn set(&mut self, tgid: u32, here: bool) -> bool {
        if let Some(meanwhile) = &mut self.looking {
            meanwhile.insert(tgid, here);
        }
        if here {
            self.tgids.insert(tgid)
        } else {
            self.tgids.remove(&tgid)
        }
    }

    fn seen(&mut self, members: BTreeSet<u32>) {
        self.tgids = members;
        for (tgid, here) in self.looking.take().unwrap_or_default() {
            self.set(tgid, here);
        }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        if self.looking.is_some() {
            self.look_again = true;
            return;
        }
        self.looking = Some(BTreeMap::new());
        let (faces, container) = (self.faces.clone(), self.container.clone());
        let members = async move { faces.members(container).await };
        let seen = members.into_actor(self).map(|members, actor, context| {
            // A registry that does not answer is about to be another, which tells who is there.
            match members {
                Ok(members) => actor.seen(members.unwrap_or_default()),
                Err(_silence) => actor.looking = None,
            }
            tell(&actor.faces.tap, actor.wish(context));
            if std::mem::take(&mut actor.look_again) {
                actor.look(context);
            }
        });
        context.spawn(seen);
    }

    /// Says whether others are to be watched, and whether only a look can tell.
    fn hear(&mut self, event: &Lifecycle) -> (bool, bool) {
        match event {
            Lifecycle::ProcessStarted { process, container, .. } if *container == self.container => {
                (self.set(process.tgid, true), false)
            }
            Lifecycle::ProcessMoved { process, container, .. } => {
                let here = container.as_ref() == Some(&self.container);
                (self.set(process.tgid, here), false)
            }
            Lifecycle::ProcessExited { process, .. } => (self.set(process.tgid, false), false),
            Lifecycle::ContainerIdentified { container, was, .. } if container != was => {
                let renamed = *was == self.container;
                let joined = *container == self.container;
                if renamed {
                    self.container = container.clone();
                }
                (false, renamed || joined)
            }
            Lifecycle::ContainerRetired { container } if *container == self.container => {
                let before = self.tgids.len();
                self.tgids.clear();
                (before > 0, false)
            }
            Lifecycle::Restarted => {
                self.tgids.clear();
                (true, false)
            }
            Lifecycle::ProcessStarted { .. }
            | Lifecycle::ContainerAppeared { .. }
            | Lifecycle::ContainerIdentified { .. }
            | Lifecycle::ContainerRetired { .. } => (false, false),
        }
    }
}

impl Actor for Tapper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        let Some(begun_ns) = self.begun_ns else { return };
        tell(&self.faces.untap, EndTap { number: self.number });
        let seconds = self.faces.ctx.clock.monotonic_ns().saturating_sub(begun_ns) / 1_000_000_000;
        info!(self.log, "a tap has ended"; "container_id" => %self.container, "seconds" => seconds,
            "exchanges" => self.shared.told.load(Relaxed), "dropped" => self.shared.lost.load(Relaxed));
    }
}

/// Those who are there.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Begin(pub(super) BTreeSet<u32>);

impl Handler<Begin> for Tapper {
    /// Comes when they are watched.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Begin(members): Begin, context: &mut Context<Self>) -> Self::Result {
        self.begun_ns = Some(self.faces.ctx.clock.monotonic_ns());
        info!(self.log, "a tap begins"; "container_id" => %self.container, "detail" => self.detail.as_str());
        self.seen(members);
        let told = self.faces.tap.send(self.wish(context));
        if std::mem::take(&mut self.look_again) {
            self.look(context);
        }
        Box::pin(async move {
            // A supervisor that is gone takes the agent with it.
            told.await.ok();
        })
    }
}

impl Handler<News> for Tapper {
    type Result = ();

    fn handle(&mut self, news: News, context: &mut Context<Self>) {
        let (mut changed, mut unsure) = (false, news.lost > 0);
        for event in news.events.iter() {
            let (changes, unknown) = self.hear(event);
            changed |= changes;
            unsure |= unknown;
        }
        if unsure {
            self.look(context);
        }
        if changed && self.begun_ns.is_some() {
            tell(&self.faces.tap, self.wish(context));
        }
    }
}

impl Handler<Overheard> for Tapper {
    type Result = ();

    fn handle(&mut self, mut overheard: Overheard, context: &mut Context<Self>) {
        let come = overheard.told.len();
        let room = QUEUE_EXCHANGES.saturating_sub(self.shared.queued.fetch_add(come, SeqCst));
        overheard.told.truncate(room);
        let lost = come - overheard.told.len();
        // Without its reader it ends in a moment.
        self.queue.send(overheard).ok();
        if lost > 0 {
            self.shared.lost.fetch_add(lost as u64, Relaxed);
            context.stop();
        }
    }
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Leave;

impl Handler<Leave> for Tapper {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Context<Self>) {
        context.stop();
    }
}
