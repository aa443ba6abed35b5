//! Every door of the agent: HTTP, the admin socket, the commands, and a real Prometheus.
#![expect(clippy::panic, reason = "helpers of tests")]
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
    time::Duration,
};
use tarsier_integration::{
    Agent, Cgroup, Metrics, Place, Running, Script, Traffic, binary, eventually, eventually_some, free_port, http_get,
    require_root, require_tool,
};

/// Gives `input` to a command.
fn pipe(command: &mut Command, input: &[u8]) -> Output {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let (mut stdin, input) = (child.stdin.take().expect("piped above"), input.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it is our child");
    writer
        .join()
        .expect("a write does not panic")
        .expect("the command reads everything");
    output
}

/// A command of the agent's own; must succeed.
#[track_caller]
fn cli(agent: &Agent, words: &[&str]) -> String {
    let output = Command::new(binary())
        .args(words)
        .arg("--admin-socket")
        .arg(agent.admin_socket())
        .output();
    let output = output.expect("the binary runs");
    assert!(
        output.status.success(),
        "{words:?}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("it prints text")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

/// An agent with a service that holds three connections to an address.
struct Scene {
    // Dropped in this order: a group can go only after its processes.
    _processes: [Running; 2],
    agent: Agent,
    group: Cgroup,
    address: String,
}

impl Scene {
    fn new() -> Self {
        let (agent, group) = (Agent::start(), Cgroup::service("face"));
        let address = format!("127.0.0.1:{}", free_port());
        let server = Place::new().cgroup(&group).start(&["serve", &address, "--keep"]);
        let client = Place::new().cgroup(&group).start(&["hold", &address, "--count", "3"]);
        Traffic {
            successful: 3,
            active: 3,
            ..Traffic::default()
        }
        .expect_of(&agent, group.id(), &address);
        Self {
            _processes: [server, client],
            agent,
            group,
            address,
        }
    }
}

#[test]
fn the_public_listener() {
    if !(require_root() && require_tool(&["gzip"])) {
        return;
    }
    let scene = Scene::new();
    let plain = scene.agent.get("/metrics").unwrap();
    assert!(
        plain
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4"),
        "{:?}",
        plain.headers
    );
    assert_eq!(plain.header("content-encoding"), None);
    let packed = http_get(
        scene.agent.address(),
        "/metrics",
        &["Accept-Encoding: gzip"],
        Duration::from_secs(5),
    )
    .unwrap();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(
        packed.body.len() * 2 < plain.body.len(),
        "{} bytes of {}",
        packed.body.len(),
        plain.body.len()
    );
    let unpacked = pipe(Command::new("gzip").arg("-dc"), &packed.body);
    let names = |text: &str| {
        let names = Metrics::parse(text)
            .samples()
            .iter()
            .map(|sample| sample.name.clone())
            .collect::<Vec<_>>();
        names.into_iter().collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(
        names(&String::from_utf8(unpacked.stdout).unwrap()),
        names(&plain.text())
    );
    assert_eq!(scene.agent.get("/healthz").unwrap().status, 200);
    let ready = scene.agent.get("/readyz").unwrap();
    assert_eq!((ready.status, &json(&ready.text())["ready"]), (200, &true.into()));
    for path in ["/", "/api/v1/containers", "/api/v1/config", "/debug"] {
        assert_eq!(scene.agent.get(path).unwrap().status, 404, "{path} on the public port");
    }
}

#[test]
fn every_series_carries_the_hosts_labels_and_the_format_is_right() {
    if !(require_root() && require_tool(&["promtool"])) {
        return;
    }
    let scene = Scene::new();
    let text = scene.agent.metrics_text();
    let output = pipe(Command::new("promtool").args(["check", "metrics"]), text.as_bytes());
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // 3: it parses, and promtool would name things otherwise.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}: {said}", output.status);
    let metrics = Metrics::parse(&text);
    for sample in metrics.samples() {
        for label in ["machine_id", "system_uuid"] {
            assert!(sample.labels.contains_key(label), "{sample:?}");
        }
        let of_container = sample.name.trim_start_matches("tarsier_").starts_with("container_");
        assert_eq!(sample.labels.contains_key("container_id"), of_container, "{sample:?}");
        assert_eq!(sample.labels.contains_key("app_id"), of_container, "{sample:?}");
        assert!(metrics.has_type(&sample.name), "{} has no type", sample.name);
    }
}

/// What a scrape of the Go agent says of the families that are shared: type, help, labels.
const GO_AGENT: &str = include_str!("../../src/metrics/testdata/go-agent.prom");

#[test]
fn shared_families_look_like_the_go_agents() {
    if !require_root() {
        return;
    }
    let scene = Scene::new();
    // One failed connect, so that its family is there.
    let refused = format!("127.0.0.1:{}", free_port());
    Place::new()
        .cgroup(&scene.group)
        .run(&["connect", &refused, "--count", "1"]);
    Traffic {
        failed: 1,
        ..Traffic::default()
    }
    .expect_of(&scene.agent, scene.group.id(), &refused);
    let text = scene.agent.metrics_text();
    let metrics = Metrics::parse(&text);
    let column = |text: &str, what: &str, name: &str| {
        let start = format!("# {what} {name} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    };
    let mut shared = 0;
    for name in metrics.types.keys() {
        let Some(labels) = column(GO_AGENT, "LABELS", name) else {
            continue;
        };
        shared += 1;
        assert_eq!(
            column(&text, "TYPE", name),
            column(GO_AGENT, "TYPE", name),
            "type of {name}"
        );
        let help = column(GO_AGENT, "HELP", name).filter(|help| !help.is_empty());
        assert!(help.is_none() || help == column(&text, "HELP", name), "help of {name}");
        let count = format!("{name}_count");
        let mut samples = metrics.all(name, &[]).chain(metrics.all(&count, &[]));
        let sample = samples.next().unwrap_or_else(|| panic!("no sample of {name}"));
        assert_eq!(
            sample.labels.keys().cloned().collect::<Vec<_>>().join(" "),
            labels,
            "labels of {name}"
        );
    }
    // Of containers, TCP and the node; where there are any, OOM kills, application types, and HTTP: this asks the agent.
    assert!((12..=18).contains(&shared), "{:?}", metrics.types);
}

#[test]
fn a_prometheus_stores_it_without_complaint() {
    if !(require_root() && require_tool(&["prometheus", "curl"])) {
        return;
    }
    let scene = Scene::new();
    let prometheus = Script::new("prometheus.sh").env("PORT", &free_port().to_string());
    prometheus.run(&["start", &scene.agent.address().to_string()]);
    let query = |expression: &str| {
        let answer = json(&prometheus.run(&["query", expression]));
        answer["data"]["result"][0]["value"][1]
            .as_str()
            .and_then(|value| value.parse::<f64>().ok())
    };
    eventually(Duration::from_secs(30), "three scrapes", || {
        query("count_over_time(up[1m])").is_some_and(|n| n >= 3.0)
    });
    assert_eq!(
        query("min_over_time(up[1m])"),
        Some(1.0),
        "{}",
        prometheus.run(&["log"])
    );
    let active = format!(
        "container_net_tcp_active_connections{{container_id=\"{}\",destination=\"{}\"}}",
        scene.group.id(),
        scene.address
    );
    assert_eq!(query(&active), Some(3.0));
    let stored = query("scrape_samples_post_metric_relabeling").expect("a scrape");
    let exposed = scene.agent.metrics().samples().len() as f64;
    assert!(
        (stored - exposed).abs() < exposed / 10.0,
        "{stored} of {exposed} samples"
    );
    let log = prometheus.run(&["log"]);
    for complaint in [
        "out of order",
        "out-of-order",
        "duplicate",
        "Append failed",
        "Error on ingesting",
        "level=error",
    ] {
        assert!(!log.contains(complaint), "{complaint}: {log}");
    }
}

#[test]
fn the_admin_socket_answers_its_owner_only() {
    if !(require_root() && require_tool(&["setpriv"])) {
        return;
    }
    let scene = Scene::new();
    let agent = &scene.agent;
    let mode = std::fs::metadata(agent.admin_socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let containers = agent.admin("/api/v1/containers");
    let containers = containers["containers"].as_array().unwrap();
    let ours = containers
        .iter()
        .find(|row| row["id"] == scene.group.id())
        .expect("the service is listed");
    assert_eq!(
        (&ours["exposed"], &ours["app_id"]),
        (&true.into(), &"".into()),
        "{ours}"
    );
    assert_eq!(
        ours["processes"]
            .as_array()
            .map_or_else(|| ours["processes"].as_u64(), |list| Some(list.len() as u64)),
        Some(2)
    );
    for id in [
        scene.group.id().to_owned(),
        scene.group.id().trim_start_matches('/').replace('/', "%2F"),
    ] {
        let one = agent.admin(&format!("/api/v1/containers/{}", id.trim_start_matches('/')));
        assert!(one.to_string().contains(&scene.address), "{one}");
    }
    assert!(agent.ask("/api/v1/containers/system.slice/no-such.service").is_err());
    let features = agent.admin("/api/v1/features");
    assert!(features.to_string().contains("news_ring"), "{features}");
    let actors = agent.admin("/api/v1/actors").to_string();
    for actor in ["tracer", "registry"] {
        assert!(actors.contains(actor), "{actors}");
    }
    let config = agent.admin("/api/v1/config");
    assert_eq!(config["containers"]["min_age"], "0s", "{config}");
}

#[test]
fn the_commands() {
    if !require_root() {
        return;
    }
    let scene = Scene::new();
    let (agent, id) = (&scene.agent, scene.group.id());
    let table = cli(agent, &["ps"]);
    assert!(table.lines().any(|line| line.contains(id)), "{table}");
    let listed = json(&cli(agent, &["ps", "--json"]));
    assert!(
        listed["containers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["id"] == id),
        "{listed}"
    );
    assert!(cli(agent, &["inspect", id]).contains(&scene.address));
    assert!(
        json(&cli(agent, &["inspect", id, "--json"]))
            .to_string()
            .contains(&scene.address)
    );

    let run = |words: &[&str]| Command::new(binary()).args(words).output().expect("the binary runs");
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let check = run(&["check", "--json"]);
    let rows = json(&text(&check));
    let rows: BTreeMap<_, _> = rows["features"]
        .as_array()
        .unwrap_or_else(|| panic!("no features: {rows}"))
        .iter()
        .map(|row| {
            (
                row["feature"].as_str().unwrap_or_default(),
                row["state"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    for feature in ["btf", "process_start", "tcp_state", "totals"] {
        assert_eq!(rows.get(feature), Some(&"ok"), "{rows:?}");
    }
    assert!(text(&run(&["check"])).contains("process_start"));

    let default = run(&["config"]);
    assert!(
        default.status.success() && text(&default).contains("min_age: 30s"),
        "{}",
        text(&default)
    );
    let file = agent.folder().join("good.yaml");
    std::fs::write(&file, "containers: { min_age: 7s }\n").unwrap();
    let merged = run(&["config", "--config", file.to_str().unwrap()]);
    assert!(text(&merged).contains("min_age: 7s"), "{}", text(&merged));
    assert!(
        run(&["config", "--validate", "--config", file.to_str().unwrap()])
            .status
            .success()
    );
    assert!(run(&["--version"]).status.success());

    let without_agent = run(&["ps", "--admin-socket", "/nonexistent/admin.sock"]);
    assert_one_clear_line(&without_agent, Some(1), "/nonexistent/admin.sock");
}

/// An error that an operator can act on: one line, that names what is wrong.
#[track_caller]
fn assert_one_clear_line(output: &Output, code: Option<i32>, names: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it succeeded: {errors}");
    assert!(
        code.is_none() || output.status.code() == code,
        "{}: {errors}",
        output.status
    );
    assert_eq!(errors.trim_end().lines().count(), 1, "one line: {errors}");
    assert!(errors.contains(names), "it names {names}: {errors}");
    for noise in ["backtrace", "panicked"] {
        assert!(!errors.contains(noise), "{errors}");
    }
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_in_one_line() {
    if !require_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tarsier.yaml");
    let name = file.to_str().unwrap();
    for verb in [
        &["run", "--config", name][..],
        &["config", "--validate", "--config", name],
    ] {
        let run = |yaml: &str| {
            std::fs::write(&file, yaml).unwrap();
            Command::new(binary()).args(verb).output().unwrap()
        };
        let unknown = run("http: { listen: \"127.0.0.1:1\" }\ncontainers:\n  min_age: 1s\n  min_agee: 2s\n");
        assert_one_clear_line(&unknown, Some(2), "min_agee");
        let errors = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(
            errors.contains(":4") || errors.contains("line 4"),
            "its line is the fourth: {errors}"
        );
        assert_one_clear_line(&run("containers: { min_age: soon }\n"), Some(2), "soon");
        assert_one_clear_line(&run("containers: [\n"), Some(2), name);
        assert_one_clear_line(&run("containerz: {}\n"), Some(2), "containerz");
        let environment = Command::new(binary())
            .args(["config"])
            .env("TARSIER__CONTAINERS__MIN_AGE", "soon")
            .output();
        assert_one_clear_line(&environment.unwrap(), Some(2), "soon");
    }
    let missing = Command::new(binary())
        .args(["run", "--config", "/nonexistent/tarsier.yaml"])
        .output()
        .unwrap();
    assert_one_clear_line(&missing, Some(2), "/nonexistent/tarsier.yaml");
    assert_one_clear_line(
        &Command::new(binary())
            .args(["replay", "/nonexistent"])
            .output()
            .unwrap(),
        None,
        "/nonexistent",
    );
}

#[test]
fn a_taken_port_ends_it_with_one_line() {
    if !require_root() {
        return;
    }
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = taken.local_addr().unwrap();
    let mut agent = Agent::builder().spawn_at(address);
    let status = agent.wait_for_end(Duration::from_secs(20));
    assert_eq!(status.code(), Some(1), "{}", agent.log());
    let log = agent.log();
    let about: Vec<_> = log.lines().filter(|line| line.contains(&address.to_string())).collect();
    assert_eq!(about.len(), 1, "{log}");
    assert!(!log.contains("backtrace") && !log.contains("panicked"), "{log}");
}

#[test]
fn a_required_feature_that_is_off_ends_it() {
    if !require_root() {
        return;
    }
    let mut agent = Agent::builder()
        .set("KERNEL__FEATURES_OFF", "totals")
        .argument("--require")
        .argument("totals")
        .spawn();
    let status = agent.wait_for_end(Duration::from_secs(20));
    assert!(!status.success(), "{}", agent.log());
    assert!(agent.log().contains("totals"), "{}", agent.log());
}

#[test]
fn a_killed_agents_socket_is_taken_over() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let socket = agent.admin_socket();
    let rest = agent.kill();
    assert!(socket.exists(), "nobody has removed it");
    let agent = rest.start();
    assert_eq!(agent.admin_socket(), socket);
    assert!(agent.admin("/api/v1/containers")["containers"].is_array());
}

#[test]
fn a_second_agent_waits_and_says_so() {
    if !require_root() {
        return;
    }
    let first = Agent::start();
    let lock = first.folder().join("tarsier.lock");
    let second = Agent::builder().set("AGENT__LOCK", lock.to_str().unwrap()).spawn();
    eventually_some(Duration::from_secs(20), "the second says what it waits for", || {
        second.log().contains(lock.to_str().unwrap()).then_some(())
    });
    assert!(second.get("/metrics").is_err(), "it serves while it waits");
    assert!(first.get("/metrics").is_ok());
    let (_, status) = first.stop();
    assert!(status.success());
    second.wait_until_ready();
}
