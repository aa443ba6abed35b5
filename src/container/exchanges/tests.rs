//! Where requests are counted, and with what they go.
use super::*;
use crate::{
    base::{
        fqdn::Fqdn,
        ids::{NetnsId, SocketId},
        now::Now,
    },
    container::{
        samples::{Destination, Samples},
        signals::Carries,
        state::{ContainerEvent, ContainerState, Limits},
    },
    decode::{DestinationKey, Role, SocketEvent},
};
use ContainerEvent::{Closed, Exchanged, Seen};
use proptest::prelude::*;
use std::time::Duration;

const LIMITS: Limits = Limits {
    destinations: 3,
    names: 2,
    listens: 8,
    connections: 100,
};

fn now(seconds: u64) -> Now {
    let ns = seconds * 1_000_000_000;
    Now {
        monotonic_ns: ns,
        boottime_ns: ns,
        wall_ns: ns,
    }
}

fn asked(protocol: Protocol, remote: &str, name: Option<&str>) -> Exchanges {
    Exchanges {
        remote: remote.parse().unwrap(),
        name: name.map(|name| Fqdn::new(name.as_bytes()).unwrap()),
        ..Exchanges::example(Role::Client, protocol)
    }
}

fn connection(remote: &str) -> SocketEvent {
    SocketEvent {
        socket: SocketId {
            cookie: 1,
            generation: 1,
        },
        local: "192.0.2.1:40000".parse().unwrap(),
        remote: remote.parse().unwrap(),
        settled: true,
        ..SocketEvent::example()
    }
}

fn after(events: impl IntoIterator<Item = ContainerEvent>) -> ContainerState {
    let mut state = ContainerState::new(LIMITS);
    for event in events {
        assert!(state.apply(event, now(1)));
    }
    state
}

fn samples(state: &ContainerState) -> Samples {
    state.samples(&"/a".into(), now(1), Duration::ZERO, NetnsId(1))
}

fn label(key: Option<&DestinationKey>) -> String {
    match key {
        None => "~other".to_owned(),
        Some(DestinationKey::Address(route)) => format!("{} {}", route.destination, route.actual),
        Some(DestinationKey::Name(name, port)) => format!("{name}:{port}"),
    }
}

/// Destination, protocol, successes, failures.
fn rows(state: &ContainerState) -> Vec<(String, Protocol, u64, u64)> {
    let destinations = samples(state).destinations;
    let of = |destination: &Destination| {
        let rows = destination.exchanges.iter().map(|(protocol, of)| {
            assert_eq!(of.latency.count(), of.classes.iter().sum::<u64>());
            let label = label(destination.key.as_ref());
            (label, protocol, of.classes[2], of.classes[5])
        });
        rows.collect::<Vec<_>>()
    };
    destinations.iter().flat_map(of).collect()
}

fn row(label: &str, protocol: Protocol, times: u64) -> (String, Protocol, u64, u64) {
    (label.to_owned(), protocol, times, 2 * times)
}

const A: &str = "192.0.2.9:80";
const HTTP: Protocol = Protocol::Http;
const REDIS: Protocol = Protocol::Redis;

#[test]
fn what_it_asks_for_is_with_the_destination_and_what_it_answers_is_not() {
    let http = asked(HTTP, A, None);
    let led = Exchanges {
        actual: Some("10.0.0.1:8080".parse().unwrap()),
        ..http.clone()
    };
    let server = Exchanges::example(Role::Server, HTTP);
    let state = after([
        Seen(connection(A)),
        Exchanged(http.clone()),
        Exchanged(server.clone()),
        Exchanged(asked(REDIS, A, None)),
        Exchanged(http),
        Exchanged(led),
        Exchanged(asked(HTTP, "192.0.2.9:443", Some("a.example"))),
        Exchanged(server),
    ]);
    let expected = [
        row("192.0.2.9:80 10.0.0.1:8080", HTTP, 1),
        row("192.0.2.9:80 192.0.2.9:80", HTTP, 2),
        row("192.0.2.9:80 192.0.2.9:80", REDIS, 1),
        row("a.example:443", HTTP, 1),
    ];
    assert_eq!(rows(&state), expected);
    let samples = samples(&state);
    let connects: Vec<_> = samples
        .destinations
        .iter()
        .map(|destination| destination.connects)
        .collect();
    assert_eq!(connects, [0, 1, 0], "requests are no connections");
    let inbound: Vec<_> = samples.requests.inbound.iter().collect();
    let (protocol, outcomes) = inbound[0];
    assert_eq!(
        (inbound.len(), protocol, outcomes.classes),
        (1, HTTP, [0, 0, 2, 0, 0, 4])
    );
    assert_eq!((outcomes.latency.count(), outcomes.latency.sum_ns), (6, 32_000_000));
}

#[test]
fn further_destinations_and_names_are_one_as_those_of_connections_are() {
    let to = |i: u64| Exchanged(asked(HTTP, &format!("192.0.2.{i}:80"), None));
    let state = after((1..=5).map(to));
    assert_eq!(rows(&state)[0], row("~other", HTTP, 2));
    assert_eq!(rows(&state).len(), 4);
    let named = |i: u8| Exchanged(asked(REDIS, A, Some(&format!("n{i}.example"))));
    let state = after((1..=4).map(named));
    assert_eq!(rows(&state)[0], row("~other", REDIS, 2));
    assert_eq!(rows(&state).len(), 3);
}

#[test]
fn requests_go_with_the_destination_they_are_of() {
    let closed = SocketEvent {
        shown: true,
        ..connection(A)
    };
    let mut state = after([Seen(connection(A)), Exchanged(asked(HTTP, A, None))]);
    state.apply(Exchanged(asked(HTTP, "192.0.2.8:80", None)), now(1));
    state.collect_garbage(now(3600), Duration::from_secs(600));
    let of_the_open_one = [row("192.0.2.9:80 192.0.2.9:80", HTTP, 1)];
    assert_eq!(rows(&state), of_the_open_one);
    state.apply(Closed(closed), now(3600));
    state.apply(Exchanged(asked(REDIS, A, None)), now(3600));
    state.collect_garbage(now(3700), Duration::from_secs(600));
    assert_eq!(rows(&state).len(), 2, "the last request was heard of a moment ago");
    state.collect_garbage(now(7200), Duration::from_secs(600));
    assert_eq!(samples(&state).destinations.len(), 0);
}

#[test]
fn a_container_without_one_of_the_signals_keeps_the_other() {
    let both = || {
        let to = |i: u64| Exchanged(asked(HTTP, &format!("192.0.2.{i}:80"), Some("a.example")));
        let server = Exchanged(Exchanges::example(Role::Server, HTTP));
        after([Seen(connection(A)), Exchanged(asked(HTTP, A, None)), to(1), server])
    };
    let mut state = both();
    state.keep(Carries {
        l7: false,
        ..Carries::ALL
    });
    assert_eq!(rows(&state), []);
    let left = samples(&state);
    assert_eq!((left.destinations.len(), left.destinations[0].active), (1, 1));
    assert!(left.requests.is_empty());
    assert!(!state.is_trivial());
    state.apply(Closed(connection(A)), now(2));
    assert_eq!(samples(&state).destinations[0].active, 0, "it is still watched");

    let mut state = both();
    let with_both = rows(&state);
    assert_eq!(with_both.len(), 2);
    state.keep(Carries {
        tcp: false,
        ..Carries::ALL
    });
    assert!(state.has_no_connections() && !state.has_no_traffic());
    assert_eq!(rows(&state), with_both);
    let left = samples(&state);
    assert!(left.destinations.iter().all(|of| of.connects == 0 && !of.has_connected));
    assert!(!left.requests.inbound.is_empty());

    state.keep(Carries {
        l7: false,
        ..Carries::ALL
    });
    assert!(state.has_no_traffic() && state.is_trivial());
    assert!(after([]).is_trivial() && !after([Exchanged(asked(HTTP, A, None))]).is_trivial());
    assert!(!after([Exchanged(Exchanges::example(Role::Server, HTTP))]).is_trivial());
    // What was beyond the limit, too.
    let mut state = after((1..=5).map(|i| Exchanged(asked(HTTP, &format!("192.0.2.{i}:80"), None))));
    state.keep(Carries {
        l7: false,
        ..Carries::ALL
    });
    assert!(state.is_trivial());
}

#[test]
fn statuses_have_the_sum_of_all_classes_that_are_called_so() {
    let outcomes = Outcomes {
        classes: [1, 2, 4, 8, 16, 0],
        latency: Latency::default(),
    };
    let by_status = |protocol| outcomes.by_status(protocol).into_iter().collect::<Vec<_>>();
    assert_eq!(by_status(REDIS), [("ok", 4), ("unknown", 27)]);
    let http = [("1xx", 2), ("2xx", 4), ("3xx", 8), ("4xx", 16), ("unknown", 1)];
    assert_eq!(by_status(HTTP), http);
}

#[test]
fn no_count_overflows() {
    let full = |role| Exchanges {
        classes: [u64::MAX; 6],
        latency: Latency {
            counts: [u64::MAX; 12],
            sum_ns: u64::MAX,
        },
        ..Exchanges::example(role, REDIS)
    };
    let twice = || {
        Role::ALL
            .into_iter()
            .flat_map(|role| [full(role), full(role)])
            .map(Exchanged)
    };
    let mut state = after(twice());
    state.absorb(after(twice()));
    let merged = [samples(&state), samples(&after(twice()))];
    let merged = Samples::merge(&merged);
    let (_, inbound) = merged[0].requests.inbound.iter().next().unwrap();
    let (_, outbound) = merged[0].destinations[0].exchanges.iter().next().unwrap();
    for outcomes in [inbound, outbound] {
        assert_eq!((outcomes.classes, outcomes.latency.sum_ns), ([u64::MAX; 6], u64::MAX));
        assert_eq!(outcomes.by_status(REDIS)["unknown"], u64::MAX);
    }
}

/// Successes and failures by role and protocol, and how long all of them took.
fn sums(of: &Samples) -> BTreeMap<(Role, Protocol), (u64, u64, u64)> {
    let mut sums: BTreeMap<_, (u64, u64, u64)> = BTreeMap::new();
    let mut add = |role, protocol, of: &Outcomes| {
        let sum = sums.entry((role, protocol)).or_default();
        *sum = (sum.0 + of.classes[2], sum.1 + of.classes[5], sum.2 + of.latency.sum_ns);
    };
    let inbound = of.requests.inbound.iter();
    inbound.for_each(|(protocol, of)| add(Role::Server, protocol, of));
    let outbound = of
        .destinations
        .iter()
        .flat_map(|destination| destination.exchanges.iter());
    outbound.for_each(|(protocol, of)| add(Role::Client, protocol, of));
    sums
}

fn any_exchanges() -> impl Strategy<Value = Exchanges> {
    let what = (
        any::<bool>(),
        0..3usize,
        1..8u8,
        prop::option::of(0..4u8),
        0..9u64,
        0..9u64,
    );
    what.prop_map(|(server, protocol, host, name, good, bad)| {
        let mut latency = Latency::default();
        (0..good + bad).for_each(|i| latency.observe(i * 3_000_000));
        let role = if server { Role::Server } else { Role::Client };
        let name = name.map(|name| format!("n{name}.example"));
        Exchanges {
            classes: [0, 0, good, 0, 0, bad],
            latency,
            role,
            ..asked(
                [HTTP, REDIS, Protocol::Postgres][protocol],
                &format!("192.0.2.{host}:80"),
                name.as_deref(),
            )
        }
    })
}

proptest! {
    /// Whatever is beyond a limit, in whatever states it was gathered, and however they come together.
    #[test]
    fn no_request_is_missing_from_the_sums(
        parts in prop::collection::vec((prop::collection::vec(any_exchanges(), 0..20), any::<bool>()), 1..5),
    ) {
        let roomy = Limits { destinations: 100, names: 100, ..LIMITS };
        let mut expected = ContainerState::new(roomy);
        for exchanges in parts.iter().flat_map(|(events, _)| events) {
            prop_assert!(expected.apply(Exchanged(exchanges.clone()), now(1)));
        }
        let (mut state, mut apart) = (ContainerState::new(LIMITS), Vec::new());
        for (events, absorbed) in parts {
            let part = after(events.into_iter().map(Exchanged));
            if absorbed {
                state.absorb(part);
            } else {
                apart.push(samples(&part));
            }
        }
        prop_assert!(samples(&state).destinations.len() <= LIMITS.destinations + 1);
        apart.push(samples(&state));
        prop_assert_eq!(sums(&Samples::merge(&apart)[0]), sums(&samples(&expected)));
    }
}
