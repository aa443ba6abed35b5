//! The harness watches the agent; this watches the harness. Needs no agent.
use tarsier_integration::{Netns, Place, free_port, require_root, require_tool};

#[test]
fn the_workload_counts_what_it_does() {
    if !(require_root() && require_tool(&["ip", "nsenter"])) {
        return;
    }
    let (netns, port, closed) = (Netns::new(), free_port(), free_port());
    let [v4, v6] = netns.outside(port).map(|address| address.to_string());
    let [refused, _] = netns.outside(closed).map(|address| address.to_string());
    let server = Place::new().start(&["serve", &v4, &v6, "--read", "100", "--answer", "200000"]);
    let client = Place::new().netns(&netns);
    for address in [&v4, &v6] {
        let exchange = [
            "--count",
            "50",
            "--send",
            "100",
            "--receive",
            "200000",
            "--parallel",
            "3",
        ];
        let report = client.run(&[&["connect", address], &exchange[..]].concat());
        assert_eq!(
            (&report["connected"], &report["failed"]),
            (&50.into(), &0.into()),
            "{report}"
        );
        assert_eq!(
            (&report["sent"], &report["received"]),
            (&5_000.into(), &10_000_000.into()),
            "{report}"
        );
    }
    let report = client.run(&["connect", &refused, "--count", "7"]);
    assert_eq!(report["errors"]["ConnectionRefused"], 7, "{report}");
    for unreachable in netns.unreachable(port) {
        let report = client.run(&["connect", &unreachable.to_string(), "--count", "3"]);
        assert_eq!(report["errors"]["NetworkUnreachable"], 3, "{report}");
    }
    for hole in netns.black_hole(port) {
        assert_eq!(
            client.run(&["abandon", &hole.to_string(), "--count", "6"])["errors"]["TimedOut"],
            6
        );
        assert_eq!(
            client.run(&["timeout", &hole.to_string(), "--count", "4"])["errors"]["TimedOut"],
            4
        );
    }
    let report = client.run(&["retry", &refused, &v4, "--count", "2"]);
    assert_eq!(
        (&report["connected"], &report["failed"]),
        (&2.into(), &2.into()),
        "{report}"
    );
    assert_eq!(client.run(&["unspec", &v4, &v4, "--count", "2"])["connected"], 4);
    // Not how many it accepted: it may not have come to the last, which ask nothing of it.
    assert_eq!(server.finish()["received"], 10_000);
    // What the kernel says of the same: an unreachable one is no attempt, an abandoned one does not fail.
    assert_eq!(netns.snmp("Tcp", "ActiveOpens"), 100 + 7 + 20 + 4 + 4);
    assert_eq!(netns.snmp("Tcp", "AttemptFails"), 7 + 8 + 2);
}

#[test]
fn storms_start_what_they_say() {
    for kind in ["exec", "fork", "thread"] {
        assert_eq!(
            Place::new().run(&["storm", "--count", "20", "--kind", kind])["started"],
            20
        );
    }
}

#[test]
fn a_held_connection_lasts_until_it_is_told_to_end() {
    let address = format!("127.0.0.1:{}", free_port());
    let server = Place::new().start(&["serve", &address, "--read", "10", "--keep"]);
    let held = Place::new().start(&["hold", &address, "--count", "3", "--send", "10"]);
    assert_eq!(held.finish()["sent"], 30);
    drop(server);
}
