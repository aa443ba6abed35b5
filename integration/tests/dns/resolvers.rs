//! Resolvers of many makes, each by its own count.
use crate::{
    PATIENCE, is_ready,
    scene::{Rows, Scene, asked, rows, script},
};
use tarsier_integration::{Agent, require_tool};

const TIMES: u64 = 20;

/// One process for each.
fn again(command: &str) -> String {
    format!("for number in $(seq {TIMES}); do {command} || exit 1; done")
}

/// By its own words: A, AAAA, PTR, MX, a quarter each.
fn by_node(scene: &Scene, server: &str, expected: &mut Rows) {
    let report = scene.client().program(&script("resolve.js")).run(&[server, "80"]);
    for (kind, name, status) in [
        ("A", "one.example", "ok"),
        ("AAAA", "two.example", "ok"),
        ("PTR", "IP.in-addr.arpa", "ok"),
        ("MX", "nope.example", "nxdomain"),
    ] {
        let count = report[kind].as_u64().unwrap();
        assert_eq!(count, 20, "{report}");
        *expected.entry(asked(name, &format!("Type{kind}"), status)).or_default() += count;
    }
}

#[test]
fn resolvers_of_many_makes() {
    if !(is_ready() && require_tool(&["go", "node", "getent", "busybox"])) {
        return;
    }
    let scene = Scene::new(Agent::builder());
    let [v4, v6] = &scene.server_addresses();
    let mut expected = Rows::new();
    for server in [v4, v6] {
        by_node(&scene, server, &mut expected);
    }
    let mut are_asked = |rows: &[(&str, &str, &str)], count: u64| {
        for (name, kind, status) in rows {
            *expected.entry(asked(name, kind, status)).or_default() += count;
        }
    };
    let (a, aaaa) = (("two.example", "TypeA", "ok"), ("two.example", "TypeAAAA", "ok"));
    // The C library, as programs reach it: both at once, one after the other, over TCP, by IPv6.
    let glibc = [&script("ask.py"), "glibc", "-", "two.example", "20"].map(str::to_owned);
    let glibc: Vec<_> = glibc.iter().map(String::as_str).collect();
    for options in ["", "single-request", "use-vc", "use-vc single-request"] {
        for server in [v4, v6] {
            scene.with_resolv_conf(server, options, &glibc);
            are_asked(&[a, aaaa], TIMES);
        }
    }
    let shell = |command: &str| scene.with_resolv_conf(v4, "", &["sh", "-c", &again(command)]);
    shell("getent ahosts two.example");
    are_asked(&[a, aaaa], TIMES);
    shell("getent ahostsv4 two.example");
    are_asked(&[a], TIMES);
    shell("getent hosts 198.51.100.1");
    are_asked(&[("IP.in-addr.arpa", "TypePTR", "ok")], TIMES);
    shell("! getent ahostsv4 nope.example.");
    are_asked(&[("nope.example", "TypeA", "nxdomain")], TIMES);
    // Go's, over UDP and TCP.
    let go = scene.build_go("lookup.go");
    for (server, options) in [(v6, ""), (v4, "use-vc"), (v6, "use-vc")] {
        scene.with_resolv_conf(server, options, &[&go, "two.example", "20"]);
        are_asked(&[a, aaaa], TIMES);
    }
    for server in [v4, v6] {
        shell(&format!("busybox nslookup two.example {server}"));
        are_asked(&[a, aaaa], TIMES);
        // Two questions on one connection.
        scene.dig(
            server,
            &["+tcp", "+keepopen", "two.example", "A", "two.example", "AAAA"],
        );
        scene.dig(server, &["+noedns", "+nocookie", "two.example", "A"]);
        // There is the name, and no address of that kind.
        scene.dig(server, &["one.example", "AAAA"]);
        are_asked(&[a, aaaa, a, ("one.example", "TypeAAAA", "ok")], 1);
    }
    let total: u64 = expected.values().sum();
    let (client, server) = (scene.client_group.id(), scene.server_group.id());
    let metrics = scene.agent.metrics_when("container_dns", PATIENCE, |metrics| {
        let inbound = metrics.sum("container_dns_inbound_requests_total", &[("container_id", server)]);
        rows(metrics, client) == expected && inbound as u64 == total
    });
    assert_eq!(metrics.sum("tarsier_container_dns_unanswered_total", &[]), 0.0);
    assert_eq!(metrics.sum("tarsier_container_l7_unparsed_total", &[]), 0.0);
    scene.is_balanced();
}
