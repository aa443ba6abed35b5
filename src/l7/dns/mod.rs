//! DNS, by datagrams and by streams.
//!
//! A question sent or an answer received makes a client, the other two a server. An answer counts with the question that it
//! repeats, on the same socket and with the same id; anybody can send datagrams to a socket, so one that nobody has asked
//! for counts as that and teaches nobody a name.
mod answers;
pub mod domain;
mod message;
mod name;
mod order;
mod stream;
mod waiting;

use super::{Direction, Fill, Limits, Segment, Transport, sums::Request, sums::Sums};
use crate::{
    base::table::Table,
    decode::{DnsAnswered, DnsStatus, Owner, Protocol, Role, UnparsedReason},
};
use message::{Answer, Body, Message, ParseError, Question};
use order::Way;
use std::{collections::BTreeSet, net::IpAddr};
use stream::Piece;
use waiting::{Early, EarlyAnswers, Line, Questions, Waiting};

/// Then a connection is forgotten. The place in it is found again at the next message.
const IDLE_NS: u64 = 120_000_000_000;

/// Of all streams together. For more of them the longest idle ones make room.
const MAX_BUFFERED: usize = 8 << 20;

pub(super) struct Dns {
    exchanges: Exchanges,
    connections: Table<u64, Connection>,
    /// Of which segments wait for others that went before.
    waiting: BTreeSet<u64>,
    stream_bytes: usize,
    /// Of all streams.
    buffered: usize,
    /// Before that no connection has been idle for long.
    idle_ns: u64,
    evicted: u64,
}

struct Connection {
    sent: Way,
    received: Way,
    /// Of the last message: who asks does not answer. After a hole, what is within a message may look like one.
    role: Option<Role>,
    owner: Owner,
    last_ns: u64,
}

impl Connection {
    fn buffered(&self) -> usize {
        self.sent.buffered() + self.received.buffered()
    }

    fn ways(&mut self) -> ([&mut Way; 2], &mut Option<Role>) {
        ([&mut self.sent, &mut self.received], &mut self.role)
    }

    /// What has begun is never to be completed.
    fn end(&mut self, stream_bytes: usize, exchanges: &mut Exchanges, sums: &mut Sums) {
        let last = (self.owner, self.last_ns);
        let (ways, role) = self.ways();
        for way in ways {
            way.end(last, stream_bytes, &mut |segment, piece| {
                exchanges.piece(segment, &piece, role, sums);
            });
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
            connections: Table::new(limits.sockets),
            waiting: BTreeSet::new(),
            stream_bytes: limits.stream_bytes.max(message::MIN_LEN),
            buffered: 0,
            idle_ns: u64::MAX,
            evicted: 0,
        }
    }

    pub(super) fn apply(&mut self, segment: &Segment<'_>, sums: &mut Sums) {
        match segment.transport {
            Transport::Datagram if segment.is_unreadable() => {
                sums.unparsed(&segment.owner, Protocol::Dns, UnparsedReason::Unreadable);
            }
            Transport::Datagram => {
                let bytes = segment.bytes();
                let piece = Piece::Message {
                    bytes,
                    cut: (bytes.len() as u64) < u64::from(segment.len),
                    began_ns: segment.time_ns,
                };
                self.exchanges.piece(segment, &piece, &mut None, sums);
            }
            // The end of a stream.
            Transport::Stream if segment.len == 0 => {}
            Transport::Stream => self.stream(segment, sums),
        }
    }

    fn stream(&mut self, segment: &Segment<'_>, sums: &mut Sums) {
        let socket = segment.socket;
        if self.connections.len() >= self.connections.capacity() && !self.connections.contains_key(&socket) {
            self.make_room(sums);
        }
        let new = || Connection {
            sent: Way::new(socket, Direction::Sent),
            received: Way::new(socket, Direction::Received),
            role: None,
            owner: segment.owner,
            last_ns: segment.time_ns,
        };
        let Some(connection) = self.connections.get_or_insert_with(socket, new) else {
            return sums.unparsed(&segment.owner, Protocol::Dns, UnparsedReason::Crowded);
        };
        connection.owner = segment.owner;
        connection.last_ns = connection.last_ns.max(segment.time_ns);
        self.idle_ns = self.idle_ns.min(connection.last_ns.saturating_add(IDLE_NS));
        let way = match segment.direction {
            Direction::Sent => &mut connection.sent,
            Direction::Received => &mut connection.received,
        };
        let exchanges = &mut self.exchanges;
        self.buffered -= way.buffered();
        let role = &mut connection.role;
        way.feed(segment, self.stream_bytes, &mut |segment, piece| {
            exchanges.piece(segment, &piece, role, sums);
        });
        self.buffered += way.buffered();
        if way.is_waiting() {
            self.waiting.insert(socket);
        }
        while self.buffered > MAX_BUFFERED {
            self.make_room(sums);
        }
    }

    /// Once per reading.
    pub(super) fn expire(&mut self, now_ns: u64, sums: &mut Sums) {
        self.expire_waiting(now_ns, sums);
        if now_ns >= self.idle_ns {
            let mut idle_ns = u64::MAX;
            let exchanges = &mut self.exchanges;
            self.connections.retain(|_, connection| {
                let stays = now_ns.saturating_sub(connection.last_ns) < IDLE_NS;
                if stays {
                    idle_ns = idle_ns.min(connection.last_ns.saturating_add(IDLE_NS));
                } else {
                    self.buffered -= connection.buffered();
                    connection.end(self.stream_bytes, exchanges, sums);
                }
                stays
            });
            self.idle_ns = idle_ns;
        }
        self.exchanges.expire(now_ns, sums);
    }

    /// Before answers give up: what comes of a segment may be their question.
    fn expire_waiting(&mut self, now_ns: u64, sums: &mut Sums) {
        let (exchanges, connections) = (&mut self.exchanges, &mut self.connections);
        self.waiting.retain(|socket| {
            let Some(connection) = connections.get_mut(socket) else {
                return false;
            };
            self.buffered -= connection.buffered();
            let (ways, role) = connection.ways();
            for way in ways {
                way.expire(now_ns, self.stream_bytes, &mut |segment, piece| {
                    exchanges.piece(segment, &piece, role, sums);
                });
            }
            self.buffered += connection.buffered();
            connection.sent.is_waiting() || connection.received.is_waiting()
        });
    }

    /// Several at a time: all have to be looked at.
    fn make_room(&mut self, sums: &mut Sums) {
        let mut last: Vec<_> = self
            .connections
            .iter()
            .map(|(socket, connection)| (connection.last_ns, *socket))
            .collect();
        let go = last.len().div_ceil(16);
        if go == 0 {
            return;
        }
        let limit = *last.select_nth_unstable(go - 1).1;
        let exchanges = &mut self.exchanges;
        self.connections.retain(|socket, connection| {
            let stays = (connection.last_ns, *socket) > limit;
            if !stays {
                self.waiting.remove(socket);
                self.buffered -= connection.buffered();
                connection.end(self.stream_bytes, exchanges, sums);
            }
            stays
        });
        self.evicted += go as u64;
    }

    pub(super) fn fill(&self) -> Fill {
        Fill {
            sockets: self.exchanges.questions.sockets(),
            questions: self.exchanges.questions.len(),
            early_answers: self.exchanges.early.len(),
            streams: self.connections.len(),
            stream_bytes: self.buffered,
            evicted: self.evicted + self.exchanges.questions.evicted(),
            ..Fill::default()
        }
    }
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
    /// `known`: the role of this end, if it is known.
    fn piece(&mut self, segment: &Segment<'_>, piece: &Piece<'_>, known: &mut Option<Role>, sums: &mut Sums) {
        let reason = match *piece {
            Piece::Lost(reason) => reason,
            Piece::Message { bytes, cut, began_ns } => {
                // What is received teaches the one who asked.
                match message::parse(bytes, cut, segment.direction == Direction::Received) {
                    Ok(message) => {
                        let role = role(&message.body, segment.direction);
                        // Where it was the one before that was none, the next is right again.
                        if known.take().is_none_or(|known| known == role) {
                            *known = Some(role);
                            return self.message(segment, role, message, began_ns, sums);
                        }
                        UnparsedReason::Malformed
                    }
                    Err(ParseError::Short) if cut => UnparsedReason::Cut,
                    Err(ParseError::Short | ParseError::Malformed) => UnparsedReason::Malformed,
                    Err(ParseError::Unsupported) => UnparsedReason::Unsupported,
                }
            }
        };
        sums.unparsed(&segment.owner, Protocol::Dns, reason);
    }

    fn message(&mut self, segment: &Segment<'_>, role: Role, message: Message, began_ns: u64, sums: &mut Sums) {
        let Message { id, body } = message;
        let line = Line {
            socket: segment.socket,
            role,
            id,
        };
        match body {
            Body::Question(question) => {
                let waiting = Waiting {
                    role,
                    question,
                    owner: segment.owner,
                    time_ns: segment.time_ns,
                };
                self.question(line, waiting, sums);
            }
            Body::Answer(answer) => self.answer(line, segment.owner, answer, began_ns, sums),
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
        let asked = self.questions.ask(line, waiting, &mut |waiting| {
            sums.unanswered(&waiting.owner, waiting.role)
        });
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
            question,
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
        self.questions
            .expire(now_ns, &mut |waiting| sums.unanswered(&waiting.owner, waiting.role));
    }
}

fn role(body: &Body, direction: Direction) -> Role {
    match (body, direction) {
        (Body::Question(_), Direction::Sent) | (Body::Answer(_), Direction::Received) => Role::Client,
        (Body::Question(_), Direction::Received) | (Body::Answer(_), Direction::Sent) => Role::Server,
    }
}

fn unasked(answer: &Early, sums: &mut Sums) {
    sums.unparsed(&answer.owner, Protocol::Dns, UnparsedReason::Unasked);
}

/// A question has its answer. One without any record counts like others: the Go agent leaves out those about `AAAA`, and
/// with them half of what a resolver asks about a host without IPv6.
fn exchange(role: Role, waiting: &Waiting, said: Said, sums: &mut Sums) {
    let Question { name, kind, .. } = &waiting.question;
    let request = Request {
        owner: waiting.owner,
        role,
        question_type: *kind,
        domain: domain::domain(name.wire(), *kind),
        status: said.status,
    };
    sums.request(request, said.time_ns.saturating_sub(waiting.time_ns));
    if role == Role::Client
        && !said.addresses.is_empty()
        && let Some(text) = name::text(name.wire())
    {
        sums.answer(DnsAnswered {
            name: text.into(),
            addresses: said.addresses,
        });
    }
}

#[cfg(test)]
mod tests;
