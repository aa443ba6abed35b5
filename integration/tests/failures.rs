//! Parts of the agent are broken on purpose (feature `test-hooks`): the rest goes on, and says what happened.
use std::{collections::BTreeSet, time::Duration};
use tarsier_integration::{
    Agent, Cgroup, Metrics, Place, Stage, Stopwatch, Traffic, Watcher, eventually, free_port, require_root,
    require_tool,
};

const A_SECOND: Duration = Duration::from_secs(1);

fn panics(metrics: &Metrics, actor: &str) -> f64 {
    metrics.sum("tarsier_actor_restarts_total", &[("actor", actor), ("cause", "panic")])
}

/// Kinds of actors that run.
fn actors(agent: &Agent) -> BTreeSet<String> {
    let actors = agent.admin("/api/v1/actors");
    let rows = actors["actors"].as_array().expect("a list").iter();
    // Of a container its id follows.
    rows.filter_map(|row| Some(row["actor"].as_str()?.split(' ').next()?.to_owned()))
        .collect()
}

/// Connects of the client, all of them successful.
#[track_caller]
fn connect(stage: &Stage, address: &str, count: u64) {
    let report = stage.client().run(&["connect", address, "--count", &count.to_string()]);
    assert_eq!(report["connected"], count);
}

#[test]
fn the_tracer_dies_and_no_connection_is_missed() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    let [address, _] = stage.netns.outside(port).map(|address| address.to_string());
    let _server = stage.server().start(&["serve", &address]);
    connect(&stage, &address, 200);
    stage.expect(
        &address,
        &Traffic {
            successful: 200,
            ..Traffic::default()
        },
    );
    let blind = || stage.agent.metrics().sum("tarsier_blind_seconds_total", &[]);
    // It was so until its programs were loaded.
    let blind_before = blind();
    let watcher = Watcher::over(&stage.agent);
    for round in 1..=3_u64 {
        stage.agent.hook("panic/tracer");
        // While nobody reads: the programs stay where they are.
        connect(&stage, &address, 100);
        let expected = Traffic {
            successful: 200 + 100 * round,
            ..Traffic::default()
        };
        stage.expect(&address, &expected);
        stage
            .agent
            .metrics_when("tarsier_actor_restarts", Duration::from_secs(30), |metrics| {
                panics(metrics, "tracer") == round as f64
            });
    }
    watcher.finish();
    assert_eq!(blind(), blind_before, "blind though the programs outlive the tracer");
}

#[test]
fn the_registry_dies_and_is_rebuilt() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    let (stage, port, later) = (Stage::new(), free_port(), free_port());
    let [address, _] = stage.netns.outside(port).map(|address| address.to_string());
    let [second, _] = stage.netns.outside(later).map(|address| address.to_string());
    let _server = stage.server().start(&["serve", &address, "--read", "10", "--keep"]);
    let _other = stage.server().start(&["serve", &second]);
    let held = stage
        .client()
        .start(&["hold", &address, "--count", "15", "--send", "10"]);
    let open = Traffic {
        successful: 15,
        active: 15,
        sent: 150,
        ..Traffic::default()
    };
    stage.expect(&address, &open);
    let watcher = Watcher::over(&stage.agent);
    stage.agent.hook("panic/registry");
    stage
        .agent
        .metrics_when("tarsier_actor_restarts", Duration::from_secs(30), |metrics| {
            panics(metrics, "registry") == 1.0
        });
    // What is still open comes back from the kernel's totals; processes come back from /proc. Counters begin anew from
    // nothing, so that a counter that fell is not taken for one that has grown.
    let labels = [("container_id", stage.client_group.id()), ("destination", &address)];
    stage.agent.metrics_when(&address, Duration::from_secs(20), |metrics| {
        Traffic::of(metrics, &labels)
            == Traffic {
                active: 15,
                ..Traffic::default()
            }
    });
    let listen = [
        ("container_id", stage.server_group.id()),
        ("listen_addr", address.as_str()),
    ];
    stage
        .agent
        .metrics_when("listen_info", Duration::from_secs(20), |metrics| {
            metrics.value("container_net_tcp_listen_info", &listen) == Some(1.0)
        });
    connect(&stage, &second, 100);
    stage.expect(
        &second,
        &Traffic {
            successful: 100,
            ..Traffic::default()
        },
    );
    assert_eq!(held.finish()["connected"], 15);
    stage.expect(&address, &Traffic::default());
    watcher.finish();
}

#[test]
fn a_container_dies_and_the_others_do_not_notice() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    let [address, _] = stage.netns.outside(port).map(|address| address.to_string());
    let _server = stage.server().start(&["serve", &address]);
    let groups: Vec<_> = (0..4)
        .map(|number| Cgroup::service(&format!("client{number}")))
        .collect();
    let connect = |count: &str| {
        for group in &groups {
            Place::new()
                .cgroup(group)
                .netns(&stage.netns)
                .run(&["connect", &address, "--count", count]);
        }
    };
    let counted = |metrics: &Metrics| -> Vec<u64> {
        let of = |group: &Cgroup| Traffic::of(metrics, &[("container_id", group.id()), ("destination", &address)]);
        groups.iter().map(|group| of(group).successful).collect()
    };
    connect("50");
    stage
        .agent
        .metrics_when(&address, Duration::from_secs(20), |metrics| counted(metrics) == [50; 4]);
    let watcher = Watcher::over(&stage.agent);
    // Whichever it is.
    stage.agent.hook("panic/container");
    stage
        .agent
        .metrics_when("tarsier_actor_restarts", Duration::from_secs(30), |metrics| {
            panics(metrics, "container") == 1.0
        });
    connect("70");
    // One may have begun again from nothing; nobody else has lost anything, and all go on.
    stage.agent.metrics_when(&address, Duration::from_secs(20), |metrics| {
        let counts = counted(metrics);
        let reset = counts.iter().filter(|count| **count == 70).count();
        counts.iter().all(|count| [70, 120].contains(count)) && reset <= 1
    });
    watcher.finish();
}

#[test]
fn a_core_that_hangs_is_reported_and_ended() {
    if !require_root() {
        return;
    }
    let mut agent = Agent::builder().set("SUPERVISOR__WATCHDOG", "5s").start();
    // Before that they are with the registry, and nothing is shown of them.
    eventually(Duration::from_secs(20), "containers have actors", || {
        actors(&agent).contains("container")
    });
    agent.hook("block/core?ms=60000");
    let blocked = Stopwatch::start();
    let watch = Stopwatch::start();
    let metrics = agent.metrics();
    assert!(watch.elapsed() < A_SECOND, "/metrics after {:?}", watch.elapsed());
    assert_eq!(metrics.value("node_agent_info", &[]), Some(1.0));
    assert_eq!(metrics.all("tarsier_build_info", &[]).count(), 1);
    assert_eq!(metrics.all("container_info", &[]).count(), 0, "nobody can have said so");
    let late = metrics
        .value("tarsier_scrape_late_containers", &[])
        .expect("it says how many did not answer");
    assert!(late > 0.0, "{late} containers were late");
    eventually(Duration::from_secs(4), "/healthz fails", || {
        agent.get("/healthz").is_ok_and(|response| response.status >= 500)
    });
    let status = agent.wait_for_end(Duration::from_secs(30));
    assert!(
        blocked.elapsed() > Duration::from_secs(3),
        "the watchdog waited {:?} only",
        blocked.elapsed()
    );
    assert_eq!(status.code(), Some(3), "{status}");
    let log = agent.log();
    let about: Vec<_> = log.lines().filter(|line| line.contains("hung")).collect();
    assert_eq!(about.len(), 1, "one line says it:\n{log}");
    assert!(about[0].contains("core"), "it names the thread: {}", about[0]);
    assert!(!log.contains("backtrace"), "{log}");
}

/// The facade and each of its clients; whatever the node has of runtimes.
const OF_RUNTIMES: [&str; 6] = ["containerd", "crio", "docker", "podman", "runtimes", "systemd"];

#[test]
fn whoever_asks_the_runtimes_dies_and_the_rest_does_not_notice() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    let [address, _] = stage.netns.outside(port).map(|address| address.to_string());
    let _server = stage.server().start(&["serve", &address]);
    let watcher = Watcher::over(&stage.agent);
    for (round, actor) in (1..).zip(OF_RUNTIMES) {
        stage.agent.hook(&format!("panic/{actor}"));
        connect(&stage, &address, 50);
        let expected = Traffic {
            successful: 50 * round,
            ..Traffic::default()
        };
        stage.expect(&address, &expected);
        stage
            .agent
            .metrics_when(actor, Duration::from_secs(20), |metrics| panics(metrics, actor) == 1.0);
        eventually(Duration::from_secs(40), "it runs again", || {
            actors(&stage.agent).contains(actor)
        });
    }
    watcher.finish();
}

#[test]
fn no_actor_is_without_such_a_test() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    // Whoever adds one, adds its panic above, or where it is tested. The supervisor's end is the process's.
    let broken = ["conntrack", "container", "fqdn", "registry", "tracer"]
        .into_iter()
        .chain(OF_RUNTIMES);
    let broken: Vec<String> = broken.map(str::to_owned).collect();
    eventually(Duration::from_secs(20), "all actors run", || {
        actors(&agent).is_superset(&broken.iter().cloned().collect())
    });
    assert_eq!(actors(&agent), broken.into_iter().collect());
}

#[test]
fn it_ends_in_order_and_in_time() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let socket = agent.admin_socket();
    let (time, status) = agent.stop();
    assert!(status.success(), "{status}");
    assert!(time < Duration::from_secs(2), "it took {time:?}");
    assert!(!socket.exists(), "the admin socket is left behind");
}
