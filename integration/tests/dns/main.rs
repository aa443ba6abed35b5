//! Questions to name servers and their answers, against what those who ask have counted: real servers, real resolvers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]
mod resolvers;
mod scene;

use scene::{Rows, Scene, ask, asked, rows};
use std::{process::Command, time::Duration};
use tarsier_integration::{
    Agent, Metrics, Place, binary, eventually, free_port, pause, require_root, require_tool, seconds,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// On the internet, by all that an address tells.
const SHOP: [&str; 2] = ["192.0.2.77", "192.0.2.78"];

fn is_ready() -> bool {
    require_root() && require_tool(&["ip", "dnsmasq", "dig", "python3", "unshare"])
}

#[test]
fn who_asks_and_who_answers_count_the_same() {
    if !(is_ready() && require_tool(&["go"])) {
        return;
    }
    let scene = Scene::new(Agent::builder());
    let mut expected = Rows::new();
    let mut is_asked = |name: &str, kind: &str, status: &str, count: u64| {
        *expected.entry(asked(name, kind, status)).or_default() += count;
    };
    let [v4, v6] = &scene.server_addresses();
    for (way, server, count) in [
        ("unconnected", v4, 50),
        ("unconnected", v6, 30),
        ("connected", v4, 40),
        ("connected", v6, 20),
        ("together", v4, 64),
        ("tcp", v4, 30),
        ("tcp", v6, 12),
    ] {
        let report = ask(scene.client(), way, server, "one.example", count);
        assert_eq!(report["answered"], count, "{way} {server}");
        is_asked("one.example", "TypeA", "ok", count);
    }
    for _ in 0..10 {
        scene.dig(v4, &["one.example", "A"]);
        scene.dig(v4, &["+tcp", "two.example", "AAAA"]);
        scene.dig(v6, &["nope.example", "MX"]);
        scene.dig(v4, &["-x", "198.51.100.1"]);
    }
    is_asked("one.example", "TypeA", "ok", 10);
    is_asked("two.example", "TypeAAAA", "ok", 10);
    is_asked("nope.example", "TypeMX", "nxdomain", 10);
    is_asked("IP.in-addr.arpa", "TypePTR", "ok", 10);
    scene.with_resolver(&[&scene::script("ask.py"), "glibc", "-", "two.example", "40"]);
    scene.with_resolver(&[&scene.build_go("lookup.go"), "two.example", "25"]);
    for kind in ["TypeA", "TypeAAAA"] {
        is_asked("two.example", kind, "ok", 65);
    }
    let total: u64 = expected.values().sum();
    let client = scene.client_group.id();
    let metrics = scene
        .agent
        .metrics_when("container_dns", PATIENCE, |metrics| rows(metrics, client) == expected);
    let of = |name: &str, id: &str| metrics.sum(name, &[("container_id", id)]) as u64;
    let server = scene.server_group.id();
    assert_eq!(of("container_dns_inbound_requests_total", server), total);
    assert_eq!(
        of("container_dns_inbound_requests_duration_seconds_total_count", server),
        total
    );
    assert_eq!(of("container_dns_requests_duration_seconds_total_count", client), total);
    assert_eq!(of("container_dns_requests_total", server), 0);
    assert_eq!(of("container_dns_inbound_requests_total", client), 0);
    // Nobody has waited for nothing, and what they took is between nothing and what they could have.
    assert_eq!(metrics.sum("tarsier_container_dns_unanswered_total", &[]), 0.0);
    assert_eq!(metrics.sum("tarsier_container_l7_unparsed_total", &[]), 0.0);
    let took = metrics.sum(
        "container_dns_requests_duration_seconds_total_sum",
        &[("container_id", client)],
    );
    assert!(took > 0.0 && took < 10.0, "{took}");
    scene.is_balanced();
}

#[test]
fn what_is_older_what_nobody_answers_and_what_is_no_question() {
    if !is_ready() {
        return;
    }
    let older = Scene::without_agent();
    let [v4, _] = older.server_addresses();
    let held = older
        .client()
        .program(&older.ask_py)
        .start(&["held", &v4, "one.example", "20"]);
    let scene = older.with_agent(Agent::builder());
    let mut held = held;
    held.give("");
    let client = scene.client_group.id().to_owned();
    let of = |metrics: &Metrics, name: &str, id: &str| metrics.sum(name, &[("container_id", id)]);
    let expected = Rows::from([(asked("one.example", "TypeA", "ok"), 20)]);
    scene
        .agent
        .metrics_when("held", PATIENCE, |metrics| rows(metrics, &client) == expected);
    assert_eq!(held.finish()["answered"], 20);

    let hole = scene.netns.black_hole(53)[0].ip().to_string();
    ask(scene.client(), "vain", &hole, "one.example", 5);
    ask(scene.client(), "nonsense", &v4, "-", 6);
    let metrics = scene.agent.metrics_when("unanswered", PATIENCE, |metrics| {
        of(metrics, "tarsier_container_dns_unanswered_total", &client) == 5.0
    });
    for id in [client.as_str(), scene.server_group.id()] {
        let labels = [("container_id", id), ("reason", "malformed")];
        assert_eq!(metrics.sum("tarsier_container_l7_unparsed_total", &labels), 6.0, "{id}");
    }
    assert_eq!(rows(&metrics, &client), expected, "none of it was answered");
    scene.is_balanced();
}

#[test]
fn a_connection_goes_by_the_name_that_was_asked_for_just_before() {
    if !is_ready() {
        return;
    }
    let scene = Scene::new(Agent::builder());
    for address in SHOP {
        scene.add_address(address);
    }
    let port = free_port();
    let listens = SHOP.map(|address| format!("{address}:{port}"));
    let inside = Place::new().cgroup(&scene.server_group).netns(&scene.netns);
    let _shop = inside.start(&["serve", &listens[0], &listens[1], "--keep"]);
    let visits = 200;
    scene.with_resolver(&[
        &scene.ask_py,
        "visit",
        &port.to_string(),
        "shop.example",
        &visits.to_string(),
    ]);
    let client = scene.client_group.id();
    let connects = |metrics: &Metrics, destination: &str| {
        let labels = [("container_id", client), ("destination", destination)];
        metrics.sum("container_net_tcp_successful_connects_total", &labels) as u64
    };
    let shop = format!("shop.example:{port}");
    let metrics = scene
        .agent
        .metrics_when(&shop, PATIENCE, |metrics| connects(metrics, &shop) == visits);
    for address in &listens {
        assert_eq!(connects(&metrics, address), 0, "{address}");
    }
}

#[test]
fn at_the_maximum_nothing_is_lost_or_it_is_said() {
    if !(is_ready() && require_tool(&["dnsperf"])) {
        return;
    }
    let scene = Scene::new(Agent::builder());
    let [v4, _] = scene.server_addresses();
    let questions = scene.agent.folder().join("questions");
    let lines =
        ["one.example A", "two.example AAAA", "nope.example A", "alias.example A"].map(|line| format!("{line}\n"));
    std::fs::write(&questions, lines.concat().repeat(2_500)).unwrap();
    let client = scene.client_group.id();
    let counted = |metrics: &Metrics| rows(metrics, client).values().sum::<u64>();
    let perf = |arguments: &[&str]| {
        let mut command = scene.client().command("dnsperf");
        command
            .args(["-s", &v4, "-d", questions.to_str().unwrap()])
            .args(arguments);
        scene::dnsperf(command)
    };
    // At a rate that leaves time for everybody, all of it.
    let (sent, completed) = perf(&["-n", "4", "-Q", "5000"]);
    assert_eq!((sent, completed), (40_000, 40_000), "the server itself is overloaded");
    scene
        .agent
        .metrics_when("container_dns", PATIENCE, |metrics| counted(metrics) == completed);
    assert_eq!(scene.lost(), 0);
    // As fast as they can.
    let (_, more) = perf(&["-l", &seconds().to_string(), "-c", "10"]);
    let completed = completed + more;
    // What was lost was lost on the way of one of two messages.
    eventually(PATIENCE, "every answer is counted, or lost", || {
        let counted = counted(&scene.agent.metrics());
        counted <= completed && counted + scene.lost() >= completed
    });
    pause(Duration::from_secs(1));
    let (counted, lost) = (counted(&scene.agent.metrics()), scene.lost());
    println!(
        "{more} questions in {} s, {} not counted, {lost} messages lost",
        seconds(),
        completed - counted
    );
    // Whoever has to wait for a processor may lose some.
    if lost == 0 || scene.agent.feature("realtime").ok() {
        assert_eq!((counted, lost), (completed, 0));
    }
    scene.is_balanced();
}

#[test]
fn a_reload_takes_the_programs_off_and_puts_them_back() {
    if !is_ready() {
        return;
    }
    let scene = Scene::new(
        Agent::builder().config("l7: {dns: true, http: false, redis: false, postgres: false, memcached: false}\n"),
    );
    let [v4, _] = scene.server_addresses();
    let client = scene.client_group.id();
    let is = |count: u64| {
        let expected = Rows::from([(asked("one.example", "TypeA", "ok"), count)]);
        scene
            .agent
            .metrics_when("container_dns", PATIENCE, |metrics| rows(metrics, client) == expected);
    };
    let reads = || {
        let programs = scene.agent.admin("/api/v1/actors")["kernel"]["programs"].clone();
        let programs = programs.as_array().unwrap().clone();
        programs
            .iter()
            .any(|program| program["program"].as_str().unwrap().starts_with("l7_"))
    };
    ask(scene.client(), "unconnected", &v4, "one.example", 10);
    is(10);
    scene.reload("l7: {dns: false, http: false, redis: false, postgres: false, memcached: false}\n");
    assert_eq!(scene.agent.feature("dns").state, "off");
    ask(scene.client(), "unconnected", &v4, "one.example", 10);
    eventually(PATIENCE, "the programs that read are gone", || !reads());
    is(10);
    scene.reload("l7: {dns: true, http: false, redis: false, postgres: false, memcached: false}\n");
    assert!(scene.agent.feature("dns").ok());
    ask(scene.client(), "unconnected", &v4, "one.example", 7);
    is(17);
    eventually(PATIENCE, "the programs that read are back", reads);
    scene.reload(&format!("filters: {{signals: {{l7: {{deny: ['{client}']}}}}}}\n"));
    ask(scene.client(), "unconnected", &v4, "one.example", 7);
    pause(Duration::from_secs(1));
    let metrics = scene.agent.metrics();
    assert!(rows(&metrics, client).is_empty());
    assert!(metrics.value("container_info", &[("container_id", client)]).is_some());
}

#[test]
fn a_recording_counts_the_same() {
    if !is_ready() {
        return;
    }
    let builder = Agent::builder();
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording");
    let scene = Scene::new(builder.argument("--record").argument(&recording));
    let [v4, _] = scene.server_addresses();
    ask(scene.client(), "together", &v4, "one.example", 64);
    ask(scene.client(), "tcp", &v4, "two.example", 9);
    let of = |metrics: &Metrics| {
        let mut lines = metrics.lines("container_dns", &["machine_id", "system_uuid"]);
        lines.extend(metrics.lines("tarsier_container_l7", &["machine_id", "system_uuid"]));
        lines
    };
    let client = scene.client_group.id().to_owned();
    let live = scene.agent.metrics_when("container_dns", PATIENCE, |metrics| {
        rows(metrics, &client).values().sum::<u64>() == 73
    });
    let live = of(&live);
    scene.end();
    let output = Command::new(binary()).arg("replay").arg(&recording).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(of(&Metrics::parse(&String::from_utf8(output.stdout).unwrap())), live);
    // What was said is in no recording: it would have the name in the form of a message.
    let bytes = std::fs::read(&recording).unwrap();
    assert!(!bytes.windows(12).any(|window| window == b"\x03one\x07example"));
}
