//! The client of containerd against a real one.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{fs, path::Path, path::PathBuf, process::Command, time::Duration};
use tarsier::runtimes::{
    Change, Client as _, Engines, Lookup, RuntimeError,
    containerd::Containerd,
    metadata::{LogFormat, Metadata},
};
use tarsier_integration::{Cgroup, Script, demand, require_root, require_tool};
use tokio::time::timeout;

const HEX: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
/// What the agent gives a call, and more than enough for an event.
const LIMIT: Duration = Duration::from_secs(5);

struct Daemon {
    script: Script,
    // Removes what runc leaves of it, after the containers are gone.
    group: Cgroup,
}

impl Daemon {
    fn start() -> Option<Self> {
        if !(require_root() && require_tool(&["containerd", "runc", "ctr", "busybox"])) {
            return None;
        }
        let daemon = Self {
            script: Script::new("containerd.sh"),
            group: Cgroup::at(&format!("/tarsier-it-{}-containerd", std::process::id())),
        };
        daemon.script.run(&["start"]);
        Some(daemon)
    }

    /// Its process id.
    fn run(&self, namespace: &str, name: &str, flags: &[&str]) -> u32 {
        let cgroup = format!("{}/{name}", self.group.id());
        let arguments = [
            &["run", namespace, name, "--cgroup", &cgroup],
            flags,
            &["--", "/bin/sleep", "600"],
        ];
        self.script.run(&arguments.concat()).parse().unwrap()
    }

    fn sockets(&self) -> Vec<PathBuf> {
        vec!["/nonexistent/containerd.sock".into(), self.script.run(&["sock"]).into()]
    }

    fn signal(&self, signal: Signal) {
        self.script.signal("containerd", signal);
    }

    async fn client(&self) -> Containerd {
        timeout(LIMIT, Containerd::connect(&self.sockets()))
            .await
            .unwrap()
            .unwrap()
    }
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work);
}

fn named(namespace: &str, name: &str) -> Lookup {
    Lookup::Named {
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn engine(id: &str) -> Lookup {
    Lookup::Engine {
        id: id.into(),
        engines: Engines::Any,
    }
}

async fn inspect(client: &Containerd, lookup: &Lookup) -> Option<Metadata> {
    timeout(LIMIT, client.inspect(lookup)).await.unwrap().unwrap()
}

/// Everything up to `last`.
async fn changes_until(client: &Containerd, last: &Change) -> Vec<Change> {
    let mut seen = Vec::new();
    while seen.last() != Some(last) {
        let next = timeout(LIMIT, client.next_change()).await;
        seen.push(next.unwrap_or_else(|_| panic!("no {last:?} after {seen:?}")).unwrap());
    }
    seen
}

/// Of this process, to anybody.
fn open_sockets() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn containers_of_any_namespace() {
    let Some(daemon) = Daemon::start() else { return };
    let mount = format!(
        "type=bind,src={},dst=/data,options=rbind:ro",
        daemon.script.folder().display()
    );
    let flags = [
        "--label",
        "team=we\"b/0",
        "--env",
        "NOMAD_JOB_NAME=shop",
        "--env",
        "SECRET=1",
        "--mount",
        &mount,
    ];
    let c1 = daemon.run("k8s.io", "c1", &flags);
    let d1 = daemon.run("default", "d1", &["--label", "nerdctl/name=web"]);
    let hex = daemon.run("elsewhere", HEX, &["--label", "io.kubernetes.pod.name=web-0"]);
    block_on(async {
        let client = daemon.client().await;
        let found = inspect(&client, &named("k8s.io", "c1")).await.unwrap();
        assert_eq!((found.name.as_str(), found.pid, found.sandbox), ("c1", c1, false));
        assert_eq!(found.image, "localhost/pause:test");
        assert_eq!(found.labels["team"], "we\"b/0");
        assert_eq!(found.environment.len(), 1, "{:?}", found.environment);
        assert_eq!(found.environment["NOMAD_JOB_NAME"], "shop");
        assert_eq!(found.mounts["/data"], daemon.script.folder().to_str().unwrap());
        assert_eq!(found.log, None);

        let found = inspect(&client, &named("default", "d1")).await.unwrap();
        assert_eq!((found.name.as_str(), found.pid), ("web", d1));
        // Of an engine's id nobody knows the namespace.
        let found = inspect(&client, &engine(HEX)).await.unwrap();
        assert_eq!((found.name.as_str(), found.pid), ("", hex));
        assert_eq!(found.labels["io.kubernetes.pod.name"], "web-0");

        let long = "x".repeat(4096);
        for (namespace, name) in [
            ("default", "c1"),
            ("nobody", "c1"),
            ("", "c1"),
            ("k8s.io", ""),
            ("a b", "c1"),
            ("../x", "c1"),
            ("é", "c1"),
            ("a\nb", "c1"),
            (long.as_str(), "c1"),
            ("k8s.io", long.as_str()),
        ] {
            assert_eq!(
                inspect(&client, &named(namespace, name)).await,
                None,
                "{namespace} {name}"
            );
        }
        assert_eq!(inspect(&client, &engine(&HEX.replace('f', "0"))).await, None);
        assert_eq!(
            inspect(
                &client,
                &Lookup::Unit {
                    unit: "a.service".into()
                }
            )
            .await,
            None
        );
    });
}

#[test]
fn changes() {
    let Some(daemon) = Daemon::start() else { return };
    block_on(async {
        let client = daemon.client().await;
        let (changed, gone) = (Change::Changed("c1".into()), Change::Gone("c1".into()));
        let pid = daemon.run("elsewhere", "c1", &[]);
        // It is made, then its process starts.
        assert_eq!(changes_until(&client, &changed).await.len(), 1);
        assert_eq!(changes_until(&client, &changed).await.len(), 1);
        assert_eq!(inspect(&client, &named("elsewhere", "c1")).await.unwrap().pid, pid);
        // Waiting may be given up, and misses nothing.
        assert!(timeout(Duration::from_millis(100), client.next_change()).await.is_err());
        daemon.script.run(&["rm", "elsewhere", "c1"]);
        assert_eq!(changes_until(&client, &gone).await, [gone]);
        assert_eq!(inspect(&client, &named("elsewhere", "c1")).await, None);
    });
}

#[test]
fn a_pod() {
    let Some(daemon) = Daemon::start() else { return };
    let python = Command::new("/usr/bin/python3").args(["-c", "import grpc"]).output();
    let cni = ["bridge", "host-local", "loopback"].map(|plugin| Path::new("/usr/lib/cni").join(plugin).exists());
    if !(demand("python3-grpcio", python.is_ok_and(|output| output.status.success()))
        && demand("cni-plugins", cni == [true; 3]))
    {
        return;
    }
    let folder = daemon.script.folder().join("pod");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("pod.json");
    let pod = json!({
        "name": "web-0", "namespace": "shop", "uid": "1", "image": "localhost/pause:test", "command": ["/bin/sleep", "600"],
        "cgroup_parent": format!("{}/pod1", daemon.group.id()), "log_directory": folder,
        "mounts": [{ "container": "/data", "host": folder }],
    });
    fs::write(&file, pod.to_string()).unwrap();
    let _parent = Cgroup::at(&format!("{}/pod1", daemon.group.id()));
    block_on(async {
        let client = daemon.client().await;
        let started = daemon.script.run(&["cri", "run-pod", file.to_str().unwrap()]);
        let started: Value = serde_json::from_str(&started).unwrap();
        let id = |key: &str| engine(started[key].as_str().unwrap());

        let found = inspect(&client, &id("container")).await.unwrap();
        assert_eq!((found.name.as_str(), found.sandbox), ("", false));
        assert_eq!(u64::from(found.pid), started["pid"].as_u64().unwrap());
        assert_eq!(found.labels["io.kubernetes.pod.name"], "web-0");
        assert_eq!(found.labels["io.kubernetes.pod.namespace"], "shop");
        assert_eq!(found.labels["io.kubernetes.container.name"], "agent");
        assert_eq!(found.mounts["/data"], folder.to_str().unwrap());
        let log = found.log.unwrap();
        assert_eq!((log.path, log.format), (folder.join("agent.log"), LogFormat::Cri));

        let found = inspect(&client, &id("pod")).await.unwrap();
        assert!(found.sandbox && found.pid > 0, "{found:?}");
        assert_eq!(found.labels["io.kubernetes.pod.name"], "web-0");
        assert_eq!(found.log, None);
    });
    daemon.script.run(&["cri", "rm-all"]);
}

#[test]
fn a_daemon_that_is_killed() {
    let Some(daemon) = Daemon::start() else { return };
    let pid = daemon.run("k8s.io", "c1", &[]);
    let c1 = named("k8s.io", "c1");
    block_on(async {
        let client = daemon.client().await;
        inspect(&client, &c1).await.unwrap();
        daemon.signal(Signal::KILL);
        let broken = |error| matches!(error, RuntimeError::Broken { .. });
        assert!(broken(timeout(LIMIT, client.next_change()).await.unwrap().unwrap_err()));
        assert!(broken(timeout(LIMIT, client.inspect(&c1)).await.unwrap().unwrap_err()));
        let again = timeout(LIMIT, Containerd::connect(&daemon.sockets())).await.unwrap();
        assert!(matches!(again.err().unwrap(), RuntimeError::Connect { .. }));

        daemon.script.run(&["restart"]);
        assert!(
            broken(timeout(LIMIT, client.inspect(&c1)).await.unwrap().unwrap_err()),
            "a client that lost its events goes on"
        );
        assert_eq!(inspect(&daemon.client().await, &c1).await.unwrap().pid, pid);
    });
}

#[test]
fn a_daemon_that_hangs() {
    let Some(daemon) = Daemon::start() else { return };
    let pid = daemon.run("k8s.io", "c1", &[]);
    let c1 = named("k8s.io", "c1");
    block_on(async {
        let brief = Duration::from_millis(200);
        let client = daemon.client().await;
        inspect(&client, &c1).await.unwrap();
        daemon.signal(Signal::STOP);
        let before = open_sockets();
        for _ in 0..10 {
            assert!(timeout(brief, client.inspect(&c1)).await.is_err(), "it answers");
            assert!(
                timeout(brief, client.next_change()).await.is_err(),
                "it tells something"
            );
            assert!(
                timeout(brief, Containerd::connect(&daemon.sockets())).await.is_err(),
                "it connects"
            );
        }
        drop(client);
        tokio::time::sleep(brief).await;
        let after = open_sockets();
        daemon.signal(Signal::CONT);
        assert!(after < before, "{after} sockets are open, and were {before}");
        assert_eq!(inspect(&daemon.client().await, &c1).await.unwrap().pid, pid);
    });
}
