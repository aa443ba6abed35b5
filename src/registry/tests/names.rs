//! What the runtimes call the containers, told in time, late, or never.
use super::*;
use crate::{
    config,
    container::samples::Samples,
    registry::filters::Filters,
    runtimes::{Found, Lookup, Runtime, metadata::Metadata},
};

const A: CgroupId = CgroupId(7);
const B: CgroupId = CgroupId(8);
const X: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const Y: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
const OF_PATH: &str = "/docker/0123456789ab";

fn asking(actors: bool, deny: &[&str]) -> RegistryState {
    let filters = config::Filters {
        deny: deny.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        ..config::Filters::default()
    };
    let settings = Settings {
        runtimes: true,
        filters: Arc::new(Filters::new(&filters)),
        actors,
        ..settings(Standalone::ByName)
    };
    RegistryState::new(settings, node())
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

/// Whom the registry asks for once it knows the path.
fn placed(registry: &mut RegistryState, cgroup: CgroupId, id: &str, at: u64) -> Vec<Lookup> {
    let path = Some(format!("/docker/{id}").into());
    registry.answer(Answer::Cgroup { cgroup, path }, now(at)).resolves
}

fn called(name: &str) -> Found {
    let mut metadata = Metadata::new(Runtime::Docker);
    metadata.set_name(name);
    metadata.image = "busybox:test".to_owned();
    Found::Known(Arc::new(metadata))
}

fn told(registry: &mut RegistryState, lookup: &Lookup, found: Found, at: u64) -> Effects {
    let lookup = lookup.clone();
    registry.answer(Answer::Runtime { lookup, found }, now(at))
}

fn one(registry: &mut RegistryState, cgroup: CgroupId, id: &str, at_second: u64, tgid: u32) -> Lookup {
    let process = at(at_second, tgid, cgroup);
    registry.apply(
        [started(process, 1), Event::SocketSeen(socket(u64::from(tgid), process))],
        now(at_second),
    );
    let mut asked = placed(registry, cgroup, id, at_second);
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

fn of(registry: &mut RegistryState, id: &str) -> Option<Samples> {
    let samples = registry.samples(now(100)).into_iter();
    samples.into_iter().find(|sample| sample.id.as_str() == id)
}

#[test]
fn nobody_sees_it_before_it_has_its_name() {
    let mut registry = asking(false, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    assert!(shown(&mut registry).is_empty());
    told(&mut registry, &lookup, called("/web"), 3);
    assert_eq!(shown(&mut registry), [row("/docker/web", 1, 1, 1)]);
    let metadata = of(&mut registry, "/docker/web").unwrap().metadata.unwrap();
    assert_eq!(metadata.image, "busybox:test");
    // Its next process needs no question.
    let effects = registry.apply([started(at(4, 6, A), 5)], now(4));
    assert!(effects.resolves.is_empty());
    assert_eq!(shown(&mut registry), [row("/docker/web", 2, 1, 1)]);
}

#[test]
fn what_no_runtime_knows_is_called_by_its_path() {
    let mut registry = asking(false, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &lookup, Found::Nobody, 3);
    assert_eq!(shown(&mut registry), [row(OF_PATH, 1, 1, 1)]);
}

#[test]
fn a_late_name_takes_all_with_it() {
    let mut registry = asking(true, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &lookup, Found::Unanswered, 3);
    assert!(registry.tick(now(6)).spawns.is_empty());
    let spawned = registry.tick(now(7)).spawns;
    assert_eq!(spawned.len(), 1);
    let (slot, id) = spawned[0].clone();
    assert_eq!(id.as_str(), OF_PATH);
    registry.container_runs(slot, &id);
    let effects = told(&mut registry, &lookup, called("web"), 60);
    assert_eq!(effects.renames, [(slot, ContainerId::from("/docker/web"))]);
    assert!(effects.spawns.is_empty() && effects.reaps.is_empty());
    // And what comes now is its own.
    let effects = registry.apply([Event::SocketSeen(socket(9, at(2, 5, A)))], now(61));
    assert!(effects.shares.contains_key(&slot) && effects.shares.len() == 1);
}

#[test]
fn an_actor_that_starts_while_its_container_gets_a_name() {
    let mut registry = asking(true, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    let spawned = registry.tick(now(7)).spawns;
    let (slot, id) = spawned[0].clone();
    let effects = told(&mut registry, &lookup, called("web"), 8);
    assert_eq!(effects.renames, [(slot, ContainerId::from("/docker/web"))]);
    let (wanted, effects) = registry.container_runs(slot, &id);
    assert!(wanted);
    assert_eq!(effects.renames, [(slot, ContainerId::from("/docker/web"))]);
}

#[test]
fn the_same_container_in_another_cgroup_has_been_restarted() {
    let mut registry = asking(false, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &lookup, called("web"), 3);
    registry.apply([exited(at(2, 5, A))], now(10));
    let lookup = one(&mut registry, B, Y, 20, 6);
    assert_eq!(shown(&mut registry), [row("/docker/web", 0, 1, 1)]);
    told(&mut registry, &lookup, called("web"), 21);
    assert_eq!(shown(&mut registry), [row("/docker/web", 1, 2, 2)]);
    assert_eq!(of(&mut registry, "/docker/web").unwrap().restarts, 1);
}

/// Both have actors: the newer one's gives what it has to the older one's, and what happens meanwhile comes after that.
#[test]
fn two_that_run_turn_out_to_be_one() {
    let mut registry = asking(true, &[]);
    let mut running = Vec::new();
    for (cgroup, id, tgid) in [(A, X, 5), (B, Y, 6)] {
        let lookup = one(&mut registry, cgroup, id, u64::from(tgid), tgid);
        let mut spawned = registry.tick(now(u64::from(tgid) + 6)).spawns;
        let (slot, id) = spawned.remove(0);
        registry.container_runs(slot, &id);
        running.push((slot, lookup));
    }
    let [(older, first), (newer, second)] = &running[..] else {
        panic!("{running:?}")
    };
    told(&mut registry, first, called("web"), 20);
    let effects = told(&mut registry, second, called("web"), 21);
    assert_eq!(effects.hand_overs, [(*newer, *older)]);
    assert!(effects.reaps.is_empty());
    let effects = registry.apply([Event::ConnectionClosed(socket(6, at(6, 6, B)))], now(22));
    assert!(effects.shares.is_empty(), "{:?}", effects.shares);
    let effects = registry.container_handed_over(*newer);
    assert_eq!(effects.absorbs.len(), 1);
    assert_eq!(effects.absorbs[0].0, *older);
    assert_eq!(effects.reaps.first().map(|(slot, _)| slot), Some(newer));
    let effects = registry.apply([Event::SocketSeen(socket(9, at(6, 6, B)))], now(23));
    assert!(effects.shares.contains_key(older));
}

#[test]
fn a_container_is_renamed() {
    let mut registry = asking(false, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &lookup, called("web"), 3);
    told(&mut registry, &lookup, called("shop"), 4);
    assert_eq!(shown(&mut registry), [row("/docker/shop", 1, 1, 1)]);
    // Forgotten by its runtime, it keeps its name for its last events.
    told(&mut registry, &lookup, Found::Nobody, 5);
    assert_eq!(shown(&mut registry), [row("/docker/shop", 1, 1, 1)]);
}

#[test]
fn whom_nobody_wants_to_see() {
    let mut registry = asking(false, &["^/docker/secret"]);
    let lookup = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &lookup, called("secret-1"), 3);
    assert!(shown(&mut registry).is_empty());
    let effects = registry.apply([Event::ConnectionClosed(socket(9, at(2, 5, A)))], now(4));
    assert_eq!(effects.outcome.dropped, [(kind::CLOSE, Reason::Filtered, 1)]);
    // Until it is called otherwise.
    told(&mut registry, &lookup, called("open"), 5);
    registry.apply([Event::SocketSeen(socket(11, at(2, 5, A)))], now(6));
    assert_eq!(shown(&mut registry)[0].0, "/docker/open");
}

#[test]
fn names_go_with_their_containers() {
    let mut registry = asking(false, &[]);
    let lookup = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &lookup, called("web"), 3);
    registry.apply(
        [Event::ConnectionClosed(socket(5, at(2, 5, A))), exited(at(2, 5, A))],
        now(4),
    );
    registry.apply([Event::CgroupRemoved(CgroupEvent { cgroup: A, path: None })], now(5));
    registry.collect_garbage(now(10_000));
    registry.collect_garbage(now(20_000));
    let names = registry.tables().into_iter().find(|table| table.0 == "names").unwrap();
    assert_eq!(names.1, 0);
}
