//! What works on this node and what does not: one row per kernel feature, runtime or file the agent depends on.
use parking_lot::RwLock;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    Degraded,
    /// Switched off by the configuration, or nothing of the kind is here.
    Off,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Off => "off",
        }
    }
}

/// Names of the rows.
pub mod feature {
    pub const BTF: &str = "btf";
    pub const PROCESS_START: &str = "process_start";
    pub const PROCESS_EXEC: &str = "process_exec";
    pub const PROCESS_EXIT: &str = "process_exit";
    pub const CGROUP_MOVES: &str = "cgroup_moves";
    pub const CGROUP_PATHS: &str = "cgroup_paths";
    pub const TCP_STATE: &str = "tcp_state";
    pub const CONNECT_ATTEMPTS: &str = "connect_attempts";
    pub const TOTALS: &str = "totals";
    /// Sockets that are older than the agent.
    pub const INVENTORY: &str = "inventory";
    /// Those of them that nobody has accepted yet.
    pub const INVENTORY_WAITING: &str = "inventory_waiting";
    /// Who uses an accepted connection.
    pub const SOCKET_IO: &str = "socket_io";
    /// What name servers are asked, and answer.
    pub const DNS: &str = "dns";
    /// Requests on TCP connections.
    pub const L7: &str = "l7";
    /// Files that are open for writing.
    pub const FILES: &str = "files";
    pub const NEWS_RING: &str = "news_ring";
    /// Whether the node leaves the agent time to listen, however full it is.
    pub const REALTIME: &str = "realtime";
    /// Where connections go whose destination is changed on the way.
    pub const CONNTRACK: &str = "conntrack";
    /// Where Cilium has led connections to services.
    pub const CILIUM: &str = "cilium";
    /// What hosts are called.
    pub const FQDN: &str = "fqdn";
    pub const HOST_NETNS: &str = "host_netns";
    pub const HOST_FILES: &str = "host_files";
    pub const PROC: &str = "proc";
    pub const CGROUPFS: &str = "cgroupfs";
    /// Runtimes: off where the node has none of the kind.
    pub const DOCKER: &str = "docker";
    pub const PODMAN: &str = "podman";
    pub const CONTAINERD: &str = "containerd";
    pub const CRIO: &str = "crio";
    pub const SYSTEMD: &str = "systemd";
    pub const ALL: [&str; 29] = [
        BTF,
        PROCESS_START,
        PROCESS_EXEC,
        PROCESS_EXIT,
        CGROUP_MOVES,
        CGROUP_PATHS,
        TCP_STATE,
        CONNECT_ATTEMPTS,
        TOTALS,
        INVENTORY,
        INVENTORY_WAITING,
        SOCKET_IO,
        DNS,
        L7,
        FILES,
        NEWS_RING,
        REALTIME,
        CONNTRACK,
        CILIUM,
        FQDN,
        HOST_NETNS,
        HOST_FILES,
        PROC,
        CGROUPFS,
        DOCKER,
        PODMAN,
        CONTAINERD,
        CRIO,
        SYSTEMD,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub feature: &'static str,
    pub state: State,
    /// One word of a short list, fit for a label. Empty when all is well.
    pub reason: &'static str,
    /// What an operator may do, or what the kernel answered.
    pub hint: String,
}

#[derive(Default)]
pub struct Features {
    rows: RwLock<BTreeMap<&'static str, Row>>,
}

impl Features {
    /// Says whether that is news.
    pub fn set(&self, feature: &'static str, state: State, reason: &'static str, hint: impl Into<String>) -> bool {
        let row = Row {
            feature,
            state,
            reason,
            hint: hint.into(),
        };
        let before = self.rows.write().insert(feature, row.clone());
        before.is_none_or(|before| (before.state, before.reason) != (row.state, row.reason))
    }

    pub fn ok(&self, feature: &'static str) -> bool {
        self.set(feature, State::Ok, "", "")
    }

    pub fn degraded(&self, feature: &'static str, reason: &'static str, hint: impl Into<String>) -> bool {
        self.set(feature, State::Degraded, reason, hint)
    }

    pub fn is_ok(&self, feature: &str) -> bool {
        self.rows.read().get(feature).is_some_and(|row| row.state == State::Ok)
    }

    /// The kernel's iterators do not show what sockets there are.
    pub fn needs_other_inventory(&self) -> bool {
        let rows = self.rows.read();
        let missing = |feature| rows.get(feature).is_some_and(|row: &Row| row.state != State::Ok);
        missing(feature::INVENTORY) || missing(feature::TOTALS)
    }

    pub fn rows(&self) -> Vec<Row> {
        self.rows.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_changes_apart_from_repetitions() {
        let features = Features::default();
        assert!(features.degraded(feature::BTF, "missing", "a"));
        assert!(!features.degraded(feature::BTF, "missing", "b"));
        assert!(features.ok(feature::BTF));
        assert!(features.is_ok(feature::BTF));
        assert!(!features.is_ok(feature::PROC));
    }
}
