use super::*;
use crate::{
    base::{mailbox::tell, now::Now},
    registry::lifecycle::{Lifecycle, News},
};

fn news(id: &str) -> News {
    News {
        events: [Lifecycle::ContainerRetired { container: id.into() }].into(),
        now: Now::default(),
        lost: 0,
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

#[actix::test]
async fn a_client_gets_what_is_told_until_it_has_enough() {
    let supervisor = supervisor();
    let subscribed = Arc::clone(&supervisor.subscribed);
    let admin = Admin::of(supervisor);
    let client = Client::new(admin.socket());
    let reading = actix_rt::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        let two = |data: &[u8]| {
            seen.push(serde_json::from_slice::<Value>(data).unwrap());
            seen.len() < 2
        };
        client.follow("/api/v1/events", two).unwrap();
        seen
    });
    until("it has subscribed", || !subscribed.lock().is_empty()).await;
    let to = subscribed.lock()[0].to.clone();
    tell(&to, news("/a"));
    tell(&to, news("/b"));
    let seen = reading.await.unwrap();
    assert_eq!(
        seen[0],
        json!({"time_unix": 0.0, "event": "container_retired", "container_id": "/a"})
    );
    assert_eq!(seen[1]["container_id"], "/b");
    // It has hung up, and nobody has to write to it for that to be noticed.
    until("the follower has gone", || !to.connected()).await;
}

#[actix::test]
async fn the_ninth_is_refused_until_another_goes() {
    let supervisor = supervisor();
    let subscribed = Arc::clone(&supervisor.subscribed);
    let admin = Admin::of(supervisor);
    let follow = || {
        use std::io::Write;
        let mut stream = std::os::unix::net::UnixStream::connect(admin.socket()).unwrap();
        stream
            .write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        stream
    };
    let mut streams: Vec<_> = (0..8).map(|_| follow()).collect();
    until("all have subscribed", || subscribed.lock().len() == 8).await;
    let refused = admin.get("/api/v1/events").await.unwrap_err();
    assert_eq!(refused, (429, "8 clients follow the events already".to_owned()));
    streams.pop();
    until("one has gone", || {
        subscribed.lock().iter().filter(|of| of.to.connected()).count() == 7
    })
    .await;
    streams.push(follow());
    until("another has come", || subscribed.lock().len() == 9).await;
    assert!(admin.get("/api/v1/ledger").await.is_ok(), "others are answered");
}
