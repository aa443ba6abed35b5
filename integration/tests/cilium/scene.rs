//! A client and two servers, and what leads the client to them.
//!
//! Real: the packets' way. They are sent to the service's address and get that of a server where Cilium does it, at the link
//! between the namespaces and before any connection tracking, and the answers get the service's address back: two stateless
//! rules of nft, for IPv4 and IPv6. Made up: the tables, which Cilium would write as it leads a connection. Here they have an
//! entry for each port that the client may get, and the same bit of that port decides for the rules and for them.
use crate::tables::{Connections, Table};
use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
};
use tarsier_integration::{Cgroup, Metrics, Netns, Place, Running, free_port, require_root, require_tool};

pub(crate) const CONNECTS: &str = "container_net_tcp_successful_connects_total";
/// The ports of the client.
const FIRST: u16 = 40_000;
const LAST: u16 = 40_255;
/// The kernel hands out each second port first.
const BIT: u16 = 2;

/// Of one family of addresses.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    pub(crate) client: IpAddr,
    pub(crate) service: SocketAddr,
    server: IpAddr,
}

pub(crate) struct Scene {
    client: Netns,
    server: Netns,
    pub(crate) group: Cgroup,
    pub(crate) v4: Family,
    pub(crate) v6: Family,
    port: u16,
    backends: Vec<Running>,
}

fn family(client: &str, service: &str, server: &str) -> Family {
    Family {
        client: client.parse().unwrap(),
        service: service.parse().unwrap(),
        server: server.parse().unwrap(),
    }
}

fn run(netns: &Netns, words: &[&str]) {
    let netns = format!("--net={}", netns.path());
    let status = Command::new("nsenter").arg(netns).args(words).status().unwrap();
    assert!(status.success(), "{words:?}");
}

pub(crate) fn nft(netns: &Netns, rules: &str) {
    let mut nft = Command::new("nsenter")
        .args([&format!("--net={}", netns.path()), "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

impl Scene {
    pub(crate) fn new() -> Option<Self> {
        if !(require_root() && require_tool(&["ip", "nsenter", "nft"])) {
            return None;
        }
        let (client, server) = (Netns::new(), Netns::new());
        let scene = Self {
            v4: family("10.99.1.2", "10.96.77.1:80", "10.99.1.1"),
            v6: family("fd00:99:1::2", "[fd00:96::77]:80", "fd00:99:1::1"),
            group: Cgroup::service("cilium"),
            port: free_port(),
            backends: Vec::new(),
            client,
            server,
        };
        scene.link();
        scene.translate();
        let ports = format!("echo {FIRST} {LAST} >/proc/sys/net/ipv4/ip_local_port_range");
        run(&scene.client, &["sh", "-c", &ports]);
        let backends = scene.servers();
        Some(Self { backends, ..scene })
    }

    fn link(&self) {
        let path = |netns: &Netns| netns.path().rsplit('/').next().unwrap().to_owned();
        let ip = |words: &str| {
            let status = Command::new("ip").args(words.split(' ')).status().unwrap();
            assert!(status.success(), "ip {words}");
        };
        let (client, server) = (path(&self.client), path(&self.server));
        ip(&format!(
            "link add name lxc0 netns {client} type veth peer name lxc0 netns {server}"
        ));
        for (netns, ends) in [
            (&client, [self.v4.client, self.v6.client]),
            (&server, [self.v4.server, self.v6.server]),
        ] {
            ip(&format!("-n {netns} addr add {}/24 dev lxc0", ends[0]));
            ip(&format!("-n {netns} addr add {}/64 dev lxc0 nodad", ends[1]));
            ip(&format!("-n {netns} link set lxc0 up"));
        }
        for family in [self.v4, self.v6] {
            let (service, server) = (family.service.ip(), family.server);
            ip(&format!("-n {client} route add {service} via {server}"));
        }
    }

    /// At the server's end of the link.
    fn translate(&self) {
        let (mut to, mut from) = (String::new(), String::new());
        for (ip, family) in [("ip", self.v4), ("ip6", self.v6)] {
            let (service, server) = (family.service.ip(), family.server);
            let of_service = family.service.port();
            for (bits, backend) in [(0, self.port), (BIT, self.port + 1)] {
                to += &format!(
                    "{ip} daddr {service} tcp dport {of_service} tcp sport & {BIT} == {bits} \
                     {ip} daddr set {server} tcp dport set {backend}\n"
                );
                from += &format!(
                    "{ip} saddr {server} tcp sport {backend} {ip} saddr set {service} tcp sport set {of_service}\n"
                );
            }
        }
        let hook = |hook: &str, rules: &str| {
            format!("chain {hook} {{\n type filter hook {hook} device \"lxc0\" priority 0\n {rules} }}\n")
        };
        let table = format!(
            "table netdev lb {{\n{}{}}}\n",
            hook("ingress", &to),
            hook("egress", &from)
        );
        nft(&self.server, &table);
    }

    fn servers(&self) -> Vec<Running> {
        let serve = |number: u16| {
            let [v4, v6] = [self.v4, self.v6].map(|family| family.backend(self, number).to_string());
            let words = ["serve", &v4, &v6, "--read", "7", "--answer", "10"];
            Place::new().netns(&self.server).start(&words)
        };
        vec![serve(0), serve(1)]
    }

    /// Has the client's own connection tracking see everything go where it was sent.
    pub(crate) fn track(&self) {
        let rules =
            "table inet track {\n chain c {\n type filter hook output priority 0\n ct state new counter\n }\n }\n";
        nft(&self.client, rules);
    }

    /// From all ports that the client may have.
    pub(crate) fn fill<const K: usize>(&self, family: Family, table: &mut Connections<K>, numbers: [u32; 2]) {
        for port in FIRST..=LAST {
            let backend = usize::from(port & BIT != 0);
            let client = SocketAddr::new(family.client, port);
            table.lead(client, family.service, numbers[backend]);
        }
    }

    pub(crate) fn name<const V: usize>(&self, family: Family, table: &mut Table<4, V>, numbers: [u32; 2]) {
        for number in [0, 1] {
            table.name(numbers[usize::from(number)], family.backend(self, number));
        }
    }

    #[track_caller]
    pub(crate) fn connect(&self, family: Family, count: u32) {
        let (to, count) = (family.service.to_string(), count.to_string());
        let place = Place::new().cgroup(&self.group).netns(&self.client);
        let words = ["connect", &to, "--count", &count, "--send", "7", "--receive", "10"];
        let report = place.run(&words);
        assert_eq!(report["connected"].to_string(), count, "{report}");
    }

    /// Of connections to the service.
    pub(crate) fn counted(&self, metrics: &Metrics, family: Family, actual: SocketAddr) -> f64 {
        let (destination, actual) = (family.service.to_string(), actual.to_string());
        let labels = [
            ("container_id", self.group.id()),
            ("destination", &destination),
            ("actual_destination", &actual),
        ];
        metrics.value(CONNECTS, &labels).unwrap_or_default()
    }

    /// By what stands in `actual_destination`: the servers, and the service itself.
    pub(crate) fn shown(&self, metrics: &Metrics, family: Family) -> [f64; 3] {
        let ends = [family.backend(self, 0), family.backend(self, 1), family.service];
        ends.map(|actual| self.counted(metrics, family, actual))
    }

    pub(crate) fn all(&self, metrics: &Metrics) -> f64 {
        metrics.sum(CONNECTS, &[("container_id", self.group.id())])
    }

    /// What each server has accepted, as it says itself at its end.
    pub(crate) fn accepted(&mut self) -> [f64; 2] {
        let reports: Vec<_> = self.backends.drain(..).map(Running::finish).collect();
        [0, 1].map(|number: usize| reports[number]["connected"].as_f64().unwrap())
    }
}

impl Family {
    pub(crate) fn backend(self, scene: &Scene, number: u16) -> SocketAddr {
        SocketAddr::new(self.server, scene.port + number)
    }
}
