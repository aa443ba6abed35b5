//! What the runtimes call the containers, told in time, late, or never.
use super::*;
use crate::{
    config,
    container::{
        samples::Samples,
        state::{ContainerEvent, ContainerState},
    },
    registry::{effects::SlotId, filters::Filters},
    runtimes::{Found, Lookup, Runtime, metadata::Metadata},
};

const A: CgroupId = CgroupId(7);
const B: CgroupId = CgroupId(8);
pub(super) const X: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(super) const Y: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
const Z: &str = "aaaaccddbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
pub(super) const OF_PATH: &str = "/docker/0123456789ab";

pub(super) fn asking(actors: bool, deny: &[&str]) -> RegistryState {
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
pub(super) fn at(seconds: u64, tgid: u32, cgroup: CgroupId) -> Owner {
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

fn state() -> Box<ContainerState> {
    Box::new(ContainerState::new(settings(Standalone::ByName).limits))
}

pub(super) fn called(name: &str) -> Found {
    let mut metadata = Metadata::new(Runtime::Docker);
    metadata.set_name(name);
    metadata.image = "busybox:test".to_owned();
    Found::Known(Arc::new(metadata))
}

pub(super) fn told(registry: &mut RegistryState, lookup: &Lookup, found: Found, at: u64) -> Effects {
    let lookup = lookup.clone();
    registry.answer(Answer::Runtime { lookup, found }, now(at))
}

pub(super) fn one(registry: &mut RegistryState, cgroup: CgroupId, id: &str, at_second: u64, tgid: u32) -> Lookup {
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
    assert_eq!(effects.hand_overs, [*newer]);
    assert!(effects.reaps.is_empty());
    let effects = registry.apply([Event::ConnectionClosed(socket(6, at(6, 6, B)))], now(22));
    assert!(effects.shares.is_empty(), "{:?}", effects.shares);
    assert_eq!(effects.outcome.delivered.get(kind::CLOSE), 1);
    let effects = registry.container_handed_over(*newer, state(), now(23));
    assert_eq!(effects.absorbs.len(), 1);
    assert_eq!(effects.absorbs[0].0, *older);
    assert_eq!(effects.reaps, [*newer]);
    assert!(matches!(
        effects.shares[older].events[..],
        [ContainerEvent::Described(_), ContainerEvent::Closed(_)]
    ));
    let effects = registry.apply([Event::SocketSeen(socket(9, at(6, 6, B)))], now(23));
    assert!(effects.shares.contains_key(older));
}

/// Three have actors. The third's comes while the second's is still on its way.
#[test]
fn a_third_turns_out_to_be_the_same() {
    let mut registry = asking(true, &[]);
    let mut running = Vec::new();
    for (cgroup, id, tgid) in [(A, X, 5), (B, Y, 6), (CgroupId(9), Z, 7)] {
        let lookup = one(&mut registry, cgroup, id, u64::from(tgid), tgid);
        let (slot, id) = registry.tick(now(u64::from(tgid) + 6)).spawns.remove(0);
        registry.container_runs(slot, &id);
        running.push((slot, lookup));
    }
    let slots: Vec<SlotId> = running.iter().map(|(slot, _)| *slot).collect();
    let mut hand_overs = Vec::new();
    for (_, lookup) in &running {
        hand_overs.extend(told(&mut registry, lookup, called("web"), 20).hand_overs);
    }
    assert_eq!(hand_overs, slots[1..]);
    let effects = registry.container_handed_over(slots[1], state(), now(21));
    assert_eq!((effects.reaps, effects.shares.len()), (vec![slots[1]], 0));
    // The other dies with what it had.
    let effects = registry.container_lost(slots[2], now(22));
    assert_eq!((effects.reaps, effects.shares.len()), (vec![slots[2]], 1));
    assert!(effects.spawns.is_empty());
}

#[test]
fn whoever_is_to_get_it_dies_first() {
    let mut registry = asking(true, &[]);
    let mut running = Vec::new();
    for (cgroup, id, tgid) in [(A, X, 5), (B, Y, 6)] {
        let lookup = one(&mut registry, cgroup, id, u64::from(tgid), tgid);
        let (slot, id) = registry.tick(now(u64::from(tgid) + 6)).spawns.remove(0);
        registry.container_runs(slot, &id);
        told(&mut registry, &lookup, called("web"), 15);
        running.push(slot);
    }
    let effects = registry.container_lost(running[0], now(16));
    assert_eq!(effects.spawns, [(running[0], ContainerId::from("/docker/web"))]);
    let effects = registry.container_handed_over(running[1], state(), now(17));
    assert_eq!((effects.reaps, effects.absorbs.len()), (vec![running[1]], 0));
    assert_eq!(shown(&mut registry), [row("/docker/web", 2, 0, 0)]);
    let metadata = of(&mut registry, "/docker/web").unwrap().metadata.unwrap();
    assert_eq!(
        metadata.image, "busybox:test",
        "a successor knows what its predecessor was told"
    );
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
    assert_eq!(shown(&mut registry), [row("/docker/open", 1, 1, 1)]);
    // And from then on again.
    told(&mut registry, &lookup, called("secret-2"), 7);
    assert!(shown(&mut registry).is_empty());
    let effects = registry.apply([Event::ConnectionClosed(socket(11, at(2, 5, A)))], now(8));
    assert_eq!(effects.outcome.dropped, [(kind::CLOSE, Reason::Filtered, 1)]);
}

/// Under the name that it will have, it may be wanted.
#[test]
fn whom_only_the_path_makes_unwanted() {
    let mut registry = asking(false, &["^/docker/0123"]);
    let lookup = one(&mut registry, A, X, 2, 5);
    registry.tick(now(8));
    assert!(shown(&mut registry).is_empty());
    registry.apply([started(at(9, 6, A), 5)], now(9));
    assert!(shown(&mut registry).is_empty());
    told(&mut registry, &lookup, called("web"), 60);
    assert_eq!(shown(&mut registry), [row("/docker/web", 2, 1, 1)]);
}

#[test]
fn two_claim_one_name_and_one_of_them_gives_it_up() {
    let mut registry = asking(false, &[]);
    let first = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &first, called("web"), 3);
    let second = one(&mut registry, B, Y, 2, 6);
    told(&mut registry, &second, called("web"), 4);
    assert_eq!(shown(&mut registry), [row("/docker/web", 2, 2, 2)]);
    told(&mut registry, &second, called("shop"), 5);
    assert_eq!(
        shown(&mut registry),
        [row("/docker/shop", 1, 0, 0), row("/docker/web", 1, 2, 1)],
        "what was counted stays where it was"
    );
    registry.apply(
        [Event::SocketSeen(SocketEvent {
            shown: true,
            ..socket(6, at(2, 6, B))
        })],
        now(6),
    );
    assert_eq!(
        shown(&mut registry),
        [row("/docker/shop", 1, 0, 1), row("/docker/web", 1, 2, 1)]
    );
}

#[test]
fn a_container_is_called_as_another_ones_path() {
    let mut registry = asking(false, &[]);
    let first = one(&mut registry, A, X, 2, 5);
    told(&mut registry, &first, called("ffeeddccbbaa"), 3);
    let second = one(&mut registry, B, Y, 4, 6);
    told(&mut registry, &second, called("web"), 5);
    assert_eq!(
        shown(&mut registry),
        [row("/docker/ffeeddccbbaa", 1, 2, 1), row("/docker/web", 1, 0, 0)],
        "its process goes, what was counted stays"
    );
    registry.check();
}

pub(super) fn named_by_path(registry: &mut RegistryState, tgid: u32) -> Lookup {
    let process = at(2, tgid, A);
    let seen = Event::SocketSeen(socket(u64::from(tgid), process));
    registry.apply([started(process, 1), seen], now(2));
    let path = Some("/default/c1".into());
    let mut asked = registry.answer(Answer::Cgroup { cgroup: A, path }, now(2)).resolves;
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

fn plain() -> Found {
    let mut metadata = Metadata::new(Runtime::Containerd);
    metadata.set_name("c1");
    metadata.namespace = "default".to_owned();
    Found::Known(Arc::new(metadata))
}

#[test]
fn a_path_that_may_be_a_containers() {
    let mut registry = asking(false, &[]);
    let lookup = named_by_path(&mut registry, 5);
    assert!(shown(&mut registry).is_empty());
    // Also what comes while it waits.
    registry.apply([started(at(3, 6, A), 5)], now(3));
    registry.tick(now(4));
    told(&mut registry, &lookup, plain(), 5);
    assert_eq!(shown(&mut registry), [row("/containerd/default/c1", 2, 1, 1)]);
}

#[test]
fn a_path_that_might_have_been_a_containers() {
    let mut registry = asking(false, &[]);
    let lookup = named_by_path(&mut registry, 5);
    told(&mut registry, &lookup, Found::Nobody, 3);
    assert_eq!(shown(&mut registry), [row("/standalone/app", 1, 1, 1)]);
    // It is made after its cgroup.
    told(&mut registry, &lookup, plain(), 4);
    let seen = SocketEvent {
        shown: true,
        ..socket(5, at(2, 5, A))
    };
    registry.apply([Event::SocketSeen(seen)], now(5));
    let rows = shown(&mut registry);
    assert!(rows.contains(&row("/containerd/default/c1", 1, 0, 1)), "{rows:?}");
    assert!(rows.contains(&row("/standalone/app", 0, 1, 0)), "{rows:?}");
}

#[test]
fn a_path_that_nobody_judges_in_time() {
    let mut registry = asking(false, &[]);
    named_by_path(&mut registry, 5);
    registry.tick(now(6));
    assert!(shown(&mut registry).is_empty());
    registry.tick(now(7));
    assert_eq!(shown(&mut registry), [row("/standalone/app", 1, 1, 1)]);
}

#[test]
fn the_sandbox_of_a_pod_says_which_it_is() {
    let mut registry = asking(false, &[]);
    let process = at(2, 5, A);
    registry.apply([started(process, 1), Event::SocketSeen(socket(5, process))], now(2));
    let uid = "7eca4b0c-0000-4000-8000-000000000001";
    let path = Some(format!("/kubepods/besteffort/pod{uid}").into());
    let effects = registry.answer(Answer::Cgroup { cgroup: A, path }, now(2));
    let [
        Ask::Sandbox {
            process: whom,
            container,
        },
    ] = &effects.asks[..]
    else {
        panic!("{:?}", effects.asks)
    };
    assert_eq!((whom.tgid, container.as_str()), (5, &*format!("/pod/{uid}/sandbox")));
    let answer = |id: Option<&str>| Answer::Sandbox {
        container: container.clone(),
        id: id.map(Arc::from),
    };
    // A helper of the sandbox; or it was asked before it was the sandbox.
    assert!(registry.answer(answer(None), now(2)).resolves.is_empty());
    let asks = |registry: &mut RegistryState, event| registry.apply([event], now(2)).asks;
    assert_eq!(asks(&mut registry, Event::SocketSeen(socket(6, process))), []);
    let again = Ask::Sandbox {
        process: *whom,
        container: container.clone(),
    };
    assert_eq!(asks(&mut registry, exec(process)), [again]);
    let mut asked = registry.answer(answer(Some(X)), now(3)).resolves;
    let mut metadata = Metadata::new(Runtime::Containerd);
    metadata.set_labels([
        ("io.kubernetes.pod.name", "db-0"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", uid),
    ]);
    told(&mut registry, &asked.remove(0), Found::Known(Arc::new(metadata)), 4);
    assert_eq!(shown(&mut registry), [row("/k8s/shop/db-0/sandbox", 1, 2, 2)]);
}

/// Anybody may say of himself that he is that sandbox: the answer is for those of the pod.
#[test]
fn whoever_claims_to_be_a_sandbox_takes_nothing_from_it() {
    let mut registry = asking(false, &[]);
    let uids = [
        "7eca4b0c-0000-4000-8000-000000000001",
        "7eca4b0c-0000-4000-8000-00000000000f",
    ];
    let mut lookups = Vec::new();
    for (cgroup, tgid, uid) in [(A, 5, uids[0]), (B, 6, uids[1])] {
        let process = at(2, tgid, cgroup);
        registry.apply(
            [started(process, 1), Event::SocketSeen(socket(tgid.into(), process))],
            now(2),
        );
        let path = Some(format!("/kubepods/besteffort/pod{uid}").into());
        registry.answer(Answer::Cgroup { cgroup, path }, now(2));
        let claim = Answer::Sandbox {
            container: format!("/pod/{uid}/sandbox").into(),
            id: Some(Arc::from(X)),
        };
        lookups.extend(registry.answer(claim, now(2)).resolves);
    }
    assert_eq!(lookups[0], lookups[1]);
    let mut metadata = Metadata::new(Runtime::Containerd);
    metadata.set_labels([
        ("io.kubernetes.pod.name", "db-0"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", uids[0]),
    ]);
    told(&mut registry, &lookups[0], Found::Known(Arc::new(metadata)), 3);
    let other = format!("/pod/{}/sandbox", uids[1]);
    assert_eq!(
        shown(&mut registry),
        [row("/k8s/shop/db-0/sandbox", 1, 1, 1), row(&other, 1, 1, 1)]
    );
}

/// Each run of a job has a path of its own, and the name of all.
#[test]
fn names_go_with_their_paths() {
    let mut registry = asking(false, &[]);
    for run in 0..50_u32 {
        let (at_second, tgid, cgroup) = (100 * u64::from(run) + 2, run + 10, CgroupId(100 + u64::from(run)));
        let id = format!("{run:064x}");
        let lookup = one(
            &mut registry,
            cgroup,
            &id.chars().rev().collect::<String>(),
            at_second,
            tgid,
        );
        told(&mut registry, &lookup, called("job"), at_second);
        let process = at(at_second, tgid, cgroup);
        registry.apply(
            [
                Event::ConnectionClosed(socket(u64::from(tgid), process)),
                exited(process),
                Event::CgroupRemoved(CgroupEvent { cgroup, path: None }),
            ],
            now(at_second + 1),
        );
        registry.collect_garbage(now(at_second + 50));
    }
    let names = |registry: &RegistryState| {
        registry
            .tables()
            .into_iter()
            .find(|table| table.0 == "names")
            .unwrap()
            .1
    };
    assert!(names(&registry) <= 10, "{}", names(&registry));
    let job = of(&mut registry, "/docker/job").unwrap();
    assert_eq!(job.restarts, 49);
    registry.collect_garbage(now(90_000));
    assert_eq!(names(&registry), 0);
}
