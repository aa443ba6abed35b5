//! Requests of HTTP/1 and their answers, against what those who ask have counted: real servers, real clients.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests"
)]
mod hostile;
mod maximum;
mod scene;
mod switches;
mod table;

use scene::{Make, Older, PATIENCE, Scene, Statuses, apache, asked, total, unparsed, within};
use std::collections::{BTreeMap, BTreeSet};
use table::{Case, cases};
use tarsier_integration::{Agent, End, Metrics, demand, require_root, require_tool};

fn is_ready() -> bool {
    require_root()
        && require_tool(&["ip", "python3", "nginx", "node", "go", "curl", "ab"])
        && demand("apache2", apache().is_some())
}

/// Of a case or a server and one end of it: what was counted, and how much of it is in the histogram.
type Counted = BTreeMap<(String, &'static str), (Statuses, u64)>;

/// With room for all that comes at once: of bodies the agent is told too, and four clients at a time send mebibytes.
fn lane(kernel: bool) -> String {
    format!("l7: {{kernel_lane: {kernel}, ring_bytes: 64MiB}}\n")
}

#[test]
fn both_lanes_count_what_was_sent() {
    if !is_ready() {
        return;
    }
    let [kernel, records] = [true, false].map(count_all);
    assert_eq!(kernel, records);
}

fn count_all(kernel_lane: bool) -> Counted {
    let older = Older::new(&Make::ALL);
    let mut cases = cases(&older, &Make::ALL);
    let scene = older.with_agent(Agent::builder().config(&lane(kernel_lane)));
    for case in &mut cases {
        case.run(&scene.older);
    }
    let expected = expected(&cases);
    let counted = eventually_equal(&scene, &cases, &expected);
    scene.is_balanced();
    counted
}

fn expected(cases: &[Case]) -> Counted {
    let mut all = Counted::new();
    let mut servers: BTreeMap<Make, Statuses> = BTreeMap::new();
    for case in cases {
        for (status, count) in case.total() {
            *servers.entry(case.make).or_default().entry(status.clone()).or_default() += count;
        }
        all.insert((case.name.clone(), "client"), (case.total(), total(&case.total())));
    }
    // nginx is a client too.
    let handed_on: u64 = cases.iter().map(Case::handed_on).sum();
    *servers
        .entry(Make::Go)
        .or_default()
        .entry("2xx".to_owned())
        .or_default() += handed_on;
    all.insert(
        ("Nginx".to_owned(), "client"),
        (Statuses::from([("2xx".to_owned(), handed_on)]), handed_on),
    );
    for (make, statuses) in servers {
        let count = total(&statuses);
        all.insert((format!("{make:?}"), "server"), (statuses, count));
    }
    all
}

fn counted(scene: &Scene, cases: &[Case], metrics: &Metrics) -> Counted {
    let mut all = Counted::new();
    let mut add = |name: &str, group: &tarsier_integration::Cgroup| {
        for (end, as_text) in [(End::Client, "client"), (End::Server, "server")] {
            let statuses = metrics.requests_of(group.id(), "http", end);
            let in_histogram = within(metrics, group, end, "+Inf");
            if total(&statuses) > 0 || in_histogram > 0 {
                all.insert((name.to_owned(), as_text), (statuses, in_histogram));
            }
        }
    };
    for case in cases {
        add(&case.name, &case.group);
    }
    for make in Make::ALL {
        add(&format!("{make:?}"), &scene.older.server(make).group);
    }
    all
}

/// Every difference at once: one run tells all of them.
fn eventually_equal(scene: &Scene, cases: &[Case], expected: &Counted) -> Counted {
    let metrics = scene.settled(PATIENCE, |metrics| counted(scene, cases, metrics) == *expected);
    let counted = counted(scene, cases, &metrics);
    let mut wrong = String::new();
    for key in expected.keys().chain(counted.keys()).collect::<BTreeSet<_>>() {
        if expected.get(key) != counted.get(key) {
            wrong += &format!(
                "{key:?}\n  sent    {:?}\n  counted {:?}\n",
                expected.get(key),
                counted.get(key)
            );
        }
    }
    let servers = Make::ALL.map(|make| (format!("{make:?}"), &scene.older.server(make).group));
    let clients = cases.iter().map(|case| (case.name.clone(), &case.group));
    for (name, group) in clients.chain(servers) {
        let unparsed = unparsed(&metrics, group);
        if !unparsed.is_empty() {
            wrong += &format!("{name}: unparsed {unparsed:?}\n");
        }
    }
    for case in cases {
        for (destination, statuses) in &case.sent {
            let found = asked(&metrics, &case.group, &destination.to_string());
            if found != *statuses {
                wrong += &format!("{} to {destination}: {found:?}\n", case.name);
            }
        }
        // The server takes its time, which both lanes see: none of these is among the quick ones.
        if case.is_late() && within(&metrics, &case.group, End::Client, "0.05") > 0 {
            wrong += &format!("{} was quick\n", case.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}{}", scene.losses());
    counted
}
