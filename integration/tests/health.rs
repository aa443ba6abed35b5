//! Retransmits, round-trip times and the ends of connections, of the container and side that they belong to.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Write as _, net::SocketAddr, process::Stdio, time::Duration};
use tarsier_integration::{
    Agent, Cgroup, Metrics, Netns, Place, Running, Stopwatch, eventually, free_port, pause, require_root, require_tool,
};

const RETRANSMITS: &str = "container_net_tcp_retransmits_total";
const CLOSES: &str = "tarsier_container_tcp_closes_total";
const RTT: &str = "tarsier_container_tcp_rtt_seconds";
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

/// A client and a server in one network namespace, whose counters are theirs alone. Their packets take its loopback
/// link but not a loopback address, and can be lost there after the sender has done with them: what a rule drops on
/// the way out, TCP knows to be unsent.
struct Scene {
    agent: Agent,
    netns: Netns,
    client: Cgroup,
    server: Cgroup,
}

impl Scene {
    fn new() -> Self {
        Self {
            agent: Agent::start(),
            netns: Netns::new(),
            client: Cgroup::service("client"),
            server: Cgroup::service("server"),
        }
    }

    fn place<'a>(&'a self, group: &'a Cgroup) -> Place<'a> {
        Place::new().program("calls").cgroup(group).netns(&self.netns)
    }

    fn serve(&self, address: SocketAddr, words: &[&str]) -> Running {
        let address = address.to_string();
        self.place(&self.server)
            .start(&[&["serve", &address, "--receive", "3000", "--send", "5000"], words].concat())
    }

    fn connect(&self, address: SocketAddr, count: u64, words: &[&str]) -> Running {
        let (address, count) = (address.to_string(), count.to_string());
        let usual = [
            "connect",
            &address,
            "--count",
            &count,
            "--send",
            "3000",
            "--receive",
            "5000",
        ];
        self.place(&self.client).start(&[&usual, words].concat())
    }

    /// Only `rule` holds from now on, for packets that come in.
    fn filter(&self, rule: &str) {
        let chain = format!("type filter hook prerouting priority 0\n{rule}\n");
        let rules = format!("flush ruleset\ntable inet loss {{\nchain arriving {{\n{chain}}}\n}}\n");
        let mut nft = Place::new()
            .netns(&self.netns)
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "nft: {rules}");
    }

    fn sysctl(&self, name: &str, value: &str) {
        let write = format!("echo {value} >/proc/sys/net/{name}");
        let mut shell = Place::new().netns(&self.netns).command("sh");
        assert!(shell.args(["-c", &write]).status().unwrap().success(), "{write}");
    }

    fn retransmitted(&self) -> u64 {
        self.netns.snmp("Tcp", "RetransSegs")
    }

    /// Waits until the API's row of `side` for `address` has `value` under `key`.
    #[track_caller]
    fn expect(&self, side: Side, address: SocketAddr, key: &str, value: &Value) {
        let (group, list, name) = match side {
            Side::Client => (&self.client, "destinations", "destination"),
            Side::Server => (&self.server, "listens", "address"),
        };
        let watch = Stopwatch::start();
        loop {
            let container = self.agent.ask(&format!("/api/v1/containers{}", group.id()));
            let container = container.unwrap_or_default();
            let rows = container[list].as_array();
            let row = rows.and_then(|rows| rows.iter().find(|row| row[name] == address.to_string()));
            if row.is_some_and(|row| row[key] == *value) {
                return;
            }
            assert!(
                watch.elapsed() < PATIENCE,
                "{side:?} of {address}: {key} is not {value}: {row:?}"
            );
            pause(Duration::from_millis(100));
        }
    }

    /// Waits until the closes of both containers are those, and no other.
    #[track_caller]
    fn expect_closes(&self, after: &str, expected: &BTreeMap<(Side, &str), u64>) {
        let found = |metrics: &Metrics| {
            let mut found = BTreeMap::new();
            for (side, group) in [(Side::Client, &self.client), (Side::Server, &self.server)] {
                for sample in metrics.all(CLOSES, &[("container_id", group.id())]) {
                    let role = if side == Side::Client { "client" } else { "server" };
                    assert!(
                        sample.value == 0.0 || sample.label("role") == role,
                        "{after}: {side:?} has {sample:?}"
                    );
                    *found.entry((side, sample.label("reason").to_owned())).or_default() += sample.value as u64;
                }
            }
            found.retain(|_, count| *count > 0);
            found
        };
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|((side, reason), count)| ((*side, (*reason).to_owned()), *count))
            .collect();
        let watch = Stopwatch::start();
        loop {
            let found = found(&self.agent.metrics());
            if found == expected {
                return;
            }
            assert!(
                watch.elapsed() < PATIENCE,
                "{after}: {expected:?} is right, the agent has {found:?}"
            );
            pause(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn expect_retransmits(&self, address: SocketAddr, expected: u64) {
        let text = address.to_string();
        let labels = [("container_id", self.client.id()), ("destination", text.as_str())];
        self.agent.metrics_when(&text, PATIENCE, |metrics| {
            metrics.sum(RETRANSMITS, &labels) as u64 == expected
        });
        self.expect(Side::Client, address, "retransmits", &expected.into());
    }
}

fn ready() -> bool {
    require_root() && require_tool(&["ip", "nsenter", "nft"])
}

/// Payload from or to `port` arrives in three of four cases; handshakes, bare acknowledgements and ends always do.
fn lossy(direction: &str, port: u16) -> String {
    format!("tcp {direction} {port} meta length > 500 numgen random mod 4 == 0 drop")
}

#[test]
fn retransmits_are_those_of_the_namespace() {
    const CONNECTIONS: u64 = 15;
    if !ready() {
        return;
    }
    let scene = Scene::new();
    // By whom most is lost. The other has to send some again, too, when what it waits for is a lost acknowledgement.
    for direction in ["dport", "sport"] {
        let port = free_port();
        for address in scene.netns.inside(port) {
            let before = scene.retransmitted();
            scene.filter(&lossy(direction, port));
            let mut server = scene.serve(address, &[]);
            let mut client = scene.connect(address, CONNECTIONS, &[]);
            for _ in 0..3 {
                client.tell("round");
            }
            let client = client.finish();
            eventually(PATIENCE, "the server has seen every end", || {
                server.tell("report")["ended"] == CONNECTIONS
            });
            let server = server.finish();
            let retransmits = |report: &Value| report["retransmits"].as_u64().unwrap();
            let (of_client, of_server) = (retransmits(&client), retransmits(&server));
            let sum = scene.retransmitted() - before;
            assert_eq!(of_client + of_server, sum, "the sockets know what the namespace counts");
            assert!(sum > 0, "a quarter of the packets is lost");
            scene.expect_retransmits(address, of_client);
            scene.expect(Side::Server, address, "retransmits", &of_server.into());
        }
    }
    let metrics = scene.agent.metrics();
    let server = [("container_id", scene.server.id())];
    assert_eq!(metrics.sum(RETRANSMITS, &server), 0.0, "only connects have series");
}

#[test]
fn retransmits_of_connects_that_fail_count() {
    const CONNECTS: u64 = 10;
    if !ready() {
        return;
    }
    let (scene, port) = (Scene::new(), free_port());
    scene.sysctl("ipv4/tcp_syn_retries", "1");
    scene.filter(&format!("tcp dport {port} drop"));
    for address in scene.netns.inside(port) {
        let before = scene.retransmitted();
        let (text, count) = (address.to_string(), CONNECTS.to_string());
        let place = Place::new().cgroup(&scene.client).netns(&scene.netns);
        let report = place.run(&["connect", &text, "--count", &count, "--parallel", &count]);
        assert_eq!(report["errors"]["TimedOut"], CONNECTS, "{report}");
        let retransmitted = scene.retransmitted() - before;
        assert!(retransmitted >= CONNECTS, "each SYN is sent again: {retransmitted}");
        scene.expect_retransmits(address, retransmitted);
    }
}

/// One way to end, and what it is for each side.
struct End {
    name: &'static str,
    client: (&'static [&'static str], &'static str),
    server: (&'static [&'static str], &'static str),
    by: By,
}

#[derive(PartialEq)]
enum By {
    Client,
    Server,
    /// Nobody answers the client any more.
    ClientsTimeout,
    ServersTimeout,
}

const ENDS: [End; 6] = [
    End {
        name: "the client closes",
        client: (&[], "local"),
        server: (&[], "peer"),
        by: By::Client,
    },
    End {
        name: "the server closes",
        client: (&[], "peer"),
        server: (&["--hang-up", "1"], "local"),
        by: By::Server,
    },
    End {
        name: "the client resets",
        client: (&["--abort"], "local"),
        server: (&[], "reset"),
        by: By::Client,
    },
    End {
        name: "the server resets",
        client: (&[], "reset"),
        server: (&["--hang-up", "1", "--abort"], "local"),
        by: By::Server,
    },
    End {
        name: "the client's bytes are lost",
        client: (&["--user-timeout", "500"], "timeout"),
        server: (&[], "local"),
        by: By::ClientsTimeout,
    },
    End {
        name: "the server's bytes are lost",
        client: (&[], "local"),
        server: (&["--user-timeout", "500"], "timeout"),
        by: By::ServersTimeout,
    },
];

#[test]
fn every_close_has_its_reason() {
    const CONNECTIONS: u64 = 3;
    if !ready() {
        return;
    }
    let scene = Scene::new();
    let mut expected: BTreeMap<(Side, &str), u64> = BTreeMap::new();
    for end in &ENDS {
        let port = free_port();
        for address in scene.netns.inside(port) {
            let mut server = scene.serve(address, end.server.0);
            let mut client = scene.connect(address, CONNECTIONS, end.client.0);
            client.tell("round");
            match end.by {
                By::Client => drop(client.finish()),
                By::Server => {
                    client.tell("more");
                    assert_eq!(client.tell("end")["ended"], CONNECTIONS, "{}", end.name);
                }
                By::ClientsTimeout => {
                    scene.filter(&format!("tcp dport {port} drop"));
                    client.tell("more");
                    assert_eq!(client.tell("end")["broken"], CONNECTIONS, "{}", end.name);
                }
                By::ServersTimeout => {
                    scene.filter(&format!("tcp sport {port} drop"));
                    client.tell("more");
                    eventually(PATIENCE, "the server gives up", || {
                        server.tell("report")["broken"] == CONNECTIONS
                    });
                    // Before anything reaches it: what it sends is answered with a reset.
                    client.finish();
                }
            }
            scene.filter("");
            if end.by != By::ClientsTimeout {
                eventually(PATIENCE, "the server has done with them", || {
                    server.tell("report")["ended"] == CONNECTIONS
                });
            }
            server.finish();
            for (side, reason) in [(Side::Client, end.client.1), (Side::Server, end.server.1)] {
                *expected.entry((side, reason)).or_default() += CONNECTIONS;
                let mut closes = json!({ "local": 0, "peer": 0, "reset": 0, "timeout": 0 });
                closes[reason] = CONNECTIONS.into();
                scene.expect(side, address, "closes", &closes);
            }
        }
        scene.expect_closes(end.name, &expected);
    }
}

#[test]
fn every_pass_measures_every_open_socket_once() {
    const CONNECTIONS: u64 = 7;
    if !ready() {
        return;
    }
    let (scene, port) = (Scene::new(), free_port());
    let [v4, v6] = scene.netns.inside(port);
    let servers = [v4, v6].map(|address| scene.serve(address, &[]));
    let mut clients = [v4, v6].map(|address| scene.connect(address, CONNECTIONS, &[]));
    for client in &mut clients {
        client.tell("round");
    }
    let sides = [(scene.client.id(), "client"), (scene.server.id(), "server")];
    let count = |metrics: &Metrics, (id, role)| {
        let labels = [("container_id", id), ("role", role)];
        metrics.sum(&format!("{RTT}_count"), &labels) as u64
    };
    let first = scene.agent.metrics_when(RTT, PATIENCE, |metrics| {
        sides.iter().all(|side| count(metrics, *side) > 0)
    });
    let watch = Stopwatch::start();
    pause(Duration::from_secs(6));
    let last = scene.agent.metrics();
    let seconds = watch.elapsed().as_secs_f64();
    for side in sides {
        let grown = count(&last, side) - count(&first, side);
        assert_eq!(
            grown % (2 * CONNECTIONS),
            0,
            "{side:?}: each socket once a pass, not {grown} in all"
        );
        let passes = (grown / (2 * CONNECTIONS)) as f64;
        assert!(
            (passes - seconds).abs() < 2.0,
            "{side:?}: {passes} passes in {seconds} s"
        );
        let labels = [("container_id", side.0), ("role", side.1)];
        let mean = last.sum(&format!("{RTT}_sum"), &labels) / count(&last, side) as f64;
        assert!(
            mean > 0.0 && mean < 1.0,
            "{side:?}: {mean} s through a link of this machine"
        );
        let all = [labels[0], labels[1], ("le", "+Inf")];
        assert_eq!(last.sum(&format!("{RTT}_bucket"), &all) as u64, count(&last, side));
        let other = if side.1 == "client" { "server" } else { "client" };
        assert_eq!(count(&last, (side.0, other)), 0, "{side:?} has no part as {other}");
    }
    for client in clients {
        client.finish();
    }
    let closed = scene.agent.metrics();
    drop(servers);
    pause(Duration::from_millis(2500));
    let later = scene.agent.metrics();
    // A pass may have been under way when they closed.
    let extra = count(&later, sides[0]) - count(&closed, sides[0]);
    assert!(extra <= 2 * CONNECTIONS, "closed sockets have no round trips: {extra}");
}
