//! What a runtime knows of a container, cut to what the agent can use.
use super::Runtime;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub runtime: Runtime,
    /// Without a leading slash; empty where the runtime has none.
    pub name: String,
    /// Of containerd: names are unique within one. Empty elsewhere.
    pub namespace: String,
    pub image: String,
    /// Of a CRI container that holds the namespaces of its pod.
    pub sandbox: bool,
    pub labels: BTreeMap<String, String>,
    /// Of its environment, what Nomad sets.
    pub environment: BTreeMap<String, String>,
    /// Of its first process, in the agent's pid namespace; 0: unknown.
    pub pid: u32,
    pub log: Option<LogFile>,
    /// Where it is mounted, and from where.
    pub mounts: BTreeMap<String, String>,
    pub published: Vec<Published>,
    pub unit: Option<Unit>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    pub path: PathBuf,
    pub format: LogFormat,
}

impl LogFile {
    /// One that a runtime writes for a kubelet.
    pub fn cri(path: &str) -> Option<Self> {
        let usable = path.starts_with('/') && path.len() <= limits::VALUE_BYTES;
        usable.then(|| Self {
            path: PathBuf::from(path),
            format: LogFormat::Cri,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    DockerJson,
    Cri,
}

/// A port of the host that leads to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    pub host: SocketAddr,
    pub port: u16,
}

/// Of a unit of systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `Type`, e.g. `simple`, `oneshot`.
    pub kind: String,
    /// The first of `TriggeredBy`; empty if there is none.
    pub triggered_by: String,
    pub description: String,
}

/// A runtime lets anybody write what he likes into labels, names and environments.
pub mod limits {
    pub const LABELS: usize = 256;
    pub const KEY_BYTES: usize = 256;
    pub const VALUE_BYTES: usize = 4096;
    pub const NAME_BYTES: usize = 256;
    pub const MOUNTS: usize = 256;
    pub const PUBLISHED: usize = 256;
}

/// A label by which a container is named.
pub fn tells_identity(label: &str) -> bool {
    const PREFIXES: [&str; 3] = ["io.kubernetes.", "com.docker.swarm.", "com.docker.stack."];
    PREFIXES.iter().any(|prefix| label.starts_with(prefix))
}

impl Metadata {
    pub fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            name: String::new(),
            namespace: String::new(),
            image: String::new(),
            sandbox: false,
            labels: BTreeMap::new(),
            environment: BTreeMap::new(),
            pid: 0,
            log: None,
            mounts: BTreeMap::new(),
            published: Vec::new(),
            unit: None,
        }
    }

    /// Labels that tell who a container is come first; of the others as many as there is room for.
    pub fn set_labels<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let fits = |(key, value): &(&str, &str)| key.len() <= limits::KEY_BYTES && value.len() <= limits::VALUE_BYTES;
        let (first, rest): (Vec<_>, Vec<_>) = labels
            .into_iter()
            .filter(fits)
            .partition(|(key, _)| tells_identity(key));
        let all = first.into_iter().chain(rest).take(limits::LABELS);
        self.labels = all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    }

    /// `NAME=value` each.
    pub fn set_environment<'a>(&mut self, variables: impl IntoIterator<Item = &'a str>) {
        let nomad = variables
            .into_iter()
            .filter_map(|variable| variable.split_once('='))
            .filter(|(key, value)| {
                key.starts_with("NOMAD_") && key.len() <= limits::KEY_BYTES && value.len() <= limits::VALUE_BYTES
            });
        let nomad = nomad.take(limits::LABELS);
        self.environment = nomad.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    }

    pub fn set_name(&mut self, name: &str) {
        let name = name.strip_prefix('/').unwrap_or(name);
        let end = name.floor_char_boundary(limits::NAME_BYTES);
        name.get(..end).unwrap_or_default().clone_into(&mut self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_identity_find_room_among_thousands() {
        let mut metadata = Metadata::new(Runtime::Docker);
        let many: Vec<(String, String)> = (0..10_000).map(|i| (format!("a{i}"), "x".to_owned())).collect();
        let huge = "x".repeat(1 << 20);
        let mut labels: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        labels.push(("huge", &huge));
        labels.push(("io.kubernetes.pod.name", "web-0"));
        metadata.set_labels(labels);
        assert_eq!(metadata.labels.len(), limits::LABELS);
        assert_eq!(metadata.labels["io.kubernetes.pod.name"], "web-0");
        assert!(!metadata.labels.contains_key("huge"));
    }

    #[test]
    fn names_are_cut_at_a_character() {
        let mut metadata = Metadata::new(Runtime::Docker);
        metadata.set_name(&format!("/{}", "é".repeat(200)));
        assert_eq!(metadata.name, "é".repeat(128));
        metadata.set_name("/web");
        assert_eq!(metadata.name, "web");
    }

    #[test]
    fn of_the_environment_only_nomads() {
        let mut metadata = Metadata::new(Runtime::Docker);
        metadata.set_environment(["SECRET=1", "NOMAD_JOB_NAME=shop", "NOMAD_EMPTY=", "broken"]);
        assert_eq!(metadata.environment.len(), 2);
        assert_eq!(metadata.environment["NOMAD_JOB_NAME"], "shop");
    }
}
