//! What is known of where connections go.
//!
//! | its destination | a connection there |
//! | --- | --- |
//! | new | is asked for |
//! | the last answer was the destination itself | is not asked for, for a minute |
//! | the last answer was another address | is asked for, each one: there may be several |
//!
//! Requests come by both ends of their connection, without its number. Where those of its destination are asked for one by one,
//! that is what they find its answer by, until a moment after its end; what comes before it is asked for.
use super::{actor::Fill, lookups::Flow, netlink::Answer};
use crate::{
    base::{
        ids::{NetnsId, SocketId},
        table::Table,
    },
    decode::SocketEvent,
};
use std::net::SocketAddr;
use tarsier_common::DIRECT_ENTRIES;

/// Then it is looked at again: a rule may have come.
const DIRECT_NS: u64 = 60_000_000_000;
/// A destination that nobody was led elsewhere from for so long.
const TRANSLATED_NS: u64 = 600_000_000_000;
/// Open connections that no pass has shown for so long have ended unseen.
const SEEN_NS: u64 = 600_000_000_000;
/// Connections that were reset are forgotten after ten seconds by default.
const REMEMBERED_NS: u64 = 5_000_000_000;
/// Open connections to destinations that lead elsewhere. Beyond that, they are asked for at each pass.
const MAX_SOCKETS: usize = 262_144;
/// Requests come in the same reading as the end of their connection, or in the one after it.
const ENDED_NS: u64 = 2_000_000_000;
/// A connection that requests came by and nobody knows: it has ended, as a rule, or is not tracked.
const UNKNOWN_NS: u64 = 10_000_000_000;
/// Of those connections, by their ends, with those that have ended just now. Beyond that, they are asked for at each reading.
const MAX_FLOWS: usize = 65_536;

pub(super) type Place = (NetnsId, SocketAddr);

#[derive(Debug)]
enum Class {
    Direct { until_ns: u64 },
    Translated { last_ns: u64 },
}

#[derive(Debug)]
struct Open {
    actual: Option<SocketAddr>,
    seen_ns: u64,
}

#[derive(Debug)]
struct Said {
    actual: Option<SocketAddr>,
    until_ns: u64,
    /// Requests do not make it stay.
    ended: bool,
}

#[derive(Debug)]
pub(super) struct Routes {
    classes: Table<Place, Class>,
    sockets: Table<SocketId, Open>,
    flows: Table<Flow, Said>,
}

/// Of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// `None`: it goes where it was sent.
    Route(Option<SocketAddr>),
    Ask,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self {
            classes: Table::new(DIRECT_ENTRIES as usize),
            sockets: Table::new(MAX_SOCKETS),
            flows: Table::new(MAX_FLOWS),
        }
    }

    pub(super) fn known(&mut self, event: &SocketEvent, ended: bool, now_ns: u64) -> Known {
        if let Some(open) = self.sockets.get_mut(&event.socket) {
            let actual = open.actual;
            open.seen_ns = now_ns;
            if ended {
                self.sockets.remove(&event.socket);
            }
            self.remember(event.into(), actual, ended.then_some(ENDED_NS), now_ns);
            return Known::Route(actual);
        }
        self.class_of((event.netns, event.remote))
    }

    /// `true`: from now on, nobody has to be asked about this destination.
    pub(super) fn answered(&mut self, event: &SocketEvent, ended: bool, answer: Answer, now_ns: u64) -> bool {
        let place = (event.netns, event.remote);
        let translated = matches!(self.classes.get(&place), Some(Class::Translated { .. }));
        let actual = self.led(place, answer, now_ns);
        if !ended && (translated || actual.is_some()) {
            let open = Open {
                actual,
                seen_ns: now_ns,
            };
            drop(self.sockets.insert(event.socket, open));
        }
        if translated || actual.is_some() {
            self.remember(event.into(), actual, ended.then_some(ENDED_NS), now_ns);
        }
        // It may have been known until a moment ago.
        let forgotten = answer == Answer::Unknown && ended && now_ns.saturating_sub(event.time_ns) > REMEMBERED_NS;
        if translated || actual.is_some() || forgotten {
            return false;
        }
        self.went_straight(place, now_ns)
    }

    /// `only_ns`: so long and no longer, whatever is said on it.
    fn remember(&mut self, flow: Flow, actual: Option<SocketAddr>, only_ns: Option<u64>, now_ns: u64) {
        let until_ns = now_ns + only_ns.unwrap_or(SEEN_NS);
        drop(self.flows.insert(
            flow,
            Said {
                actual,
                until_ns,
                ended: only_ns.is_some(),
            },
        ));
    }

    /// Of the connection that requests were on.
    pub(super) fn known_flow(&mut self, flow: &Flow, now_ns: u64) -> Known {
        if let Some(said) = self.flows.get_mut(flow) {
            if !said.ended {
                said.until_ns = now_ns + SEEN_NS;
            }
            return Known::Route(said.actual);
        }
        self.class_of((flow.netns, flow.remote))
    }

    /// As for a connection. But it may have ended at any time: that nothing is known of it says nothing of others.
    pub(super) fn answered_flow(&mut self, flow: Flow, answer: Answer, now_ns: u64) -> bool {
        let place = (flow.netns, flow.remote);
        let translated = matches!(self.classes.get(&place), Some(Class::Translated { .. }));
        let actual = self.led(place, answer, now_ns);
        if translated || answer != Answer::Direct {
            let only_ns = (answer == Answer::Unknown).then_some(UNKNOWN_NS);
            self.remember(flow, actual, only_ns, now_ns);
            return false;
        }
        self.went_straight(place, now_ns)
    }

    fn class_of(&self, place: Place) -> Known {
        match self.classes.get(&place) {
            Some(Class::Direct { .. }) => Known::Route(None),
            Some(Class::Translated { .. }) | None => Known::Ask,
        }
    }

    /// Where to, if elsewhere.
    fn led(&mut self, place: Place, answer: Answer, now_ns: u64) -> Option<SocketAddr> {
        let Answer::To(actual) = answer else { return None };
        let class = Class::Translated { last_ns: now_ns };
        // Without room it is asked for all the same.
        drop(self.classes.insert(place, class));
        Some(actual)
    }

    fn went_straight(&mut self, place: Place, now_ns: u64) -> bool {
        let until_ns = now_ns + DIRECT_NS;
        self.classes.insert(place, Class::Direct { until_ns }).is_ok()
    }

    /// Destinations that are to be asked for again.
    pub(super) fn expire(&mut self, now_ns: u64) -> Vec<Place> {
        let mut again = Vec::new();
        self.classes.retain(|place, class| match class {
            Class::Direct { until_ns } if *until_ns <= now_ns => {
                again.push(*place);
                false
            }
            Class::Direct { .. } => true,
            Class::Translated { last_ns } => now_ns.saturating_sub(*last_ns) < TRANSLATED_NS,
        });
        self.sockets
            .retain(|_, open| now_ns.saturating_sub(open.seen_ns) < SEEN_NS);
        self.flows.retain(|_, said| now_ns < said.until_ns);
        again
    }

    /// Somebody can be asked who could not before.
    pub(super) fn forget_direct(&mut self) {
        self.classes.retain(|_, class| !matches!(class, Class::Direct { .. }));
        self.flows.retain(|_, said| said.actual.is_some());
    }

    pub(super) fn tables(&self) -> [Fill; 3] {
        let (classes, sockets, flows) = (&self.classes, &self.sockets, &self.flows);
        [
            ("route_classes", classes.len(), classes.capacity(), classes.rejected()),
            (
                "translated_sockets",
                sockets.len(),
                sockets.capacity(),
                sockets.rejected(),
            ),
            ("translated_flows", flows.len(), flows.capacity(), flows.rejected()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn event(cookie: u64, remote: &str, time_ns: u64) -> SocketEvent {
        SocketEvent {
            socket: SocketId { cookie, generation: 1 },
            remote: remote.parse().unwrap(),
            time_ns,
            ..SocketEvent::example()
        }
    }

    fn to(actual: &str) -> Answer {
        Answer::To(actual.parse().unwrap())
    }

    #[test]
    fn what_goes_where_it_was_sent_is_asked_for_once_a_minute() {
        let mut routes = Routes::new();
        let first = event(1, "10.0.0.1:80", S);
        assert_eq!(routes.known(&first, true, S), Known::Ask);
        assert!(routes.answered(&first, true, Answer::Direct, S));
        assert_eq!(
            routes.known(&event(2, "10.0.0.1:80", S), true, 2 * S),
            Known::Route(None)
        );
        assert_eq!(routes.known(&event(3, "10.0.0.1:81", S), true, 2 * S), Known::Ask);
        let elsewhere = SocketEvent {
            netns: NetnsId(77),
            ..event(4, "10.0.0.1:80", S)
        };
        assert_eq!(routes.known(&elsewhere, true, 2 * S), Known::Ask);
        assert_eq!(routes.expire(60 * S), []);
        assert_eq!(routes.expire(61 * S), [(first.netns, first.remote)]);
        assert_eq!(routes.known(&first, true, 61 * S), Known::Ask);
    }

    #[test]
    fn each_connection_to_a_service_has_its_own() {
        let mut routes = Routes::new();
        let (one, two) = (event(1, "10.96.0.1:80", S), event(2, "10.96.0.1:80", S));
        assert!(!routes.answered(&one, false, to("10.1.0.1:80"), S));
        assert_eq!(routes.known(&two, false, S), Known::Ask);
        assert!(!routes.answered(&two, false, to("10.1.0.2:80"), S));
        assert_eq!(
            routes.known(&one, false, S),
            Known::Route(Some("10.1.0.1:80".parse().unwrap()))
        );
        assert_eq!(
            routes.known(&two, true, S),
            Known::Route(Some("10.1.0.2:80".parse().unwrap()))
        );
        assert_eq!(
            routes.known(&two, true, S),
            Known::Ask,
            "its number may be another's by now"
        );
        // One that is not led elsewhere says nothing of the others.
        let three = event(3, "10.96.0.1:80", S);
        assert!(!routes.answered(&three, false, Answer::Direct, S));
        assert_eq!(routes.known(&three, false, S), Known::Route(None));
        assert_eq!(routes.known(&event(4, "10.96.0.1:80", S), false, S), Known::Ask);
        routes.expire(700 * S);
        assert_eq!(routes.tables().map(|(_, len, _, _)| len), [0, 0, 0]);
    }

    #[test]
    fn what_went_straight_is_asked_for_again_once_there_is_somebody_new_to_ask() {
        let mut routes = Routes::new();
        let (straight, service) = (event(1, "10.0.0.1:80", S), event(2, "10.96.0.1:80", S));
        assert!(routes.answered(&straight, false, Answer::Direct, S));
        routes.answered(&service, false, to("10.1.0.1:80"), S);
        routes.forget_direct();
        assert_eq!(routes.known(&straight, false, S), Known::Ask);
        let backend = "10.1.0.1:80".parse().unwrap();
        assert_eq!(routes.known(&service, false, S), Known::Route(Some(backend)));
    }

    #[test]
    fn who_is_asked_too_late_knows_nothing() {
        let mut routes = Routes::new();
        let (ended, open) = (event(1, "10.0.0.1:80", S), event(2, "10.0.0.1:80", S));
        assert!(!routes.answered(&ended, true, Answer::Unknown, 7 * S));
        assert_eq!(routes.known(&ended, true, 7 * S), Known::Ask);
        // Nothing tracks an open one that is not known.
        assert!(routes.answered(&open, false, Answer::Unknown, 7 * S));
        let now = event(3, "10.0.0.2:80", 6 * S);
        assert!(routes.answered(&now, true, Answer::Unknown, 7 * S));
    }

    /// The connection of that event.
    fn flow(event: &SocketEvent) -> Flow {
        event.into()
    }

    fn from(port: u16, event: SocketEvent) -> SocketEvent {
        SocketEvent {
            local: SocketAddr::from(([192, 0, 2, 7], port)),
            ..event
        }
    }

    #[test]
    fn requests_go_where_their_connection_does() {
        let mut routes = Routes::new();
        let one = from(1, event(1, "10.96.0.1:80", S));
        let (two, three) = (
            from(2, event(2, "10.96.0.1:80", S)),
            from(3, event(3, "10.96.0.1:80", S)),
        );
        let route = |to: &str| Known::Route(Some(to.parse().unwrap()));
        routes.answered(&one, false, to("10.1.0.1:80"), S);
        routes.answered(&two, true, to("10.1.0.2:80"), S);
        assert_eq!(routes.known_flow(&flow(&one), S), route("10.1.0.1:80"));
        assert_eq!(
            routes.known_flow(&flow(&two), 2 * S),
            route("10.1.0.2:80"),
            "it has ended just now"
        );
        assert_eq!(routes.known_flow(&flow(&three), S), Known::Ask);
        routes.answered(&three, false, Answer::Direct, S);
        assert_eq!(routes.known_flow(&flow(&three), S), Known::Route(None));
        // Used again: the later connection is meant.
        let again = from(1, event(4, "10.96.0.1:80", S));
        routes.answered(&again, false, to("10.1.0.3:80"), 2 * S);
        assert_eq!(routes.known_flow(&flow(&one), 2 * S), route("10.1.0.3:80"));
        assert_eq!(routes.known(&again, true, 3 * S), route("10.1.0.3:80"));
        routes.expire(4 * S);
        assert_eq!(routes.known_flow(&flow(&one), 4 * S), route("10.1.0.3:80"));
        assert_eq!(routes.known_flow(&flow(&two), 4 * S), Known::Ask);
        routes.expire(5 * S);
        assert_eq!(
            routes.known_flow(&flow(&one), 5 * S),
            Known::Ask,
            "a moment after its end"
        );
    }

    #[test]
    fn requests_that_come_before_their_connection_are_asked_for_once() {
        let mut routes = Routes::new();
        let service = flow(&from(1, event(1, "10.96.0.1:80", S)));
        assert_eq!(routes.known_flow(&service, S), Known::Ask);
        assert!(!routes.answered_flow(service, to("10.1.0.1:80"), S));
        let backend = Known::Route(Some("10.1.0.1:80".parse().unwrap()));
        assert_eq!(routes.known_flow(&service, S), backend);
        for seconds in [500, 1000, 1500] {
            routes.expire(seconds * S);
            assert_eq!(routes.known_flow(&service, seconds * S), backend, "it goes on");
        }
        // The class of a service is that of its connections, too.
        let second = flow(&from(2, event(2, "10.96.0.1:81", S)));
        assert!(!routes.answered_flow(second, to("10.1.0.1:81"), S));
        assert_eq!(
            routes.known(&from(3, event(3, "10.96.0.1:81", S)), false, S),
            Known::Ask
        );

        let direct = flow(&from(4, event(4, "10.0.0.1:80", S)));
        assert!(
            routes.answered_flow(direct, Answer::Direct, S),
            "nobody has to be asked any more"
        );
        assert_eq!(
            routes.known(&from(5, event(5, "10.0.0.1:80", S)), true, S),
            Known::Route(None)
        );
        let before = routes.tables()[2].1;
        // What nothing is known of may have ended long ago: others are asked for, it is not.
        let unknown = flow(&from(6, event(6, "10.0.0.2:80", S)));
        assert!(!routes.answered_flow(unknown, Answer::Unknown, S));
        assert_eq!(routes.known_flow(&unknown, S), Known::Route(None));
        assert_eq!(routes.known(&from(7, event(7, "10.0.0.2:80", S)), false, S), Known::Ask);
        assert_eq!(routes.tables()[2].1, before + 1);
        routes.expire(11 * S);
        assert_eq!(routes.tables()[2].1, before, "nor is it kept long");
        assert!(!routes.answered_flow(unknown, Answer::Unknown, 11 * S));
        routes.forget_direct();
        assert_eq!(routes.known_flow(&unknown, 11 * S), Known::Ask);
        assert_eq!(routes.known_flow(&service, 1500 * S), backend);
    }
}
