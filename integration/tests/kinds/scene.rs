//! All the runtimes at once, and what they have in common.
use crate::{
    crio::{self, Socket},
    host::Process,
    table::{KINDS, Kind},
};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, Netns, Script, demand, eventually_some, require_root, require_tool,
};
use tempfile::TempDir;

/// Where containers, and the systemd, see the folder with what a workload is made of.
pub(crate) const INSIDE: &str = "/it";

/// Fields in the order in which they are to go.
pub(crate) struct Scene {
    pub(crate) processes: Vec<Process>,
    pub(crate) containerd: Script,
    pub(crate) podman: Script,
    pub(crate) docker: Script,
    pub(crate) systemd: Script,
    /// What runtimes leave behind.
    pub(crate) groups: Vec<Cgroup>,
    pub(crate) crio: Socket,
    pub(crate) netns: Netns,
    pub(crate) files: TempDir,
    pub(crate) ids: Ids,
    /// By the name of a row: the cgroup path of what holds its pod.
    pub(crate) pauses: BTreeMap<&'static str, String>,
    /// The sandbox of gVisor.
    pub(crate) gvisor: String,
    /// Words that would stand in the id of somebody whose runtime has not been heard.
    pub(crate) unwanted: Vec<String>,
}

/// A workload that runs.
pub(crate) struct Row {
    pub(crate) kind: &'static Kind,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Whom it connects to.
    pub(crate) next: SocketAddr,
}

/// Ids as runtimes draw them by lot, told from those of another run.
#[derive(Default)]
pub(crate) struct Ids(u8);

impl Ids {
    pub(crate) fn hex(&mut self) -> String {
        self.0 += 1;
        let one = format!("{:02x}{:08x}", self.0, std::process::id());
        one.chars().cycle().take(64).collect()
    }

    pub(crate) fn uid(&mut self) -> String {
        self.0 += 1;
        format!("{:08x}-0000-4000-8000-0000000000{:02x}", std::process::id(), self.0)
    }
}

pub(crate) fn ready() -> bool {
    let python = Command::new("/usr/bin/python3").args(["-c", "import grpc"]).output();
    let cni = ["bridge", "host-local", "loopback"].map(|plugin| Path::new("/usr/lib/cni").join(plugin).exists());
    require_root()
        && require_tool(&[
            "dockerd",
            "docker",
            "podman",
            "conmon",
            "catatonit",
            "containerd",
            "ctr",
            "runc",
        ])
        && require_tool(&["systemd-nspawn", "mmdebstrap", "nsenter", "iptables", "ip", "busybox"])
        && demand("python3-grpcio", python.is_ok_and(|output| output.status.success()))
        && demand("cni-plugins", cni == [true; 3])
}

impl Scene {
    /// The daemons, and nothing yet that they run.
    pub(crate) fn new() -> Self {
        let files = tempfile::Builder::new().prefix("tarsier-it-").tempdir().unwrap();
        fill(files.path());
        let docker = Script::new("dockerd.sh").env("BRIDGED", "1");
        docker.run(&["start", "--bip", "172.30.213.1/24"]);
        let (podman, containerd) = (Script::new("podman.sh"), Script::new("containerd.sh"));
        podman.run(&["start"]);
        containerd.run(&["start"]);
        // Made once for all runs: it takes half a minute.
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd-root");
        let systemd = Script::new("systemd.sh")
            .env("ROOT", root.to_str().unwrap())
            .env("MACHINE", &format!("tarsier-it-{}", std::process::id()));
        systemd.run(&["start", &format!("--bind={}:{INSIDE}", files.path().display())]);
        let mut ids = Ids::default();
        let crio = Socket::listen(crio::Pod::new(&mut ids));
        Self {
            processes: vec![],
            containerd,
            podman,
            docker,
            systemd,
            groups: vec![],
            unwanted: vec![crio.pod.uid.clone()],
            crio,
            netns: Netns::new(),
            files,
            ids,
            pauses: BTreeMap::new(),
            gvisor: String::new(),
        }
    }

    pub(crate) fn agent(&self) -> AgentBuilder {
        let bus = format!("{}/run/dbus/system_bus_socket", self.systemd.run(&["rootfs"]));
        Agent::builder()
            .set("IDENTITY__CGROUP_ROOT", &self.payload())
            .set("RUNTIMES__DOCKER__SOCKETS", &self.docker.run(&["sock"]))
            .set("RUNTIMES__PODMAN__SOCKETS", &self.podman.run(&["sock"]))
            .set("RUNTIMES__CONTAINERD__SOCKETS", &self.containerd.run(&["sock"]))
            .set("RUNTIMES__CRIO__SOCKETS", &self.crio.path())
            .set("RUNTIMES__SYSTEMD__SOCKETS", &bus)
    }

    /// The root of the cgroups of the systemd: its first process is in `init.scope` below.
    fn payload(&self) -> String {
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", self.systemd.run(&["leader"]))).unwrap();
        let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let tree = paths.filter_map(|path| path.strip_suffix("/init.scope")).next();
        tree.unwrap_or_else(|| panic!("no tree of its own: {cgroup}"))
            .to_owned()
    }

    /// Each connects so often to its next.
    pub(crate) fn round(&self, rows: &[Row], counts: &[u64]) {
        let pipes: Vec<File> = rows.iter().map(|row| self.pipe(row.kind)).collect();
        for ((row, count), mut pipe) in rows.iter().zip(counts).zip(pipes) {
            let line = format!("{} {} {count}\n", row.next.ip(), row.next.port());
            pipe.write_all(line.as_bytes()).unwrap();
        }
    }

    /// As soon as somebody reads it.
    fn pipe(&self, kind: &Kind) -> File {
        let path = self.files.path().join(kind.name);
        eventually_some(Duration::from_secs(20), &format!("{} listens", kind.name), || {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_NONBLOCK).open(&path).ok()
        })
    }
}

/// What a workload is made of.
fn fill(folder: &Path) {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("busybox"))
        .find(|path| path.is_file());
    fs::copy(found.unwrap(), folder.join("busybox")).unwrap();
    fs::write(folder.join("workload.sh"), include_str!("workload.sh")).unwrap();
    for kind in KINDS {
        // A process is called as its file is.
        fs::hard_link(folder.join("busybox"), folder.join(kind.busybox())).unwrap();
        let made = Command::new("mkfifo").arg(folder.join(kind.name)).status();
        assert!(made.unwrap().success());
    }
}
