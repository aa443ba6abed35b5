//! Destinations go by the names that a name server has answered. The answers are told to the agent by a test hook, all else
//! is the kernel's.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use std::{path::Path, process::Command, time::Duration};
use tarsier_integration::{
    Agent, Metrics, Netns, Place, Stage, Traffic, Watcher, binary, free_port, pause, require_root, require_tool,
};

/// On the internet, by all that an address tells.
const SHOP: [&str; 3] = ["192.0.2.77", "192.0.2.78", "192.0.2.79"];
const PATIENCE: Duration = Duration::from_secs(20);

/// They are nowhere but inside.
fn add_addresses(netns: &Netns) {
    let path = netns.path();
    let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
    for address in SHOP {
        let arguments = ["-n", name, "addr", "add", &format!("{address}/32"), "dev", "lo"];
        assert!(Command::new("ip").args(arguments).status().unwrap().success());
    }
}

fn answer(agent: &Agent, name: &str, addresses: &[&str]) {
    agent.hook(&format!("dns-answered?name={name}&addresses={}", addresses.join(",")));
}

fn connect(stage: &Stage, to: &str, count: u32) {
    let count = count.to_string();
    let report = stage
        .client()
        .run(&["connect", to, "--count", &count, "--send", "10", "--receive", "20"]);
    assert_eq!(report["connected"].to_string(), count, "{report}");
}

fn exchanged(connects: u64) -> Traffic {
    Traffic {
        successful: connects,
        sent: 10 * connects,
        received: 20 * connects,
        ..Traffic::default()
    }
}

fn named(metrics: &Metrics) -> Vec<String> {
    metrics.lines("ip_to_fqdn", &["machine_id", "system_uuid"])
}

fn replayed(recording: &Path) -> Metrics {
    let output = Command::new(binary()).arg("replay").arg(recording).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    Metrics::parse(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_service_with_many_addresses_is_one_destination() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    let builder = Agent::builder();
    let recording = builder.folder().join("recording");
    let stage = Stage::with(builder.argument("--record").argument(&recording));
    add_addresses(&stage.netns);
    let (port, closed) = (free_port(), free_port());
    let [one, two, three] = SHOP.map(|address| format!("{address}:{port}"));
    let [private, _] = stage.netns.inside(port).map(|address| address.to_string());
    let inside = Place::new().cgroup(&stage.server_group).netns(&stage.netns);
    let serve = ["serve", &one, &two, &private, "--read", "10", "--answer", "20"];
    let server = inside.start(&serve);
    let other = inside.start(&["serve", &three, "--keep"]);
    let shop = format!("shop.example:{port}");

    assert_eq!(stage.agent.feature("fqdn").state, "off");
    let held = stage.client().start(&["hold", &three, "--count", "3"]);
    let open = Traffic {
        successful: 3,
        active: 3,
        ..Traffic::default()
    };
    stage.expect(&three, &open);

    answer(&stage.agent, "Shop.example.", &SHOP);
    answer(&stage.agent, "db.internal", &[private.split(':').next().unwrap()]);
    assert!(stage.agent.feature("fqdn").ok());
    connect(&stage, &one, 200);
    connect(&stage, &two, 300);
    connect(&stage, &private, 50);
    stage
        .client()
        .run(&["connect", &format!("{}:{closed}", SHOP[0]), "--count", "7"]);
    let metrics = stage.expect(&shop, &exchanged(500));
    assert_eq!(
        metrics
            .all("container_net_tcp_successful_connects_total", &[("destination", &one)])
            .count(),
        0
    );
    stage.expect(&private, &exchanged(50));
    let refused = Traffic {
        failed: 7,
        ..Traffic::default()
    };
    stage.expect(&format!("shop.example:{closed}"), &refused);
    // They were open before their destination had a name.
    let metrics = stage.expect(&three, &open);
    assert_eq!(named(&metrics).len(), 1, "{:?}", named(&metrics));
    assert!(named(&metrics)[0].contains("fqdn=\"db.internal\""));

    // Those who have it stay, and nobody is missing from the sum.
    answer(&stage.agent, "other.example", &SHOP);
    connect(&stage, &one, 20);
    stage.expect(&format!("other.example:{port}"), &exchanged(20));
    stage.expect(&shop, &exchanged(500));
    let rows = stage.agent.admin("/api/v1/actors")["tables"].clone();
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["table"] == "fqdn")
        .unwrap()
        .clone();
    assert_eq!(row["entries"], 4, "{row}");

    // Two passes, so that nothing is on its way.
    pause(Duration::from_millis(2500));
    let live = stage.agent.metrics();
    let Stage {
        mut agent,
        netns,
        client_group,
        server_group,
    } = stage;
    let kept = tempfile::tempdir().unwrap();
    let recorded = kept.path().join("recording");
    agent.signal(rustix::process::Signal::TERM);
    assert!(agent.wait_for_end(Duration::from_secs(5)).success());
    std::fs::copy(&recording, &recorded).unwrap();
    let again = replayed(&recorded);
    let of_client = |metrics: &Metrics| {
        let mut lines = metrics.lines("container_", &["machine_id", "system_uuid"]);
        lines.retain(|line| line.contains(&format!("container_id={:?}", client_group.id())));
        lines
    };
    assert_eq!(of_client(&live), of_client(&again));
    assert_eq!(named(&live), named(&again));
    drop((held, server, other, netns, server_group));
}

#[test]
fn whoever_knows_the_names_dies_and_no_connection_is_missed() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    let stage = Stage::new();
    add_addresses(&stage.netns);
    let port = free_port();
    let [one, two, _] = SHOP.map(|address| format!("{address}:{port}"));
    let inside = Place::new().cgroup(&stage.server_group).netns(&stage.netns);
    let _server = inside.start(&["serve", &one, &two, "--read", "10", "--answer", "20"]);
    let shop = format!("shop.example:{port}");
    answer(&stage.agent, "shop.example", &SHOP);
    connect(&stage, &one, 100);
    stage.expect(&shop, &exchanged(100));
    let watcher = Watcher::over(&stage.agent);
    stage.agent.hook("panic/fqdn");
    stage.agent.metrics_when("tarsier_actor_restarts", PATIENCE, |metrics| {
        metrics.sum("tarsier_actor_restarts_total", &[("actor", "fqdn"), ("cause", "panic")]) == 1.0
    });
    // It knows nothing until there is an answer again.
    connect(&stage, &two, 50);
    stage.expect(&two, &exchanged(50));
    answer(&stage.agent, "shop.example", &SHOP);
    connect(&stage, &two, 60);
    stage.expect(&shop, &exchanged(160));
    stage.expect(&two, &exchanged(50));
    watcher.finish();
}

#[test]
fn a_name_goes_with_the_last_who_showed_it() {
    if !(require_root() && require_tool(&["ip"])) {
        return;
    }
    let stage = Stage::with(Agent::builder().set("GC__INTERVAL", "2s"));
    add_addresses(&stage.netns);
    let port = free_port();
    let [one, ..] = SHOP.map(|address| format!("{address}:{port}"));
    let [private, _] = stage.netns.inside(port).map(|address| address.to_string());
    let inside = Place::new().cgroup(&stage.server_group).netns(&stage.netns);
    let _server = inside.start(&["serve", &one, &private, "--keep"]);
    answer(&stage.agent, "shop.example", &SHOP);
    answer(&stage.agent, "db.internal", &[private.split(':').next().unwrap()]);
    answer(&stage.agent, "nobody.internal", &["10.255.0.1"]);
    let held = stage.client().start(&["hold", &one, "--count", "1"]);
    let to_private = stage.client().start(&["hold", &private, "--count", "1"]);
    let entries = |metrics: &Metrics| metrics.value("tarsier_table_entries", &[("table", "fqdn")]);
    stage
        .agent
        .metrics_when("fqdn", PATIENCE, |metrics| entries(metrics) == Some(4.0));
    // Several periods later, those are left that somebody is connected to.
    pause(Duration::from_secs(8));
    let metrics = stage.agent.metrics();
    assert_eq!(entries(&metrics), Some(4.0));
    assert_eq!(named(&metrics).len(), 1, "{:?}", named(&metrics));
    drop(to_private.finish());
    drop(held.finish());
    stage.agent.metrics_when("fqdn", PATIENCE, |metrics| {
        entries(metrics) == Some(0.0) && named(metrics).is_empty()
    });
}
