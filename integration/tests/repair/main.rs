//! The agent is stopped, broken and flooded under load: afterwards all is as it was, and what was missed is said.
#![expect(clippy::panic, reason = "helpers of tests")]
mod changes;
mod scene;

use changes::Before;
use rustix::process::Signal;
use scene::Scene;
use std::{thread, time::Duration};
use tarsier_integration::{
    Agent, Cgroup, Metrics, Stopwatch, Traffic, admin_post, eventually,
    ledger::{Imbalance, balance},
    pause, require_root, require_tool,
};

const LONG: Duration = Duration::from_secs(30);

fn ready() -> bool {
    require_root() && require_tool(&["ip", "nsenter"])
}

#[track_caller]
fn expect_balance(agent: &Agent) {
    eventually(LONG, "the books balance", || {
        match balance(&agent.admin("/api/v1/ledger")) {
            Ok(()) => true,
            Err(Imbalance::Inconsistent) => false,
            Err(Imbalance::Row(row)) => panic!("does not add up: {row}"),
        }
    });
}

#[track_caller]
fn expect_losses_are_said(agent: &Agent) {
    let lost = [("reason", "ring_full"), ("class", "loss")];
    let metrics = agent.metrics();
    let lost = metrics
        .all("tarsier_events_dropped_total", &lost)
        .filter(|lost| lost.value > 0.0);
    let kinds: Vec<_> = lost.map(|lost| lost.label("kind")).collect();
    assert!(kinds.iter().any(|kind| kind.starts_with("process_")), "{kinds:?}");
    let row = agent.feature("news_ring");
    assert!(row.state == "degraded" && row.reason == "ring_full", "{row:?}");
}

#[test]
fn stopped_for_a_minute() {
    if !ready() {
        return;
    }
    let (mut scene, agent) = (Scene::new(1), Agent::start());
    let storm = Cgroup::service("storm");
    scene.expect_held(&agent, 0);
    scene.load(0);
    let before = Before::new(&scene, &agent);
    // Loading the programs took a moment.
    let blind = agent.metrics().value("tarsier_blind_seconds_total", &[]);
    let mut bytes = scene.send(100);
    agent.signal(Signal::STOP);
    let watch = Stopwatch::start();
    // The ring is full long before it ends; whatever follows finds it so.
    scene.storm(&storm, "8000");
    let changes = before.change(&scene);
    bytes += scene.send(1000);
    pause(Duration::from_secs(60).saturating_sub(watch.elapsed()));
    agent.signal(Signal::CONT);
    eventually(LONG, "it is back", || agent.get("/metrics").is_ok());
    expect_losses_are_said(&agent);
    bytes += scene.send(10);
    pause(Duration::from_secs(1));
    let done = scene.stop(0);
    scene.expect(&agent, 0, &done);
    scene.expect_refused(&agent);
    scene.expect_held(&agent, bytes);
    changes.expect(&agent, &scene);
    expect_balance(&agent);
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("tarsier_actor_restarts_total", &[]), 0.0);
    // The programs went on counting.
    assert_eq!(metrics.value("tarsier_blind_seconds_total", &[]), blind);
    drop(changes);
}

/// Kills that were taken.
fn kill(agent: &Agent, actor: &str) -> bool {
    let killed = admin_post(&agent.admin_socket(), &format!("/api/v1/test/panic/{actor}"));
    killed.is_ok_and(|response| response.status == 200)
}

fn restarts(metrics: &Metrics, actor: &str) -> f64 {
    metrics.sum("tarsier_actor_restarts_total", &[("actor", actor), ("cause", "panic")])
}

#[test]
fn the_tracer_is_killed_again_and_again() {
    if !ready() {
        return;
    }
    let agent = Agent::builder()
        .set("SUPERVISOR__BACKOFF_MIN", "50ms")
        .set("SUPERVISOR__BACKOFF_MAX", "100ms");
    let (mut scene, agent) = (Scene::new(1), agent.start());
    scene.expect_held(&agent, 0);
    scene.load(0);
    let before = Before::new(&scene, &agent);
    let (watch, mut kills, mut bytes) = (Stopwatch::start(), 0, 0);
    let mut before = Some(before);
    let mut changes = None;
    while watch.elapsed() < Duration::from_secs(10) {
        if kill(&agent, "tracer") {
            kills += 1;
            // One that is busy dies later, and is not to be killed twice.
            agent.metrics_when("restarts", LONG, |metrics| {
                restarts(metrics, "tracer") == f64::from(kills)
            });
        }
        bytes += scene.send(10);
        if watch.elapsed() > Duration::from_secs(5)
            && let Some(before) = before.take()
        {
            changes = Some(before.change(&scene));
        }
        pause(Duration::from_millis(200));
    }
    assert!(kills > 10, "{kills} kills");
    let done = scene.stop(0);
    scene.expect(&agent, 0, &done);
    scene.expect_refused(&agent);
    scene.expect_held(&agent, bytes);
    changes.expect("five seconds have passed").expect(&agent, &scene);
    expect_balance(&agent);
    assert_eq!(restarts(&agent.metrics(), "tracer"), f64::from(kills));
}

#[test]
fn the_registry_is_killed_again_and_again() {
    const KILLS: usize = 4;
    if !ready() {
        return;
    }
    // Long enough for something to happen while there is none.
    let agent = Agent::builder()
        .set("SUPERVISOR__BACKOFF_MIN", "1s")
        .set("SUPERVISOR__BACKOFF_MAX", "1s");
    let (mut scene, agent) = (Scene::new(KILLS + 1), agent.start());
    scene.expect_held(&agent, 0);
    scene.send(100);
    scene.load(0);
    let before = Before::new(&scene, &agent);
    assert!(kill(&agent, "registry"));
    let changes = before.change(&scene);
    // By the registry before, to the address that was in use when it ended.
    let mut counted = vec![0; scene.clients.len()];
    for round in 1..=KILLS {
        let metrics = agent.metrics_when("restarts", LONG, |metrics| {
            restarts(metrics, "registry") == round as f64
        });
        assert_eq!(restarts(&metrics, "tracer"), 0.0);
        // A new one begins at zero. What was open is open, and what happened while there was none is not forgotten.
        scene.expect_held(&agent, 0);
        if round == 1 {
            changes.expect_late_ones(&agent);
        }
        let bytes = scene.send(100);
        scene.load(round);
        pause(Duration::from_secs(1));
        let done = scene.stop(round);
        scene.expect(&agent, round, &done);
        scene.expect_held(&agent, bytes);
        let all = scene.asked(round - 1);
        for (client, (before, all)) in scene.clients.iter().zip(counted.iter().zip(all)) {
            let earlier = [("destination", &*client.addresses[round - 1])];
            let earlier = Traffic::of(&agent.metrics(), &earlier).successful;
            assert!(
                earlier <= all - before,
                "{earlier} of {all}, and an earlier one had {before}"
            );
        }
        counted = done;
        scene.load(round);
        pause(Duration::from_millis(300));
        if round < KILLS {
            assert!(kill(&agent, "registry"));
        }
    }
    scene.stop(KILLS);
    expect_balance(&agent);
    drop(changes);
}

#[test]
fn a_flooded_ring_is_followed_by_an_inventory() {
    if !ready() {
        return;
    }
    let agent = Agent::builder()
        .set("KERNEL__NEWS_RING_BYTES", "4096")
        .set("KERNEL__DRAIN_INTERVAL", "500ms");
    let (mut scene, agent) = (Scene::new(1), agent.start());
    let storm = Cgroup::service("storm");
    scene.expect_held(&agent, 0);
    scene.load(0);
    let before = Before::new(&scene, &agent);
    let changes = thread::scope(|scope| {
        let flood = scope.spawn(|| scene.storm(&storm, "6000"));
        pause(Duration::from_millis(200));
        let changes = before.change(&scene);
        assert!(!flood.is_finished(), "the ring was full all the time");
        changes
    });
    expect_losses_are_said(&agent);
    let watch = Stopwatch::start();
    changes.expect(&agent, &scene);
    // Far sooner than the next one that would have been taken anyway.
    assert!(watch.elapsed() < Duration::from_secs(15), "{:?}", watch.elapsed());
    let bytes = scene.send(100);
    let done = scene.stop(0);
    scene.expect(&agent, 0, &done);
    scene.expect_refused(&agent);
    scene.expect_held(&agent, bytes);
    expect_balance(&agent);
}

#[test]
fn blind_time_is_real_time() {
    if !(require_root() && require_tool(&["setpriv"])) {
        return;
    }
    // CAP_SYS_ADMIN would stand in for it.
    let agent = Agent::builder()
        .wrapped_in(&["setpriv", "--bounding-set=-bpf,-sys_admin"])
        .spawn();
    eventually(LONG, "it has tried", || {
        agent.get("/readyz").is_ok_and(|response| response.status == 503)
    });
    let blind = || {
        agent
            .metrics()
            .value("tarsier_blind_seconds_total", &[])
            .expect("it is always there")
    };
    let (watch, before) = (Stopwatch::start(), blind());
    pause(Duration::from_secs(5));
    let (grown, passed) = (blind() - before, watch.elapsed().as_secs_f64());
    assert!((0.8..=1.2).contains(&(grown / passed)), "{grown} s in {passed} s");
    // Stopped, it is no less blind.
    agent.signal(Signal::STOP);
    pause(Duration::from_secs(2));
    agent.signal(Signal::CONT);
    let limit = (watch.elapsed().as_secs_f64(), Duration::from_secs(5));
    agent.metrics_when("blind", limit.1, |metrics| {
        let grown = metrics.sum("tarsier_blind_seconds_total", &[]) - before;
        (0.8..=1.2).contains(&(grown / watch.elapsed().as_secs_f64()))
    });
    assert!(blind() - before > limit.0 * 0.8, "it is not forgotten");
    let seeing = Agent::start();
    let loading = seeing.metrics().value("tarsier_blind_seconds_total", &[]);
    assert!(
        loading.is_some_and(|seconds| seconds > 0.0 && seconds < 20.0),
        "{loading:?}"
    );
    pause(Duration::from_secs(1));
    assert_eq!(seeing.metrics().value("tarsier_blind_seconds_total", &[]), loading);
}
