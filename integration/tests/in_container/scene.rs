//! Containers of two runtimes, a service of the host, and one in a network namespace of its own that translates.
use crate::host::Host;
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tarsier_integration::{Cgroup, Netns, Place, Running, Script, eventually_some, free_port};
use tempfile::TempDir;

pub(crate) const SERVICE: &str = "10.96.78.1:80";
pub(crate) const WEB: &str = "/docker/web";
pub(crate) const PLAIN: &str = "/containerd/tarsier-it/plain";
const BRIDGE: &str = "172.30.213.1";

/// Fields in the order in which they are to go.
pub(crate) struct Scene {
    held: Vec<Running>,
    pub(crate) host: Host,
    pub(crate) containerd: Script,
    pub(crate) podman: Script,
    pub(crate) docker: Script,
    pub(crate) server: Cgroup,
    pub(crate) client: Cgroup,
    _left: Cgroup,
    netns: Netns,
    files: TempDir,
    /// Port 80 of the container `web`, as it is published and as it is.
    pub(crate) published: String,
    pub(crate) web: String,
    /// The server's: keeps what connects; keeps it, on a loopback address; closes it.
    pub(crate) keeps: String,
    pub(crate) loopback: String,
    pub(crate) closes: String,
}

pub(crate) fn busybox() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("busybox"));
    found.find(|path| path.is_file()).unwrap()
}

/// A workload that connects as it is told by a pipe.
fn workload(folder: &Path, name: &str) {
    let made = Command::new("mkfifo").arg(folder.join(name)).status();
    assert!(made.unwrap().success());
}

impl Scene {
    pub(crate) fn new() -> Self {
        let files = tempfile::Builder::new().prefix("tarsier-it-").tempdir().unwrap();
        fs::copy(busybox(), files.path().join("busybox")).unwrap();
        fs::write(files.path().join("workload.sh"), include_str!("../kinds/workload.sh")).unwrap();
        for name in ["web", "plain"] {
            workload(files.path(), name);
        }
        let docker = Script::new("dockerd.sh").env("BRIDGED", "1");
        docker.run(&["start", "--bip", &format!("{BRIDGE}/24")]);
        let (podman, containerd) = (Script::new("podman.sh"), Script::new("containerd.sh"));
        podman.run(&["start"]);
        containerd.run(&["start"]);
        let host = Host::new(&docker, &podman, &containerd);
        let netns = Netns::new();
        let [published, closes] = [0, 1].map(|_| netns.outside(free_port())[0].to_string());
        let mut scene = Self {
            held: Vec::new(),
            host,
            server: Cgroup::service("server"),
            client: Cgroup::service("client"),
            _left: Cgroup::at("/tarsier-it"),
            web: String::new(),
            keeps: format!("{BRIDGE}:{}", free_port()),
            loopback: format!("127.0.0.1:{}", free_port()),
            netns,
            files,
            published,
            closes,
            docker,
            podman,
            containerd,
        };
        scene.start();
        scene
    }

    fn start(&mut self) {
        let volume = format!("{}:/it", self.files.path().display());
        let publish = format!("{}:80", self.published);
        let listen = "nc -ll -p 80 -e cat & exec sh /it/workload.sh /it busybox web 81";
        let run = ["docker", "run", "-d", "--name", "web", "-v", &volume, "-p", &publish];
        self.docker
            .run(&[&run[..], &["busybox:test", "sh", "-c", listen]].concat());
        let ip = self
            .docker
            .run(&["docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
        self.web = format!("{ip}:80");
        let mount = format!("type=bind,src={},dst=/it,options=rbind:rw", self.files.path().display());
        let port = free_port().to_string();
        let run = ["run", "tarsier-it", "plain", "--net-host", "--mount", &mount, "--"];
        let inside = ["sh", "/it/workload.sh", "/it", "busybox", "plain", &port];
        self.containerd.run(&[&run[..], &inside].concat());
        // The bridge is to be there before any agent, for whoever listens on all addresses listens there, too.
        let run = ["podman", "run", "-d", "--name", "bridge"];
        self.podman
            .run(&[&run[..], &["docker.io/library/busybox:test", "sleep", "100000"]].concat());
        self.translate();
        let server = |words: &[&str]| Place::new().cgroup(&self.server).start(words);
        self.held
            .push(server(&["serve", &self.keeps, &self.loopback, "--keep"]));
        self.held.push(server(&["serve", &self.closes]));
    }

    /// In the client's namespace alone.
    fn translate(&self) {
        let inside = |words: &[&str]| {
            let output = Place::new()
                .netns(&self.netns)
                .command(words[0])
                .args(&words[1..])
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{words:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let gateway = self.netns.outside(1)[0].ip().to_string();
        inside(&["ip", "route", "add", "default", "via", &gateway]);
        let rule = [
            "-t",
            "nat",
            "-A",
            "OUTPUT",
            "-p",
            "tcp",
            "-d",
            "10.96.78.1",
            "--dport",
            "80",
        ];
        inside(
            &[
                &["iptables"],
                &rule[..],
                &["-j", "DNAT", "--to-destination", &self.closes],
            ]
            .concat(),
        );
    }

    /// What is there before any agent: connections in two network namespaces, and files.
    pub(crate) fn older(&mut self) {
        let keeps = self.keeps.replace(':', " ");
        let hold = format!("for n in 1 2 3; do sleep 100000 | nc {keeps} & done; wait");
        self.docker.run(&["docker", "exec", "-d", "web", "sh", "-c", &hold]);
        let write = "exec sleep 100000 3>>/tmp/own 4>>/it/log";
        self.docker.run(&["docker", "exec", "-d", "web", "sh", "-c", write]);
        let client = Place::new().cgroup(&self.client).netns(&self.netns);
        let held = client.start(&["hold", &self.published, "--count", "5"]);
        let script = format!("exec 3>>'{}'; echo ready; read -r line", self.log().display());
        let writes = Place::new()
            .cgroup(&self.server)
            .program("/bin/bash")
            .start(&["-c", &script]);
        self.held.extend([held, writes]);
    }

    /// Of the server.
    pub(crate) fn log(&self) -> PathBuf {
        self.files.path().join("server.log")
    }

    pub(crate) fn newer(&self) {
        let client = Place::new().cgroup(&self.client).netns(&self.netns);
        let held = client.start(&["hold", &self.published, "--count", "40"]);
        assert_eq!(held.finish()["connected"], 40);
        assert_eq!(client.run(&["connect", SERVICE, "--count", "10"])["connected"], 10);
        let local = Place::new().cgroup(&self.server);
        let held = local.start(&["hold", &self.loopback, "--count", "6"]);
        assert_eq!(held.finish()["connected"], 6);
        self.tell("web", &self.closes, 20);
        self.tell("plain", &self.published, 15);
    }

    fn tell(&self, name: &str, address: &str, count: u32) {
        let path = self.files.path().join(name);
        let mut pipe = eventually_some(Duration::from_secs(20), &format!("{name} listens"), || {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_NONBLOCK).open(&path).ok()
        });
        let line = format!("{} {count}\n", address.replace(':', " "));
        pipe.write_all(line.as_bytes()).unwrap();
    }
}
