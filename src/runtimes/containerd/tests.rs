use super::{Containerd, failed, spec::*};
use crate::runtimes::{
    RuntimeError,
    metadata::{LogFormat, Metadata, limits},
    strangers::{damaged, is_bounded, refuses_strangers},
};
use containerd_client::tonic::Status;
use proptest::prelude::*;
use serde_json::json;
use std::{collections::HashMap, path::Path};

const ID: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
/// As containerd 1.6 answers for a container of a pod, shortened.
const SPEC: &str = r#"{"ociVersion":"1.0.2-dev","process":{"user":{"uid":0,"gid":0},"args":["/bin/sh"],
"env":["PATH=/bin","SECRET=x","NOMAD_JOB_NAME=shop"],"cwd":"/"},"root":{"path":"rootfs"},"mounts":[
{"destination":"/proc","type":"proc","source":"proc","options":["nosuid"]},
{"destination":"/data","type":"bind","source":"/var/lib/kubelet/pods/1/volumes/pvc-1","options":["rbind","rw"]}],
"annotations":{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.container-type":"container",
"io.kubernetes.cri.image-name":"localhost/app:1","io.kubernetes.cri.sandbox-id":"aa","io.kubernetes.cri.sandbox-name":"web-0",
"io.kubernetes.cri.sandbox-namespace":"shop"},"linux":{"cgroupsPath":"/kubepods/burstable/pod1/2"}}"#;
const CRI: &str = r#"{"Version":"v1","Metadata":{"ID":"ff","Name":"app_web-0_shop_1_0","SandboxID":"aa","Config":{
"metadata":{"name":"app"},"log_path":"app/0.log","annotations":{"LogPath":"/etc/shadow"}},
"ImageRef":"sha256:1","LogPath":"/var/log/pods/shop_web-0_1/app/0.log","StopSignal":"SIGTERM"}}"#;

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn told(id: &str, own: &[(&str, &str)], spec: &[u8], cri: &[u8]) -> Metadata {
    describe(&Record {
        id,
        image: "localhost/app:1",
        labels: &labels(own),
        spec,
        cri,
    })
}

#[test]
fn a_container_of_a_pod() {
    let own = [
        ("io.cri-containerd.kind", "container"),
        ("io.kubernetes.container.name", "app"),
        ("io.kubernetes.pod.name", "web-0"),
        ("io.kubernetes.pod.namespace", "shop"),
        // Of its image.
        ("nerdctl/name", "somebody-else"),
    ];
    let metadata = told(ID, &own, SPEC.as_bytes(), CRI.as_bytes());
    assert_eq!((metadata.name.as_str(), metadata.sandbox), ("", false));
    assert_eq!(metadata.image, "localhost/app:1");
    assert_eq!(metadata.labels, labels(&own).into_iter().collect());
    assert_eq!(metadata.environment.len(), 1);
    assert_eq!(metadata.environment["NOMAD_JOB_NAME"], "shop");
    assert_eq!(metadata.mounts.len(), 1);
    assert_eq!(metadata.mounts["/data"], "/var/lib/kubelet/pods/1/volumes/pvc-1");
    let log = metadata.log.unwrap();
    assert_eq!(log.path, Path::new("/var/log/pods/shop_web-0_1/app/0.log"));
    assert_eq!(log.format, LogFormat::Cri);
}

#[test]
fn annotations_stand_in_for_labels_that_are_not_there() {
    let metadata = told(ID, &[("io.kubernetes.pod.name", "labelled")], SPEC.as_bytes(), b"");
    assert_eq!(metadata.labels["io.kubernetes.pod.name"], "labelled");
    assert_eq!(metadata.labels["io.kubernetes.pod.namespace"], "shop");
    assert_eq!(metadata.labels["io.kubernetes.container.name"], "app");
    assert_eq!(metadata.log, None);
}

#[test]
fn sandboxes() {
    let spec = SPEC.replace(r#"-type":"container""#, r#"-type":"sandbox""#);
    assert!(told(ID, &[], spec.as_bytes(), b"").sandbox);
    assert!(told(ID, &[("io.cri-containerd.kind", "sandbox")], b"", b"").sandbox);
    assert!(!told(ID, &[], SPEC.as_bytes(), b"").sandbox);
}

#[test]
fn names_of_what_is_in_no_pod() {
    assert_eq!(told("c1", &[], b"{}", b"").name, "c1");
    assert_eq!(told(ID, &[], b"{}", b"").name, "");
    assert_eq!(told(ID, &[("nerdctl/name", "we\"b/0")], b"{}", b"").name, "we\"b/0");
}

/// Somebody's container can have a spec that is none; it costs him what only that would have told.
#[test]
fn what_is_no_json_is_left_out() {
    let deep = format!("{{\"hooks\":{}", "[".repeat(1 << 20));
    let typed = r#"{"process":7,"mounts":{},"annotations":[]}"#;
    let null = r#"{"process":null,"mounts":null,"annotations":null}"#;
    for spec in ["", "null", "[]", "{", "\u{0}", deep.as_str(), typed, null] {
        let metadata = told("c1", &[("team", "x")], spec.as_bytes(), spec.as_bytes());
        assert_eq!(metadata.name, "c1");
        assert_eq!(metadata.labels.len(), 1);
        assert_eq!((metadata.mounts.len(), metadata.log), (0, None));
    }
}

#[test]
fn huge_ones_are_cut() {
    let many: Vec<(String, String)> = (0..10_000).map(|i| (format!("a{i}"), "x".to_owned())).collect();
    let mut own: HashMap<String, String> = many.into_iter().collect();
    let huge = "x".repeat(1 << 20);
    own.insert("huge".to_owned(), huge.clone());
    own.insert("nerdctl/name".to_owned(), huge.clone());
    let env: Vec<String> = (0..100_000)
        .map(|i| format!("NOMAD_{i}="))
        .chain([format!("NOMAD_X={huge}")])
        .collect();
    let spec = json!({
        "process": { "env": env },
        "mounts": [{ "destination": huge, "source": "/a" }, { "destination": "/a", "source": format!("/{huge}") }],
        "annotations": { "io.kubernetes.cri.sandbox-name": "web-0", "io.kubernetes.cri.sandbox-namespace": huge },
    });
    let metadata = describe(&Record {
        id: ID,
        image: &huge,
        labels: &own,
        spec: spec.to_string().as_bytes(),
        cri: json!({ "LogPath": format!("/{huge}") }).to_string().as_bytes(),
    });
    assert!(is_bounded(&metadata));
    assert_eq!(
        (metadata.mounts.len(), metadata.log.is_some(), metadata.image.as_str()),
        (0, false, "")
    );
    assert_eq!(metadata.environment.len(), limits::LABELS);
    assert_eq!(metadata.labels["io.kubernetes.pod.name"], "web-0");
}

#[test]
fn log_paths_are_absolute_and_the_plugins_own() {
    for (cri, expected) in [
        (r#"{"LogPath":"/a"}"#, Some("/a")),
        (r#"{"Metadata":{"LogPath":"/a"}}"#, Some("/a")),
        (r#"{"Metadata":{"LogPath":""}}"#, None),
        (r#"{"Metadata":{"LogPath":"a"}}"#, None),
        (r#"{"Metadata":{"Config":{"LogPath":"/a"}}}"#, None),
        (r#"{"Metadata":{"LogPath":["/a"]}}"#, None),
    ] {
        let log = told("c1", &[], b"", cri.as_bytes()).log;
        assert_eq!(
            log.as_ref().map(|log| log.path.as_path()),
            expected.map(Path::new),
            "{cri}"
        );
    }
}

#[test]
fn an_answer_that_makes_no_sense_breaks_no_connection() {
    let huge = "é".repeat(1 << 20);
    for status in [
        Status::internal(huge.as_str()),
        Status::out_of_range("8 MiB"),
        Status::unknown(""),
    ] {
        let error = failed("test", status);
        let RuntimeError::Nonsense { what, .. } = error else {
            panic!("{error}")
        };
        assert!(what.len() < 300);
    }
    let lost = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
    for status in [Status::unavailable(""), lost] {
        assert!(matches!(failed("test", status), RuntimeError::Broken { .. }));
    }
}

#[tokio::test]
async fn strangers_on_its_socket() {
    refuses_strangers::<Containerd>().await;
}

proptest! {
    #[test]
    fn total(spec in damaged(SPEC), cri in damaged(CRI), key in ".{0,300}", value in ".{0,300}") {
        prop_assert!(is_bounded(&told(&key, &[(&key, &value), ("nerdctl/name", &value)], &spec, &cri)));
    }
}
