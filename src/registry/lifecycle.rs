//! What whoever wants to know is told of processes and containers, in the order in which it happened.
//!
//! A container appears before its processes start in it, and is retired after they have left it. A process is told of once it
//! is known whose it is, however short it lived; one that nobody wants to see is not told of, unless that turns out only once a
//! runtime has answered: until then its container is told of under its path, and is retired.
use crate::{
    base::{
        ids::{ContainerId, ProcKey},
        now::Now,
    },
    decode::Comm,
    runtimes::Runtime,
};
use actix::{Message, Recipient};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Or it is older than the agent, and has been found.
    ProcessStarted {
        process: ProcKey,
        comm: Comm,
        container: ContainerId,
    },
    /// To another container; `None`: to one that nobody watches, or is known of yet.
    ProcessMoved {
        process: ProcKey,
        comm: Comm,
        container: Option<ContainerId>,
    },
    /// `None`: it was in none that is watched.
    ProcessExited {
        process: ProcKey,
        comm: Comm,
        container: Option<ContainerId>,
    },
    ContainerAppeared {
        container: ContainerId,
        /// No runtime is being asked for its name: it stays called so, unless somebody renames it.
        identified: bool,
    },
    /// It, and all that is in it, is called so from now on. `was` is the same where its first name was right.
    ContainerIdentified {
        container: ContainerId,
        was: ContainerId,
        /// Who knew it; `None`: nobody, or not in time.
        runtime: Option<Runtime>,
    },
    /// With all that was in it.
    ContainerRetired { container: ContainerId },
    /// All that was told before is void: a new registry begins, and finds what there is.
    Restarted,
}

/// One subscriber's share. An empty one is the first: from here on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct News {
    pub events: Arc<[Lifecycle]>,
    pub now: Now,
    /// Events between the news before and these that the subscriber had no room for.
    pub lost: u64,
}

/// Tells `to` of everything from now on, as long as its mailbox is not full. Ends with it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    /// Of the subscriber, for the metrics.
    pub actor: &'static str,
    pub to: Recipient<News>,
}
