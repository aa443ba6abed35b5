//! Against numbers that come from elsewhere: the kernel's own counters, and the sum that must be zero.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};
use tarsier_integration::{
    Agent, Cgroup, Place, Stage, Stopwatch, Traffic, eventually, eventually_some, free_port,
    ledger::{self, Imbalance, balance},
    pause, require_root, require_tool,
};

#[test]
fn connects_against_the_namespaces_own_counters() {
    if !(require_root() && require_tool(&["ip", "nsenter"])) {
        return;
    }
    let stage = Stage::new();
    let (open, closed) = (free_port(), free_port());
    let servers = stage.netns.outside(open).map(|address| address.to_string());
    let [v4, v6] = &servers;
    let _server = stage.server().start(&["serve", v4, v6]);
    let mut unreachable = 0;
    let mut abandoned = 0;
    let text = |addresses: [std::net::SocketAddr; 2]| addresses.map(|address| address.to_string());
    let refused = text(stage.netns.outside(closed));
    for index in 0..2 {
        let run = |words: &[&str]| stage.client().run(words);
        run(&["connect", &servers[index], "--count", "500", "--parallel", "2"]);
        run(&["connect", &refused[index], "--count", "100"]);
        run(&["retry", &refused[index], &servers[index], "--count", "10"]);
        run(&["unspec", &servers[index], &servers[index], "--count", "10"]);
        run(&["timeout", &text(stage.netns.black_hole(open))[index], "--count", "20"]);
        abandoned += run(&["abandon", &text(stage.netns.black_hole(open))[index], "--count", "30"])["failed"]
            .as_u64()
            .unwrap();
        unreachable += run(&["connect", &text(stage.netns.unreachable(open))[index], "--count", "10"])["failed"]
            .as_u64()
            .unwrap();
    }
    let (attempts, failures) = (
        stage.netns.snmp("Tcp", "ActiveOpens"),
        stage.netns.snmp("Tcp", "AttemptFails"),
    );
    assert!(
        attempts > 1_300 && failures > 250,
        "the kernel counts: {attempts} attempts, {failures} failed"
    );
    let ours = |metrics: &tarsier_integration::Metrics| {
        let traffic = Traffic::of(metrics, &[("container_id", stage.client_group.id())]);
        (
            traffic.successful + traffic.failed - unreachable.min(traffic.failed),
            traffic.failed,
        )
    };
    // The kernel does not count as failed what its caller gave up, nor what never became a segment.
    let expected = (attempts, failures + abandoned + unreachable);
    let metrics = stage
        .agent
        .metrics_when(stage.client_group.id(), Duration::from_secs(20), |metrics| {
            ours(metrics) == expected
        });
    let active = Traffic::of(&metrics, &[("container_id", stage.client_group.id())]).active;
    assert_eq!(active, stage.netns.snmp("Tcp", "CurrEstab"));
}

fn forks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("processes "))
        .expect("the kernel counts forks");
    line.trim().parse().unwrap()
}

/// Forks as the kernel and the agent count them, at a moment in which neither moved.
fn quiet_moment(agent: &Agent) -> (u64, u64) {
    eventually_some(
        Duration::from_secs(120),
        "nobody forks for the time of a scrape",
        || {
            let before = forks();
            let observed = agent
                .metrics()
                .value("tarsier_events_observed_total", &[("kind", "process_started")])?;
            (forks() == before).then_some((before, observed as u64))
        },
    )
}

#[test]
fn forks_against_the_kernels_count() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    for kind in ["exec", "fork", "thread"] {
        let (forks, observed) = quiet_moment(&agent);
        assert_eq!(
            Place::new().run(&["storm", "--count", "1000", "--kind", kind])["started"],
            1000
        );
        let (forks_after, observed_after) = quiet_moment(&agent);
        assert!(forks_after - forks >= 1_000);
        assert_eq!(
            observed_after - observed,
            forks_after - forks,
            "while there was a storm of {kind}"
        );
    }
}

/// Waits for a moment at which the books say that nothing is on its way, and they add up.
#[track_caller]
fn expect_balance_at_rest(agent: &Agent) {
    let watch = Stopwatch::start();
    loop {
        let ledger = agent.admin("/api/v1/ledger");
        let at_rest = ledger["kinds"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["in_flight"] == 0);
        let last = match balance(&ledger) {
            Ok(()) if at_rest => return,
            Ok(()) => "still in flight",
            Err(Imbalance::Inconsistent) => "moving",
            Err(Imbalance::Row(row)) => panic!("does not add up: {row}"),
        };
        assert!(
            watch.elapsed() < Duration::from_secs(60),
            "never at rest, {last}: {ledger}"
        );
        pause(Duration::from_millis(20));
    }
}

#[test]
fn the_books_balance_under_load_and_at_rest() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    // Room for all of it: whether a busy machine lets the agent read in time is not the question here.
    let agent = Agent::builder().set("KERNEL__NEWS_RING_BYTES", "16MiB");
    let (stage, port, closed) = (Stage::with(agent), free_port(), free_port());
    let [v4, v6] = stage.netns.outside(port).map(|address| address.to_string());
    let [refused, _] = stage.netns.outside(closed).map(|address| address.to_string());
    let _server = stage
        .server()
        .start(&["serve", &v4, &v6, "--read", "10", "--answer", "10"]);
    let working = AtomicBool::new(true);
    let (mut sampled, mut consistent) = (0, 0);
    let works: [Vec<&str>; 4] = [
        vec!["connect", &v4, "--count", "3000", "--send", "10", "--receive", "10"],
        vec!["connect", &v6, "--count", "3000", "--send", "10", "--receive", "10"],
        vec!["connect", &refused, "--count", "3000"],
        vec!["storm", "--count", "1500"],
    ];
    thread::scope(|scope| {
        let (stage, working) = (&stage, &working);
        let works: Vec<_> = works
            .iter()
            .map(|words| scope.spawn(move || stage.client().run(words)))
            .collect();
        scope.spawn(move || {
            for work in works {
                work.join().expect("the workload ran");
            }
            working.store(false, Relaxed);
        });
        while working.load(Relaxed) {
            sampled += 1;
            match balance(&stage.agent.admin("/api/v1/ledger")) {
                Ok(()) => consistent += 1,
                Err(Imbalance::Inconsistent) => {}
                Err(Imbalance::Row(row)) => panic!("under load, sample {sampled}: {row}"),
            }
        }
    });
    assert!(
        consistent >= 5,
        "of {sampled} samples only {consistent} were consistent"
    );
    expect_balance_at_rest(&stage.agent);
    let metrics = stage.agent.metrics();
    for kind in [
        "process_started",
        "process_exec",
        "process_exited",
        "connection_closed",
        "connection_failed",
        "connection_closed",
    ] {
        assert!(
            metrics.sum("tarsier_events_observed_total", &[("kind", kind)]) > 0.0,
            "nothing observed of {kind}"
        );
        let lost: Vec<_> = metrics
            .all("tarsier_events_dropped_total", &[("kind", kind), ("class", "loss")])
            .collect();
        assert!(
            lost.iter().all(|sample| sample.value == 0.0),
            "there was room: {lost:?}"
        );
    }
}

#[test]
fn one_event_that_nobody_accounts_for_is_noticed() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    expect_balance_at_rest(&agent);
    agent.hook("lose-event");
    // The hook takes the next event that comes.
    Place::new().run(&["storm", "--count", "5"]);
    let unbalanced = || matches!(balance(&agent.admin("/api/v1/ledger")), Err(Imbalance::Row(_)));
    eventually(Duration::from_secs(30), "the books show the hole", unbalanced);
    // It is no passing disorder.
    let mut seen = 0;
    eventually(Duration::from_secs(30), "it stays", || {
        match balance(&agent.admin("/api/v1/ledger")) {
            Ok(()) => panic!("the hole has been papered over"),
            Err(Imbalance::Inconsistent) => {}
            Err(Imbalance::Row(_)) => seen += 1,
        }
        seen == 20
    });
}

#[test]
fn kinds_that_storms_do_not_make() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let observed = |kind| agent.metrics().sum("tarsier_events_observed_total", &[("kind", kind)]);
    let kinds = [
        "cgroup_made",
        "cgroup_moved",
        "cgroup_removed",
        "listen_opened",
        "listen_closed",
    ];
    let before = kinds.map(observed);
    for _ in 0..10 {
        let group = Cgroup::service("short");
        let address = format!("127.0.0.1:{}", free_port());
        drop(Place::new().cgroup(&group).start(&["serve", &address]));
    }
    let floors = [10.0; 5];
    eventually(Duration::from_secs(20), "every kind was observed ten times", || {
        kinds
            .iter()
            .zip(before)
            .zip(floors)
            .all(|((kind, before), floor)| observed(kind) - before >= floor)
    });
    expect_balance_at_rest(&agent);
    let lost = ledger::dropped(ledger::row(&agent.admin("/api/v1/ledger"), "cgroup_made"), |part| {
        part["class"] == "loss"
    });
    assert_eq!(lost, 0);
}
