//! The clients of Docker and Podman, against the real ones and against sockets that behave as no engine does.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]
use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tarsier::runtimes::{
    Change, Client, Engines, Lookup, RuntimeError,
    docker::{Docker, Podman},
    metadata::{LogFormat, Metadata},
};
use tarsier_integration::{Script, Stopwatch, free_port, require_root, require_tool};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(5);
const DOCKER_IMAGE: &str = "busybox:test";
const PODMAN_IMAGE: &str = "docker.io/library/busybox:test";

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

fn lookup(id: &str) -> Lookup {
    Lookup::Engine {
        id: id.into(),
        engines: Engines::Any,
    }
}

async fn inspect<C: Client>(client: &C, id: &str) -> Result<Option<Metadata>, RuntimeError> {
    timeout(LIMIT, client.inspect(&lookup(id))).await.expect("it answers")
}

/// Until a change is this one.
async fn until<C: Client>(client: &C, change: &Change) {
    let seen = async { while client.next_change().await.expect("events come") != *change {} };
    timeout(Duration::from_secs(10), seen)
        .await
        .unwrap_or_else(|_| panic!("{change:?} does not come"));
}

/// An engine and how its client is called.
struct Real {
    script: Script,
    client: &'static str,
    image: &'static str,
}

impl Real {
    fn run(&self, words: &[&str]) -> String {
        self.script.run(&[&[self.client], words].concat())
    }

    fn sockets(&self) -> Vec<PathBuf> {
        // Something before it that is not there.
        vec!["/nonexistent/engine.sock".into(), self.script.run(&["sock"]).into()]
    }

    /// All that there is to know of a container, and what happens to it.
    async fn shows_everything<C: Client>(&self) {
        let client = C::connect(&self.sockets()).await.unwrap();
        let (port, second) = (free_port(), free_port());
        let [v4, v6] = [format!("127.0.0.1:{port}:80"), format!("{second}:81/tcp")];
        let folder = self.script.folder().join("data");
        std::fs::create_dir_all(&folder).unwrap();
        let volume = format!("{}:/data", folder.display());
        let huge = format!("huge={}", "x".repeat(100_000));
        let id = self.run(&[
            "run",
            "-d",
            "--name",
            "w1",
            "-l",
            "team=x",
            "-l",
            "quoted=a\"b/\u{e9}",
            "-l",
            &huge,
            "-e",
            "NOMAD_JOB_NAME=shop",
            "-e",
            "OTHER=1",
            "-v",
            &volume,
            "-p",
            &v4,
            "-p",
            &v6,
            self.image,
            "sleep",
            "600",
        ]);
        until(&client, &Change::Changed(id.as_str().into())).await;
        let found = inspect(&client, &id).await.unwrap().expect("it is known");
        assert_eq!(
            (found.runtime, found.name.as_str(), found.image.as_str()),
            (C::RUNTIME, "w1", self.image)
        );
        assert_eq!(found.labels["team"], "x");
        assert_eq!(found.labels["quoted"], "a\"b/\u{e9}");
        assert!(!found.labels.contains_key("huge"), "longer than any that is of use");
        assert_eq!(found.environment.len(), 1, "{:?}", found.environment);
        assert_eq!(found.environment["NOMAD_JOB_NAME"], "shop");
        assert_eq!(found.mounts["/data"], folder.to_str().unwrap());
        let command = std::fs::read(format!("/proc/{}/cmdline", found.pid)).unwrap();
        assert_eq!(command, b"sleep\x00600\0");
        let published: Vec<_> = found
            .published
            .iter()
            .map(|port| (port.host.to_string(), port.port))
            .collect();
        assert!(published.contains(&(format!("127.0.0.1:{port}"), 80)), "{published:?}");
        assert!(published.contains(&(format!("0.0.0.0:{second}"), 81)), "{published:?}");
        assert!(!found.sandbox);
        self.log(&found);

        assert_eq!(inspect(&client, &"0".repeat(64)).await.unwrap(), None);
        assert_eq!(inspect(&client, "../../version").await.unwrap(), None);
        let unit = Lookup::Unit {
            unit: "a.service".into(),
        };
        assert_eq!(client.inspect(&unit).await.unwrap(), None);

        // A name that is another's id is not that one.
        let taken = "f".repeat(64);
        let other = self.run(&["create", "--name", &taken, self.image, "sleep", "1"]);
        until(&client, &Change::Changed(other.as_str().into())).await;
        assert!(inspect(&client, &taken).await.unwrap_or(None).is_none());

        self.run(&["rename", "w1", "w2"]);
        until(&client, &Change::Changed(id.as_str().into())).await;
        assert_eq!(inspect(&client, &id).await.unwrap().unwrap().name, "w2");
        self.run(&["rm", "-f", "w2"]);
        until(&client, &Change::Gone(id.as_str().into())).await;
    }

    fn log(&self, found: &Metadata) {
        let log = found.log.as_ref().expect("it has a file");
        assert!(log.path.exists(), "{log:?}");
        let format = match self.client {
            "docker" => LogFormat::DockerJson,
            _ => LogFormat::Cri,
        };
        assert_eq!(log.format, format);
    }

    /// What waits for news hears of it, and so does who asks.
    async fn says_when_it_dies<C: Client>(&self) {
        let client = C::connect(&self.sockets()).await.unwrap();
        // What has happened in the same second comes again, then it is being waited for.
        while let Ok(change) = timeout(Duration::from_millis(500), client.next_change()).await {
            change.unwrap();
        }
        self.script.run(&["kill"]);
        let end = timeout(LIMIT, client.next_change()).await.expect("the stream ends");
        assert!(matches!(end, Err(RuntimeError::Broken { .. })), "{end:?}");
        // The stream may end before the socket does: who connects in between is reset.
        let watch = Stopwatch::start();
        let mut answer = inspect(&client, &"0".repeat(64)).await;
        while matches!(answer, Err(RuntimeError::Broken { .. })) && watch.elapsed() < LIMIT {
            answer = inspect(&client, &"0".repeat(64)).await;
        }
        assert!(matches!(answer, Err(RuntimeError::Connect { .. })), "{answer:?}");
        let again = C::connect(&self.sockets()).await.map(drop);
        assert!(
            matches!(again, Err(RuntimeError::Connect { .. } | RuntimeError::Broken { .. })),
            "{again:?}"
        );
    }
}

#[test]
fn a_real_docker() {
    if !(require_root() && require_tool(&["dockerd", "docker", "containerd", "runc", "iptables", "busybox"])) {
        return;
    }
    let docker = Real {
        script: Script::new("dockerd.sh").env("BRIDGED", "1"),
        client: "docker",
        image: DOCKER_IMAGE,
    };
    docker.script.run(&["start", "--bip", "172.30.213.1/24"]);
    wait(async {
        docker.shows_everything::<Docker>().await;
        let other = Podman::connect(&docker.sockets()).await.map(drop);
        assert!(
            matches!(other, Err(RuntimeError::NoSocket { .. })),
            "it is no Podman: {other:?}"
        );
        docker.says_when_it_dies::<Docker>().await;
    });
}

#[test]
fn a_real_podman() {
    if !(require_root() && require_tool(&["podman", "runc", "conmon", "iptables", "busybox"])) {
        return;
    }
    let podman = Real {
        script: Script::new("podman.sh"),
        client: "podman",
        image: PODMAN_IMAGE,
    };
    podman.script.run(&["start"]);
    wait(async {
        podman.shows_everything::<Podman>().await;
        let other = Docker::connect(&podman.sockets()).await.map(drop);
        assert!(
            matches!(other, Err(RuntimeError::NoSocket { .. })),
            "it is no Docker: {other:?}"
        );
        podman.says_when_it_dies::<Podman>().await;
    });
}

const VERSION: &str = r#"{"ApiVersion":"1.41","Version":"20","Components":[{"Name":"Engine","Version":"20"}]}"#;

/// By which an engine is known.
const PONG: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK";

fn answer(body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn target(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A socket at which each connection is handled by `behave`, which is given what was asked for.
fn strange(behave: impl Fn(&str, UnixStream) + Send + Sync + 'static) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let behave = std::sync::Arc::new(behave);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, behave) = (stream.unwrap(), std::sync::Arc::clone(&behave));
            thread::spawn(move || {
                let target = target(&mut stream);
                behave(&target, stream);
            });
        }
    });
    (folder, vec![path])
}

/// Writes until nobody listens any more; says how much.
fn pour(stream: &mut UnixStream, part: &[u8]) -> usize {
    let mut poured = 0;
    while let Ok(written) = stream.write(part) {
        poured += written;
    }
    poured
}

fn hold(mut stream: UnixStream) {
    // Until the other side closes.
    stream.read_to_end(&mut Vec::new()).ok();
}

#[test]
fn sockets_where_no_engine_answers() {
    let connect = |sockets: &[PathBuf]| {
        let watch = Stopwatch::start();
        let result = wait(async { timeout(Duration::from_secs(2), Docker::connect(sockets)).await });
        assert!(watch.elapsed() < Duration::from_secs(2), "{:?}", watch.elapsed());
        result.unwrap().map(drop)
    };
    assert!(matches!(connect(&[]), Err(RuntimeError::NoSocket { .. })));
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(
        connect(&[file.path().to_owned()]),
        Err(RuntimeError::NoSocket { .. })
    ));

    let (_silent, never) = strange(|_, stream| hold(stream));
    assert!(matches!(connect(&never), Err(RuntimeError::Deadline { .. })));
    let (_closed, closes) = strange(|_, _| {});
    assert!(matches!(connect(&closes), Err(RuntimeError::Broken { .. })));
    let (_garbage, garbage) = strange(|_, mut stream| {
        stream.write_all(b"\x00\xff\x13 no HTTP at all \r\n\r\n").ok();
    });
    assert!(matches!(connect(&garbage), Err(RuntimeError::Broken { .. })));
    for other in ["", "Api-Version: new\r\n", "Api-Version: 1\r\n", "Api-Version: é\r\n"] {
        let (_other, other) = strange(move |_, mut stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n{other}Content-Length: 2\r\n\r\nOK").ok();
        });
        assert!(matches!(connect(&other), Err(RuntimeError::Nonsense { .. })));
    }
    let (_endless, endless) = strange(|_, mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"Version\":\"").ok();
        pour(&mut stream, &[b'x'; 65_536]);
    });
    assert!(matches!(connect(&endless), Err(RuntimeError::Nonsense { .. })));
    let (_heads, heads) = strange(|_, mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").ok();
        pour(&mut stream, b"x: y\r\n");
    });
    assert!(matches!(
        connect(&heads),
        Err(RuntimeError::Broken { .. } | RuntimeError::Nonsense { .. })
    ));

    // None of them is in the way of one who answers.
    let (_good, good) = strange(|_, mut stream| drop(stream.write_all(PONG)));
    assert!(connect(&[never, closes, good].concat()).is_ok());
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    high.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A client of an engine that answers well until it is asked for a container or for events.
fn with(behave: impl Fn(&str, UnixStream) + Send + Sync + 'static, test: impl AsyncFnOnce(Docker, &Path)) {
    let (folder, sockets) = strange(move |target, mut stream| match target == "/_ping" {
        true => drop(stream.write_all(PONG)),
        false => behave(target, stream),
    });
    wait(async { test(Docker::connect(&sockets).await.unwrap(), folder.path()).await });
}

#[test]
fn answers_about_containers_that_are_none() {
    let id = "a".repeat(64);
    let fails = |what: &'static str, answer: Vec<u8>| {
        let id = id.clone();
        let write = move |_: &str, mut stream: UnixStream| drop(stream.write_all(&answer));
        with(write, async move |client, _| {
            let found = inspect(&client, &id).await;
            assert!(found.is_err(), "{what}: {found:?}");
            let text = found.unwrap_err().to_string();
            assert!(text.len() < 1000 && !text.contains('\n'), "{what}: {text}");
        });
    };
    fails("nothing", Vec::new());
    fails("no HTTP", b"\n\n\x01".to_vec());
    fails("half an answer", answer(VERSION)[..120].to_vec());
    fails("no JSON", answer("\u{1b}[2J\n{\"Id\":"));
    fails(
        "another container",
        answer(&format!(r#"{{"Id":"{}"}}"#, "b".repeat(64))),
    );
    fails(
        "not UTF-8",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\xc0".to_vec(),
    );
    fails("an error", b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nbad".to_vec());
}

#[test]
fn answers_without_end() {
    with(
        |_, mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"Id\":\"").ok();
            let poured = pour(&mut stream, &[b'x'; 65_536]);
            assert!(poured < 16 << 20, "{poured}");
        },
        async |client, _| {
            let before = resident_bytes();
            let ids: Vec<_> = (0..16).map(|number| format!("{number:064x}")).collect();
            let all = ids.iter().map(|id| inspect(&client, id));
            for found in futures_util::future::join_all(all).await {
                assert!(matches!(found, Err(RuntimeError::Nonsense { .. })), "{found:?}");
            }
            let grown = resident_bytes() - before;
            assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
        },
    );
    with(
        |_, mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"Action\":\"").ok();
            pour(&mut stream, &[b'x'; 65_536]);
        },
        async |client, _| {
            let change = timeout(LIMIT, client.next_change()).await.expect("it gives up");
            assert!(matches!(change, Err(RuntimeError::Nonsense { .. })), "{change:?}");
        },
    );
}

#[test]
fn an_answer_that_never_comes_leaves_nothing_behind() {
    let (closed, closes) = std::sync::mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    with(
        move |_, stream| {
            hold(stream);
            closed.lock().unwrap().send(()).unwrap();
        },
        async move |client, _| {
            let id = lookup(&"a".repeat(64));
            let answer = timeout(Duration::from_millis(200), client.inspect(&id)).await;
            assert!(answer.is_err(), "{answer:?}");
            // The connection ends with the call, though the client goes on.
            let end = tokio::task::spawn_blocking(move || closes.recv_timeout(LIMIT))
                .await
                .unwrap();
            assert!(end.is_ok(), "the connection is still open");
        },
    );
}

#[test]
fn events_that_are_none_are_passed_over() {
    let id = "c".repeat(64);
    let labels: Vec<_> = (0..10_000).map(|number| format!("\"l{number}\":\"x\"")).collect();
    let huge = format!("{},\"big\":\"{}\"", labels.join(","), "x".repeat(1 << 20));
    let event = |action: &str, id: &str, labels: &str| {
        format!(
            "{{\"Type\":\"container\",\"Action\":\"{action}\",\"Actor\":{{\"ID\":\"{id}\",\"Attributes\":{{{labels}}}}}}}\n"
        )
    };
    let lines = [
        "{}\n".to_owned(),
        event("start", "short", ""),
        event("exec_start", &id, ""),
        event("rename", &id, &huge),
        event("start", &"é".repeat(32), ""),
        event("destroy", &id, &huge),
        "[]\n".to_owned(),
    ];
    let body = lines.concat();
    with(
        move |target, mut stream| {
            assert!(target.contains("/events?"), "{target}");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
            stream.write_all(body.as_bytes()).ok();
        },
        async move |client, _| {
            assert_eq!(client.next_change().await.unwrap(), Change::Changed(id.as_str().into()));
            assert_eq!(client.next_change().await.unwrap(), Change::Gone(id.as_str().into()));
            let end = client.next_change().await;
            assert!(end.is_err(), "{end:?}");
        },
    );
}
