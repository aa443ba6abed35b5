//! Whose requests those are, and which of them nobody wants to see.
use super::*;
use crate::{
    config,
    container::samples::Samples,
    registry::{effects::SlotId, filters::Filters},
};

const SERVICE: &str = "/system.slice/a.service";

fn service() -> (RegistryState, Owner) {
    let mut registry = registry();
    registry.inventory(&inventory([found(3, "app", SERVICE)]), now(1));
    (registry, owner(3, ROOT, "app"))
}

fn of(registry: &mut RegistryState, id: &str) -> Samples {
    let mut samples = registry.samples(now(100)).into_iter();
    samples.find(|sample| sample.id.as_str() == id).unwrap()
}

/// Requests that it has sent and answered.
fn counted(registry: &mut RegistryState, id: &str) -> (u64, u64) {
    let samples = of(registry, id);
    let outbound = samples
        .destinations
        .iter()
        .flat_map(|destination| destination.exchanges.iter());
    let outbound = outbound.map(|(_, of)| of.latency.count()).sum();
    let inbound = samples.requests.inbound.iter().map(|(_, of)| of.latency.count()).sum();
    (outbound, inbound)
}

fn both(owner: Owner) -> [Event; 2] {
    Role::ALL.map(|role| Event::Exchanges(exchanges(owner, role)))
}

#[test]
fn requests_are_those_of_who_sends_or_answers_them() {
    let (mut registry, app) = service();
    let effects = registry.apply(both(app), now(2));
    assert_eq!(counted(&mut registry, SERVICE), (3, 3));
    assert_eq!(effects.outcome.delivered.total(), 0, "they are in no kind of the books");
    let key = of(&mut registry, SERVICE).destinations.remove(0).key;
    assert_eq!(key, Some(exchanges(app, Role::Client).destination()));
    let kernel_thread = Owner {
        kernel_thread: true,
        ..app
    };
    let mut own = app;
    own.process.tgid = 999;
    registry.apply(both(kernel_thread).into_iter().chain(both(own)), now(3));
    assert_eq!(counted(&mut registry, SERVICE), (3, 3));
    assert_eq!(registry.samples(now(100)).len(), 1);
}

/// Every kind of address that gets no series of its own, with that of a connection beside it.
#[test]
fn what_a_connection_is_not_shown_for_requests_are_not_either() {
    let elsewhere = NetnsId(77);
    for (remote, actual, netns, shown) in [
        ("192.0.2.9:80", None, HOST, true),
        ("192.0.2.9:80", None, elsewhere, true),
        ("192.0.2.9:40001", None, HOST, false),
        ("127.0.0.1:80", None, HOST, true),
        ("127.0.0.1:80", None, elsewhere, false),
        ("169.254.169.254:80", None, HOST, false),
        ("192.0.2.9:80", Some("127.0.0.1:15001"), elsewhere, false),
        ("192.0.2.9:80", Some("10.0.0.1:40001"), elsewhere, true),
    ] {
        let (mut registry, app) = service();
        let actual = actual.map(|actual| actual.parse().unwrap());
        let event = SocketEvent {
            remote: remote.parse().unwrap(),
            actual,
            netns,
            ..socket(1, app)
        };
        let requests = Exchanges {
            remote: event.remote,
            actual,
            netns,
            ..exchanges(app, Role::Client)
        };
        registry.apply([Event::Exchanges(requests)], now(2));
        assert_eq!(counted(&mut registry, SERVICE).0 > 0, shown, "{remote} {actual:?}");
        registry.apply([Event::SocketSeen(event)], now(3));
        let destinations = of(&mut registry, SERVICE).destinations;
        assert_eq!(
            destinations.iter().any(|of| of.connects > 0),
            shown,
            "{remote} {actual:?}"
        );
        assert!(destinations.len() <= 1, "one destination for both: {destinations:?}");
    }
    // Whoever asks over loopback, what is answered counts.
    let (mut registry, app) = service();
    let inside = Exchanges {
        local: "127.0.0.1:40001".parse().unwrap(),
        remote: "127.0.0.1:40002".parse().unwrap(),
        netns: elsewhere,
        ..exchanges(app, Role::Server)
    };
    registry.apply([Event::Exchanges(inside)], now(2));
    assert_eq!(counted(&mut registry, SERVICE), (0, 3));
}

#[test]
fn requests_wait_for_the_name_and_are_the_containers_then() {
    let mut registry = registry();
    let (cgroup, tgid) = (CgroupId(50), 5);
    let app = owner(tgid, cgroup, "app");
    registry.apply([started(app, 1)].into_iter().chain(both(app)), now(2));
    assert!(registry.samples(now(100)).is_empty());
    let path = Some("/system.slice/b.service".into());
    registry.answer(Answer::Cgroup { cgroup, path }, now(3));
    registry.apply(both(app), now(4));
    assert_eq!(counted(&mut registry, "/system.slice/b.service"), (6, 6));
    registry.check();
}

#[test]
fn an_actor_gets_them_in_its_share() {
    let mut registry = with_actors();
    registry.inventory(&inventory([found(3, "app", SERVICE)]), now(1));
    let app = owner(3, ROOT, "app");
    let (slot, _) = registry.apply(both(app), now(2)).spawns.remove(0);
    let effects = runs(&mut registry, slot).1;
    assert!(!effects.absorbs[0].1.is_trivial(), "what it was said before it ran");
    let effects = registry.apply(both(app), now(3));
    let shares: Vec<(SlotId, usize)> = effects
        .shares
        .iter()
        .map(|(slot, share)| (*slot, share.events.len()))
        .collect();
    assert_eq!(shares, [(slot, 2)]);
}

#[test]
fn without_what_is_said_there_are_no_requests() {
    let (mut registry, app) = service();
    let set = |registry: &mut RegistryState, second, change: fn(&mut config::Filters)| {
        let mut filters = config::Filters::default();
        change(&mut filters);
        registry.set_filters(Arc::new(Filters::new(&filters)), now(second));
        registry.check();
    };
    registry.apply([Event::SocketSeen(socket(1, app))].into_iter().chain(both(app)), now(2));
    set(&mut registry, 3, |filters| {
        filters.signals.l7.deny = vec!["a.service".parse().unwrap()]
    });
    registry.apply(both(app), now(4));
    assert_eq!(counted(&mut registry, SERVICE), (0, 0));
    assert_eq!(of(&mut registry, SERVICE).destinations[0].active, 1);
    set(&mut registry, 5, |filters| {
        filters.signals.tcp.deny = vec!["a.service".parse().unwrap()]
    });
    registry.apply(both(app), now(6));
    assert_eq!(counted(&mut registry, SERVICE), (3, 3));
    let destination = of(&mut registry, SERVICE).destinations.remove(0);
    assert_eq!((destination.active, destination.connects), (0, 0));
}
