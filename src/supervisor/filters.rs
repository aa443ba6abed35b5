//! What a reload has brought, for those whom it concerns and for those that follow them.
use super::actor::Supervisor;
use crate::{
    registry::{filters::Filters, messages::SetFilters},
    tracer::messages::SetL7,
};
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

impl Handler<SetL7> for Supervisor {
    /// Comes when the programs are attached, or are not any more.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: SetL7, _: &mut Context<Self>) -> Self::Result {
        self.parts.tracer.l7.clone_from(&message.0);
        let told = self.tracer.as_ref().map(|tracer| tracer.send(message));
        Box::pin(async move {
            if let Some(told) = told {
                told.await.ok();
            }
        })
    }
}
