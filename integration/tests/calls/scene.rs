//! The processes of every row, and what they did.
use crate::{
    ANSWERED, ASKED, Age, COUNT, ROUNDS, Role,
    table::{CALLS, Call, Proof, Twist},
};
use serde_json::Value;
use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};
use tarsier_integration::{Cgroup, Netns, Place, Running, Traffic, eventually, free_port};
use tempfile::TempDir;

/// Where the processes live; the server's addresses are in the namespace.
pub(crate) struct Scene {
    pub(crate) role: Role,
    pub(crate) age: Age,
    netns: Netns,
    client: Cgroup,
    server: Cgroup,
    /// Gets sockets of the measured side in some rows.
    other: Cgroup,
    folder: TempDir,
}

/// One call through one family: the processes of each side, and what they had done when the agent came.
pub(crate) struct Row<'a> {
    pub(crate) call: &'static Call,
    pub(crate) address: SocketAddr,
    client: Vec<Running>,
    server: Vec<Running>,
    pub(crate) owner: &'a Cgroup,
    rounds: u64,
    answered: u64,
    pub(crate) did: Did,
    pub(crate) before: Did,
}

/// The client's bytes, as both sides agree.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Did {
    sent: u64,
    received: u64,
}

impl Scene {
    pub(crate) fn new(role: Role, age: Age) -> Self {
        let netns = Netns::new();
        let status = Place::new()
            .netns(&netns)
            .command("sh")
            .args(["-c", "echo 3 >/proc/sys/net/ipv4/tcp_fastopen"])
            .status();
        assert!(status.unwrap().success(), "TFO for clients and servers");
        let [client, server, other] = ["client", "server", "other"].map(Cgroup::service);
        let folder = tempfile::Builder::new().prefix("tarsier-it-").tempdir().unwrap();
        Self {
            role,
            age,
            netns,
            client,
            server,
            other,
            folder,
        }
    }

    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let possible =
            |call: &&Call| self.role == Role::Server || !matches!(call.twist, Twist::Forked | Twist::Inherited);
        let calls = CALLS.iter().filter(possible);
        calls
            // Each has a port of its own, by which its counts are told from the others'.
            .flat_map(|call| [0, 1].map(|family| self.row(call, self.netns.inside(free_port())[family])))
            .collect()
    }

    fn row(&self, call: &'static Call, address: SocketAddr) -> Row<'_> {
        let mut listen = address;
        let measured = self.role;
        let (mut client, mut server) = (self.arguments(Role::Client), self.arguments(Role::Server));
        let mut client_place = Place::new().program("calls").cgroup(&self.client);
        let mut server_place = Place::new().program("calls").cgroup(&self.server).netns(&self.netns);
        let mut adopter = None;
        let (mine, its) = match measured {
            Role::Client => (&mut client, &mut server),
            Role::Server => (&mut server, &mut client),
        };
        mine.extend(call.measured.iter().map(ToString::to_string));
        its.extend(call.peer.iter().map(ToString::to_string));
        let total = ROUNDS + u64::from(self.age == Age::Older);
        let mut option = |name: &str, value: String| mine.extend([name.to_owned(), value]);
        match call.twist {
            Twist::None => {}
            Twist::Wildcard => listen.set_ip(Ipv6Addr::UNSPECIFIED.into()),
            Twist::HalfClosed => {
                option("--half", total.to_string());
                // The end of one direction shall not be the end of the connection.
                its.push("--keep".to_owned());
            }
            Twist::Elsewhere if measured == Role::Client => {
                client_place = client_place.netns(&self.netns);
                option("--netns", format!("/proc/{}/ns/net", std::process::id()));
            }
            Twist::Elsewhere => {
                server_place = Place::new().program("calls").cgroup(&self.server);
                option("--netns", self.netns.path());
            }
            Twist::Passed => {
                let path = self.channel(address);
                let mut words = vec!["adopt".to_owned(), path.clone()];
                words.extend(self.arguments(measured));
                let place = Place::new().program("calls").cgroup(&self.other);
                adopter = Some(start(place, &words));
                option("--pass", path);
            }
            Twist::Forked => option("--fork", doors(&self.other)),
            Twist::Inherited => option("--exec", doors(&self.other)),
        }
        server.splice(0..0, ["serve".to_owned(), listen.to_string()]);
        client.splice(0..0, ["connect".to_owned(), address.to_string()]);
        let mut server = vec![start(server_place, &server)];
        let mut client = vec![start(client_place, &client)];
        match measured {
            Role::Client => client.extend(adopter),
            Role::Server => server.extend(adopter),
        }
        Row {
            call,
            address,
            client,
            server,
            owner: self.owner(call),
            rounds: 0,
            answered: 0,
            did: Did::default(),
            before: Did::default(),
        }
    }

    /// Who is to have it all. A connection stays with the one that opened it; of an older one only its holder is known.
    fn owner(&self, call: &Call) -> &Cgroup {
        match (self.role, call.twist) {
            (Role::Client, Twist::Passed) if self.age == Age::Older => &self.other,
            (Role::Client, _) => &self.client,
            (Role::Server, Twist::Passed | Twist::Forked | Twist::Inherited) => &self.other,
            (Role::Server, _) => &self.server,
        }
    }

    fn arguments(&self, role: Role) -> Vec<String> {
        let (send, receive) = match role {
            Role::Client => (ASKED, ANSWERED),
            Role::Server => (ANSWERED, ASKED),
        };
        let mut words = vec![
            "--send".to_owned(),
            send.to_string(),
            "--receive".to_owned(),
            receive.to_string(),
        ];
        if role == Role::Client {
            words.extend(["--count".to_owned(), COUNT.to_string()]);
        }
        words
    }

    fn channel(&self, address: SocketAddr) -> String {
        let path = self.folder.path().join(address.port().to_string());
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn groups(&self) -> [&Cgroup; 3] {
        [&self.client, &self.server, &self.other]
    }
}

fn start(place: Place<'_>, words: &[String]) -> Running {
    place.start(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn doors(group: &Cgroup) -> String {
    let doors: Vec<_> = group
        .doors()
        .into_iter()
        .map(|door| door.into_string().unwrap())
        .collect();
    doors.join(":")
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.call.name, self.address)
    }
}

impl Row<'_> {
    /// One round, until both sides say the same of it.
    pub(crate) fn round(&mut self, command: &str) {
        if self.rounds == 0 && self.client.len() > 1 {
            self.client[0].tell("give");
        }
        self.rounds += 1;
        self.answered += u64::from(command == "round");
        let asked = self.client.last_mut().unwrap().tell(command);
        let planned = Did {
            sent: COUNT * ASKED * self.rounds,
            received: COUNT * ANSWERED * self.answered,
        };
        assert_eq!(Did::of(&asked, "sent", "received"), planned, "the client of {self}");
        let server = self.server.last_mut().unwrap();
        let mut answered = Value::Null;
        // The client may have the last byte before the server's call has returned.
        eventually(Duration::from_secs(5), "the server did what the client did", || {
            answered = server.tell("report");
            Did::of(&answered, "received", "sent") == planned
        });
        for (key, proof) in [("fast", Proof::Fast), ("multipath", Proof::Multipath)] {
            let expected = if self.call.proof == proof { COUNT } else { 0 };
            assert_eq!(asked[key], expected, "{key}, the client of {self}");
            assert_eq!(answered[key], expected, "{key}, the server of {self}");
        }
        self.did = planned;
    }

    pub(crate) fn close(&mut self) {
        // The one who listens ends last: a connection that he has not seen the end of would be reset.
        for client in self.client.drain(..) {
            client.finish();
        }
        let server = self.server.last_mut().unwrap();
        eventually(Duration::from_secs(5), "the server has seen the end", || {
            server.tell("report")["ended"] == COUNT
        });
        for server in self.server.drain(..) {
            server.finish();
        }
    }

    /// Since the agent came, as the measured side sees it; and how many connections ended.
    pub(crate) fn expected(&self, scene: &Scene) -> (Traffic, u64) {
        let asked = self.did.sent - self.before.sent;
        let answered = self.did.received - self.before.received;
        let (sent, received) = match scene.role {
            Role::Client => (asked, answered),
            Role::Server => (answered, asked),
        };
        let open = !self.server.is_empty();
        let traffic = Traffic {
            successful: if scene.age == Age::Newer { COUNT } else { 0 },
            failed: 0,
            active: if open { COUNT } else { 0 },
            sent,
            received,
        };
        // Of the client's end there is no count by destination in the metrics.
        let closes = if open || scene.role == Role::Client { 0 } else { COUNT };
        (traffic, closes)
    }
}

impl Did {
    fn of(report: &Value, sent: &str, received: &str) -> Self {
        let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("no {key}: {report}"));
        Self {
            sent: number(sent),
            received: number(received),
        }
    }
}
