mod any_order;
mod builders;
mod explain;
mod files;
mod filters;
mod lifecycle;
mod lives;
mod names;
mod repair;
mod requests;

use super::{
    effects::{Answer, Ask, Effects},
    state::*,
};
use crate::{
    base::{
        ids::{Application, CgroupId, ContainerId, NetnsId, ProcKey, SocketId},
        ledger::Reason,
        now::Now,
    },
    config::Standalone,
    container::{destination::Filter, state::Limits},
    decode::{CgroupEvent, Comm, Event, Exchanges, Owner, ProcessEvent, Protocol, Role, SocketEvent, SumEvent},
};
use builders::*;
use std::{sync::Arc, time::Duration};
use tarsier_common::kind;

#[test]
fn a_child_is_where_its_parent_is_and_goes_by_its_own_name() {
    let mut registry = registry();
    registry.inventory(
        &inventory([found(1, "init", "/"), found(2, "nginx", "/system.slice/nginx.service")]),
        now(1),
    );
    let child = |tgid| owner(tgid, ROOT, "sh");
    registry.apply([started(child(3), 1), started(child(4), 2)], now(1));
    assert_eq!(
        shown(&mut registry),
        [
            row("/standalone/init", 1, 0, 0),
            row("/standalone/sh", 1, 0, 0),
            row("/system.slice/nginx.service", 2, 0, 0)
        ]
    );
    registry.apply(
        [
            exec(owner(3, ROOT, "curl")),
            Event::SocketSeen(socket(1, owner(3, ROOT, "curl"))),
        ],
        now(1),
    );
    assert_eq!(
        shown(&mut registry),
        [
            row("/standalone/curl", 1, 1, 1),
            row("/standalone/init", 1, 0, 0),
            row("/system.slice/nginx.service", 2, 0, 0)
        ]
    );
}

#[test]
fn a_child_that_was_cloned_into_a_cgroup_is_not_where_its_parent_is() {
    let mut registry = registry();
    registry.inventory(&inventory([found(1, "init", "/")]), now(1));
    let effects = registry.apply([started(owner(3, CgroupId(7), "app"), 1)], now(1));
    assert_eq!(
        effects.asks,
        [Ask::Cgroup {
            cgroup: CgroupId(7),
            tgid: 3
        }]
    );
}

#[test]
fn the_end_of_a_connection_finds_its_container_after_the_process_is_gone() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "curl", "/")]), now(1));
    let curl = owner(3, ROOT, "curl");
    registry.apply([Event::SocketSeen(socket(1, curl)), exited(curl)], now(1));
    registry.tick(now(60));
    registry.apply([Event::ConnectionClosed(socket(1, curl))], now(60));
    assert_eq!(shown(&mut registry), [row("/standalone/curl", 0, 1, 0)]);
}

#[test]
fn a_process_that_did_nothing_leaves_nothing() {
    let mut registry = registry();
    registry.inventory(&inventory([found(1, "init", "/")]), now(1));
    registry.apply(
        [started(owner(3, ROOT, "true"), 1), exited(owner(3, ROOT, "true"))],
        now(1),
    );
    assert_eq!(shown(&mut registry), [row("/standalone/init", 1, 0, 0)]);
    registry.tick(now(60));
    assert!(
        registry.tables().iter().all(|(_, entries, _, _)| *entries <= 1),
        "{:?}",
        registry.tables()
    );
}

/// With an actor it would stay until the garbage collection, so it does in a replay.
#[test]
fn a_process_that_was_old_enough_to_be_shown_stays() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "make", "/")]), now(1));
    registry.tick(now(2));
    registry.apply([exited(owner(3, ROOT, "make"))], now(3));
    assert_eq!(shown(&mut registry), [row("/standalone/make", 0, 0, 0)]);
    registry.collect_garbage(now(2000));
    assert!(shown(&mut registry).is_empty());
}

#[test]
fn an_unnamed_cgroup_is_asked_for_once_and_its_events_are_kept() {
    let mut registry = registry();
    let in_service = |tgid| owner(tgid, CgroupId(7), "app");
    let effects = registry.apply(
        [
            started(in_service(3), 1),
            started(in_service(4), 1),
            Event::SocketSeen(socket(1, in_service(3))),
            Event::SocketSeen(socket(2, in_service(4))),
        ],
        now(1),
    );
    assert_eq!(
        effects.asks,
        [Ask::Cgroup {
            cgroup: CgroupId(7),
            tgid: 3
        }]
    );
    assert!(effects.outcome.dropped.is_empty());
    assert!(shown(&mut registry).is_empty(), "nothing is shown before it has a name");
    let path = Some("/system.slice/app.service".into());
    registry.answer(
        Answer::Cgroup {
            cgroup: CgroupId(7),
            path,
        },
        now(2),
    );
    assert_eq!(shown(&mut registry), [row("/system.slice/app.service", 2, 2, 2)]);
    let effects = registry.apply(
        [
            Event::ConnectionClosed(socket(1, in_service(3))),
            started(in_service(5), 4),
        ],
        now(2),
    );
    assert!(effects.asks.is_empty());
    assert_eq!(shown(&mut registry), [row("/system.slice/app.service", 3, 2, 1)]);
}

#[test]
fn a_cgroup_that_nobody_can_name_leaves_its_processes_to_themselves() {
    let mut registry = registry();
    let app = owner(3, CgroupId(7), "app");
    registry.apply([started(app, 1), Event::SocketSeen(socket(1, app))], now(1));
    registry.answer(
        Answer::Cgroup {
            cgroup: CgroupId(7),
            path: None,
        },
        now(2),
    );
    assert_eq!(shown(&mut registry), [row("/standalone/app", 1, 1, 1)]);
    // No verdict on the cgroup: the next process asks again.
    let effects = registry.apply([started(owner(4, CgroupId(7), "app"), 1)], now(3));
    assert_eq!(
        effects.asks,
        [Ask::Cgroup {
            cgroup: CgroupId(7),
            tgid: 4
        }]
    );
}

/// A process of a few milliseconds is gone before /proc can be asked: the path that the kernel told at mkdir is left.
#[test]
fn a_cgroup_whose_processes_are_gone_has_the_path_it_was_made_with() {
    let mut registry = registry();
    let path = Some("/system.slice/app.service".to_owned());
    let app = owner(3, CgroupId(7), "app");
    registry.apply(
        [
            Event::CgroupMade(CgroupEvent {
                cgroup: CgroupId(7),
                path,
            }),
            started(app, 1),
            Event::SocketSeen(socket(1, app)),
            exited(app),
        ],
        now(1),
    );
    registry.answer(
        Answer::Cgroup {
            cgroup: CgroupId(7),
            path: None,
        },
        now(2),
    );
    assert_eq!(shown(&mut registry), [row("/system.slice/app.service", 0, 1, 1)]);
}

#[test]
fn a_name_that_does_not_come_is_not_waited_for() {
    let mut registry = registry();
    let app = owner(3, CgroupId(7), "app");
    registry.apply([started(app, 1), Event::SocketSeen(socket(1, app))], now(1));
    registry.tick(now(4));
    assert!(shown(&mut registry).is_empty());
    registry.tick(now(7));
    assert_eq!(shown(&mut registry)[0].0, "/standalone/app");
}

#[test]
fn pending_state_is_bounded() {
    let mut registry = registry();
    let failed = |i: u32| Event::ConnectionFailed(socket(u64::from(i), owner(i, CgroupId(7), "app")));
    let effects = registry.apply((1..=5).map(failed), now(1));
    assert_eq!(effects.outcome.delivered.get(kind::CONNECT_FAILED), 3);
    assert_eq!(
        effects.outcome.dropped,
        [(kind::CONNECT_FAILED, Reason::PendingFull, 1); 2]
    );
    assert!(
        registry
            .tables()
            .iter()
            .any(|table| (table.0, table.3) == ("pending", 2))
    );
}

#[test]
fn a_move_takes_the_process_along() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "app", "/system.slice/a.service")]), now(1));
    // Into a cgroup of the unified hierarchy, with the kernel's word at the event itself.
    let moved = owner(3, CgroupId(8), "app");
    let effects = registry.apply([Event::SocketSeen(socket(1, moved))], now(1));
    assert_eq!(
        effects.asks,
        [] as [Ask; 0],
        "a path that /proc has just shown stands for the cgroup it was seen in"
    );
    let again = owner(3, CgroupId(9), "app");
    let effects = registry.apply([Event::CgroupMoved(process(again, 0))], now(1));
    assert_eq!(
        effects.asks,
        [Ask::Cgroup {
            cgroup: CgroupId(9),
            tgid: 3
        }]
    );
    let path = Some("/system.slice/b.service".into());
    registry.answer(
        Answer::Cgroup {
            cgroup: CgroupId(9),
            path,
        },
        now(1),
    );
    assert_eq!(
        shown(&mut registry),
        [
            row("/system.slice/a.service", 0, 1, 1),
            row("/system.slice/b.service", 1, 0, 0)
        ]
    );
}

#[test]
fn a_move_in_a_v1_hierarchy_is_looked_up() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "app", "/")]), now(1));
    let mut event = process(owner(3, ROOT, "app"), 0);
    event.legacy_hierarchy = true;
    let effects = registry.apply([Event::CgroupMoved(event)], now(1));
    let key = owner(3, ROOT, "app").process;
    assert_eq!(effects.asks, [Ask::Process { process: key }]);
    // What it does meanwhile waits with it.
    registry.apply([Event::SocketSeen(socket(1, owner(3, ROOT, "app")))], now(1));
    registry.answer(
        Answer::Process {
            process: key,
            path: Some("/system.slice/a.service".into()),
        },
        now(1),
    );
    let rows = shown(&mut registry);
    assert!(rows.contains(&row("/system.slice/a.service", 1, 1, 1)), "{rows:?}");
}

/// A totals pass is read before the ring.
#[test]
fn a_connection_that_is_shown_before_its_process_is_where_the_parent_is() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "app", "/system.slice/a.service")]), now(1));
    let child = owner(4, ROOT, "app");
    let effects = registry.apply(
        [Event::SocketSeen(socket(1, child)), started(child, 3), exited(child)],
        now(1),
    );
    assert_eq!(effects.asks, [Ask::Process { process: child.process }]);
    // It had ended before anybody could look.
    registry.answer(
        Answer::Process {
            process: child.process,
            path: None,
        },
        now(1),
    );
    assert_eq!(shown(&mut registry), [row("/system.slice/a.service", 1, 1, 1)]);
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "old", "/")]), now(1));
    let new = Owner {
        process: ProcKey {
            tgid: 3,
            start_ns: 77 * TICK,
        },
        ..owner(3, ROOT, "new")
    };
    registry.apply([started(new, 0)], now(2));
    registry.answer(
        Answer::Process {
            process: new.process,
            path: Some("/".into()),
        },
        now(2),
    );
    assert_eq!(shown(&mut registry), [row("/standalone/new", 1, 0, 0)]);
    // The late end of the old one does not end the new one.
    registry.apply([exited(owner(3, ROOT, "old"))], now(2));
    assert_eq!(shown(&mut registry), [row("/standalone/new", 1, 0, 0)]);
    // Nor does an inventory that was taken before.
    registry.inventory(
        &Inventory {
            taken_boottime_ns: 5 * TICK,
            ..inventory([found(3, "old", "/")])
        },
        now(2),
    );
    assert_eq!(shown(&mut registry), [row("/standalone/new", 1, 0, 0)]);
}

#[test]
fn an_inventory_brings_what_was_missed_and_ends_what_is_gone() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "a", "/"), found(4, "b", "/")]), now(1));
    registry.inventory(&inventory([found(4, "b", "/"), found(5, "c", "/")]), now(2));
    assert_eq!(
        shown(&mut registry),
        [row("/standalone/b", 1, 0, 0), row("/standalone/c", 1, 0, 0)]
    );
    // One that could not see everything proves nothing.
    registry.inventory(
        &Inventory {
            complete: false,
            ..inventory([])
        },
        now(3),
    );
    assert_eq!(shown(&mut registry).len(), 2);
}

#[test]
fn bare_processes_as_configured() {
    let apps = [found(3, "a", "/"), found(4, "a", "/")];
    let mut by_pid = RegistryState::new(settings(Standalone::PerProcess), node());
    by_pid.inventory(&inventory(apps.clone()), now(1));
    assert_eq!(
        shown(&mut by_pid),
        [row("/standalone/a/3", 1, 0, 0), row("/standalone/a/4", 1, 0, 0)]
    );
    let mut off = RegistryState::new(settings(Standalone::Off), node());
    off.inventory(&inventory(apps), now(1));
    let effects = off.apply([Event::ConnectionFailed(socket(1, owner(3, ROOT, "a")))], now(1));
    assert_eq!(
        effects.outcome.dropped,
        [(kind::CONNECT_FAILED, Reason::StandaloneOff, 1)]
    );
    assert!(shown(&mut off).is_empty());
}

#[test]
fn what_is_left_out_has_a_reason() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "a", "/")]), now(1));
    let a = owner(3, ROOT, "a");
    let to = |remote: &str, netns| {
        let mut event = socket(1, a);
        (event.remote, event.netns) = (remote.parse().unwrap(), netns);
        Event::ConnectionFailed(event)
    };
    let mut thread = process(owner(5, ROOT, "kworker"), 2);
    thread.owner.kernel_thread = true;
    let effects = registry.apply(
        [
            to("192.0.2.9:40000", HOST),
            to("127.0.0.1:80", NetnsId(2)),
            to("169.254.1.1:80", HOST),
            Event::ProcessStarted(thread),
            Event::ConnectionFailed(socket(2, owner(999, ROOT, "tarsier"))),
        ],
        now(1),
    );
    let reasons: Vec<Reason> = effects.outcome.dropped.iter().map(|(_, reason, _)| *reason).collect();
    use Reason::{EphemeralPort, KernelThread, LinkLocal, LoopbackInContainer, Own};
    assert_eq!(
        reasons,
        [EphemeralPort, LoopbackInContainer, LinkLocal, KernelThread, Own]
    );
}
