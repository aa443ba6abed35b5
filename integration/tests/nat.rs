//! Connections whose destination is changed on the way count under both addresses: where they were made to, and where they
//! went. Exactly, whatever they lived: the servers themselves say how many came to each.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tarsier_integration::{
    Agent, Cgroup, Metrics, Netns, Place, Running, free_port, pause, require_root, require_tool,
};

const CONNECTS: &str = "container_net_tcp_successful_connects_total";
const ACTIVE: &str = "container_net_tcp_active_connections";
const SENT: &str = "container_net_tcp_bytes_sent_total";
const PATIENCE: Duration = Duration::from_secs(20);
const SERVICE: &str = "10.96.77.1:80";

/// client -> router -> server, each a network namespace. Behind the service's address are two servers.
struct Scene {
    client: Netns,
    router: Netns,
    _server: Netns,
    group: Cgroup,
    port: u16,
    backends: Vec<Running>,
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {}", arguments.join(" "));
}

fn name(netns: &Netns) -> String {
    let path = netns.path();
    Path::new(&path).file_name().unwrap().to_str().unwrap().to_owned()
}

fn inside(netns: &Netns, program: &str, arguments: &[&str]) {
    let netns = format!("--net={}", netns.path());
    run("nsenter", &[&[netns.as_str(), program], arguments].concat());
}

/// A pair of links between two of them, with the router's addresses at the even end.
fn link(one: &Netns, ours: &str, other: &Netns, theirs: &str) {
    // The router has two of them.
    let (device, peer) = ("nat", format!("nat-{}", ours.replace('.', "-")));
    let peer = peer.as_str();
    let (from, to) = (name(one), name(other));
    run(
        "ip",
        &[
            "link", "add", "name", device, "netns", &from, "type", "veth", "peer", "name", peer, "netns", &to,
        ],
    );
    for (netns, device, address) in [(&from, device, ours), (&to, peer, theirs)] {
        run(
            "ip",
            &["-n", netns, "addr", "add", &format!("{address}/24"), "dev", device],
        );
        run("ip", &["-n", netns, "link", "set", device, "up"]);
    }
}

impl Scene {
    fn new() -> Option<Self> {
        if !(require_root() && require_tool(&["ip", "nsenter", "nft", "iptables"])) {
            return None;
        }
        let (client, router, server) = (Netns::new(), Netns::new(), Netns::new());
        link(&client, "10.99.1.2", &router, "10.99.1.1");
        link(&server, "10.99.2.2", &router, "10.99.2.1");
        for (netns, router) in [(&client, "10.99.1.1"), (&server, "10.99.2.1")] {
            inside(netns, "ip", &["route", "add", "default", "via", router]);
        }
        inside(&router, "sh", &["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
        let port = free_port();
        let backends = [0, 1].map(|number| {
            let address = format!("10.99.2.2:{}", port + number);
            let words = ["serve", &address, "--read", "7", "--answer", "10"];
            Place::new().netns(&server).start(&words)
        });
        Some(Self {
            client,
            router,
            _server: server,
            group: Cgroup::service("nat"),
            port,
            backends: backends.into(),
        })
    }

    fn backend(&self, number: u16) -> String {
        format!("10.99.2.2:{}", self.port + number)
    }

    fn nft(&self, netns: &Netns, hook: &str) {
        let rules = format!(
            "table ip nat {{\n chain c {{\n type nat hook {hook} priority -100\n ip daddr 10.96.77.1 tcp dport 80 dnat \
             to 10.99.2.2 : numgen inc mod 2 map {{ 0 : {}, 1 : {} }}\n }}\n }}\n",
            self.port,
            self.port + 1
        );
        let mut nft = Command::new("nsenter")
            .args([&format!("--net={}", netns.path()), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
    }

    fn place(&self) -> Place<'_> {
        Place::new().cgroup(&self.group).netns(&self.client)
    }

    fn connect(&self, to: &str, count: u32) {
        let count = count.to_string();
        let report = self.place().run(&[
            "connect",
            to,
            "--count",
            &count,
            "--send",
            "7",
            "--receive",
            "10",
            "--parallel",
            "4",
        ]);
        assert_eq!(
            (&report["failed"], &report["connected"].to_string()),
            (&0.into(), &count),
            "{report}"
        );
    }

    fn of<'a>(&'a self, destination: &'a str, actual: &'a str) -> [(&'a str, &'a str); 3] {
        [
            ("container_id", self.group.id()),
            ("destination", destination),
            ("actual_destination", actual),
        ]
    }

    fn connects(&self, metrics: &Metrics) -> f64 {
        metrics.sum(CONNECTS, &[("container_id", self.group.id())])
    }

    /// What each server says of itself, at its end.
    fn accepted(&mut self) -> Vec<u64> {
        let reports = self.backends.drain(..).map(Running::finish);
        reports.map(|report| report["connected"].as_u64().unwrap()).collect()
    }

    /// Connections to the service alone, however they were seen.
    fn exact(mut self, agent: &Agent, count: f64) {
        agent.metrics_when(&format!("{count} connects"), PATIENCE, |metrics| {
            self.connects(metrics) == count
        });
        // Longer than two passes: what would be counted twice, would be by now.
        pause(Duration::from_secs(3));
        let metrics = agent.metrics();
        let accepted = self.accepted();
        for (number, accepted) in accepted.iter().enumerate() {
            let labels = self
                .of(SERVICE, &self.backend(number as u16))
                .map(|(k, v)| (k.to_owned(), v.to_owned()));
            let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(metrics.value(CONNECTS, &labels), Some(*accepted as f64), "{accepted:?}");
            assert_eq!(metrics.value(SENT, &labels), Some(7.0 * *accepted as f64));
        }
        assert!(accepted.iter().all(|n| *n > 0), "{accepted:?}");
        assert_eq!(self.connects(&metrics), accepted.iter().sum::<u64>() as f64);
        assert_eq!(metrics.all(CONNECTS, &[("container_id", self.group.id())]).count(), 2);
        assert!(agent.feature("conntrack").ok());
    }
}

/// As kube-proxy does for processes of the host, or in a pod a sidecar.
#[test]
fn a_service_of_the_clients_own_namespace() {
    let Some(scene) = Scene::new() else { return };
    scene.nft(&scene.client, "output");
    let agent = Agent::start();
    scene.connect(SERVICE, 1000);
    scene.exact(&agent, 1000.0);
}

/// As for a pod: its namespace knows nothing of it, the host's does.
#[test]
fn a_service_of_the_host() {
    let Some(scene) = Scene::new() else { return };
    if std::fs::read_link("/proc/1/ns/net").is_ok() {
        // Then the machine's own namespace is the host's, and its rules are not this test's to change.
        return writeln!(std::io::stderr(), "SKIPPED: the first process is to be seen").unwrap();
    }
    scene.nft(&scene.router, "prerouting");
    let agent = Agent::builder().set("HOST__NETNS", &scene.router.path()).start();
    scene.connect(SERVICE, 1000);
    scene.exact(&agent, 1000.0);
}

#[test]
fn a_service_by_iptables() {
    let Some(scene) = Scene::new() else { return };
    let at = |number: u16| scene.backend(number);
    for (number, extra) in [
        (
            0,
            &["-m", "statistic", "--mode", "nth", "--every", "2", "--packet", "0"][..],
        ),
        (1, &[]),
    ] {
        let to = at(number);
        let rule = [
            "-t",
            "nat",
            "-A",
            "OUTPUT",
            "-p",
            "tcp",
            "-d",
            "10.96.77.1",
            "--dport",
            "80",
        ];
        inside(
            &scene.client,
            "iptables",
            &[&rule[..], extra, &["-j", "DNAT", "--to-destination", &to]].concat(),
        );
    }
    let agent = Agent::start();
    scene.connect(SERVICE, 500);
    scene.exact(&agent, 500.0);
}

/// Open ones, before and after the agent came, and what goes where it was sent.
#[test]
fn long_ones_and_direct_ones() {
    let Some(scene) = Scene::new() else { return };
    scene.nft(&scene.client, "output");
    let direct = scene.backend(0);
    let hold = |to: &str, count: &str| scene.place().start(&["hold", to, "--count", count, "--send", "7"]);
    let older = hold(SERVICE, "4");
    let agent = Agent::start();
    let newer = hold(SERVICE, "6");
    let straight = hold(&direct, "3");
    scene.connect(&direct, 50);
    let second = scene.backend(1);
    let expected = [
        (scene.of(SERVICE, &direct), 5.0, 3.0),
        (scene.of(SERVICE, &second), 5.0, 3.0),
        (scene.of(&direct, &direct), 3.0, 53.0),
    ];
    let metrics = agent.metrics_when("all are open", PATIENCE, |metrics| {
        expected.iter().all(|(labels, active, connects)| {
            metrics.value(ACTIVE, labels) == Some(*active) && metrics.value(CONNECTS, labels) == Some(*connects)
        })
    });
    assert_eq!(metrics.all(ACTIVE, &[("container_id", scene.group.id())]).count(), 3);
    for held in [older, newer, straight] {
        held.finish();
    }
    let metrics = agent.metrics_when("none is open", PATIENCE, |metrics| {
        metrics.sum(ACTIVE, &[("container_id", scene.group.id())]) == 0.0
    });
    assert_eq!(scene.connects(&metrics), 59.0);
}

/// All namespaces' entries are in one table of the kernel: what is asked for is found in it, whatever else there is.
#[test]
fn a_table_of_half_a_million() {
    // In each of two namespaces.
    const FLOWS: u32 = 250_000;
    const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
    let Some(scene) = Scene::new() else { return };
    let number = |text: &[u8]| str::from_utf8(text).unwrap().trim().parse::<u32>().unwrap();
    if number(&std::fs::read(LIMIT).unwrap()) < FLOWS + 10_000 {
        // Raising it would be for the whole machine.
        return writeln!(std::io::stderr(), "SKIPPED: {LIMIT} is too small").unwrap();
    }
    scene.nft(&scene.client, "output");
    let rules = "add table ip track; add chain ip track c { type filter hook forward priority 0; }; \
                 add rule ip track c ct state new counter";
    inside(&scene.router, "nft", &[rules]);
    for netns in [&scene.client, &scene.router] {
        let longer = "echo 600 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
        inside(netns, "sh", &["-c", longer]);
    }
    let flows = FLOWS.to_string();
    scene.place().run(&["datagrams", "10.99.2.2:1", "--count", &flows]);
    let count = |netns: &Netns| {
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        let cat = Command::new("nsenter")
            .args([&format!("--net={}", netns.path()), "cat", path])
            .output();
        number(&cat.unwrap().stdout)
    };
    let counts = [count(&scene.client), count(&scene.router)];
    // Some find no room on the way.
    assert!(counts[0] >= FLOWS && counts[1] >= FLOWS / 10 * 9, "{counts:?}");
    let agent = Agent::start();
    scene.connect(SERVICE, 1000);
    scene.exact(&agent, 1000.0);
}

/// Nobody asks, and nothing is lost for it.
#[test]
fn switched_off() {
    let Some(scene) = Scene::new() else { return };
    scene.nft(&scene.client, "output");
    let agent = Agent::builder().set("CONNTRACK__ENABLED", "false").start();
    scene.connect(SERVICE, 100);
    let labels = scene.of(SERVICE, SERVICE);
    agent.metrics_when("all under the one address", PATIENCE, |metrics| {
        metrics.value(CONNECTS, &labels) == Some(100.0)
    });
    assert_eq!(agent.feature("conntrack").state, "off");
}

/// One destination is asked about once, and then no more.
#[test]
fn the_kernel_is_rarely_asked() {
    let Some(scene) = Scene::new() else { return };
    let agent = Agent::start();
    let direct = scene.backend(0);
    scene.connect(&direct, 2000);
    let metrics = agent.metrics_when("all", PATIENCE, |metrics| scene.connects(metrics) == 2000.0);
    scene.connect(&direct, 2000);
    let before = metrics.sum("tarsier_conntrack_lookups_total", &[]);
    let metrics = agent.metrics_when("all", PATIENCE, |metrics| scene.connects(metrics) == 4000.0);
    let asked = metrics.sum("tarsier_conntrack_lookups_total", &[]) - before;
    assert!(asked < 20.0, "{asked}");
}
