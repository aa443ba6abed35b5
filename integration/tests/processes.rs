//! Every way in which processes come about, change, move and end: each belongs where it is, counts once, and leaves nothing.
use serde_json::Value;
use std::{fs, os::unix::process::ExitStatusExt as _, path::Path, time::Duration};
use tarsier_integration::{Agent, Cgroup, Place, Running, Traffic, eventually, free_port, ledger, require_root};

const PROCESSES: &str = env!("CARGO_BIN_EXE_processes");
const WORKLOAD: &str = env!("CARGO_BIN_EXE_workload");
const PATIENCE: Duration = Duration::from_secs(20);

fn place(group: &Cgroup) -> Place<'_> {
    Place::new().cgroup(group).program(PROCESSES)
}

fn server() -> (String, Running) {
    let address = format!("127.0.0.1:{}", free_port());
    let server = Place::new().start(&["serve", &address]);
    (address, server)
}

fn ask(agent: &Agent, id: &str) -> Option<Value> {
    agent.ask(&format!("/api/v1/containers{id}")).ok()
}

/// Waits until the container has so many processes.
#[track_caller]
fn expect_processes(agent: &Agent, id: &str, count: u64) -> Value {
    let watch = format!("{id} has {count} processes");
    let mut last = Value::Null;
    eventually(PATIENCE, &watch, || {
        last = ask(agent, id).unwrap_or_default();
        last["processes"] == count || (count == 0 && last.is_null())
    });
    last
}

#[track_caller]
fn expect_balance(agent: &Agent) {
    eventually(PATIENCE, "the books balance", || {
        ledger::balance(&agent.admin("/api/v1/ledger")) == Ok(())
    });
    let lost = agent
        .metrics()
        .sum("tarsier_events_dropped_total", &[("class", "loss")]);
    assert_eq!(lost, 0.0);
}

#[track_caller]
fn expect_connects(agent: &Agent, id: &str, address: &str, successful: u64, active: u64) {
    let expected = Traffic {
        successful,
        active,
        ..Traffic::default()
    };
    expected.expect_of(agent, id, address);
}

/// The new program runs under the pid and the start of the process, whichever thread executed it.
#[test]
fn another_thread_executes_a_program() {
    if !require_root() {
        return;
    }
    let agent = Agent::builder().set("IDENTITY__STANDALONE", "per-process").start();
    let (address, _server) = server();
    let hold = ["thread-exec", WORKLOAD, "hold", &address, "--count", "3"];
    let service = Cgroup::service("thread");
    let holding = place(&service).start(&hold);
    expect_connects(&agent, service.id(), &address, 3, 3);
    let shown = expect_processes(&agent, service.id(), 1);
    assert_eq!((&shown["restarts"], &shown["oom_kills"]), (&0.into(), &0.into()));
    holding.finish();
    expect_processes(&agent, service.id(), 0);
    expect_connects(&agent, service.id(), &address, 3, 0);

    let (address, _server) = server();
    let scope = Cgroup::at(&format!("/user.slice/tarsier-it-{}-thread.scope", std::process::id()));
    let holding = place(&scope).start(&["thread-exec", WORKLOAD, "hold", &address, "--count", "2"]);
    let id = format!("/standalone/workload/{}", holding.pid());
    expect_connects(&agent, &id, &address, 2, 2);
    expect_processes(&agent, &id, 1);
    holding.finish();
    expect_processes(&agent, &id, 0);
    expect_balance(&agent);
}

#[test]
fn a_child_begins_in_another_cgroup() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let (address, _server) = server();
    let (parent, child) = (Cgroup::service("parent"), Cgroup::service("child"));
    let folder = child.unified().to_string_lossy().into_owned();
    let holding = place(&parent).start(&["clone-into", &folder, WORKLOAD, "hold", &address, "--count", "4"]);
    expect_connects(&agent, child.id(), &address, 4, 4);
    expect_processes(&agent, child.id(), 1);
    expect_processes(&agent, parent.id(), 1);
    holding.finish();
    expect_processes(&agent, child.id(), 0);
    expect_processes(&agent, parent.id(), 0);
    expect_balance(&agent);
}

fn enter(folder: &Path, pid: u32) {
    fs::write(folder.join("cgroup.procs"), pid.to_string()).expect("the group is ours");
}

#[test]
fn processes_move() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let groups = ["a", "b", "c"].map(Cgroup::service);
    let [a, b, c] = &groups;
    let (address, _server) = server();
    // In the unified hierarchy.
    let holding = Place::new().cgroup(a).start(&["hold", &address, "--count", "2"]);
    expect_processes(&agent, a.id(), 1);
    enter(b.unified(), holding.pid());
    expect_processes(&agent, b.id(), 1);
    expect_processes(&agent, a.id(), 0);
    // Its connections stay with whoever made them.
    expect_connects(&agent, a.id(), &address, 2, 2);
    holding.finish();
    expect_processes(&agent, b.id(), 0);

    // In those of v1 alone.
    let roaming = Place::new().start(&["idle"]);
    for to in [b, c, a] {
        if to.legacy().next().is_none() {
            break;
        }
        to.legacy().for_each(|folder| enter(folder, roaming.pid()));
        expect_processes(&agent, to.id(), 1);
        let others = [a, b, c].into_iter().filter(|other| other.id() != to.id());
        others.for_each(|other| drop(expect_processes(&agent, other.id(), 0)));
    }
    roaming.finish();
    [a, b, c]
        .iter()
        .for_each(|group| drop(expect_processes(&agent, group.id(), 0)));
    expect_balance(&agent);
}

/// v1 lets each thread be elsewhere; the process is where its first one is.
#[test]
fn a_thread_moves_on_its_own() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let [home, away] = ["home", "away"].map(Cgroup::service);
    if !tarsier_integration::demand("v1 hierarchy", away.legacy().next().is_some()) {
        return;
    }
    let address = format!("127.0.0.1:{}", free_port());
    let serving = Place::new().cgroup(&home).start(&["serve", &address]);
    expect_processes(&agent, home.id(), 1);
    let moves = || {
        let labels = [("kind", "cgroup_moved"), ("reason", "thread"), ("class", "policy")];
        agent.metrics().sum("tarsier_events_dropped_total", &labels)
    };
    let before = moves();
    let threads = fs::read_dir(format!("/proc/{}/task", serving.pid())).expect("it runs");
    let names = threads.map(|thread| thread.expect("it runs").file_name().into_string().expect("a number"));
    let other = names.into_iter().find(|name| *name != serving.pid().to_string());
    let other = other.expect("it listens in a thread");
    let mut hierarchies = 0.0;
    for folder in away.legacy() {
        fs::write(folder.join("tasks"), &other).expect("the group is ours");
        hierarchies += 1.0;
    }
    eventually(PATIENCE, "the moves were seen", || moves() >= before + hierarchies);
    expect_processes(&agent, home.id(), 1);
    expect_processes(&agent, away.id(), 0);
    serving.finish();
    expect_processes(&agent, home.id(), 0);
    expect_balance(&agent);
}

#[test]
fn children_borrow_the_memory_of_their_parent() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let group = Cgroup::service("vfork");
    let idle = Place::new().cgroup(&group).start(&["idle"]);
    expect_processes(&agent, group.id(), 1);
    let delivered = |kind| {
        let metrics = agent.metrics();
        metrics.sum("tarsier_events_delivered_total", &[("kind", kind)])
    };
    let [started, executed] = ["process_started", "process_exec"].map(delivered);
    assert_eq!(place(&group).run(&["vfork", "200"])["started"], 200);
    eventually(PATIENCE, "all of them were seen", || {
        // And the program itself.
        delivered("process_started") >= started + 201.0 && delivered("process_exec") >= executed + 101.0
    });
    expect_processes(&agent, group.id(), 1);
    idle.finish();
    expect_processes(&agent, group.id(), 0);
    expect_balance(&agent);
}

#[test]
fn a_first_thread_ends_before_the_others() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let (address, _server) = server();
    let group = Cgroup::service("headless");
    let running = place(&group).start(&["headless", &address, "5"]);
    expect_connects(&agent, group.id(), &address, 5, 0);
    expect_processes(&agent, group.id(), 1);
    // An agent that comes later finds it, too.
    let later = Agent::start();
    expect_processes(&later, group.id(), 1);
    running.finish();
    for agent in [&agent, &later] {
        expect_processes(agent, group.id(), 0);
        expect_balance(agent);
    }
}

/// Some after its first look at /proc and before its programs are attached.
#[test]
fn processes_begin_while_the_agent_starts() {
    if !require_root() {
        return;
    }
    let group = Cgroup::service("meanwhile");
    let agent = Agent::builder().spawn();
    let mut started = Vec::new();
    while !agent.get("/readyz").is_ok_and(|answer| answer.status == 200) {
        let shell = Place::new().cgroup(&group).program("/bin/sh");
        started.push(shell.start(&["-c", "echo ready; read line; echo null"]));
    }
    expect_processes(&agent, group.id(), started.len() as u64);
}

/// The kernel gives a pid again after thousands of others; whoever may choose them does so at once.
#[test]
fn a_pid_is_used_twice_at_once() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let (address, _server) = server();
    let groups = ["first", "second"].map(Cgroup::service);
    let [first, second] = groups.each_ref().map(|group| group.unified().to_string_lossy());
    let mut fastest = u64::MAX;
    for _ in 0..20 {
        let report = Place::new()
            .program(PROCESSES)
            .run(&["twice", &address, &first, "3", &second, "5"]);
        fastest = fastest.min(report["gap_us"].as_u64().expect("a number"));
    }
    assert!(fastest < 10_000, "never twice within a tick: {fastest} us");
    for (group, connects) in groups.iter().zip([60, 100]) {
        let labels = [("container_id", group.id()), ("destination", &address)];
        agent.metrics_when(group.id(), PATIENCE, |metrics| {
            Traffic::of(metrics, &labels).successful == connects
        });
        expect_processes(&agent, group.id(), 0);
    }
    expect_balance(&agent);
}

#[test]
fn a_service_is_restarted() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let group = Cgroup::service("again");
    let restarts = || {
        let labels = [("container_id", group.id())];
        agent.metrics().value("container_restarts_total", &labels)
    };
    for round in 0..3 {
        let idle = Place::new().cgroup(&group).start(&["idle"]);
        // Those come and go, and are younger than the first.
        Place::new().cgroup(&group).run(&["storm", "--count", "20"]);
        eventually(PATIENCE, "the restart is counted", || {
            restarts() == Some(f64::from(round))
        });
        tarsier_integration::pause(Duration::from_millis(1200));
        assert_eq!(restarts(), Some(f64::from(round)));
        idle.finish();
        expect_processes(&agent, group.id(), 0);
    }
    expect_balance(&agent);
}

/// What v1's own book of the cgroup says.
fn killed_by_the_book(group: &Cgroup) -> u64 {
    let folder = group.legacy().find(|folder| folder.join("memory.oom_control").exists());
    let text = fs::read_to_string(folder.expect("asked before").join("memory.oom_control")).expect("the group is ours");
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|number| number.parse().ok())
        .expect("a kernel that counts")
}

#[test]
fn the_kernel_kills_for_a_limit_of_v1() {
    let v1 = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    if !(require_root() && tarsier_integration::demand("v1 memory cgroup", v1)) {
        return;
    }
    let agent = Agent::start();
    for (how, words) in [
        ("alone", &["eat", "200"][..]),
        ("threads", &["eat", "200", "threads"]),
        ("headless", &["eat", "200", "headless"]),
        ("shared", &["eat", "200", "shared"]),
    ] {
        let group = Cgroup::service(how);
        let limit = group.legacy().map(|folder| folder.join("memory.limit_in_bytes"));
        let limit = limit.into_iter().find(|file| file.exists()).expect("asked above");
        fs::write(limit, "33554432").expect("the group is ours");
        let kill = || {
            let status = place(&group)
                .command(PROCESSES)
                .args(words)
                .status()
                .expect("it starts");
            assert_eq!(status.signal(), Some(libc::SIGKILL), "{how}: {status}");
        };
        for kills in 1..=2 {
            kill();
            assert_eq!(killed_by_the_book(&group), kills, "{how}");
            let labels = [("container_id", group.id())];
            agent.metrics_when(group.id(), PATIENCE, |metrics| {
                metrics.value("container_oom_kills_total", &labels) == Some(kills as f64)
            });
            expect_processes(&agent, group.id(), 0);
        }
        // What ends by itself, or is killed by somebody else, is none.
        let fed = place(&group)
            .command(PROCESSES)
            .args(["eat", "4"])
            .status()
            .expect("it starts");
        assert!(fed.success(), "{fed}");
        Place::new().cgroup(&group).start(&["idle"]).kill();
        eventually(PATIENCE, "all have ended", || group.processes().is_empty());
        expect_processes(&agent, group.id(), 0);
        assert_eq!(ask(&agent, group.id()).expect("it is known")["oom_kills"], 2, "{how}");
    }
    expect_balance(&agent);
}
