//! Who watches: kept for the tracer that takes another's place.
use super::{
    actor::Supervisor,
    messages::{EndTap, SetTap},
};
use crate::{base::mailbox::tell, tracer::tap::Watch};
use actix::{Context, Handler, ResponseFuture};

impl Supervisor {
    fn tell_taps(&self) {
        if let Some(tracer) = &self.tracer {
            tell(&tracer.clone().recipient(), self.watch.clone());
        }
    }

    /// One that is gone without a word is nobody's reason to watch.
    pub(super) fn forget_taps(&mut self) {
        let before = self.watch.taps.len();
        self.watch.taps.retain(|tap| tap.to.connected());
        if self.watch.taps.len() != before {
            self.tell_taps();
        }
    }
}

impl Handler<SetTap> for Supervisor {
    /// Comes when it holds.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: SetTap, _: &mut Context<Self>) -> Self::Result {
        let SetTap { tap, text } = message;
        let Watch { taps, text: wanted } = &mut self.watch;
        *wanted = text;
        match taps.iter_mut().find(|of| of.number == tap.number) {
            Some(of) => *of = tap,
            None => taps.push(tap),
        }
        let told = self.tracer.as_ref().map(|tracer| tracer.send(self.watch.clone()));
        Box::pin(async move {
            if let Some(told) = told {
                // One that dies of it has a successor, which begins with them.
                told.await.ok();
            }
        })
    }
}

impl Handler<EndTap> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: EndTap, _: &mut Context<Self>) {
        self.watch.taps.retain(|tap| tap.number != message.number);
        self.tell_taps();
    }
}
