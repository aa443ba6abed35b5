//! Why something belongs where it belongs, by the decisions that the registry itself has made.
use super::{
    actor::RegistryActor,
    filters::Verdict,
    identity::{IgnoredReason, OwnerExplained},
};
use crate::{
    base::{
        ids::{CgroupId, ContainerId, ProcKey},
        ledger::Reason,
    },
    decode::Comm,
    runtimes::{Lookup, metadata::Metadata},
};
use actix::{Context, Handler, Message, MessageResult};
use std::{net::SocketAddr, sync::Arc};

/// `None`: the registry knows no such process.
#[derive(Debug, Message)]
#[rtype(result = "Option<ProcessExplained>")]
pub struct ExplainProcess {
    pub tgid: u32,
}

#[derive(Debug)]
pub struct ProcessExplained {
    pub process: ProcKey,
    pub comm: Comm,
    pub exited: bool,
    /// That says where it is placed. `None`: only /proc does.
    pub cgroup: Option<CgroupId>,
    /// The path by which it was judged. `None`: it is being asked for.
    pub path: Option<Arc<str>>,
    pub owner: Option<OwnerExplained>,
    /// Where the path says that it is a container, or may be.
    pub name: Option<NameExplained>,
    pub filter: Option<FilterExplained>,
    pub belongs: Belongs,
}

#[derive(Debug)]
pub struct NameExplained {
    pub lookup: Option<Lookup>,
    pub state: NameState,
    /// The row that made a name of what the runtime has told.
    pub rule: Option<&'static str>,
    pub metadata: Option<Arc<Metadata>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameState {
    /// No runtime is asked for such ones.
    NotAsked,
    Waits,
    /// It was shown before a runtime had answered.
    Late,
    /// As the path says: no runtime knows better.
    Path,
    Named,
    Ignored(IgnoredReason),
    Filtered,
}

impl NameState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::Waits => "waits",
            Self::Late => "late",
            Self::Path => "path",
            Self::Named => "named",
            Self::Ignored(reason) => reason.as_str(),
            Self::Filtered => "filtered",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct FilterExplained {
    pub id: ContainerId,
    pub verdict: Verdict,
    pub pattern: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Belongs {
    /// `shown`: it is not hidden until a runtime has told its name.
    To {
        id: ContainerId,
        shown: bool,
    },
    /// For its path.
    WaitsForPath,
    /// For a runtime that may know it.
    WaitsForRuntime,
    Nowhere(Reason),
}

impl Handler<ExplainProcess> for RegistryActor {
    type Result = MessageResult<ExplainProcess>;

    fn handle(&mut self, message: ExplainProcess, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.explain(message.tgid))
    }
}

#[derive(Debug, Message)]
#[rtype(result = "AddressExplained")]
pub struct ExplainAddress(pub SocketAddr);

/// What becomes of sockets that have something to do with an address; `None`: they are shown. The first of each: in the network
/// namespace of the host; the second: in any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressExplained {
    pub connects: [Option<Reason>; 2],
    pub accepts: [Option<Reason>; 2],
    pub listens: Option<Reason>,
}

impl Handler<ExplainAddress> for RegistryActor {
    type Result = MessageResult<ExplainAddress>;

    fn handle(&mut self, message: ExplainAddress, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.state.explain_address(message.0))
    }
}
