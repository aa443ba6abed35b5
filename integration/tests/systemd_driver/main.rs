//! A workload of every kind that systemd itself puts into cgroups, on a machine with a systemd as its first process and nothing
//! but cgroup v2, booted in QEMU. Each listens, and connects to the next one a number of times: that stands under exactly its
//! id, and nowhere else.
mod table;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use table::{KINDS, Kind, POD_UID};
use tarsier_integration::{
    Metrics, Share,
    kernel::{Boot, Emulator, Machine, lacking},
    require_tool, strangers,
};

const KERNEL: &str = "linux-image-6.12-cloud-amd64";
/// The disk, what containers are mounted by, and the pod's network.
const MODULES: [&str; 4] = ["virtio_blk", "overlay", "veth", "bridge"];
const FIRST_PORT: u16 = 8001;
const ROUNDS: usize = 3;

/// When `node.sh` shows what the agent says.
struct Phase {
    when: &'static str,
    /// All that it can have seen; `None`: nothing yet.
    round: Option<usize>,
    /// The features that do not work.
    lacks: &'static [&'static str],
}

/// As root, then as the shipped unit has it, without CAP_SYS_ADMIN.
const PHASES: [Phase; 3] = [
    Phase {
        when: "younger",
        round: Some(0),
        lacks: &[],
    },
    Phase {
        when: "older",
        round: None,
        lacks: &["inventory_waiting"],
    },
    Phase {
        when: "older-and-busy",
        round: Some(2),
        lacks: &["inventory_waiting"],
    },
];

/// A kind in its place.
struct Row {
    kind: &'static Kind,
    port: u16,
    next: String,
    /// How often it connects in each round.
    connects: [u64; ROUNDS],
    /// And the one before it.
    accepted: [u64; ROUNDS],
}

impl Row {
    fn all() -> Vec<Self> {
        let count = KINDS.len();
        // No two neighbours have the same number.
        let connects = |at: usize| [3, 2, 4].map(|least| least + at as u64 % 5);
        let row = |at: usize| {
            let (kind, next) = (&KINDS[at], (at + 1) % count);
            // As the bridge gives addresses: itself, and whoever comes first.
            let host = match (kind.is_bridged, KINDS[next].is_bridged) {
                (_, true) => "10.213.251.2",
                (true, false) => "10.213.251.1",
                (false, false) => "127.0.0.1",
            };
            Self {
                kind,
                port: FIRST_PORT + at as u16,
                next: format!("{host}:{}", FIRST_PORT + next as u16),
                connects: connects(at),
                accepted: connects((at + count - 1) % count),
            }
        };
        (0..count).map(row).collect()
    }

    /// For `node.sh`.
    fn line(&self) -> String {
        let Kind { name, start, id, .. } = self.kind;
        let id = if id.is_empty() { "-" } else { id };
        let [first, second, third] = self.connects;
        format!(
            "{name} {start} {} {} {id} {first} {second} {third}\n",
            self.port, self.next
        )
    }
}

#[test]
fn each_kind_stands_under_its_own_id_where_systemd_places_it() {
    if !require_tool(&["mmdebstrap", "mke2fs", "depmod", "modprobe", "xz"]) {
        return;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let Some(emulator) = Emulator::new(Machine::Amd64, target.expect("it is in the target folder")) else {
        return;
    };
    let rows = Row::all();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = folder.path().join("rows");
    fs::write(&table, rows.iter().map(Row::line).collect::<String>()).expect("the folder is ours");
    let of_repository = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let files: [PathBuf; 5] = [
        table,
        of_repository("runtimes/mkimage.sh"),
        of_repository("runtimes/cri.py"),
        of_repository("../systemd/tarsier.service"),
        of_repository("../systemd/sysusers.conf"),
    ];
    let boot = emulator.boot_system(KERNEL, &MODULES, &files, include_str!("node.sh"));

    for row in &rows {
        placed_by_systemd(&boot, row);
        did_as_told(&boot, row);
    }
    for phase in &PHASES {
        judge(&boot, phase, &rows);
    }
}

/// The cgroup is the one that the row is about.
#[track_caller]
fn placed_by_systemd(boot: &Boot, row: &Row) {
    let group = boot.section(&format!("group {}", row.kind.name)).trim_end();
    let is_drawn = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = group.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let words = words.map(|word| {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_drawn(&bare) {
            word.replace(bare, "X")
        } else {
            word.to_owned()
        }
    });
    assert_eq!(words.collect::<String>(), row.kind.path, "{}", row.kind.name);
}

/// There is nothing to be seen that did not happen.
#[track_caller]
fn did_as_told(boot: &Boot, row: &Row) {
    let said = boot.section(&format!("said {}", row.kind.name));
    let reports = said
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    let connected: Vec<_> = reports
        .map(|report| (report["connected"].as_u64(), report["failed"].as_u64()))
        .collect();
    assert_eq!(
        connected,
        row.connects.map(|count| (Some(count), Some(0))),
        "{}: {said}",
        row.kind.name
    );
}

/// What the agent says of all that happened since it started.
#[track_caller]
fn judge(boot: &Boot, phase: &Phase, rows: &[Row]) {
    let Phase { when, round, lacks } = *phase;
    let metrics = Metrics::parse(boot.section(when));
    let of_round = |counts: &[u64; ROUNDS]| round.map_or(0, |round| counts[round]);
    let mut wrong = Vec::new();
    for row in rows {
        let Kind {
            name, id, app, told, ..
        } = *row.kind;
        let share = Share {
            name,
            id,
            app,
            told,
            port: row.port,
            next: row.next.clone(),
            connects: of_round(&row.connects),
            accepted: of_round(&row.accepted),
        };
        let container = match id {
            "" => Value::Null,
            _ => serde_json::from_str(boot.section(&format!("{when} {name}"))).unwrap_or_default(),
        };
        wrong.extend(share.wrong_in(&metrics));
        wrong.extend(share.wrong_in_container(&container));
    }
    let drawn = rows.iter().flat_map(|row| {
        let group = boot.section(&format!("group {}", row.kind.name)).trim_end();
        group
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| word.len() == 64)
    });
    let drawn: Vec<_> = drawn.map(|id| &id[..12]).chain([POD_UID]).collect();
    wrong.extend(strangers(&metrics, drawn.into_iter()));
    assert!(wrong.is_empty(), "{when}:\n{}", wrong.join("\n"));
    assert_eq!(
        lacking(&metrics),
        lacks.iter().map(|&row| row.to_owned()).collect(),
        "{when}"
    );
    let lost = metrics.sum("tarsier_events_dropped_total", &[("class", "loss")]);
    assert_eq!(lost, 0.0, "{when}");
}
