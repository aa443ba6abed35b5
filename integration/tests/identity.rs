//! Whose connects they are: services, slices, scopes, bare processes, containers without a runtime to ask.
use std::time::Duration;
use tarsier_integration::{Agent, Cgroup, Place, Stopwatch, Traffic, eventually, free_port, pause, require_root};

/// Ten connects by a workload in a cgroup of each path; they must stand under exactly the id beside it.
#[track_caller]
fn check(agent: &Agent, paths_and_ids: &[(String, String)]) {
    for (path, id) in paths_and_ids {
        let group = Cgroup::at(path);
        let address = format!("127.0.0.1:{}", free_port());
        let server = Place::new().start(&["serve", &address]);
        assert_eq!(
            Place::new().cgroup(&group).run(&["connect", &address, "--count", "10"])["connected"],
            10
        );
        Traffic {
            successful: 10,
            ..Traffic::default()
        }
        .expect_of(agent, id, &address);
        drop(server);
    }
}

fn hex(length: usize) -> String {
    let digits = format!("{:08x}{:08x}", std::process::id(), free_port());
    digits.chars().cycle().take(length).collect()
}

#[test]
fn paths_give_ids() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let (name, id) = (format!("tarsier-it-{}", std::process::id()), hex(64));
    let uid = format!("{}-0000-4000-8000-00000000000a", hex(8));
    let short = &id[..12];
    check(
        &agent,
        &[
            (
                format!("/system.slice/{name}.service"),
                format!("/system.slice/{name}.service"),
            ),
            (
                format!("/system.slice/{name}x.service/inner"),
                format!("/system.slice/{name}x.service"),
            ),
            (
                format!("/system.slice/a\\x2d{name}.service"),
                format!("/system.slice/a-{name}.service"),
            ),
            (
                format!("/system.slice/system-{name}.slice/{name}@1.service"),
                format!("/system.slice/system-{name}.slice"),
            ),
            (format!("/docker/{id}"), format!("/docker/{short}")),
            (format!("/system.slice/docker-{id}.scope"), format!("/docker/{short}")),
            (
                format!("/kubepods/burstable/pod{uid}/{id}"),
                format!("/pod/{uid}/{short}"),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{id}.scope",
                    uid.replace('-', "_")
                ),
                format!("/pod/{uid}/{short}"),
            ),
            (format!("/user.slice/{name}.scope"), "/standalone/workload".to_owned()),
            (format!("/system.slice/{name}.scope"), "/standalone/workload".to_owned()),
        ],
    );
}

#[test]
fn a_systemd_in_a_container_is_watched_from_outside() {
    if !require_root() {
        return;
    }
    let root = format!("/tarsier-it-{}-payload", std::process::id());
    let agent = Agent::builder().set("IDENTITY__CGROUP_ROOT", &root).start();
    check(
        &agent,
        &[(
            format!("{root}/system.slice/inner.service"),
            "/system.slice/inner.service".to_owned(),
        )],
    );
}

#[test]
fn bare_processes_one_by_one() {
    if !require_root() {
        return;
    }
    let agent = Agent::builder().set("IDENTITY__STANDALONE", "per-process").start();
    let address = format!("127.0.0.1:{}", free_port());
    let group = Cgroup::at(&format!("/user.slice/tarsier-it-{}-one.scope", std::process::id()));
    let server = Place::new().cgroup(&group).start(&["serve", &address, "--keep"]);
    let clients: Vec<_> = (0..3)
        .map(|_| Place::new().cgroup(&group).start(&["hold", &address, "--count", "4"]))
        .collect();
    for client in &clients {
        let id = format!("/standalone/workload/{}", client.pid());
        agent.metrics_when(&id, Duration::from_secs(20), |metrics| {
            let labels = [("container_id", id.as_str()), ("destination", address.as_str())];
            Traffic::of(metrics, &labels)
                == Traffic {
                    successful: 4,
                    active: 4,
                    ..Traffic::default()
                }
        });
    }
    let listener = format!("/standalone/workload/{}", server.pid());
    agent.metrics_when(&listener, Duration::from_secs(20), |metrics| {
        let labels = [("container_id", listener.as_str()), ("listen_addr", address.as_str())];
        metrics.value("container_net_tcp_listen_info", &labels) == Some(1.0)
    });
}

#[test]
fn bare_processes_left_out() {
    if !require_root() {
        return;
    }
    let agent = Agent::builder().set("IDENTITY__STANDALONE", "off").start();
    let address = format!("127.0.0.1:{}", free_port());
    let group = Cgroup::at(&format!("/user.slice/tarsier-it-{}-off.scope", std::process::id()));
    let _server = Place::new().cgroup(&group).start(&["serve", &address]);
    Place::new().cgroup(&group).run(&["connect", &address, "--count", "10"]);
    let dropped = [
        ("kind", "connection_closed"),
        ("reason", "standalone_off"),
        ("class", "policy"),
    ];
    let metrics = agent.metrics_when("standalone_off", Duration::from_secs(20), |metrics| {
        metrics.sum("tarsier_events_dropped_total", &dropped) >= 10.0
    });
    assert!(
        !metrics
            .samples()
            .iter()
            .any(|sample| sample.label("container_id").starts_with("/standalone/"))
    );
}

#[test]
fn what_lives_shorter_than_the_minimum_age_is_not_shown() {
    if !require_root() {
        return;
    }
    let agent = Agent::builder().set("CONTAINERS__MIN_AGE", "4s").start();
    let (short, long) = (Cgroup::service("short"), Cgroup::service("long"));
    let address = format!("127.0.0.1:{}", free_port());
    let watch = Stopwatch::start();
    let _server = Place::new().cgroup(&long).start(&["serve", &address]);
    Place::new().cgroup(&short).run(&["connect", &address, "--count", "10"]);
    let shown = |id: &str| {
        agent
            .metrics()
            .value("container_info", &[("container_id", id)])
            .is_some()
    };
    assert!(!shown(long.id()) || watch.elapsed() > Duration::from_secs(4));
    eventually(Duration::from_secs(15), "the long-lived one is shown", || {
        shown(long.id())
    });
    assert!(
        watch.elapsed() > Duration::from_secs(3),
        "after {:?} already",
        watch.elapsed()
    );
    // It is known, and its connects are its own.
    eventually(Duration::from_secs(10), "the short-lived one is known", || {
        agent
            .ask(&format!("/api/v1/containers{}", short.id()))
            .is_ok_and(|row| row["destinations"][0]["successful_connects"] == 10)
    });
    // Twice its minimum age after its end.
    while watch.elapsed() < Duration::from_secs(9) {
        assert!(!shown(short.id()), "shown after {:?}", watch.elapsed());
        pause(Duration::from_millis(200));
    }
}
