//! What is told of processes and containers as it happens, and why each belongs where it belongs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, Place, Traffic, binary, eventually, free_port,
    ledger::{Imbalance, balance},
    require_root,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// On a machine that does much else, too, its questions are answered and its ring does not run full.
fn builder() -> AgentBuilder {
    Agent::builder()
        .set("HTTP__SCRAPE_TIMEOUT", "4s")
        .set("KERNEL__NEWS_RING_BYTES", "16MiB")
}

/// `tarsier events --follow --json`, and what it has said so far.
struct Follower {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<Value>,
}

impl Follower {
    /// Returns when it will miss nothing any more.
    fn of(agent: &Agent) -> Self {
        let before = followers(agent);
        let mut child = Command::new(binary())
            .args(["events", "--follow", "--json", "--admin-socket"])
            .arg(agent.admin_socket())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped above"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        eventually(PATIENCE, "it has subscribed", || {
            let ended = child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "it has ended: {ended:?}");
            followers(agent) > before
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Reads until something of what has come so far is `wanted`.
    #[track_caller]
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        while !self.seen.iter().any(&wanted) {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("{what} did not come; {} events did", self.seen.len()));
            self.seen
                .push(serde_json::from_str(&line).expect("each line is an object"));
        }
    }

    /// The events about one container or process, in their order.
    fn about(&self, wanted: impl Fn(&Value) -> bool) -> Vec<&Value> {
        self.seen.iter().filter(|event| wanted(event)).collect()
    }

    /// As Ctrl-C does; the end must be a good one.
    #[track_caller]
    fn interrupt(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is our child");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "after Ctrl-C: {status}");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().expect("it is our child and runs");
            self.child.wait().expect("it is our child");
        }
    }
}

fn followers(agent: &Agent) -> usize {
    let actors = agent.admin("/api/v1/actors");
    actors["registry"]["subscribers"].as_array().map_or(0, Vec::len)
}

fn name(event: &Value) -> &str {
    event["event"].as_str().expect("an event has a name")
}

/// In ticks of the clock, as /proc has it.
fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(19).unwrap().parse().unwrap()
}

#[test]
fn a_service_is_followed_from_its_beginning_to_its_end() {
    if !require_root() {
        return;
    }
    // Whether there is a systemd, and whether it knows the unit, is not to matter.
    let agent = builder()
        .set("GC__INTERVAL", "2s")
        .set("RUNTIMES__SYSTEMD__ENABLED", "false")
        .start();
    let mut follower = Follower::of(&agent);
    let group = Cgroup::service("followed");
    let id = group.id();
    let running = Place::new().cgroup(&group).start(&["idle"]);
    let (pid, ticks) = (running.pid(), start_ticks(running.pid()));
    let here = |event: &Value| event["pid"] == pid && event["container_id"] == id;
    follower.wait_for("its process", here);
    follower.wait_for("that no runtime knows its name", |event| {
        name(event) == "container_identified" && event["container_id"] == id
    });
    running.finish();
    follower.wait_for("the end of its process", |event| {
        name(event) == "process_exited" && event["pid"] == pid
    });
    follower.wait_for("its own end", |event| {
        name(event) == "container_retired" && event["container_id"] == id
    });

    let of_group = follower.about(|event| event["container_id"] == id);
    let names: Vec<_> = of_group.iter().map(|event| name(event)).collect();
    // It has entered the group before it executed anything, but began in that of the test.
    assert_eq!(
        names,
        [
            "container_appeared",
            "process_moved",
            "container_identified",
            "process_exited",
            "container_retired"
        ],
        "{of_group:?}"
    );
    let of_process = follower.about(|event| event["pid"] == pid);
    assert_eq!(name(of_process[0]), "process_started");
    assert_eq!(of_process.last().unwrap()["name"], "workload");
    for event in &of_process {
        let start_ns = event["start_boottime_ns"].as_u64().unwrap();
        assert_eq!(start_ns / 10_000_000, ticks, "{event}");
    }
    follower.interrupt();
    eventually(PATIENCE, "it is forgotten", || followers(&agent) == 0);
}

/// With the cgroup of its first instruction.
#[test]
fn a_process_that_begins_in_a_service_starts_there() {
    if !require_root() {
        return;
    }
    let agent = builder().start();
    let mut follower = Follower::of(&agent);
    let group = Cgroup::service("cloned");
    let id = group.id();
    let folder = group.unified().display().to_string();
    let cloned = Place::new()
        .command(
            std::env::current_exe()
                .unwrap()
                .parent()
                .unwrap()
                .parent()
                .unwrap()
                .join("processes"),
        )
        .args(["clone-into", &folder, "/bin/true"])
        .status()
        .expect("it is built with the crate");
    assert!(cloned.success());
    follower.wait_for("its end", |event| {
        name(event) == "process_exited" && event["container_id"] == id
    });
    let of_group = follower.about(|event| event["container_id"] == id);
    // Whether its name is known before or after its process has ended is up to the runtimes.
    let names = of_group
        .into_iter()
        .map(name)
        .filter(|name| *name != "container_identified");
    let names: Vec<_> = names.collect();
    assert_eq!(names, ["container_appeared", "process_started", "process_exited"]);

    // The agent ends, and says so.
    let (took, status) = agent.stop();
    assert!(
        status.success() && took < Duration::from_secs(5),
        "{status} after {took:?}"
    );
    follower.wait_for("the end of the agent", |event| name(event) == "ended");
    let status = follower.child.wait().expect("it is our child");
    assert!(status.success(), "at the agent's end: {status}");
}

#[test]
fn who_follows_is_told_that_the_registry_begins_anew() {
    if !require_root() {
        return;
    }
    let agent = builder().start();
    let mut follower = Follower::of(&agent);
    let group = Cgroup::service("survivor");
    let running = Place::new().cgroup(&group).start(&["idle"]);
    let (pid, id) = (running.pid(), group.id());
    follower.wait_for("its process", |event| {
        event["pid"] == pid && event["container_id"] == id
    });
    follower.seen.clear();
    agent.hook("panic/registry");
    follower.wait_for("the end of all that was told", |event| name(event) == "restarted");
    follower.wait_for("its process again", |event| {
        name(event) == "process_started" && event["pid"] == pid && event["container_id"] == id
    });
    running.finish();
    follower.wait_for("the end of its process", |event| {
        name(event) == "process_exited" && event["pid"] == pid && event["container_id"] == id
    });
    follower.interrupt();
}

/// A client that asks, and reads when it is told to.
struct Slow(UnixStream);

impl Slow {
    fn of(agent: &Agent) -> Self {
        let before = followers(agent);
        let mut stream = UnixStream::connect(agent.admin_socket()).unwrap();
        stream
            .write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n")
            .unwrap();
        eventually(PATIENCE, "it has subscribed", || followers(agent) > before);
        Self(stream)
    }

    /// All that it is sent, to the end.
    fn read(mut self) -> Vec<Value> {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Vec::new();
        self.0.read_to_end(&mut raw).expect("the stream ends");
        let head = raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let (mut text, mut rest) = (Vec::new(), &raw[head..]);
        loop {
            let end = rest
                .windows(2)
                .position(|window| window == b"\r\n")
                .expect("a chunk has a size");
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if size == 0 {
                break;
            }
            text.extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 2 + size + 2..];
        }
        let text = String::from_utf8(text).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

#[test]
fn a_slow_client_is_dropped_and_told_and_nobody_else_notices() {
    const STORMS: usize = 12;
    if !require_root() {
        return;
    }
    let agent = builder().start();
    let slow = Slow::of(&agent);
    let mut quick = Follower::of(&agent);
    let (group, client) = (Cgroup::service("storm"), Cgroup::service("client"));
    let (id, address) = (group.id(), format!("127.0.0.1:{}", free_port()));
    let server = Place::new().start(&["serve", &address]);
    let storm = ["storm", "--kind", "fork", "--count", "1000"];
    // Its own process and all of its children come and go: to the quick one not one is missing.
    let exits = |follower: &Follower| {
        let ends = |event: &Value| name(event) == "process_exited" && event["container_id"] == id;
        follower.about(ends).len()
    };
    for done in 1..=STORMS {
        Place::new().cgroup(&group).run(&storm);
        // So that it stays a quick one on a busy machine.
        while exits(&quick) < done * 1001 {
            let line = quick.lines.recv_timeout(PATIENCE).expect("more exits come");
            quick.seen.push(serde_json::from_str(&line).unwrap());
        }
        Place::new()
            .cgroup(&client)
            .run(&["connect", &address, "--count", "100"]);
    }
    let expected = Traffic {
        successful: 100 * STORMS as u64,
        ..Traffic::default()
    };
    expected.expect_of(&agent, client.id(), &address);
    drop(server);

    let seen = quick.about(|event| event["container_id"] == id);
    let starts = seen.iter().filter(|event| name(event) == "process_started").count();
    assert_eq!(starts, STORMS * 1000);

    let events = slow.read();
    let (last, before) = events.split_last().unwrap();
    assert_eq!(name(last), "lagged", "{last}");
    assert!(before.iter().all(|event| name(event) != "lagged"));
    let (lost, got) = (last["lost"].as_u64().unwrap() as usize, before.len());
    let got_here = before.iter().filter(|event| event["container_id"] == id).count();
    assert!(lost > 0 && lost >= seen.len() - got_here, "{lost} lost, {got} got");
    // What it got is the beginning, without a gap.
    let same = before.iter().filter(|event| event["container_id"] == id);
    assert!(same.zip(&seen).all(|(slow, quick)| slow == *quick));
    eventually(PATIENCE, "the slow one is forgotten", || followers(&agent) == 1);

    quick.interrupt();
    let metrics = agent.metrics();
    let lost = metrics.all("tarsier_events_dropped_total", &[("class", "loss")]);
    let lost: Vec<_> = lost.filter(|sample| sample.value > 0.0).collect();
    assert!(lost.is_empty(), "{lost:?}");
    eventually(PATIENCE, "the books are in order", || {
        match balance(&agent.admin("/api/v1/ledger")) {
            Ok(()) => true,
            Err(Imbalance::Inconsistent) => false,
            Err(Imbalance::Row(row)) => panic!("{row}"),
        }
    });
}

fn explain(agent: &Agent, words: &[&str]) -> Output {
    Command::new(binary())
        .arg("explain")
        .args(words)
        .arg("--admin-socket")
        .arg(agent.admin_socket())
        .output()
        .expect("the binary runs")
}

#[track_caller]
fn explained(agent: &Agent, subject: &str) -> Value {
    let output = explain(agent, &[subject, "--json"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{subject}: {error}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn why_a_process_belongs_where_it_belongs() {
    if !require_root() {
        return;
    }
    let agent = builder().start();
    let group = Cgroup::service("explained");
    let address = format!("127.0.0.1:{}", free_port());
    let server = Place::new().cgroup(&group).start(&["serve", &address, "--keep"]);
    let bare_group = Cgroup::at(&format!("/user.slice/tarsier-it-{}-bare.scope", std::process::id()));
    let bare = Place::new()
        .cgroup(&bare_group)
        .start(&["hold", &address, "--count", "2"]);
    let expected = Traffic {
        successful: 2,
        active: 2,
        ..Traffic::default()
    };
    expected.expect_of(&agent, "/standalone/workload", &address);

    // A service: without a runtime that answers it is hidden for some seconds.
    let pid = server.pid().to_string();
    eventually(PATIENCE, "it may be seen", || explained(&agent, &pid)["shown"] == true);
    let of = explained(&agent, &pid);
    assert_eq!(
        (&of["container_id"], &of["name"]),
        (&group.id().into(), &"workload".into())
    );
    assert_eq!(
        (&of["cgroup"]["path"], &of["cgroup"]["rule"]),
        (&group.id().into(), &"unified".into())
    );
    let file = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let lines: Vec<_> = of["cgroup"]["file"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert_eq!(lines, file.lines().collect::<Vec<_>>());
    assert_eq!(
        (&of["placed"]["same"], &of["owner"]["rule"]),
        (&true.into(), &"systemd".into())
    );
    assert_eq!(of["filter"]["verdict"], "shown");
    let output = explain(&agent, &[&pid]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with(&format!("container    {}\n", group.id())), "{text}");

    // A bare one.
    let of = explained(&agent, &bare.pid().to_string());
    assert_eq!(of["container_id"], "/standalone/workload");
    assert_eq!(
        (&of["owner"]["rule"], &of["owner"]["is"]),
        (&"users_and_init".into(), &"standalone".into())
    );

    // Both ends of their connection.
    let of = explained(&agent, &address);
    let (connects, listens) = (of["connects"].as_array().unwrap(), of["listens"].as_array().unwrap());
    assert_eq!(connects.len(), 1, "{of}");
    assert_eq!(connects[0]["container_id"], "/standalone/workload");
    assert_eq!(connects[0]["active"], 2);
    // This test has tried whether the port is free.
    let open: Vec<_> = listens.iter().filter(|listen| listen["open"] == true).collect();
    assert!(open.iter().any(|listen| listen["container_id"] == group.id()), "{of}");
    assert_eq!(of["verdicts"][1]["hidden_by"], "loopback_in_container");

    // One that is gone, what cannot be, and the agent itself.
    let gone = bare.pid();
    drop(bare);
    let refused = |subject: &str, why: &str| {
        let output = explain(&agent, &[subject]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("tarsier: {why}\n"));
    };
    eventually(PATIENCE, "its end is known", || {
        let error = explain(&agent, &[&gone.to_string()]).stderr;
        String::from_utf8_lossy(&error).contains("has ended")
    });
    refused(&gone.to_string(), &format!("process {gone} has ended"));
    eventually(PATIENCE, "it is forgotten", || {
        let error = explain(&agent, &[&gone.to_string()]).stderr;
        String::from_utf8_lossy(&error).contains("no process")
    });
    refused("4194304", "no process 4194304");
    refused("2", "2 is a thread of the kernel: those belong to nobody");
    let own = agent.pid();
    refused(
        &own.to_string(),
        &format!("{own} is the agent, which does not watch itself"),
    );
    let nonsense = "\"10.0.0.1\" is neither a pid nor an address with a port, as 10.0.0.1:80 or [::1]:80";
    refused("10.0.0.1", nonsense);
}
