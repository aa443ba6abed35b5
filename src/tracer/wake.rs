//! Wakes the tracer when what is said fills its ring faster than the tracer comes by.
use super::actor::TracerActor;
use actix::{AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use std::os::fd::OwnedFd;
use tokio::io::{Interest, unix::AsyncFd};

/// More than a part of the ring is full.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Filling;

impl Handler<Filling> for TracerActor {
    type Result = ();

    fn handle(&mut self, _: Filling, context: &mut Context<Self>) {
        // After the batch that is under way, if there is one.
        self.more = true;
        self.drain(context);
    }
}

impl TracerActor {
    /// Once there is a ring. Without this it is read on the timer alone.
    pub(super) fn watch_ring(&mut self, context: &mut Context<Self>) {
        if self.watches {
            return;
        }
        let Some(ring) = self.kernel.lock().payload_ring() else {
            return;
        };
        self.watches = true;
        context.spawn(watch(ring, context.address().recipient()).into_actor(self));
    }
}

async fn watch(ring: OwnedFd, to: Recipient<Filling>) {
    #[expect(unsafe_code, reason = "the runtime asks for a promise about the descriptor")]
    // SAFETY: it is owned, and closed only when it is dropped with what watches it.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let Ok(ring) = ring else { return };
    while let Ok(mut filling) = ring.readable().await {
        filling.clear_ready();
        // One at a time: the ring is full of reasons to be woken.
        if to.send(Filling).await.is_err() {
            return;
        }
    }
}
