//! `GET /api/v1/containers/{id}/tap`: server-sent events, one for each request of a container and its reply, from now on.
//!
//! One small actor for each client follows which processes the container has, has them watched, and puts what is told of
//! them into a queue; the answer's body is what comes out of it. Somebody who lets his queue run full gets what is in it and
//! how many he missed, and is no reason to watch any more.
mod tapper;

use super::{ApiError, REGISTRY, SUPERVISOR, container_id, events::HEARTBEAT};
use crate::{
    base::{ids::ContainerId, mailbox::tell},
    config::TapDetail,
    http::{
        overheard::{Event, Why},
        scrape::{Faces, Silence, ask},
    },
    registry::{lifecycle::Subscribe, members::GetMembers},
    supervisor::messages::GetContainers,
    tracer::tap::Overheard,
};
use actix::{Actor, Recipient};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data, Path},
};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
};
use tapper::{Begin, Leave, Tapper};
use tokio::sync::{mpsc, watch};

/// Each has its requests read one by one.
const MAX_TAPS: usize = 4;

/// Those who watch, and what they may see.
pub struct Taps {
    seats: watch::Sender<usize>,
    detail: watch::Sender<TapDetail>,
    next: AtomicU64,
}

impl Taps {
    pub fn new(detail: TapDetail) -> Self {
        Self {
            seats: watch::Sender::new(0),
            detail: watch::Sender::new(detail),
            next: AtomicU64::new(1),
        }
    }

    /// Taps that show something else end.
    pub fn set(&self, detail: TapDetail) {
        self.detail
            .send_if_modified(|now| std::mem::replace(now, detail) != detail);
    }

    fn enter(self: &Arc<Self>) -> Option<Seat> {
        let entered = self.seats.send_if_modified(|seats| {
            let room = *seats < MAX_TAPS;
            *seats += usize::from(room);
            room
        });
        entered.then(|| Seat(Arc::clone(self)))
    }
}

struct Seat(Arc<Taps>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.send_modify(|seats| *seats -= 1);
    }
}

/// Who asks, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) pid: Option<i32>,
}

pub(super) async fn tap(
    faces: Data<Faces>,
    path: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let container = container_id(&path);
    // Whatever it becomes after that ends the tap.
    let mut detail = faces.taps.detail.subscribe();
    let shown = *detail.borrow_and_update();
    if shown == TapDetail::Off {
        return Err(ApiError::NoTaps);
    }
    let seat = faces.taps.enter().ok_or(ApiError::Tapped { taps: MAX_TAPS })?;
    let (sender, queue) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let tapper = Tapper::new(
        faces.clone(),
        faces.taps.next.fetch_add(1, Relaxed),
        container.clone(),
        shown,
        request.conn_data::<Peer>().copied(),
        (sender, Arc::clone(&shared)),
    );
    let tapper = tapper.start();
    let reader = Reader {
        queue,
        shared,
        detail,
        ending: faces.streams.ending(),
        leave: tapper.clone().recipient(),
        first: true,
        over: false,
        _seat: seat,
    };
    // If something of it fails, the reader goes, and the tapper with it. First the news: who comes before the look is in it,
    // and who comes after it is told of.
    let subscribe = Subscribe {
        actor: "tap",
        to: tapper.clone().recipient(),
    };
    let subscribed = ask(faces.subscribe.send(subscribe), faces.deadline()).await;
    subscribed.map_err(faces.silent(SUPERVISOR))?;
    let members = faces.members(container.clone()).await?;
    let members = members.ok_or(ApiError::NoContainer { id: container })?;
    let begun = ask(tapper.send(Begin(members)), faces.deadline()).await;
    begun.map_err(faces.silent(SUPERVISOR))?;
    let body = futures_util::stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(Box::pin(body)))
}

impl Faces {
    /// Of the container's processes.
    async fn members(&self, id: ContainerId) -> Result<Option<BTreeSet<u32>>, ApiError> {
        let deadline = self.deadline();
        let list = ask(self.containers.send(GetContainers), deadline).await;
        let list = list.map_err(self.silent(SUPERVISOR))?;
        let Some(registry) = list.members else {
            return Err(self.silent(REGISTRY)(Silence::Gone));
        };
        let members = ask(registry.send(GetMembers(id)), deadline).await;
        members.map_err(self.silent(REGISTRY))
    }
}

#[derive(Default)]
struct Shared {
    /// Exchanges that wait.
    queued: AtomicUsize,
    /// Since the queue ran full.
    lost: AtomicU64,
    /// Handed to the connection.
    told: AtomicU64,
}

/// What the client reads.
struct Reader {
    queue: mpsc::UnboundedReceiver<Overheard>,
    shared: Arc<Shared>,
    detail: watch::Receiver<TapDetail>,
    ending: watch::Receiver<bool>,
    leave: Recipient<Leave>,
    first: bool,
    over: bool,
    _seat: Seat,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.first) {
            return Some(Bytes::from_static(b": from here on\n\n"));
        }
        if self.over {
            return None;
        }
        let why = tokio::select! {
            biased;
            // Whoever could say it is gone: that is the end too.
            _ = self.detail.changed() => Why::Configuration,
            _ = self.ending.wait_for(|ending| *ending) => Why::Agent,
            queued = self.queue.recv() => {
                if let Some(overheard) = queued {
                    self.shared.queued.fetch_sub(overheard.told.len(), SeqCst);
                    self.shared.told.fetch_add(overheard.told.len() as u64, Relaxed);
                    return Some(Bytes::from(written(&overheard)));
                }
                // It has read all that there was room for.
                if self.shared.lost.load(Relaxed) > 0 { Why::TooSlow } else { Why::Failed }
            }
            () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": still here\n\n")),
        };
        self.over = true;
        tell(&self.leave, Leave);
        let lost = dropped(self.shared.lost.load(Relaxed));
        Some(Bytes::from(lost + &Event::Ended { why }.wire()))
    }
}

fn written(overheard: &Overheard) -> String {
    let exchanges = overheard.told.iter();
    let exchanges: String = exchanges.map(|told| Event::of(told, overheard.now).wire()).collect();
    exchanges + &dropped(overheard.left_out)
}

fn dropped(exchanges: u64) -> String {
    match exchanges {
        0 => String::new(),
        exchanges => Event::Dropped { exchanges }.wire(),
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        tell(&self.leave, Leave);
    }
}
