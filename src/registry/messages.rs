//! What the registry is told, and what it tells.
use super::effects::SlotId;
use crate::{
    base::{
        ids::{ContainerId, SocketId},
        ledger::InFlight,
        mailbox::Queued,
        now::Now,
    },
    config::Filters,
    container::actor::{Absorb, Ack, ApplyShare, HandOver, Rename},
    decode::{DnsAnswered, Event},
    runtimes::facade::{Forget, Resolve},
    tracer::kernel::RawBatch,
};
use actix::{Message, Recipient};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

#[derive(Clone, Debug)]
pub struct ContainerRecipients {
    pub share: Recipient<ApplyShare>,
    pub absorb: Recipient<Absorb>,
    pub rename: Recipient<Rename>,
    pub hand_over: Recipient<HandOver>,
}

#[derive(Clone, Debug)]
pub struct RuntimesRecipients {
    pub resolve: Recipient<Resolve>,
    pub forget: Recipient<Forget>,
}

/// Others have taken their place, and know nothing.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetRuntimes(pub RuntimesRecipients);

#[derive(Clone, Debug)]
pub struct SupervisorRecipients {
    pub spawn: Recipient<SpawnContainer>,
    pub reap: Recipient<ReapContainers>,
    pub rename: Recipient<RenameContainer>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SpawnContainer {
    pub slot: SlotId,
    pub id: ContainerId,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RenameContainer {
    pub slot: SlotId,
    pub id: ContainerId,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ReapContainers(pub Vec<SlotId>);

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RegistryStopped {
    pub panicked: bool,
}

/// What one reading of the kernel has brought.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct EventBatch {
    pub events: Vec<Event>,
    pub in_flight: InFlight,
    pub ack: Arc<Ack>,
    pub now: Now,
    /// Ends of sockets were lost: what a pass has not seen since then is gone.
    pub sweep_before_ns: Option<u64>,
    /// News of processes was lost: look at /proc.
    pub inventory: bool,
    /// Where connections in it go, for the recording of it.
    pub routes: Vec<(SocketId, SocketAddr)>,
    /// The same, as it came: only where it is being recorded.
    pub raw: Option<RawBatch>,
    pub queued: Queued,
}

/// For the recording: what names are known from here on. It comes the same way as the batches, so that a replay learns and
/// forgets them between the same ones.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum RecordNames {
    Answered(Now, DnsAnswered),
    Forgotten(Vec<IpAddr>),
}

/// The actor of a slot has started.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ContainerRuns {
    pub slot: SlotId,
    pub id: ContainerId,
    pub recipients: ContainerRecipients,
}

/// The actor of a slot has died.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ContainerLost(pub SlotId);

/// Which containers are watched from now on, and what is collected of them.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SetFilters(pub Arc<Filters>);

/// The supervisor's timer: decide who is dead.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CollectGarbage;
