//! Connections to services that Cilium leads elsewhere count under where they went, as its own tables say. What is real in it
//! and what is made up says `scene`.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
mod scene;
mod tables;

use scene::{Family, Scene};
use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tables::{ARRAY, BpfFs, Connections, HASH, LRU_HASH, Table, pin};
use tarsier_integration::{Agent, AgentBuilder, eventually, pause, require_tool};

const PATIENCE: Duration = Duration::from_secs(20);

const V4: [&str; 3] = ["cilium_ct4_global", "cilium_lb4_backends_v2", "cilium_lb4_backends_v3"];
const V6: [&str; 3] = ["cilium_ct6_global", "cilium_lb6_backends_v2", "cilium_lb6_backends_v3"];

fn agent(bpffs: &BpfFs) -> AgentBuilder {
    Agent::builder()
        .set("CONNTRACK__CILIUM_MAPS", bpffs.globals().to_str().unwrap())
        .set("KERNEL__RETRY_INTERVAL", "1s")
}

#[track_caller]
fn says(agent: &Agent, state: &str, reason: &str) {
    eventually(
        PATIENCE,
        &format!("{state} {reason}; {:?}", agent.feature("cilium")),
        || {
            let row = agent.feature("cilium");
            (row.state.as_str(), row.reason.as_str()) == (state, reason)
        },
    );
}

/// `new` more connections to the service, which then has been led to both servers.
#[track_caller]
fn led(agent: &Agent, scene: &Scene, family: Family, new: u32) {
    let before = scene.shown(&agent.metrics(), family);
    scene.connect(family, new);
    let more = |metrics: &_| {
        let shown = scene.shown(metrics, family);
        [0, 1, 2].map(|at: usize| shown[at] - before[at])
    };
    let metrics = agent.metrics_when("destination", PATIENCE, |metrics| {
        more(metrics).iter().sum::<f64>() == f64::from(new)
    });
    let [one, other, service] = more(&metrics);
    assert!(one > 0.0 && other > 0.0 && service == 0.0, "{:?}", more(&metrics));
}

/// Those that nobody can tell about.
#[track_caller]
fn as_made(agent: &Agent, scene: &Scene, family: Family, new: u32) {
    let before = scene.shown(&agent.metrics(), family);
    scene.connect(family, new);
    let expected = [before[0], before[1], before[2] + f64::from(new)];
    agent.metrics_when("destination", PATIENCE, |metrics| {
        scene.shown(metrics, family) == expected
    });
}

/// With the backends in both releases of their table.
fn both_families(tracked: bool) {
    let Some(mut scene) = Scene::new() else { return };
    if tracked {
        scene.track();
    }
    let (v4, v6, bpffs) = (scene.v4, scene.v6, BpfFs::new());
    let folder = bpffs.make();
    let mut connections = Connections::<14>::pin(&folder, V4[0], LRU_HASH);
    scene.fill(v4, &mut connections, [7, u32::MAX]);
    let mut new = Table::<4, 12>::pin(&folder, V4[2], HASH);
    scene.name(v4, &mut new, [7, u32::MAX]);
    // Left by the release before, and out of date.
    let mut old = Table::<4, 8>::pin(&folder, V4[1], HASH);
    old.name(7, "10.99.9.9:9".parse().unwrap());
    let mut connections = Connections::<38>::pin(&folder, V6[0], HASH);
    scene.fill(v6, &mut connections, [1, 2]);
    let mut backends = Table::<4, 20>::pin(&folder, V6[1], HASH);
    scene.name(v6, &mut backends, [1, 2]);

    let agent = agent(&bpffs).start();
    says(&agent, "ok", "");
    scene.connect(v4, 200);
    scene.connect(v6, 200);
    agent.metrics_when("destination", PATIENCE, |metrics| scene.all(metrics) == 400.0);
    // Longer than two passes: what would be counted twice, would be by now.
    pause(Duration::from_secs(3));
    let metrics = agent.metrics();
    let shown = [v4, v6].map(|family| scene.shown(&metrics, family));
    let accepted = scene.accepted();
    assert_eq!(
        [0, 1].map(|at: usize| shown[0][at] + shown[1][at]),
        accepted,
        "{shown:?}"
    );
    assert!(
        shown
            .iter()
            .all(|[one, other, service]| *one > 0.0 && *other > 0.0 && *service == 0.0),
        "{shown:?}"
    );
    assert_eq!(scene.all(&metrics), 400.0);
    let asked = |outcome| metrics.value("tarsier_cilium_lookups_total", &[("outcome", outcome)]);
    assert!(asked("translated") >= Some(1.0), "{:?}", asked("translated"));
    assert_eq!([asked("no_backend"), asked("error")], [Some(0.0); 2]);
    // The kernel had nothing to tell.
    let kernel = |outcome| metrics.value("tarsier_conntrack_lookups_total", &[("outcome", outcome)]);
    assert_eq!([kernel("translated"), kernel("error")], [Some(0.0); 2]);
    assert_eq!(kernel("direct") > Some(0.0), tracked, "{:?}", kernel("direct"));
}

#[test]
fn services_that_the_kernel_knows_nothing_of() {
    both_families(false);
}

#[test]
fn services_that_the_kernel_sees_go_straight() {
    both_families(true);
}

/// Ids of the maps that the agent has open.
fn open_maps(agent: &Agent) -> Vec<u32> {
    let folder = format!("/proc/{}/fdinfo", agent.pid());
    let files = fs::read_dir(folder).unwrap().flatten();
    let id = |text: String| {
        text.lines()
            .find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok())
    };
    files
        .filter_map(|file| id(fs::read_to_string(file.path()).ok()?))
        .collect()
}

struct Tables {
    backends: Table<4, 12>,
    connections: Connections<14>,
}

impl Tables {
    fn pin(scene: &Scene, folder: &Path, numbers: [u32; 2]) -> Self {
        let mut backends = Table::pin(folder, V4[2], HASH);
        let mut connections = Connections::pin(folder, V4[0], LRU_HASH);
        scene.name(scene.v4, &mut backends, numbers);
        scene.fill(scene.v4, &mut connections, numbers);
        Self { backends, connections }
    }

    fn unpin(folder: &Path) {
        fs::remove_file(folder.join(V4[0])).unwrap();
        fs::remove_file(folder.join(V4[2])).unwrap();
    }

    fn held_by(&self, agent: &Agent) -> [bool; 2] {
        let open = open_maps(agent);
        [self.backends.id, self.connections.id].map(|id| open.contains(&id))
    }
}

#[test]
fn tables_come_late_are_replaced_and_go() {
    let Some(scene) = Scene::new() else { return };
    let bpffs = BpfFs::new();
    let agent = agent(&bpffs).start();
    says(&agent, "off", "absent");
    as_made(&agent, &scene, scene.v4, 20);
    // Cilium starts on a node where the agent has been for some time. What went straight until now is told of in sums.
    pause(Duration::from_secs(5));
    let folder = bpffs.make();
    let mut first = Tables::pin(&scene, &folder, [1, 2]);
    says(&agent, "ok", "");
    led(&agent, &scene, scene.v4, 40);
    assert_eq!(first.held_by(&agent), [true; 2]);

    // It is updated. What was there before goes on being written to by nobody, and would tell lies.
    Tables::unpin(&folder);
    let stale = "10.99.9.9:9".parse().unwrap();
    for number in [1, 2] {
        first.backends.name(number, stale);
    }
    let second = Tables::pin(&scene, &folder, [11, 12]);
    eventually(PATIENCE, "the agent takes the new ones", || {
        second.held_by(&agent) == [true; 2]
    });
    assert_eq!(first.held_by(&agent), [false; 2]);
    led(&agent, &scene, scene.v4, 40);
    assert_eq!(scene.counted(&agent.metrics(), scene.v4, stale), 0.0);

    // It is removed. Whoever has a table open keeps its memory.
    Tables::unpin(&folder);
    says(&agent, "off", "absent");
    assert_eq!(second.held_by(&agent), [false; 2]);
    let metrics = agent.metrics();
    scene.connect(scene.v4, 10);
    agent.metrics_when("destination", PATIENCE, |now| {
        scene.all(now) == scene.all(&metrics) + 10.0
    });
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}

#[test]
fn a_table_of_an_unknown_release_costs_only_itself() {
    let Some(scene) = Scene::new() else { return };
    let bpffs = BpfFs::new();
    let folder = bpffs.make();
    let mut connections = Connections::<38>::pin(&folder, V6[0], LRU_HASH);
    scene.fill(scene.v6, &mut connections, [1, 2]);
    let mut backends = Table::<4, 24>::pin(&folder, V6[2], HASH);
    scene.name(scene.v6, &mut backends, [1, 2]);
    let good = Connections::<14>::pin(&folder, V4[0], LRU_HASH);
    let agent = agent(&bpffs).start();
    says(&agent, "degraded", "incomplete");
    for (name, kind, key, value, hint) in [
        (V4[2], HASH, 4, 16, "values have 16 bytes, not 12"),
        (V4[2], HASH, 2, 12, "keys have 2 bytes, not 4"),
        (V4[2], ARRAY, 4, 12, "a map of type 2"),
        (V4[0], LRU_HASH, 14, 64, "values have 64 bytes, not 56"),
        (V4[0], LRU_HASH, 20, 56, "keys have 20 bytes, not 14"),
    ] {
        let path = folder.join(name);
        drop(fs::remove_file(&path));
        let map = pin(&path, kind, key, value);
        says(&agent, "degraded", "layout");
        eventually(PATIENCE, &format!("{hint}; {:?}", agent.feature("cilium")), || {
            let row = agent.feature("cilium");
            row.hint.contains(hint) && row.hint.contains(name)
        });
        assert!(!open_maps(&agent).contains(&map.info().unwrap().id()));
        fs::remove_file(&path).unwrap();
    }
    drop(good);
    as_made(&agent, &scene, scene.v4, 10);
    led(&agent, &scene, scene.v6, 40);
    // A right one makes it good.
    let tables = Tables::pin(&scene, &folder, [3, 4]);
    eventually(PATIENCE, "the agent takes them", || tables.held_by(&agent) == [true; 2]);
    says(&agent, "ok", "");
    led(&agent, &scene, scene.v4, 40);
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}

/// Numbers without a backend, backends without an address: the service's own address is shown, and nothing else.
#[test]
fn tables_full_of_nonsense() {
    let Some(scene) = Scene::new() else { return };
    let bpffs = BpfFs::new();
    let folder = bpffs.make();
    let mut backends = Table::<4, 12>::pin(&folder, V4[2], HASH);
    let mut connections = Connections::<14>::pin(&folder, V4[0], LRU_HASH);
    backends.name(1, "0.0.0.0:80".parse().unwrap());
    // The other one names none that there is.
    scene.fill(scene.v4, &mut connections, [1, 0]);
    let agent = agent(&bpffs).start();
    says(&agent, "ok", "");
    as_made(&agent, &scene, scene.v4, 40);
    let metrics = agent.metrics();
    let nonsense = metrics.value("tarsier_cilium_lookups_total", &[("outcome", "no_backend")]);
    assert!(nonsense >= Some(1.0), "{nonsense:?}");
}

#[test]
fn switched_off() {
    let Some(scene) = Scene::new() else { return };
    let bpffs = BpfFs::new();
    let tables = Tables::pin(&scene, &bpffs.make(), [1, 2]);
    for (key, value) in [("CONNTRACK__CILIUM_MAPS", ""), ("CONNTRACK__ENABLED", "false")] {
        let agent = agent(&bpffs).set(key, value).start();
        says(&agent, "off", "configured");
        as_made(&agent, &scene, scene.v4, 20);
        assert_eq!(tables.held_by(&agent), [false; 2]);
    }
}

/// The folder is the host's: for an agent in a container it lies in other mounts than its own.
#[test]
fn the_folder_is_below_the_hosts_root() {
    if !require_tool(&["unshare"]) {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    if fs::read_dir("/proc/1/root").is_ok() {
        // Then that is the host's root, and its mounts are not this test's to change.
        return writeln!(std::io::stderr(), "SKIPPED: the first process is to be seen").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t bpf none $0 && mkdir -p $0/tc/globals && echo ready && exec cat";
    let mut host = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    host.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let root = format!("/proc/{}/root", host.id());
    let globals = folder.path().join("tc/globals");
    let _tables = Tables::pin(
        &scene,
        &Path::new(&root).join(globals.strip_prefix("/").unwrap()),
        [1, 2],
    );
    assert!(!globals.exists(), "here nothing is mounted");
    let agent = Agent::builder()
        .set("CONNTRACK__CILIUM_MAPS", globals.to_str().unwrap())
        .set("HOST__ROOT", &root)
        .start();
    says(&agent, "ok", "");
    led(&agent, &scene, scene.v4, 40);
    drop(agent);
    drop(host.stdin.take());
    assert!(host.wait().unwrap().success());
}

/// The capabilities that a file gives, in the words of `setpriv`.
fn shipped(file: &str, given: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file);
    let given = given(&fs::read_to_string(path).unwrap());
    assert!(given.iter().any(|capability| capability == "+bpf"), "{given:?}");
    given
}

/// As the unit starts the agent, and as the DaemonSet does: with their powers and no others.
#[test]
fn with_the_powers_of_the_unit_and_the_pod() {
    if !require_tool(&["setpriv"]) {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    let bpffs = BpfFs::new();
    let _tables = Tables::pin(&scene, &bpffs.make(), [1, 2]);
    let unit = shipped("systemd/tarsier.service", |text| {
        let line = text.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
        let words = line.unwrap().split(' ').map(|word| word.strip_prefix("CAP_").unwrap());
        words.map(|word| format!("+{}", word.to_lowercase())).collect()
    });
    let pod = shipped("configs/kubernetes/daemonset.yaml", |text| {
        let lines = text.lines().skip_while(|line| line.trim() != "add:").skip(1);
        let words = lines.map_while(|line| line.trim().strip_prefix("- ")?.split(' ').next());
        words.map(|word| format!("+{}", word.to_lowercase())).collect()
    });
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let without = |lacks: &[&str]| -> Vec<_> {
        let left = unit.iter().filter(|word| !lacks.contains(&word.as_str()));
        left.cloned().collect()
    };
    for (given, user, expected) in [
        (&unit, &nobody[..], "ok"),
        (&pod, &[], "ok"),
        (&without(&["+dac_override"]), &nobody, "degraded"),
        // Root's folder: whether anything is in it is not to be seen.
        (&without(&["+dac_override", "+dac_read_search"]), &nobody, "off"),
    ] {
        let given = given.join(",");
        let mut words = vec!["setpriv".to_owned(), format!("--bounding-set=-all,{given}")];
        if !user.is_empty() {
            words.push(format!("--inh-caps={given}"));
            words.push(format!("--ambient-caps={given}"));
        }
        words.extend(user.iter().map(|&word| word.to_owned()));
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let builder = agent(&bpffs);
        let owner = (!user.is_empty()).then_some(65534);
        std::os::unix::fs::chown(builder.folder(), owner, owner).unwrap();
        let agent = builder.wrapped_in(&words).start();
        if expected == "ok" {
            says(&agent, "ok", "");
            led(&agent, &scene, scene.v4, 40);
        } else {
            says(&agent, expected, "no_permission");
            let row = agent.feature("cilium");
            assert!(row.hint.contains("CAP_DAC_OVERRIDE"), "{row:?}");
            as_made(&agent, &scene, scene.v4, 40);
        }
        assert!(agent.stop().1.success());
    }
}
