//! DNS, by datagrams and by streams.
//!
//! A question sent or an answer received makes a client, the other two a server. An answer counts with the question that it
//! repeats, on the same socket and with the same id; anybody can send datagrams to a socket, so one that nobody has asked
//! for counts as that and teaches nobody a name.
mod answers;
pub mod domain;
mod message;
mod name;
mod stream;
mod waiting;

use super::{Direction, Fill, Limits, Segment, Transport, sums::Request, sums::Sums};
use crate::{
    base::table::Table,
    decode::{DnsAnswered, DnsStatus, Owner, Protocol, Role, UnparsedReason},
};
use message::{Answer, Body, ParseError};
use std::net::IpAddr;
use stream::{Piece, Stream};
use waiting::{Asked, Early, EarlyAnswers, Line, Questions, Waiting};

/// Then a stream's place is forgotten. It is found again at the next message.
const IDLE_NS: u64 = 120_000_000_000;

pub(super) struct Dns {
    exchanges: Exchanges,
    streams: Table<u64, Connection>,
    stream_bytes: usize,
    /// Before that no stream has been idle for long.
    idle_ns: u64,
    evicted: u64,
}

struct Connection {
    sent: Stream,
    received: Stream,
    owner: Owner,
    last_ns: u64,
}

impl Connection {
    /// What has begun is never to be completed.
    fn end(&mut self, socket: u64, exchanges: &mut Exchanges, sums: &mut Sums) {
        for (stream, direction) in [
            (&mut self.sent, Direction::Sent),
            (&mut self.received, Direction::Received),
        ] {
            let heard = Heard {
                socket,
                owner: self.owner,
                direction,
                time_ns: self.last_ns,
            };
            stream.end(&mut |piece| exchanges.piece(heard, &piece, sums));
        }
    }
}

impl Dns {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            exchanges: Exchanges {
                questions: Questions::new(limits),
                early: EarlyAnswers::default(),
            },
            streams: Table::new(limits.sockets),
            stream_bytes: limits.stream_bytes.max(message::MIN_LEN),
            idle_ns: u64::MAX,
            evicted: 0,
        }
    }

    pub(super) fn apply(&mut self, segment: &Segment<'_>, sums: &mut Sums) {
        let heard = Heard {
            socket: segment.socket,
            owner: segment.owner,
            direction: segment.direction,
            time_ns: segment.time_ns,
        };
        match segment.transport {
            Transport::Datagram if segment.is_unreadable() => {
                sums.unparsed(&segment.owner, Protocol::Dns, UnparsedReason::Unreadable);
            }
            Transport::Datagram => {
                let piece = Piece::Message {
                    bytes: segment.bytes(),
                    cut: segment.bytes().len() < segment.len as usize,
                    began_ns: segment.time_ns,
                };
                self.exchanges.piece(heard, &piece, sums);
            }
            // The end of a stream.
            Transport::Stream if segment.len == 0 => {}
            Transport::Stream => self.stream(segment, heard, sums),
        }
    }

    fn stream(&mut self, segment: &Segment<'_>, heard: Heard, sums: &mut Sums) {
        if self.streams.len() >= self.streams.capacity() && !self.streams.contains_key(&heard.socket) {
            self.make_room(sums);
        }
        let new = || Connection {
            sent: Stream::new(),
            received: Stream::new(),
            owner: heard.owner,
            last_ns: heard.time_ns,
        };
        let Some(connection) = self.streams.get_or_insert_with(heard.socket, new) else {
            return sums.unparsed(&heard.owner, Protocol::Dns, UnparsedReason::Crowded);
        };
        connection.owner = heard.owner;
        connection.last_ns = connection.last_ns.max(heard.time_ns);
        self.idle_ns = self.idle_ns.min(connection.last_ns.saturating_add(IDLE_NS));
        let stream = match heard.direction {
            Direction::Sent => &mut connection.sent,
            Direction::Received => &mut connection.received,
        };
        let exchanges = &mut self.exchanges;
        stream.feed(segment, self.stream_bytes, &mut |piece| {
            exchanges.piece(heard, &piece, sums);
        });
    }

    /// Once per reading.
    pub(super) fn expire(&mut self, now_ns: u64, sums: &mut Sums) {
        if now_ns >= self.idle_ns {
            let mut idle_ns = u64::MAX;
            let exchanges = &mut self.exchanges;
            self.streams.retain(|socket, connection| {
                let stays = now_ns.saturating_sub(connection.last_ns) < IDLE_NS;
                if stays {
                    idle_ns = idle_ns.min(connection.last_ns.saturating_add(IDLE_NS));
                } else {
                    connection.end(*socket, exchanges, sums);
                }
                stays
            });
            self.idle_ns = idle_ns;
        }
        self.exchanges.expire(now_ns, sums);
    }

    /// Several at a time: all have to be looked at.
    fn make_room(&mut self, sums: &mut Sums) {
        let mut last: Vec<_> = self
            .streams
            .iter()
            .map(|(socket, connection)| (connection.last_ns, *socket))
            .collect();
        let go = last.len().div_ceil(16);
        if go == 0 {
            return;
        }
        let limit = *last.select_nth_unstable(go - 1).1;
        let exchanges = &mut self.exchanges;
        self.streams.retain(|socket, connection| {
            let stays = (connection.last_ns, *socket) > limit;
            if !stays {
                connection.end(*socket, exchanges, sums);
            }
            stays
        });
        self.evicted += go as u64;
    }

    pub(super) fn fill(&self) -> Fill {
        let buffered = |connection: &Connection| connection.sent.buffered() + connection.received.buffered();
        Fill {
            sockets: self.exchanges.questions.sockets(),
            questions: self.exchanges.questions.len(),
            early_answers: self.exchanges.early.len(),
            streams: self.streams.len(),
            stream_bytes: self.streams.values().map(buffered).sum(),
            evicted: self.evicted + self.exchanges.questions.evicted(),
        }
    }
}

/// Where and when.
#[derive(Clone, Copy)]
struct Heard {
    socket: u64,
    owner: Owner,
    direction: Direction,
    /// Of its last byte.
    time_ns: u64,
}

struct Exchanges {
    questions: Questions,
    early: EarlyAnswers,
}

/// Of an answer, what counts.
struct Said {
    status: DnsStatus,
    addresses: Vec<IpAddr>,
    /// Its first byte.
    time_ns: u64,
}

impl Exchanges {
    fn piece(&mut self, heard: Heard, piece: &Piece<'_>, sums: &mut Sums) {
        let reason = match *piece {
            Piece::Lost(reason) => reason,
            Piece::Message { bytes, cut, began_ns } => {
                // What is received teaches the one who asked.
                match message::parse(bytes, cut, heard.direction == Direction::Received) {
                    Ok(message) => return self.message(heard, message.id, message.body, began_ns, sums),
                    Err(ParseError::Short) if cut => UnparsedReason::Cut,
                    Err(ParseError::Short | ParseError::Malformed) => UnparsedReason::Malformed,
                    Err(ParseError::Unsupported) => UnparsedReason::Unsupported,
                }
            }
        };
        sums.unparsed(&heard.owner, Protocol::Dns, reason);
    }

    fn message(&mut self, heard: Heard, id: u16, body: Body, began_ns: u64, sums: &mut Sums) {
        let role = match (&body, heard.direction) {
            (Body::Question(_), Direction::Sent) | (Body::Answer(_), Direction::Received) => Role::Client,
            (Body::Question(_), Direction::Received) | (Body::Answer(_), Direction::Sent) => Role::Server,
        };
        let line = Line {
            socket: heard.socket,
            role,
            id,
        };
        match body {
            Body::Question(question) => {
                let waiting = Waiting {
                    asked: Asked::from(&question),
                    owner: heard.owner,
                    time_ns: heard.time_ns,
                };
                self.question(line, waiting, sums);
            }
            Body::Answer(answer) => self.answer(line, heard.owner, answer, began_ns, sums),
        }
    }

    fn question(&mut self, line: Line, waiting: Waiting, sums: &mut Sums) {
        if let Some(early) = self.early.take(line, &waiting) {
            let said = Said {
                status: early.status,
                addresses: early.addresses,
                time_ns: early.time_ns,
            };
            return exchange(line.role, &waiting, said, sums);
        }
        let owner = waiting.owner;
        let asked = self.questions.ask(line, waiting, &mut |owner| sums.unanswered(owner));
        if asked.is_err() {
            sums.unparsed(&owner, Protocol::Dns, UnparsedReason::Crowded);
        }
    }

    fn answer(&mut self, line: Line, owner: Owner, answer: Answer, time_ns: u64, sums: &mut Sums) {
        let Answer {
            status,
            question,
            addresses,
        } = answer;
        if let Some(waiting) = self.questions.answer(line, question.as_ref(), time_ns) {
            let said = Said {
                status,
                addresses,
                time_ns,
            };
            return exchange(line.role, &waiting, said, sums);
        }
        let early = Early {
            line,
            question: question.as_ref().map(Asked::from),
            status,
            addresses,
            owner,
            time_ns,
            readings: 0,
        };
        if let Some(oldest) = self.early.push(early) {
            unasked(&oldest, sums);
        }
    }

    fn expire(&mut self, now_ns: u64, sums: &mut Sums) {
        self.early.expire(now_ns, &mut |early| unasked(early, sums));
        self.questions.expire(now_ns, &mut |owner| sums.unanswered(owner));
    }
}

fn unasked(answer: &Early, sums: &mut Sums) {
    sums.unparsed(&answer.owner, Protocol::Dns, UnparsedReason::Unasked);
}

/// A question has its answer. One without any record counts like others: the Go agent leaves out those about `AAAA`, and
/// with them half of what a resolver asks about a host without IPv6.
fn exchange(role: Role, waiting: &Waiting, said: Said, sums: &mut Sums) {
    let Asked { name, kind, .. } = &waiting.asked;
    let request = Request {
        owner: waiting.owner,
        role,
        question_type: *kind,
        domain: domain::domain(name, *kind),
        status: said.status,
    };
    sums.request(request, said.time_ns.saturating_sub(waiting.time_ns));
    if role == Role::Client
        && !said.addresses.is_empty()
        && let Some(text) = name::text(name)
    {
        sums.answer(DnsAnswered {
            name: text.into(),
            addresses: said.addresses,
        });
    }
}
