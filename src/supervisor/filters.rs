//! Filters that a reload has brought, for the registry that is and for those that follow it.
use super::actor::Supervisor;
use crate::registry::{filters::Filters, messages::SetFilters};
use actix::{Context, Handler, ResponseFuture};
use std::sync::Arc;

impl Handler<SetFilters> for Supervisor {
    /// Comes when they hold: a scrape that begins then shows nothing else.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: SetFilters, _: &mut Context<Self>) -> Self::Result {
        self.parts.registry.filters = Arc::new(Filters::new(&message.0));
        let told = self.registry.as_ref().map(|registry| registry.send(message));
        Box::pin(async move {
            if let Some(told) = told {
                // One that dies of it has a successor, which begins with them.
                told.await.ok();
            }
        })
    }
}
