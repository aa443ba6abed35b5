//! From the payload ring to requests.
use super::batch::records;
use crate::{
    base::{ledger::Counts, now::Now},
    decode::{self, DnsAnswered, Event},
    l7::{Fill, Limits, Sessions},
};

/// Name servers that work for a whole cluster have some thousand questions under way.
const LIMITS: Limits = Limits {
    sockets: 16_384,
    questions_per_socket: 1024,
    questions: 65_536,
    stream_bytes: 4096,
};

/// Makes requests of what is said. What of it has not been answered yet goes with the actor; streams are found again.
pub(super) struct Said {
    sessions: Sessions,
}

/// Of one reading.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// In a fixed order.
    pub(super) events: Vec<Event>,
    pub(super) answers: Vec<DnsAnswered>,
    pub(super) counts: Counts,
    pub(super) malformed: Counts,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            sessions: Sessions::new(LIMITS),
        }
    }
}

impl Said {
    /// Also where nothing was said: questions grow old.
    pub(super) fn read(&mut self, payload: &[u8], now: Now) -> Heard {
        let mut heard = Heard::default();
        for record in records(payload) {
            let Some(kind) = decode::kind_of(record) else { continue };
            heard.counts.add(kind, 1);
            match decode::segment(record) {
                Ok(segment) => self.sessions.apply(&segment),
                Err(_) => heard.malformed.add(kind, 1),
            }
        }
        let output = self.sessions.take(now.monotonic_ns);
        heard.events.extend(output.requests.into_iter().map(Event::DnsAsked));
        heard
            .events
            .extend(output.unanswered.into_iter().map(Event::DnsUnanswered));
        heard.events.extend(output.unparsed.into_iter().map(Event::Unparsed));
        heard.answers = output.answers;
        heard
    }

    /// Tables with their entries, limits and how often somebody had to make room.
    pub(super) fn tables(&self) -> [(&'static str, usize, usize, u64); 3] {
        let Fill {
            sockets,
            questions,
            streams,
            evicted,
            ..
        } = self.sessions.fill();
        [
            ("dns_sockets", sockets, LIMITS.sockets, evicted),
            ("dns_questions", questions, LIMITS.questions, 0),
            ("dns_streams", streams, LIMITS.sockets, 0),
        ]
    }
}
