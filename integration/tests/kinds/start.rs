//! How a workload of each kind is started.
use crate::{
    host::Process,
    scene::{INSIDE, Row, Scene},
    table::{CONTAINERD_IMAGE, DOCKER_IMAGE, ECS, KINDS, Kind, NAMESPACE, PODMAN_IMAGE, Start},
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};
use tarsier_integration::{Cgroup, Script, free_port};

const PODMAN_POD: &str = "kinds-pod";
const TEMPLATE: &str = "[Service]
EnvironmentFile=/it/port-%i
ExecStart=/it/busybox sh /it/workload.sh /it busybox template-%i ${PORT}
";
/// Moves itself to the root of every hierarchy, then becomes its arguments.
const TO_THE_ROOT: &str = r#"for d in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do [ ! -e "$d" ] || echo $$ >"$d"; done; exec "$@""#;

impl Kind {
    /// The file that its processes are called by.
    pub(crate) fn busybox(&self) -> String {
        format!("busybox-{}", self.name)
    }
}

fn pod_path(uid: &str) -> String {
    format!("/kubepods/burstable/pod{uid}")
}

impl Scene {
    pub(crate) fn start_all(&mut self) -> Vec<Row> {
        self.prepare();
        let addresses: Vec<_> = KINDS.iter().map(|kind| self.start(kind)).collect();
        let next = addresses.iter().cycle().skip(1);
        let rows = KINDS.iter().zip(&addresses).zip(next);
        rows.map(|((kind, address), next)| Row {
            kind,
            address: *address,
            next: *next,
        })
        .collect()
    }

    /// What several need, or what has to be there before.
    fn prepare(&mut self) {
        self.podman
            .run(&["podman", "pod", "create", "--name", PODMAN_POD, "--network", "host"]);
        let write = format!("printf '{TEMPLATE}' >/etc/systemd/system/kinds@.service").replace("%i", "%%i");
        self.systemd.run(&["exec", "sh", "-c", &write]);
        self.systemd.run(&["exec", "systemctl", "daemon-reload"]);
        // The paths are containerd's and Docker's, which leave them behind.
        self.groups.push(Cgroup::at(&format!("/{NAMESPACE}")));
        self.groups.push(Cgroup::at(ECS));
    }

    /// Where it listens.
    fn start(&mut self, kind: &'static Kind) -> SocketAddr {
        let port = free_port();
        let of_host = self.netns.outside(port)[0];
        let text = port.to_string();
        let busybox = kind.busybox();
        let [program, script] = [&busybox, "workload.sh"].map(|file| format!("{INSIDE}/{file}"));
        let inside = [&program, "sh", &script, INSIDE, &busybox, kind.name, &text];
        match kind.start {
            Start::Docker(flags) => {
                let docker = [flags, &[DOCKER_IMAGE]].concat();
                let own = self.run_engine("docker", kind, &docker, &inside);
                return SocketAddr::new(own.unwrap_or(of_host.ip()), port);
            }
            Start::Podman(flags) => {
                let podman = [flags, &[PODMAN_IMAGE]].concat();
                let own = self.run_engine("podman", kind, &podman, &inside);
                if flags.iter().any(|flag| flag.starts_with("--pod=")) {
                    self.remember_infra(kind.name);
                }
                return SocketAddr::new(own.unwrap_or(of_host.ip()), port);
            }
            Start::Pod { pod, host_network } => {
                let own = self.run_pod(kind.name, pod, host_network, &inside);
                return SocketAddr::new(own.unwrap_or(of_host.ip()), port);
            }
            Start::Containerd { container, flags } => self.run_containerd(NAMESPACE, container, flags, &inside),
            Start::Nested => self.run_nested(&inside),
            Start::Unit(flags) => {
                let unit = format!("--unit=kinds-{}", kind.name);
                let run = ["exec", "systemd-run", "-q", &unit];
                self.systemd.run(&[&run, flags, &inside].concat());
            }
            Start::Scope => {
                // It stays what it was called as, until it ends.
                let run = r#"exec systemd-run -q --scope --unit=kinds-scope -- "$@" </dev/null >/dev/null 2>&1"#;
                let run = format!("({run}) &");
                self.systemd
                    .run(&[&["exec", "sh", "-c", &run, "sh"], &inside[..]].concat());
            }
            Start::Instance(instance) => {
                let file = self.files.path().join(format!("port-{instance}"));
                fs::write(file, format!("PORT={port}\n")).unwrap();
                let unit = format!("kinds@{instance}");
                self.systemd.run(&["exec", "systemctl", "start", &unit]);
            }
            Start::Pause { of } => {
                let path = self.pauses[of].clone();
                self.process(Some(&path), kind, &text);
            }
            Start::Crio(part) => {
                let path = self.crio.pod.path(part);
                self.process(Some(&path), kind, &text);
            }
            Start::Path(path) => self.process(Some(path), kind, &text),
            Start::Gvisor { pod } => self.run_gvisor(kind, pod, &text),
            Start::Bare => self.process(None, kind, &text),
        }
        of_host
    }

    /// A process of the host in a cgroup of its own.
    fn process(&mut self, path: Option<&str>, kind: &Kind, port: &str) {
        let folder = self.files.path().to_str().unwrap();
        let [program, script] = [kind.busybox().as_str(), "workload.sh"].map(|file| format!("{folder}/{file}"));
        let busybox = kind.busybox();
        let words = ["sh", &script, folder, &busybox, kind.name, port];
        let process = match path {
            Some(path) => {
                let group = Cgroup::at(path);
                let process = Process::start(Some(&group), &[&[program.as_str(), &program], &words[..]].concat());
                self.groups.push(group);
                process
            }
            None => {
                let before = ["/bin/sh", "sh", "-c", TO_THE_ROOT, "sh", &program];
                Process::start(None, &[&before, &words[..]].concat())
            }
        };
        self.processes.push(process);
    }

    /// Its address, if it has one.
    fn run_engine(&mut self, engine: &str, kind: &Kind, flags: &[&str], command: &[&str]) -> Option<IpAddr> {
        let script: &Script = if engine == "docker" { &self.docker } else { &self.podman };
        let (name, volume) = (
            format!("--name=kinds-{}", kind.name),
            format!("--volume={}:{INSIDE}", self.files.path().display()),
        );
        let run = [engine, "run", "-d", &name, &volume];
        let id = script.run(&[&run, flags, command].concat());
        let address = kind.has_own_network().then(|| {
            let address = script.run(&[engine, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", &id]);
            address.parse().unwrap_or_else(|_| panic!("{}: {address:?}", kind.name))
        });
        self.unwanted.push(id[..12].to_owned());
        address
    }

    fn remember_infra(&mut self, of: &'static str) {
        let id = self
            .podman
            .run(&["podman", "pod", "inspect", "-f", "{{.InfraContainerID}}", PODMAN_POD]);
        let pid = self.podman.run(&["podman", "inspect", "-f", "{{.State.Pid}}", &id]);
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        assert!(path.contains(&id), "{cgroup}");
        self.pauses.insert(of, path.to_owned());
        self.unwanted.push(id[..12].to_owned());
    }

    fn run_pod(&mut self, row: &'static str, pod: &str, host_network: bool, command: &[&str]) -> Option<IpAddr> {
        let (uid, folder) = (self.ids.uid(), self.containerd.folder().join(row));
        fs::create_dir_all(&folder).unwrap();
        let now = fs::metadata(&folder).and_then(|folder| folder.modified()).unwrap();
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let minute = (now.as_secs() / 60).to_string();
        let (file, parent) = (folder.join("pod.json"), pod_path(&uid));
        let pod = json!({
            "name": pod.replace("NOW", &minute), "namespace": "shop", "uid": uid, "container": "app",
            "image": CONTAINERD_IMAGE, "command": command, "cgroup_parent": parent, "log_directory": folder,
            "host_network": host_network, "mounts": [{ "container": INSIDE, "host": self.files.path() }],
        });
        fs::write(&file, pod.to_string()).unwrap();
        self.groups.push(Cgroup::at(&parent));
        let started = self.containerd.run(&["cri", "run-pod", file.to_str().unwrap()]);
        let started: Value = serde_json::from_str(&started).unwrap();
        self.pauses
            .insert(row, format!("{parent}/{}", started["pod"].as_str().unwrap()));
        self.unwanted.push(uid);
        (!host_network).then(|| started["ip"].as_str().unwrap().parse().unwrap())
    }

    fn run_containerd(&self, namespace: &str, container: &str, flags: &[&str], command: &[&str]) {
        let mount = format!(
            "type=bind,src={},dst={INSIDE},options=rbind:rw",
            self.files.path().display()
        );
        let run = ["run", namespace, container, "--net-host", "--mount", &mount];
        self.containerd.run(&[&run, flags, &["--"], command].concat());
    }

    fn run_nested(&mut self, command: &[&str]) {
        let (outer, id, uid) = (self.ids.hex(), self.ids.hex(), self.ids.uid());
        let parent = format!("/docker/{outer}/kubelet/kubepods/besteffort/pod{uid}");
        let (cgroup, labels) = (format!("{parent}/{id}"), pod_labels("web-0", "nested", "app", &uid));
        let labels = labels.iter().flat_map(|label| ["--label", label]);
        let flags: Vec<&str> = ["--cgroup", &cgroup].into_iter().chain(labels).collect();
        self.groups.push(Cgroup::at(&parent));
        self.run_containerd("k8s.io", &id, &flags, command);
        self.unwanted.extend([outer[..12].to_owned(), uid]);
    }

    /// containerd knows the sandbox, and no process of it.
    fn run_gvisor(&mut self, kind: &Kind, pod: Option<&'static str>, port: &str) {
        let uid = match pod {
            Some(pod) => {
                let (id, uid) = (self.ids.hex(), self.ids.uid());
                let mut labels = pod_labels(pod, "bank", "", &uid);
                labels.push("io.cri-containerd.kind=sandbox".to_owned());
                let labels = labels.iter().flat_map(|label| ["--label", label]);
                let flags: Vec<&str> = labels.collect();
                self.containerd.run(&[&["create", "k8s.io", &id], &flags[..]].concat());
                self.unwanted.push(uid.clone());
                self.gvisor = id;
                uid
            }
            None => kind.id.split('/').nth(2).unwrap().to_owned(),
        };
        let folder = self.files.path().to_str().unwrap();
        let (script, busybox) = (format!("{folder}/workload.sh"), kind.busybox());
        let group = Cgroup::at(&pod_path(&uid));
        let words = [
            "/bin/sh",
            "runsc-sandbox",
            &script,
            folder,
            &busybox,
            kind.name,
            port,
            &self.gvisor,
        ];
        self.processes.push(Process::start(Some(&group), &words));
        self.groups.push(group);
    }
}

/// Those that a kubelet sets.
fn pod_labels(pod: &str, namespace: &str, container: &str, uid: &str) -> Vec<String> {
    let labels = [
        ("pod.name", pod),
        ("pod.namespace", namespace),
        ("pod.uid", uid),
        ("container.name", container),
    ];
    let told = labels.iter().filter(|(_, value)| !value.is_empty());
    told.map(|(key, value)| format!("io.kubernetes.{key}={value}"))
        .collect()
}
