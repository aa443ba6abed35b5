//! What whoever has subscribed is told, and in which order.
use super::{names, *};
use crate::{
    registry::lifecycle::Lifecycle,
    runtimes::{Found, Lookup},
};

const A: CgroupId = CgroupId(7);
const B: CgroupId = CgroupId(8);

fn watched(runtimes: bool, deny: &[&str]) -> RegistryState {
    let mut registry = if runtimes {
        names::asking(false, deny)
    } else {
        registry()
    };
    registry.tell_lifecycle(true);
    registry
}

/// One word each, with whom it is about.
fn told(effects: &Effects) -> Vec<String> {
    let container = |container: &Option<ContainerId>| container.as_ref().map_or("-".to_owned(), ToString::to_string);
    let line = |of: &Lifecycle| match of {
        Lifecycle::ProcessStarted { process, container, .. } => format!("started {} {container}", process.tgid),
        Lifecycle::ProcessMoved {
            process, container: to, ..
        } => format!("moved {} {}", process.tgid, container(to)),
        Lifecycle::ProcessExited {
            process,
            container: from,
            ..
        } => {
            format!("exited {} {}", process.tgid, container(from))
        }
        Lifecycle::ContainerAppeared { container, identified } => {
            format!("appeared {container}{}", if *identified { "" } else { "?" })
        }
        Lifecycle::ContainerIdentified {
            container,
            was,
            runtime,
        } => {
            let by = runtime.map_or("nobody", crate::runtimes::Runtime::as_str);
            format!("identified {container} was {was} by {by}")
        }
        Lifecycle::ContainerRetired { container } => format!("retired {container}"),
        Lifecycle::Restarted => "restarted".to_owned(),
    };
    effects.lifecycle.iter().map(line).collect()
}

fn named(registry: &mut RegistryState, cgroup: CgroupId, path: &str, at: u64) -> Vec<String> {
    let path = Some(path.into());
    told(&registry.answer(Answer::Cgroup { cgroup, path }, now(at)))
}

fn answered(registry: &mut RegistryState, lookup: &Lookup, found: Found, at: u64) -> Vec<String> {
    let lookup = lookup.clone();
    told(&registry.answer(Answer::Runtime { lookup, found }, now(at)))
}

#[test]
fn nothing_is_told_while_nobody_wants_to_know() {
    let mut registry = registry();
    let one = owner(5, A, "app");
    let effects = registry.apply([started(one, 1)], now(1));
    assert!(effects.lifecycle.is_empty());
    let path = Some("/system.slice/web.service".into());
    let effects = registry.answer(Answer::Cgroup { cgroup: A, path }, now(1));
    assert!(effects.lifecycle.is_empty());
    // What is there already is not told to who comes later.
    registry.tell_lifecycle(true);
    let effects = registry.apply([exited(one)], now(2));
    assert_eq!(told(&effects), ["exited 5 /system.slice/web.service"]);
}

#[test]
fn a_service_from_its_first_process_to_its_end() {
    let mut registry = watched(false, &[]);
    let (one, two) = (owner(5, A, "app"), owner(6, A, "app"));
    assert!(told(&registry.apply([started(one, 1)], now(1))).is_empty(), "not yet");
    let web = "/system.slice/web.service";
    assert_eq!(
        named(&mut registry, A, web, 1),
        [format!("appeared {web}"), format!("started 5 {web}")]
    );
    let effects = registry.apply([started(two, 5), exited(one), exited(two)], now(2));
    let expected = ["started 6", "exited 5", "exited 6"].map(|what| format!("{what} {web}"));
    assert_eq!(told(&effects), expected);
    // Once, however often it is told.
    assert!(told(&registry.apply([exited(two)], now(3))).is_empty());
    let seen = Event::SocketSeen(socket(1, one));
    assert!(told(&registry.apply([seen, Event::ConnectionClosed(socket(1, one))], now(3))).is_empty());
    registry.tick(now(10));
    assert_eq!(told(&registry.collect_garbage(now(2000))), [format!("retired {web}")]);
}

#[test]
fn one_that_has_ended_before_its_container_had_a_name() {
    let mut registry = watched(false, &[]);
    let one = owner(5, A, "app");
    assert!(told(&registry.apply([started(one, 1), exited(one)], now(1))).is_empty());
    let web = "/system.slice/web.service";
    let expected = [
        format!("appeared {web}"),
        format!("started 5 {web}"),
        format!("exited 5 {web}"),
    ];
    assert_eq!(named(&mut registry, A, web, 1), expected);
}

#[test]
fn a_bare_process_goes_by_what_it_executes() {
    let mut registry = watched(false, &[]);
    registry.inventory(&inventory([found(1, "init", "/")]), now(1));
    let effects = registry.apply([started(owner(3, ROOT, "sh"), 1)], now(1));
    assert_eq!(told(&effects), ["appeared /standalone/sh", "started 3 /standalone/sh"]);
    let effects = registry.apply([exec(owner(3, ROOT, "ls")), exited(owner(3, ROOT, "ls"))], now(1));
    assert_eq!(
        told(&effects),
        [
            "appeared /standalone/ls",
            "moved 3 /standalone/ls",
            "retired /standalone/sh",
            "exited 3 /standalone/ls",
            "retired /standalone/ls",
        ]
    );
}

#[test]
fn a_process_that_moves() {
    let mut registry = watched(false, &[]);
    let one = owner(5, A, "app");
    registry.apply([started(one, 1)], now(1));
    named(&mut registry, A, "/system.slice/a.service", 1);
    let effects = registry.apply([Event::CgroupMoved(process(owner(5, B, "app"), 0))], now(2));
    assert_eq!(told(&effects), ["moved 5 -"], "nobody knows yet where that is");
    assert_eq!(
        named(&mut registry, B, "/system.slice/b.service", 2),
        ["appeared /system.slice/b.service", "moved 5 /system.slice/b.service"]
    );
}

#[test]
fn whose_exit_was_missed() {
    let mut registry = watched(false, &[]);
    let effects = registry.inventory(&inventory([found(5, "app", "/system.slice/a.service")]), now(1));
    assert_eq!(
        told(&effects),
        ["appeared /system.slice/a.service", "started 5 /system.slice/a.service"]
    );
    let effects = registry.inventory(&inventory([]), now(9));
    assert_eq!(told(&effects), ["exited 5 /system.slice/a.service"]);
}

#[test]
fn a_container_gets_its_name() {
    let mut registry = watched(true, &[]);
    registry.apply([started(names::at(2, 5, A), 1)], now(2));
    let path = format!("/docker/{}", names::X);
    let path_id = names::OF_PATH;
    let answer = Answer::Cgroup {
        cgroup: A,
        path: Some(path.as_str().into()),
    };
    let effects = registry.answer(answer, now(2));
    assert_eq!(
        told(&effects),
        [format!("appeared {path_id}?"), format!("started 5 {path_id}")]
    );
    let lookup = effects.resolves[0].clone();
    let web = |name| names::called(name);
    assert!(answered(&mut registry, &lookup, Found::Unanswered, 3).is_empty());
    assert_eq!(
        answered(&mut registry, &lookup, web("web"), 3),
        [format!("identified /docker/web was {path_id} by docker")]
    );
    assert!(answered(&mut registry, &lookup, web("web"), 4).is_empty(), "no news");
    assert_eq!(
        answered(&mut registry, &lookup, web("shop"), 5),
        ["identified /docker/shop was /docker/web by docker"]
    );
    let effects = registry.apply([exited(names::at(2, 5, A))], now(6));
    assert_eq!(told(&effects), ["exited 5 /docker/shop"]);
}

#[test]
fn a_container_that_no_runtime_names_in_time_or_at_all() {
    for late in [false, true] {
        let mut registry = watched(true, &[]);
        let lookup = names::one(&mut registry, A, names::X, 2, 5);
        let path_id = names::OF_PATH;
        let expected = format!("identified {path_id} was {path_id} by nobody");
        if late {
            assert!(told(&registry.tick(now(6))).is_empty());
            assert_eq!(told(&registry.tick(now(7))), [expected]);
            let known = answered(&mut registry, &lookup, names::called("web"), 60);
            assert_eq!(known, [format!("identified /docker/web was {path_id} by docker")]);
        } else {
            assert_eq!(answered(&mut registry, &lookup, Found::Nobody, 3), [expected]);
            assert!(told(&registry.tick(now(7))).is_empty());
        }
    }
}

#[test]
fn a_container_that_nobody_wants_to_see() {
    let mut registry = watched(true, &["^/docker/secret"]);
    let lookup = names::one(&mut registry, A, names::X, 2, 5);
    let path_id = names::OF_PATH;
    assert_eq!(
        answered(&mut registry, &lookup, names::called("secret"), 3),
        [format!("retired {path_id}")]
    );
    assert_eq!(
        told(&registry.apply([started(names::at(4, 6, A), 5)], now(4))),
        [] as [&str; 0]
    );
    // It is shown under another name later.
    let mut shown = answered(&mut registry, &lookup, names::called("open"), 5);
    shown[1..].sort();
    assert_eq!(
        shown,
        [
            "appeared /docker/open",
            "moved 5 /docker/open",
            "started 6 /docker/open"
        ]
    );
}

#[test]
fn two_that_turn_out_to_be_one() {
    let mut registry = watched(true, &[]);
    let first = names::one(&mut registry, A, names::X, 2, 5);
    answered(&mut registry, &first, names::called("web"), 3);
    let second = names::one(&mut registry, B, names::Y, 20, 6);
    assert_eq!(
        answered(&mut registry, &second, names::called("web"), 21),
        ["identified /docker/web was /docker/ffeeddccbbaa by docker"]
    );
    let effects = registry.apply([exited(names::at(20, 6, B))], now(22));
    assert_eq!(told(&effects), ["exited 6 /docker/web"]);
}

/// Whatever is told, in whatever order: every process starts in a container that has appeared, exits once, and is in none
/// that was retired.
#[test]
fn no_one_is_told_of_what_was_not_told_before() {
    let mut registry = watched(false, &[]);
    let mut containers = std::collections::BTreeSet::new();
    let mut processes = std::collections::BTreeMap::new();
    let mut check = |effects: &Effects| {
        for news in &effects.lifecycle {
            match news {
                Lifecycle::ContainerAppeared { container, .. } => assert!(containers.insert(container.clone())),
                Lifecycle::ContainerRetired { container } => {
                    assert!(containers.remove(container));
                    assert!(!processes.values().any(|of| of == &Some(container.clone())));
                }
                Lifecycle::ProcessStarted { process, container, .. } => {
                    assert!(containers.contains(container));
                    assert!(processes.insert(*process, Some(container.clone())).is_none());
                }
                Lifecycle::ProcessMoved { process, container, .. } => {
                    assert!(
                        container
                            .as_ref()
                            .is_none_or(|container| containers.contains(container))
                    );
                    assert!(processes.insert(*process, container.clone()).is_some());
                }
                Lifecycle::ProcessExited { process, container, .. } => {
                    assert_eq!(processes.remove(process), Some(container.clone()));
                }
                Lifecycle::ContainerIdentified { .. } | Lifecycle::Restarted => panic!("{news:?}"),
            }
        }
    };
    let names = ["sh", "ls", "nginx"];
    // A walk through all mixtures of ten processes in three cgroups.
    let mut random = 1_u32;
    let mut next = move |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % below
    };
    for step in 0..5000 {
        let (tgid, cgroup) = (next(10) + 2, CgroupId(u64::from(next(3)) + 1));
        let of = owner(tgid, cgroup, names[next(3) as usize]);
        let at = now(1 + step / 10);
        let effects = match next(8) {
            0 | 1 => registry.apply([started(of, next(10) + 2)], at),
            2 => registry.apply([exec(of)], at),
            3 => registry.apply([exited(of)], at),
            4 => registry.apply([Event::CgroupMoved(process(of, 0))], at),
            5 => registry.apply([Event::SocketSeen(socket(u64::from(next(20)), of))], at),
            6 => {
                let path = Some(format!("/system.slice/s{}.service", cgroup.0).into());
                registry.answer(Answer::Cgroup { cgroup, path }, at)
            }
            _ if next(20) == 0 => registry.collect_garbage(at),
            _ => registry.tick(at),
        };
        check(&effects);
    }
    check(&registry.inventory(&inventory([]), now(10_000)));
    check(&registry.sweep(u64::MAX, now(15_000)));
    check(&registry.collect_garbage(now(20_000)));
    assert!(processes.is_empty(), "{processes:?}");
    assert!(containers.is_empty(), "{containers:?}");
}
