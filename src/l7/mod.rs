//! What was asked and answered on a socket: segments in, sums per reading out. Pure: no actor, no clock, no I/O; payload
//! goes no further than this. A protocol is a directory: it frames, parses and pairs, and adds up in [`sums`].
#![deny(clippy::indexing_slicing, clippy::string_slice)]
mod connection;
pub mod dialogue;
pub mod dns;
pub mod http;
pub mod memcached;
pub mod postgres;
pub mod redis;
mod sums;
pub mod watch;

pub use connection::{Begin, Between, Counted, End, Part, PassOver};

use crate::{
    config::Pattern,
    decode::{DnsAnswered, DnsRequests, DnsUnanswered, Exchanges, Owner, Unparsed, UnparsedReason},
};
use connection::Connections;
use std::collections::BTreeMap;
use sums::Sums;
use watch::{Told, Watch};

/// What segments come by: of datagrams each is a message, of a stream any piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    Datagram,
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Sent,
    Received,
}

/// What a process has sent or received at once on one socket.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Its cookie.
    pub socket: u64,
    /// Who sent or received it.
    pub owner: Owner,
    pub transport: Transport,
    pub direction: Direction,
    /// Of a stream: bytes that went this way before, since the kernel first saw the socket. A jump means that segments
    /// are missing.
    pub position: u64,
    /// All bytes of it.
    pub len: u32,
    /// The first of them: fewer where the kernel did not take all, none where they were not to be had.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// The kernel took nothing of it.
    fn is_unreadable(&self) -> bool {
        self.payload.is_empty() && self.len > 0
    }

    /// Never more than there was.
    fn bytes(&self) -> &[u8] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        self.payload.get(..len).unwrap_or(self.payload)
    }
}

/// Of everything that is kept between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// On which questions wait, and as many again that are streams. For more of them the longest idle ones make room.
    pub sockets: usize,
    /// That wait on one socket. For more of them the oldest make room, as unanswered.
    pub questions_per_socket: usize,
    /// That wait on all sockets. More are not counted.
    pub questions: usize,
    /// Of one message, for each direction of a stream, and as many again of segments that came too early. The rest of a
    /// longer message counts as cut off.
    pub stream_bytes: usize,
    /// Whose words are read. For more of them the longest idle ones make room.
    pub connections: usize,
    /// Of a body: where so many bytes are still to come, they are passed over.
    pub body_bytes: u64,
}

/// What is kept, for the agent's own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// On which questions wait.
    pub sockets: usize,
    pub questions: usize,
    /// Answers that wait for their question to be seen.
    pub early_answers: usize,
    pub streams: usize,
    pub stream_bytes: usize,
    /// Sockets and streams that had to make room, ever. Their questions went unanswered.
    pub evicted: u64,
    /// Whose words are read.
    pub connections: usize,
    pub connection_bytes: usize,
    /// Of them, ever.
    pub connections_evicted: u64,
}

/// Of one reading, added up and in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// In the order in which they came: the later one is right.
    pub answers: Vec<DnsAnswered>,
    pub requests: Vec<DnsRequests>,
    pub unanswered: Vec<DnsUnanswered>,
    pub unparsed: Vec<Unparsed>,
    pub exchanges: Vec<Exchanges>,
    /// In the order in which they were answered; of those that are watched alone.
    pub told: Vec<Told>,
    /// More of them, by tgid.
    pub untold: BTreeMap<u32, u64>,
    /// Sockets, by cookie, of whose words nothing can be made: the kernel may keep them.
    pub given_up: Vec<u64>,
    /// On which bodies go by.
    pub passed_over: Vec<PassOver>,
    /// Those that have ended.
    pub ended: Vec<u64>,
}

pub struct Sessions {
    dns: dns::Dns,
    connections: Connections,
    sums: Sums,
}

impl Sessions {
    pub fn new(limits: Limits) -> Self {
        Self {
            dns: dns::Dns::new(limits),
            connections: Connections::new(limits),
            sums: Sums::default(),
        }
    }

    /// Requests for such targets are not counted from now on.
    pub fn leave_out(&mut self, targets: &[Pattern]) {
        self.connections.leave_out(targets);
    }

    /// Exchanges of those are told of from now on, and of nobody else.
    pub fn watch(&mut self, watch: Watch) {
        self.connections.watch(watch);
    }

    pub fn apply(&mut self, segment: &Segment<'_>) {
        self.dns.apply(segment, &mut self.sums);
    }

    /// What was said on a connection.
    pub fn hear(&mut self, part: &Part<'_>) {
        self.connections.apply(part, &mut self.sums);
    }

    /// What the kernel has counted.
    pub fn count(&mut self, counted: Counted) {
        let Counted {
            exchanges,
            unanswered,
            ended,
        } = counted;
        let (owner, protocol) = (exchanges.owner, exchanges.protocol);
        if exchanges.latency.count() > 0 {
            self.sums.exchanges(Some(exchanges));
        }
        self.sums
            .unparsed_many(&owner, protocol, UnparsedReason::Unanswered, unanswered);
        if let Some(end) = ended {
            self.connections.ended(&end, (&owner, protocol), &mut self.sums);
        }
    }

    /// Once per reading of the ring. Also lets go what is old.
    pub fn take(&mut self, now_ns: u64) -> Output {
        self.dns.expire(now_ns, &mut self.sums);
        self.connections.take(now_ns, &mut self.sums);
        let connection::News {
            given_up,
            passed_over,
            ended,
        } = self.connections.news();
        Output {
            given_up,
            passed_over: passed_over.into_values().collect(),
            ended,
            ..self.sums.take()
        }
    }

    pub fn fill(&self) -> Fill {
        let (connections, connection_bytes, connections_evicted) = self.connections.fill();
        Fill {
            connections,
            connection_bytes,
            connections_evicted,
            ..self.dns.fill()
        }
    }
}
