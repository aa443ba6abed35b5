//! The table at the top of `state.rs`, row by row.
use super::{samples::Samples, state::*};
use crate::{
    base::{
        ids::{CgroupId, ContainerId, NetnsId, SocketId},
        now::Now,
    },
    decode::{CloseReason, DestinationKey, Role, SocketEvent, SumEvent},
};
use std::{sync::Arc, time::Duration};

const LIMITS: Limits = Limits {
    destinations: 3,
    names: 2,
    listens: 8,
    connections: 100,
};
const HOST: NetnsId = NetnsId(1);

fn now(seconds: u64) -> Now {
    let ns = seconds * 1_000_000_000;
    Now {
        monotonic_ns: ns,
        boottime_ns: ns,
        wall_ns: ns,
    }
}

fn event(cookie: u64, remote: &str) -> SocketEvent {
    SocketEvent {
        time_ns: 1_000,
        socket: SocketId { cookie, generation: 1 },
        netns: HOST,
        local: "192.0.2.1:40000".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connect_ns: Some(7),
        ..SocketEvent::example()
    }
}

fn bytes(mut event: SocketEvent, sent: u64, received: u64) -> SocketEvent {
    (event.sent_bytes, event.received_bytes) = (sent, received);
    event
}

/// By a pass, before.
fn shown(event: SocketEvent) -> SocketEvent {
    SocketEvent { shown: true, ..event }
}

fn after(events: impl IntoIterator<Item = ContainerEvent>) -> ContainerState {
    let mut state = ContainerState::new(LIMITS);
    for event in events {
        assert!(state.apply(event, now(1)));
    }
    state
}

fn samples(state: &ContainerState) -> Samples {
    state.samples(&ContainerId::from("/a"), now(2), Duration::ZERO, HOST)
}

/// Connects, active, nanoseconds, sent, received: of the only destination.
fn sums(state: &ContainerState) -> (u64, i64, u64, u64, u64) {
    match &samples(state).destinations[..] {
        [] => (0, 0, 0, 0, 0),
        [one] => (
            one.connects,
            one.active,
            one.connect_ns,
            one.sent_bytes,
            one.received_bytes,
        ),
        more => panic!("{more:?}"),
    }
}

use ContainerEvent::{Closed, Failed, ListenClosed, ListenOpened, ProcessJoined, ProcessLeft, Seen, Sweep};

const A: &str = "192.0.2.9:80";

#[test]
fn a_connection_is_counted_once_whoever_tells_first() {
    let seen = |sent| Seen(bytes(event(1, A), sent, 1));
    let again = |sent| Seen(shown(bytes(event(1, A), sent, 2)));
    let closed = |event| Closed(bytes(event, 30, 3));
    assert_eq!(sums(&after([seen(10)])), (1, 1, 7, 10, 1));
    assert_eq!(sums(&after([seen(10), again(20)])), (1, 1, 7, 20, 2));
    assert_eq!(
        sums(&after([seen(10), again(20), closed(shown(event(1, A)))])),
        (1, 0, 7, 30, 3)
    );
    assert_eq!(sums(&after([closed(event(1, A))])), (1, 0, 7, 30, 3));
    let sum = SumEvent {
        cgroup: CgroupId(3),
        process: None,
        netns: HOST,
        role: Role::Client,
        address: A.parse().unwrap(),
        comm: [0; 16],
        connects: 5,
        failures: 2,
        connect_ns: 50,
        sent_bytes: 500,
        received_bytes: 60,
        retransmits: 9,
        closes: [3, 2, 0, 0],
        name: None,
    };
    let state = after([closed(event(1, A)), ContainerEvent::SumSpilled(sum)]);
    assert_eq!(sums(&state), (6, 0, 57, 530, 63));
    let samples = samples(&state);
    let destination = &samples.destinations[0];
    assert_eq!((destination.failures, destination.retransmits), (2, 9));
    assert_eq!(destination.closes, [4, 2, 0, 0]);
}

#[test]
fn a_successor_adopts_what_is_open_and_counts_from_there() {
    let seen = |sent| Seen(shown(bytes(event(1, A), sent, 0)));
    let closed = || Closed(shown(bytes(event(1, A), 18, 0)));
    assert_eq!(sums(&after([seen(10)])), (0, 1, 0, 0, 0));
    assert_eq!(sums(&after([seen(10), seen(15)])), (0, 1, 0, 5, 0));
    assert_eq!(sums(&after([seen(10), closed()])), (0, 0, 0, 8, 0));
    // Counted by its predecessor, which died after the last pass.
    assert_eq!(sums(&after([closed()])), (0, 0, 0, 0, 0));
}

#[test]
fn a_skipped_measurement_adds_no_time() {
    let unmeasured = SocketEvent {
        connect_ns: None,
        ..event(1, A)
    };
    assert_eq!(sums(&after([Seen(unmeasured)])), (1, 1, 0, 0, 0));
}

#[test]
fn failures_count_by_destination_and_error() {
    let failed = |errno| {
        let mut event = event(1, A);
        event.errno = errno;
        Failed(event)
    };
    let state = after([failed(111), failed(111), failed(110)]);
    let destination = &samples(&state).destinations[0];
    assert_eq!(destination.failures, 3);
    assert_eq!(
        destination.failures_by_errno.clone().into_iter().collect::<Vec<_>>(),
        [(110, 1), (111, 2)]
    );
    assert!(!destination.has_connected);
}

#[test]
fn destinations_beyond_the_limit_are_one() {
    let to = |i: u64| Seen(event(i, &format!("192.0.2.{i}:80")));
    let state = after((1..=10).map(to));
    let destinations = samples(&state).destinations;
    assert_eq!(destinations.len(), 4);
    let other = destinations
        .iter()
        .find(|destination| destination.key.is_none())
        .unwrap();
    assert_eq!((other.connects, other.active), (7, 7));
    let state = after(
        (1..=10)
            .map(to)
            .chain((1..=10).map(|i| Closed(event(i, &format!("192.0.2.{i}:80"))))),
    );
    assert!(
        samples(&state)
            .destinations
            .iter()
            .all(|destination| destination.active == 0)
    );
}

#[test]
fn a_sweep_ends_what_no_pass_has_seen() {
    let mut late = event(2, A);
    late.time_ns = 5_000;
    let state = after([
        Seen(event(1, A)),
        Seen(event(2, A)),
        Seen(late),
        Sweep { before_ns: 4_000 },
    ]);
    assert_eq!(sums(&state).1, 1);
}

#[test]
fn absorbing_adds_up_and_keeps_what_is_open() {
    let mut one = after([Seen(event(1, A)), ProcessJoined { start_ns: 500 }]);
    let two = after([
        Seen(event(2, A)),
        Seen(event(3, A)),
        Closed(shown(bytes(event(3, A), 9, 9))),
        ProcessJoined { start_ns: 300 },
    ]);
    one.absorb(two);
    assert_eq!(sums(&one), (3, 2, 21, 9, 9));
    assert_eq!((one.processes, one.since_ns), (2, Some(300)));
    one.apply(Closed(shown(bytes(event(2, A), 5, 0))), now(2));
    assert_eq!(sums(&one), (3, 1, 21, 14, 9));
}

#[test]
fn age_runs_from_the_first_process_to_the_last_ones_end() {
    let mut state = ContainerState::new(LIMITS);
    state.apply(
        ProcessJoined {
            start_ns: now(10).boottime_ns,
        },
        now(11),
    );
    let min = Duration::from_secs(30);
    assert!(!state.is_exposed(now(39), min));
    assert!(state.is_exposed(now(40), min));
    state.apply(ProcessLeft, now(20));
    assert!(!state.is_exposed(now(400), min), "it lived for ten seconds");
    assert!(state.is_exposed(now(20), Duration::ZERO));
}

fn listen(cookie: u64, local: &str, netns: NetnsId) -> SocketEvent {
    let mut event = event(cookie, "0.0.0.0:0");
    event.local = local.parse().unwrap();
    event.netns = netns;
    event.listening = true;
    event
}

fn rows(state: &ContainerState) -> Vec<(String, bool)> {
    samples(state)
        .listens
        .into_iter()
        .map(|listen| (listen.address.unwrap().to_string(), listen.sockets > 0))
        .collect()
}

#[test]
fn a_listen_on_all_addresses_is_one_on_each() {
    let ips: Arc<[std::net::IpAddr]> = ["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"]
        .map(|ip| ip.parse().unwrap())
        .into();
    let state = after([
        ListenOpened(listen(1, "0.0.0.0:80", HOST)),
        ContainerEvent::Addresses {
            netns: HOST,
            ips: Arc::clone(&ips),
        },
    ]);
    assert_eq!(
        rows(&state),
        [("127.0.0.1:80".into(), true), ("192.0.2.1:80".into(), true)]
    );
    let other = NetnsId(2);
    let state = after([
        ListenOpened(listen(1, "[::]:80", other)),
        ContainerEvent::Addresses { netns: other, ips },
        ListenOpened(listen(2, "127.0.0.1:90", other)),
    ]);
    // Loopback of another namespace means nothing to a reader.
    assert_eq!(
        rows(&state),
        [("192.0.2.1:80".into(), true), ("[2001:db8::1]:80".into(), true)]
    );
}

#[test]
fn a_listen_is_open_while_any_of_its_sockets_is() {
    let on = |cookie| listen(cookie, "192.0.2.1:80", HOST);
    let mut state = after([ListenOpened(on(1)), ListenOpened(on(2)), ListenClosed(on(1))]);
    assert_eq!(rows(&state), [("192.0.2.1:80".into(), true)]);
    state.apply(ListenClosed(on(2)), now(1));
    assert_eq!(rows(&state), [("192.0.2.1:80".into(), false)]);
    state.collect_garbage(now(3600), Duration::from_secs(600));
    assert!(rows(&state).is_empty());
    // A port that was not bound is known later: the pass shows it.
    let state = after([
        ListenOpened(listen(1, "0.0.0.0:0", HOST)),
        Seen(listen(1, "192.0.2.1:8080", HOST)),
    ]);
    assert_eq!(rows(&state), [("192.0.2.1:8080".into(), true)]);
}

#[test]
fn quiet_destinations_are_forgotten_and_open_ones_kept() {
    let mut state = after([
        Seen(event(1, A)),
        Seen(event(2, "192.0.2.8:80")),
        Closed(event(2, "192.0.2.8:80")),
    ]);
    state.collect_garbage(now(3600), Duration::from_secs(600));
    let left = samples(&state).destinations.into_iter().map(|left| left.key);
    assert_eq!(
        left.collect::<Vec<_>>(),
        [Some(DestinationKey::direct(A.parse().unwrap()))]
    );
}

#[test]
fn listens_beyond_the_limit_are_refused() {
    let on = |i: u64| ListenOpened(listen(i, &format!("192.0.2.1:{i}"), HOST));
    let mut state = after((1..=8).map(on));
    assert!(!state.apply(on(9), now(1)));
    assert!(state.apply(on(8), now(1)), "a known address takes another socket");
    assert_eq!(rows(&state).len(), 8);
}

#[test]
fn a_connection_stays_where_it_was_counted() {
    let to = |i: u64| Seen(event(i, &format!("192.0.2.{i}:80")));
    let mut state = after((1..=4).map(to));
    for i in 1..=3 {
        state.apply(Closed(event(i, &format!("192.0.2.{i}:80"))), now(1));
    }
    // The three known ones are forgotten: from now on there is room for the fourth's address.
    state.collect_garbage(now(3600), Duration::from_secs(600));
    state.apply(Closed(bytes(event(4, "192.0.2.4:80"), 5, 0)), now(3600));
    let destinations = samples(&state).destinations;
    assert_eq!(destinations.len(), 1, "{destinations:?}");
    assert_eq!(
        (
            destinations[0].key.clone(),
            destinations[0].active,
            destinations[0].sent_bytes
        ),
        (None, 0, 5)
    );
}

/// One that the other side began, and that nobody has used yet.
fn accepted(cookie: u64) -> SocketEvent {
    SocketEvent {
        role: Role::Server,
        local: "192.0.2.1:80".parse().unwrap(),
        remote: "192.0.2.9:40000".parse().unwrap(),
        connect_ns: None,
        settled: false,
        ..event(cookie, A)
    }
}

fn used(event: SocketEvent) -> SocketEvent {
    SocketEvent { settled: true, ..event }
}

/// Accepted, active, sent, received: of the only listen address.
fn served(state: &ContainerState) -> (u64, i64, u64, u64) {
    match &samples(state).listens[..] {
        [] => (0, 0, 0, 0),
        [one] => (one.accepted, one.active, one.sent_bytes, one.received_bytes),
        more => panic!("{more:?}"),
    }
}

#[test]
fn an_accepted_connection_counts_when_it_is_used_or_ends() {
    let seen = |sent| Seen(bytes(accepted(1), sent, 5));
    let seen_used = |sent| Seen(used(bytes(accepted(1), sent, 5)));
    let closed = || Closed(bytes(accepted(1), 30, 5));
    assert_eq!(served(&after([seen(0)])), (1, 1, 0, 0));
    assert_eq!(served(&after([seen(0), seen_used(10)])), (1, 1, 10, 5));
    assert_eq!(served(&after([seen_used(10), seen_used(20), closed()])), (1, 0, 30, 5));
    assert_eq!(served(&after([seen(0), closed()])), (1, 0, 30, 5));
    assert_eq!(served(&after([closed()])), (1, 0, 30, 5));
    let given_away = after([seen(0), ContainerEvent::Released(accepted(1).socket)]);
    assert_eq!(served(&given_away), (0, 0, 0, 0));
    assert_eq!(sums(&given_away), (0, 0, 0, 0, 0), "a server has no destinations");
    let sum = SumEvent {
        cgroup: CgroupId(3),
        process: None,
        netns: HOST,
        role: Role::Server,
        address: accepted(1).local,
        comm: [0; 16],
        connects: 5,
        failures: 0,
        connect_ns: 0,
        sent_bytes: 500,
        received_bytes: 60,
        retransmits: 0,
        closes: [0, 5, 0, 0],
        name: None,
    };
    let state = after([closed(), ContainerEvent::SumSpilled(sum)]);
    assert_eq!(served(&state), (6, 0, 530, 65));
    assert_eq!(samples(&state).health.of(Role::Server).closes, [1, 5, 0, 0]);
}

#[test]
fn what_is_older_than_the_agent_adds_bytes_only() {
    let old = |event: SocketEvent| SocketEvent { old: true, ..event };
    let seen = |sent| Seen(old(bytes(event(1, A), sent, 1)));
    let closed = || Closed(old(bytes(event(1, A), 30, 3)));
    assert_eq!(sums(&after([seen(10)])), (0, 1, 0, 10, 1));
    assert_eq!(sums(&after([seen(10), seen(20), closed()])), (0, 0, 0, 30, 3));
    assert_eq!(sums(&after([closed()])), (0, 0, 0, 30, 3));
    let waiting = Seen(old(accepted(1)));
    let used = Seen(old(used(bytes(accepted(1), 7, 8))));
    assert_eq!(served(&after([waiting.clone()])), (0, 1, 0, 0));
    assert_eq!(served(&after([waiting, used])), (0, 1, 7, 8));
}

#[test]
fn health_is_of_the_connection() {
    let resent = |mut event: SocketEvent, retransmits, rtt_us| {
        (event.retransmits, event.rtt_us) = (retransmits, Some(rtt_us));
        event
    };
    let ended = |mut event: SocketEvent, reason| {
        event.reason = CloseReason::new(reason).unwrap();
        event
    };
    let mut failed = event(3, A);
    failed.retransmits = 2;
    let state = after([
        Seen(event(1, A)),
        Seen(resent(event(1, A), 1, 100)),
        Seen(resent(event(1, A), 3, 300)),
        Closed(ended(resent(event(1, A), 4, 500), 2)),
        Closed(ended(resent(event(2, A), 1, 700), 3)),
        Failed(failed),
        Seen(resent(used(accepted(4)), 5, 900)),
    ]);
    let samples = samples(&state);
    assert_eq!(samples.destinations[0].retransmits, 4 + 1 + 2);
    assert_eq!(samples.destinations[0].closes, [0, 0, 1, 1]);
    assert_eq!(samples.listens[0].retransmits, 5);
    let (client, server) = (samples.health.of(Role::Client), samples.health.of(Role::Server));
    assert_eq!(
        (client.closes, client.rtt.count(), client.rtt.sum_us),
        ([0, 0, 1, 1], 2, 400)
    );
    assert_eq!((server.closes, server.rtt.count(), server.rtt.sum_us), ([0; 4], 1, 900));
}

#[test]
fn a_container_that_serves_what_another_opened_is_open_there() {
    let state = after([Seen(used(accepted(1)))]);
    assert_eq!(rows(&state), [("192.0.2.1:80".into(), false)]);
    assert!(samples(&state).listens[0].open);
    let state = after([Seen(used(accepted(1))), Closed(accepted(1))]);
    assert!(!samples(&state).listens[0].open);
    // Of one that listened itself the listening socket tells.
    let on = listen(9, "192.0.2.1:80", HOST);
    let state = after([
        ListenOpened(on.clone()),
        Seen(used(accepted(1))),
        ListenClosed(on.clone()),
    ]);
    let row = samples(&state).listens[0];
    assert!(!row.open && row.active == 1);
    let socket = on.socket;
    let state = after([ListenOpened(on), ContainerEvent::Released(socket)]);
    assert_eq!(rows(&state), []);
}
