//! The unit as it is shipped, under a real systemd in a container. Process ids differ there, so what is looked at is how
//! it starts, speaks and is restarted, not whom it sees.
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tarsier_integration::{Script, admin_post, binary, eventually, eventually_some, require_root, require_tool};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/tarsier.service");
/// The watchdog of the unit is a patient one.
const DROP_IN: &str = "[Service]\nEnvironment=TARSIER__SUPERVISOR__WATCHDOG=4s\n";

struct Machine {
    systemd: Script,
    _files: tempfile::TempDir,
}

impl Machine {
    fn start() -> Self {
        let unit = fs::read_to_string(UNIT).expect("the unit is in the repository");
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
        let program = value("ExecStart=")
            .and_then(|line| line.split_whitespace().next())
            .expect("it starts something");
        let capabilities = unit
            .lines()
            .filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let capabilities: Vec<_> = capabilities.flat_map(str::split_whitespace).collect();
        assert!(!capabilities.is_empty(), "the unit says what it needs");
        let files = tempfile::tempdir().expect("a temporary folder");
        let drop_in = files.path().join("drop-in.conf");
        fs::write(&drop_in, DROP_IN).expect("the folder is ours");
        // Made once for all runs: it takes half a minute.
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd-root");
        let machine = format!("tarsier-it-{}", std::process::id());
        let systemd = Script::new("systemd.sh")
            .env("ROOT", root.to_str().expect("a path is text"))
            .env("MACHINE", &machine);
        let bind = |from: &Path, to: &str| format!("--bind-ro={}:{to}", from.display());
        systemd.run(&[
            "start",
            "--private-network",
            &bind(&binary(), program),
            &bind(Path::new(UNIT), "/etc/systemd/system/tarsier.service"),
            &bind(&drop_in, "/etc/systemd/system/tarsier.service.d/it.conf"),
            &format!("--capability={}", capabilities.join(",")),
            "--system-call-filter=bpf perf_event_open",
        ]);
        Self { systemd, _files: files }
    }

    fn exec(&self, words: &[&str]) -> String {
        self.systemd.run(&[&["exec"], words].concat())
    }

    fn property(&self, name: &str) -> String {
        self.exec(&["systemctl", "show", "tarsier", "--value", "-p", name])
    }

    fn admin_socket(&self) -> PathBuf {
        Path::new(&self.systemd.run(&["rootfs"])).join("run/tarsier/admin.sock")
    }

    fn journal(&self) -> Vec<Value> {
        let text = self.exec(&["journalctl", "-u", "tarsier", "-o", "json", "--no-pager"]);
        text.lines()
            .map(|line| serde_json::from_str(line).expect("journalctl prints JSON"))
            .collect()
    }
}

/// As the unit's own user, who may read the file and ask the agent.
fn reloads(machine: &Machine) {
    let write = |text: &str| {
        let script = format!("mkdir -p /etc/tarsier; echo '{text}' > /etc/tarsier/tarsier.yaml");
        machine.exec(&["sh", "-c", &script]);
    };
    let shown = || {
        machine
            .exec(&["tarsier", "ps"])
            .contains("/system.slice/theirs.service")
    };
    write("filters: {deny: [/theirs.service]}");
    machine.exec(&["systemctl", "reload", "tarsier"]);
    assert!(!shown());
    write("filters: {deny: [a(b]}");
    let code = machine.exec(&["sh", "-c", "systemctl reload tarsier 2>&1; echo $?"]);
    assert_ne!(code.lines().last(), Some("0"), "{code}");
    assert!(!shown());
    assert_eq!(machine.property("ActiveState"), "active");
    let refused = |entry: &Value| {
        let said = entry["MESSAGE"].as_str().unwrap_or_default();
        said.contains("the configuration is refused") && entry.to_string().contains("line 1, column 18")
    };
    eventually(Duration::from_secs(10), "the journal says so", || {
        machine.journal().iter().any(refused)
    });
    machine.exec(&["rm", "/etc/tarsier/tarsier.yaml"]);
    machine.exec(&["systemctl", "reload", "tarsier"]);
    assert!(shown());
}

#[test]
fn the_unit_starts_notifies_logs_and_is_restarted() {
    if !(require_root() && require_tool(&["systemd-nspawn", "mmdebstrap", "nsenter"])) {
        return;
    }
    let machine = Machine::start();
    // Returns when the unit has said READY=1, and fails if it ends before.
    machine.exec(&["systemctl", "start", "tarsier"]);
    assert_eq!(machine.property("Type"), "notify");
    assert_eq!(machine.property("ActiveState"), "active");
    assert_ne!(machine.property("WatchdogUSec"), "0", "systemd watches it");

    let entries = machine.journal();
    // What systemd itself says of the unit is not from the unit.
    let ours: Vec<_> = entries
        .iter()
        .filter(|entry| entry["_SYSTEMD_UNIT"] == "tarsier.service")
        .collect();
    assert!(!ours.is_empty(), "the agent logged nothing: {entries:?}");
    for entry in &ours {
        for field in ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"] {
            assert!(entry[field].is_string(), "no {field}: {entry}");
        }
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "tarsier");
        assert_eq!(entry["_TRANSPORT"], "journal", "by the journal's own protocol: {entry}");
    }
    let structured = ours
        .iter()
        .any(|entry| entry["COMPONENT"].is_string() || entry["TARSIER_COMPONENT"].is_string());
    assert!(structured, "no entry says which part speaks: {ours:?}");

    let main = machine.property("MainPID");
    let of_its_threads = || machine.exec(&["chrt", "--all-tasks", "--pid", &main]);
    eventually(Duration::from_secs(10), "one thread goes before others", || {
        of_its_threads().matches("SCHED_RR").count() == 1
    });

    // The machine's own services are left out by default.
    machine.exec(&["systemd-run", "--unit=theirs", "sleep", "300"]);
    eventually(
        Duration::from_secs(20),
        "its own commands reach it, and show what runs",
        || {
            machine
                .exec(&["tarsier", "ps"])
                .contains("/system.slice/theirs.service")
        },
    );
    reloads(&machine);
    let first = machine.property("MainPID");
    let answer =
        admin_post(&machine.admin_socket(), "/api/v1/test/block/core?ms=60000").expect("the admin socket answers");
    assert!((200..300).contains(&answer.status), "{}", answer.text());
    eventually_some(Duration::from_secs(60), "systemd restarts it", || {
        let ready = machine.property("ActiveState") == "active" && machine.property("MainPID") != first;
        (ready && machine.property("NRestarts") == "1").then_some(())
    });
    let said = machine
        .journal()
        .iter()
        .filter(|entry| entry["MESSAGE"].as_str().is_some_and(|text| text.contains("hung")))
        .count();
    assert!(said >= 1, "nobody said why");

    machine.exec(&["systemctl", "stop", "tarsier"]);
    assert_eq!(machine.property("Result"), "success");
    eventually(Duration::from_secs(5), "the socket is gone", || {
        !machine.admin_socket().exists()
    });
}
