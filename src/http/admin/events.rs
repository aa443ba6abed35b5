//! `GET /api/v1/events`: server-sent events of processes and containers, from now on.
//!
//! One small actor for each client takes the news from the registry and puts it into a queue of so many events; the answer's
//! body is what comes out of it, written only then, for all that lives may come at once. A client that lets its queue run full gets what is in it, and as its last event how many it
//! missed: whoever cannot follow is to know that he does not know all. Nobody else notices.
use super::{ApiError, SUPERVISOR};
use crate::{
    base::{clock::Clock, mailbox::tell},
    http::{
        event::{Event, What},
        scrape::{Faces, ask},
    },
    registry::lifecycle::{News, Subscribe},
};
use actix::{Actor, ActorContext, Context, Handler, Message, Recipient};
use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Far fewer than connections: who stops reading keeps his.
const MAX_CLIENTS: usize = 8;
/// A registry that begins anew tells all that it finds before anybody can read.
const QUEUE_EVENTS: usize = 16_384;
/// Messages of up to 256 events that may wait for the HTTP thread.
const MAILBOX: usize = 256;
/// A client that says nothing can only be missed by writing to it.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// Those who follow.
pub struct Streams {
    clients: watch::Sender<usize>,
    ending: watch::Sender<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            clients: watch::Sender::new(0),
            ending: watch::Sender::new(false),
        }
    }
}

impl Streams {
    /// The agent ends: tells all who follow, and waits until they know.
    pub async fn end(&self, patience: Duration) {
        self.ending.send_replace(true);
        let mut clients = self.clients.subscribe();
        // Who does not read does not learn it.
        tokio::time::timeout(patience, clients.wait_for(|clients| *clients == 0))
            .await
            .ok();
    }

    /// For those who have a stream of another kind.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    fn enter(self: &Arc<Self>) -> Option<Seat> {
        let entered = self.clients.send_if_modified(|clients| {
            let room = *clients < MAX_CLIENTS;
            *clients += usize::from(room);
            room
        });
        entered.then(|| Seat(Arc::clone(self)))
    }
}

struct Seat(Arc<Streams>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.clients.send_modify(|clients| *clients -= 1);
    }
}

pub(super) async fn events(faces: Data<Faces>) -> Result<HttpResponse, ApiError> {
    let seat = faces
        .streams
        .enter()
        .ok_or(ApiError::Crowded { clients: MAX_CLIENTS })?;
    let (sender, queue) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let client = Follower {
        queue: Some(sender),
        shared: Arc::clone(&shared),
    };
    let client = client.start();
    let reader = Reader {
        queue,
        shared,
        ending: seat.0.ending.subscribe(),
        clock: Arc::clone(&faces.ctx.clock),
        leave: client.clone().recipient(),
        over: false,
        _seat: seat,
    };
    let subscribe = Subscribe {
        actor: "follower",
        to: client.recipient(),
    };
    // If that fails, the reader goes, and the client with it.
    let subscribed = ask(faces.subscribe.send(subscribe), faces.deadline()).await;
    subscribed.map_err(faces.silent(SUPERVISOR))?;
    let body = futures_util::stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(Box::pin(body)))
}

#[derive(Default)]
struct Shared {
    queued: AtomicUsize,
    lost: AtomicU64,
}

/// Takes the news of one client.
struct Follower {
    /// `None`: it was too slow, and what comes now is only counted.
    queue: Option<mpsc::UnboundedSender<News>>,
    shared: Arc<Shared>,
}

impl Actor for Follower {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl Follower {
    fn lose(&mut self, events: u64) {
        self.queue = None;
        self.shared.lost.fetch_add(events, Relaxed);
    }

    fn put(&mut self, mut news: News) {
        let Some(queue) = &self.queue else {
            return self.lose(news.events.len() as u64);
        };
        let come = news.events.len();
        let room = QUEUE_EVENTS.saturating_sub(self.shared.queued.fetch_add(come, SeqCst));
        if let Some(taken) = news.events.get(..room).filter(|taken| taken.len() < come) {
            news.events = Arc::from(taken);
        }
        let lost = come - news.events.len();
        // Without its reader it ends in a moment.
        queue.send(news).ok();
        if lost > 0 {
            self.lose(lost as u64);
        }
    }
}

impl Handler<News> for Follower {
    type Result = ();

    fn handle(&mut self, news: News, _: &mut Context<Self>) {
        if news.lost > 0 {
            self.lose(news.lost);
        }
        if !news.events.is_empty() || news.lost == 0 {
            self.put(news);
        }
    }
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Leave;

impl Handler<Leave> for Follower {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Context<Self>) {
        context.stop();
    }
}

/// What the client reads.
struct Reader {
    queue: mpsc::UnboundedReceiver<News>,
    shared: Arc<Shared>,
    ending: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
    leave: Recipient<Leave>,
    over: bool,
    _seat: Seat,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let last = tokio::select! {
            biased;
            queued = self.queue.recv() => {
                if let Some(news) = queued {
                    self.shared.queued.fetch_sub(news.events.len(), SeqCst);
                    return Some(written(&news));
                }
                // It has read all that there was room for.
                What::Lagged { lost: self.shared.lost.load(Relaxed) }
            }
            () = ended(&mut self.ending) => What::Ended,
            () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": still here\n\n")),
        };
        Some(self.last(last))
    }

    fn last(&mut self, what: What) -> Bytes {
        self.over = true;
        let time_unix = self.clock.wall_ns() as f64 / 1e9;
        Bytes::from(Event { time_unix, what }.wire())
    }
}

fn written(news: &News) -> Bytes {
    if news.events.is_empty() {
        return Bytes::from_static(b": from here on\n\n");
    }
    let events = news.events.iter().map(|event| Event::of(event, news.now).wire());
    Bytes::from(events.collect::<String>())
}

async fn ended(ending: &mut watch::Receiver<bool>) {
    // Whoever could say it is gone: that is the end too.
    ending.wait_for(|ending| *ending).await.ok();
}

impl Drop for Reader {
    fn drop(&mut self) {
        tell(&self.leave, Leave);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::clock::ManualClock, base::now::Now, registry::lifecycle::Lifecycle};
    use actix::Addr;

    fn pair(streams: &Arc<Streams>) -> (Addr<Follower>, Reader) {
        let (sender, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let follower = Follower {
            queue: Some(sender),
            shared: Arc::clone(&shared),
        };
        let follower = follower.start();
        let seat = streams.enter().unwrap();
        let reader = Reader {
            queue,
            shared,
            ending: seat.0.ending.subscribe(),
            clock: Arc::new(ManualClock::new(0, 0, 1_500_000_000)),
            leave: follower.clone().recipient(),
            over: false,
            _seat: seat,
        };
        (follower, reader)
    }

    fn news(ids: impl IntoIterator<Item = String>, lost: u64) -> News {
        let retired = |id: String| Lifecycle::ContainerRetired { container: id.into() };
        News {
            events: ids.into_iter().map(retired).collect(),
            now: Now::default(),
            lost,
        }
    }

    async fn text(reader: &mut Reader) -> String {
        String::from_utf8(reader.next().await.unwrap().to_vec()).unwrap()
    }

    const LAGGED: &str = "event: lagged\ndata: {\"time_unix\":1.5,\"event\":\"lagged\",\"lost\":";

    #[actix::test]
    async fn events_come_in_order_and_silence_is_broken() {
        tokio::time::pause();
        let streams = Arc::default();
        let (follower, mut reader) = pair(&streams);
        follower.send(news([], 0)).await.unwrap();
        follower
            .send(news(["/a".to_owned(), "/b".to_owned()], 0))
            .await
            .unwrap();
        assert_eq!(text(&mut reader).await, ": from here on\n\n");
        let wire = |id: &str| {
            format!(
                "event: container_retired\ndata: {{\"time_unix\":0.0,\"event\":\"container_retired\",\"container_id\":\"{id}\"}}\n\n"
            )
        };
        assert_eq!(text(&mut reader).await, wire("/a") + &wire("/b"));
        assert_eq!(text(&mut reader).await, ": still here\n\n");
        assert_eq!(reader.shared.queued.load(SeqCst), 0);
    }

    #[actix::test]
    async fn who_reads_too_slowly_gets_what_is_there_and_is_told() {
        let streams = Arc::default();
        let (follower, mut reader) = pair(&streams);
        let many = (0..QUEUE_EVENTS - 2).map(|number| format!("/{number}"));
        follower.send(news(many, 0)).await.unwrap();
        let five = ["/a", "/b", "/c", "/d", "/e"].map(str::to_owned);
        follower.send(news(five, 0)).await.unwrap();
        // However much room there is by then: after a gap nothing would be right.
        assert_eq!(text(&mut reader).await.matches("data: ").count(), QUEUE_EVENTS - 2);
        follower.send(news(["/f".to_owned()], 0)).await.unwrap();
        let last = text(&mut reader).await;
        assert!(last.contains("\"/b\"") && !last.contains("\"/c\""), "{last}");
        assert_eq!(text(&mut reader).await, format!("{LAGGED}4}}\n\n"), "3 of 5, and /f");
        assert_eq!(reader.next().await, None);
    }

    #[actix::test]
    async fn what_the_hub_had_to_drop_counts_too() {
        let streams = Arc::default();
        let (follower, mut reader) = pair(&streams);
        follower.send(news(["/a".to_owned()], 0)).await.unwrap();
        follower.send(news(["/b".to_owned()], 40)).await.unwrap();
        assert!(text(&mut reader).await.contains("\"/a\""));
        assert_eq!(text(&mut reader).await, format!("{LAGGED}41}}\n\n"));
        assert_eq!(reader.next().await, None);
    }

    #[actix::test]
    async fn the_end_of_the_agent_is_the_last_that_comes() {
        let streams: Arc<Streams> = Arc::default();
        let (follower, mut reader) = pair(&streams);
        follower.send(news(["/a".to_owned()], 0)).await.unwrap();
        let read = async {
            let mut all = Vec::new();
            while let Some(chunk) = reader.next().await {
                all.push(String::from_utf8(chunk.to_vec()).unwrap());
            }
            drop(reader);
            all
        };
        let (all, ()) = tokio::join!(read, streams.end(Duration::from_secs(60)));
        assert_eq!(all.len(), 2);
        assert!(
            all[0].contains("\"/a\"") && all[1].starts_with("event: ended\n"),
            "{all:?}"
        );
        while follower.connected() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[actix::test]
    async fn no_more_than_so_many_and_nobody_waits_for_those_who_do_not_read() {
        tokio::time::pause();
        let streams: Arc<Streams> = Arc::default();
        let mut pairs: Vec<_> = (0..MAX_CLIENTS).map(|_| pair(&streams)).collect();
        assert!(streams.enter().is_none());
        pairs.pop();
        assert!(streams.enter().is_some());
        streams.end(Duration::from_millis(250)).await;
        assert_eq!(*streams.clients.borrow(), MAX_CLIENTS - 1);
    }
}
