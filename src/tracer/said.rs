//! From the payload ring to requests.
use crate::{
    base::{ledger::Counts, now::Now},
    config::L7,
    decode::{self, DnsAnswered, Event},
    l7::{
        Counted, Fill, Limits, PassOver, Sessions,
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
    body_bytes: 64 << 10,
};

/// Makes requests of what is said. What of it has not been answered yet goes with the actor; streams are found again.
pub(super) struct Said {
    sessions: Sessions,
    counts: Counts,
    malformed: Counts,
    /// Connections that have ended, and not in the ring: there may be some of their words in it.
    ended: Vec<Counted>,
    /// When the last of what the ring had was said.
    heard_ns: u64,
}

/// Of one reading.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// In a fixed order.
    pub(super) events: Vec<Event>,
    pub(super) answers: Vec<DnsAnswered>,
    /// Sockets of which nothing more is wanted, those on which bodies go by, and those that have ended.
    pub(super) given_up: Vec<u64>,
    pub(super) passed_over: Vec<PassOver>,
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
            ended: Vec::new(),
            heard_ns: 0,
        }
    }
}

impl Said {
    /// One record of the ring.
    pub(super) fn hear(&mut self, record: &[u8]) {
        let Some(kind) = decode::kind_of(record) else { return };
        self.counts.add(kind, 1);
        let heard = match kind {
            kind::SEGMENT => decode::part(record).map(|part| {
                self.heard_ns = self.heard_ns.max(part.time_ns);
                self.sessions.hear(&part);
            }),
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
            match decode::counted(row) {
                Ok(counted) if counted.ended.is_some() => self.ended.push(counted),
                Ok(counted) => self.sessions.count(counted),
                Err(_) => {}
            }
        }
    }

    /// After each reading of the ring. `all`: there was nothing left in it. What came later than an end in the ring came in
    /// after all that was said before it.
    pub(super) fn end(&mut self, all: bool) {
        let heard_ns = self.heard_ns;
        let is_over = |counted: &mut Counted| all || counted.ended.is_some_and(|end| end.time_ns < heard_ns);
        for counted in self.ended.extract_if(.., is_over) {
            self.sessions.count(counted);
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
            passed_over: output.passed_over,
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

#[cfg(test)]
mod tests {
    use super::*;
    use tarsier_common::{Ends, Header, Owner, StreamRecord, exchange, stream_flag};
    use zerocopy::IntoBytes;

    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
    const PONG: &[u8] = b"+PONG\r\n";
    /// AF_INET.
    const V4: u16 = 2;

    fn ends() -> Ends {
        Ends {
            family: V4,
            ..Ends::default()
        }
    }

    fn header(kind: u16, time_ns: u64, len: usize) -> Header {
        Header {
            time_ns,
            kind,
            flags: 0,
            len: u32::try_from(len).unwrap(),
        }
    }

    fn segment(time_ns: u64, cookie: u64, direction: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap();
        let record = StreamRecord {
            header: header(kind::SEGMENT, time_ns, size_of::<StreamRecord>() + payload.len()),
            owner: Owner::default(),
            ends: ends(),
            cookie,
            len,
            copied: len,
            protocol: exchange::protocol::REDIS,
            role: exchange::SEND,
            direction,
            flags: flags | stream_flag::LAST,
            ..StreamRecord::default()
        };
        [record.as_bytes(), payload].concat()
    }

    /// Of a connection on which a command was made.
    fn end(time_ns: u64, cookie: u64) -> Vec<u8> {
        let record = ExchangesRecord {
            header: header(kind::EXCHANGES, time_ns, size_of::<ExchangesRecord>()),
            ends: ends(),
            cookie,
            sent: PING.len() as u64,
            received: PONG.len() as u64,
            protocol: exchange::protocol::REDIS,
            role: exchange::SEND,
            flags: stream_flag::END,
            lane: exchange::lane::RECORDS,
            ..ExchangesRecord::default()
        };
        record.as_bytes().to_vec()
    }

    /// What comes of a reading.
    fn read(said: &mut Said, all: bool, now_ns: u64) -> (u64, u64, Vec<u64>) {
        said.end(all);
        let heard = said.take(Now {
            monotonic_ns: now_ns,
            ..Now::default()
        });
        let (mut exchanges, mut unparsed) = (0, 0);
        for event in &heard.events {
            match event {
                Event::Exchanges(of) => exchanges += of.latency.count(),
                Event::Unparsed(of) => unparsed += of.count,
                other => panic!("{other:?}"),
            }
        }
        (exchanges, unparsed, heard.ended)
    }

    #[test]
    fn a_connection_that_has_ended_elsewhere_ends_behind_what_the_ring_has_of_it() {
        let mut said = Said::default();
        // Of two that have ended with a full ring. More is in that than one reading takes.
        said.count(&[end(20, 7), end(40, 8)].concat());
        said.hear(&segment(1, 7, exchange::SEND, stream_flag::BEGIN, PING));
        assert_eq!(read(&mut said, false, 50), (0, 0, vec![]));
        said.hear(&segment(2, 7, exchange::RECEIVE, 0, PONG));
        said.hear(&segment(30, 8, exchange::SEND, stream_flag::BEGIN, PING));
        assert_eq!(read(&mut said, false, 60), (1, 0, vec![7]));
        said.hear(&segment(31, 8, exchange::RECEIVE, 0, PONG));
        assert_eq!(read(&mut said, true, 70), (1, 0, vec![8]));
        assert_eq!(said.tables()[3].1, 0, "both are forgotten");
    }

    #[test]
    fn what_an_end_comes_to_without_its_last_words() {
        let mut said = Said::default();
        said.hear(&segment(1, 7, exchange::SEND, stream_flag::BEGIN, PING));
        // In the ring, in its turn.
        said.hear(&end(20, 7));
        assert_eq!(read(&mut said, true, 50), (0, 1, vec![7]));
    }
}
