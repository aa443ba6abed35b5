//! Other filters while everything goes on.
use super::{
    names::{OF_PATH, X, Y, asking, at, called, one, told},
    *,
};
use crate::{
    config,
    container::{samples::Samples, state::ContainerEvent},
    registry::{effects::SlotId, filters::Filters, lifecycle::Lifecycle},
    runtimes::Found,
};

const A: CgroupId = CgroupId(7);
const B: CgroupId = CgroupId(8);
const SERVICE: &str = "/system.slice/a.service";

fn set(registry: &mut RegistryState, second: u64, change: impl FnOnce(&mut config::Filters)) -> Effects {
    let mut filters = config::Filters::default();
    change(&mut filters);
    let effects = registry.set_filters(Arc::new(Filters::new(&filters)), now(second));
    registry.check();
    effects
}

fn deny(registry: &mut RegistryState, second: u64, patterns: &[&str]) -> Effects {
    set(registry, second, |filters| {
        filters.deny = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    })
}

fn deny_tcp(registry: &mut RegistryState, second: u64, patterns: &[&str]) -> Effects {
    set(registry, second, |filters| {
        filters.signals.tcp.deny = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    })
}

fn entries(registry: &RegistryState, table: &str) -> usize {
    let tables = registry.tables().into_iter();
    tables.filter(|row| row.0 == table).map(|row| row.1).sum()
}

fn service() -> (RegistryState, Owner) {
    let mut registry = registry();
    deny(&mut registry, 1, &[]);
    registry.inventory(&inventory([found(3, "app", SERVICE), found(4, "sh", "/")]), now(1));
    (registry, owner(3, ROOT, "app"))
}

/// As the kernel tells of it in every pass after the first.
fn again(event: SocketEvent) -> Event {
    Event::SocketSeen(SocketEvent { shown: true, ..event })
}

fn of(registry: &mut RegistryState, id: &str) -> Samples {
    let samples = registry.samples(now(100)).into_iter();
    samples.into_iter().find(|sample| sample.id.as_str() == id).unwrap()
}

#[test]
fn a_connection_lives_across_hide_and_show() {
    let (mut registry, app) = service();
    let bytes = |cookie, sent_bytes| SocketEvent {
        sent_bytes,
        settled: true,
        ..socket(cookie, app)
    };
    registry.apply(
        [Event::SocketSeen(bytes(1, 100)), Event::SocketSeen(bytes(2, 100))],
        now(2),
    );
    assert_eq!(shown(&mut registry)[1], row(SERVICE, 1, 2, 2));

    deny(&mut registry, 3, &["^/system.slice/"]);
    assert_eq!(shown(&mut registry), [row("/standalone/sh", 1, 0, 0)]);
    assert_eq!(entries(&registry, "sockets"), 0);
    // One goes on, one ends, and one begins.
    let events = [
        again(bytes(1, 500)),
        Event::ConnectionClosed(bytes(2, 900)),
        Event::SocketSeen(bytes(3, 10)),
    ];
    let effects = registry.apply(events, now(4));
    assert_eq!(effects.outcome.dropped, [(kind::CLOSE, Reason::Filtered, 1)]);
    assert_eq!(entries(&registry, "sockets"), 0);
    registry.check();

    deny(&mut registry, 5, &[]);
    assert_eq!(
        shown(&mut registry)[1],
        row(SERVICE, 1, 0, 0),
        "its processes are there at once"
    );
    registry.apply([again(bytes(1, 600)), again(bytes(3, 20))], now(6));
    registry.apply([again(bytes(1, 650)), Event::ConnectionClosed(bytes(3, 27))], now(7));
    let samples = of(&mut registry, SERVICE);
    let [destination] = &samples.destinations[..] else {
        panic!("{:?}", samples.destinations)
    };
    let counted = (destination.connects, destination.active, destination.sent_bytes);
    assert_eq!(
        counted,
        (0, 1, 57),
        "what they did before is not counted, what they do now is"
    );
    assert_eq!(samples.restarts, 0);
}

#[test]
fn the_same_filters_change_nothing() {
    let (mut registry, app) = service();
    registry.apply([Event::SocketSeen(socket(1, app))], now(2));
    let before = shown(&mut registry);
    let effects = deny(&mut registry, 3, &[]);
    assert_eq!(format!("{effects:?}"), format!("{:?}", Effects::default()));
    assert_eq!(shown(&mut registry), before);
    // Nor do others that say the same of everybody.
    deny(&mut registry, 4, &["^/nobody$"]);
    assert_eq!(shown(&mut registry), before);
    assert_eq!(entries(&registry, "sockets"), 1);
}

#[test]
fn whoever_comes_is_told_of_once() {
    let mut registry = with_actors();
    registry.tell_lifecycle(true);
    registry.inventory(&inventory([found(3, "app", SERVICE), found(4, "app", SERVICE)]), now(1));
    let (slot, _) = registry.tick(now(2)).spawns.remove(0);
    registry.container_runs(slot, &SERVICE.into());
    let effects = deny(&mut registry, 3, &["a.service"]);
    assert_eq!(effects.reaps, [slot]);
    let retired = Lifecycle::ContainerRetired {
        container: SERVICE.into(),
    };
    assert_eq!(effects.lifecycle, [retired]);
    // One ends meanwhile, and one begins.
    registry.apply(
        [exited(owner(4, ROOT, "app")), started(owner(5, ROOT, "app"), 3)],
        now(4),
    );
    let effects = deny(&mut registry, 5, &[]);
    let [
        Lifecycle::ContainerAppeared { container, .. },
        Lifecycle::ProcessMoved { process: old, .. },
        Lifecycle::ProcessStarted { process: new, .. },
    ] = &effects.lifecycle[..]
    else {
        panic!("{:?}", effects.lifecycle)
    };
    assert_eq!((container.as_str(), old.tgid, new.tgid), (SERVICE, 3, 5));
    assert!(effects.reaps.is_empty());
    // Its actor is another.
    let spawned = registry.tick(now(6)).spawns;
    assert!(spawned.len() == 1 && spawned[0].0 != slot, "{spawned:?}");
}

#[test]
fn bare_processes_go_and_come() {
    let (mut registry, _) = service();
    deny(&mut registry, 2, &["^/standalone/"]);
    assert_eq!(shown(&mut registry), [row(SERVICE, 1, 0, 0)]);
    registry.apply([started(owner(5, ROOT, "sh"), 4)], now(3));
    deny(&mut registry, 4, &["^/system.slice/"]);
    assert_eq!(shown(&mut registry), [row("/standalone/sh", 2, 0, 0)]);
}

#[test]
fn a_name_that_a_runtime_has_given_is_judged_anew() {
    let mut registry = asking(false, &["^/docker/secret"]);
    let web = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &web, called("web"), 3);
    let secret = one(&mut registry, B, Y, 2, 6);
    told(&mut registry, &secret, called("secret"), 3);
    assert_eq!(shown(&mut registry), [row("/docker/web", 1, 1, 1)]);
    deny(&mut registry, 4, &["^/docker/web"]);
    assert_eq!(shown(&mut registry), [row("/docker/secret", 1, 0, 0)]);
    // And what a runtime says from then on.
    told(&mut registry, &secret, called("web-2"), 5);
    assert!(shown(&mut registry).is_empty());
    deny(&mut registry, 6, &[]);
    assert_eq!(
        shown(&mut registry),
        [row("/docker/web", 1, 0, 0), row("/docker/web-2", 1, 0, 0)]
    );
    assert_eq!(of(&mut registry, "/docker/web").metadata.unwrap().image, "busybox:test");
}

#[test]
fn one_whose_name_is_late_is_judged_by_its_path_until_it_comes() {
    let mut registry = asking(false, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    registry.tick(now(8));
    assert_eq!(shown(&mut registry), [row(OF_PATH, 1, 1, 1)]);
    deny(&mut registry, 9, &["^/docker/0123"]);
    assert!(shown(&mut registry).is_empty());
    // Nobody sees it, and it is kept for the name that may come.
    registry.apply([Event::SocketSeen(socket(9, at(2, 5, A)))], now(10));
    deny(&mut registry, 11, &[]);
    assert_eq!(shown(&mut registry), [row(OF_PATH, 1, 1, 1)]);
    deny(&mut registry, 12, &["^/docker/0123"]);
    assert!(shown(&mut registry).is_empty());
    told(&mut registry, &lookup, called("web"), 60);
    assert_eq!(shown(&mut registry), [row("/docker/web", 1, 0, 0)]);
}

#[test]
fn one_that_waits_for_its_name_is_judged_by_the_filters_of_then() {
    let mut registry = asking(false, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    deny(&mut registry, 3, &["^/docker/web"]);
    told(&mut registry, &lookup, called("web"), 4);
    assert!(shown(&mut registry).is_empty());
    registry.check();
}

#[test]
fn what_is_left_of_a_container_goes_too() {
    let (mut registry, app) = service();
    registry.apply([Event::SocketSeen(socket(1, app)), exited(app)], now(2));
    registry.tick(now(20));
    assert_eq!(shown(&mut registry)[1], row(SERVICE, 0, 1, 1));
    deny(&mut registry, 21, &["a.service"]);
    assert_eq!(shown(&mut registry), [row("/standalone/sh", 1, 0, 0)]);
    assert_eq!(entries(&registry, "sockets"), 0);
}

#[test]
fn without_tcp_a_container_is_there_and_has_none() {
    let (mut registry, app) = service();
    let listen = SocketEvent {
        listening: true,
        local: "192.0.2.1:80".parse().unwrap(),
        ..socket(2, app)
    };
    registry.apply(
        [Event::SocketSeen(socket(1, app)), Event::ListenOpened(listen.clone())],
        now(2),
    );
    assert_eq!(of(&mut registry, SERVICE).listens.len(), 1);
    let effects = deny_tcp(&mut registry, 3, &["a.service"]);
    assert!(effects.reaps.is_empty());
    let samples = of(&mut registry, SERVICE);
    assert_eq!(
        (samples.processes, samples.destinations.len(), samples.listens.len()),
        (1, 0, 0)
    );
    assert_eq!(entries(&registry, "sockets"), 0);
    // What comes is dropped by policy, and leaves nothing.
    let mut sum = ten_connects(ROOT);
    sum.process = Some(app.process);
    let events = [
        again(socket(1, app)),
        Event::SocketSeen(socket(3, app)),
        Event::ConnectionFailed(socket(4, app)),
        Event::ListenOpened(SocketEvent {
            socket: SocketId {
                cookie: 5,
                generation: 1,
            },
            ..listen.clone()
        }),
        Event::ListenClosed(listen),
        Event::SumSpilled(sum),
    ];
    let effects = registry.apply(events, now(4));
    let mut dropped = effects.outcome.dropped;
    dropped.sort_by_key(|(kind, _, n)| (*kind, *n));
    let mut expected = [kind::CONNECT_FAILED, kind::LISTEN, kind::LISTEN_CLOSE].map(|kind| (kind, Reason::Filtered, 1));
    expected.sort_by_key(|(kind, _, n)| (*kind, *n));
    assert!(expected.iter().all(|one| dropped.contains(one)), "{dropped:?}");
    assert_eq!(effects.outcome.delivered.total(), 0);
    assert_eq!(of(&mut registry, SERVICE).destinations.len(), 0);
    assert_eq!(entries(&registry, "sockets"), 0);

    deny_tcp(&mut registry, 5, &[]);
    registry.apply([again(socket(1, app)), again(socket(3, app))], now(6));
    assert_eq!(shown(&mut registry)[1], row(SERVICE, 1, 0, 2));
}

/// What was gathered before anybody knew the name is not collected, either.
#[test]
fn without_tcp_from_its_name_on() {
    let mut registry = asking(false, &[]);
    deny_tcp(&mut registry, 1, &["^/docker/web"]);
    let lookup = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &lookup, called("web"), 3);
    registry.check();
    assert_eq!(shown(&mut registry), [row("/docker/web", 1, 0, 0)]);
    // By another name it is.
    told(&mut registry, &lookup, called("shop"), 4);
    registry.apply([Event::SocketSeen(socket(9, at(2, 5, A)))], now(5));
    assert_eq!(shown(&mut registry), [row("/docker/shop", 1, 1, 1)]);
}

#[test]
fn pending_state_without_tcp() {
    let mut registry = registry();
    deny_tcp(&mut registry, 1, &["b.service"]);
    let app = owner(3, A, "app");
    registry.apply([started(app, 1), Event::SocketSeen(socket(1, app))], now(2));
    assert_eq!(entries(&registry, "sockets"), 1);
    let path = Some("/system.slice/b.service".into());
    registry.answer(Answer::Cgroup { cgroup: A, path }, now(3));
    registry.check();
    assert_eq!(shown(&mut registry), [row("/system.slice/b.service", 1, 0, 0)]);
    assert_eq!(entries(&registry, "sockets"), 0);
}

/// Its actor is told, after everything that it may still get.
#[test]
fn an_actor_forgets_what_is_not_collected() {
    let mut registry = asking(true, &[]);
    let mut running: Vec<SlotId> = Vec::new();
    for (cgroup, id, tgid) in [(A, X, 5), (B, Y, 6)] {
        let lookup = one(&mut registry, cgroup, id, u64::from(tgid), tgid);
        let (slot, id) = registry.tick(now(u64::from(tgid) + 6)).spawns.remove(0);
        registry.container_runs(slot, &id);
        told(&mut registry, &lookup, called("web"), 20);
        running.push(slot);
    }
    let effects = deny_tcp(&mut registry, 21, &["^/docker/web"]);
    assert!(effects.shares.is_empty(), "the other's state is still on its way");
    let mut state = crate::container::state::ContainerState::new(settings(Standalone::ByName).limits);
    assert!(state.apply(ContainerEvent::Seen(socket(6, at(6, 6, B))), now(21)));
    let effects = registry.container_handed_over(running[1], Box::new(state), now(22));
    assert!(effects.absorbs[0].1.has_no_traffic());
    let keeps =
        |event: &ContainerEvent| matches!(event, ContainerEvent::Keeps(carries) if !carries.tcp && carries.files);
    assert!(effects.shares[&running[0]].events.iter().any(keeps));
}

#[test]
fn without_files() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "app", SERVICE)]), now(1));
    let seen = || {
        Event::FileSeen(crate::decode::FileEvent {
            owner: owner(3, ROOT, "app"),
            file: crate::decode::OpenFile {
                path: (*b"/a").into(),
                truncated: false,
                mount_id: 1,
                device: (8, 1),
                inode: 5,
                deleted: false,
            },
            append: false,
        })
    };
    let passed = || Event::FilesPassed { left_out: 0 };
    registry.apply([seen(), passed()], now(2));
    assert_eq!(of(&mut registry, SERVICE).files.len(), 1);
    set(&mut registry, 3, |filters| {
        filters.signals.files.deny = vec!["a.service".parse().unwrap()];
    });
    assert_eq!(of(&mut registry, SERVICE).files.len(), 0);
    registry.apply([seen(), passed()], now(4));
    assert_eq!(of(&mut registry, SERVICE).files.len(), 0);
    set(&mut registry, 5, |_| {});
    registry.apply([seen(), passed()], now(6));
    assert_eq!(of(&mut registry, SERVICE).files.len(), 1);
}

/// A process that nobody wanted to see when it waited for its name.
#[test]
fn nobody_knows_it_and_then_somebody_wants_it() {
    let mut registry = asking(false, &["^/docker/"]);
    let lookup = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &lookup, Found::Nobody, 3);
    assert!(shown(&mut registry).is_empty());
    deny(&mut registry, 4, &[]);
    assert_eq!(shown(&mut registry), [row(OF_PATH, 1, 0, 0)]);
}
