//! A ring that is far too small: details are lost and said to be, counts are not.
use std::time::Duration;
use tarsier_integration::{
    Agent, Stage, Traffic, eventually, free_port,
    ledger::{Imbalance, balance},
    require_root, require_tool,
};

#[test]
fn a_tiny_ring_loses_news_and_no_counts() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    let agent = Agent::builder()
        .set("KERNEL__NEWS_RING_BYTES", "4096")
        .set("KERNEL__DRAIN_INTERVAL", "1s");
    let (stage, port, closed) = (Stage::with(agent), free_port(), free_port());
    let addresses = stage.netns.outside(port).map(|address| address.to_string());
    let [v4, v6] = &addresses;
    let [refused, _] = stage.netns.outside(closed).map(|address| address.to_string());
    let _server = stage
        .server()
        .start(&["serve", v4, v6, "--read", "100", "--answer", "200"]);
    for address in &addresses {
        let exchange = [
            "--count",
            "2000",
            "--send",
            "100",
            "--receive",
            "200",
            "--parallel",
            "2",
        ];
        assert_eq!(
            stage.client().run(&[&["connect", address], &exchange[..]].concat())["connected"],
            2_000
        );
    }
    assert_eq!(
        stage.client().run(&["connect", &refused, "--count", "500"])["failed"],
        500
    );
    stage.client().run(&["storm", "--count", "500"]);
    for address in &addresses {
        let expected = Traffic {
            successful: 2_000,
            sent: 200_000,
            received: 400_000,
            ..Traffic::default()
        };
        stage.expect(address, &expected);
    }
    stage.expect(
        &refused,
        &Traffic {
            failed: 500,
            ..Traffic::default()
        },
    );
    let metrics = stage.agent.metrics();
    let sum = |labels: &[(&str, &str)]| metrics.sum("tarsier_events_dropped_total", labels);
    assert!(
        sum(&[("reason", "ring_full"), ("class", "loss")]) > 0.0,
        "a start or an exit cannot be made up for"
    );
    assert!(
        sum(&[("reason", "deferred"), ("class", "policy")]) > 0.0,
        "a count comes with the next pass"
    );
    let row = stage.agent.feature("news_ring");
    assert!(row.state == "degraded" && !row.reason.is_empty(), "{row:?}");
    eventually(Duration::from_secs(30), "the books balance", || {
        match balance(&stage.agent.admin("/api/v1/ledger")) {
            Ok(()) => true,
            Err(Imbalance::Inconsistent) => false,
            Err(Imbalance::Row(row)) => panic!("does not add up: {row}"),
        }
    });
    // What opens and stays open while the ring is full is active, and no longer once it is closed.
    let second = free_port();
    let [held_at, _] = stage.netns.outside(second).map(|address| address.to_string());
    let _keeper = stage.server().start(&["serve", &held_at, "--keep"]);
    let held = stage.client().start(&["hold", &held_at, "--count", "200"]);
    stage.expect(
        &held_at,
        &Traffic {
            successful: 200,
            active: 200,
            ..Traffic::default()
        },
    );
    drop(held);
    stage.expect(
        &held_at,
        &Traffic {
            successful: 200,
            ..Traffic::default()
        },
    );
}
