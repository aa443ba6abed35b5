//! Bodies of the answers, for both ends where both are here.
use crate::{
    base::features::Row, registry::actor::Snapshot, supervisor::messages::ActorRow, tracer::stats::KernelReport,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// `GET /api/v1/containers`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerList {
    pub containers: Vec<ContainerSummary>,
    /// Further containers that did not answer in time.
    pub late: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSummary {
    pub id: String,
    pub app_id: String,
    pub processes: u32,
    pub since_unix: f64,
    /// Whether it is in `/metrics`.
    pub exposed: bool,
    pub destinations: usize,
    pub listens: usize,
}

/// `GET /api/v1/containers/{id}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub app_id: String,
    pub exposed: bool,
    pub since_unix: f64,
    pub processes: u32,
    /// What its living processes are, where that is known.
    pub application_types: Vec<String>,
    pub restarts: u64,
    pub oom_kills: u64,
    pub destinations: Vec<Destination>,
    pub listens: Vec<Listen>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    pub destination: String,
    /// Where the connection went after address translation; empty where none was made.
    pub actual_destination: String,
    pub successful_connects: u64,
    pub failed_connects: u64,
    pub active: i64,
    /// Summed over the successful connects: from the SYN until the connection stood.
    pub connect_seconds: f64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// The failed connects by what became of them, e.g. `refused`.
    pub failures: BTreeMap<String, u64>,
    /// Connections that have ended by what ended them: `local`, `peer`, `reset`, `timeout`.
    pub closes: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    /// `~other`: those beyond the limit, together.
    pub address: String,
    /// Closed ones are shown for some time.
    pub open: bool,
    /// Several with SO_REUSEPORT. None where this container serves what another one has opened (socket activation).
    pub sockets: usize,
    /// Connections that others have made to this address and this container has served.
    pub accepted: u64,
    /// Those that are open, not used ones included.
    pub active: i64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Connections that have ended by what ended them: `local`, `peer`, `reset`, `timeout`.
    pub closes: BTreeMap<String, u64>,
}

/// `GET /readyz`, and `tarsier check --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Anything is collected at all.
    pub ready: bool,
    pub features: Vec<Row>,
}

/// `GET /api/v1/actors`
#[derive(Debug, Serialize)]
pub struct Actors {
    pub actors: Vec<ActorRow>,
    /// `None` while it does not answer.
    pub registry: Option<Snapshot>,
    pub kernel: Arc<KernelReport>,
}

/// What comes with every status but 200.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: String,
}
