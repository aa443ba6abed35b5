//! The first look at the node, before any event: what is the host's, and what the feature table says of it.
use super::{cgroups::CgroupTree, host, host::HostFiles, host::Source, worker::cgroup_tree};
use crate::{
    base::{
        features::{Features, feature},
        ids::{CgroupId, NetnsId},
    },
    config::{ByteSize, Config},
    metrics::families::NodeLabels,
    registry::state::Node,
    tracer::{btf::Btf, kernel::Setup},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The kernel numbers the root of the unified hierarchy so, whatever part of it the agent sees.
const ROOT_CGROUP: CgroupId = CgroupId(1);

pub struct Probe {
    pub node: Node,
    pub tree: Option<CgroupTree>,
    pub labels: NodeLabels,
}

pub fn probe(config: &Config, features: &Features) -> Probe {
    let proc = &config.host.proc;
    let host_netns = host_netns(config, features);
    let labels = labels(config, features);
    let tree = cgroup_tree(&config.host.cgroup, features);
    if let Some(tree) = tree.as_ref().filter(|tree| tree.root_id() != ROOT_CGROUP) {
        let hint = format!(
            "{} begins below the host's root: mount the host's and name it in host.cgroup",
            tree.root().display()
        );
        features.degraded(feature::CGROUPFS, "not_the_root", hint);
    }
    let base = tree.as_ref().and_then(|tree| tree.own_base(proc));
    let node = Node {
        host_netns,
        root_cgroup: ROOT_CGROUP,
        cgroup_base: base.unwrap_or_else(|| "/".to_owned()),
        legacy_hierarchies: legacy_hierarchies(proc),
        own_tgid: own_tgid(proc),
    };
    Probe { node, tree, labels }
}

impl Probe {
    /// What the loader of the kernel side needs.
    pub fn setup(&self, config: &Config) -> Setup {
        Setup {
            ring_bytes: ring_bytes(config.kernel.news_ring_bytes),
            payload_ring_bytes: ring_bytes(config.l7.ring_bytes),
            cgroup2: self.tree.as_ref().map(|tree| tree.root().to_owned()),
            root_cgroup: self.node.root_cgroup.0,
            own_tgid: self.node.own_tgid,
            asks_for_routes: config.conntrack.enabled,
            proc: config.host.proc.clone(),
            off: config.kernel.features_off.clone(),
            socket_hook: config.kernel.socket_hook,
            l7: config.l7.clone(),
            btf: PathBuf::from(Btf::KERNEL),
        }
    }
}

fn ring_bytes(size: ByteSize) -> u32 {
    u32::try_from(size.ring_size()).unwrap_or(1 << 31)
}

fn host_netns(config: &Config, features: &Features) -> NetnsId {
    match host::host_netns(&config.host.proc, &config.host.netns) {
        Ok(found) => {
            if found.source == Source::Own {
                let hint = format!(
                    "loopback and connection tracking are those of the agent's own network namespace, which may not be the \
                     host's: give the agent CAP_SYS_PTRACE or set host.netns ({})",
                    found.reason.unwrap_or_default()
                );
                features.degraded(feature::HOST_NETNS, "own_namespace", hint);
            } else {
                features.ok(feature::HOST_NETNS);
            }
            found.id
        }
        Err(error) => {
            features.degraded(feature::HOST_NETNS, "unreadable", error.to_string());
            // Of no namespace: then all loopback is taken for a container's.
            NetnsId(0)
        }
    }
}

fn labels(config: &Config, features: &Features) -> NodeLabels {
    let mut labels = NodeLabels {
        kernel_version: host::kernel_release(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("TARSIER_REVISION").unwrap_or("unknown").to_owned(),
        ..NodeLabels::default()
    };
    let files = match HostFiles::open(&config.host.proc, &config.host.root) {
        Ok(files) => files,
        Err(error) => {
            features.degraded(feature::HOST_FILES, "unreadable", error.to_string());
            return labels;
        }
    };
    if files.source() == Source::Own {
        let hint = format!(
            "who the node is was read from the agent's own files: give the agent CAP_SYS_PTRACE or set host.root ({})",
            files.reason().unwrap_or_default()
        );
        features.degraded(feature::HOST_FILES, "own_files", hint);
    } else {
        features.ok(feature::HOST_FILES);
    }
    labels.machine_id = host::machine_id(&files);
    labels.system_uuid = host::system_uuid(&files);
    labels.hostname = host::hostname(&config.host.proc, &files).0;
    labels
}

/// The kernel lists every hierarchy that is in use; the unified one has the number 0.
fn legacy_hierarchies(proc: &Path) -> bool {
    fs::read_to_string(proc.join("self/cgroup"))
        // Asking /proc once too often costs time, never a wrong answer.
        .map_or(true, |file| file.lines().any(|line| !line.starts_with("0:")))
}

/// As the host numbers it, if the host's /proc is mounted here.
fn own_tgid(proc: &Path) -> u32 {
    let link = fs::read_link(proc.join("self")).ok();
    let tgid = link.and_then(|link| link.to_str()?.parse().ok());
    tgid.unwrap_or_else(std::process::id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::features::State;
    use std::os::unix::fs::symlink;

    const CGROUP: &str = "2:cpu:/a\n0::/a\n";

    /// A `/proc` in which the agent is process 4242.
    fn fake(root: &Path) -> Config {
        let proc = root.join("proc");
        for (pid, netns) in [("1", "net:[111]"), ("4242", "net:[222]")] {
            fs::create_dir_all(proc.join(pid).join("ns")).unwrap();
            symlink(netns, proc.join(pid).join("ns/net")).unwrap();
        }
        symlink("4242", proc.join("self")).unwrap();
        let second = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 2 0 0";
        fs::create_dir(proc.join("2")).unwrap();
        fs::write(proc.join("2/stat"), second).unwrap();
        fs::write(proc.join("4242/cgroup"), CGROUP).unwrap();
        fs::create_dir_all(root.join("host/etc")).unwrap();
        fs::write(root.join("host/etc/machine-id"), "0123\n").unwrap();
        fs::write(root.join("host/etc/hostname"), "node-7\n").unwrap();
        symlink(root.join("host"), proc.join("1/root")).unwrap();
        let mut config = Config::default();
        config.host.proc = proc;
        config.host.cgroup = root.join("cgroup");
        config
    }

    fn row(features: &Features, name: &str) -> (State, &'static str) {
        let rows = features.rows();
        let row = rows.iter().find(|row| row.feature == name).unwrap();
        assert_eq!(row.state == State::Ok, row.hint.is_empty(), "{row:?}");
        (row.state, row.reason)
    }

    #[test]
    fn the_host_seen_through_its_first_process() {
        let root = tempfile::tempdir().unwrap();
        let config = fake(root.path());
        let features = Features::default();
        let probe = probe(&config, &features);
        assert_eq!((probe.node.host_netns, probe.node.own_tgid), (NetnsId(111), 4242));
        assert!(probe.node.legacy_hierarchies);
        assert_eq!(
            (probe.labels.machine_id.as_str(), probe.labels.hostname.as_str()),
            ("0123", "node-7")
        );
        assert_eq!(probe.labels.version, env!("CARGO_PKG_VERSION"));
        assert!(!probe.labels.revision.is_empty());
        assert_eq!(row(&features, feature::HOST_NETNS), (State::Ok, ""));
        assert_eq!(row(&features, feature::HOST_FILES), (State::Ok, ""));
        assert_eq!(row(&features, feature::CGROUPFS), (State::Degraded, "no_cgroup2"));
        assert_eq!((probe.node.cgroup_base.as_str(), probe.node.root_cgroup.0), ("/", 1));
        assert_eq!(probe.setup(&config).cgroup2, None);
    }

    #[test]
    fn what_cannot_be_seen_is_said() {
        let root = tempfile::tempdir().unwrap();
        let config = fake(root.path());
        fs::remove_file(config.host.proc.join("1/root")).unwrap();
        fs::remove_file(config.host.proc.join("1/ns/net")).unwrap();
        fs::write(config.host.proc.join("4242/cgroup"), "0::/a\n").unwrap();
        let features = Features::default();
        let probe = probe(&config, &features);
        assert_eq!(probe.node.host_netns, NetnsId(222));
        assert!(!probe.node.legacy_hierarchies);
        assert_eq!(row(&features, feature::HOST_NETNS), (State::Degraded, "own_namespace"));
        assert_eq!(row(&features, feature::HOST_FILES), (State::Degraded, "own_files"));

        fs::remove_dir_all(config.host.proc.join("4242")).unwrap();
        let features = Features::default();
        let probe = super::probe(&config, &features);
        assert_eq!(probe.node.host_netns, NetnsId(0));
        assert!(probe.node.legacy_hierarchies, "nothing says otherwise");
        assert_eq!(row(&features, feature::HOST_NETNS), (State::Degraded, "unreadable"));
    }

    #[test]
    fn this_node() {
        let features = Features::default();
        let config = Config::default();
        let probe = probe(&config, &features);
        assert_eq!(probe.node.own_tgid, std::process::id());
        assert!(!probe.labels.hostname.is_empty() && !probe.labels.kernel_version.is_empty());
        let setup = probe.setup(&config);
        assert_eq!(setup.ring_bytes, 1 << 20);
        assert_eq!(
            setup.cgroup2.is_some(),
            features
                .rows()
                .iter()
                .any(|row| { row.feature == feature::CGROUPFS && row.reason != "no_cgroup2" })
        );
        let rows: Vec<_> = features.rows().iter().map(|row| row.feature).collect();
        assert_eq!(rows, [feature::CGROUPFS, feature::HOST_FILES, feature::HOST_NETNS]);
    }
}
