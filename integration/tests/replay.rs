//! What was recorded as root on this kernel is played back by nobody, to the same metrics.
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::Duration,
};
use tarsier_integration::{Agent, Metrics, Stage, Traffic, binary, free_port, pause, require_root, require_tool};

#[test]
fn a_recording_replays_to_the_same_metrics() {
    if !(require_root() && require_tool(&["ip", "setpriv"])) {
        return;
    }
    let builder = Agent::builder();
    let recording = builder.folder().join("recording");
    let (stage, port, closed) = (
        Stage::with(builder.argument("--record").argument(&recording)),
        free_port(),
        free_port(),
    );
    let [v4, v6] = stage.netns.outside(port).map(|address| address.to_string());
    let [refused, _] = stage.netns.outside(closed).map(|address| address.to_string());
    let server = stage
        .server()
        .start(&["serve", &v4, &v6, "--read", "10", "--answer", "20"]);
    for address in [&v4, &v6] {
        stage
            .client()
            .run(&["connect", address, "--count", "300", "--send", "10", "--receive", "20"]);
        let expected = Traffic {
            successful: 300,
            sent: 3_000,
            received: 6_000,
            ..Traffic::default()
        };
        stage.expect(address, &expected);
    }
    stage.client().run(&["connect", &refused, "--count", "20"]);
    stage.client().run(&["storm", "--count", "100"]);
    stage.expect(
        &refused,
        &Traffic {
            failed: 20,
            ..Traffic::default()
        },
    );
    // Two passes, so that nothing is on its way.
    pause(Duration::from_millis(2500));
    let live = stage.agent.metrics();
    let Stage {
        mut agent,
        netns,
        client_group,
        server_group,
    } = stage;
    // Copied: its folder goes with the agent.
    let kept = tempfile::tempdir().unwrap();
    fs::set_permissions(kept.path(), Permissions::from_mode(0o755)).unwrap();
    let recorded = kept.path().join("recording");
    agent.signal(rustix::process::Signal::TERM);
    assert!(agent.wait_for_end(Duration::from_secs(5)).success());
    fs::copy(&recording, &recorded).unwrap();
    fs::set_permissions(&recorded, Permissions::from_mode(0o644)).unwrap();

    let mut nobody = Command::new("setpriv");
    nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
    ]);
    let output = nobody.arg(binary()).arg("replay").arg(&recorded).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let replayed = Metrics::parse(&String::from_utf8(output.stdout).unwrap());
    for group in [&client_group, &server_group] {
        let of_group = |metrics: &Metrics| {
            let mut lines = metrics.lines("container_", &["machine_id", "system_uuid"]);
            lines.retain(|line| line.contains(&format!("container_id={:?}", group.id())));
            lines
        };
        let (live, replayed) = (of_group(&live), of_group(&replayed));
        assert!(!live.is_empty());
        assert_eq!(live, replayed);
    }
    // Those of others may have gone on for a moment after the scrape, but none is missing.
    let names = |metrics: &Metrics| -> Vec<_> {
        let containers = metrics
            .samples()
            .iter()
            .filter(|sample| sample.name.starts_with("container_"));
        containers
            .map(|sample| (sample.name.clone(), sample.label("container_id").to_owned()))
            .collect()
    };
    let there = names(&replayed);
    for name in names(&live) {
        assert!(there.contains(&name), "{name:?} is not in the replay");
    }
    drop((server, netns));
}
