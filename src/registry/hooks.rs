//! For the integration tests: break something.
use super::{actor::RegistryActor, messages::EventBatch};
use crate::supervisor::hooks::{Block, LoseEvent, Panic};
use actix::{Context, Handler};

impl RegistryActor {
    /// Loses one event without a word, which the ledger must notice.
    pub(super) fn lose_one(&mut self, mut batch: EventBatch) -> EventBatch {
        if self.lose > 0
            && let Some(at) = batch.events.iter().position(|event| event.kind().is_some())
        {
            batch.events.swap_remove(at);
            self.lose -= 1;
        }
        batch
    }
}

impl Handler<LoseEvent> for RegistryActor {
    type Result = ();

    fn handle(&mut self, _: LoseEvent, _: &mut Context<Self>) {
        self.lose += 1;
    }
}

impl Handler<Panic> for RegistryActor {
    type Result = ();

    #[expect(clippy::panic, reason = "this is what the hook is for")]
    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("on request");
    }
}

impl Handler<Block> for RegistryActor {
    type Result = ();

    #[expect(clippy::disallowed_methods, reason = "this is what the hook is for")]
    fn handle(&mut self, block: Block, _: &mut Context<Self>) {
        std::thread::sleep(block.0);
    }
}
