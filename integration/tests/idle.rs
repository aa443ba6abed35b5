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
