//! Docker, Podman and containerd themselves.
use crate::daemon::{Daemon, Expected, Guest, Inside, Names, Work};
use rustix::process::Signal;
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
};
use tarsier_integration::{Cgroup, Script, require_tool};

/// 64 digits, by the first twelve of which a path's own name goes.
pub(crate) fn hex(name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (std::process::id(), name).hash(&mut hasher);
    format!("{:016x}", hasher.finish()).repeat(4)
}

fn short(id: &str) -> &str {
    &id[..12]
}

fn named(name: &str, id: &str) -> Names {
    Names {
        id: format!("/docker/{name}"),
        interim: format!("/docker/{}", short(id)),
    }
}

fn foreign(names: Names, pid: &str, work: Work) -> Guest {
    Guest {
        names,
        work,
        description: None,
        inside: Inside::Foreign(pid.parse().expect("a process id")),
    }
}

pub(crate) struct Docker(Script);

impl Docker {
    pub(crate) fn start() -> Option<Self> {
        if !require_tool(&["dockerd", "docker", "containerd", "runc", "busybox"]) {
            return None;
        }
        let script = Script::new("dockerd.sh");
        script.run(&["start", "--bridge=none", "--iptables=false", "--ip-forward=false"]);
        Some(Self(script))
    }

    fn docker(&self, words: &[&str]) -> String {
        self.0.run(&[&["docker"], words].concat())
    }
}

impl Daemon for Docker {
    fn runtime(&self) -> &'static str {
        "docker"
    }

    fn socket(&self) -> PathBuf {
        self.0.run(&["sock"]).into()
    }

    fn kill(&self) {
        self.0.run(&["kill"]);
    }

    fn start_again(&self) {
        self.0.run(&["restart"]);
    }

    fn halt(&self) {
        self.0.signal("docker", Signal::STOP);
    }

    fn go_on(&self) {
        self.0.signal("docker", Signal::CONT);
    }

    fn run(&self, name: &str, work: Work) -> Guest {
        let script = work.of_busybox();
        let id = self.docker(&[
            "run",
            "-d",
            "--name",
            name,
            "--net",
            "host",
            "busybox:test",
            "sh",
            "-c",
            &script,
        ]);
        let pid = self.docker(&["inspect", "-f", "{{.State.Pid}}", &id]);
        foreign(named(name, &id), &pid, work)
    }

    fn expect(&self, name: &str) -> Expected {
        let id = self.docker(&["create", "--name", name, "busybox:test", "true"]);
        Expected {
            name: name.to_owned(),
            path: format!("/docker/{id}"),
            names: named(name, &id),
        }
    }

    fn run_alone(&self, expected: Expected, work: Work) -> Guest {
        expected.enter(work)
    }
}

/// Its containers need no daemon: what is killed is who answers for them.
pub(crate) struct Podman(Script);

impl Podman {
    pub(crate) fn start() -> Option<Self> {
        if !require_tool(&["podman", "runc", "conmon", "busybox"]) {
            return None;
        }
        let script = Script::new("podman.sh");
        script.run(&["start"]);
        Some(Self(script))
    }
}

impl Daemon for Podman {
    fn runtime(&self) -> &'static str {
        "podman"
    }

    fn socket(&self) -> PathBuf {
        self.0.run(&["sock"]).into()
    }

    fn kill(&self) {
        self.0.run(&["kill"]);
    }

    fn start_again(&self) {
        self.0.run(&["restart"]);
    }

    fn halt(&self) {
        self.0.signal("podman", Signal::STOP);
    }

    fn go_on(&self) {
        self.0.signal("podman", Signal::CONT);
    }

    fn run(&self, name: &str, work: Work) -> Guest {
        const IMAGE: &str = "docker.io/library/busybox:test";
        let script = work.of_busybox();
        let id = self.0.run(&[
            "podman", "run", "-d", "--name", name, "--net", "host", IMAGE, "sh", "-c", &script,
        ]);
        let pid = self.0.run(&["podman", "inspect", "-f", "{{.State.Pid}}", &id]);
        foreign(named(name, &id), &pid, work)
    }

    fn expect(&self, name: &str) -> Expected {
        Expected {
            name: name.to_owned(),
            path: String::new(),
            names: named(name, &hex(name)),
        }
    }

    fn run_alone(&self, expected: Expected, work: Work) -> Guest {
        self.run(&expected.name, work)
    }
}

/// Under paths as the systemd driver of Kubernetes makes them.
pub(crate) struct Containerd {
    script: Script,
    // After the containers in it.
    pod: Pod,
}

/// The cgroup of a pod, which stays when its containers go.
pub(crate) struct Pod {
    uid: String,
    group: Cgroup,
}

impl Pod {
    pub(crate) fn new(runtime: &str) -> Self {
        let digits = hex(runtime);
        let uid = format!("{}-0000-4000-8000-{}", &digits[..8], short(&digits));
        let slices = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable";
        Self {
            group: Cgroup::at(&format!("{slices}-pod{}.slice", uid.replace('-', "_"))),
            uid,
        }
    }

    /// `prefix`: by which the runtime marks its own.
    pub(crate) fn container(&self, prefix: &str, name: &str) -> Expected {
        let id = hex(name);
        Expected {
            name: name.to_owned(),
            path: format!("{}/{prefix}-{id}.scope", self.group.id()),
            names: Names {
                id: format!("/k8s/shop/{name}/app"),
                interim: format!("/pod/{}/{}", self.uid, short(&id)),
            },
        }
    }
}

impl Containerd {
    pub(crate) fn start() -> Option<Self> {
        if !require_tool(&["containerd", "runc", "ctr", "busybox"]) {
            return None;
        }
        let script = Script::new("containerd.sh");
        script.run(&["start"]);
        let pod = Pod::new("containerd");
        Some(Self { script, pod })
    }
}

fn labels(name: &str) -> Vec<String> {
    let labels = [
        format!("io.kubernetes.pod.name={name}"),
        "io.kubernetes.pod.namespace=shop".to_owned(),
        "io.kubernetes.container.name=app".to_owned(),
    ];
    labels
        .into_iter()
        .flat_map(|label| ["--label".to_owned(), label])
        .collect()
}

impl Daemon for Containerd {
    fn runtime(&self) -> &'static str {
        "containerd"
    }

    fn socket(&self) -> PathBuf {
        self.script.run(&["sock"]).into()
    }

    fn kill(&self) {
        self.script.signal("containerd", Signal::KILL);
    }

    fn start_again(&self) {
        self.script.run(&["restart"]);
    }

    fn halt(&self) {
        self.script.signal("containerd", Signal::STOP);
    }

    fn go_on(&self) {
        self.script.signal("containerd", Signal::CONT);
    }

    fn run(&self, name: &str, work: Work) -> Guest {
        let Expected { path, names, .. } = self.pod.container("cri-containerd", name);
        let (labels, script) = (labels(name), work.of_busybox());
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        let id = hex(name);
        let pid = self.script.run(
            &[
                &["run", "k8s.io", &id, "--net-host", "--cgroup", &path],
                labels.as_slice(),
                &["--", "/bin/sh", "-c", &script],
            ]
            .concat(),
        );
        foreign(names, &pid, work)
    }

    fn expect(&self, name: &str) -> Expected {
        let (labels, id) = (labels(name), hex(name));
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        self.script
            .run(&[&["create", "k8s.io", &id], labels.as_slice()].concat());
        self.pod.container("cri-containerd", name)
    }

    fn run_alone(&self, expected: Expected, work: Work) -> Guest {
        expected.enter(work)
    }
}
