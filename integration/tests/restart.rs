//! Ten agents, one after the other, under load: what each counts, and what falls between them.
#![expect(clippy::print_stdout, reason = "what falls between two agents is there to be read")]
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};
use tarsier_integration::{
    Agent, Cgroup, Netns, Place, Running, Stopwatch, Traffic, eventually, free_port, pause, require_root, require_tool,
};

const RUNS: usize = 10;
const RATE: u64 = 5_000;
const PARALLEL: u64 = 2;
const HELD: u64 = 20;
const LONG: Duration = Duration::from_secs(20);

/// Scrapes all the time: what counts never goes back while one agent lives.
fn watch_counters(agent: &Agent, over: &AtomicBool) -> usize {
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut scrapes = 0;
    while !over.load(Relaxed) {
        let metrics = agent.metrics();
        for sample in metrics.samples() {
            let family = sample.name.strip_suffix("_bucket").unwrap_or(&sample.name);
            let counts = metrics
                .types
                .get(family)
                .is_some_and(|kind| kind == "counter" || kind == "histogram");
            if !counts {
                continue;
            }
            let series = format!("{}{:?}", sample.name, sample.labels);
            let before = last.insert(series, sample.value).unwrap_or(0.0);
            assert!(sample.value >= before, "{sample:?} was {before}");
        }
        scrapes += 1;
        pause(Duration::from_millis(100));
    }
    scrapes
}

struct Scene {
    // In the order in which they may end.
    load: Running,
    held: Running,
    _servers: [Running; 2],
    group: Cgroup,
    server_group: Cgroup,
    _netns: Netns,
    addresses: Vec<String>,
    echo: String,
}

impl Scene {
    /// An address for each agent, one for each time between two of them.
    fn new() -> Self {
        let (netns, group, server_group) = (Netns::new(), Cgroup::service("client"), Cgroup::service("server"));
        let address = || netns.inside(free_port())[0].to_string();
        let (echo, addresses) = (address(), (0..2 * RUNS).map(|_| address()).collect::<Vec<_>>());
        let words = |before: &[&str], after: &[&str]| -> Vec<String> {
            let all = addresses.iter().map(String::as_str);
            let all = before.iter().copied().chain(all).chain(after.iter().copied());
            all.map(str::to_owned).collect()
        };
        let start = |place: Place<'_>, words: Vec<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            place.netns(&netns).start(&words)
        };
        let server = Place::new().cgroup(&server_group);
        let servers = [
            start(server, words(&["serve"], &["--read", "16", "--answer", "32"])),
            start(server.program("pressure"), vec!["echo".into(), echo.clone()]),
        ];
        let client = Place::new().cgroup(&group).program("pressure");
        let (rate, parallel) = (RATE.to_string(), PARALLEL.to_string());
        let load = start(client, words(&["rate"], &["--rate", &rate, "--parallel", &parallel]));
        let held = ["held", &echo, "--count", &HELD.to_string()]
            .map(str::to_owned)
            .to_vec();
        let held = start(client, held);
        Self {
            load,
            held,
            _servers: servers,
            group,
            server_group,
            _netns: netns,
            addresses,
            echo,
        }
    }

    fn tell(&mut self, word: &str) -> Vec<u64> {
        let report = self.load.tell(word);
        assert_eq!(report["broken"], 0, "{report}");
        numbers(&report["connected"])
    }

    /// All that the load did to an address, and nobody else did, at both ends.
    #[track_caller]
    fn expect(&self, agent: &Agent, index: usize, connects: u64) -> u64 {
        let address = &*self.addresses[index];
        let expected = Traffic {
            successful: connects,
            sent: connects * 16,
            received: connects * 32,
            ..Traffic::default()
        };
        let metrics = expected.expect_of(agent, self.group.id(), address);
        eventually(LONG, "the server's side is the same", || {
            let at = listen(agent, self.server_group.id(), address);
            (at["accepted"].as_u64(), at["active"].as_i64()) == (Some(connects), Some(0))
                && (at["received_bytes"].as_u64(), at["sent_bytes"].as_u64())
                    == (Some(connects * 16), Some(connects * 32))
        });
        Traffic::of(&metrics, &[("destination", address)]).successful
    }

    /// They are open, older than the agent, and have done `bytes` each way since it came.
    #[track_caller]
    fn expect_held(&self, agent: &Agent, bytes: u64) {
        let expected = Traffic {
            active: HELD,
            sent: bytes,
            received: bytes,
            ..Traffic::default()
        };
        expected.expect_of(agent, self.group.id(), &self.echo);
        eventually(LONG, "the server's side is the same", || {
            let at = listen(agent, self.server_group.id(), &self.echo);
            (at["accepted"].as_u64(), at["active"].as_u64()) == (Some(0), Some(HELD))
                && (at["received_bytes"].as_u64(), at["sent_bytes"].as_u64()) == (Some(bytes), Some(bytes))
        });
    }

    fn send(&mut self, bytes: u64) -> u64 {
        self.held.tell(&format!("send {bytes}"))["sent"]
            .as_u64()
            .expect("a number")
    }
}

fn numbers(list: &Value) -> Vec<u64> {
    let list = list.as_array().expect("a list");
    list.iter().map(|number| number.as_u64().expect("a number")).collect()
}

fn listen(agent: &Agent, id: &str, address: &str) -> Value {
    let container = agent.ask(&format!("/api/v1/containers{id}")).unwrap_or_default();
    let listens = container["listens"].as_array().cloned().unwrap_or_default();
    let found = listens.into_iter().find(|listen| listen["address"] == address);
    found.unwrap_or_default()
}

#[test]
fn ten_agents_under_load() {
    if !(require_root() && require_tool(&["ip", "nsenter"])) {
        return;
    }
    let mut scene = Scene::new();
    let mut agent = Agent::start();
    let watch = Stopwatch::start();
    // Summed over the agents; and of what the client did, the least and the most that was between two of them.
    let (mut counted, mut least, mut most) = (0, 0, 0);
    for run in 0..RUNS {
        let (own, gap) = (2 * run, 2 * run + 1);
        // What it found is there before it is used: what is sent from here on counts.
        scene.expect_held(&agent, 0);
        scene.tell(&format!("to {own}"));
        let over = AtomicBool::new(false);
        let before = thread::scope(|scope| {
            let counters = scope.spawn(|| watch_counters(&agent, &over));
            let mut bytes = 0;
            for round in 1..=3 {
                bytes += scene.send(100 * round);
                pause(Duration::from_millis(200));
            }
            let done = scene.tell(&format!("to {gap}"));
            counted += scene.expect(&agent, own, done[own]);
            scene.expect_held(&agent, bytes);
            // A still moment, so that what the agent has shown last is all there was until then.
            let still = scene.tell("pause");
            let before = scene.expect(&agent, gap, still[gap]);
            over.store(true, Relaxed);
            assert!(counters.join().expect("no counter goes back") > 5);
            before
        });
        counted += before;
        if run + 1 == RUNS {
            break;
        }
        scene.tell(&format!("to {gap}"));
        pause(Duration::from_millis(100));
        let (term, stopping) = (scene.tell("ask")[gap], Stopwatch::start());
        let (_, status) = agent.stop();
        assert!(status.success(), "{status}");
        // Nobody counts these.
        let gone = scene.tell("ask")[gap];
        scene.send(1_000);
        let next = scene.tell("ask")[gap];
        agent = Agent::start();
        let (ready, took) = (scene.tell("ask")[gap], stopping.elapsed());
        let all = scene.tell("pause")[gap];
        // What is accepted while the programs come is somebody's: there are listeners older than the agent.
        let known = agent.admin("/api/v1/containers")["containers"].to_string();
        assert!(!known.contains("/standalone/unknown"), "{known}");
        // One that was under way when the programs came is older than the agent: no connect.
        let labels = [("destination", &*scene.addresses[gap])];
        let mut since = Traffic::default();
        let mut last = None;
        eventually(LONG, "the new agent has all of its own", || {
            since = Traffic::of(&agent.metrics(), &labels);
            let same = last.replace(since.clone()) == Some(since.clone());
            pause(Duration::from_millis(1_100));
            same && since.active == 0 && since.successful + PARALLEL >= all - ready
        });
        let missing = all
            .checked_sub(before + since.successful)
            .expect("nothing is counted twice");
        println!(
            "run {run}: {} a second; {missing} of {} fell between exit and attach; stopped to ready {took:?}",
            (all - before) * 1_000 / (took.as_millis() as u64 + 100),
            all - before
        );
        let (surely, possibly) = ((next - gone).saturating_sub(PARALLEL), ready - before + PARALLEL);
        assert!(
            (surely..=possibly).contains(&missing),
            "{missing} are missing, {surely} to {possibly} were done meanwhile"
        );
        assert!(since.sent <= 16 * (since.successful + PARALLEL), "{since:?}");
        assert!(term <= gone && gone <= next, "its count goes forward");
        counted += since.successful;
        least += surely;
        most += possibly;
    }
    drop(scene.held);
    let report = scene.load.finish();
    let client: u64 = numbers(&report["connected"]).iter().sum();
    let between = client.checked_sub(counted).expect("nothing is counted twice");
    assert!(
        (least..=most).contains(&between),
        "{between} of {client} are missing, {least} to {most} were done meanwhile"
    );
    println!(
        "{client} connects in {:?}, {between} of them between two agents",
        watch.elapsed()
    );
    // The last agent sees their end, as all ten have seen them open.
    Traffic {
        active: 0,
        ..Traffic::of(&agent.metrics(), &[("destination", &*scene.echo)])
    }
    .expect_of(&agent, scene.group.id(), &scene.echo);
}
