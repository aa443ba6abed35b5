use super::*;
use crate::{
    config::Standalone,
    http::fakes::{FakeExplainer, node},
    registry::state::{Inventory, ProcessFound, RegistryState},
    run,
};
use std::fs;

/// A process that /proc and the registry know, and one each that only one of them does.
fn fake() -> (tempfile::TempDir, FakeSupervisor) {
    let proc = tempfile::tempdir().unwrap();
    for (pid, flags) in [(42, 0), (43, 0), (2, 0x0020_0000), (999, 0)] {
        let dir = proc.path().join(pid.to_string());
        fs::create_dir_all(&dir).unwrap();
        let stat = format!("{pid} (a b) S 1 7 7 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9 9");
        fs::write(dir.join("stat"), stat).unwrap();
        fs::write(dir.join("cgroup"), "3:cpu:/\n0::/system.slice/a.service\n").unwrap();
    }
    let mut settings = run::registry_settings(&Config::default()).unwrap();
    settings.standalone = Standalone::ByName;
    let mut state = RegistryState::new(settings, node());
    let found = |tgid| ProcessFound {
        process: crate::base::ids::ProcKey {
            tgid,
            start_ns: 47_110_000_000,
        },
        comm: *b"a b\0\0\0\0\0\0\0\0\0\0\0\0\0",
        kernel_thread: false,
        path: "/system.slice/a.service".into(),
    };
    let inventory = Inventory {
        taken_boottime_ns: u64::MAX,
        processes: [42, 44].map(found).into(),
        complete: true,
        sockets: None,
    };
    state.inventory(&inventory, crate::base::now::Now::default());
    let supervisor = FakeSupervisor {
        explainer: Some(FakeExplainer { state }.start()),
        proc: Some(proc.path().to_owned()),
        ..supervisor()
    };
    (proc, supervisor)
}

#[actix::test]
async fn a_process_step_by_step() {
    let (_proc, supervisor) = fake();
    let admin = Admin::of(supervisor);
    let expected = json!({"subject": "process", "pid": 42, "name": "a b", "start_boottime_ns": 47_110_000_000_u64,
        "cgroup": {"file": ["3:cpu:/", "0::/system.slice/a.service"], "path": "/system.slice/a.service",
            "rule": "unified", "removed": false, "cgroup_root": "/"},
        "placed": {"by": "proc", "cgroup_id": null, "path": "/system.slice/a.service", "same": true},
        "owner": {"rule": "systemd", "passed": ["talos_init", "users_and_init", "container_monitor", "kubernetes",
            "docker", "talos"], "is": "container", "id": "/system.slice/a.service"},
        "runtimes": {"asked_for": "unit a.service", "answers": []},
        "naming": {"state": "waits", "rule": null},
        "filter": {"id": "/system.slice/a.service", "verdict": "shown", "pattern": null},
        "container_id": "/system.slice/a.service", "shown": false, "why_none": null});
    assert_eq!(admin.get("/api/v1/explain/42").await, Ok(expected));
}

#[actix::test]
async fn what_cannot_be_explained() {
    let (_proc, supervisor) = fake();
    let admin = Admin::of(supervisor);
    let refused = async |subject: &str| admin.get(&format!("/api/v1/explain/{subject}")).await.unwrap_err();
    let error = |status, text: &str| (status, text.to_owned());
    assert_eq!(refused("41").await, error(404, "no process 41"));
    assert_eq!(refused("44").await, error(404, "process 44 has ended"));
    assert_eq!(
        refused("43").await,
        error(
            404,
            "process 43 is there, but the agent has not heard of it yet, or has no room for it"
        )
    );
    assert_eq!(
        refused("2").await,
        error(404, "2 is a thread of the kernel: those belong to nobody")
    );
    assert_eq!(
        refused("999").await,
        error(404, "999 is the agent, which does not watch itself")
    );
    for nonsense in ["", "-1", "4294967296", "10.0.0.1", "localhost:80", "10.0.0.1:80:80"] {
        let (status, text) = refused(nonsense).await;
        assert!(status == 400 && text.contains("neither a pid nor an address"), "{text}");
    }
}

#[actix::test]
async fn an_address_and_who_has_to_do_with_it() {
    let (_proc, supervisor) = fake();
    let admin = Admin::of(supervisor);
    let of = admin.get("/api/v1/explain/%5B::ffff:10.0.0.1%5D:80").await.unwrap();
    assert_eq!(of["address"], "10.0.0.1:80");
    let ids: Vec<_> = of["connects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["container_id"])
        .collect();
    assert_eq!(ids, ["/a%2Fb c+d/ü", "/system.slice/x"]);
    assert_eq!(of["listens"], json!([]));
    let of = admin.get("/api/v1/explain/%5B::1%5D:443").await.unwrap();
    let expected = json!({"container_id": "/system.slice/x", "address": "[::1]:443", "open": true});
    assert_eq!(of["listens"][1], expected);
    assert_eq!(of["connects"], json!([]));
    let hidden = json!({"socket": "connect_from_container", "hidden_by": "loopback_in_container"});
    assert_eq!(of["verdicts"][1], hidden);
}

#[actix::test]
async fn without_a_registry_nothing_is_explained() {
    let admin = Admin::of(supervisor());
    let gone = Err((503, "the registry is being restarted, try again".to_owned()));
    assert_eq!(admin.get("/api/v1/explain/42").await, gone);
    assert_eq!(admin.get("/api/v1/explain/10.0.0.1:80").await, gone);
}
