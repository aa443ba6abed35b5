//! One struct per section. What each key means stands in `configs/tarsier.yaml`, beside its default.
use super::{pattern::Pattern, size::ByteSize};
use crate::base::logging::LogFormat;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: SocketAddr,
    #[serde(with = "humantime_serde")]
    pub scrape_timeout: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10300)),
            scrape_timeout: Duration::from_millis(800),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub socket: PathBuf,
    pub tap: TapDetail,
}

/// What is told of single requests to who watches them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TapDetail {
    /// Nobody may watch.
    Off,
    /// When, between whom, how long, what came of it, and the verb.
    #[default]
    Metadata,
    /// And what was asked, without its literals.
    Payload,
}

impl TapDetail {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Metadata => "metadata",
            Self::Payload => "payload",
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/tarsier/admin.sock"),
            tap: TapDetail::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    pub lock: PathBuf,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            lock: PathBuf::from("/run/tarsier/tarsier.lock"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl From<LogLevel> for slog::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warning,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    pub root: PathBuf,
    pub proc: PathBuf,
    pub cgroup: PathBuf,
    pub netns: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            root: PathBuf::new(),
            proc: PathBuf::from("/proc"),
            cgroup: PathBuf::from("/sys/fs/cgroup"),
            netns: PathBuf::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    pub standalone: Standalone,
    pub cgroup_root: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            standalone: Standalone::default(),
            cgroup_root: "/".to_owned(),
        }
    }
}

/// What becomes of a process that no runtime and no unit owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standalone {
    #[default]
    ByName,
    PerProcess,
    Off,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtimes {
    pub docker: RuntimeClient,
    pub podman: RuntimeClient,
    pub containerd: RuntimeClient,
    pub crio: RuntimeClient,
    pub systemd: RuntimeClient,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeClient {
    pub enabled: bool,
    /// Empty: those that the client knows.
    pub sockets: Vec<PathBuf>,
}

impl Default for RuntimeClient {
    fn default() -> Self {
        Self {
            enabled: true,
            sockets: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    pub allow: Vec<Pattern>,
    pub deny: Vec<Pattern>,
    pub skip_systemd_system_services: bool,
    pub signals: Signals,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            skip_systemd_system_services: true,
            signals: Signals::default(),
        }
    }
}

/// Only what is collected has a key here: a filter for anything else would hide nothing, and nobody would notice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signals {
    pub tcp: SignalFilter,
    pub files: SignalFilter,
    pub l7: SignalFilter,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalFilter {
    pub allow: Vec<Pattern>,
    pub deny: Vec<Pattern>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    pub labels: Vec<Label>,
}

/// What may stand beside `container_id` on the series of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    Namespace,
    Workload,
    Pod,
    Container,
    Process,
    Pid,
}

impl Label {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Workload => "workload",
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Process => "process",
            Self::Pid => "pid",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Containers {
    #[serde(with = "humantime_serde")]
    pub min_age: Duration,
    pub max: usize,
    pub max_destinations: usize,
    pub max_listens: usize,
    pub max_pending: usize,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            min_age: Duration::from_secs(30),
            max: 10_000,
            max_destinations: 1000,
            max_listens: 256,
            max_pending: 1024,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conntrack {
    pub enabled: bool,
    /// Empty: none.
    pub cilium_maps: PathBuf,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            enabled: true,
            cilium_maps: PathBuf::from("/sys/fs/bpf/tc/globals"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fqdn {
    pub max_entries: usize,
    pub max_per_container: usize,
}

impl Default for Fqdn {
    fn default() -> Self {
        Self {
            max_entries: 16_384,
            max_per_container: 50,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub ephemeral_ports: Vec<String>,
    pub track_public: Vec<IpNet>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            ephemeral_ports: vec!["32768-60999".to_owned()],
            track_public: vec![
                IpNet::from(ipnet::Ipv4Net::default()),
                IpNet::from(ipnet::Ipv6Net::default()),
            ],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    pub news_ring_bytes: ByteSize,
    #[serde(with = "humantime_serde")]
    pub drain_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub totals_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub inventory_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub files_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub retry_interval: Duration,
    pub socket_hook: SocketHook,
    pub realtime_percent: u8,
    pub batch: usize,
    pub features_off: Vec<String>,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            news_ring_bytes: ByteSize(1 << 20),
            drain_interval: Duration::from_millis(50),
            totals_interval: Duration::from_secs(5),
            inventory_interval: Duration::from_secs(60),
            files_interval: Duration::from_secs(15),
            retry_interval: Duration::from_secs(30),
            socket_hook: SocketHook::default(),
            realtime_percent: 25,
            batch: 4096,
            features_off: Vec::new(),
        }
    }
}

/// Which programs tell who uses an accepted connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketHook {
    /// The first that loads, in the order of this list.
    #[default]
    Auto,
    /// `sock_send_length` and `sock_recv_length`.
    Tracepoint,
    /// The return of `tcp_sendmsg` and `tcp_recvmsg`.
    Fexit,
    /// `tcp_rcv_space_adjust`: receives only.
    Receive,
    Off,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    pub max_processes: usize,
    pub max_sockets: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            max_processes: 262_144,
            max_sockets: 262_144,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gc {
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for Gc {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(600),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Supervisor {
    #[serde(with = "humantime_serde")]
    pub backoff_min: Duration,
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub watchdog: Duration,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            shutdown_timeout: Duration::from_millis(1500),
            watchdog: Duration::from_secs(30),
        }
    }
}
