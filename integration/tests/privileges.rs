//! Rights and files that are missing: the agent stays, says which and why, and goes on when they come back.
use std::{fs, path::Path, process::Command, time::Duration};
use tarsier_integration::{
    Agent, Cgroup, Feature, Place, Traffic, binary, eventually, free_port, require_root, require_tool,
};

const LONG: Duration = Duration::from_secs(20);

/// The rows of `/readyz` that are not as they should be.
fn complaints(agent: &Agent) -> Vec<Feature> {
    agent.features().into_iter().filter(|row| !row.ok()).collect()
}

fn features(agent: &Agent) -> Vec<String> {
    complaints(agent).into_iter().map(|row| row.name).collect()
}

/// It is up and says why something is missing, each time with a reason, on both faces.
#[track_caller]
fn assert_alive_and_honest(agent: &Agent, expected: &[&str]) {
    let found = complaints(agent);
    for feature in expected {
        assert!(
            found.iter().any(|row| row.name == *feature),
            "{feature} is said to work: {found:?}"
        );
    }
    let metrics = agent.metrics();
    assert_eq!(metrics.value("node_agent_info", &[]), Some(1.0));
    for row in &found {
        assert!(!row.reason.is_empty(), "no reason: {row:?}");
        let labels = [
            ("feature", row.name.as_str()),
            ("state", row.state.as_str()),
            ("reason", row.reason.as_str()),
        ];
        assert_eq!(metrics.value("tarsier_feature_state", &labels), Some(1.0), "{row:?}");
    }
    let log = agent.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Connects of a fresh service are counted: the whole way works.
#[track_caller]
fn assert_counts(agent: &Agent) {
    let (group, address) = (Cgroup::service("after"), format!("127.0.0.1:{}", free_port()));
    let _server = Place::new().start(&["serve", &address]);
    assert_eq!(
        Place::new().cgroup(&group).run(&["connect", &address, "--count", "20"])["connected"],
        20
    );
    Traffic {
        successful: 20,
        ..Traffic::default()
    }
    .expect_of(agent, group.id(), &address);
}

/// What this machine does not have even for root.
fn baseline() -> Vec<String> {
    let agent = Agent::start();
    let found = features(&agent);
    assert_counts(&agent);
    found
}

#[test]
fn without_capabilities() {
    if !(require_root() && require_tool(&["setpriv"])) {
        return;
    }
    let usual = baseline();
    let kernel = ["process_start", "process_exit", "tcp_state", "totals"];
    // CAP_SYS_ADMIN would stand in for both.
    for (dropped, expected) in [("-bpf,-sys_admin", &kernel[..]), ("-perfmon,-sys_admin", &kernel)] {
        let agent = Agent::builder()
            .wrapped_in(&["setpriv", &format!("--bounding-set={dropped}")])
            .spawn();
        eventually(LONG, "it answers", || agent.get("/readyz").is_ok());
        eventually(LONG, "it has tried", || {
            expected
                .iter()
                .all(|feature| features(&agent).iter().any(|row| row == feature))
        });
        assert_alive_and_honest(&agent, expected);
        let row = agent.feature("tcp_state");
        assert!(row.hint.contains("CAP_"), "it names what to add: {row:?}");
        let (time, status) = agent.stop();
        assert!(
            status.success() && time < Duration::from_secs(2),
            "{status} after {time:?}"
        );
    }
    let agent = Agent::builder()
        .wrapped_in(&["setpriv", "--bounding-set=-sys_ptrace"])
        .start();
    assert_alive_and_honest(&agent, &[]);
    assert_counts(&agent);
    // Other people's namespaces and roots are what it is for; nothing else suffers.
    let more: Vec<_> = features(&agent)
        .into_iter()
        .filter(|row| !usual.contains(row))
        .collect();
    assert!(
        more.iter()
            .all(|row| ["host_netns", "host_files", "proc"].contains(&row.as_str())),
        "{more:?}"
    );
}

/// How many of the agent's threads go before others (SCHED_RR in proc_pid_stat(5)).
fn of_priority(agent: &Agent) -> usize {
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("it runs");
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let policy = |stat: &String| Some(stat.rsplit_once(") ")?.1.split(' ').nth(38)?.to_owned());
    stats.filter(|stat| policy(stat).as_deref() == Some("2")).count()
}

/// Where the machine gives root none of it either, only the words are the same.
#[test]
fn one_thread_goes_before_others_if_it_may() {
    if !(require_root() && require_tool(&["setpriv", "chrt"])) {
        return;
    }
    let machine_may = Command::new("chrt")
        .args(["--rr", "1", "true"])
        .status()
        .unwrap()
        .success();
    let usual = Agent::start();
    if machine_may {
        eventually(LONG, "the row says so", || usual.feature("realtime").ok());
        eventually(LONG, "one thread has it", || of_priority(&usual) == 1);
    }
    let off = Agent::builder().set("KERNEL__REALTIME_PERCENT", "0").start();
    let row = off.feature("realtime");
    assert_eq!((row.state.as_str(), row.reason.as_str()), ("off", "configured"));
    assert_eq!(of_priority(&off), 0);
    drop((usual, off));
    let agent = Agent::builder()
        .wrapped_in(&["setpriv", "--bounding-set=-sys_nice"])
        .start();
    eventually(LONG, "it has tried", || {
        agent.feature("realtime").reason == "no_permission"
    });
    let row = agent.feature("realtime");
    assert!(row.state == "off" && row.hint.contains("CAP_SYS_NICE"), "{row:?}");
    assert_eq!(of_priority(&agent), 0);
    assert!(agent.log().contains("real-time priority is refused"), "{}", agent.log());
    assert_counts(&agent);
}

#[test]
fn the_first_process_is_out_of_sight_or_not() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let row = agent.feature("host_netns");
    let readable = fs::read_link("/proc/1/ns/net").is_ok();
    assert_eq!(row.ok(), readable, "{row:?}");
    assert!(readable || row.hint.contains("/proc/1"), "{row:?}");
    // A file of the host's namespace stands in.
    let agent = Agent::builder().set("HOST__NETNS", "/proc/self/ns/net").start();
    assert!(agent.feature("host_netns").ok(), "{:?}", agent.feature("host_netns"));
    assert_counts(&agent);
}

/// A command of `unshare --mount`, that runs `script` and then becomes the agent.
fn in_own_mounts(script: &str) -> Vec<String> {
    let script = format!("set -e; {script}; exec \"$@\"");
    [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn inside_mounts_of(agent: &Agent, words: &[&str]) {
    let target = agent.pid().to_string();
    let status = Command::new("nsenter")
        .args(["-t", &target, "-m"])
        .args(words)
        .status()
        .expect("nsenter runs");
    assert!(status.success(), "{words:?} in the agent's mounts: {status}");
}

#[test]
fn without_type_information_until_it_comes() {
    if !(require_root() && require_tool(&["unshare", "nsenter"])) {
        return;
    }
    assert!(
        Path::new("/sys/kernel/btf/vmlinux").exists(),
        "this kernel has none at all"
    );
    let wrapper = in_own_mounts("mount -t tmpfs none /sys/kernel/btf");
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let agent = Agent::builder()
        .set("KERNEL__RETRY_INTERVAL", "1s")
        .wrapped_in(&wrapper)
        .spawn();
    eventually(LONG, "it answers", || agent.get("/readyz").is_ok());
    eventually(LONG, "it misses btf", || {
        features(&agent).iter().any(|row| row == "btf")
    });
    assert_alive_and_honest(&agent, &["btf", "tcp_state"]);
    assert!(
        agent.feature("btf").hint.contains("/sys/kernel/btf"),
        "{:?}",
        agent.feature("btf")
    );
    inside_mounts_of(&agent, &["umount", "/sys/kernel/btf"]);
    eventually(LONG, "it has recovered", || {
        agent.feature("btf").ok() && agent.feature("tcp_state").ok()
    });
    assert_counts(&agent);
    let blind = agent.metrics().sum("tarsier_blind_seconds_total", &[]);
    assert!(blind > 0.5, "it was blind for more than {blind} s");
}

#[test]
fn tracefs_is_not_needed() {
    if !(require_root() && require_tool(&["unshare"])) {
        return;
    }
    let hide = "for d in /sys/kernel/tracing /sys/kernel/debug; do mount -t tmpfs none $d; done";
    let wrapper = in_own_mounts(hide);
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let usual = baseline();
    let agent = Agent::builder().wrapped_in(&wrapper).start();
    assert_eq!(features(&agent), usual);
    assert_counts(&agent);
}

#[test]
fn a_proc_that_hides_processes_until_it_does_not() {
    if !(require_root() && require_tool(&["unshare", "nsenter", "setpriv"])) {
        return;
    }
    // Nobody, with what the programs need and without CAP_SYS_PTRACE.
    let wanted = "+bpf,+perfmon,+net_admin";
    let drop_to_nobody = format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps={wanted} --ambient-caps={wanted} --bounding-set=-sys_ptrace"
    );
    let script = format!("mount -t proc -o hidepid=4 proc /proc; set -- {drop_to_nobody} \"$@\"");
    let wrapper = in_own_mounts(&script);
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let builder = Agent::builder()
        .set("KERNEL__RETRY_INTERVAL", "1s")
        .set("GC__INTERVAL", "1s");
    std::os::unix::fs::chown(builder.folder(), Some(65534), Some(65534)).expect("root may");
    let agent = builder.wrapped_in(&wrapper).spawn();
    assert!(fs::metadata(binary()).is_ok());
    eventually(LONG, "it answers", || agent.get("/readyz").is_ok());
    eventually(LONG, "it sees what is hidden", || {
        features(&agent).iter().any(|row| row == "proc")
    });
    assert_alive_and_honest(&agent, &["proc"]);
    let row = agent.feature("proc");
    assert!(
        row.hint.contains("hidepid") || row.reason.contains("hidepid"),
        "it says what hides them: {row:?}"
    );
    inside_mounts_of(&agent, &["umount", "-l", "/proc"]);
    eventually(LONG, "it has recovered", || agent.feature("proc").ok());
    assert_counts(&agent);
}
