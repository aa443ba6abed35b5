//! Bodies of the answers, for both ends where both are here.
use crate::{
    base::features::Row,
    registry::actor::{Snapshot, TableSnapshot},
    supervisor::messages::ActorRow,
    tracer::stats::KernelReport,
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
    /// What its runtime knows of it; `null`: no runtime does.
    pub runtime: Option<Described>,
    pub destinations: Vec<Destination>,
    pub listens: Vec<Listen>,
    /// Files that its processes have open for writing, as found by going through all descriptors now and then
    /// (`kernel.files_interval`): one that is opened and closed in between is not here. Up to 256.
    pub files: Vec<OpenFile>,
    /// Further ones: files of the container, descriptors of a process that has more than 256.
    pub files_left_out: u64,
    /// Those to name servers, and to it as one, are in `dns`.
    pub requests: Vec<Requests>,
    pub dns: Dns,
    /// What was said and is in no other count, e.g. `dns gap`: what `tarsier_container_l7_unparsed_total` explains.
    pub unparsed: BTreeMap<String, u64>,
}

/// Of one protocol, those to one destination or all that were answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// `http`, `redis`, `postgres`, `memcached`.
    pub protocol: String,
    /// `client`: it has asked; `server`: it was asked.
    pub role: String,
    /// As in `destinations`; `null`: it was asked, by whomever.
    pub destination: Option<String>,
    pub actual_destination: Option<String>,
    /// By what became of them: of HTTP `1xx` to `5xx`, of others `ok` and `failed`; `unknown` is neither.
    pub counts: BTreeMap<String, u64>,
    /// Summed over all of them: from the begin of the request until the begin of the answer.
    pub seconds: f64,
}

/// Questions to name servers, as a client and as a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    pub asked: Vec<DnsQuestion>,
    /// Summed over all of them: from the question until the answer.
    pub asked_seconds: f64,
    /// Questions that nobody has answered within ten seconds, or before they were asked again.
    pub asked_in_vain: u64,
    /// Of those that it was asked, by status.
    pub answered: BTreeMap<String, u64>,
    pub answered_seconds: f64,
    pub left_unanswered: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsQuestion {
    /// `~other`: those beyond the limit, together.
    pub domain: String,
    /// E.g. `TypeAAAA`; a number where it has no name.
    pub request_type: String,
    /// `ok`, `format_error`, `servfail`, `nxdomain`, `not_implemented`, `refused`, or a number.
    pub status: String,
    pub count: u64,
}

/// As a runtime (`docker`, `podman`, `containerd`, `crio`, `systemd`) tells it, cut to 256 labels of up to 4 KiB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Described {
    pub runtime: String,
    pub name: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    /// Ports of the host that lead to it: `192.0.2.1:8080 -> 80`.
    pub published: Vec<String>,
    /// Where it is mounted, and from where.
    pub mounts: BTreeMap<String, String>,
    /// Of a unit of systemd.
    pub unit: Option<Unit>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// E.g. `simple`, `oneshot`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The timer, socket or path that starts it; empty if there is none.
    pub triggered_by: String,
    pub description: String,
}

/// A regular file. Not those of pseudo filesystems (`/proc`, `/sys`, …), nor what has no name from the start (memfd).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenFile {
    /// From the root of the mount namespace: as its container sees it, unless it lives in a chroot. Bytes that are no UTF-8
    /// are written as `\xff`. Empty: the kernel could not tell.
    pub path: String,
    /// The path is longer than that.
    pub truncated: bool,
    /// As in `/proc/PID/mountinfo` and `/proc/PID/fdinfo`.
    pub mount_id: u32,
    /// Of the filesystem, `major:minor`, as in mountinfo. With btrfs and some overlays `stat` tells another.
    pub device: String,
    pub inode: u64,
    /// It has no name any more, and goes when it is closed.
    pub deleted: bool,
    /// Writes go to its end.
    pub append: bool,
    /// How many have it open.
    pub processes: usize,
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
    /// Of those before it: where connections go, and what hosts are called.
    pub tables: Vec<TableSnapshot>,
    pub kernel: Arc<KernelReport>,
}

/// What comes with every status but 200.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: String,
}
