use super::Config;
use std::{fmt, os::unix::ffi::OsStrExt, path::PathBuf, time::Duration};
use tarsier_common::DNS_PORTS;

/// A value of the right type that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key that breaks the rule, and those it was measured against.
    pub keys: Vec<&'static str>,
    pub rule: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.keys.first().copied().unwrap_or_default();
        write!(f, "{key}: {}", self.rule)
    }
}

impl std::error::Error for Invalid {}

/// What the kernel puts a socket's path into, with the zero at its end.
const SOCKET_PATH_LEN: usize = 108;
/// The ring is mapped twice and never given back: more than this is a slip of the finger.
const MAX_RING_BYTES: u64 = 1 << 30;
/// Of one processor. Whoever else needs it is to get as much.
const MAX_REALTIME_PERCENT: u8 = 50;

impl Config {
    pub fn validate(&self) -> Result<(), Invalid> {
        let refuse = |key, rule: String| Err(Invalid { keys: vec![key], rule });
        let too_long = || format!("must be shorter than {SOCKET_PATH_LEN} bytes, the kernel takes no more");
        for (key, interval) in [
            ("http.scrape_timeout", self.http.scrape_timeout),
            ("kernel.drain_interval", self.kernel.drain_interval),
            ("kernel.totals_interval", self.kernel.totals_interval),
            ("kernel.inventory_interval", self.kernel.inventory_interval),
            ("kernel.files_interval", self.kernel.files_interval),
            ("kernel.retry_interval", self.kernel.retry_interval),
            ("gc.interval", self.gc.interval),
            ("supervisor.backoff_min", self.supervisor.backoff_min),
            ("supervisor.backoff_max", self.supervisor.backoff_max),
            ("supervisor.shutdown_timeout", self.supervisor.shutdown_timeout),
            ("supervisor.watchdog", self.supervisor.watchdog),
        ] {
            if interval == Duration::ZERO {
                return refuse(key, "must be more than 0s".to_owned());
            }
        }
        for (key, cap) in [
            ("containers.max", self.containers.max),
            ("containers.max_destinations", self.containers.max_destinations),
            ("containers.max_listens", self.containers.max_listens),
            ("containers.max_pending", self.containers.max_pending),
            ("fqdn.max_per_container", self.fqdn.max_per_container),
            ("kernel.batch", self.kernel.batch),
            ("registry.max_processes", self.registry.max_processes),
            ("registry.max_sockets", self.registry.max_sockets),
        ] {
            if cap == 0 {
                return refuse(key, "must be more than 0".to_owned());
            }
        }
        for (key, path) in [
            ("admin.socket", &self.admin.socket),
            ("agent.lock", &self.agent.lock),
            ("host.proc", &self.host.proc),
            ("host.cgroup", &self.host.cgroup),
        ] {
            if path.as_os_str().is_empty() {
                return refuse(key, "must not be empty".to_owned());
            }
        }
        if self.admin.socket.as_os_str().as_bytes().len() >= SOCKET_PATH_LEN {
            return refuse("admin.socket", too_long());
        }
        for (key, client) in [
            ("runtimes.docker.sockets", &self.runtimes.docker),
            ("runtimes.podman.sockets", &self.runtimes.podman),
            ("runtimes.containerd.sockets", &self.runtimes.containerd),
            ("runtimes.crio.sockets", &self.runtimes.crio),
            ("runtimes.systemd.sockets", &self.runtimes.systemd),
        ] {
            if client.sockets.iter().any(|path| !path.is_absolute()) {
                return refuse(key, "must be paths that start with /".to_owned());
            }
            let fits = |path: &PathBuf| path.as_os_str().as_bytes().len() < SOCKET_PATH_LEN;
            if !client.sockets.iter().all(fits) {
                return refuse(key, too_long());
            }
        }
        let maps = &self.conntrack.cilium_maps;
        if !(maps.as_os_str().is_empty() || maps.is_absolute()) {
            return refuse("conntrack.cilium_maps", "must start with /, or be empty".to_owned());
        }
        if !self.identity.cgroup_root.starts_with('/') {
            return refuse("identity.cgroup_root", "must start with /".to_owned());
        }
        let labels = &self.metrics.labels;
        if let Some((_, twice)) = labels
            .iter()
            .enumerate()
            .find(|(at, label)| labels[..*at].contains(label))
        {
            return refuse(
                "metrics.labels",
                format!("must name each label once, {} is there twice", twice.as_str()),
            );
        }
        for (key, size) in [
            ("kernel.news_ring_bytes", self.kernel.news_ring_bytes),
            ("l7.ring_bytes", self.l7.ring_bytes),
        ] {
            if size.0 == 0 {
                return refuse(key, "must be more than 0".to_owned());
            }
            if size.ring_size() > MAX_RING_BYTES {
                return refuse(key, "must be at most 1GiB".to_owned());
            }
        }
        if self.kernel.realtime_percent > MAX_REALTIME_PERCENT {
            let rule = format!("must be at most {MAX_REALTIME_PERCENT}");
            return refuse("kernel.realtime_percent", rule);
        }
        let ports = &self.l7.dns_ports;
        if ports.len() > DNS_PORTS {
            return refuse("l7.dns_ports", format!("must be at most {DNS_PORTS} ports"));
        }
        if ports.contains(&0) {
            return refuse("l7.dns_ports", "must not name port 0".to_owned());
        }
        if self.supervisor.backoff_min > self.supervisor.backoff_max {
            return Err(Invalid {
                keys: vec!["supervisor.backoff_min", "supervisor.backoff_max"],
                rule: "must not be more than supervisor.backoff_max".to_owned(),
            });
        }
        Ok(())
    }
}
