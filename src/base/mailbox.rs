//! How actors send: `tell` never drops, `offer` may and counts. And what waits in their mailboxes.
use actix::{Message, Recipient};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

/// For lifecycle and totals: the mailbox takes it whatever its capacity. Batches are bounded by acknowledgement instead.
/// A dead receiver drops the message, and with it the guards that book its events.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn tell<M>(to: &Recipient<M>, message: M)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    to.do_send(message);
}

/// For copies that an observer may miss. Says whether there was room.
pub fn offer<M>(to: &Recipient<M>, message: M, dropped: &Dropped) -> bool
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let taken = to.try_send(message).is_ok();
    if !taken {
        dropped.0.fetch_add(1, Ordering::Relaxed);
    }
    taken
}

/// Counts the copies that found no room.
#[derive(Clone, Debug)]
pub struct Dropped(Arc<AtomicU64>);

/// Messages that wait, by actor.
#[derive(Default)]
pub struct Depths {
    depths: Mutex<BTreeMap<&'static str, Arc<AtomicI64>>>,
    dropped: Mutex<BTreeMap<(&'static str, &'static str), Arc<AtomicU64>>>,
}

impl Depths {
    pub fn of(&self, actor: &'static str) -> Depth {
        Depth(Arc::clone(self.depths.lock().entry(actor).or_default()))
    }

    pub fn dropped(&self, actor: &'static str, message: &'static str) -> Dropped {
        Dropped(Arc::clone(self.dropped.lock().entry((actor, message)).or_default()))
    }

    pub fn read_dropped(&self) -> Vec<(&'static str, &'static str, u64)> {
        let dropped = self.dropped.lock();
        dropped
            .iter()
            .map(|((actor, message), n)| (*actor, *message, n.load(Ordering::Relaxed)))
            .collect()
    }

    pub fn read(&self) -> Vec<(&'static str, i64)> {
        let depths = self.depths.lock();
        depths
            .iter()
            .map(|(actor, depth)| (*actor, depth.load(Ordering::Relaxed)))
            .collect()
    }
}

#[derive(Clone, Debug)]
pub struct Depth(Arc<AtomicI64>);

impl Depth {
    /// Goes into the message, and counts it for as long as it lives.
    pub fn queued(&self) -> Queued {
        self.0.fetch_add(1, Ordering::Relaxed);
        Queued(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
pub struct Queued(Arc<AtomicI64>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Actor, Context, Handler};

    struct Deaf;

    impl Actor for Deaf {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Context<Self>) {
            context.set_mailbox_capacity(1);
        }
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Word;

    impl Handler<Word> for Deaf {
        type Result = ();

        fn handle(&mut self, _: Word, _: &mut Context<Self>) {}
    }

    #[actix::test]
    async fn an_offer_that_finds_no_room_is_counted_and_a_tell_finds_room() {
        let depths = Depths::default();
        let dropped = depths.dropped("deaf", "Word");
        let deaf = Deaf.start().recipient();
        // Lets it start, and so have its small mailbox.
        deaf.send(Word).await.unwrap();
        let refused = (0..10).filter(|_| !offer(&deaf, Word, &dropped)).count() as u64;
        let [(actor, message, lost)] = depths.read_dropped()[..] else {
            panic!("one counter")
        };
        assert_eq!((actor, message), ("deaf", "Word"));
        assert!((1..10).contains(&lost) && lost == refused, "{lost} {refused}");
        tell(&deaf, Word);
        deaf.send(Word).await.unwrap();
    }

    #[test]
    fn what_waits_is_counted_for_as_long_as_it_lives() {
        let depths = Depths::default();
        let queued = [depths.of("a").queued(), depths.of("a").queued()];
        assert_eq!(depths.read(), [("a", 2)]);
        drop(queued);
        assert_eq!(depths.read(), [("a", 0)]);
    }
}
