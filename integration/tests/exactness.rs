//! What the workload says it did is what the metrics say, to the last connect and byte.
use std::time::Duration;
use tarsier_integration::{Agent, Cgroup, Place, Stage, Traffic, free_port, pause, require_root, require_tool};

fn ready() -> bool {
    require_root() && require_tool(&["ip", "nsenter"])
}

/// Longer than two passes over the totals: what would be counted twice, would be by now.
const TWO_PASSES: Duration = Duration::from_millis(2500);

#[test]
fn ten_thousand_connects_and_their_bytes() {
    if !ready() {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    let addresses = stage.netns.outside(port).map(|address| address.to_string());
    let [v4, v6] = &addresses;
    let server = stage
        .server()
        .start(&["serve", v4, v6, "--read", "100", "--answer", "3000"]);
    for address in &addresses {
        let exchange = [
            "--count",
            "10000",
            "--send",
            "100",
            "--receive",
            "3000",
            "--parallel",
            "4",
        ];
        let report = stage.client().run(&[&["connect", address], &exchange[..]].concat());
        assert_eq!(
            (&report["connected"], &report["failed"]),
            (&10_000.into(), &0.into()),
            "{report}"
        );
    }
    assert_eq!(server.finish()["received"], 2_000_000);
    let expected = Traffic {
        successful: 10_000,
        sent: 1_000_000,
        received: 30_000_000,
        ..Traffic::default()
    };
    for address in &addresses {
        stage.expect(address, &expected);
    }
    pause(TWO_PASSES);
    for address in &addresses {
        let metrics = stage.expect(address, &expected);
        let labels = [("container_id", stage.client_group.id()), ("destination", address)];
        // One series, whose actual destination is the same without address translation.
        let name = "container_net_tcp_successful_connects_total";
        let series = metrics.all(name, &labels).next().expect("checked above");
        assert_eq!(series.label("actual_destination"), address);
        assert_eq!(series.label("app_id"), "");
        assert_eq!(
            metrics.value("container_net_tcp_active_connections", &labels),
            Some(0.0),
            "said, not left out"
        );
        let seconds = metrics
            .value("container_net_tcp_connection_time_seconds_total", &labels)
            .expect("it is there");
        assert!(
            seconds > 0.0 && seconds < 100.0,
            "ten thousand handshakes in {seconds} s"
        );
    }
    let metrics = stage.agent.metrics();
    let server_id = [("container_id", stage.server_group.id())];
    assert_eq!(
        Traffic::of(&metrics, &server_id),
        Traffic::default(),
        "accepting is not connecting"
    );
    for group in [&stage.client_group, &stage.server_group] {
        assert_eq!(
            metrics.value("container_info", &[("container_id", group.id())]),
            Some(1.0)
        );
    }
}

#[test]
fn refused_connects() {
    if !ready() {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    for address in stage.netns.outside(port).map(|address| address.to_string()) {
        let report = stage
            .client()
            .run(&["connect", &address, "--count", "1000", "--parallel", "2"]);
        assert_eq!(report["errors"]["ConnectionRefused"], 1_000, "{report}");
        stage.expect(
            &address,
            &Traffic {
                failed: 1_000,
                ..Traffic::default()
            },
        );
        pause(TWO_PASSES);
        stage.expect(
            &address,
            &Traffic {
                failed: 1_000,
                ..Traffic::default()
            },
        );
    }
}

#[test]
fn connects_into_a_black_hole() {
    if !ready() {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    for address in stage.netns.black_hole(port).map(|address| address.to_string()) {
        let report = stage.client().run(&["abandon", &address, "--count", "60"]);
        assert_eq!(report["errors"]["TimedOut"], 60, "{report}");
        stage.expect(
            &address,
            &Traffic {
                failed: 60,
                ..Traffic::default()
            },
        );
        let report = stage.client().run(&["timeout", &address, "--count", "40"]);
        assert_eq!(report["errors"]["TimedOut"], 40, "{report}");
        stage.expect(
            &address,
            &Traffic {
                failed: 100,
                ..Traffic::default()
            },
        );
    }
}

#[test]
fn connects_without_a_route() {
    if !ready() {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    for address in stage.netns.unreachable(port).map(|address| address.to_string()) {
        let report = stage.client().run(&["connect", &address, "--count", "10"]);
        assert_eq!(report["errors"]["NetworkUnreachable"], 10, "{report}");
        stage.expect(
            &address,
            &Traffic {
                failed: 10,
                ..Traffic::default()
            },
        );
    }
}

#[test]
fn several_connections_of_one_socket() {
    if !ready() {
        return;
    }
    let (stage, port, closed, second) = (Stage::new(), free_port(), free_port(), free_port());
    let outside = |port| stage.netns.outside(port).map(|address| address.to_string());
    for (((open, refused), other), times) in outside(port)
        .into_iter()
        .zip(outside(closed))
        .zip(outside(second))
        .zip([20, 30])
    {
        let server = stage.server().start(&["serve", &open, &other, "--keep"]);
        let count = times.to_string();
        let report = stage.client().run(&["retry", &refused, &open, "--count", &count]);
        assert_eq!(
            (&report["failed"], &report["connected"]),
            (&times.into(), &times.into()),
            "{report}"
        );
        stage.expect(
            &refused,
            &Traffic {
                failed: times,
                ..Traffic::default()
            },
        );
        stage.expect(
            &open,
            &Traffic {
                successful: times,
                ..Traffic::default()
            },
        );
        // The first connection ends without a close of the socket, the second with one.
        stage.client().run(&["unspec", &open, &other, "--count", &count]);
        stage.expect(
            &open,
            &Traffic {
                successful: 2 * times,
                ..Traffic::default()
            },
        );
        stage.expect(
            &other,
            &Traffic {
                successful: times,
                ..Traffic::default()
            },
        );
        // The same destination again is another connection.
        stage.client().run(&["unspec", &other, &other, "--count", &count]);
        stage.expect(
            &other,
            &Traffic {
                successful: 3 * times,
                ..Traffic::default()
            },
        );
        drop(server);
    }
}

#[test]
fn open_connections_are_active_and_their_bytes_are_seen_before_they_close() {
    if !ready() {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    for address in stage.netns.outside(port).map(|address| address.to_string()) {
        let server = stage
            .server()
            .start(&["serve", &address, "--read", "1000", "--answer", "50", "--keep"]);
        let open = Traffic {
            successful: 25,
            active: 25,
            sent: 25_000,
            received: 1_250,
            ..Traffic::default()
        };
        let held = stage
            .client()
            .start(&["hold", &address, "--count", "25", "--send", "1000"]);
        stage.expect(&address, &open);
        assert_eq!(held.finish()["connected"], 25);
        stage.expect(
            &address,
            &Traffic {
                active: 0,
                ..open.clone()
            },
        );
        // A process that is killed closes nothing itself.
        let held = stage
            .client()
            .start(&["hold", &address, "--count", "25", "--send", "1000"]);
        let doubled = Traffic {
            successful: 50,
            active: 25,
            sent: 50_000,
            received: 2_500,
            failed: 0,
        };
        stage.expect(&address, &doubled);
        held.kill();
        stage.expect(&address, &Traffic { active: 0, ..doubled });
        drop(server);
    }
}

#[test]
fn many_bytes_of_one_connection() {
    const BYTES: u64 = 64 << 20;
    if !ready() {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    let bytes = BYTES.to_string();
    for address in stage.netns.outside(port).map(|address| address.to_string()) {
        let _server = stage
            .server()
            .start(&["serve", &address, "--read", &bytes, "--answer", &bytes]);
        let report = stage
            .client()
            .run(&["connect", &address, "--send", &bytes, "--receive", &bytes]);
        assert_eq!(
            (&report["sent"], &report["received"]),
            (&BYTES.into(), &BYTES.into()),
            "{report}"
        );
        let expected = Traffic {
            successful: 1,
            sent: BYTES,
            received: BYTES,
            ..Traffic::default()
        };
        stage.expect(&address, &expected);
    }
}

#[test]
fn loopback_counts_in_the_hosts_namespace_only() {
    if !ready() {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    let policy = [
        ("kind", "connection_closed"),
        ("reason", "loopback_in_container"),
        ("class", "policy"),
    ];
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let outside = Place::new().cgroup(&stage.client_group);
        let server = stage.server().start(&["serve", &address]);
        assert_eq!(outside.run(&["connect", &address, "--count", "40"])["connected"], 40);
        let seen = Traffic {
            successful: 40,
            ..Traffic::default()
        };
        stage.expect(&address, &seen);
        drop(server);

        let before = stage.agent.metrics().sum("tarsier_events_dropped_total", &policy);
        let server = stage.server().netns(&stage.netns).start(&["serve", &address]);
        assert_eq!(
            stage.client().run(&["connect", &address, "--count", "40"])["connected"],
            40
        );
        drop(server);
        stage
            .agent
            .metrics_when("loopback_in_container", Duration::from_secs(20), |metrics| {
                metrics.sum("tarsier_events_dropped_total", &policy) >= before + 40.0
            });
        stage.expect(&address, &seen);
    }
}

#[test]
fn ephemeral_ports_are_left_out() {
    if !ready() {
        return;
    }
    let stage = Stage::new();
    let dropped = |kind| {
        let labels = [("kind", kind), ("reason", "ephemeral_port"), ("class", "policy")];
        stage.agent.metrics().sum("tarsier_events_dropped_total", &labels)
    };
    let before = dropped("connection_closed");
    // Some port of the range that is free; nobody else is in this namespace.
    let [address, _] = stage.netns.inside(45_000).map(|address| address.to_string());
    let _server = stage.server().netns(&stage.netns).start(&["serve", &address]);
    assert_eq!(
        stage.client().run(&["connect", &address, "--count", "30"])["connected"],
        30
    );
    tarsier_integration::eventually(Duration::from_secs(20), "thirty are left out", || {
        dropped("connection_closed") >= before + 30.0
    });
    stage.expect(&address, &Traffic::default());
    let metrics = stage.agent.metrics();
    assert_eq!(
        metrics
            .all("container_net_tcp_listen_info", &[("listen_addr", &address)])
            .count(),
        0
    );
}

#[test]
fn listens_open_and_close() {
    if !ready() {
        return;
    }
    let (stage, port, wildcard) = (Stage::new(), free_port(), free_port());
    let [v4, v6] = stage.netns.outside(port).map(|address| address.to_string());
    let id = stage.server_group.id();
    let listening = |address: &str| {
        let metrics = stage.agent.metrics();
        let labels = [("container_id", id), ("listen_addr", address), ("proxy", "")];
        metrics.value("container_net_tcp_listen_info", &labels)
    };
    let server = stage
        .server()
        .start(&["serve", &v4, &v6, &format!("0.0.0.0:{wildcard}")]);
    let expanded = stage.netns.outside(wildcard)[0].to_string();
    for address in [&v4, &v6, &expanded] {
        tarsier_integration::eventually(Duration::from_secs(10), "it listens", || {
            listening(address) == Some(1.0)
        });
    }
    assert_eq!(
        listening(&format!("0.0.0.0:{wildcard}")),
        None,
        "a wildcard stands for the addresses of its namespace"
    );
    drop(server);
    for address in [&v4, &v6, &expanded] {
        let closed = || matches!(listening(address), Some(0.0));
        tarsier_integration::eventually(Duration::from_secs(10), "it is closed", closed);
    }
}

#[test]
fn a_process_older_than_the_agent_is_known() {
    if !ready() {
        return;
    }
    let (client, server, port) = (Cgroup::service("old"), Cgroup::service("server"), free_port());
    let address = format!("127.0.0.1:{port}");
    let waiting = Place::new()
        .cgroup(&client)
        .start(&["connect", &address, "--count", "50", "--wait"]);
    let agent = Agent::start();
    let _server = Place::new().cgroup(&server).start(&["serve", &address]);
    assert_eq!(waiting.finish()["connected"], 50);
    Traffic {
        successful: 50,
        ..Traffic::default()
    }
    .expect_of(&agent, client.id(), &address);
}
