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

/// For copies that an observer may miss.
pub fn offer<M>(to: &Recipient<M>, message: M, dropped: &AtomicU64)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    if to.try_send(message).is_err() {
        dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Messages that wait, by actor.
#[derive(Default)]
pub struct Depths {
    depths: Mutex<BTreeMap<&'static str, Arc<AtomicI64>>>,
}

impl Depths {
    pub fn of(&self, actor: &'static str) -> Depth {
        Depth(Arc::clone(self.depths.lock().entry(actor).or_default()))
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
