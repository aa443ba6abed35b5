//! What is known of where connections go.
//!
//! | its destination | a connection there |
//! | --- | --- |
//! | new | is asked for |
//! | the last answer was the destination itself | is not asked for, for a minute |
//! | the last answer was another address | is asked for, each one: there may be several |
use super::{actor::Fill, netlink::Answer};
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
pub(super) struct Routes {
    classes: Table<Place, Class>,
    sockets: Table<SocketId, Open>,
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
        }
    }

    pub(super) fn known(&mut self, event: &SocketEvent, ended: bool, now_ns: u64) -> Known {
        if let Some(open) = self.sockets.get_mut(&event.socket) {
            let actual = open.actual;
            open.seen_ns = now_ns;
            if ended {
                self.sockets.remove(&event.socket);
            }
            return Known::Route(actual);
        }
        match self.classes.get(&(event.netns, event.remote)) {
            Some(Class::Direct { .. }) => Known::Route(None),
            Some(Class::Translated { .. }) | None => Known::Ask,
        }
    }

    /// `true`: from now on, nobody has to be asked about this destination.
    pub(super) fn answered(&mut self, event: &SocketEvent, ended: bool, answer: Answer, now_ns: u64) -> bool {
        let place = (event.netns, event.remote);
        let translated = matches!(self.classes.get(&place), Some(Class::Translated { .. }));
        let actual = match answer {
            Answer::To(actual) => {
                let class = Class::Translated { last_ns: now_ns };
                // Without room it is asked for all the same.
                drop(self.classes.insert(place, class));
                Some(actual)
            }
            Answer::Direct | Answer::Unknown => None,
        };
        if !ended && (translated || actual.is_some()) {
            let open = Open {
                actual,
                seen_ns: now_ns,
            };
            drop(self.sockets.insert(event.socket, open));
        }
        // It may have been known until a moment ago.
        let forgotten = answer == Answer::Unknown && ended && now_ns.saturating_sub(event.time_ns) > REMEMBERED_NS;
        if translated || actual.is_some() || forgotten {
            return false;
        }
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
        again
    }

    /// Somebody can be asked who could not before.
    pub(super) fn forget_direct(&mut self) {
        self.classes.retain(|_, class| !matches!(class, Class::Direct { .. }));
    }

    pub(super) fn tables(&self) -> [Fill; 2] {
        let (classes, sockets) = (&self.classes, &self.sockets);
        [
            ("route_classes", classes.len(), classes.capacity(), classes.rejected()),
            (
                "translated_sockets",
                sockets.len(),
                sockets.capacity(),
                sockets.rejected(),
            ),
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
        assert_eq!(routes.tables().map(|(_, len, _, _)| len), [0, 0]);
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
}
