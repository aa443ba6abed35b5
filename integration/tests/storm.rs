//! Many short lives: everything that starts ends, and nothing of it stays.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use std::{collections::BTreeMap, fs, thread, time::Duration};
use tarsier_integration::{Agent, Cgroup, Metrics, Place, Stopwatch, eventually_some, pause, require_root};

const PROCESSES: f64 = 50_000.0;

/// Half of them execute something. Two at a time, as there are no fewer CPUs.
fn storm(group: &Cgroup) {
    let places = [
        ("exec", "12500"),
        ("fork", "12500"),
        ("exec", "12500"),
        ("fork", "12500"),
    ];
    for pair in places.chunks(2) {
        thread::scope(|scope| {
            for (kind, count) in pair {
                let place = Place::new().cgroup(group);
                scope.spawn(move || place.run(&["storm", "--count", count, "--kind", kind]));
            }
        });
    }
}

fn resident_bytes(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a process has a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Processes other than kernel threads.
fn live_processes() -> f64 {
    let folders = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = folders.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    // A kernel thread has no program.
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok())
        .count() as f64
}

/// But for where connections go: whoever asks the agent for its metrics connects, and that stays for a minute.
fn tables(metrics: &Metrics) -> BTreeMap<String, f64> {
    metrics
        .all("tarsier_table_entries", &[])
        .filter(|sample| sample.label("table") != "route_classes")
        .map(|sample| (sample.label("table").to_owned(), sample.value))
        .collect()
}

fn delivered(metrics: &Metrics, kind: &str) -> f64 {
    metrics.sum("tarsier_events_delivered_total", &[("kind", kind)])
}

/// But for what the scrape itself says, which is on its way while it is answered.
fn in_flight(metrics: &Metrics) -> f64 {
    metrics
        .all("tarsier_events_in_flight", &[])
        .filter(|sample| sample.label("kind") != "l7_segment")
        .map(|sample| sample.value)
        .sum()
}

/// Other programs of the machine come and go: a scrape at a moment when nothing was on its way, with how many lived then.
fn quiet_moment(agent: &Agent) -> (f64, Metrics) {
    eventually_some(
        Duration::from_secs(60),
        "nothing starts or ends for the time of a scrape",
        || {
            let (live, metrics) = (live_processes(), agent.metrics());
            (in_flight(&metrics) == 0.0 && live_processes() == live).then_some((live, metrics))
        },
    )
}

/// What of the storm is still there, in words; nothing once starts equal exits and every table is as it was.
fn remains((live_before, before): &(f64, Metrics), (live, metrics): &(f64, Metrics), processes: f64) -> Option<String> {
    let grown = live - live_before;
    let since = |kind| delivered(metrics, kind) - delivered(before, kind);
    let (started, exited) = (since("process_started"), since("process_exited"));
    if exited < processes || started - exited != grown {
        let lost = metrics.sum("tarsier_events_dropped_total", &[("class", "loss")]);
        return Some(format!(
            "{started} started, {exited} exited, {grown} more live, {lost} lost"
        ));
    }
    let old = tables(before);
    let mut larger = tables(metrics).into_iter();
    let larger = larger.find(|(table, size)| *size > old.get(table).copied().unwrap_or_default() + grown.max(0.0));
    larger.map(|(table, size)| format!("{size} entries of {table}, {:?} before", old.get(&table)))
}

#[test]
fn fifty_thousand_short_lives_twice() {
    if !require_root() {
        return;
    }
    // Room for half a minute of it: a busy machine may not let the agent read in time, and that is not the question here.
    let agent = Agent::builder()
        .set("GC__INTERVAL", "2s")
        .set("KERNEL__NEWS_RING_BYTES", "8MiB")
        .start();
    let group = Cgroup::service("storm");
    let mut resident = Vec::new();
    let before = quiet_moment(&agent);
    for round in 1..=2 {
        storm(&group);
        let watch = Stopwatch::start();
        let metrics = loop {
            let now = quiet_moment(&agent);
            match remains(&before, &now, PROCESSES * f64::from(round)) {
                None => break now.1,
                Some(remains) => assert!(watch.elapsed() < Duration::from_secs(60), "round {round}: {remains}"),
            }
            pause(Duration::from_millis(500));
        };
        for kind in ["process_started", "process_exec", "process_exited"] {
            let lost = metrics.sum("tarsier_events_dropped_total", &[("kind", kind), ("class", "loss")]);
            assert_eq!(lost, 0.0, "{kind} was lost in round {round}");
        }
        resident.push(resident_bytes(&agent));
    }
    assert!(
        resident[1] * 10 <= resident[0] * 11,
        "resident after each storm: {resident:?}"
    );
}
