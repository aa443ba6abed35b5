//! The units of a systemd in a container, watched from outside: each start after the first is a restart.
use std::{path::Path, time::Duration};
use tarsier_integration::{Agent, Script, eventually, pause, require_root, require_tool};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn units_are_restarted() {
    if !(require_root() && require_tool(&["systemd-nspawn", "mmdebstrap", "nsenter"])) {
        return;
    }
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd-root");
    let systemd = Script::new("systemd.sh")
        .env("ROOT", root.to_str().expect("a path is text"))
        .env("MACHINE", &format!("tarsier-it-{}", std::process::id()));
    systemd.run(&["start", "--private-network"]);
    let inside = |words: &[&str]| systemd.run(&[&["exec"], words].concat());
    let leader = systemd.run(&["leader"]);
    let cgroup = std::fs::read_to_string(format!("/proc/{leader}/cgroup")).expect("it runs");
    // Its first process is in `init.scope` below the root of its tree.
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let tree = paths.filter_map(|path| path.strip_suffix("/init.scope")).next();
    let tree = tree.unwrap_or_else(|| panic!("no tree of its own: {cgroup}"));
    let agent = Agent::builder().set("IDENTITY__CGROUP_ROOT", tree).start();

    let unit = |name: &str, properties: &[&str]| {
        let properties: Vec<_> = properties.iter().flat_map(|property| ["-p", property]).collect();
        let unit = format!("--unit={name}");
        inside(&[&["systemd-run", "-q", &unit], &properties[..], &["sleep", "100000"]].concat());
    };
    let restarts = |name: &str| {
        let id = format!("/system.slice/{name}.service");
        agent
            .metrics()
            .value("container_restarts_total", &[("container_id", &id)])
    };
    let expect = |name: &str, count: f64| {
        eventually(PATIENCE, &format!("{name} was restarted {count} times"), || {
            restarts(name) == Some(count)
        });
        pause(Duration::from_millis(1100));
        assert_eq!(restarts(name), Some(count), "{name}");
    };
    // One that prepares something first, and one that is in the background with a worker.
    unit(
        "plain",
        &["ExecStartPre=/bin/sleep 0.1", "Restart=always", "RestartSec=1200ms"],
    );
    expect("plain", 0.0);
    for round in 1..=2 {
        inside(&["systemctl", "restart", "plain"]);
        expect("plain", f64::from(round));
    }
    inside(&["systemctl", "kill", "-s", "KILL", "plain"]);
    expect("plain", 3.0);
    unit("quiet", &[]);
    expect("quiet", 0.0);
    inside(&["systemctl", "stop", "plain", "quiet"]);
    expect("plain", 3.0);
    expect("quiet", 0.0);
}
