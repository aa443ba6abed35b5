//! Processes end, are killed, execute something else; containers are restarted.
use super::*;
use crate::container::samples::Samples;

const A: CgroupId = CgroupId(7);
const B: CgroupId = CgroupId(8);

/// Both cgroups are known by their names.
fn two_services() -> RegistryState {
    let mut registry = registry();
    name(&mut registry, A, "/system.slice/a.service");
    name(&mut registry, B, "/system.slice/b.service");
    registry
}

fn name(registry: &mut RegistryState, cgroup: CgroupId, path: &str) {
    let path = Some(path.into());
    registry.answer(Answer::Cgroup { cgroup, path }, now(1));
}

/// A process that starts in that second.
fn at(seconds: u64, tgid: u32, cgroup: CgroupId) -> Owner {
    Owner {
        process: ProcKey {
            tgid,
            start_ns: now(seconds).boottime_ns + 7,
        },
        ..owner(tgid, cgroup, "app")
    }
}

fn killed(owner: Owner) -> Event {
    Event::ProcessExited(ProcessEvent {
        oom_killed: true,
        exit_code: 9,
        ..process(owner, 1)
    })
}

fn of(registry: &mut RegistryState, id: &str) -> Option<Samples> {
    let samples = registry.samples(now(100)).into_iter();
    samples.into_iter().find(|sample| sample.id.as_str() == id)
}

fn restarts(registry: &mut RegistryState, id: &str) -> u64 {
    of(registry, id).unwrap().restarts
}

fn oom_kills(registry: &mut RegistryState, id: &str) -> u64 {
    of(registry, id).unwrap().oom_kills
}

fn applications(registry: &mut RegistryState, id: &str) -> Vec<String> {
    let sample = of(registry, id).unwrap();
    sample.applications.iter().map(|is| is.as_str().to_owned()).collect()
}

/// On kernels that do not say which thread is the last, two that end at once may both look like it.
#[test]
fn a_process_ends_once() {
    let mut registry = two_services();
    let app = at(2, 3, A);
    registry.apply([started(app, 1), started(at(2, 4, A), 1)], now(2));
    let effects = registry.apply([killed(app), killed(app), exited(app)], now(3));
    assert_eq!(effects.outcome.delivered.get(kind::EXIT), 1);
    assert_eq!(effects.outcome.dropped, [(kind::EXIT, Reason::Thread, 1); 2]);
    let a = of(&mut registry, "/system.slice/a.service").unwrap();
    assert_eq!((a.processes, a.oom_kills), (1, 1));
    // Nor does the second end the next process with that pid.
    let next = at(4, 3, A);
    registry.apply([started(next, 1), killed(app)], now(4));
    assert_eq!(of(&mut registry, "/system.slice/a.service").unwrap().processes, 2);
}

#[test]
fn a_pid_that_is_given_twice_within_a_tick_is_two_processes() {
    let mut registry = two_services();
    let twice = |ns, cgroup| Owner {
        process: ProcKey {
            tgid: 3,
            start_ns: 50 * TICK + ns,
        },
        ..owner(3, cgroup, "app")
    };
    let (one, two) = (twice(1_000, A), twice(9_000_000, B));
    registry.apply([started(one, 1), started(two, 1)], now(2));
    let rows = shown(&mut registry);
    assert!(rows.contains(&row("/system.slice/b.service", 1, 0, 0)), "{rows:?}");
    assert!(
        !rows.iter().any(|row| row.0.contains("a.service") && row.1 > 0),
        "{rows:?}"
    );
    registry.apply([exited(one)], now(2));
    assert!(shown(&mut registry).contains(&row("/system.slice/b.service", 1, 0, 0)));
    registry.apply([exited(two)], now(2));
    assert!(shown(&mut registry).iter().all(|row| row.1 == 0));
}

/// Their cgroups have no names yet, when the index has only the second left.
#[test]
fn what_the_first_with_a_pid_did_is_not_lost_with_it() {
    let mut registry = registry();
    let [one, two] = [(1, A), (2, B)].map(|(ns, cgroup)| Owner {
        process: ProcKey {
            tgid: 3,
            start_ns: 50 * TICK + ns,
        },
        ..owner(3, cgroup, "app")
    });
    let events = |cookie, owner| {
        [
            started(owner, 1),
            Event::SocketSeen(socket(cookie, owner)),
            killed(owner),
        ]
    };
    registry.apply(events(1, one).into_iter().chain(events(2, two)), now(2));
    // And a late one of the first.
    registry.apply([Event::SocketSeen(socket(3, one))], now(2));
    name(&mut registry, A, "/system.slice/a.service");
    name(&mut registry, B, "/system.slice/b.service");
    assert_eq!(
        shown(&mut registry),
        [
            row("/system.slice/a.service", 0, 2, 2),
            row("/system.slice/b.service", 0, 1, 1)
        ]
    );
    assert_eq!(oom_kills(&mut registry, "/system.slice/a.service"), 1);
    // Where nobody gives a name, neither; the index forgets them at the same time.
    let nameless = at(3, 4, CgroupId(9));
    registry.apply(
        [
            started(nameless, 1),
            Event::SocketSeen(socket(4, nameless)),
            exited(nameless),
        ],
        now(3),
    );
    registry.tick(now(60));
    assert!(shown(&mut registry).contains(&row("/standalone/app", 0, 1, 1)));
}

/// Connects in one cgroup, moves to the next, and the next is named first.
#[test]
fn what_was_done_before_a_move_stays_there() {
    let mut registry = registry();
    let [in_a, in_b] = [A, B].map(|cgroup| at(2, 3, cgroup));
    registry.apply(
        [
            started(in_a, 1),
            Event::SocketSeen(socket(1, in_a)),
            Event::CgroupMoved(process(in_b, 0)),
            Event::SocketSeen(socket(2, in_b)),
            Event::SocketSeen(socket(3, in_b)),
        ],
        now(2),
    );
    name(&mut registry, B, "/system.slice/b.service");
    assert_eq!(shown(&mut registry), [row("/system.slice/b.service", 1, 2, 2)]);
    name(&mut registry, A, "/system.slice/a.service");
    assert_eq!(
        shown(&mut registry),
        [
            row("/system.slice/a.service", 0, 1, 1),
            row("/system.slice/b.service", 1, 2, 2)
        ]
    );
}

/// /proc cuts the start to a tick, what the kernel tells of the same process does not.
#[test]
fn a_process_from_proc_waits_for_a_name_under_one_key() {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "app", "/")]), now(1));
    let mut moved = owner(3, A, "app");
    moved.process.start_ns += 1234;
    registry.apply(
        [
            Event::CgroupMoved(process(moved, 0)),
            Event::SocketSeen(socket(1, moved)),
        ],
        now(1),
    );
    name(&mut registry, A, "/system.slice/a.service");
    assert!(shown(&mut registry).contains(&row("/system.slice/a.service", 1, 1, 1)));
    registry.tick(now(20));
    assert!(shown(&mut registry).contains(&row("/system.slice/a.service", 1, 1, 1)));
    assert!(
        registry
            .tables()
            .iter()
            .all(|(table, n, _, _)| *table != "pending" || *n == 0)
    );
}

#[test]
fn a_kill_waits_for_its_container_and_finds_it_without_a_start() {
    let mut registry = registry();
    // Named only after its end.
    let app = at(2, 3, A);
    let effects = registry.apply([started(app, 1), killed(app)], now(2));
    assert_eq!(effects.outcome.delivered.get(kind::EXIT), 1);
    // Of this one nothing was heard before.
    let effects = registry.apply([killed(at(2, 4, A)), killed(at(2, 4, A))], now(2));
    assert_eq!(effects.outcome.delivered.get(kind::EXIT), 1);
    name(&mut registry, A, "/system.slice/a.service");
    assert_eq!(oom_kills(&mut registry, "/system.slice/a.service"), 2);
    assert_eq!(of(&mut registry, "/system.slice/a.service").unwrap().processes, 0);
    // Where there is no room to wait, that is said.
    let effects = registry.apply((10..14).map(|tgid| killed(at(2, tgid, B))), now(2));
    assert_eq!(effects.outcome.delivered.get(kind::EXIT), 3);
    assert_eq!(effects.outcome.dropped, [(kind::EXIT, Reason::PendingFull, 1)]);
}

#[test]
fn whose_end_nobody_counts() {
    let mut registry = two_services();
    let own = Owner {
        cgroup: A,
        ..owner(999, A, "tarsier")
    };
    let thread = Owner {
        kernel_thread: true,
        ..at(2, 5, A)
    };
    let effects = registry.apply([killed(own), killed(thread)], now(2));
    assert_eq!(
        effects.outcome.dropped,
        [(kind::EXIT, Reason::Own, 1), (kind::EXIT, Reason::KernelThread, 1)]
    );
    assert!(of(&mut registry, "/system.slice/a.service").is_none_or(|a| a.oom_kills == 0));
}

#[test]
fn a_kill_goes_to_the_actor_that_books_it() {
    let mut registry = with_actors();
    name(&mut registry, A, "/system.slice/a.service");
    let app = at(2, 3, A);
    let effects = registry.apply([started(app, 1), Event::SocketSeen(socket(1, app))], now(2));
    let slot = effects.spawns[0].0;
    runs(&mut registry, slot);
    let effects = registry.apply([killed(app)], now(3));
    assert_eq!(effects.shares[&slot].counts.get(kind::EXIT), 1);
    assert_eq!(effects.outcome.delivered.get(kind::EXIT), 0);
}

#[test]
fn a_service_that_starts_again_was_restarted() {
    let mut registry = two_services();
    let a = "/system.slice/a.service";
    registry.apply([started(at(10, 3, A), 1), started(at(15, 4, A), 3)], now(15));
    registry.apply([exited(at(15, 4, A)), started(at(16, 5, A), 3)], now(16));
    assert_eq!(restarts(&mut registry, a), 0, "workers come and go");
    registry.apply([exited(at(16, 5, A)), exited(at(10, 3, A))], now(17));
    registry.apply([started(at(20, 6, A), 1), started(at(22, 7, A), 6)], now(22));
    assert_eq!(restarts(&mut registry, a), 1);
    // Into the background: the first has ended, the second goes on and forks.
    registry.apply([exited(at(20, 6, A)), started(at(25, 8, A), 7)], now(25));
    assert_eq!(restarts(&mut registry, a), 1);
    registry.apply([exited(at(22, 7, A)), started(at(30, 9, A), 1)], now(30));
    assert_eq!(
        restarts(&mut registry, a),
        2,
        "a worker is left, and a new one comes from outside"
    );
    assert!(of(&mut registry, "/system.slice/b.service").is_none());
}

/// A start that fails at once is over before anybody has looked at the new cgroup.
#[test]
fn a_restart_that_fails_at_once_is_one() {
    let mut registry = registry();
    let run = |registry: &mut RegistryState, seconds: u64| {
        let cgroup = CgroupId(100 + seconds);
        let app = at(seconds, 3, cgroup);
        registry.apply([started(app, 1), exec(app), exited(app)], now(seconds));
        name(registry, cgroup, "/system.slice/a.service");
    };
    for seconds in [10, 20, 30, 31] {
        run(&mut registry, seconds);
    }
    let a = of(&mut registry, "/system.slice/a.service").unwrap();
    assert_eq!((a.restarts, a.processes), (3, 0));
}

#[test]
fn bare_processes_are_not_restarted() {
    let mut registry = registry();
    registry.inventory(&inventory([found(1, "init", "/")]), now(1));
    for seconds in [10, 20, 30] {
        let curl = Owner {
            comm: comm("curl"),
            ..at(seconds, 3, ROOT)
        };
        registry.apply(
            [started(curl, 1), Event::SocketSeen(socket(seconds, curl)), exited(curl)],
            now(seconds),
        );
    }
    assert_eq!(restarts(&mut registry, "/standalone/curl"), 0);
}

#[test]
fn what_lingers_is_bounded_and_makes_room() {
    let settings = Settings {
        max_containers: 3,
        ..settings(Standalone::ByName)
    };
    let mut registry = RegistryState::new(settings, node());
    for i in 0..6 {
        let cgroup = CgroupId(20 + i);
        name(&mut registry, cgroup, &format!("/system.slice/job{i}.service"));
        let job = at(10 + i, 3, cgroup);
        registry.apply([started(job, 1), exited(job)], now(10 + i));
    }
    let left: Vec<_> = shown(&mut registry).into_iter().map(|row| row.0).collect();
    assert_eq!(left, [3, 4, 5].map(|i| format!("/system.slice/job{i}.service")));
    let rejected = registry
        .tables()
        .iter()
        .find(|table| table.0 == "containers")
        .unwrap()
        .3;
    assert_eq!(rejected, 0);
}

/// Asked a second after it has executed something, once.
#[test]
fn applications_are_looked_at_when_they_have_settled() {
    let mut registry = two_services();
    let a = "/system.slice/a.service";
    let app = at(2, 3, A);
    registry.apply([started(app, 1), exec(app)], now(2));
    assert_eq!(registry.tick(now(2)).asks, []);
    registry.apply([exec(app)], now(3));
    assert_eq!(registry.tick(now(3)).asks, [], "it has executed something else since");
    let ask = Ask::Application { process: app.process };
    assert_eq!(registry.tick(now(4)).asks, [ask]);
    assert_eq!(registry.tick(now(9)).asks, []);
    let answer = |application: Option<&'static str>| Answer::Application {
        process: app.process,
        application: application.map(Application::from),
    };
    registry.answer(answer(Some("nginx")), now(4));
    assert_eq!(applications(&mut registry, a), ["nginx"]);
    // Its workers are what it is, for as long as they do not execute anything.
    let worker = at(5, 4, A);
    registry.apply([started(worker, 3), exited(app)], now(5));
    assert_eq!(applications(&mut registry, a), ["nginx"]);
    registry.apply([exec(worker)], now(6));
    assert_eq!(applications(&mut registry, a), [""; 0]);
    registry.answer(
        Answer::Application {
            process: worker.process,
            application: Some(Application::from("php")),
        },
        now(6),
    );
    assert_eq!(applications(&mut registry, a), [""; 0], "that was asked before");
    registry.apply([exited(worker)], now(7));
    assert_eq!(registry.tick(now(9)).asks, [], "it has ended");
}

#[test]
fn applications_of_what_is_found_move_along_and_outlive_the_actor() {
    let mut registry = with_actors();
    registry.inventory(&inventory([found(3, "app", "/system.slice/a.service")]), now(1));
    let process_3 = found(3, "", "/").process;
    let asks = registry.tick(now(2)).asks;
    assert_eq!(asks, [Ask::Application { process: process_3 }]);
    let application = Some(Application::from("redis"));
    let effects = registry.answer(
        Answer::Application {
            process: process_3,
            application,
        },
        now(2),
    );
    assert!(effects.outcome.dropped.is_empty());
    assert_eq!(applications(&mut registry, "/system.slice/a.service"), ["redis"]);
    let app = owner(3, B, "app");
    name(&mut registry, B, "/system.slice/b.service");
    registry.apply([Event::CgroupMoved(process(app, 0))], now(3));
    assert_eq!(applications(&mut registry, "/system.slice/b.service"), ["redis"]);
    assert!(of(&mut registry, "/system.slice/a.service").is_none_or(|a| a.applications.is_empty()));
    // Its actor dies, and the successor is told.
    let effects = registry.tick(now(4));
    let slot = effects.spawns.iter().find(|(_, id)| id.as_str().contains("b.service"));
    let slot = slot.map_or_else(
        || registry.apply([Event::SocketSeen(socket(1, app))], now(4)).spawns[0].0,
        |it| it.0,
    );
    runs(&mut registry, slot);
    registry.container_lost(slot, now(5));
    let b = of(&mut registry, "/system.slice/b.service").unwrap();
    assert_eq!((b.processes, b.applications.len()), (1, 1));
}
