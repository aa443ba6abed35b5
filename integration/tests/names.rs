//! Containers of real runtimes go by the names that these give them, and keep what they have counted when a runtime is late,
//! silent, killed, or runs the same container once more.
use rustix::process::Signal;
use std::{fs, path::Path, time::Duration};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, Metrics, Netns, Place, Running, Script, free_port, pause, require_root, require_tool,
};

const SOON: Duration = Duration::from_secs(20);
const CONNECTS: &str = "container_net_tcp_successful_connects_total";
const UID: &str = "7d3a2b1c-0e4f-4a5b-8c6d-9e0f1a2b3c4d";

/// Ids of containers differ from the first digits on, by which a path's own name goes.
fn hex(digit: char) -> String {
    digit.to_string().repeat(16) + &"0123456789abcdef".repeat(3)
}

/// A containerd, a server to connect to, and a place for cgroups that the agent takes for the root.
struct Scene {
    script: Script,
    group: Cgroup,
    netns: Netns,
    port: u16,
    server: Running,
}

impl Scene {
    fn new(name: &str) -> Option<Self> {
        if !(require_root() && require_tool(&["containerd", "runc", "ctr", "busybox", "ip", "nsenter"])) {
            return None;
        }
        let group = Cgroup::at(&format!("/tarsier-it-{}-{name}", std::process::id()));
        let script = Script::new("containerd.sh");
        script.run(&["start"]);
        let (netns, port) = (Netns::new(), free_port());
        let address = netns.inside(port)[0].to_string();
        let server = Place::new().netns(&netns).start(&["serve", &address, "--answer", "10"]);
        Some(Self {
            script,
            group,
            netns,
            port,
            server,
        })
    }

    fn agent(&self) -> AgentBuilder {
        let mut builder = Agent::builder()
            .set("IDENTITY__CGROUP_ROOT", self.group.id())
            .set("RUNTIMES__CONTAINERD__SOCKETS", &self.script.run(&["sock"]));
        for other in ["docker", "podman", "crio", "systemd"] {
            builder = builder.set(&format!("RUNTIMES__{}__ENABLED", other.to_uppercase()), "false");
        }
        builder
    }

    fn address(&self) -> String {
        self.netns.inside(self.port)[0].to_string()
    }

    /// A container that connects so often, and then waits.
    fn run(&self, namespace: &str, id: &str, path: &str, connects: u32, flags: &[&str]) {
        let cgroup = format!("{}{path}", self.group.id());
        let ip = self.netns.inside(self.port)[0].ip();
        let command = format!(
            "i=0; while [ $i -lt {connects} ]; do nc {ip} {} </dev/null >/dev/null; i=$((i+1)); done; sleep 600",
            self.port
        );
        let arguments = [
            &["run", namespace, id, "--net-host", "--cgroup", &cgroup],
            flags,
            &["--", "/bin/sh", "-c", &command],
        ];
        self.script.run(&arguments.concat());
    }

    fn run_pod(&self, pod: &str, id: &str, connects: u32) {
        let path = format!("/kubepods/burstable/pod{UID}/{id}");
        let name = format!("io.kubernetes.pod.name={pod}");
        let labels = [
            "--label",
            name.as_str(),
            "--label",
            "io.kubernetes.pod.namespace=shop",
            "--label",
            "io.kubernetes.container.name=app",
        ];
        self.run("k8s.io", id, &path, connects, &labels);
    }

    fn signal(&self, signal: Signal) {
        self.script.signal("containerd", signal);
    }

    fn end(self) {
        drop(self.server);
        self.script.run(&["stop"]);
        // What the containers' cgroups were in, runc leaves.
        for folder in self.group.legacy().chain([self.group.unified()]) {
            remove_below(folder);
        }
    }
}

fn remove_below(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_below(&entry.path());
        // The group itself says what is left.
        drop(fs::remove_dir(entry.path()));
    }
}

impl Scene {
    fn connects(&self, metrics: &Metrics, id: &str) -> f64 {
        metrics.sum(CONNECTS, &[("container_id", id), ("destination", &self.address())])
    }

    fn expect(&self, agent: &Agent, id: &str, connects: f64) -> Metrics {
        let show = format!("{connects} connects of {id}");
        agent.metrics_when(&show, SOON, |metrics| self.connects(metrics, id) == connects)
    }
}

#[test]
fn each_kind_goes_by_its_name() {
    let Some(scene) = Scene::new("kinds") else { return };
    let agent = scene.agent().start();
    scene.run_pod("web-64cd4f9686-mvtnb", &hex('1'), 5);
    scene.run("default", "c1", "/default/c1", 6, &[]);
    // Its cgroup names an id that the runtime does not know.
    scene.run(
        "default",
        "c2",
        &format!("/kubepods/burstable/pod{UID}/{}", hex('2')),
        7,
        &[],
    );
    let metrics = scene.expect(&agent, "/k8s/shop/web-64cd4f9686-mvtnb/app", 5.0);
    let labels = [("container_id", "/k8s/shop/web-64cd4f9686-mvtnb/app")];
    let info = metrics.all("container_info", &labels).next().unwrap();
    assert_eq!(
        (info.label("app_id"), info.label("image")),
        ("/k8s/shop/web", "localhost/pause:test")
    );
    scene.expect(&agent, "/containerd/default/c1", 6.0);
    scene.expect(&agent, &format!("/pod/{UID}/222222222222"), 7.0);
    let described = agent.admin("/api/v1/containers/containerd/default/c1");
    assert_eq!(described["runtime"]["runtime"], "containerd", "{described}");
    scene.end();
}

#[test]
fn a_late_answer_leaves_nothing_of_the_name_before_it() {
    let Some(scene) = Scene::new("late") else { return };
    scene.run_pod("db-0", &hex('1'), 0);
    scene.signal(Signal::STOP);
    let agent = scene.agent().start();
    let interim = format!("/pod/{UID}/111111111111");
    let of_path = [("container_id", interim.as_str())];
    agent.metrics_when("the name of its path", SOON, |metrics| {
        metrics.value("container_info", &of_path).is_some()
    });
    scene.signal(Signal::CONT);
    let named = [("container_id", "/k8s/shop/db-0/app")];
    let metrics = agent.metrics_when("its name", Duration::from_secs(10), |metrics| {
        metrics.value("container_info", &named).is_some()
    });
    assert_eq!(metrics.of_container(&interim), Vec::<&str>::new());
    scene.end();
}

/// The pod's container crashes and is run again, with another id in another cgroup.
#[test]
fn the_same_container_once_more_is_a_restart() {
    let Some(scene) = Scene::new("again") else { return };
    let agent = scene.agent().start();
    scene.run_pod("db-0", &hex('1'), 5);
    scene.expect(&agent, "/k8s/shop/db-0/app", 5.0);
    scene.script.run(&["rm", "k8s.io", &hex('1')]);
    pause(Duration::from_secs(1));
    scene.run_pod("db-0", &hex('2'), 7);
    let metrics = scene.expect(&agent, "/k8s/shop/db-0/app", 12.0);
    let labels = [("container_id", "/k8s/shop/db-0/app")];
    assert_eq!(metrics.all("container_restarts_total", &labels).count(), 1);
    assert_eq!(metrics.value("container_restarts_total", &labels), Some(1.0));
    scene.end();
}

#[test]
fn a_runtime_that_dies_takes_nobody_with_it() {
    let Some(scene) = Scene::new("dies") else { return };
    let agent = scene.agent().start();
    scene.run_pod("db-0", &hex('1'), 5);
    scene.expect(&agent, "/k8s/shop/db-0/app", 5.0);
    scene.signal(Signal::KILL);
    let connected = [("runtime", "containerd")];
    agent.metrics_when("it is gone", SOON, |metrics| {
        metrics.value("tarsier_runtime_connected", &connected) == Some(0.0)
    });
    scene.expect(&agent, "/k8s/shop/db-0/app", 5.0);
    scene.script.run(&["restart"]);
    agent.metrics_when("it is back", SOON, |metrics| {
        metrics.value("tarsier_runtime_connected", &connected) == Some(1.0)
    });
    scene.run_pod("db-1", &hex('2'), 3);
    scene.expect(&agent, "/k8s/shop/db-1/app", 3.0);
    scene.expect(&agent, "/k8s/shop/db-0/app", 5.0);
    scene.end();
}

#[test]
fn whom_nobody_wants_to_see() {
    let Some(scene) = Scene::new("filter") else { return };
    let agent = scene.agent().set("FILTERS__DENY", "^/k8s/shop/secret").start();
    scene.run_pod("secret-0", &hex('1'), 5);
    scene.run_pod("open-0", &hex('2'), 6);
    let metrics = scene.expect(&agent, "/k8s/shop/open-0/app", 6.0);
    let secret = |sample: &&tarsier_integration::Sample| sample.label("container_id").contains("secret");
    assert_eq!(metrics.samples().iter().find(secret).map(|sample| &sample.name), None);
    scene.end();
}
