//! Actors come and go, news is late or lost.
use super::*;

#[test]
fn an_actor_gets_what_was_gathered_and_its_successor_the_processes() {
    let mut registry = with_actors();
    registry.inventory(&inventory([found(3, "a", "/")]), now(1));
    let a = owner(3, ROOT, "a");
    let effects = registry.apply([Event::SocketSeen(socket(1, a))], now(1));
    let [(slot, id)] = &effects.spawns[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(id.as_str(), "/standalone/a");
    // Until the actor is there, all is kept here.
    let effects = registry.apply([Event::ConnectionClosed(socket(1, a))], now(1));
    assert!(effects.shares.is_empty() && effects.outcome.delivered.get(kind::CLOSE) == 1);
    let (wanted, effects) = runs(&mut registry, *slot);
    assert!(wanted && effects.absorbs.len() == 1);
    let effects = registry.apply([Event::ConnectionFailed(socket(2, a))], now(1));
    assert_eq!(
        (
            effects.shares[slot].events.len(),
            effects.shares[slot].counts.get(kind::CONNECT_FAILED)
        ),
        (1, 1)
    );
    assert_eq!(
        effects.outcome.delivered.get(kind::CONNECT_FAILED),
        0,
        "the container says when it has it"
    );
    let effects = registry.container_lost(*slot, now(2));
    assert_eq!(effects.spawns.len(), 1);
    assert_eq!(shown(&mut registry), [row("/standalone/a", 1, 0, 0)]);
}

#[test]
fn the_dead_are_reaped_one_period_after_their_last_process() {
    let mut registry = with_actors();
    registry.inventory(&inventory([found(3, "a", "/")]), now(1));
    let a = owner(3, ROOT, "a");
    let effects = registry.apply([Event::SocketSeen(socket(1, a)), exited(a)], now(10));
    let slot = effects.spawns[0].0;
    runs(&mut registry, slot);
    assert!(
        registry.collect_garbage(now(2000)).reaps.is_empty(),
        "its connection is still open"
    );
    registry.apply([Event::ConnectionClosed(socket(1, a))], now(2000));
    assert_eq!(registry.collect_garbage(now(2000)).reaps.len(), 1);
    assert!(!runs(&mut registry, slot).0);
}

#[test]
fn a_swept_socket_keeps_no_container_alive() {
    let mut registry = with_actors();
    registry.inventory(&inventory([found(3, "a", "/")]), now(1));
    let a = owner(3, ROOT, "a");
    let effects = registry.apply([Event::SocketSeen(socket(1, a)), exited(a)], now(10));
    runs(&mut registry, effects.spawns[0].0);
    // Its end was lost, and a pass that began later has not seen it.
    registry.sweep(now(20).monotonic_ns, now(20));
    assert_eq!(registry.collect_garbage(now(2000)).reaps.len(), 1);
}

/// The owner of a socket is who connected: that was another cgroup, or another process with the same pid.
#[test]
fn a_late_event_of_a_socket_moves_nobody() {
    let mut registry = registry();
    let name = |cgroup, path: &str| Answer::Cgroup {
        cgroup: CgroupId(cgroup),
        path: Some(path.into()),
    };
    registry.answer(name(7, "/system.slice/a.service"), now(1));
    registry.answer(name(8, "/system.slice/b.service"), now(1));
    let in_a = owner(3, CgroupId(7), "app");
    registry.apply(
        [
            started(in_a, 1),
            Event::CgroupMoved(process(owner(3, CgroupId(8), "app"), 0)),
        ],
        now(1),
    );
    registry.apply([Event::ConnectionFailed(socket(1, in_a))], now(2));
    let rows = shown(&mut registry);
    assert!(rows.contains(&row("/system.slice/b.service", 1, 0, 0)), "{rows:?}");
    assert!(
        rows.iter().any(|row| row.0 == "/system.slice/a.service" && row.1 == 0),
        "{rows:?}"
    );
    // A worker that was forked long ago had its connection from a process that is gone; its pid is the app's now.
    let gone = Owner {
        process: ProcKey {
            tgid: 3,
            start_ns: TICK,
        },
        ..owner(3, CgroupId(7), "old")
    };
    registry.apply([Event::ConnectionClosed(socket(9, gone))], now(2));
    assert!(shown(&mut registry).contains(&row("/system.slice/b.service", 1, 0, 0)));
}

#[test]
fn who_only_a_socket_speaks_of_is_no_living_process() {
    let mut registry = registry();
    registry.answer(
        Answer::Cgroup {
            cgroup: CgroupId(7),
            path: Some("/system.slice/a.service".into()),
        },
        now(1),
    );
    registry.apply([Event::SocketSeen(socket(1, owner(3, CgroupId(7), "app")))], now(1));
    assert_eq!(shown(&mut registry), [row("/system.slice/a.service", 0, 1, 1)]);
    // Until somebody sees it.
    registry.inventory(&inventory([found(3, "app", "/system.slice/a.service")]), now(2));
    assert_eq!(shown(&mut registry), [row("/system.slice/a.service", 1, 1, 1)]);
    // And then it is asked what it runs, which no socket tells.
    let process = owner(3, CgroupId(7), "app").process;
    assert_eq!(registry.tick(now(4)).asks, [Ask::Application { process }]);
}

#[test]
fn sums_of_a_cgroup_without_a_name_wait_for_it() {
    let mut registry = registry();
    let sum = ten_connects(CgroupId(7));
    let effects = registry.apply([Event::SumSpilled(sum)], now(1));
    assert_eq!(
        effects.asks,
        [Ask::Cgroup {
            cgroup: CgroupId(7),
            tgid: 0
        }]
    );
    let path = Some("/system.slice/app.service".into());
    registry.answer(
        Answer::Cgroup {
            cgroup: CgroupId(7),
            path,
        },
        now(1),
    );
    assert_eq!(shown(&mut registry), [row("/system.slice/app.service", 0, 10, 0)]);
}

#[test]
fn a_question_that_was_lost_is_asked_again() {
    let mut registry = registry();
    registry.apply([started(owner(3, CgroupId(7), "app"), 1)], now(1));
    assert!(registry.tick(now(3)).asks.is_empty());
    assert_eq!(
        registry.tick(now(8)).asks,
        [Ask::Cgroup {
            cgroup: CgroupId(7),
            tgid: 3
        }]
    );
}

#[test]
fn sums_go_to_the_cgroup_they_name() {
    let mut registry = registry();
    registry.answer(
        Answer::Cgroup {
            cgroup: CgroupId(7),
            path: Some("/system.slice/app.service".into()),
        },
        now(1),
    );
    let sum = ten_connects(CgroupId(7));
    let bare = SumEvent {
        cgroup: ROOT,
        process: Some(ProcKey {
            tgid: 3,
            start_ns: 3 * TICK,
        }),
        ..sum.clone()
    };
    registry.inventory(&inventory([found(3, "a", "/")]), now(1));
    registry.apply([Event::SumSpilled(sum), Event::SumSpilled(bare)], now(1));
    assert_eq!(
        shown(&mut registry),
        [
            row("/standalone/a", 1, 10, 0),
            row("/system.slice/app.service", 0, 10, 0)
        ]
    );
}

#[test]
fn sockets_that_only_proc_shows_are_active_and_nothing_else() {
    let mut registry = registry();
    let processes = || [found(3, "a", "/"), found(4, "b", "/")];
    let socket_of = |cookie, tgid, role, listening| SocketFound {
        cookie,
        owner: found(tgid, "", "/").process,
        netns: HOST,
        local: "192.0.2.1:80".parse().unwrap(),
        remote: "192.0.2.9:80".parse().unwrap(),
        role,
        listening,
    };
    let look = |registry: &mut RegistryState, sockets: &[SocketFound]| {
        let sockets = Some(sockets.to_vec());
        registry.inventory(
            &Inventory {
                sockets,
                ..inventory(processes())
            },
            now(1),
        )
    };
    let client = socket_of(1, 3, Role::Client, false);
    let server = socket_of(2, 4, Role::Server, false);
    let listener = socket_of(3, 4, Role::Server, true);
    let stranger = socket_of(4, 77, Role::Client, false);
    look(&mut registry, &[client, server, listener, stranger]);
    assert_eq!(
        shown(&mut registry),
        [row("/standalone/a", 1, 0, 1), row("/standalone/b", 1, 0, 0)]
    );
    let listens = |registry: &mut RegistryState| registry.samples(now(1)).remove(1).listens;
    let open = listens(&mut registry)[0];
    assert_eq!((open.sockets, open.active, open.accepted), (1, 1, 0));
    // Once more is no more; what is gone is gone.
    look(&mut registry, &[client, server, listener]);
    assert_eq!(listens(&mut registry)[0], open);
    look(&mut registry, &[client]);
    assert_eq!(listens(&mut registry)[0].active, 0);
    // Its process has handed it on.
    look(
        &mut registry,
        &[SocketFound {
            owner: server.owner,
            ..client
        }],
    );
    assert_eq!(
        shown(&mut registry),
        [row("/standalone/a", 1, 0, 0), row("/standalone/b", 1, 0, 1)]
    );
    // The programs have come to know it.
    registry.apply([Event::SocketSeen(socket(1, owner(4, ROOT, "b")))], now(2));
    assert_eq!(
        shown(&mut registry),
        [row("/standalone/a", 1, 0, 0), row("/standalone/b", 1, 1, 1)]
    );
    look(
        &mut registry,
        &[SocketFound {
            owner: server.owner,
            ..client
        }],
    );
    assert_eq!(
        shown(&mut registry),
        [row("/standalone/a", 1, 0, 0), row("/standalone/b", 1, 1, 1)]
    );
}

/// systemd listens, the service is given the socket and answers.
#[test]
fn a_connection_goes_to_who_uses_it() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "listens", "/"), found(4, "answers", "/")]), now(1));
    let accepted = |tgid, name, settled, shown| SocketEvent {
        role: Role::Server,
        local: "192.0.2.1:80".parse().unwrap(),
        settled,
        shown,
        sent_bytes: 10,
        ..socket(1, owner(tgid, ROOT, name))
    };
    registry.apply([Event::SocketSeen(accepted(3, "listens", false, false))], now(1));
    let active = |registry: &mut RegistryState| -> Vec<_> {
        let samples = registry.samples(now(1));
        let rows = samples
            .iter()
            .flat_map(|sample| sample.listens.iter().map(move |listen| (sample, listen)));
        let rows =
            rows.map(|(sample, listen)| (sample.id.to_string(), listen.accepted, listen.active, listen.sent_bytes));
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        rows
    };
    assert_eq!(active(&mut registry), [("/standalone/listens".into(), 1, 1, 0)]);
    registry.apply([Event::SocketSeen(accepted(4, "answers", true, false))], now(1));
    assert_eq!(
        active(&mut registry),
        [
            ("/standalone/answers".to_owned(), 1, 1, 10),
            ("/standalone/listens".to_owned(), 0, 0, 0)
        ]
    );
    registry.apply([Event::AcceptedClosed(accepted(4, "answers", true, true))], now(1));
    assert_eq!(active(&mut registry)[0], ("/standalone/answers".to_owned(), 1, 0, 10));
}

/// A pass is read before the ring: the rows of a process come before its start, its moves and its program.
#[test]
fn what_a_pass_shows_first_is_not_lost_when_its_process_comes() {
    for answer_late in [false, true] {
        let mut registry = registry();
        registry.inventory(&inventory([found(1, "init", "/")]), now(1));
        let app = owner(3, CgroupId(7), "app");
        let early = owner(3, ROOT, "test");
        let mut legacy = process(early, 1);
        legacy.legacy_hierarchy = true;
        let events = [
            Event::SocketSeen(socket(1, app)),
            started(early, 1),
            Event::CgroupMoved(legacy),
            Event::CgroupMoved(process(app, 1)),
            exec(app),
            Event::ConnectionClosed(SocketEvent {
                shown: true,
                ..socket(1, app)
            }),
        ];
        registry.apply(events, now(2));
        let process = app.process;
        let name = Answer::Cgroup {
            cgroup: CgroupId(7),
            path: Some("/system.slice/app.service".into()),
        };
        let place = Answer::Process {
            process,
            path: Some("/system.slice/app.service".into()),
        };
        if answer_late {
            registry.tick(now(4));
        }
        registry.answer(place, now(4));
        registry.answer(name, now(4));
        registry.tick(now(20));
        let connects: u64 = shown(&mut registry).iter().map(|row| row.2).sum();
        assert_eq!(connects, 1, "{:?}", shown(&mut registry));
        assert!(shown(&mut registry).contains(&row("/system.slice/app.service", 1, 1, 0)));
    }
}

#[test]
fn a_first_row_that_finds_no_room_is_made_up_for() {
    let mut registry = registry();
    let of = |i: u32| owner(i, CgroupId(u64::from(i)), "app");
    // As many as may wait for a name, and one more.
    registry.apply(
        (11..=14).map(|i| Event::SocketSeen(socket(u64::from(i), of(i)))),
        now(1),
    );
    for i in 11..=14 {
        let path = Some(format!("/system.slice/{i}.service").into());
        registry.answer(
            Answer::Cgroup {
                cgroup: CgroupId(i),
                path,
            },
            now(2),
        );
    }
    let last = SocketEvent {
        shown: true,
        sent_bytes: 9,
        ..socket(14, of(14))
    };
    registry.apply([Event::SocketSeen(last)], now(2));
    assert!(shown(&mut registry).contains(&row("/system.slice/14.service", 0, 1, 1)));
}
