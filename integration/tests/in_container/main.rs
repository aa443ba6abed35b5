//! The agent in a container of its own, with its own namespaces for mounts and network, started by the words of the documents:
//! it sees what one outside sees, and what it cannot see it says.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]
mod host;
mod scene;
mod watching;

use scene::{PLAIN, SERVICE, Scene, WEB};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    time::Duration,
};
use tarsier_integration::{
    Agent, Feature, Metrics, Stopwatch, agent_image, eventually, pause, realtime_is_rationed, require_root,
    require_tool,
};
use watching::{Documented, IMAGE, Watching, older_engine, without};

const CONNECTS: &str = "container_net_tcp_successful_connects_total";
const ACTIVE: &str = "container_net_tcp_active_connections";
const SOON: Duration = Duration::from_secs(30);
const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

/// Which translations an agent can learn of.
#[derive(Clone, Copy, PartialEq)]
enum Translated {
    Everywhere,
    AtTheHost,
    Nowhere,
}

/// By destination and where it leads to: open ones, and connects since the agent came.
type Rows = BTreeMap<(String, String), (u64, u64)>;

fn rows(metrics: &Metrics, id: &str) -> Rows {
    let labels = [("container_id", id)];
    let mut rows = Rows::new();
    for (family, connects) in [(ACTIVE, false), (CONNECTS, true)] {
        for sample in metrics.all(family, &labels) {
            let key = ["destination", "actual_destination"].map(|label| sample.label(label).to_owned());
            let row = rows.entry(key.into()).or_default();
            *(if connects { &mut row.1 } else { &mut row.0 }) += sample.value as u64;
        }
    }
    rows
}

fn expected(scene: &Scene, translated: Translated) -> BTreeMap<&str, Rows> {
    let row = |to: &str, actual: &str, open, connects| ((to.to_owned(), actual.to_owned()), (open, connects));
    let to = |by_host: bool, to: &str, actual: &str, open, connects| {
        let known = translated == Translated::Everywhere || by_host && translated == Translated::AtTheHost;
        row(to, if known { actual } else { to }, open, connects)
    };
    BTreeMap::from([
        (
            WEB,
            [
                row(&scene.keeps, &scene.keeps, 3, 0),
                row(&scene.closes, &scene.closes, 0, 20),
            ]
            .into(),
        ),
        (
            scene.client.id(),
            [
                to(true, &scene.published, &scene.web, 5, 40),
                to(false, SERVICE, &scene.closes, 0, 10),
            ]
            .into(),
        ),
        (PLAIN, [to(true, &scene.published, &scene.web, 0, 15)].into()),
        (scene.server.id(), [row(&scene.loopback, &scene.loopback, 0, 6)].into()),
    ])
}

fn files(container: &Value) -> BTreeSet<String> {
    let files = container["files"].as_array().cloned().unwrap_or_default();
    files.iter().map(ToString::to_string).collect()
}

fn paths(container: &Value) -> Vec<String> {
    let files = container["files"].as_array().cloned().unwrap_or_default();
    let path = |file: &Value| file["path"].as_str().unwrap().to_owned();
    files.iter().map(path).collect()
}

/// Addresses at which it listens.
fn listens(metrics: &Metrics, id: &str) -> BTreeSet<String> {
    let labels = [("container_id", id)];
    let all = metrics.all("container_net_tcp_listen_info", &labels);
    all.map(|row| row.label("listen_addr").to_owned()).collect()
}

/// The rows that say of something that it is not there, or why.
fn complaints(agent: &Watching<'_>) -> Vec<String> {
    let rows = agent.features().unwrap_or_default().into_values();
    let by_chance = |row: &Feature| match row.name.as_str() {
        // Somebody on the machine may ask a name server meanwhile.
        "fqdn" => true,
        "realtime" => realtime_is_rationed(),
        _ => false,
    };
    let rows = rows.filter(|row| !by_chance(row) && (!row.ok() || !row.reason.is_empty()));
    rows.map(|row| format!("{} {} {}", row.name, row.state, row.reason))
        .collect()
}

#[track_caller]
fn wait_for(agent: &Watching<'_>, what: &str, wrong: impl Fn() -> Option<String>) {
    let watch = Stopwatch::start();
    while let Some(wrong) = wrong() {
        assert!(
            watch.elapsed() < SOON,
            "{}: {what}: {wrong}\n{}",
            agent.name(),
            agent.log()
        );
        pause(Duration::from_millis(200));
    }
}

#[track_caller]
fn assert_complaints(agent: &Watching<'_>, expected: &[&str]) {
    let usual = ["cilium off absent", "crio off absent", "systemd off absent"];
    let mut expected = [expected, &usual[..]].concat();
    expected.sort_unstable();
    wait_for(agent, "rows", || {
        let found = complaints(agent);
        (found != expected).then(|| format!("{found:?} instead of {expected:?}"))
    });
}

fn ready() -> bool {
    let tools = [
        "dockerd",
        "docker",
        "podman",
        "conmon",
        "containerd",
        "ctr",
        "runc",
        "iptables",
    ];
    require_root()
        && require_tool(&tools)
        && require_tool(&["ip", "busybox", "mmdebstrap", "chroot", "mount", "umount"])
}

fn outside(scene: &Scene) -> Watching<'static> {
    let agent = Agent::builder()
        .set("KERNEL__FILES_INTERVAL", "1s")
        .set("RUNTIMES__DOCKER__SOCKETS", &scene.docker.run(&["sock"]))
        .set("RUNTIMES__PODMAN__SOCKETS", &scene.podman.run(&["sock"]))
        .set("RUNTIMES__CONTAINERD__SOCKETS", &scene.containerd.run(&["sock"]))
        .set("RUNTIMES__SYSTEMD__ENABLED", "false");
    Watching::Outside(agent.start())
}

#[test]
fn it_sees_what_one_outside_sees() {
    if !ready() {
        return;
    }
    let mut scene = Scene::new();
    let archive = scene.docker.folder().join("image.tar");
    agent_image(&archive, IMAGE, Path::new(env!("CARGO_TARGET_TMPDIR")));
    let archive = archive.to_str().unwrap();
    scene.docker.run(&["docker", "load", "-q", "-i", archive]);
    scene.podman.run(&["podman", "load", "-q", "-i", archive]);
    scene.older();
    let scene = scene;
    let documented = Documented::read();
    let proc = [
        "-v".to_owned(),
        format!("{}:/host/proc:ro", scene.host.proc.path().display()),
        "-e".to_owned(),
        "TARSIER__HOST__PROC=/host/proc".to_owned(),
    ];
    // In a cgroup namespace, too, as Docker does it by itself where there are no v1 hierarchies.
    let mut mounts = documented.mounts(&scene.host);
    mounts.extend(["--cgroupns", "private"].map(str::to_owned));
    let (docker, podman) = (("docker", &scene.docker), ("podman", &scene.podman));
    let seccomp = |words: &mut Vec<String>| words.push("--security-opt=seccomp=unconfined".to_owned());

    let mut agents = vec![
        (outside(&scene), Translated::Everywhere),
        (
            documented.run(docker, "first", older_engine, &proc),
            Translated::Everywhere,
        ),
        // As the documents say to the word: without CAP_SYS_ADMIN.
        (documented.run(podman, "exact", seccomp, &proc), Translated::Nowhere),
        (
            documented.run(
                podman,
                "network",
                |words| {
                    seccomp(words);
                    without(words, "-p");
                    words.extend(["--network".to_owned(), "host".to_owned()]);
                },
                &proc,
            ),
            Translated::AtTheHost,
        ),
    ];
    // Where the first process is to be seen, nobody looks at mounts.
    if fs::read_link("/proc/1/ns/net").is_ok() {
        writeln!(std::io::stderr(), "SKIPPED the mounts: the first process is to be seen").unwrap();
    } else {
        agents.push((
            documented.run(docker, "mounts", older_engine, &mounts),
            Translated::Everywhere,
        ));
    }
    for (agent, _) in &agents {
        eventually(SOON, &format!("{} is ready", agent.name()), || {
            let rows = agent.features().unwrap_or_default();
            rows.get("tcp_state").is_some_and(Feature::ok)
        });
    }
    for (agent, _) in &agents {
        wait_for(agent, "what is older", || {
            let metrics = agent.metrics();
            let open = |id: &str| rows(&metrics, id).into_values().map(|row| row.0).sum::<u64>();
            let found = [open(WEB), open(scene.client.id())];
            (found != [3, 5]).then(|| format!("{found:?}"))
        });
    }
    scene.newer();
    for (agent, translated) in &agents {
        for (id, expected) in expected(&scene, *translated) {
            wait_for(agent, id, || {
                let found = rows(&agent.metrics(), id);
                (found != expected).then(|| format!("{found:#?} instead of {expected:#?}"))
            });
        }
    }
    // Longer than two passes: what would be counted twice, would be by now.
    pause(Duration::from_millis(2500));
    let (first, _) = agents.first().unwrap();
    let seen = |agent: &Watching<'_>, id: &str| (listens(&agent.metrics(), id), files(&agent.container(id)));
    let mut own = paths(&first.container(WEB));
    own.sort();
    assert_eq!(own, ["/it/log", "/tmp/own"]);
    let log = scene.log();
    // Where the test writes to may be a file, too.
    assert!(paths(&first.container(scene.server.id())).contains(&log.to_str().unwrap().to_owned()));
    assert!(seen(first, WEB).0.contains(&scene.web), "{:?}", seen(first, WEB));
    assert!(seen(first, scene.server.id()).0.contains(&scene.loopback));
    for (agent, translated) in &agents {
        for (id, expected) in expected(&scene, *translated) {
            assert_eq!(
                rows(&agent.metrics(), id),
                expected,
                "{}: {id}, a little later",
                agent.name()
            );
            let expected = seen(first, id);
            wait_for(agent, id, || {
                let found = seen(agent, id);
                (found != expected).then(|| format!("{found:#?} instead of {expected:#?}"))
            });
        }
        let ids = agent.metrics();
        let ids = ids.samples().iter().filter(|row| row.name.starts_with("container_"));
        let ids: BTreeSet<_> = ids.map(|row| row.label("machine_id").to_owned()).collect();
        let outside = matches!(agent, Watching::Outside(_));
        assert!(
            outside || ids == BTreeSet::from([MACHINE_ID.to_owned()]),
            "{}: {ids:?}",
            agent.name()
        );
        let waiting = "inventory_waiting off no_permission";
        match agent.name() {
            "first" | "mounts" => assert_complaints(agent, &[]),
            "exact" => assert_complaints(agent, &["conntrack degraded no_permission", waiting]),
            "network" => assert_complaints(agent, &["conntrack ok host_only", waiting]),
            _ => {}
        }
    }
    drop(agents);

    let alone = documented.run(
        docker,
        "alone",
        |words| {
            older_engine(words);
            without(words, "--pid");
        },
        &mounts[..0],
    );
    eventually(SOON, "it answers", || alone.features().is_some());
    let rows = [
        "containerd off absent",
        "docker off absent",
        "host_files degraded own_files",
        "host_netns degraded own_namespace",
        "podman off absent",
        "proc degraded not_the_hosts",
    ];
    assert_complaints(&alone, &rows);
}
