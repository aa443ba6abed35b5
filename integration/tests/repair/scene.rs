//! The load: services that connect without end, some who are refused, and connections that stay.
use super::LONG;
use serde_json::Value;
use std::thread;
use tarsier_integration::{Agent, Cgroup, Netns, Place, Running, Traffic, eventually, free_port};

pub(super) const HELD: u64 = 10;

pub(super) fn container(agent: &Agent, group: &Cgroup) -> Value {
    agent
        .ask(&format!("/api/v1/containers{}", group.id()))
        .unwrap_or_default()
}

pub(super) fn listen(agent: &Agent, group: &Cgroup, address: &str) -> Value {
    let container = container(agent, group);
    let listens = container["listens"].as_array().cloned().unwrap_or_default();
    let found = listens.into_iter().find(|listen| listen["address"] == address);
    found.unwrap_or_default()
}

/// One service that connects as fast as it is told to.
pub(super) struct Client {
    pub(super) load: Running,
    pub(super) group: Cgroup,
    pub(super) addresses: Vec<String>,
}

/// Three of those, with somebody who is refused and connections that stay, in a network namespace of their own.
pub(super) struct Scene {
    // In the order in which they may end.
    pub(super) clients: Vec<Client>,
    pub(super) refused: Client,
    held: Running,
    _servers: Vec<Running>,
    pub(super) held_group: Cgroup,
    pub(super) server_group: Cgroup,
    pub(super) netns: Netns,
    pub(super) echo: String,
}

impl Scene {
    /// With so many addresses for each client.
    pub(super) fn new(addresses: usize) -> Self {
        let (netns, server_group, held_group) = (Netns::new(), Cgroup::service("server"), Cgroup::service("held"));
        let address = || netns.inside(free_port())[0].to_string();
        let client = |rate: &str, addresses: Vec<String>| {
            let group = Cgroup::service("client");
            let words = ["rate"].into_iter().chain(addresses.iter().map(String::as_str));
            let words: Vec<_> = words.chain(["--rate", rate]).collect();
            let place = Place::new().netns(&netns).cgroup(&group).program("pressure");
            Client {
                load: place.start(&words),
                group,
                addresses,
            }
        };
        let clients: Vec<_> = (0..3)
            .map(|_| client("1000", (0..addresses).map(|_| address()).collect()))
            .collect();
        let refused = client("200", vec![address()]);
        let echo = address();
        let place = Place::new().netns(&netns).cgroup(&server_group);
        let serve = |client: &Client| {
            let words = ["serve"].into_iter().chain(client.addresses.iter().map(String::as_str));
            place.start(&words.chain(["--read", "16", "--answer", "32"]).collect::<Vec<_>>())
        };
        let mut servers: Vec<_> = clients.iter().map(serve).collect();
        servers.push(place.program("pressure").start(&["echo", &echo]));
        let held = Place::new().netns(&netns).cgroup(&held_group).program("pressure");
        let held = held.start(&["held", &echo, "--count", &HELD.to_string()]);
        Self {
            clients,
            refused,
            held,
            _servers: servers,
            held_group,
            server_group,
            netns,
            echo,
        }
    }

    pub(super) fn load(&mut self, index: usize) {
        for client in &mut self.clients {
            client.load.tell(&format!("to {index}"));
        }
        self.refused.load.tell("to 0");
    }

    /// All are quiet; what they have done to the address of that index.
    pub(super) fn stop(&mut self, index: usize) -> Vec<u64> {
        self.refused.load.tell("pause");
        self.tell("pause", index)
    }

    pub(super) fn asked(&mut self, index: usize) -> Vec<u64> {
        self.tell("ask", index)
    }

    fn tell(&mut self, word: &str, index: usize) -> Vec<u64> {
        let done = self.clients.iter_mut().map(|client| {
            let report = client.load.tell(word);
            assert_eq!(report["broken"], 0, "{report}");
            report["connected"][index].as_u64().expect("a number")
        });
        done.collect()
    }

    /// Every client, and its server, has exactly `done`.
    #[track_caller]
    pub(super) fn expect(&self, agent: &Agent, index: usize, done: &[u64]) {
        for (client, connects) in self.clients.iter().zip(done) {
            let (address, connects) = (&*client.addresses[index], *connects);
            assert!(connects > 100, "there was no load");
            let (sent, received) = (connects * 16, connects * 32);
            let expected = Traffic {
                successful: connects,
                sent,
                received,
                ..Traffic::default()
            };
            expected.expect_of(agent, client.group.id(), address);
            eventually(LONG, "the server's side is the same", || {
                let at = listen(agent, &self.server_group, address);
                (at["accepted"].as_u64(), at["active"].as_i64()) == (Some(connects), Some(0))
                    && (at["sent_bytes"].as_u64(), at["received_bytes"].as_u64()) == (Some(received), Some(sent))
            });
        }
    }

    #[track_caller]
    pub(super) fn expect_refused(&mut self, agent: &Agent) {
        let report = self.refused.load.tell("ask");
        let failed = report["failed"][0].as_u64().expect("a number");
        assert!(failed > 10, "there was no load: {report}");
        let expected = Traffic {
            failed,
            ..Traffic::default()
        };
        expected.expect_of(agent, self.refused.group.id(), &self.refused.addresses[0]);
    }

    /// `bytes` each way by all of them since the agent, or its registry, has known them.
    #[track_caller]
    pub(super) fn expect_held(&self, agent: &Agent, bytes: u64) {
        let expected = Traffic {
            active: HELD,
            sent: bytes,
            received: bytes,
            ..Traffic::default()
        };
        expected.expect_of(agent, self.held_group.id(), &self.echo);
        eventually(LONG, "the server's side is the same", || {
            let at = listen(agent, &self.server_group, &self.echo);
            (at["active"].as_u64(), at["received_bytes"].as_u64()) == (Some(HELD), Some(bytes))
        });
    }

    pub(super) fn send(&mut self, bytes: u64) -> u64 {
        self.held.tell(&format!("send {bytes}"))["sent"]
            .as_u64()
            .expect("a number")
    }

    pub(super) fn storm(&self, group: &Cgroup, count: &str) {
        let place = Place::new().cgroup(group);
        thread::scope(|scope| {
            for kind in ["fork", "exec"] {
                scope.spawn(move || place.run(&["storm", "--count", count, "--kind", kind]));
            }
        });
    }
}
