//! A thousand services come and go beside a load that never rests: each has what it did, and nothing stays of it.
#![expect(clippy::print_stdout, reason = "how fast it went is there to be read")]
use std::{collections::BTreeMap, fs, thread, time::Duration};
use tarsier_integration::{
    Agent, Cgroup, Metrics, Netns, Place, Running, Stopwatch, eventually, free_port, pause, require_root, require_tool,
};

const CONNECTS: &str = "container_net_tcp_successful_connects_total";
const SENT: &str = "container_net_tcp_bytes_sent_total";
const RECEIVED: &str = "container_net_tcp_bytes_received_total";
const SERVICES: usize = 1_000;
/// As many come, are looked at, and go, before the next do: one period of the GC is all they have.
const AT_ONCE: usize = 200;
const THREADS: usize = 4;
const EACH: u64 = 20;
const RATE: u64 = 5_000;
const LONG: Duration = Duration::from_secs(30);
const GC: Duration = Duration::from_secs(30);
/// Other programs of the machine come and go, too.
const OTHERS: f64 = 20.0;

fn resident_kib(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("the agent runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.expect("a process has a size").trim().trim_end_matches(" kB");
    size.parse().expect("it is a number")
}

/// Of every table and every map.
fn sizes(metrics: &Metrics) -> BTreeMap<String, f64> {
    let of = |family: &str, label: &str| -> Vec<(String, f64)> {
        let rows = metrics.all(family, &[]);
        rows.map(|row| (row.label(label).to_owned(), row.value)).collect()
    };
    let tables = of("tarsier_table_entries", "table");
    let maps = of("tarsier_bpf_map_entries", "map");
    tables.into_iter().chain(maps).collect()
}

struct Scene {
    load: Running,
    _servers: Vec<(Running, Cgroup)>,
    group: Cgroup,
    netns: Netns,
    rest: String,
    addresses: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let (netns, group) = (Netns::new(), Cgroup::service("load"));
        let at = |port: u16| netns.inside(port)[0].to_string();
        let rest = at(free_port());
        // The namespace is new: all its ports are free.
        let addresses: Vec<_> = (0..SERVICES).map(|number| at(10_000 + number as u16)).collect();
        // Of one container that many listens would find no room.
        let serve = |addresses: &[String]| {
            let group = Cgroup::service("server");
            let addresses = addresses.iter().map(String::as_str);
            let words: Vec<_> = ["serve"].into_iter().chain(addresses).collect();
            let words = [&words, &["--read", "16", "--answer", "32"][..]].concat();
            (Place::new().cgroup(&group).netns(&netns).start(&words), group)
        };
        let mut servers: Vec<_> = addresses.chunks(100).map(serve).collect();
        servers.push(serve(std::slice::from_ref(&rest)));
        let rate = RATE.to_string();
        let load = Place::new().cgroup(&group).netns(&netns).program("pressure");
        let load = load.start(&["rate", &rest, "--rate", &rate, "--parallel", "2"]);
        Self {
            load,
            _servers: servers,
            group,
            netns,
            rest,
            addresses,
        }
    }

    fn service(&self, index: usize) -> Cgroup {
        let group = Cgroup::service(&format!("churn-{index}"));
        let words = ["--count", &EACH.to_string(), "--send", "16", "--receive", "32"];
        let place = Place::new().cgroup(&group).netns(&self.netns);
        let report = place.run(&[&["connect", &self.addresses[index]], &words[..]].concat());
        assert_eq!((&report["connected"], &report["failed"]), (&EACH.into(), &0.into()));
        group
    }
}

/// All that it did, to where it did it, and nothing else.
fn is_exact(metrics: &Metrics, id: &str, address: &str) -> bool {
    let has = |name: &str, expected: u64| {
        let labels = [("container_id", id)];
        let mut rows = metrics.all(name, &labels);
        let row = rows.next();
        row.is_some_and(|row| row.label("destination") == address && row.value == expected as f64)
            && rows.next().is_none()
    };
    has(CONNECTS, EACH) && has(SENT, 16 * EACH) && has(RECEIVED, 32 * EACH)
}

#[test]
fn a_thousand_services_beside_a_load() {
    if !(require_root() && require_tool(&["ip", "nsenter"])) {
        return;
    }
    let gc = format!("{}s", GC.as_secs());
    let agent = Agent::builder()
        .set("GC__INTERVAL", &gc)
        .set("HTTP__SCRAPE_TIMEOUT", "5s")
        .start();
    let mut scene = Scene::new();
    scene.load.tell("to 0");
    pause(Duration::from_secs(3));
    let (before, resident_before) = (sizes(&agent.metrics()), resident_kib(&agent));
    let watch = Stopwatch::start();
    for first in (0..SERVICES).step_by(AT_ONCE) {
        let scene = &scene;
        let groups: Vec<(usize, Cgroup)> = thread::scope(|scope| {
            let part = |part: usize| {
                let own = (first..first + AT_ONCE).filter(move |index| index % THREADS == part);
                scope.spawn(move || own.map(|index| (index, scene.service(index))).collect::<Vec<_>>())
            };
            let parts: Vec<_> = (0..THREADS).map(part).collect();
            let parts = parts.into_iter().map(|part| part.join().expect("they connect"));
            parts.flatten().collect()
        });
        let mut wrong = String::new();
        eventually(LONG, "each has what it did", || {
            let metrics = agent.metrics();
            let (index, group) = match groups
                .iter()
                .find(|(index, group)| !is_exact(&metrics, group.id(), &scene.addresses[*index]))
            {
                None => return true,
                Some(found) => found,
            };
            let labels = [("container_id", group.id())];
            let rows = metrics.all(CONNECTS, &labels);
            wrong = format!("{index}: {:?}", rows.collect::<Vec<_>>());
            false
        });
        assert!(watch.elapsed() < Duration::from_secs(300), "{wrong}");
    }
    let rate = scene.load.tell("pause");
    let elapsed = watch.elapsed();
    let made = rate["connected"][0].as_u64().expect("it counts");
    assert!(made > RATE, "{rate}");
    let labels = [("container_id", scene.group.id()), ("destination", scene.rest.as_str())];
    let metrics = agent.metrics_when("all of the load", LONG, |metrics| {
        metrics.value(CONNECTS, &labels) == Some(made as f64)
    });
    assert_eq!(metrics.all(CONNECTS, &labels[..1]).count(), 1);
    // What is with a wrong owner would be there, under where only they connect to.
    let strangers = metrics.all(CONNECTS, &[]).filter(|row| {
        let is_theirs = scene
            .addresses
            .iter()
            .any(|address| row.label("destination") == address);
        is_theirs && !row.label("container_id").contains("churn-")
    });
    assert_eq!(strangers.count(), 0);
    let lost = metrics.all("tarsier_events_dropped_total", &[("class", "loss")]);
    let lost: Vec<_> = lost.filter(|row| row.value > 0.0).collect();
    assert!(lost.is_empty(), "{lost:?}");

    let watch_gc = Stopwatch::start();
    loop {
        let after = sizes(&agent.metrics());
        let larger = after.iter().find(|(name, size)| {
            let before = before.get(*name).copied().unwrap_or_default();
            **size > before + OTHERS
        });
        let Some(larger) = larger else { break };
        let all = (&before, &after);
        assert!(watch_gc.elapsed() < 4 * GC, "{larger:?} is larger than before: {all:?}");
        pause(Duration::from_secs(1));
    }
    let mut resident = 0;
    eventually(2 * GC, "memory is given back", || {
        resident = resident_kib(&agent);
        resident < resident_before + 8 * 1024
    });
    println!("{made} connects of the load in {elapsed:?}; resident {resident_before} KiB before, {resident} after");
}

#[test]
fn every_table_and_map_is_in_the_document_of_limits() {
    if !require_root() {
        return;
    }
    let document = include_str!("../../docs/limits.md");
    let metrics = Agent::start().metrics();
    for (family, label) in [("tarsier_table_capacity", "table"), ("tarsier_bpf_map_capacity", "map")] {
        let names: Vec<_> = metrics.all(family, &[]).map(|row| row.label(label)).collect();
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "{family}: {name}");
        }
    }
}
