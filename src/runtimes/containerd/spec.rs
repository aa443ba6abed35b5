//! Who a container is, from the record that containerd keeps of it.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use crate::runtimes::{
    Runtime,
    json::{Few, Item, Mount},
    metadata::{LogFile, Metadata, limits},
};
use serde::Deserialize;
use std::collections::HashMap;

/// What the CRI plugin adds to its containers: JSON.
pub const CRI_METADATA: &str = "io.cri-containerd.container.metadata";
const CRI_KIND: &str = "io.cri-containerd.kind";
const NERDCTL_NAME: &str = "nerdctl/name";

/// A record; `spec` and `cri` are JSON, or whatever else was put there.
pub struct Record<'a> {
    pub id: &'a str,
    pub image: &'a str,
    pub labels: &'a HashMap<String, String>,
    /// The OCI runtime's.
    pub spec: &'a [u8],
    /// [`CRI_METADATA`]
    pub cri: &'a [u8],
}

/// The parts of an OCI spec that say something of who it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    process: Option<Process>,
    mounts: Option<Few<Mount>>,
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Process {
    env: Option<Few<Variable>>,
}

#[derive(Deserialize)]
struct Variable(String);

impl Item for Variable {
    const MOST: usize = limits::LABELS;

    fn wanted(&self) -> bool {
        self.0.starts_with("NOMAD_") && self.0.len() <= limits::KEY_BYTES + limits::VALUE_BYTES
    }
}

/// The CRI plugin's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.container-type")]
    kind: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.container-name")]
    container: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CriMetadata {
    #[serde(rename = "Metadata")]
    versioned: Option<Logged>,
    #[serde(rename = "LogPath")]
    log_path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Logged {
    #[serde(rename = "LogPath")]
    log_path: Option<String>,
}

/// Total: what cannot be read is left out.
pub fn describe(record: &Record<'_>) -> Metadata {
    let spec: Spec = serde_json::from_slice(record.spec).unwrap_or_default();
    let annotations = spec.annotations.unwrap_or_default();
    let kind = record.labels.get(CRI_KIND).or(annotations.kind.as_ref());

    let mut metadata = Metadata::new(Runtime::Containerd);
    metadata.sandbox = kind.is_some_and(|kind| kind == "sandbox");
    // An image may bring labels of its own: of a pod's container it does not choose the name.
    if kind.is_none() {
        let nerdctl = record.labels.get(NERDCTL_NAME).map(String::as_str);
        let name = nerdctl.or_else(|| (!is_hex64(record.id)).then_some(record.id));
        metadata.set_name(name.unwrap_or_default());
    }
    if record.image.len() <= limits::VALUE_BYTES {
        record.image.clone_into(&mut metadata.image);
    }
    // The labels come last, and so count.
    let fallback = [
        ("io.kubernetes.pod.name", &annotations.pod),
        ("io.kubernetes.pod.namespace", &annotations.namespace),
        ("io.kubernetes.container.name", &annotations.container),
    ];
    let fallback = fallback
        .iter()
        .filter_map(|(key, value)| Some((*key, value.as_deref()?)));
    let labels = record.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    metadata.set_labels(fallback.chain(labels));
    let variables = spec.process.unwrap_or_default().env;
    metadata.set_environment(
        variables
            .iter()
            .flat_map(|few| &few.0)
            .map(|variable| variable.0.as_str()),
    );
    metadata.mounts = spec.mounts.map(Few::into_map).unwrap_or_default();
    metadata.log = log(record.cri);
    metadata
}

/// Only from the two places where the plugin puts it: further down are words of the pod's author.
fn log(cri: &[u8]) -> Option<LogFile> {
    let found: CriMetadata = serde_json::from_slice(cri).ok()?;
    let path = found.versioned.and_then(|inner| inner.log_path).or(found.log_path)?;
    LogFile::cri(&path)
}

/// Such an id was drawn by lot, and nobody calls the container so.
fn is_hex64(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}
