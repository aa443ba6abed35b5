//! From the payload ring to requests.
use crate::{
    base::{ledger::Counts, now::Now},
    config::L7,
    decode::{self, DnsAnswered, Event},
    l7::{
        Fill, Limits, Sessions,
        watch::{Told, Watch},
    },
};
use std::collections::BTreeMap;
use tarsier_common::{ExchangesRecord, kind};

/// What else is bounded is so in `l7`.
///
/// Name servers that work for a whole cluster have some thousand questions under way.
const LIMITS: Limits = Limits {
    sockets: 16_384,
    questions_per_socket: 1024,
    questions: 65_536,
    stream_bytes: 4096,
    connections: 16_384,
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
    /// Sockets of which nothing more is wanted, and those that have ended.
    pub(super) given_up: Vec<u64>,
    pub(super) ended: Vec<u64>,
    /// One by one, of those that are watched, and by tgid how many more there were.
    pub(super) told: Vec<Told>,
    pub(super) untold: BTreeMap<u32, u64>,
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
        let heard = match kind {
            kind::SEGMENT => decode::part(record).map(|part| self.sessions.hear(&part)),
            kind::EXCHANGES => decode::counted(record).map(|counted| self.sessions.count(counted)),
            _ => decode::segment(record).map(|segment| self.sessions.apply(&segment)),
        };
        if heard.is_err() {
            self.malformed.add(kind, 1);
        }
    }

    /// Rows of a pass over what the kernel has counted, and those for whose connections the ring had no room at their ends.
    /// One that makes no sense is in no kind: none of them is in the ring's accounts.
    pub(super) fn count(&mut self, rows: &[u8]) {
        for row in rows.chunks_exact(size_of::<ExchangesRecord>()) {
            if let Ok(counted) = decode::counted(row) {
                self.sessions.count(counted);
            }
        }
    }

    pub(super) fn watch(&mut self, watch: Watch) {
        self.sessions.watch(watch);
    }

    pub(super) fn set(&mut self, l7: &L7) {
        self.sessions.leave_out(&l7.http_leave_out);
    }

    /// At the end of each reading, also where nothing was said: questions grow old.
    pub(super) fn take(&mut self, now: Now) -> Heard {
        let output = self.sessions.take(now.monotonic_ns);
        let asked = output.requests.into_iter().map(Event::DnsAsked);
        let unanswered = output.unanswered.into_iter().map(Event::DnsUnanswered);
        let unparsed = output.unparsed.into_iter().map(Event::Unparsed);
        let exchanged = output.exchanges.into_iter().map(Event::Exchanges);
        Heard {
            events: asked.chain(unanswered).chain(unparsed).chain(exchanged).collect(),
            answers: output.answers,
            given_up: output.given_up,
            ended: output.ended,
            told: output.told,
            untold: output.untold,
            counts: std::mem::take(&mut self.counts),
            malformed: std::mem::take(&mut self.malformed),
        }
    }

    /// Tables with their entries, limits and how often somebody had to make room.
    pub(super) fn tables(&self) -> [(&'static str, usize, usize, u64); 4] {
        let Fill {
            sockets,
            questions,
            streams,
            evicted,
            connections,
            connections_evicted,
            ..
        } = self.sessions.fill();
        [
            ("dns_sockets", sockets, LIMITS.sockets, evicted),
            ("dns_questions", questions, LIMITS.questions, 0),
            ("dns_streams", streams, LIMITS.sockets, 0),
            ("l7_connections", connections, LIMITS.connections, connections_evicted),
        ]
    }
}
