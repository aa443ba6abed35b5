//! Requests one by one, beside servers that have all they can do.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, End, Place, Stopwatch, admin_post, binary, eventually, free_port, ledger, pause,
    require_root, require_tool,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "s3cr3tt0ken";

fn builder() -> AgentBuilder {
    Agent::builder()
        .set("HTTP__SCRAPE_TIMEOUT", "4s")
        // On two cores the tester, the server and the agent share, a reader may have to wait.
        .set("L7__RING_BYTES", "64MiB")
}

/// Ends with the test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }

    fn output(mut self) -> String {
        let mut text = String::new();
        let stdout = self.0.stdout.as_mut().expect("it is piped");
        stdout.read_to_string(&mut text).expect("it prints text");
        assert!(self.0.wait().expect("it is our child").success(), "{text}");
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).ok();
        self.0.wait().ok();
    }
}

/// nginx in a service, asked by another.
struct Scene {
    // Dropped in this order: a group can go only after its processes.
    _nginx: Process,
    server: Cgroup,
    client: Cgroup,
    address: String,
    _folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let (server, client) = (Cgroup::service("tapped"), Cgroup::service("asks"));
        let address = format!("127.0.0.1:{}", free_port());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let own = folder.path().display();
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("{what}_temp_path {own}/{what};"));
        let text = format!(
            "daemon off; worker_processes 1; pid {own}/pid; error_log {own}/log; events {{ worker_connections 4096; }}
            http {{ access_log off; keepalive_requests 1000000000; {}
            server {{ listen {address}; location / {{ return 200 \"ok\\n\"; }} location /missing {{ return 404; }} }} }}",
            temporary.join(" ")
        );
        let conf = folder.path().join("nginx.conf");
        fs::write(&conf, text).expect("the folder is ours");
        let mut nginx = Place::new().cgroup(&server).command("nginx");
        nginx.arg("-e").arg(folder.path().join("log")).arg("-c").arg(&conf);
        let nginx = Process::start(&mut nginx);
        eventually(PATIENCE, "nginx listens", || {
            std::net::TcpStream::connect(&address).is_ok()
        });
        Self {
            _nginx: nginx,
            server,
            client,
            address,
            _folder: folder,
        }
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}?token={SECRET}", self.address)
    }

    /// As many as it can, on kept connections.
    fn load(&self, words: &[&str]) -> Process {
        let mut command = Place::new().cgroup(&self.client).command(words[0]);
        Process::start(command.args(&words[1..]).stdout(Stdio::piped()))
    }

    /// One after the other.
    fn ask(&self, target: &str, count: usize) {
        let url = self.url(target);
        let mut command = Place::new().cgroup(&self.client).command("curl");
        command.args(["-s", "-o", "/dev/null"]);
        let status = command.args(std::iter::repeat_n(&url, count)).status();
        assert!(status.expect("curl starts").success());
    }
}

/// `tarsier tap CONTAINER`
fn command(agent: &Agent, id: &str, more: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["tap", id, "--admin-socket"]).arg(agent.admin_socket());
    command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// And what it has said so far.
struct Tap {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Tap {
    /// Returns when it misses nothing any more.
    fn of(agent: &Agent, id: &str) -> Self {
        let begun = count(agent, "a tap begins");
        let mut child = command(agent, id, &["--json"]).spawn().expect("the binary runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped above"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        eventually(PATIENCE, "it has begun", || {
            let ended = child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "it has ended: {ended:?}");
            count(agent, "a tap begins") > begun
        });
        // The log comes first.
        pause(Duration::from_millis(200));
        Self {
            child,
            lines,
            said: String::new(),
        }
    }

    #[track_caller]
    fn next(&mut self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("more comes");
        self.said.push_str(&line);
        self.said.push('\n');
        serde_json::from_str(&line).expect("each line is an object")
    }

    #[track_caller]
    fn exchanges(&mut self, count: usize) -> Vec<Value> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let event = self.next();
            if event["event"] == "exchange" {
                seen.push(event);
            }
        }
        seen
    }

    /// As Ctrl-C does; the end must be a good one.
    #[track_caller]
    fn interrupt(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it is our child");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "after Ctrl-C: {status}");
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().expect("it is our child and runs");
            self.child.wait().expect("it is our child");
        }
    }
}

/// Lines of the agent's log.
fn count(agent: &Agent, what: &str) -> usize {
    agent.log().lines().filter(|line| line.contains(what)).count()
}

fn watched(agent: &Agent) -> f64 {
    let metrics = agent.metrics();
    metrics.value("tarsier_bpf_map_entries", &[("map", "WATCHED")]).unwrap()
}

fn resident_bytes(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Of a container, whatever became of them.
fn counted(agent: &Agent, group: &Cgroup, end: End) -> u64 {
    agent.metrics().requests_of(group.id(), "http", end).values().sum()
}

/// Each is counted at both ends, once, and nothing was lost on the way.
#[track_caller]
fn expect(agent: &Agent, scene: &Scene, sent: u64) {
    let ends = [(&scene.server, End::Server), (&scene.client, End::Client)];
    agent.metrics_when("_requests_total", PATIENCE, |metrics| {
        ends.iter().all(|(group, end)| {
            let by_status = metrics.requests_of(group.id(), "http", *end);
            by_status.values().sum::<u64>() >= sent
        })
    });
    pause(Duration::from_secs(2));
    for (group, end) in ends {
        assert_eq!(counted(agent, group, end), sent, "{end:?}");
    }
    eventually(PATIENCE, "the books balance", || {
        ledger::balance(&agent.admin("/api/v1/ledger")) == Ok(())
    });
    let metrics = agent.metrics();
    let lost = metrics.all("tarsier_events_dropped_total", &[("class", "loss")]);
    let lost: Vec<_> = lost.filter(|sample| sample.value > 0.0).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn what_is_shown_and_what_is_not() {
    if !(require_root() && require_tool(&["nginx", "curl"])) {
        return;
    }
    let scene = Scene::new();
    let agent = builder().start();
    let id = scene.server.id().to_owned();
    scene.ask("/", 3);
    let mut tap = Tap::of(&agent, &id);
    eventually(PATIENCE, "the kernel knows", || watched(&agent) >= 1.0);
    scene.ask("/", 2);
    scene.ask("/missing", 1);
    let seen = tap.exchanges(3);
    let fields: Vec<_> = seen
        .iter()
        .map(|of| (of["code"].as_u64().unwrap(), of["status"].as_str().unwrap()))
        .collect();
    assert_eq!(fields, [(200, "2xx"), (200, "2xx"), (404, "4xx")]);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    for of in &seen {
        assert_eq!(
            (&of["protocol"], &of["role"], &of["verb"]),
            (&"http".into(), &"server".into(), &"GET".into())
        );
        assert_eq!(of["text"], Value::Null, "metadata has none");
        assert!(of["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        let (asked, took) = (of["time_unix"].as_f64().unwrap(), of["seconds"].as_f64().unwrap());
        assert!(
            (now - 30.0..=now).contains(&asked) && (0.0..5.0).contains(&took),
            "{of}"
        );
    }
    let metadata = tap.said.clone();
    tap.interrupt();
    eventually(PATIENCE, "nobody is watched", || watched(&agent) == 0.0);
    let log = agent.log();
    let line = |what: &str| -> Value {
        let line = log.lines().find(|line| line.contains(what));
        serde_json::from_str(line.unwrap_or_else(|| panic!("{what}: {log}"))).unwrap()
    };
    let (begun, ended) = (line("a tap begins"), line("a tap has ended"));
    assert_eq!(
        (&begun["uid"], &begun["container_id"]),
        (&0.into(), &id.as_str().into()),
        "{begun}"
    );
    assert!(begun["pid"].as_u64().is_some_and(|pid| pid > 1), "{begun}");
    assert_eq!(
        (&ended["exchanges"], &ended["pid"]),
        (&3.into(), &begun["pid"]),
        "{ended}"
    );

    // Of the other end, by a reload, with its text.
    fs::write(agent.folder().join("tarsier.yaml"), "admin: {tap: payload}").unwrap();
    assert_eq!(admin_post(&agent.admin_socket(), "/api/v1/reload").unwrap().status, 200);
    let mut tap = Tap::of(&agent, &id);
    scene.ask("/missing", 1);
    let of = &tap.exchanges(1)[0];
    assert_eq!((&of["verb"], &of["text"]), (&"GET".into(), &"/missing?".into()));
    let payload = tap.said.clone();
    for said in [metadata, payload, agent.log()] {
        assert!(!said.contains(SECRET), "{said}");
    }

    // As in `| head -n 1`.
    let mut short = command(&agent, &id, &[]);
    let mut short = short.spawn().expect("the binary runs");
    eventually(PATIENCE, "it has begun", || count(&agent, "a tap begins") == 3);
    let mut lines = BufReader::new(short.stdout.take().unwrap());
    let mut line = String::new();
    pause(Duration::from_millis(200));
    scene.ask("/", 1);
    lines.read_line(&mut line).unwrap();
    assert!(
        line.contains("  server  http  ") && line.ends_with("  GET /?\n"),
        "{line}"
    );
    drop(lines);
    scene.ask("/", 1);
    assert!(
        short.wait().unwrap().success(),
        "a reader that has seen enough is no error"
    );

    // Off ends what there is.
    fs::write(agent.folder().join("tarsier.yaml"), "admin: {tap: 'off'}").unwrap();
    assert_eq!(admin_post(&agent.admin_socket(), "/api/v1/reload").unwrap().status, 200);
    while tap.next()["event"] != "ended" {}
    assert!(tap.child.wait().unwrap().success());
    let refused = |id: &str| -> Output { command(&agent, id, &[]).output().expect("the binary runs") };
    let output = refused(&id);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "tarsier: taps are off (admin.tap in the configuration)\n");
    eventually(PATIENCE, "nobody is watched", || watched(&agent) == 0.0);
    let public = agent.get(&format!("/api/v1/containers/{id}/tap")).unwrap();
    assert_eq!(public.status, 404, "it is for the admin socket alone");
    expect(&agent, &scene, 9);
}

#[test]
fn processes_that_start_later_are_watched_too() {
    if !(require_root() && require_tool(&["nginx", "curl"])) {
        return;
    }
    let scene = Scene::new();
    let agent = builder().start();
    scene.ask("/", 1);
    let id = scene.client.id().to_owned();
    agent.metrics_when(&id, PATIENCE, |metrics| {
        metrics.requests_of(&id, "http", End::Client).values().sum::<u64>() == 1
    });
    let mut tap = Tap::of(&agent, &id);
    // Each is a process of its own, which asks when it is known.
    for _ in 0..3 {
        let url = scene.url("/");
        let script = format!("sleep 1; exec curl -s -o /dev/null {url}");
        let status = Place::new()
            .cgroup(&scene.client)
            .command("sh")
            .args(["-c", &script])
            .status();
        assert!(status.unwrap().success());
    }
    let seen = tap.exchanges(3);
    assert!(
        seen.iter()
            .all(|of| of["role"] == "client" && of["peer"] == scene.address.as_str()),
        "{seen:?}"
    );
    let pids: BTreeSet<_> = seen.iter().map(|of| of["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    // A new tracer knows whom to watch.
    agent.hook("panic/tracer");
    eventually(PATIENCE, "there is another", || {
        let actors = agent.admin("/api/v1/actors");
        let actors = actors["actors"].as_array().unwrap();
        actors
            .iter()
            .any(|row| row["actor"] == "tracer" && row["restarts"] == 1 && row["state"] == "running")
    });
    pause(Duration::from_secs(1));
    let mut of_server = Tap::of(&agent, scene.server.id());
    scene.ask("/", 1);
    assert_eq!(of_server.exchanges(1)[0]["code"], 200);
    tap.interrupt();
    of_server.interrupt();
    eventually(PATIENCE, "nobody is watched", || watched(&agent) == 0.0);
}

#[test]
fn counts_are_the_same_while_taps_come_and_go() {
    const REQUESTS: u64 = 200_000;
    const CONNECTIONS: usize = 8;
    if !(require_root() && require_tool(&["nginx", "ab"])) {
        return;
    }
    let scene = Scene::new();
    let agent = builder().start();
    let (requests, connections) = (REQUESTS.to_string(), CONNECTIONS.to_string());
    let url = scene.url("/");
    let mut load = scene.load(&["ab", "-q", "-k", "-c", &connections, "-n", &requests, &url]);
    eventually(PATIENCE, "it has begun", || {
        counted(&agent, &scene.server, End::Server) > 0
    });
    let mut taps = 0;
    while load.0.try_wait().unwrap().is_none() {
        let ids = [scene.server.id(), scene.client.id()];
        let tap = Tap::of(&agent, ids[taps % 2]);
        let role = ["server", "client"][taps % 2];
        let (mut seen, mut older) = (0, 0);
        while seen < 300 {
            let Ok(line) = tap.lines.recv_timeout(Duration::from_secs(2)) else {
                break;
            };
            assert!(!line.contains(SECRET));
            let of: Value = serde_json::from_str(&line).unwrap();
            if of["event"] == "exchange" {
                assert_eq!((&of["code"], &of["role"]), (&200.into(), &role.into()));
                // Asked before the tap began: at most one on each connection.
                older += usize::from(of["verb"].is_null());
                assert!(of["verb"].is_null() || of["verb"] == "GET", "{of}");
                seen += 1;
            }
        }
        assert!(older <= CONNECTIONS, "{older}");
        tap.interrupt();
        taps += 1;
    }
    assert!(taps >= 3, "{taps}");
    let report = load.output();
    assert!(report.contains("Failed requests:        0"), "{report}");
    expect(&agent, &scene, REQUESTS);
    eventually(PATIENCE, "nobody is watched", || watched(&agent) == 0.0);
}

#[test]
fn who_does_not_read_is_dropped_and_told_and_nobody_else_notices() {
    if !(require_root() && require_tool(&["nginx", "wrk"])) {
        return;
    }
    let scene = Scene::new();
    let agent = builder().start();
    let before = resident_bytes(&agent);
    let url = scene.url("/");
    let load = scene.load(&["wrk", "-t1", "-c8", "-d6s", &url]);
    eventually(PATIENCE, "it has begun", || {
        counted(&agent, &scene.server, End::Server) > 0
    });
    // All taps there may be, and none reads.
    let path = format!("/api/v1/containers{}/tap", scene.server.id());
    let ask = || {
        let mut stream = UnixStream::connect(agent.admin_socket()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let streams: Vec<_> = (0..4).map(|_| ask()).collect();
    eventually(PATIENCE, "all have begun", || count(&agent, "a tap begins") == 4);
    let refused = command(&agent, scene.server.id(), &[]).output().unwrap();
    assert_eq!(
        String::from_utf8(refused.stderr).unwrap(),
        "tarsier: 4 taps run already\n"
    );
    let watch = Stopwatch::start();
    let mut most = 0;
    eventually(PATIENCE, "all are dropped", || {
        most = most.max(resident_bytes(&agent));
        count(&agent, "a tap has ended") == 4
    });
    let took = watch.elapsed();
    eventually(PATIENCE, "nobody is watched", || watched(&agent) == 0.0);
    for mut stream in streams {
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).expect("the stream ends");
        let text = String::from_utf8_lossy(&raw);
        assert!(text.contains("event: exchange\n") && !text.contains(SECRET));
        let (_, last) = text.rsplit_once("event: dropped\ndata: ").expect("it says how many");
        let dropped: Value = serde_json::from_str(last.lines().next().unwrap()).unwrap();
        assert!(dropped["exchanges"].as_u64().unwrap() > 0, "{dropped}");
        assert!(last.contains(r#"{"event":"ended","why":"too_slow"}"#), "{last}");
    }
    // They make room for others.
    Tap::of(&agent, scene.server.id()).interrupt();
    let grown = most.saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more after {took:?}");

    let report = load.output();
    let line = report.lines().find(|line| line.contains(" requests in ")).unwrap();
    let sent: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    pause(Duration::from_secs(3));
    for (group, end) in [(&scene.server, End::Server), (&scene.client, End::Client)] {
        let counted = counted(&agent, group, end);
        assert!((sent..=sent + 8).contains(&counted), "{end:?}: {counted} of {sent}");
    }
}
