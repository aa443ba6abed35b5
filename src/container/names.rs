//! The destinations of a container, of which only so many go by a name.
use super::connections::{Counters, Stats};
use crate::{base::fqdn::Fqdn, decode::DestinationKey};
use std::collections::HashSet;

/// Connections to further names are counted with those beyond the limit of destinations, so that all of them are in the
/// sums: by their addresses they would bring back the many series that a name is there to replace.
#[derive(Debug)]
pub(super) struct Destinations {
    counters: Counters<DestinationKey>,
    names: HashSet<Fqdn>,
    max_names: usize,
}

impl Destinations {
    pub(super) fn new(limit: usize, max_names: usize) -> Self {
        Self {
            counters: Counters::new(limit),
            names: HashSet::new(),
            max_names,
        }
    }

    /// `None`: it is one of the further ones.
    pub(super) fn key(&mut self, key: DestinationKey) -> Option<DestinationKey> {
        let Some(name) = key.name().filter(|name| !self.names.contains(*name)) else {
            return self.counters.key(key);
        };
        if self.names.len() >= self.max_names {
            return None;
        }
        let name = name.clone();
        let key = self.counters.key(key)?;
        self.names.insert(name);
        Some(key)
    }

    pub(super) fn at(&mut self, key: Option<&DestinationKey>) -> &mut Stats {
        self.counters.at(key)
    }

    pub(super) fn of(&mut self, key: DestinationKey) -> &mut Stats {
        let key = self.key(key);
        self.counters.at(key.as_ref())
    }

    pub(super) fn knows(&self, key: &DestinationKey) -> bool {
        self.counters.knows(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &DestinationKey> {
        self.counters.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&DestinationKey>, &Stats)> {
        self.counters.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    pub(super) fn absorb(&mut self, mut other: Self) {
        let (known, rest) = other.counters.drain();
        known.for_each(|(key, stats)| self.of(key).absorb(stats));
        self.counters.at(None).absorb(rest);
    }

    pub(super) fn forget_before(&mut self, before_ns: u64) {
        self.counters.forget_before(before_ns);
        self.forget_names();
    }

    pub(super) fn change(&mut self, change: impl FnMut(&mut Stats)) {
        self.counters.change(change);
        self.forget_names();
    }

    /// A name whose last destination goes makes room for another.
    fn forget_names(&mut self) {
        self.names = self.counters.keys().filter_map(DestinationKey::name).cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{NetnsId, SocketId};
    use crate::{
        base::now::Now,
        container::{
            samples::Destination,
            state::{ContainerEvent, ContainerState, Limits},
        },
        decode::SocketEvent,
    };
    use proptest::prelude::*;
    use std::{collections::BTreeMap, time::Duration};

    const LIMITS: Limits = Limits {
        destinations: 10,
        names: 2,
        listens: 1,
        connections: 100,
    };
    const S: u64 = 1_000_000_000;

    fn to(cookie: u64, name: Option<&str>) -> SocketEvent {
        SocketEvent {
            socket: SocketId { cookie, generation: 1 },
            remote: format!("192.0.2.{cookie}:443").parse().unwrap(),
            sent_bytes: 10,
            name: name.map(|name| Fqdn::new(name.as_bytes()).unwrap()),
            ..SocketEvent::example()
        }
    }

    fn at(seconds: u64) -> Now {
        Now {
            monotonic_ns: seconds * S,
            boottime_ns: seconds * S,
            wall_ns: seconds * S,
        }
    }

    fn after(events: impl IntoIterator<Item = ContainerEvent>) -> ContainerState {
        let mut state = ContainerState::new(LIMITS);
        for event in events {
            assert!(state.apply(event, at(1)));
        }
        state
    }

    fn destinations(state: &ContainerState) -> Vec<Destination> {
        let samples = state.samples(&"/a".into(), at(1), Duration::ZERO, NetnsId(1));
        samples.destinations
    }

    /// Name or address with active connections and bytes.
    fn rows(state: &ContainerState) -> Vec<(String, i64, u64)> {
        let label = |key: Option<DestinationKey>| match key {
            None => "~other".to_owned(),
            Some(DestinationKey::Address(route)) => route.destination.to_string(),
            Some(DestinationKey::Name(name, port)) => format!("{name}:{port}"),
        };
        let rows = destinations(state).into_iter();
        rows.map(|row| (label(row.key), row.active, row.sent_bytes)).collect()
    }

    fn row(label: &str, active: i64, sent_bytes: u64) -> (String, i64, u64) {
        (label.to_owned(), active, sent_bytes)
    }

    use ContainerEvent::{Closed, Failed, Seen};

    #[test]
    fn all_addresses_of_a_name_are_one() {
        let mut state = after([Seen(to(1, Some("a.example"))), Seen(to(2, Some("a.example")))]);
        state.apply(Failed(to(3, Some("a.example"))), at(1));
        assert_eq!(rows(&state), [row("a.example:443", 2, 20)]);
        assert_eq!(destinations(&state)[0].failures, 1);
    }

    #[test]
    fn an_open_connection_keeps_its_series() {
        let called = |name, sent_bytes| SocketEvent {
            sent_bytes,
            ..to(1, name)
        };
        let by_address = after([Seen(called(None, 10)), Seen(called(Some("a.example"), 20))]);
        assert_eq!(rows(&by_address), [row("192.0.2.1:443", 1, 20)]);
        let renamed = after([
            Seen(called(Some("a.example"), 10)),
            Seen(called(Some("b.example"), 20)),
            Closed(called(None, 30)),
        ]);
        assert_eq!(rows(&renamed), [row("a.example:443", 0, 30)]);
    }

    #[test]
    fn further_names_are_one_and_nothing_is_missing_from_the_sums() {
        let all = || (1..=5u64).map(|cookie| (cookie, format!("{}.example", (b'a' + cookie as u8) as char)));
        let state = after(all().map(|(cookie, name)| Seen(to(cookie, Some(&name)))));
        let three_more = [
            row("~other", 3, 30),
            row("b.example:443", 1, 10),
            row("c.example:443", 1, 10),
        ];
        assert_eq!(rows(&state), three_more);
        // An address is no name.
        let mut state = state;
        state.apply(Seen(to(6, None)), at(1));
        assert_eq!(rows(&state).len(), 4);
        for (cookie, name) in all() {
            state.apply(Closed(to(cookie, Some(&name))), at(1));
        }
        state.collect_garbage(at(3600), Duration::from_secs(600));
        assert_eq!(rows(&state), [row("~other", 0, 30), row("192.0.2.6:443", 1, 10)]);
        // There is room again, and who was with the others stays there.
        state.apply(Seen(to(7, Some("f.example"))), at(3600));
        assert!(rows(&state).contains(&row("f.example:443", 1, 10)));
    }

    #[test]
    fn two_that_become_one_have_as_many_names_as_one() {
        let names =
            |from: u64| (from..from + 2).map(|cookie| (cookie, format!("{}.example", (b'a' + cookie as u8) as char)));
        let seen = |from| after(names(from).map(|(cookie, name)| Seen(to(cookie, Some(&name)))));
        let mut state = seen(1);
        state.absorb(seen(3));
        assert_eq!(
            rows(&state),
            [
                row("~other", 2, 20),
                row("b.example:443", 1, 10),
                row("c.example:443", 1, 10)
            ]
        );
        state.absorb(after([Seen(to(5, Some("b.example")))]));
        assert!(rows(&state).contains(&row("b.example:443", 2, 20)));
        state.apply(Closed(to(3, Some("d.example"))), at(1));
        assert_eq!(rows(&state)[0], row("~other", 1, 20));
    }

    proptest! {
        /// Whatever an address is called meanwhile, and whether there is room for the name.
        #[test]
        fn no_open_connection_changes_its_series_and_no_byte_is_missing(
            steps in prop::collection::vec((1..6u64, prop::option::of(0..4u8), 0..100u64, any::<bool>()), 0..100),
        ) {
            let mut state = ContainerState::new(LIMITS);
            let mut known: Vec<String> = Vec::new();
            let mut open: BTreeMap<u64, (String, u64, u32)> = BTreeMap::new();
            let mut expected: BTreeMap<String, (i64, u64)> = BTreeMap::new();
            for (time, (cookie, name, more, ends)) in (1..).zip(steps) {
                let name = name.map(|name| format!("n{name}.example"));
                let event = to(cookie, name.as_deref());
                let label = match &name {
                    None => event.remote.to_string(),
                    Some(name) if known.contains(name) || known.len() < LIMITS.names => format!("{name}:443"),
                    Some(_) => "~other".to_owned(),
                };
                let (label, bytes, generation) = match open.remove(&cookie) {
                    Some(at) => at,
                    None => {
                        if let Some(name) = name.filter(|name| label != "~other" && !known.contains(name)) {
                            known.push(name);
                        }
                        expected.entry(label.clone()).or_default().0 += 1;
                        // One that comes after another of that number is one of its own.
                        (label, 0, time)
                    }
                };
                let event = SocketEvent {
                    socket: SocketId { cookie, generation },
                    sent_bytes: bytes + more,
                    ..event
                };
                expected.get_mut(&label).unwrap().1 += more;
                if ends {
                    expected.get_mut(&label).unwrap().0 -= 1;
                    state.apply(Closed(event), at(1));
                } else {
                    open.insert(cookie, (label, bytes + more, generation));
                    state.apply(Seen(event), at(1));
                }
                let rows = rows(&state).into_iter().map(|(label, active, bytes)| (label, (active, bytes)));
                prop_assert_eq!(&rows.collect::<BTreeMap<_, _>>(), &expected);
            }
        }
    }
}
