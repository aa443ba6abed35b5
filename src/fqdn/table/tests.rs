//! The table at the top of the module, row by row, and what holds whatever happens.
use super::*;
use crate::{
    base::ids::{CgroupId, NetnsId, SocketId},
    decode::{Exchanges, Protocol, Route, SocketEvent, SumEvent},
};
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn answer(name: &str, addresses: &[&str]) -> DnsAnswered {
    DnsAnswered {
        name: name.as_bytes().into(),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
    }
}

fn fqdn(name: &str) -> Fqdn {
    Fqdn::new(name.as_bytes()).unwrap()
}

fn to(remote: &str) -> SocketEvent {
    SocketEvent {
        socket: SocketId {
            cookie: 1,
            generation: 1,
        },
        remote: remote.parse().unwrap(),
        ..SocketEvent::example()
    }
}

fn name_of(names: &mut Names, event: SocketEvent, now_ns: u64) -> Option<String> {
    let mut events = [Event::SocketSeen(event)];
    names.name(&mut events, now_ns);
    let [Event::SocketSeen(event)] = events else { panic!() };
    event.name.map(|name| name.to_string())
}

fn shown(names: &mut Names, remote: &str) -> Option<String> {
    name_of(names, to(remote), 0)
}

/// By what a connection is shown that goes to the first of these addresses, all of which were answered.
fn decided(addresses: &[&str]) -> (bool, bool) {
    let mut names = Names::new(100);
    assert_eq!(names.learn(&answer("a.example", addresses), 1), Learnt::Names);
    let first = ip(addresses[0]).to_canonical();
    let named = shown(&mut names, &SocketAddr::new(ip(addresses[0]), 443).to_string()).is_some();
    (named, names.specified().iter().any(|(ip, _)| *ip == first))
}

#[test]
fn only_several_external_addresses_go_by_their_name() {
    let (name, address) = ((true, false), (false, true));
    for (addresses, is) in [
        (&["1.1.1.1", "1.0.0.1"][..], name),
        (&["1.1.1.1"], address),
        (&["1.1.1.1", "1.1.1.1"], address),
        (&["1.1.1.1", "::ffff:1.1.1.1"], address),
        (&["::ffff:1.1.1.1", "1.0.0.1"], name),
        (&["2606:4700::1111", "2606:4700::1001"], name),
        (&["1.1.1.1", "2606:4700::1111"], name),
        (&["1.1.1.1", "10.0.0.1"], address),
        (&["1.1.1.1", "100.64.0.1"], address),
        (&["1.1.1.1", "169.254.1.1"], address),
        (&["1.1.1.1", "127.0.0.1"], address),
        (&["1.1.1.1", "0.0.0.0"], address),
        (&["1.1.1.1", "224.0.0.1"], address),
        (&["1.1.1.1", "fd00::1"], address),
        (&["1.1.1.1", "fe80::1"], address),
        (&["1.1.1.1", "::1"], address),
        (&["1.1.1.1", "::ffff:10.0.0.1"], address),
        (&["10.0.0.1", "10.0.0.2"], address),
        (&["127.0.0.1"], address),
    ] {
        assert_eq!(decided(addresses), is, "{addresses:?}");
    }
}

#[test]
fn what_goes_somewhere_else_is_shown_by_address() {
    let mut names = Names::new(100);
    names.learn(&answer("a.example", &["1.1.1.1", "1.0.0.1"]), 1);
    let led = |actual: &str| SocketEvent {
        actual: Some(actual.parse().unwrap()),
        ..to("1.1.1.1:443")
    };
    assert_eq!(name_of(&mut names, led("10.0.0.7:8080"), 1), None);
    assert_eq!(name_of(&mut names, led("127.0.0.1:15001"), 1), None);
    assert_eq!(name_of(&mut names, led("2.2.2.2:443"), 1).as_deref(), Some("a.example"));
    // The name is the destination's, not that of where it leads.
    let from_inside = SocketEvent {
        actual: Some("1.1.1.1:443".parse().unwrap()),
        ..to("10.96.0.1:443")
    };
    assert_eq!(name_of(&mut names, from_inside, 1), None);
    let mapped = SocketEvent {
        remote: "[::ffff:1.1.1.1]:443".parse().unwrap(),
        ..to("1.1.1.1:443")
    };
    assert_eq!(name_of(&mut names, mapped, 1).as_deref(), Some("a.example"));
}

#[test]
fn who_is_connected_to_has_no_name_for_the_other_side() {
    let mut names = Names::new(100);
    names.learn(&answer("a.example", &["1.1.1.1", "1.0.0.1"]), 1);
    let accepted = SocketEvent {
        role: Role::Server,
        ..to("1.1.1.1:443")
    };
    assert_eq!(name_of(&mut names, accepted, 1), None);
    let listening = SocketEvent {
        listening: true,
        ..to("1.1.1.1:443")
    };
    assert_eq!(name_of(&mut names, listening, 1), None);
}

#[test]
fn failed_and_summed_up_ones_have_names_too() {
    let mut names = Names::new(100);
    names.learn(&answer("a.example", &["1.1.1.1", "1.0.0.1"]), 1);
    let mut events = [
        Event::ConnectionFailed(to("1.1.1.1:443")),
        Event::ConnectionClosed(to("1.1.1.1:443")),
        Event::SocketSpilled(to("1.1.1.1:443")),
    ];
    names.name(&mut events, 1);
    for event in events {
        let (Event::ConnectionFailed(event) | Event::ConnectionClosed(event) | Event::SocketSpilled(event)) = event
        else {
            panic!()
        };
        assert_eq!(event.destination(), DestinationKey::Name(fqdn("a.example"), 443));
    }
    let sum = |role| {
        Event::SumSpilled(SumEvent {
            cgroup: CgroupId(9),
            process: None,
            netns: NetnsId(1),
            role,
            address: "1.1.1.1:443".parse().unwrap(),
            comm: Default::default(),
            connects: 1,
            failures: 0,
            connect_ns: 0,
            sent_bytes: 0,
            received_bytes: 0,
            retransmits: 0,
            closes: [1, 0, 0, 0],
            name: None,
        })
    };
    let mut events = [sum(Role::Client), sum(Role::Server)];
    names.name(&mut events, 1);
    let named = events.map(|event| matches!(event, Event::SumSpilled(sum) if sum.name.is_some()));
    assert_eq!(named, [true, false]);
}

#[test]
fn requests_have_the_name_that_their_connection_has() {
    let mut names = Names::new(100);
    names.learn(&answer("a.example", &["1.1.1.1", "1.0.0.1"]), 1);
    let asked = |role, actual: Option<&str>| {
        Event::Exchanges(Exchanges {
            remote: "1.1.1.1:443".parse().unwrap(),
            actual: actual.map(|actual| actual.parse().unwrap()),
            ..Exchanges::example(role, Protocol::Http)
        })
    };
    let mut events = [
        asked(Role::Client, None),
        asked(Role::Client, Some("1.0.0.9:443")),
        asked(Role::Client, Some("10.0.0.1:443")),
        asked(Role::Server, None),
    ];
    names.name(&mut events, 9);
    let named = events.map(|event| matches!(event, Event::Exchanges(of) if of.name.is_some()));
    assert_eq!(named, [true, true, false, false]);
    // It is in use.
    assert_eq!(names.stale(9).without(&Referred::default()), [ip("1.0.0.1")]);
}

#[test]
fn the_later_of_two_names_wins() {
    let mut names = Names::new(100);
    names.learn(&answer("a.example", &["1.1.1.1", "1.0.0.1"]), 1);
    names.learn(&answer("b.example", &["1.1.1.1", "1.0.0.2"]), 2);
    assert_eq!(shown(&mut names, "1.1.1.1:443").as_deref(), Some("b.example"));
    assert_eq!(shown(&mut names, "1.0.0.1:443").as_deref(), Some("a.example"));
    names.learn(&answer("c.example", &["1.1.1.1"]), 3);
    assert_eq!(shown(&mut names, "1.1.1.1:443"), None);
    assert_eq!(names.specified(), [(ip("1.1.1.1"), fqdn("c.example"))]);
}

#[test]
fn a_part_of_the_addresses_changes_nothing() {
    let mut names = Names::new(100);
    names.learn(&answer("a.example", &["1.1.1.1"]), 1);
    assert_eq!(shown(&mut names, "1.1.1.1:443"), None);
    names.learn(&answer("a.example", &["1.1.1.1", "1.0.0.1"]), 2);
    assert_eq!(shown(&mut names, "1.1.1.1:443").as_deref(), Some("a.example"));
    names.learn(&answer("A.example.", &["1.1.1.1"]), 3);
    assert_eq!(shown(&mut names, "1.1.1.1:443").as_deref(), Some("a.example"));
    assert_eq!(names.specified(), []);
}

#[test]
fn what_teaches_nothing() {
    let mut names = Names::new(100);
    for (name, addresses, learnt) in [
        ("a b", &["1.1.1.1"][..], Learnt::NotAName),
        ("", &["1.1.1.1"], Learnt::NotAName),
        ("a.example", &[], Learnt::NoAddress),
        ("a.example", &["0.0.0.0"], Learnt::NoAddress),
        ("a.example", &["::", "224.0.0.1", "255.255.255.255"], Learnt::NoAddress),
    ] {
        assert_eq!(names.learn(&answer(name, addresses), 1), learnt, "{name} {addresses:?}");
    }
    assert!(names.is_empty());
    let thousands = DnsAnswered {
        name: (*b"a.example").into(),
        addresses: (0..5000u32)
            .map(|i| IpAddr::from((0x0200_0000 + i).to_be_bytes()))
            .collect(),
    };
    assert_eq!(names.learn(&thousands, 1), Learnt::SomeNames);
    assert_eq!(names.len(), MAX_ADDRESSES);
    assert_eq!(names.evicted(), 0);
    let mut none = Names::new(0);
    none.learn(&answer("a.example", &["1.1.1.1"]), 1);
    assert_eq!((none.len(), none.evicted()), (0, 0));
}

#[test]
fn a_full_table_lets_go_of_what_nobody_connects_to() {
    let mut names = Names::new(32);
    let learn = |names: &mut Names, i: u8, now_ns| {
        names.learn(&answer("a.example", &[&format!("2.0.0.{i}")]), now_ns);
    };
    for i in 0..32 {
        learn(&mut names, i, u64::from(i));
    }
    for i in 0..30u8 {
        assert_eq!(
            name_of(&mut names, to(&format!("2.0.0.{i}:1")), 100 - u64::from(i)),
            None
        );
    }
    learn(&mut names, 100, 200);
    let has = |names: &Names, i: u8| names.entries.contains_key(&ip(&format!("2.0.0.{i}")));
    assert_eq!((names.len(), names.evicted()), (31, 2));
    assert!(!has(&names, 30) && !has(&names, 31) && has(&names, 100));
    // Then of what nobody has connected to for the longest time.
    name_of(&mut names, to("2.0.0.100:1"), 201);
    learn(&mut names, 101, 202);
    name_of(&mut names, to("2.0.0.101:1"), 203);
    learn(&mut names, 102, 204);
    assert!(!has(&names, 29) && !has(&names, 28) && has(&names, 27));
}

#[test]
fn what_containers_refer_to_stays() {
    let mut names = Names::new(100);
    names.learn(&answer("a.example", &["1.1.1.1", "1.0.0.1"]), 1);
    names.learn(&answer("b.example", &["2.2.2.2"]), 1);
    names.learn(&answer("c.example", &["3.3.3.3"]), 1);
    names.learn(&answer("d.example", &["4.4.4.4"]), 9);
    let stale = names.stale(5);
    let refer = [
        DestinationKey::Name(fqdn("a.example"), 443),
        DestinationKey::direct("2.2.2.2:80".parse().unwrap()),
        DestinationKey::direct("9.9.9.9:80".parse().unwrap()),
        // Where it leads to is not what was asked for.
        DestinationKey::Address(Route {
            destination: "10.0.0.1:80".parse().unwrap(),
            actual: "3.3.3.3:80".parse().unwrap(),
        }),
    ];
    let mut referred = stale.referred(refer[..1].iter());
    referred.add(stale.referred(refer[1..].iter()));
    assert_eq!(stale.without(&referred), [ip("3.3.3.3")]);
    // It was connected to while everybody was asked.
    name_of(&mut names, to("3.3.3.3:80"), 6);
    assert!(names.forget(&[ip("3.3.3.3")], 5).is_empty());
    assert_eq!(names.forget(&[ip("3.3.3.3"), ip("8.8.8.8")], 7), [ip("3.3.3.3")]);
    assert_eq!(names.len(), 4);
    assert_eq!(names.specified().len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Answer(u8, Vec<u8>),
    Connect(u8),
    /// Containers refer to these addresses.
    Collect(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u8..6, prop::collection::vec(0u8..40, 0..5)).prop_map(|(name, addresses)| Step::Answer(name, addresses)),
        (0u8..40).prop_map(Step::Connect),
        prop::collection::vec(0u8..40, 0..5).prop_map(Step::Collect),
    ];
    prop::collection::vec(step, 0..200)
}

fn address(i: u8) -> IpAddr {
    // Every fourth is no external one.
    let net = if i.is_multiple_of(4) { 10 } else { 2 };
    IpAddr::from([net, 0, 0, i])
}

proptest! {
    #[test]
    fn bounded_and_never_a_name_that_nobody_has_heard_of(steps in steps(), capacity in 0usize..20) {
        const KEEP: u64 = 10;
        let mut names = Names::new(capacity);
        let mut again = Names::new(capacity);
        // What was answered last, and when it was last heard of.
        let mut answered = BTreeMap::new();
        let mut heard = BTreeMap::new();
        for (now, step) in (20u64..).zip(steps) {
            match step {
                Step::Answer(name, addresses) => {
                    let name = format!("n{name}.example");
                    let addresses: Vec<_> = addresses.into_iter().map(address).collect();
                    for ip in &addresses {
                        answered.insert(*ip, name.clone());
                        heard.insert(*ip, now);
                    }
                    let answer = DnsAnswered { name: name.into_bytes().into(), addresses };
                    prop_assert_eq!(names.learn(&answer, now), again.learn(&answer, now));
                }
                Step::Connect(i) => {
                    let event = to(&format!("{}:443", address(i)));
                    let name = name_of(&mut names, event.clone(), now);
                    prop_assert_eq!(&name, &name_of(&mut again, event, now), "the same, whatever the order in memory");
                    if names.entries.contains_key(&address(i)) {
                        heard.insert(address(i), now);
                    }
                    if let Some(name) = name {
                        prop_assert_eq!(Some(&name), answered.get(&address(i)));
                        prop_assert!(is_external(address(i)));
                    }
                }
                Step::Collect(refer) => {
                    let key = |i: &u8| DestinationKey::direct(SocketAddr::new(address(*i), 80));
                    let keys: Vec<_> = refer.iter().map(key).collect();
                    let stale = names.stale(now - KEEP);
                    let gone = names.forget(&stale.without(&stale.referred(keys.iter())), now - KEEP);
                    again.forget(&gone, u64::MAX);
                    for ip in names.entries.keys() {
                        let referred = refer.iter().any(|i| address(*i) == *ip);
                        prop_assert!(referred || heard[ip] >= now - KEEP, "{} stays for nobody", ip);
                    }
                    for ip in gone {
                        prop_assert!(!refer.iter().any(|i| address(*i) == ip));
                        prop_assert!(heard[&ip] < now - KEEP);
                    }
                }
            }
            prop_assert!(names.len() <= capacity);
            let sorted = |names: &Names| names.stale(u64::MAX);
            prop_assert_eq!(sorted(&names), sorted(&again));
        }
    }
}
