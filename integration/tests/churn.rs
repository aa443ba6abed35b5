//! A thousand services, and containers, come and go beside a load that never rests: each has what it did, and nothing stays of it.
#![expect(clippy::print_stdout, reason = "how fast it went is there to be read")]
use std::{collections::BTreeMap, fs, path::Path, process::Command, thread, time::Duration};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, Metrics, Netns, Place, Running, Script, Stopwatch, built, eventually, free_port,
    pause, require_root, require_tool,
};

const CONNECTS: &str = "container_net_tcp_successful_connects_total";
const SENT: &str = "container_net_tcp_bytes_sent_total";
const RECEIVED: &str = "container_net_tcp_bytes_received_total";
const SERVICES: usize = 1_000;
const NAMESPACE: &str = "tarsier-it";
/// For all of them.
const TIME: Duration = Duration::from_secs(290);
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

/// Processes that are there, whoever's.
fn living() -> f64 {
    let entries = fs::read_dir("/proc").expect("it is mounted").flatten();
    let pids = entries.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|byte| byte.is_ascii_digit())
    });
    pids.count() as f64
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

    /// What it does, and where.
    fn words(&self, index: usize) -> Vec<String> {
        let words = ["--count", &EACH.to_string(), "--send", "16", "--receive", "32"];
        let words = [&["connect", &self.addresses[index]], &words[..]].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    fn service(&self, index: usize) -> (String, Cgroup) {
        let group = Cgroup::service(&format!("churn-{index}"));
        let words = self.words(index);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let report = Place::new().cgroup(&group).netns(&self.netns).run(&words);
        assert_eq!((&report["connected"], &report["failed"]), (&EACH.into(), &0.into()));
        (group.id().to_owned(), group)
    }
}

struct Container {
    socket: String,
    name: String,
}

impl Container {
    fn ctr(socket: &str, words: &[&str]) {
        let mut ctr = Command::new("ctr");
        let output = ctr
            .args(["-a", socket, "-n", NAMESPACE])
            .args(words)
            .output()
            .expect("ctr starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
    }

    /// It does what is its own, and then rests until it is removed.
    fn run(scene: &Scene, socket: &str, index: usize) -> (String, Self) {
        let name = format!("churn-{index}");
        let folder = built("workload").parent().map(|folder| folder.display().to_string());
        // The image has no libraries.
        let libraries = ["/lib", "/lib64"]
            .into_iter()
            .filter(|folder| Path::new(folder).exists());
        let mounts = libraries.map(|folder| (folder.to_owned(), folder));
        let mounts = mounts.chain(folder.map(|folder| (folder, "/it")));
        let mounts: Vec<_> = mounts
            .map(|(from, to)| format!("type=bind,src={from},dst={to},options=rbind:ro"))
            .collect();
        let netns = format!("network:{}", scene.netns.path());
        let work = format!(
            "/it/workload {} >/dev/null; exec sleep 1000",
            scene.words(index).join(" ")
        );
        let mut words = vec!["run", "-d", "--with-ns", &netns];
        words.extend(mounts.iter().flat_map(|mount| ["--mount", mount]));
        words.extend(["localhost/pause:test", &name, "sh", "-c", &work]);
        Self::ctr(socket, &words);
        let (socket, id) = (socket.to_owned(), format!("/containerd/{NAMESPACE}/{name}"));
        (id, Self { socket, name })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // After a failure the daemon's end takes the rest along.
        if !thread::panicking() {
            Self::ctr(&self.socket, &["tasks", "rm", "-f", &self.name]);
            Self::ctr(&self.socket, &["containers", "rm", &self.name]);
        }
    }
}

/// By several threads, each its part.
fn in_parts<T: Send, R: Send>(all: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut parts: Vec<Vec<T>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (at, one) in all.into_iter().enumerate() {
        parts[at % THREADS].push(one);
    }
    let work = &work;
    thread::scope(|scope| {
        let begin = |part: Vec<T>| scope.spawn(move || part.into_iter().map(work).collect::<Vec<_>>());
        let parts: Vec<_> = parts.into_iter().map(begin).collect();
        let parts = parts.into_iter().map(|part| part.join().expect("they do their work"));
        parts.flatten().collect()
    })
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

/// As many of them as there is time for; how many that were. `at_once` come, are looked at, and go, before the next do: one
/// period of the GC is all they have.
fn churn<T: Send>(
    agent: &Agent,
    mut scene: Scene,
    at_once: usize,
    come: impl Fn(&Scene, usize) -> (String, T) + Sync,
) -> usize {
    scene.load.tell("to 0");
    pause(Duration::from_secs(3));
    let (before, resident_before) = (sizes(&agent.metrics()), resident_kib(agent));
    let watch = Stopwatch::start();
    let mut done = 0;
    while done < SERVICES && watch.elapsed() < TIME {
        let here: Vec<usize> = (done..SERVICES).take(at_once).collect();
        done += here.len();
        let groups = in_parts(here, |index| (index, come(&scene, index)));
        let watch = Stopwatch::start();
        loop {
            let metrics = agent.metrics();
            let missing = groups
                .iter()
                .find(|(index, (id, _))| !is_exact(&metrics, id, &scene.addresses[*index]));
            let Some((index, (id, _))) = missing else { break };
            let labels = [("container_id", id.as_str())];
            let wrong = format!("{index}: {:?}", metrics.all(CONNECTS, &labels).collect::<Vec<_>>());
            assert!(watch.elapsed() < LONG, "{wrong}");
            pause(Duration::from_millis(200));
        }
        in_parts(groups, drop);
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
        let others = living();
        let larger = after.iter().find(|(name, size)| {
            let before = before.get(*name).copied().unwrap_or_default();
            let alive = if *name == "processes" { others } else { 0.0 };
            **size > before.max(alive) + OTHERS
        });
        let Some(larger) = larger else { break };
        let all = (&before, &after, others, agent.admin("/api/v1/containers"));
        assert!(watch_gc.elapsed() < 4 * GC, "{larger:?} is larger than before: {all:?}");
        pause(Duration::from_secs(1));
    }
    let mut resident = 0;
    eventually(2 * GC, "memory is given back", || {
        resident = resident_kib(agent);
        resident < resident_before + 8 * 1024
    });
    println!("{done} in {elapsed:?}, beside {made} connects; resident {resident_before} KiB before, {resident} after");
    done
}

fn agent() -> AgentBuilder {
    let gc = format!("{}s", GC.as_secs());
    Agent::builder()
        .set("GC__INTERVAL", &gc)
        .set("HTTP__SCRAPE_TIMEOUT", "5s")
}

#[test]
fn a_thousand_services_beside_a_load() {
    if !(require_root() && require_tool(&["ip", "nsenter"])) {
        return;
    }
    let agent = agent().start();
    let done = churn(&agent, Scene::new(), 200, Scene::service);
    assert_eq!(done, SERVICES);
}

/// Of a real containerd, each with its shim: as many as come and go in the time, which on two cores are most of them.
#[test]
fn a_thousand_containers_beside_a_load() {
    if !(require_root() && require_tool(&["ip", "nsenter", "containerd", "ctr", "runc", "busybox"])) {
        return;
    }
    // Removes what runc leaves of it, after the containers are gone.
    let _left = Cgroup::at(&format!("/{NAMESPACE}"));
    let containerd = Script::new("containerd.sh");
    containerd.run(&["start"]);
    containerd.run(&["run", NAMESPACE, "first", "--net-host", "--", "sleep", "10000"]);
    let socket = containerd.run(&["sock"]);
    let agent = agent().set("RUNTIMES__CONTAINERD__SOCKETS", &socket).start();
    let done = churn(&agent, Scene::new(), 50, |scene, index| {
        Container::run(scene, &socket, index)
    });
    assert!(done >= 200, "{done}");
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
