//! Bodies of `GET /api/v1/explain/{subject}`, for both ends.
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum Explained {
    Process(Box<Process>),
    Address(Address),
}

/// Why a process belongs where it belongs: step by step, from what /proc says to the id. Rules have the names of the rows of
/// the agent's own tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// As it calls itself.
    pub name: String,
    /// In nanoseconds since boot.
    pub start_boottime_ns: u64,
    pub cgroup: Cgroup,
    pub placed: Placed,
    /// `null` until the path is known.
    pub owner: Option<Owner>,
    /// `null` where the path names nothing that a runtime could know.
    pub runtimes: Option<Runtimes>,
    /// `null` where the path names no container.
    pub naming: Option<Naming>,
    /// `null` where it did not come to that.
    pub filter: Option<Filter>,
    /// `null`: none, and `why_none` says why.
    pub container_id: Option<String>,
    /// Whether its container may be seen already: not while its name is being asked for.
    pub shown: bool,
    /// `path_awaited`, `runtime_awaited`, or a reason of `tarsier_events_dropped_total`: `ignored`, `filtered`,
    /// `standalone_off`, `table_full`.
    pub why_none: Option<String>,
}

/// What `/proc/PID/cgroup` says now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its lines, up to 64.
    pub file: Vec<String>,
    /// The one path that counts, below `identity.cgroup_root`.
    pub path: String,
    /// Why it counts: `pod_of_cpu`, `pod_of_memory` (Kubernetes' wins, wherever it stands), `unified` (v2), then of v1 `cpu`,
    /// `memory`, `systemd`; `nowhere`: all say the root.
    pub rule: String,
    /// The kernel says that this cgroup is removed.
    pub removed: bool,
    pub cgroup_root: String,
}

/// What the agent went by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// `cgroup` (its id in the unified hierarchy came with an event) or `proc`.
    pub by: String,
    pub cgroup_id: Option<u64>,
    /// `null`: it is being asked for.
    pub path: Option<String>,
    /// It is the path that /proc says now. If not, the process has moved just now, or its place in v1 hierarchies counts.
    pub same: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// The row of the table that answered; `null`: none, and so the process stands for itself.
    pub rule: Option<String>,
    /// Rows before it that had no answer.
    pub passed: Vec<String>,
    /// `container`, `perhaps` (one if a runtime knows it), `standalone`, `container_monitor`, `pod_sandbox`.
    pub is: String,
    /// What the path alone would call it.
    pub id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runtimes {
    /// What is asked for: `container ID`, `container NAME in NAMESPACE`, `unit NAME`.
    pub asked_for: String,
    /// In the order of asking. Empty: no runtime is configured, or all are being restarted.
    pub answers: Vec<Answer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub runtime: String,
    /// `known`, `nobody`, `unanswered` (an error, or too late), `absent` (no such runtime here), `not_connected`.
    pub answer: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Naming {
    /// `named`, `path` (no runtime knows better), `waits`, `late` (shown before an answer), `not_asked`, `filtered`,
    /// `container_monitor`, `pod_sandbox`.
    pub state: String,
    /// The row of the table that made a name of the runtime's answer; `null`: none, and so the path's stays.
    pub rule: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    pub id: String,
    /// `shown`, `denied`, `not_allowed`, `system_service`.
    pub verdict: String,
    /// Of `filters.allow` or `filters.deny`, if one decided.
    pub pattern: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// `ip:port`; an IPv4 address in an IPv6 one is written as IPv4.
    pub address: String,
    pub connects: Vec<Connects>,
    pub listens: Vec<Listens>,
    /// What the agent makes of sockets with this address.
    pub verdicts: Vec<Verdict>,
    /// Containers that did not answer in time, and may be missing above.
    pub late: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connects {
    pub container_id: String,
    pub destination: String,
    pub actual_destination: String,
    pub active: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listens {
    pub container_id: String,
    /// The same, or one that stands for all addresses.
    pub address: String,
    /// Closed ones are known for some time.
    pub open: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `connect_from_host`, `connect_from_container` (from another network namespace than the host's), `accept_in_host`,
    /// `accept_in_container`, `listen`.
    pub socket: String,
    /// The rule: `ephemeral_port`, `loopback_in_container`, `link_local`, `public_network`; `null`: it is shown.
    pub hidden_by: Option<String>,
}
