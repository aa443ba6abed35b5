//! Hands the registry's news to whoever has subscribed. Nobody is waited for: who has no room misses it, and is told how much
//! when there is room again.
use super::{
    actor::RegistryActor,
    lifecycle::{Lifecycle, News, Subscribe},
};
use crate::base::{
    mailbox::{Depths, Dropped, offer},
    now::Now,
};
use actix::{Context, Handler, Message};
use serde::Serialize;
use std::sync::Arc;

/// Of one message: a look at /proc may bring thousands at once.
const EVENTS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Hub {
    subscribers: Vec<Subscriber>,
    /// To be told at the end of this turn: hundreds of answers may come in one, and each is news of its own.
    collected: Vec<Lifecycle>,
}

#[derive(Debug)]
struct Subscriber {
    subscription: Subscribe,
    dropped: Dropped,
    /// Since the last news that arrived.
    lost: u64,
    lost_before: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriberSnapshot {
    pub actor: &'static str,
    /// Events that it had no room for.
    pub lost: u64,
}

impl Hub {
    /// Of a registry that takes another's place.
    pub(super) fn of(subscriptions: Vec<Subscribe>, depths: &Depths, now: Now) -> Self {
        let mut hub = Self::default();
        for subscription in subscriptions {
            hub.subscribe(subscription, depths, now);
        }
        hub.publish(&[Lifecycle::Restarted], now);
        hub
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.subscribers.is_empty()
    }

    pub(super) fn subscribe(&mut self, subscription: Subscribe, depths: &Depths, now: Now) {
        let mut subscriber = Subscriber {
            dropped: depths.dropped(subscription.actor, "News"),
            subscription,
            lost: 0,
            lost_before: 0,
        };
        subscriber.offer(&Arc::default(), now);
        self.subscribers.push(subscriber);
    }

    /// Says whether it is the first to wait for a [`Flush`].
    pub(super) fn collect(&mut self, events: Vec<Lifecycle>) -> bool {
        let first = self.collected.is_empty() && !events.is_empty();
        self.collected.extend(events);
        first
    }

    fn flush(&mut self, now: Now) {
        let collected = std::mem::take(&mut self.collected);
        self.publish(&collected, now);
    }

    /// Those who have gone. Without news nobody would notice.
    pub(super) fn forget(&mut self) {
        self.subscribers.retain(|of| of.subscription.to.connected());
    }

    /// Tells those who have missed something, if nothing else comes that could.
    pub(super) fn remind(&mut self, now: Now) {
        for subscriber in self.subscribers.iter_mut().filter(|of| of.lost > 0) {
            subscriber.offer(&Arc::default(), now);
        }
    }

    fn publish(&mut self, events: &[Lifecycle], now: Now) {
        self.forget();
        if self.subscribers.is_empty() {
            return;
        }
        for events in events.chunks(EVENTS) {
            let events = Arc::from(events);
            for subscriber in &mut self.subscribers {
                subscriber.offer(&events, now);
            }
        }
    }

    pub(super) fn snapshot(&mut self) -> Vec<SubscriberSnapshot> {
        self.forget();
        let row = |of: &Subscriber| SubscriberSnapshot {
            actor: of.subscription.actor,
            lost: of.lost_before + of.lost,
        };
        self.subscribers.iter().map(row).collect()
    }
}

impl Subscriber {
    fn offer(&mut self, events: &Arc<[Lifecycle]>, now: Now) {
        let news = News {
            events: Arc::clone(events),
            now,
            lost: self.lost,
        };
        if offer(&self.subscription.to, news, &self.dropped) {
            self.lost_before += std::mem::take(&mut self.lost);
        } else {
            self.lost += events.len() as u64;
        }
    }
}

/// To itself, at the end of a turn.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Flush;

impl Handler<Flush> for RegistryActor {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Context<Self>) {
        self.hub.flush(self.ctx.now());
        self.state.tell_lifecycle(self.hub.is_wanted());
    }
}

impl Handler<Subscribe> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: Subscribe, _: &mut Context<Self>) {
        let now = self.ctx.now();
        // What was before is not for who comes now.
        self.hub.flush(now);
        self.hub.subscribe(message, &self.ctx.depths, now);
        self.state.tell_lifecycle(self.hub.is_wanted());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Actor, ActorContext, Addr, MessageResult};
    use std::time::Duration;

    const NOW: Now = Now {
        monotonic_ns: 1,
        boottime_ns: 2,
        wall_ns: 3,
    };

    /// Room for one message, and for one more of each who sends.
    #[derive(Default)]
    struct Observer {
        news: Vec<News>,
    }

    impl Actor for Observer {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Context<Self>) {
            context.set_mailbox_capacity(1);
        }
    }

    impl Handler<News> for Observer {
        type Result = ();

        fn handle(&mut self, news: News, _: &mut Context<Self>) {
            self.news.push(news);
        }
    }

    #[derive(Message)]
    #[rtype(result = "Vec<News>")]
    struct Take;

    impl Handler<Take> for Observer {
        type Result = MessageResult<Take>;

        fn handle(&mut self, _: Take, _: &mut Context<Self>) -> Self::Result {
            MessageResult(std::mem::take(&mut self.news))
        }
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Stop;

    impl Handler<Stop> for Observer {
        type Result = ();

        fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
            context.stop();
        }
    }

    fn retired(id: &str) -> Lifecycle {
        Lifecycle::ContainerRetired { container: id.into() }
    }

    async fn subscribed(hub: &mut Hub, depths: &Depths, actor: &'static str) -> Addr<Observer> {
        let observer = Observer::default().start();
        // Lets it start, and so have its small mailbox.
        observer.send(Take).await.unwrap();
        let to = observer.clone().recipient();
        hub.subscribe(Subscribe { actor, to }, depths, NOW);
        observer
    }

    #[actix::test]
    async fn everybody_is_told_in_order_and_nobody_after_his_end() {
        let (mut hub, depths) = (Hub::default(), Depths::default());
        assert!(!hub.is_wanted());
        let first = subscribed(&mut hub, &depths, "first").await;
        let second = subscribed(&mut hub, &depths, "second").await;
        assert!(first.send(Take).await.unwrap()[0].events.is_empty(), "it begins");
        second.send(Take).await.unwrap();
        let events = [retired("/a"), retired("/b")];
        hub.publish(&events, NOW);
        for observer in [&first, &second] {
            let news = observer.send(Take).await.unwrap();
            assert_eq!((news.len(), &*news[0].events, news[0].lost), (1, &events[..], 0));
            assert_eq!(news[0].now, NOW);
        }
        first.send(Stop).await.unwrap();
        while first.connected() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(hub.snapshot().len(), 1, "noticed without news, too");
        hub.publish(&events, NOW);
        assert_eq!(second.send(Take).await.unwrap().len(), 1);
        assert!(hub.is_wanted());
    }

    #[actix::test]
    async fn who_has_no_room_misses_it_and_is_told_how_much() {
        let (mut hub, depths) = (Hub::default(), Depths::default());
        let slow = subscribed(&mut hub, &depths, "slow").await;
        let quick = subscribed(&mut hub, &depths, "quick").await;
        quick.send(Take).await.unwrap();
        slow.send(Take).await.unwrap();
        let published = 10;
        for _ in 0..published {
            hub.publish(&[retired("/a"), retired("/b")], NOW);
        }
        let arrived = slow.send(Take).await.unwrap().len() as u64;
        assert!((1..published).contains(&arrived), "{arrived}");
        let lost = 2 * (published - arrived);
        assert_eq!(hub.snapshot()[0], SubscriberSnapshot { actor: "slow", lost });
        hub.remind(NOW);
        let news = slow.send(Take).await.unwrap();
        assert_eq!((news.len(), news[0].events.len(), news[0].lost), (1, 0, lost));
        hub.remind(NOW);
        assert!(slow.send(Take).await.unwrap().is_empty(), "there is nothing to tell");
        hub.publish(&[retired("/d")], NOW);
        assert_eq!(slow.send(Take).await.unwrap()[0].lost, 0, "told once");
        assert_eq!(hub.snapshot()[0].lost, lost, "and counted for good");
        let dropped = depths.read_dropped();
        let of_slow = dropped.iter().find(|(actor, _, _)| *actor == "slow").unwrap();
        assert_eq!((of_slow.1, of_slow.2), ("News", published - arrived));
    }

    #[actix::test]
    async fn many_come_in_several_messages() {
        let (mut hub, depths) = (Hub::default(), Depths::default());
        let observer = Observer::default().start();
        // Before its mailbox is small.
        let to = observer.clone().recipient();
        let actor = "observer";
        hub.subscribe(Subscribe { actor, to }, &depths, NOW);
        let many: Vec<_> = (0..EVENTS + 1).map(|n| retired(&format!("/{n}"))).collect();
        let (few, rest) = many.split_at(3);
        assert!(!hub.collect(Vec::new()) && hub.collect(few.to_vec()) && !hub.collect(rest.to_vec()));
        hub.flush(NOW);
        hub.flush(NOW);
        let news = observer.send(Take).await.unwrap();
        let told: Vec<_> = news.iter().flat_map(|news| news.events.iter().cloned()).collect();
        assert!(told == many, "{} of {}", told.len(), many.len());
        assert_eq!(news.len(), 3, "the first is empty");
    }

    #[actix::test]
    async fn a_new_registry_says_so() {
        let depths = Depths::default();
        let observer = Observer::default().start();
        let to = observer.clone().recipient();
        let hub = Hub::of(vec![Subscribe { actor: "observer", to }], &depths, NOW);
        assert!(hub.is_wanted());
        let news = observer.send(Take).await.unwrap();
        let told: Vec<_> = news.iter().flat_map(|news| news.events.iter().cloned()).collect();
        assert_eq!(told, [Lifecycle::Restarted]);
    }
}
