//! Passes over the totals, where they have much to show, and where what they look at changes under them.
use std::time::Duration;
use tarsier_integration::{Agent, Stage, Traffic, eventually, free_port, pause, require_root, require_tool};

fn ready() -> bool {
    require_root() && require_tool(&["ip", "nsenter"])
}

/// Longer than two passes: what would be counted twice, would be by now.
const TWO_PASSES: Duration = Duration::from_millis(2500);

/// A pass of more rows than the kernel hands over at once.
#[test]
fn thousands_of_open_connections_are_counted_once_each() {
    const OPEN: u64 = 3_000;
    if !ready() {
        return;
    }
    let (stage, port) = (Stage::new(), free_port());
    let address = stage.netns.outside(port)[0].to_string();
    let server = stage
        .server()
        .start(&["serve", &address, "--read", "100", "--answer", "50", "--keep"]);
    let count = OPEN.to_string();
    let slots = || {
        let metrics = stage.agent.metrics();
        metrics.sum("tarsier_bpf_map_entries", &[("map", "YOUNG")])
    };
    let held = stage
        .client()
        .start(&["hold", &address, "--count", &count, "--send", "100"]);
    eventually(Duration::from_secs(30), "most slots are taken", || slots() > 2_000.0);
    let open = Traffic {
        successful: OPEN,
        active: OPEN,
        sent: 100 * OPEN,
        received: 50 * OPEN,
        ..Traffic::default()
    };
    stage.expect(&address, &open);
    let server_path = format!("/api/v1/containers{}", stage.server_group.id());
    let listen = || stage.agent.admin(&server_path)["listens"][0].clone();
    eventually(Duration::from_secs(20), "the other ends, too", || {
        let at = listen();
        (&at["accepted"], &at["active"]) == (&OPEN.into(), &OPEN.into())
            && (&at["received_bytes"], &at["sent_bytes"]) == (&(100 * OPEN).into(), &(50 * OPEN).into())
    });
    // More ends than there are slots for young connections: the rest began in storage, and an inventory moves those that
    // have slots, which others then get.
    eventually(Duration::from_secs(30), "the slots are free again", || slots() < 100.0);
    pause(TWO_PASSES);
    stage.expect(&address, &open);
    drop(held);
    stage.expect(&address, &Traffic { active: 0, ..open });
    eventually(Duration::from_secs(20), "the other ends end, too", || {
        let at = listen();
        (&at["accepted"], &at["active"]) == (&OPEN.into(), &0.into())
    });
    drop(server);
}

/// Passes over the totals meet sockets that end one connection and begin the next.
#[test]
fn many_connections_of_one_socket_while_passes_look() {
    const TIMES: u64 = 10_000;
    if !ready() {
        return;
    }
    let stage = Stage::with(Agent::builder().set("KERNEL__TOTALS_INTERVAL", "10ms"));
    let [open, other] = [free_port(), free_port()].map(|port| stage.netns.outside(port)[0].to_string());
    let server = stage.server().start(&["serve", &open, &other]);
    let count = TIMES.to_string();
    stage.client().run(&["unspec", &open, &other, "--count", &count]);
    let each = Traffic {
        successful: TIMES,
        ..Traffic::default()
    };
    for address in [&open, &other] {
        stage.expect(address, &each);
    }
    pause(TWO_PASSES);
    for address in [&open, &other] {
        stage.expect(address, &each);
    }
    drop(server);
}
