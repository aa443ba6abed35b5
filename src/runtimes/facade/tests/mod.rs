//! The facade and its clients, with runtimes that do what they are told, on paused time.
mod scene;

use super::{
    Said,
    actor::{ClientLost, Retire},
    state::{FacadeState, Limits},
};
use crate::{
    base::{features::State, mailbox::tell},
    runtimes::{
        Change, Engines, Lookup, Runtime,
        client::Answer,
        metadata::Metadata,
        statistics::{Connection, Outcome},
    },
};
use scene::{A_MOMENT, Mood, NONE, Scene, engine, fake, id};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

#[actix::test]
async fn they_are_asked_in_order_until_one_knows_it() {
    let scene = Scene::new(Mood::Well, Mood::Well, Mood::Well).await;
    let [docker, podman, containerd] = [Runtime::Docker, Runtime::Podman, Runtime::Containerd].map(fake);
    let of = |engines| engine(1, engines);
    for engines in [
        Engines::Docker,
        Engines::Podman,
        Engines::Containerd,
        Engines::Any,
        Engines::Crio,
    ] {
        for (runtime, fake) in [
            (Runtime::Docker, &docker),
            (Runtime::Podman, &podman),
            (Runtime::Containerd, &containerd),
        ] {
            fake.knows(runtime, &of(engines), "it");
        }
    }
    assert_eq!(scene.asked(&of(Engines::Docker)).await, ["docker it"]);
    assert_eq!([docker.asked(), podman.asked(), containerd.asked()], [1, 0, 0]);
    assert_eq!(scene.asked(&of(Engines::Podman)).await, ["podman it"]);
    assert_eq!(scene.asked(&of(Engines::Containerd)).await, ["containerd it"]);
    assert_eq!(scene.asked(&of(Engines::Any)).await, ["docker it"]);
    assert_eq!(
        scene.asked(&of(Engines::Crio)).await,
        ["containerd it"],
        "nobody looks for CRI-O"
    );
    assert_eq!([docker.asked(), podman.asked(), containerd.asked()], [2, 1, 2]);

    let last = engine(2, Engines::Any);
    containerd.knows(Runtime::Containerd, &last, "late");
    assert_eq!(scene.asked(&last).await, ["containerd late"]);
    assert_eq!([docker.asked(), podman.asked(), containerd.asked()], [3, 2, 3]);
    let unit = Lookup::Unit {
        unit: "a.service".into(),
    };
    assert_eq!(scene.asked(&unit).await, ["nobody"], "nobody looks for systemd");
}

#[actix::test]
async fn nobody_is_asked_twice_at_the_same_time_and_answers_are_kept() {
    let scene = Scene::new(Mood::Well, Mood::Absent, Mood::Absent).await;
    let (docker, it) = (fake(Runtime::Docker), engine(1, Engines::Docker));
    docker.knows(Runtime::Docker, &it, "web");
    docker.takes.set(Duration::from_millis(100));
    scene.ask(&it);
    scene.ask(&it);
    assert_eq!(scene.asked(&it).await, NONE);
    assert_eq!(scene.after(Duration::from_millis(100)).await, ["docker web"]);
    assert_eq!(scene.asked(&it).await, ["docker web"], "from the cache");
    assert_eq!(scene.after(Duration::from_secs(3600)).await, NONE);
    assert_eq!(scene.asked(&it).await, ["docker web"]);
    assert_eq!(docker.asked(), 1);
}

#[actix::test]
async fn that_nobody_knows_it_holds_for_a_while() {
    let scene = Scene::new(Mood::Well, Mood::Absent, Mood::Well).await;
    let (docker, it) = (fake(Runtime::Docker), engine(1, Engines::Docker));
    assert_eq!(scene.asked(&it).await, ["nobody"]);
    docker.knows(Runtime::Docker, &it, "web");
    assert_eq!(scene.after(Duration::from_secs(14)).await, NONE);
    assert_eq!(scene.asked(&it).await, ["nobody"]);
    assert_eq!((docker.asked(), fake(Runtime::Containerd).asked()), (1, 1));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.asked(&it).await, ["docker web"]);
}

#[actix::test]
async fn what_changes_is_asked_again_and_told() {
    let scene = Scene::new(Mood::Well, Mood::Absent, Mood::Absent).await;
    let (docker, it, early) = (
        fake(Runtime::Docker),
        engine(1, Engines::Any),
        engine(2, Engines::Docker),
    );
    docker.knows(Runtime::Docker, &it, "old");
    assert_eq!(scene.asked(&it).await, ["docker old"]);
    docker.knows(Runtime::Docker, &it, "new");
    docker.happens(Change::Changed(id(&it)));
    assert_eq!(scene.after(A_MOMENT).await, ["docker new"]);
    docker.happens(Change::Changed(id(&it)));
    assert_eq!(scene.after(A_MOMENT).await, NONE, "it has not changed");
    // While it is being asked for.
    docker.takes.set(Duration::from_millis(100));
    docker.happens(Change::Changed(id(&it)));
    sleep(Duration::from_millis(50)).await;
    docker.happens(Change::Changed(id(&it)));
    sleep(Duration::from_millis(60)).await;
    docker.knows(Runtime::Docker, &it, "newest");
    assert_eq!(scene.after(Duration::from_millis(200)).await, ["docker newest"]);
    docker.takes.set(Duration::ZERO);
    // Asked for before the runtime knew it.
    assert_eq!(scene.asked(&early).await, ["nobody"]);
    docker.knows(Runtime::Docker, &early, "early");
    docker.happens(Change::Changed(id(&early)));
    assert_eq!(scene.after(A_MOMENT).await, ["docker early"]);
    let before = docker.asked();
    docker.happens(Change::Changed(id(&engine(3, Engines::Docker))));
    assert_eq!(scene.after(A_MOMENT).await, NONE);
    assert_eq!(docker.asked(), before, "nobody has asked for that one");
}

#[actix::test]
async fn who_is_gone_is_remembered_until_nobody_needs_it_and_never_becomes_nobody() {
    let scene = Scene::new(Mood::Well, Mood::Absent, Mood::Well).await;
    let (docker, it) = (fake(Runtime::Docker), engine(1, Engines::Docker));
    docker.knows(Runtime::Docker, &it, "web");
    assert_eq!(scene.asked(&it).await, ["docker web"]);
    docker.known.borrow_mut().clear();
    // What is left of it elsewhere has no name.
    fake(Runtime::Containerd).knows(Runtime::Containerd, &it, "");
    docker.happens(Change::Changed(id(&it)));
    docker.happens(Change::Gone(id(&it)));
    assert_eq!(scene.after(Duration::from_secs(1000)).await, NONE);
    assert_eq!(scene.asked(&it).await, ["docker web"]);
    assert_eq!(scene.snapshot().await.cached, 1);
    // Started again after a long time, under another name.
    docker.knows(Runtime::Docker, &it, "shop");
    docker.happens(Change::Changed(id(&it)));
    assert_eq!(scene.after(Duration::from_secs(1)).await, ["docker shop"]);
}

#[actix::test]
async fn what_could_not_be_asked_is_asked_when_the_runtime_is_there() {
    let scene = Scene::new(Mood::Refuses, Mood::Absent, Mood::Well).await;
    let (docker, it, theirs) = (
        fake(Runtime::Docker),
        engine(1, Engines::Docker),
        engine(2, Engines::Any),
    );
    docker.knows(Runtime::Docker, &it, "web");
    fake(Runtime::Containerd).knows(Runtime::Containerd, &theirs, "c");
    assert_eq!(scene.asked(&it).await, ["unanswered"]);
    assert_eq!(
        scene.asked(&theirs).await,
        ["containerd c"],
        "though docker would have come first"
    );
    assert_eq!(scene.row("docker"), (State::Degraded, "unreachable"));
    assert_eq!(scene.row("podman"), (State::Off, "absent"));
    assert_eq!(scene.after(Duration::from_secs(120)).await, NONE);
    // For ever, and not all the time.
    let tries = docker.connects.borrow().len();
    assert!((25..60).contains(&tries), "{tries} in two minutes");
    docker.knows(Runtime::Docker, &theirs, "better");
    docker.set(Mood::Well);
    let mut told = scene.after(Duration::from_secs(6)).await;
    told.sort();
    assert_eq!(told, ["docker better", "docker web"]);
    assert_eq!(scene.row("docker"), (State::Ok, ""));
}

#[actix::test]
async fn a_runtime_that_appears_later_says_whose_nobodys_were() {
    let scene = Scene::new(Mood::Absent, Mood::Absent, Mood::Absent).await;
    let (docker, it) = (fake(Runtime::Docker), engine(1, Engines::Docker));
    docker.knows(Runtime::Docker, &it, "web");
    assert_eq!(scene.asked(&it).await, ["nobody"]);
    assert_eq!(scene.after(Duration::from_secs(60)).await, NONE);
    docker.set(Mood::Well);
    assert_eq!(scene.after(Duration::from_secs(6)).await, ["docker web"]);
    // It ends in order, and its socket with it; who was known stays known.
    docker.set(Mood::Refuses);
    docker.known.borrow_mut().clear();
    sleep(A_MOMENT).await;
    docker.set(Mood::Absent);
    assert_eq!(scene.after(Duration::from_secs(60)).await, NONE);
    assert_eq!(scene.row("docker"), (State::Off, "absent"));
    assert_eq!(scene.asked(&it).await, ["docker web"]);
}

#[actix::test]
async fn what_has_changed_while_nobody_told_is_found_out() {
    let scene = Scene::new(Mood::Well, Mood::Absent, Mood::Well).await;
    let docker = fake(Runtime::Docker);
    let many: Vec<_> = (0..1000).map(|number| engine(number, Engines::Docker)).collect();
    for lookup in &many {
        docker.knows(Runtime::Docker, lookup, "old");
        scene.ask(lookup);
    }
    assert_eq!(scene.after(A_MOMENT).await.len(), 1000);
    docker.set(Mood::Refuses);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(scene.told(), NONE, "who is known stays known");
    assert_eq!(scene.asked(&many[7]).await, ["docker old"]);
    docker.knows(Runtime::Docker, &many[7], "new");
    docker.known.borrow_mut().remove(&many[8]);
    docker.set(Mood::Well);
    assert_eq!(scene.after(Duration::from_secs(9)).await, ["docker new"]);
    assert_eq!(docker.asked(), 2000);
    assert_eq!(scene.ctx.restarts.read(), [("docker", "connection", 1)]);
}

#[actix::test]
async fn a_runtime_that_hangs_costs_nobody_else_anything() {
    let scene = Scene::new(Mood::Well, Mood::Absent, Mood::Well).await;
    let (docker, containerd) = (fake(Runtime::Docker), fake(Runtime::Containerd));
    let many: Vec<_> = (0..100).map(|number| engine(number, Engines::Docker)).collect();
    docker.set(Mood::Hangs);
    for lookup in &many {
        docker.knows(Runtime::Docker, lookup, "web");
        scene.ask(lookup);
    }
    let named = Lookup::Named {
        namespace: "default".into(),
        name: "c1".into(),
    };
    containerd.knows(Runtime::Containerd, &named, "c1");
    assert_eq!(scene.asked(&named).await, ["containerd c1"]);
    // Sixteen calls end by their deadline, the sign of life two seconds later does not come, and no other call is made.
    let told = scene.after(Duration::from_millis(7_100)).await;
    assert_eq!(told, ["unanswered"; 100]);
    assert_eq!(scene.calls(Runtime::Docker, Outcome::Timeout), 16);
    assert_eq!(scene.row("docker"), (State::Degraded, "timeout"));
    assert_eq!(scene.statistics.of(Runtime::Docker).connection(), Connection::Broken);
    assert_eq!(scene.after(Duration::from_secs(60)).await, NONE);
    docker.takes.set(A_MOMENT);
    docker.set(Mood::Well);
    assert_eq!(scene.after(Duration::from_secs(9)).await, ["docker web"; 100]);
    assert_eq!(docker.most.get(), 16, "no more than that at a time");
}

#[actix::test]
async fn a_call_that_hangs_alone_is_not_the_end_of_the_connection() {
    let scene = Scene::new(Mood::HangsInCalls, Mood::Absent, Mood::Absent).await;
    let (docker, stuck, other) = (
        fake(Runtime::Docker),
        engine(1, Engines::Docker),
        engine(2, Engines::Docker),
    );
    scene.ask(&stuck);
    assert_eq!(scene.after(Duration::from_secs(6)).await, ["unanswered"]);
    assert_eq!(scene.row("docker"), (State::Ok, ""));
    docker.knows(Runtime::Docker, &stuck, "stuck");
    docker.knows(Runtime::Docker, &other, "other");
    docker.set(Mood::Well);
    assert_eq!(scene.asked(&other).await, ["docker other"]);
    assert_eq!(
        scene.after(Duration::from_secs(10)).await,
        ["docker stuck"],
        "it is tried again"
    );
    assert_eq!(scene.ctx.restarts.read(), []);
}

#[actix::test]
async fn garbage_is_no_answer_and_asked_again_less_and_less() {
    let scene = Scene::new(Mood::Garbage, Mood::Absent, Mood::Well).await;
    let (docker, it) = (fake(Runtime::Docker), engine(1, Engines::Docker));
    assert_eq!(scene.asked(&it).await, ["unanswered"]);
    assert_eq!(scene.after(Duration::from_secs(600)).await, NONE);
    let tries = docker.asked();
    assert!((7..20).contains(&tries), "{tries} in ten minutes");
    assert_eq!(scene.calls(Runtime::Docker, Outcome::Error), tries as u64);
    docker.knows(Runtime::Docker, &it, "web");
    docker.set(Mood::Well);
    assert_eq!(scene.after(Duration::from_secs(130)).await, ["docker web"]);
}

#[actix::test]
async fn a_connection_that_closes_at_once_is_made_again() {
    let scene = Scene::new(Mood::ClosesAtOnce, Mood::Absent, Mood::Absent).await;
    let (docker, it) = (fake(Runtime::Docker), engine(1, Engines::Docker));
    assert_eq!(scene.asked(&it).await, ["unanswered"]);
    assert_eq!(scene.after(Duration::from_secs(60)).await, NONE);
    let connects = docker.connects.borrow().len();
    assert!((10..60).contains(&connects), "{connects} in a minute");
    docker.knows(Runtime::Docker, &it, "web");
    docker.set(Mood::Well);
    assert_eq!(scene.after(Duration::from_secs(6)).await, ["docker web"]);
    let [("docker", "connection", count)] = scene.ctx.restarts.read()[..] else {
        panic!("{:?}", scene.ctx.restarts.read())
    };
    assert!(count >= 10, "{count}");
}

#[actix::test]
async fn what_finds_no_room_is_unanswered_and_counted() {
    let scene = Scene::new(Mood::Well, Mood::Absent, Mood::Absent).await;
    let docker = fake(Runtime::Docker);
    docker.takes.set(Duration::from_millis(1));
    let many: Vec<_> = (0..5000).map(|number| engine(number, Engines::Docker)).collect();
    for lookup in &many {
        docker.knows(Runtime::Docker, lookup, "web");
        scene.ask(lookup);
    }
    tokio::task::yield_now().await;
    let told = scene.after(Duration::from_secs(30)).await;
    let unanswered = told.iter().filter(|found| *found == "unanswered").count();
    assert!(unanswered >= 5000 - 4096 - 32, "{unanswered}");
    assert_eq!(scene.calls(Runtime::Docker, Outcome::Rejected), unanswered as u64);
    assert_eq!(
        told.iter().filter(|found| *found == "docker web").count(),
        5000,
        "all in the end"
    );
}

#[actix::test]
async fn the_oldest_answers_make_room() {
    let limits = Limits {
        entries: 10,
        ..Limits::default()
    };
    let scene = Scene::with(limits, [Mood::Well, Mood::Absent, Mood::Absent]).await;
    let docker = fake(Runtime::Docker);
    for number in 0..25 {
        assert_eq!(scene.asked(&engine(number, Engines::Docker)).await, ["nobody"]);
    }
    let snapshot = scene.snapshot().await;
    assert_eq!((snapshot.cached, snapshot.capacity, snapshot.evicted), (10, 10, 15));
    let before = docker.asked();
    scene.asked(&engine(24, Engines::Docker)).await;
    assert_eq!(docker.asked(), before);
    scene.asked(&engine(0, Engines::Docker)).await;
    assert_eq!(docker.asked(), before + 1);
}

#[actix::test]
async fn a_client_that_panics_is_reported_and_its_questions_are_asked_again() {
    let scene = Scene::new(Mood::Panics, Mood::Absent, Mood::Absent).await;
    let (docker, it) = (fake(Runtime::Docker), engine(1, Engines::Docker));
    docker.knows(Runtime::Docker, &it, "web");
    // In a task of its own, so that the panic ends the actor and not the test.
    assert_eq!(scene.asked(&it).await, NONE);
    let stopped = scene.stopped.borrow_mut().pop().unwrap();
    assert!(stopped.panicked, "{stopped:?}");
    assert_eq!((stopped.runtime, stopped.token), (Runtime::Docker, 1));
    let (runtime, token) = (stopped.runtime, stopped.token);
    tell(&scene.facade.clone().recipient(), ClientLost { runtime, token });
    assert_eq!(scene.after(A_MOMENT).await, ["unanswered"]);
    assert_eq!(scene.row("docker"), (State::Degraded, "restarting"));
    docker.set(Mood::Well);
    scene.start::<0>(4);
    // Late news of the one who is no more.
    tell(&scene.facade.clone().recipient(), ClientLost { runtime, token });
    assert_eq!(scene.after(A_MOMENT).await, ["docker web"]);
    tell(&scene.facade.clone().recipient(), Retire);
    sleep(A_MOMENT).await;
    assert!(!scene.facade.connected());
}

#[actix::test]
async fn what_there_is_to_see() {
    let scene = Scene::new(Mood::Well, Mood::Refuses, Mood::Absent).await;
    scene.asked(&engine(1, Engines::Docker)).await;
    let seen = serde_json::to_value(scene.snapshot().await).unwrap();
    let of = |place: usize| &seen["runtimes"][place];
    assert_eq!(
        (of(0)["runtime"].as_str(), of(0)["connection"].as_str()),
        (Some("docker"), Some("connected"))
    );
    assert_eq!(
        (of(1)["runtime"].as_str(), of(1)["connection"].as_str()),
        (Some("podman"), Some("broken"))
    );
    assert_eq!(
        (of(2)["runtime"].as_str(), of(2)["connection"].as_str()),
        (Some("containerd"), Some("absent"))
    );
    assert_eq!(of(0)["calls"]["unknown"], 1);
    assert_eq!(of(0)["sockets"][0], "/fake");
    assert_eq!(seen["cached"], 1);
}

#[test]
fn whom_a_question_went_to_and_what_they_said() {
    let mut state = FacadeState::new(Limits::default(), [Runtime::Docker, Runtime::Containerd]);
    let lookup = Lookup::Engine {
        id: "01".into(),
        engines: Engines::Docker,
    };
    assert_eq!(state.explain(&lookup), None);
    state.connection(Runtime::Docker, Connection::Connected, 0);
    state.resolve(&lookup, 0);
    assert_eq!(state.explain(&lookup), Some(&[][..]));
    state.answered(Runtime::Docker, &lookup, Answer::Nobody, 0);
    let (docker, podman) = ((Runtime::Docker, Said::Nobody), (Runtime::Podman, Said::Absent));
    let expected = [docker, podman, (Runtime::Containerd, Said::NotConnected)];
    assert_eq!(state.explain(&lookup), Some(&expected[..]));
    // It comes, and all are asked again.
    state.connection(Runtime::Containerd, Connection::Connected, 1);
    state.answered(Runtime::Docker, &lookup, Answer::Nobody, 1);
    let known = Answer::Known(Arc::new(Metadata::new(Runtime::Containerd)));
    state.answered(Runtime::Containerd, &lookup, known, 1);
    let expected = [docker, podman, (Runtime::Containerd, Said::Known)];
    assert_eq!(state.explain(&lookup), Some(&expected[..]));
}
