use super::*;
use crate::{
    base::{ids::ProcKey, mailbox::tell, now::Now},
    config::TapDetail,
    decode::Comm,
    http::overheard::tests::told,
    registry::lifecycle::{Lifecycle, News, Subscribe},
    supervisor::messages::SetTap,
    tracer::tap::Overheard,
};
use actix::Recipient;
use actix_rt::task::JoinHandle;
use parking_lot::Mutex;
use std::{collections::BTreeSet, io::Write as _, os::unix::net::UnixStream};

const TAP: &str = "/api/v1/containers/system.slice/x/tap";

struct Scene {
    admin: Admin,
    subscribed: Arc<Mutex<Vec<Subscribe>>>,
    members: Arc<Mutex<BTreeSet<u32>>>,
    tapped: Arc<Mutex<Vec<SetTap>>>,
    untapped: Arc<Mutex<Vec<u64>>>,
}

impl Scene {
    /// A container with one process, 7, and others.
    fn new(detail: TapDetail) -> Self {
        let mut supervisor = supervisor();
        supervisor.config.admin.tap = detail;
        supervisor.members.lock().insert(7);
        supervisor.running.push(running("/docker/web", Duration::ZERO));
        Self {
            subscribed: Arc::clone(&supervisor.subscribed),
            members: Arc::clone(&supervisor.members),
            tapped: Arc::clone(&supervisor.tapped),
            untapped: Arc::clone(&supervisor.untapped),
            admin: Admin::of(supervisor),
        }
    }

    /// Reads so many events.
    fn read(&self, count: usize) -> JoinHandle<Vec<Value>> {
        let client = Client::new(self.admin.socket());
        actix_rt::task::spawn_blocking(move || {
            let mut seen = Vec::new();
            let read = client.follow(TAP, |data| {
                seen.push(serde_json::from_slice::<Value>(data).unwrap());
                seen.len() < count
            });
            read.unwrap();
            seen
        })
    }

    /// Asks, and never reads.
    fn stall(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.admin.socket()).unwrap();
        let request = format!("GET {TAP} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    async fn until_set(&self, count: usize) {
        until("they are watched", || self.tapped.lock().len() >= count).await;
    }

    fn to(&self) -> Recipient<Overheard> {
        self.tapped.lock().last().unwrap().tap.to.clone()
    }

    fn tgids(&self) -> Vec<u32> {
        self.tapped.lock().last().unwrap().tap.tgids.iter().copied().collect()
    }

    fn tell(&self, events: &[Lifecycle], lost: u64) {
        let news = News {
            events: events.into(),
            now: Now::default(),
            lost,
        };
        tell(&self.subscribed.lock()[0].to, news);
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let held = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), held).await.expect(what);
}

fn overheard(count: usize, left_out: u64) -> Overheard {
    Overheard {
        told: (0..count).map(|_| told(7)).collect(),
        left_out,
        now: Now::default(),
    }
}

fn process(tgid: u32) -> ProcKey {
    ProcKey { tgid, start_ns: 1 }
}

fn started(tgid: u32, container: &str) -> Lifecycle {
    Lifecycle::ProcessStarted {
        process: process(tgid),
        comm: Comm::default(),
        container: container.into(),
    }
}

#[actix::test]
async fn who_taps_gets_what_is_told_and_nobody_is_watched_after_him() {
    let scene = Scene::new(TapDetail::Payload);
    let reading = scene.read(3);
    scene.until_set(1).await;
    assert_eq!((scene.tgids(), scene.tapped.lock()[0].text), (vec![7], true));
    let to = scene.to();
    tell(&to, overheard(1, 0));
    tell(&to, overheard(1, 5));
    let seen = reading.await.unwrap();
    assert_eq!(
        (&seen[0]["event"], &seen[0]["verb"]),
        (&json!("exchange"), &json!("GET"))
    );
    assert_eq!(seen[1], seen[0]);
    assert_eq!(seen[2], json!({"event": "dropped", "exchanges": 5}));
    // It has hung up.
    until("the tap has ended", || !to.connected()).await;
    until("nobody is watched for it", || *scene.untapped.lock() == [1]).await;
}

#[actix::test]
async fn processes_are_followed() {
    let scene = Scene::new(TapDetail::Metadata);
    let _client = scene.stall();
    scene.until_set(1).await;
    assert!(!scene.tapped.lock()[0].text);
    let (x, y) = ("/system.slice/x", "/system.slice/y");
    scene.tell(&[started(8, x), started(9, y), started(10, x)], 0);
    scene.until_set(2).await;
    assert_eq!(scene.tgids(), [7, 8, 10]);
    let comm = Comm::default();
    let exited = Lifecycle::ProcessExited {
        process: process(7),
        comm,
        container: Some(x.into()),
    };
    let moved = |tgid, container: &str| Lifecycle::ProcessMoved {
        process: process(tgid),
        comm,
        container: Some(container.into()),
    };
    scene.tell(&[exited, moved(8, y), moved(9, x)], 0);
    scene.until_set(3).await;
    assert_eq!(scene.tgids(), [9, 10]);
    scene.tell(&[started(11, y)], 0);
    // What was missed can only be looked up.
    *scene.members.lock() = [20].into();
    scene.tell(&[], 3);
    scene.until_set(4).await;
    assert_eq!(scene.tgids(), [20]);
    // It is called otherwise from now on.
    *scene.members.lock() = [20, 21].into();
    let renamed = Lifecycle::ContainerIdentified {
        container: "/docker/web".into(),
        was: x.into(),
        runtime: None,
    };
    scene.tell(&[renamed], 0);
    scene.until_set(5).await;
    assert_eq!(scene.tgids(), [20, 21]);
    scene.tell(&[started(22, "/docker/web"), started(23, x)], 0);
    scene.until_set(6).await;
    assert_eq!(scene.tgids(), [20, 21, 22]);
    scene.tell(&[Lifecycle::Restarted], 0);
    until("all is void", || scene.tgids().is_empty()).await;
}

#[actix::test]
async fn who_does_not_read_is_told_and_dropped() {
    use std::io::Read as _;
    let scene = Scene::new(TapDetail::Metadata);
    let mut stalled = scene.stall();
    scene.until_set(1).await;
    let to = scene.to();
    // More than his socket and his queue take.
    for _ in 0..40 {
        tell(&to, overheard(1000, 0));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    until("nobody is watched for him", || *scene.untapped.lock() == [1]).await;
    assert!(!to.connected());
    let reading = actix_rt::task::spawn_blocking(move || {
        stalled.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 65_536]);
        while !text.contains("too_slow") {
            let read = stalled.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "the end without its reason");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        text
    });
    let text = reading.await.unwrap();
    let (_, last) = text.split_once("event: dropped\ndata: ").expect("it says how many");
    let dropped: Value = serde_json::from_str(last.lines().next().unwrap()).unwrap();
    assert!(dropped["exchanges"].as_u64().unwrap() > 0, "{dropped}");
    assert!(last.contains("event: ended\ndata: {\"event\":\"ended\",\"why\":\"too_slow\"}"));
}

#[actix::test]
async fn the_fifth_is_refused_and_so_is_what_is_not_there() {
    let scene = Scene::new(TapDetail::Metadata);
    let nowhere = scene.admin.get("/api/v1/containers/nowhere/tap").await;
    assert_eq!(nowhere, Err((404, "no container /nowhere".to_owned())));
    let taps: Vec<_> = (0..4).map(|_| scene.stall()).collect();
    scene.until_set(4).await;
    let refused = scene.admin.get(TAP).await;
    assert_eq!(refused, Err((503, "4 taps run already".to_owned())));
    drop(taps);
    until("all have gone", || scene.untapped.lock().len() == 4).await;
    let _again = scene.stall();
    scene.until_set(5).await;
}

#[actix::test]
async fn off_is_off() {
    let scene = Scene::new(TapDetail::Off);
    let refused = scene.admin.get(TAP).await;
    assert_eq!(
        refused,
        Err((403, "taps are off (admin.tap in the configuration)".to_owned()))
    );
    assert!(scene.tapped.lock().is_empty() && scene.subscribed.lock().is_empty());
}

#[actix::test]
async fn a_change_of_what_may_be_seen_ends_it() {
    let mut supervisor = supervisor();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    supervisor.config_file = Some(file.clone());
    let tapped = Arc::clone(&supervisor.tapped);
    let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
    let faces = supervisor.faces().0;
    actix_rt::spawn(serve(listener, Arc::clone(&faces)).unwrap());
    let client = Client::new(dir.path().join("admin.sock"));
    let reading = actix_rt::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        let one = |data: &[u8]| {
            seen.push(serde_json::from_slice::<Value>(data).unwrap());
            false
        };
        client.follow(TAP, one).unwrap();
        seen
    });
    until("it is tapped", || !tapped.lock().is_empty()).await;
    std::fs::write(&file, "log: {level: warn}").unwrap();
    Arc::clone(&faces).reload().await.unwrap();
    assert!(tapped.lock()[0].tap.to.connected(), "something else has changed");
    std::fs::write(&file, "admin: {tap: \"off\"}").unwrap();
    let reloaded = Arc::clone(&faces).reload().await.unwrap();
    assert_eq!(reloaded.changed, ["admin.tap", "log.level"]);
    assert_eq!(
        reading.await.unwrap(),
        [json!({"event": "ended", "why": "configuration"})]
    );
    until("nobody is watched", || !tapped.lock()[0].tap.to.connected()).await;
}
