//! Who a container is, from what CRI-O answers.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use crate::runtimes::{
    Runtime,
    json::{Few, Labels, Mount},
    metadata::{LogFile, Metadata, limits},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Container {
    name: Option<String>,
    pid: Option<i64>,
    image: Option<String>,
    labels: Option<Labels>,
    /// CRI-O's own. What is only called `annotations` was written by the pod's author.
    crio_annotations: Option<Annotations>,
    log_path: Option<String>,
    sandbox: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri-o.ContainerType")]
    kind: Option<String>,
    /// JSON within JSON.
    #[serde(rename = "io.kubernetes.cri-o.Volumes")]
    volumes: Option<String>,
}

/// `body`: of the answer for `id`.
pub fn describe(id: &str, body: &[u8]) -> Result<Metadata, serde_json::Error> {
    let container: Container = serde_json::from_slice(body)?;
    let annotations = container.crio_annotations.unwrap_or_default();
    let mut metadata = Metadata::new(Runtime::Crio);
    // The name of what holds a pod is its own sandbox.
    metadata.sandbox =
        annotations.kind.is_some_and(|kind| kind == "sandbox") || container.sandbox.as_deref() == Some(id);
    metadata.set_name(&container.name.unwrap_or_default());
    metadata.image = container
        .image
        .filter(|image| image.len() <= limits::VALUE_BYTES)
        .unwrap_or_default();
    metadata.set_labels(container.labels.iter().flat_map(Labels::iter));
    metadata.pid = container
        .pid
        .and_then(|pid| u32::try_from(pid).ok())
        .unwrap_or_default();
    metadata.log = container.log_path.as_deref().and_then(LogFile::cri);
    let volumes = annotations.volumes.unwrap_or_default();
    // Without them the answer is still worth having.
    let volumes: Option<Few<Mount>> = serde_json::from_str(&volumes).ok();
    metadata.mounts = volumes.map(Few::into_map).unwrap_or_default();
    Ok(metadata)
}
