//! The configuration changes while the agent runs: by SIGHUP, by the API and by the command.
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, Metrics, Place, Running, Traffic, admin_post, binary, eventually, free_port, ledger,
    require_root,
};

const SOON: Duration = Duration::from_secs(20);
const RELOADS: &str = "tarsier_config_reloads_total";
const RTT: &str = "tarsier_container_tcp_rtt_seconds_count";

/// A service that connects to another.
struct Scene {
    // Dropped in this order: a group can go only after its processes.
    holds: Vec<Running>,
    _servers: [Running; 2],
    agent: Agent,
    client: Cgroup,
    server: Cgroup,
    /// One keeps its connections, the other closes them.
    addresses: [String; 2],
}

impl Scene {
    fn new(config: &str) -> Self {
        Self::with(Agent::builder().config(config))
    }

    fn with(agent: AgentBuilder) -> Self {
        let agent = agent.start();
        let (client, server) = (Cgroup::service("client"), Cgroup::service("server"));
        let addresses = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let serve = |arguments: &[&str]| {
            Place::new()
                .cgroup(&server)
                .start(&[&["serve", "--read", "100"], arguments].concat())
        };
        let servers = [serve(&[&addresses[0], "--keep"]), serve(&[&addresses[1]])];
        Self {
            holds: Vec::new(),
            _servers: servers,
            agent,
            client,
            server,
            addresses,
        }
    }

    /// That many connections, each with a hundred bytes.
    fn hold(&mut self, count: &str) {
        let place = Place::new().cgroup(&self.client);
        self.holds
            .push(place.start(&["hold", &self.addresses[0], "--count", count, "--send", "100"]));
    }

    fn connect(&self, count: &str) {
        let arguments = ["connect", &self.addresses[1], "--count", count, "--send", "100"];
        let report = Place::new().cgroup(&self.client).run(&arguments);
        assert_eq!(report["connected"].to_string(), count);
    }

    /// What the client has, and nobody else.
    fn expect(&self, successful: u64, active: u64, sent: u64) -> Metrics {
        let expected = Traffic {
            successful,
            active,
            sent,
            ..Traffic::default()
        };
        let shares = |metrics: &Metrics| {
            let by = self.addresses.each_ref().map(|address| {
                let of_client = [("container_id", self.client.id()), ("destination", address)];
                (
                    Traffic::of(metrics, &of_client),
                    Traffic::of(metrics, &[("destination", address)]),
                )
            });
            let [(kept, of_all), (closed, of_all_too)] = by;
            (sum(&kept, &closed), sum(&of_all, &of_all_too))
        };
        let metrics = self
            .agent
            .metrics_when(self.client.id(), SOON, |metrics| shares(metrics).0 == expected);
        assert_eq!(shares(&metrics).1, expected, "others have a share");
        metrics
    }

    fn write(&self, config: &str) {
        fs::write(self.agent.folder().join("tarsier.yaml"), config).expect("the folder is the agent's");
    }

    fn signal(&self, config: &str) {
        self.write(config);
        self.agent.signal(Signal::HUP);
    }

    /// By the API. What it answers holds in the next scrape.
    fn reload(&self, config: &str) -> (u16, Value) {
        self.write(config);
        let response = admin_post(&self.agent.admin_socket(), "/api/v1/reload").expect("the agent answers");
        (
            response.status,
            serde_json::from_slice(&response.body).expect("an answer is JSON"),
        )
    }

    fn command(&self, config: &str) -> Output {
        self.write(config);
        let mut command = Command::new(binary());
        command
            .args(["reload", "--admin-socket"])
            .arg(self.agent.admin_socket());
        command.output().expect("the binary runs")
    }

    fn deny(&self, more: &str) -> String {
        format!("filters: {{deny: ['^{}$']}}\n{more}", self.client.id())
    }

    fn balance(&self) {
        eventually(SOON, "the books balance", || {
            ledger::balance(&self.agent.admin("/api/v1/ledger")) == Ok(())
        });
    }

    fn filtered(&self) -> i64 {
        let ledger = self.agent.admin("/api/v1/ledger");
        ledger::dropped(ledger::row(&ledger, "connection_closed"), |part| {
            part["reason"] == "filtered"
        })
    }

    /// Waits for some passes over all sockets: each adds one for every connection that is open.
    fn passes(&self, open: f64) {
        let labels = [("container_id", self.server.id()), ("role", "server")];
        let before = self.agent.metrics().sum(RTT, &labels);
        self.agent
            .metrics_when(RTT, SOON, |metrics| metrics.sum(RTT, &labels) >= before + 3.0 * open);
    }
}

fn sum(one: &Traffic, other: &Traffic) -> Traffic {
    Traffic {
        successful: one.successful + other.successful,
        failed: one.failed + other.failed,
        active: one.active + other.active,
        sent: one.sent + other.sent,
        received: one.received + other.received,
    }
}

#[test]
fn a_container_goes_and_comes_with_its_open_connections() {
    if !require_root() {
        return;
    }
    let mut scene = Scene::new("");
    scene.hold("3");
    scene.connect("2");
    scene.expect(5, 3, 500);
    let other = scene.agent.metrics().of_container(scene.server.id()).len();

    scene.signal(&scene.deny(""));
    scene.agent.metrics_when(scene.client.id(), SOON, |metrics| {
        metrics.of_container(scene.client.id()).is_empty()
    });
    assert!(
        scene
            .agent
            .ask(&format!("/api/v1/containers{}", scene.client.id()))
            .is_err()
    );
    // Nothing of what it does meanwhile is anybody's.
    scene.hold("2");
    scene.connect("7");
    eventually(SOON, "what was left out is in the books", || scene.filtered() >= 7);
    scene.passes(5.0);
    let metrics = scene.agent.metrics();
    assert_eq!(metrics.of_container(scene.client.id()), [] as [&str; 0]);
    for address in &scene.addresses {
        assert_eq!(Traffic::of(&metrics, &[("destination", address)]), Traffic::default());
    }
    assert!(metrics.of_container(scene.server.id()).len() >= other);
    scene.balance();

    scene.signal("");
    let client = [("container_id", scene.client.id())];
    scene.agent.metrics_when(scene.client.id(), SOON, |metrics| {
        metrics.value("container_info", &client) == Some(1.0)
    });
    // Those that it had and those that it made meanwhile are open, and their past is not counted.
    scene.expect(0, 5, 0);
    scene.connect("4");
    let metrics = scene.expect(4, 5, 400);
    assert_eq!(metrics.value("container_restarts_total", &client), Some(0.0));
    scene.holds.drain(..).for_each(|hold| drop(hold.finish()));
    scene.expect(4, 0, 400);
    scene.balance();
    assert_eq!(scene.agent.metrics().value(RELOADS, &[("result", "ok")]), Some(2.0));
}

#[test]
fn what_waits_for_nobody_is_gone_in_the_next_scrape() {
    if !require_root() {
        return;
    }
    let mut scene = Scene::new("");
    scene.hold("3");
    scene.expect(3, 3, 300);
    for _ in 0..5 {
        let (status, _) = scene.reload(&scene.deny(""));
        assert_eq!(status, 200);
        assert_eq!(scene.agent.metrics().of_container(scene.client.id()), [] as [&str; 0]);
        assert_eq!(scene.reload("").0, 200);
        assert!(!scene.agent.metrics().of_container(scene.client.id()).is_empty());
    }
    scene.expect(0, 3, 0);
    // The same once more changes nothing.
    let (_, nothing) = scene.reload("");
    assert_eq!(nothing, json!({"changed": [], "needs_restart": []}));
    scene.expect(0, 3, 0);
    // A registry that takes the place of another has the filters of now.
    assert_eq!(scene.reload(&scene.deny("")).0, 200);
    scene.agent.hook("panic/registry");
    scene.agent.metrics_when(scene.server.id(), SOON, |metrics| {
        metrics.sum("tarsier_actor_restarts_total", &[("actor", "registry")]) == 1.0
            && !metrics.of_container(scene.server.id()).is_empty()
    });
    assert_eq!(scene.agent.metrics().of_container(scene.client.id()), [] as [&str; 0]);
}

#[test]
fn a_wrong_file_is_refused_whole() {
    if !require_root() {
        return;
    }
    let scene = Scene::new("log: {level: warn}\n");
    let config = || scene.agent.admin("/api/v1/config");
    let before = config();
    let wrong = format!("{}log:\n  level: loud\n", scene.deny(""));
    let line = "line 3, column 10: log.level: unknown variant `loud`";
    let (status, answer) = scene.reload(&wrong);
    assert!((400..500).contains(&status), "{status}");
    assert!(answer["error"].as_str().unwrap().contains(line), "{answer}");
    let output = scene.command(&wrong);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(line) && said.lines().count() == 1, "{said}");
    scene.signal(&wrong);
    let refused = [("result", "refused")];
    let metrics = scene
        .agent
        .metrics_when(RELOADS, SOON, |metrics| metrics.value(RELOADS, &refused) == Some(3.0));
    assert_eq!(metrics.value("tarsier_config_last_reload_successful", &[]), Some(0.0));
    assert_eq!(config(), before);
    eventually(SOON, "the log says so", || {
        let log = scene.agent.log();
        let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said = |record: &Value| record["level"] == "error" && record["error"].to_string().contains(line);
        records.filter(said).count() >= 3
    });

    // And then it is right.
    let output = scene.command(&scene.deny("kernel: {batch: 7}\nlog: {level: debug}\n"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said,
        "changed        filters.deny, log.level\nneeds restart  kernel.batch\n"
    );
    let after = config();
    assert_eq!(
        (&after["log"]["level"], &after["kernel"]["batch"]),
        (&json!("debug"), &before["kernel"]["batch"])
    );
    assert_eq!(after["filters"]["deny"], json!([format!("^{}$", scene.client.id())]));
    let metrics = scene.agent.metrics();
    assert_eq!(metrics.value(RELOADS, &[("result", "ok")]), Some(1.0));
    assert_eq!(metrics.value("tarsier_config_last_reload_successful", &[]), Some(1.0));
}

#[test]
fn other_labels_leave_no_series_of_the_old_shape() {
    if !require_root() {
        return;
    }
    let mut scene = Scene::new("");
    scene.hold("2");
    scene.expect(2, 2, 200);
    let shape = |metrics: &Metrics, label: &str| {
        let containers = metrics
            .samples()
            .iter()
            .filter(|sample| !sample.label("container_id").is_empty());
        let (with, without): (Vec<_>, Vec<_>) = containers.partition(|sample| sample.labels.contains_key(label));
        (with.len(), without.len())
    };
    let (with, plain) = shape(&scene.agent.metrics(), "workload");
    assert!(with == 0 && plain > 0, "{with} {plain}");
    assert_eq!(scene.reload("metrics: {labels: [workload, process]}\n").0, 200);
    let metrics = scene.agent.metrics();
    let (with, without) = shape(&metrics, "workload");
    assert!(with > 0 && without == 0, "{with} {without}");
    let unit = scene.client.id().rsplit('/').next().unwrap();
    let labels = [("container_id", scene.client.id()), ("workload", unit), ("process", "")];
    assert_eq!(metrics.value("container_info", &labels), Some(1.0));
    assert_eq!(metrics.sum("container_net_tcp_active_connections", &labels), 2.0);
    let agents = metrics.all("tarsier_config_reloads_total", &[]).next().unwrap();
    assert!(!agents.labels.contains_key("workload"), "{agents:?}");
    assert_eq!(scene.reload("metrics: {labels: [pod]}\n").0, 200);
    let metrics = scene.agent.metrics();
    assert_eq!((shape(&metrics, "workload").0, shape(&metrics, "pod").1), (0, 0));
    assert_eq!(scene.reload("").0, 200);
    assert_eq!(shape(&scene.agent.metrics(), "pod").0, 0);
    scene.expect(2, 2, 200);
}

#[test]
fn one_signal_of_a_container_is_left_out() {
    if !require_root() {
        return;
    }
    let mut scene = Scene::new("");
    scene.hold("3");
    scene.expect(3, 3, 300);
    let of_tcp = |metrics: &Metrics| {
        let names = metrics.of_container(scene.client.id());
        names.iter().filter(|name| name.contains("_tcp_")).count()
    };
    assert!(of_tcp(&scene.agent.metrics()) > 0);
    let without = format!("filters: {{signals: {{tcp: {{deny: ['^{}$']}}}}}}\n", scene.client.id());
    assert_eq!(scene.reload(&without).0, 200);
    scene.connect("5");
    eventually(SOON, "what was left out is in the books", || scene.filtered() >= 5);
    let metrics = scene.agent.metrics();
    assert_eq!(of_tcp(&metrics), 0);
    assert_eq!(
        metrics.value("container_info", &[("container_id", scene.client.id())]),
        Some(1.0)
    );
    scene.balance();
    let (status, answer) = scene.reload("filters: {signals: {logs: {deny: [a]}}}\n");
    assert!(
        status == 422 && answer["error"].as_str().unwrap().contains("unknown field `logs`"),
        "{answer}"
    );
    assert_eq!(of_tcp(&scene.agent.metrics()), 0);
    assert_eq!(scene.reload("").0, 200);
    scene.expect(0, 3, 0);
}

#[test]
fn a_recording_holds_it() {
    if !require_root() {
        return;
    }
    let builder = Agent::builder();
    let recording = builder.folder().join("recording");
    let mut scene = Scene::with(builder.argument("--record").argument(&recording));
    scene.hold("3");
    scene.expect(3, 3, 300);
    assert_eq!(scene.reload(&scene.deny("")).0, 200);
    scene.connect("7");
    eventually(SOON, "what was left out is in the books", || scene.filtered() >= 7);
    assert_eq!(scene.reload("").0, 200);
    scene.connect("4");
    scene.expect(4, 3, 400);
    scene.agent.signal(Signal::TERM);
    assert!(scene.agent.wait_for_end(SOON).success());
    let output = Command::new(binary()).arg("replay").arg(&recording).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let replayed = Metrics::parse(&String::from_utf8(output.stdout).unwrap());
    let expected = Traffic {
        successful: 4,
        active: 3,
        sent: 400,
        ..Traffic::default()
    };
    assert_eq!(Traffic::of(&replayed, &[("container_id", scene.client.id())]), expected);
}
