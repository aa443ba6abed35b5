use super::*;
use crate::runtimes::{
    Engines,
    metadata::{LogFormat, limits},
    strangers::{Stranger, damaged, is_bounded, refuses_strangers},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ID: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
const UNKNOWN: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const INFO: &str = r#"{"storage_driver":"overlay","storage_root":"/var/lib/containers/storage","cgroup_driver":"systemd",
"default_id_mappings":{"uids":[],"gids":[]}}"#;
/// Made up from the types of CRI-O 1.28: there is none that the tests could ask.
const CONTAINER: &str = r#"{"name":"k8s_app_web-0_shop_1_0","pid":4711,"image":"localhost/app:1","image_ref":"localhost/app@sha256:1",
"created_time":1700000000000000000,"labels":{"io.kubernetes.container.name":"app","io.kubernetes.pod.name":"web-0",
"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"1"},
"annotations":{"io.kubernetes.cri-o.Volumes":"[{\"container_path\":\"/x\",\"host_path\":\"/etc\"}]"},
"crio_annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.cri-o.Volumes":
"[{\"container_path\":\"/data\",\"host_path\":\"/var/lib/kubelet/pods/1/volumes/pvc-1\",\"readonly\":false}]"},
"log_path":"/var/log/pods/shop_web-0_1/app/0.log","root":"/var/lib/containers/storage/overlay/1/merged",
"sandbox":"aa","ip_addresses":["10.0.0.2"]}"#;

fn engine(id: &str) -> Lookup {
    Lookup::Engine {
        id: id.into(),
        engines: Engines::Crio,
    }
}

/// Says `container` to whoever asks for one, in two pieces; 404 for the id that is unknown.
fn crio(container: impl Into<Vec<u8>>) -> Stranger {
    let container = container.into();
    Stranger::new(move |mut stream| {
        let container = container.clone();
        async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => return,
                }
            }
            let ok = |body: &[u8]| {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                [head.as_bytes(), body].concat()
            };
            let request = String::from_utf8(request).unwrap();
            let answer = if request.starts_with("GET /info HTTP/1.1\r\nhost: localhost\r\n") {
                ok(INFO.as_bytes())
            } else if request.contains(UNKNOWN) {
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n".to_vec()
            } else if request.starts_with(&format!("GET /containers/{ID} HTTP/1.1\r\n"))
                && !container.starts_with(b"HTTP")
            {
                ok(&container)
            } else {
                container
            };
            let (first, rest) = answer.split_at(answer.len() / 2);
            stream.write_all(first).await.ok();
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(rest).await.ok();
        }
    })
}

async fn asked(container: impl Into<Vec<u8>>) -> Result<Option<Metadata>, RuntimeError> {
    let server = crio(container);
    let client = Crio::connect(&server.sockets).await.unwrap();
    let answer = client.inspect(&engine(ID)).await;
    // Whatever it was, the next question finds it as it was.
    assert_eq!(client.inspect(&engine(UNKNOWN)).await.unwrap(), None);
    answer
}

#[tokio::test]
async fn a_container_of_a_pod() {
    let metadata = asked(CONTAINER).await.unwrap().unwrap();
    assert_eq!(
        (metadata.name.as_str(), metadata.pid, metadata.sandbox),
        ("k8s_app_web-0_shop_1_0", 4711, false)
    );
    assert_eq!(metadata.image, "localhost/app:1");
    assert_eq!(metadata.labels.len(), 4);
    assert_eq!(metadata.labels["io.kubernetes.pod.name"], "web-0");
    assert_eq!(
        metadata.mounts.len(),
        1,
        "the pod's author chooses no mounts: {:?}",
        metadata.mounts
    );
    assert_eq!(metadata.mounts["/data"], "/var/lib/kubelet/pods/1/volumes/pvc-1");
    let log = metadata.log.unwrap();
    assert_eq!(log.path, Path::new("/var/log/pods/shop_web-0_1/app/0.log"));
    assert_eq!(log.format, LogFormat::Cri);
}

#[tokio::test]
async fn answers_that_make_no_sense() {
    let refused = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let too_long = [b"HTTP/1.1 200 OK\r\n\r\n", b" ".repeat(MAX_ANSWER_BYTES + 1).as_slice()].concat();
    for answer in [
        b"no JSON".as_slice(),
        b"[1]",
        b"",
        refused,
        &too_long,
        b"{\"labels\":{\"a\":1}}",
    ] {
        let error = asked(answer).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Nonsense { .. }), "{error:?}");
    }
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".as_slice(),
        b"HTTP/9 nonsense\r\n\r\n",
    ] {
        let error = asked(answer).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Broken { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_body_without_end() {
    let server = Stranger::new(async |mut stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            .await
            .ok();
        while stream.write_all(&[b' '; 65536]).await.is_ok() {}
    });
    let limit = Duration::from_secs(5);
    let error = tokio::time::timeout(limit, Crio::connect(&server.sockets))
        .await
        .unwrap()
        .err()
        .unwrap();
    assert!(matches!(error, RuntimeError::Nonsense { .. }), "{error:?}");
}

#[tokio::test]
async fn only_ids_are_asked_for() {
    let server = crio(CONTAINER);
    let client = Crio::connect(&server.sockets).await.unwrap();
    drop(server);
    let named = Lookup::Named {
        namespace: "default".into(),
        name: "c1".into(),
    };
    let unit = Lookup::Unit {
        unit: "a.service".into(),
    };
    for lookup in [
        named,
        unit,
        engine("../info"),
        engine("a b"),
        engine("é"),
        engine("a\r\nb"),
    ] {
        assert_eq!(client.inspect(&lookup).await.unwrap(), None);
    }
    let error = client.inspect(&engine(ID)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn strangers_on_its_socket() {
    refuses_strangers::<Crio>().await;
    let other = Stranger::says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec());
    let error = Crio::connect(&other.sockets).await.err().unwrap();
    assert!(matches!(error, RuntimeError::Nonsense { .. }), "{error:?}");
}

fn changed(change: impl FnOnce(&mut Value)) -> Metadata {
    let mut container: Value = serde_json::from_str(CONTAINER).unwrap();
    change(&mut container);
    describe(ID, container.to_string().as_bytes()).unwrap()
}

#[test]
fn sandboxes() {
    assert!(changed(|container| container["sandbox"] = json!(ID)).sandbox);
    let kind = "io.kubernetes.cri-o.ContainerType";
    assert!(changed(|container| container["crio_annotations"][kind] = json!("sandbox")).sandbox);
}

#[test]
fn what_is_missing_is_empty() {
    assert_eq!(describe(ID, b"{}").unwrap(), Metadata::new(Runtime::Crio));
    let null = br#"{"name":null,"pid":null,"labels":null,"crio_annotations":null,"log_path":null,"sandbox":null}"#;
    assert_eq!(describe(ID, null).unwrap(), Metadata::new(Runtime::Crio));
    for pid in [-1_i64, 1 << 40] {
        assert_eq!(changed(|container| container["pid"] = json!(pid)).pid, 0);
    }
    let volumes = "io.kubernetes.cri-o.Volumes";
    for text in ["", "[", "{}", "[{\"host_path\":1}]", "null"] {
        let metadata = changed(|container| container["crio_annotations"][volumes] = json!(text));
        assert_eq!((metadata.mounts.len(), metadata.labels.len()), (0, 4), "{text}");
    }
}

#[test]
fn huge_ones_are_cut() {
    let huge = "x".repeat(1 << 20);
    let metadata = changed(|container| {
        for i in 0..10_000 {
            container["labels"][format!("a{i}")] = json!("/\"");
        }
        container["labels"]["huge"] = json!(huge);
        container["name"] = json!(huge);
        container["image"] = json!(huge);
        container["log_path"] = json!(format!("/{huge}"));
    });
    assert!(is_bounded(&metadata));
    assert_eq!(metadata.labels.len(), limits::LABELS);
    assert_eq!(metadata.labels["io.kubernetes.pod.name"], "web-0");
    assert_eq!((metadata.image.as_str(), metadata.log), ("", None));
}

proptest! {
    #[test]
    fn total(body in damaged(CONTAINER)) {
        if let Ok(metadata) = describe(ID, &body) {
            prop_assert!(is_bounded(&metadata));
        }
    }
}
