//! What others may ask of the supervisor. It runs on the main thread and answers even while the core hangs.
use crate::{
    base::ids::ContainerId,
    container::actor::GetSamples,
    fqdn::actor::GetNames,
    registry::{
        actor::{GetHeldSamples, GetSnapshot},
        explain::{ExplainAddress, ExplainProcess},
        members::GetMembers,
    },
    runtimes::facade::actor::ExplainLookup,
    tracer::tap::Tap,
};
use actix::{Message, Recipient};
use serde::Serialize;

/// Whom to ask for samples.
#[derive(Debug, Message)]
#[rtype(result = "Containers")]
pub struct GetContainers;

#[derive(Debug)]
pub struct Containers {
    pub running: Vec<(ContainerId, Recipient<GetSamples>)>,
    /// The registry answers for those that have no actor (yet). `None` while it is being restarted.
    pub held: Option<Recipient<GetHeldSamples>>,
    pub registry: Option<Recipient<GetSnapshot>>,
    /// `None` while it is being restarted.
    pub names: Option<Recipient<GetNames>>,
    /// `None` as well where no runtime is asked.
    pub runtimes: Option<Recipient<ExplainLookup>>,
    pub explain: Option<Explainer>,
    pub members: Option<Recipient<GetMembers>>,
}

/// Knows why something belongs where it belongs.
#[derive(Debug)]
pub struct Explainer {
    pub process: Recipient<ExplainProcess>,
    pub address: Recipient<ExplainAddress>,
}

/// A tap begins, or others are to be watched for it. `text`: of all there are.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetTap {
    pub tap: Tap,
    pub text: bool,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct EndTap {
    pub number: u64,
}

#[derive(Debug, Message)]
#[rtype(result = "Vec<ActorRow>")]
pub struct GetActors;

#[derive(Clone, Debug, Serialize)]
pub struct ActorRow {
    pub actor: String,
    /// `running`, `restarting`.
    pub state: &'static str,
    pub restarts: u64,
    /// Messages that wait; for `container` those of all containers.
    pub queued: i64,
}

/// For the integration tests: break something. The answer says whether there was such a thing.
#[cfg(feature = "test-hooks")]
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub enum Break {
    /// `registry`, `tracer`, `runtimes`, a runtime, an id, or `container` (any one of them).
    Panic(String),
    BlockCore(std::time::Duration),
    LoseEvent,
    /// Nothing breaks: nobody else tells of answers yet.
    DnsAnswered(crate::decode::DnsAnswered),
}
