//! CRI-O's socket, as far as the agent asks there: no package has the daemon.
use crate::{
    daemon::{Daemon, Expected, Guest, Work},
    engines::{Pod, hex},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tarsier_integration::{Front, Manner};
use tempfile::TempDir;

pub(crate) struct Crio {
    door: Front,
    containers: Arc<Mutex<BTreeMap<String, String>>>,
    pod: Pod,
    _folder: TempDir,
}

impl Crio {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let crio = Self {
            door: Front::new(&folder.path().join("crio.sock")),
            containers: Arc::default(),
            pod: Pod::new("crio"),
            _folder: folder,
        };
        crio.start_again();
        crio
    }
}

/// As CRI-O answers, from what it knows.
fn answer(target: &str, containers: &BTreeMap<String, String>) -> Vec<u8> {
    let container = |id: &str| {
        let name = containers.get(id)?;
        let labels = json!({
            "io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "shop", "io.kubernetes.container.name": "app",
        });
        Some(json!({ "name": format!("k8s_app_{name}"), "pid": 1, "image": "localhost/app:1", "labels": labels }))
    };
    let body = match target.strip_prefix("/containers/") {
        Some(id) => container(id),
        None => Some(json!({ "storage_driver": "overlay", "storage_root": "/var/lib/containers/storage" })),
    };
    let (status, body) = body.map_or(("404 Not Found", String::new()), |body| ("200 OK", body.to_string()));
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Daemon for Crio {
    fn runtime(&self) -> &'static str {
        "crio"
    }

    fn socket(&self) -> PathBuf {
        self.door.path().to_owned()
    }

    fn kill(&self) {
        self.door.refuse();
    }

    fn start_again(&self) {
        let containers = Arc::clone(&self.containers);
        self.door.behave(Manner::Http(Arc::new(move |target| {
            answer(target, &containers.lock().expect("nobody panics with it"))
        })));
    }

    fn halt(&self) {
        self.door.behave(Manner::NeverAnswers);
    }

    fn go_on(&self) {
        self.start_again();
    }

    fn run(&self, name: &str, work: Work) -> Guest {
        self.expect(name).enter(work)
    }

    fn expect(&self, name: &str) -> Expected {
        let mut containers = self.containers.lock().expect("nobody panics with it");
        containers.insert(hex(name), name.to_owned());
        self.pod.container("crio", name)
    }

    fn run_alone(&self, expected: Expected, work: Work) -> Guest {
        expected.enter(work)
    }
}
