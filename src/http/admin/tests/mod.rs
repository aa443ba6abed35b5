mod explains;
mod follows;
mod reloads;
mod taps;

use super::*;
use crate::{
    cli::{self, client::Client, client::ClientError},
    config::Config,
    http::fakes::{FakeRegistry, FakeSupervisor, NEVER, dead, running, samples},
};
use actix::Actor;
use serde_json::{Value, json};
use std::path::PathBuf;

struct Admin {
    dir: tempfile::TempDir,
}

impl Admin {
    /// Serves until the test's system ends.
    fn of(supervisor: FakeSupervisor) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let (faces, _clock) = supervisor.faces();
        actix_rt::spawn(serve(listener, faces).unwrap());
        Self { dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    async fn get(&self, path: &str) -> Result<Value, (u16, String)> {
        let (client, path) = (Client::new(self.socket()), path.to_owned());
        let answer = actix_rt::task::spawn_blocking(move || client.get(&path)).await;
        match answer.unwrap() {
            Ok(body) => Ok(serde_json::from_slice(&body).unwrap()),
            Err(ClientError::Refused { status, message }) => Err((status.as_u16(), message)),
            Err(other) => panic!("{other}"),
        }
    }
}

fn supervisor() -> FakeSupervisor {
    let registry = FakeRegistry {
        held: vec![samples("/a%2Fb c+d/ü"), samples("/system.slice/x")],
        after: Duration::ZERO,
    };
    FakeSupervisor {
        running: vec![running("/system.slice/x", Duration::ZERO), dead("/dead")],
        registry: Some(registry.start()),
        ..FakeSupervisor::default()
    }
}

fn slow(running: Vec<(ContainerId, actix::Recipient<GetSamples>)>) -> FakeSupervisor {
    let registry = FakeRegistry {
        held: Vec::new(),
        after: NEVER,
    };
    FakeSupervisor {
        running,
        registry: Some(registry.start()),
        ..FakeSupervisor::default()
    }
}

#[actix::test]
async fn containers_as_a_list() {
    let admin = Admin::of(supervisor());
    let list = admin.get("/api/v1/containers").await.unwrap();
    let ids: Vec<_> = list["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["id"])
        .collect();
    assert_eq!(
        ids,
        ["/a%2Fb c+d/ü", "/system.slice/x"],
        "each once, without the dead one"
    );
    let expected = json!({"id": "/system.slice/x", "app_id": "", "processes": 4, "since_unix": 1.5,
        "exposed": true, "destinations": 1, "listens": 1});
    assert_eq!(list["containers"][1], expected);
    assert_eq!(list["late"], 0);
}

#[actix::test]
async fn one_container_by_its_id() {
    let admin = Admin::of(supervisor());
    let expected = json!({"id": "/system.slice/x", "app_id": "", "exposed": true, "since_unix": 1.5,
        "processes": 4, "application_types": ["nginx", "php"], "restarts": 6, "oom_kills": 2, "runtime": null,
        "destinations": [{"destination": "10.0.0.1:80", "actual_destination": "10.0.0.1:80",
            "successful_connects": 6, "failed_connects": 2, "active": 2, "connect_seconds": 0.002,
            "sent_bytes": 20, "received_bytes": 40, "retransmits": 8, "failures": {"refused": 2},
            "closes": {"local": 2, "peer": 2, "reset": 0, "timeout": 0}}],
        "listens": [{"address": "[::1]:443", "open": true, "sockets": 4, "accepted": 0, "active": 0, "sent_bytes": 0,
            "received_bytes": 0, "retransmits": 0,
            "closes": {"local": 0, "peer": 0, "reset": 0, "timeout": 0}}],
        "files": [{"path": r"/var/log/a\xff", "truncated": false, "mount_id": 29, "device": "259:1", "inode": 77,
            "deleted": false, "append": true, "processes": 4}],
        "files_left_out": 6,
        "requests": [
            {"protocol": "redis", "role": "client", "destination": "10.0.0.1:80", "actual_destination": "10.0.0.1:80",
                "counts": {"ok": 2, "failed": 4}, "seconds": 0.032},
            {"protocol": "http", "role": "server", "destination": null, "actual_destination": null,
                "counts": {"2xx": 2, "5xx": 4}, "seconds": 0.032}],
        "dns": {"asked": [
                {"domain": "~other", "request_type": "~other", "status": "servfail", "count": 2},
                {"domain": "a.example", "request_type": "TypeAAAA", "status": "ok", "count": 2}],
            "asked_seconds": 2.8e-8, "asked_in_vain": 8, "answered": {"nxdomain": 2}, "answered_seconds": 1.4e-8,
            "left_unanswered": 0},
        "unparsed": {"dns cut": 10}});
    for path in [
        "%2Fsystem.slice%2Fx",
        "system.slice/x",
        "/system.slice/x",
        "%2fsystem%2Eslice/x",
    ] {
        let answer = admin.get(&format!("/api/v1/containers/{path}")).await;
        assert_eq!(answer, Ok(expected.clone()), "{path}");
    }
    let odd = "/a%2Fb c+d/ü";
    let path = cli::client::percent_encode(odd);
    let answer = admin.get(&format!("/api/v1/containers/{path}")).await.unwrap();
    assert_eq!(answer["id"], odd);
}

#[actix::test]
async fn the_subcommands_read_it() {
    let admin = Admin::of(supervisor());
    let socket = admin.socket();
    let asked = move || {
        let args = || cli::AdminArgs {
            admin_socket: Some(socket.clone()),
        };
        let clock = crate::base::clock::ManualClock::new(0, 0, 61_500_000_000);
        let (mut list, mut one) = (Vec::new(), Vec::new());
        let ps = cli::PsArgs {
            json: false,
            admin: args(),
        };
        cli::ps::run(&ps, &clock, &mut list).unwrap();
        let inspect = cli::InspectArgs {
            id: "/system.slice/x".to_owned(),
            json: false,
            admin: args(),
        };
        cli::inspect::run(&inspect, &clock, &mut one).unwrap();
        (String::from_utf8(list).unwrap(), String::from_utf8(one).unwrap())
    };
    let (list, one) = actix_rt::task::spawn_blocking(asked).await.unwrap();
    assert!(
        list.contains("/system.slice/x          4             1        1  yes       1m"),
        "{list}"
    );
    assert!(
        one.contains("refused 2") && one.contains("[::1]:443  yes         4"),
        "{one}"
    );
}

#[actix::test]
async fn the_rest_of_the_routes() {
    let admin = Admin::of(supervisor());
    let features = admin.get("/api/v1/features").await.unwrap();
    assert_eq!(features, json!({"ready": false, "features": []}));
    let ledger = admin.get("/api/v1/ledger").await.unwrap();
    assert_eq!(ledger["consistent"], true);
    assert_eq!(ledger["kinds"].as_array().unwrap().len(), crate::base::ledger::KINDS);
    assert_eq!(ledger["kinds"][0]["imbalance"], 0);
    let actors = admin.get("/api/v1/actors").await.unwrap();
    assert_eq!(
        actors["actors"][0],
        json!({"actor": "registry", "state": "running", "restarts": 1, "queued": 0})
    );
    assert_eq!(actors["registry"]["tables"][0]["table"], "processes");
    assert_eq!(actors["tables"], json!([]), "those actors are not there");
    assert_eq!(actors["kernel"]["collects"], false);
    let config: Config = serde_json::from_value(admin.get("/api/v1/config").await.unwrap()).unwrap();
    assert_eq!(config, Config::default());
}

#[actix::test]
async fn what_is_not_there() {
    let admin = Admin::of(supervisor());
    let refused = async |path: &str| admin.get(path).await.unwrap_err();
    assert_eq!(
        refused("/api/v1/containers/nowhere").await,
        (404, "no container /nowhere".to_owned())
    );
    assert_eq!(refused("/api/v1/containers/").await, (404, "no container /".to_owned()));
    assert_eq!(
        refused("/api/v1/nothing").await,
        (404, "there is nothing at /api/v1/nothing".to_owned())
    );
    assert_eq!(refused("/metrics").await.0, 404);
    let dead = refused("/api/v1/containers/dead").await;
    assert_eq!(dead, (503, "the container is being restarted, try again".to_owned()));
    let without = FakeSupervisor {
        registry: None,
        ..supervisor()
    };
    let admin = Admin::of(without);
    let unknown = admin.get("/api/v1/containers/nowhere").await.unwrap_err();
    assert_eq!(unknown, (503, "the registry is being restarted, try again".to_owned()));
}

#[actix::test]
async fn who_does_not_answer() {
    let late = |who: &str| Err((504, format!("{who} did not answer within 800ms")));
    let admin = Admin::of(slow(vec![running("/a", NEVER)]));
    assert_eq!(admin.get("/api/v1/containers").await, late("the core"));
    assert_eq!(admin.get("/api/v1/containers/a").await, late("the container"));
    assert_eq!(admin.get("/api/v1/containers/b").await, late("the registry"));
    assert_eq!(admin.get("/api/v1/actors").await.unwrap()["registry"], Value::Null);
    let admin = Admin::of(slow(Vec::new()));
    assert_eq!(admin.get("/api/v1/containers").await, late("the registry"));
    let admin = Admin::of(slow(vec![running("/a", Duration::ZERO), running("/b", NEVER)]));
    let list = admin.get("/api/v1/containers").await.unwrap();
    assert_eq!(
        (list["containers"].as_array().unwrap().len(), &list["late"]),
        (1, &json!(1))
    );
    let admin = Admin::of(FakeSupervisor {
        answers: Some(0),
        ..FakeSupervisor::default()
    });
    assert_eq!(admin.get("/api/v1/containers").await, late("the supervisor"));
    assert_eq!(admin.get("/api/v1/actors").await, late("the supervisor"));
    assert!(admin.get("/api/v1/ledger").await.is_ok(), "asks nobody");
}

mod methods {
    use super::*;
    use actix_web::{
        body::to_bytes,
        test::{TestRequest, call_service, init_service},
    };

    async fn answer(supervisor: FakeSupervisor, request: TestRequest) -> (u16, String, Value) {
        let app = App::new().app_data(Data::from(supervisor.faces().0)).configure(routes);
        let response = call_service(&init_service(app).await, request.to_request()).await;
        let allowed = response
            .headers()
            .get("allow")
            .map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body()).await.unwrap();
        (
            status,
            allowed.unwrap_or_default(),
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    #[actix::test]
    async fn only_questions() {
        for path in [
            "containers",
            "containers/a",
            "containers/a/tap",
            "features",
            "ledger",
            "actors",
            "config",
            "events",
            "explain/1",
        ] {
            let request = TestRequest::post().uri(&format!("/api/v1/{path}"));
            let error = json!({"error": "only GET is answered here"});
            assert_eq!(
                answer(supervisor(), request).await,
                (405, "GET".to_owned(), error),
                "{path}"
            );
        }
    }

    #[cfg(feature = "test-hooks")]
    #[actix::test]
    async fn hooks_break_things() {
        let supervisor = supervisor();
        let broken = Arc::clone(&supervisor.broken);
        let app = App::new().app_data(Data::from(supervisor.faces().0)).configure(routes);
        let app = init_service(app).await;
        for (path, status) in [
            ("panic/registry", 200),
            ("panic/nobody", 404),
            ("block/core?ms=1500", 200),
            ("block/core", 400),
            ("lose-event", 200),
            ("dns-answered?name=a.example&addresses=192.0.2.1,x", 200),
            ("dns-answered", 400),
        ] {
            let request = TestRequest::post().uri(&format!("/api/v1/test/{path}"));
            let response = call_service(&app, request.to_request()).await;
            assert_eq!(response.status().as_u16(), status, "{path}");
        }
        let expected = [
            r#"Panic("registry")"#,
            r#"Panic("nobody")"#,
            "BlockCore(1.5s)",
            "LoseEvent",
            "DnsAnswered(DnsAnswered { name: [97, 46, 101, 120, 97, 109, 112, 108, 101], addresses: [192.0.2.1] })",
        ];
        assert_eq!(*broken.lock(), expected);
    }

    #[cfg(not(feature = "test-hooks"))]
    #[actix::test]
    async fn no_hooks_in_this_build() {
        for path in ["panic/registry", "block/core?ms=1", "lose-event"] {
            let request = TestRequest::post().uri(&format!("/api/v1/test/{path}"));
            assert_eq!(answer(supervisor(), request).await.0, 404, "{path}");
        }
    }
}
