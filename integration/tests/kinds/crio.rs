//! CRI-O's socket, as far as an agent asks there, and the pod of which it knows.
use crate::{scene::Ids, table};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    thread,
};
use tempfile::TempDir;

pub(crate) struct Pod {
    pub(crate) uid: String,
    container: String,
    sandbox: String,
}

impl Pod {
    pub(crate) fn new(ids: &mut Ids) -> Self {
        let (uid, container, sandbox) = (ids.uid(), ids.hex(), ids.hex());
        Self {
            uid,
            container,
            sandbox,
        }
    }

    /// Where it puts them under systemd's cgroup driver.
    pub(crate) fn path(&self, part: table::Crio) -> String {
        let scope = match part {
            table::Crio::Container => format!("crio-{}", self.container),
            table::Crio::Sandbox => format!("crio-{}", self.sandbox),
            table::Crio::Monitor => format!("crio-conmon-{}", self.container),
        };
        let slice = format!("kubepods-burstable-pod{}.slice", self.uid.replace('-', "_"));
        format!("/kubepods.slice/kubepods-burstable.slice/{slice}/{scope}.scope")
    }

    fn answers(&self) -> BTreeMap<String, Value> {
        let labels = |container: &str| {
            json!({
                "io.kubernetes.pod.name": "db-0", "io.kubernetes.pod.namespace": "bank", "io.kubernetes.pod.uid": self.uid,
                "io.kubernetes.container.name": container,
            })
        };
        let one = |id: &str, name: &str, kind: &str| {
            let answer = json!({
                "name": format!("k8s_{name}_db-0_bank_{}_0", self.uid), "pid": 1, "image": table::CRIO_IMAGE,
                "labels": labels(name), "crio_annotations": { "io.kubernetes.cri-o.ContainerType": kind },
                "sandbox": self.sandbox, "log_path": format!("/var/log/pods/bank_db-0_{}/{name}/0.log", self.uid),
            });
            (format!("/containers/{id}"), answer)
        };
        let info =
            json!({ "storage_driver": "overlay", "storage_root": "/var/lib/containers", "cgroup_driver": "systemd" });
        BTreeMap::from([
            ("/info".to_owned(), info),
            one(&self.container, "app", "container"),
            one(&self.sandbox, "POD", "sandbox"),
        ])
    }
}

pub(crate) struct Socket {
    folder: TempDir,
    pub(crate) pod: Pod,
}

impl Socket {
    pub(crate) fn listen(pod: Pod) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("crio.sock")).unwrap();
        let answers = pod.answers();
        thread::spawn(move || {
            let streams = listener.incoming().flatten();
            streams.for_each(|stream| answer(stream, &answers));
        });
        Self { folder, pod }
    }

    pub(crate) fn path(&self) -> String {
        format!("{}/crio.sock", self.folder.path().display())
    }
}

fn answer(mut stream: UnixStream, answers: &BTreeMap<String, Value>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let (status, body) = match answers.get(head.split(' ').nth(1).unwrap_or_default()) {
        Some(answer) => ("200 OK", answer.to_string()),
        None => ("404 Not Found", "can't find the container".to_owned()),
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    // Whoever asked may have gone.
    stream.write_all(answer.as_bytes()).ok();
}
