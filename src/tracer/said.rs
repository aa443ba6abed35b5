//! From the payload ring to requests.
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
    counts: Counts,
    malformed: Counts,
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
            counts: Counts::default(),
            malformed: Counts::default(),
        }
    }
}

impl Said {
    /// One record of the ring.
    pub(super) fn hear(&mut self, record: &[u8]) {
        let Some(kind) = decode::kind_of(record) else { return };
        self.counts.add(kind, 1);
        match decode::segment(record) {
            Ok(segment) => self.sessions.apply(&segment),
            Err(_) => self.malformed.add(kind, 1),
        }
    }

    /// At the end of each reading, also where nothing was said: questions grow old.
    pub(super) fn take(&mut self, now: Now) -> Heard {
        let output = self.sessions.take(now.monotonic_ns);
        let asked = output.requests.into_iter().map(Event::DnsAsked);
        let unanswered = output.unanswered.into_iter().map(Event::DnsUnanswered);
        let unparsed = output.unparsed.into_iter().map(Event::Unparsed);
        Heard {
            events: asked.chain(unanswered).chain(unparsed).collect(),
            answers: output.answers,
            counts: std::mem::take(&mut self.counts),
            malformed: std::mem::take(&mut self.malformed),
        }
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
