//! Connections that carry nothing: accepted and never used, or left in the backlog. The listener's container has them,
//! whether they are older than the agent or not.
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tarsier_integration::{
    Agent, Cgroup, Netns, Place, Running, Stopwatch, free_port, pause, require_root, require_tool,
};

const CONNECTIONS: u64 = 5;

/// Two of accepting and two of not, of IPv4 and IPv6 each.
struct Scene {
    netns: Netns,
    client: Cgroup,
    server: Cgroup,
}

struct Idle {
    address: SocketAddr,
    client: Running,
    server: Running,
}

impl Scene {
    fn new() -> Self {
        Self {
            netns: Netns::new(),
            client: Cgroup::service("client"),
            server: Cgroup::service("server"),
        }
    }

    fn idle(&self) -> Vec<Idle> {
        let options: [&[&str]; 2] = [&["--receive", "1"], &["--lazy"]];
        let pair = |options: &[&str]| {
            self.netns.inside(free_port()).map(|address| {
                let (text, count) = (address.to_string(), CONNECTIONS.to_string());
                let server = Place::new().cgroup(&self.server).netns(&self.netns);
                let server = server.program("calls").start(&[&["serve", &text], options].concat());
                let client = Place::new().cgroup(&self.client);
                let client = client.start(&["hold", &text, "--count", &count]);
                Idle {
                    address,
                    client,
                    server,
                }
            })
        };
        options.into_iter().flat_map(pair).collect()
    }

    /// Waits until the server's row of `address` has all that `expected` has.
    #[track_caller]
    fn expect(&self, agent: &Agent, address: SocketAddr, expected: &Value) {
        let path = format!("/api/v1/containers{}", self.server.id());
        let watch = Stopwatch::start();
        loop {
            let container = agent.ask(&path).unwrap_or_default();
            let rows = container["listens"].as_array();
            let row = rows.and_then(|rows| rows.iter().find(|row| row["address"] == address.to_string()));
            let expected = expected.as_object().expect("a row");
            if row.is_some_and(|row| expected.iter().all(|(key, value)| row[key] == *value)) {
                return;
            }
            assert!(
                watch.elapsed() < Duration::from_secs(15),
                "{address}: {expected:?} is right, the agent has {row:?}"
            );
            pause(Duration::from_millis(100));
        }
    }

    fn check(&self, agent: &Agent, all: Vec<Idle>, accepted: u64) {
        let open = json!({
            "accepted": accepted, "active": CONNECTIONS, "sent_bytes": 0, "received_bytes": 0,
            "closes": { "local": 0, "peer": 0, "reset": 0, "timeout": 0 },
        });
        for idle in &all {
            self.expect(agent, idle.address, &open);
        }
        // What a later pass takes for another connection, it would have by now.
        pause(Duration::from_millis(2500));
        for idle in all {
            self.expect(agent, idle.address, &open);
            idle.client.finish();
            idle.server.finish();
            self.expect(agent, idle.address, &json!({ "accepted": accepted, "active": 0 }));
        }
    }
}

fn ready() -> bool {
    require_root() && require_tool(&["ip", "nsenter"])
}

#[test]
fn new_connections_that_carry_nothing() {
    if !ready() {
        return;
    }
    let (agent, scene) = (Agent::start(), Scene::new());
    let all = scene.idle();
    scene.check(&agent, all, CONNECTIONS);
}

#[test]
fn connections_older_than_the_agent_that_carry_nothing() {
    if !ready() {
        return;
    }
    let scene = Scene::new();
    let all = scene.idle();
    let agent = Agent::start();
    scene.check(&agent, all, 0);
}

#[test]
fn a_connection_that_waits_to_be_accepted_while_the_agent_starts() {
    const COUNT: u64 = 3;
    if !ready() {
        return;
    }
    let scene = Scene::new();
    let waiting = scene.netns.inside(free_port()).map(|address| {
        let (text, count) = (address.to_string(), COUNT.to_string());
        let place = Place::new().program("calls").cgroup(&scene.server).netns(&scene.netns);
        let server = place.start(&["serve", &text, "--lazy", "--receive", "3000", "--send", "5000"]);
        let place = Place::new().program("calls").cgroup(&scene.client);
        let words = [
            "connect",
            &text,
            "--count",
            &count,
            "--send",
            "3000",
            "--receive",
            "5000",
        ];
        let mut client = place.start(&words);
        // Into the queue of a socket that nobody has yet.
        assert_eq!(client.tell("more")["sent"], 3000 * COUNT);
        (address, client, server)
    });
    let agent = Agent::start();
    for (address, mut client, mut server) in waiting {
        scene.expect(&agent, address, &json!({ "accepted": 0, "active": COUNT }));
        server.tell("accept");
        assert_eq!(client.tell("take")["received"], 5000 * COUNT);
        client.tell("round");
        let open = json!({
            "accepted": 0, "active": COUNT, "sent_bytes": 2 * 5000 * COUNT, "received_bytes": 3000 * COUNT,
        });
        scene.expect(&agent, address, &open);
        client.finish();
        scene.expect(
            &agent,
            address,
            &json!({ "active": 0, "closes": { "local": 0, "peer": COUNT, "reset": 0, "timeout": 0 } }),
        );
        server.finish();
    }
}
