//! Both sides of a connection, through the front door.
mod cuts;
mod holes;
mod limits;
mod model;
mod properties;
mod vectors;
mod watched;

use super::Redis;
use crate::{
    decode::UnparsedReason,
    l7::dialogue::{
        Dialogue, Exchange, Handover, Hearer, Piece,
        Side::{self, Client, Server},
        Status,
    },
};
use std::collections::BTreeMap;

#[derive(Default)]
struct Heard {
    watches: bool,
    exchanges: Vec<Exchange>,
    unparsed: BTreeMap<UnparsedReason, u64>,
}

impl Hearer for Heard {
    fn watches(&self) -> bool {
        self.watches
    }

    fn leaves_out(&self, _target: &[u8]) -> bool {
        panic!("only HTTP asks that");
    }

    fn exchanged(&mut self, exchange: Exchange) {
        self.exchanges.push(exchange);
    }

    fn unparsed(&mut self, reason: UnparsedReason, count: u64) {
        assert_ne!(count, 0);
        *self.unparsed.entry(reason).or_default() += count;
    }
}

/// A connection. Each piece comes a nanosecond later.
struct Line {
    redis: Redis,
    heard: Heard,
    now_ns: u64,
}

impl Line {
    fn new() -> Self {
        Self {
            redis: Redis::new(),
            heard: Heard::default(),
            now_ns: 0,
        }
    }

    fn watched() -> Self {
        let mut line = Self::new();
        line.heard.watches = true;
        line
    }

    fn after(handover: Handover) -> Self {
        let mut line = Self::new();
        line.redis.take_over(handover);
        line.now_ns = handover.asked_ns;
        line
    }

    fn piece(&mut self, side: Side, bytes: impl AsRef<[u8]>, starts: bool) -> &mut Self {
        self.now_ns += 1;
        let piece = Piece {
            time_ns: self.now_ns,
            bytes: bytes.as_ref(),
            starts,
        };
        self.redis.hear(side, &piece, &mut self.heard);
        self
    }

    fn client(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.piece(Client, bytes, true)
    }

    fn server(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.piece(Server, bytes, true)
    }

    fn miss(&mut self, side: Side, bytes: u64) -> &mut Self {
        self.redis.miss(side, bytes, UnparsedReason::Cut, &mut self.heard);
        self
    }

    fn end(&mut self) -> &mut Self {
        self.redis.end(&mut self.heard);
        assert_eq!(self.redis.buffered(), 0);
        self
    }

    /// `+` and `-`, in their order.
    fn statuses(&self) -> String {
        let status = |exchange: &Exchange| match exchange.status {
            Status::Ok => '+',
            Status::Failed => '-',
            Status::Code(code) => panic!("{code} is not Redis'"),
        };
        self.heard.exchanges.iter().map(status).collect()
    }

    fn times(&self) -> Vec<(u64, u64)> {
        let times = |exchange: &Exchange| (exchange.asked_ns, exchange.replied_ns);
        self.heard.exchanges.iter().map(times).collect()
    }

    fn unparsed(&self) -> Vec<(UnparsedReason, u64)> {
        self.heard
            .unparsed
            .iter()
            .map(|(reason, count)| (*reason, *count))
            .collect()
    }

    /// A command and its reply are right.
    fn is_right(&mut self) -> &mut Self {
        let (exchanges, unparsed) = (self.heard.exchanges.len(), self.unparsed());
        for (reply, status) in [("+OK\r\n", Status::Ok), ("-ERR no\r\n", Status::Failed)] {
            self.client(command(&["GET", "key"])).server(reply);
            let last = self.heard.exchanges.last().expect("there is one");
            assert_eq!((last.asked_ns, last.replied_ns), (self.now_ns - 1, self.now_ns));
            assert_eq!(last.status, status);
        }
        assert_eq!(self.heard.exchanges.len(), exchanges + 2);
        assert_eq!(self.unparsed(), unparsed);
        self
    }
}

fn command<T: AsRef<[u8]>>(words: &[T]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(bulk(word.as_ref()));
    }
    bytes
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Of lines, which end with `|`; an attribute begins with `@`.
fn lines(text: &str) -> Vec<u8> {
    text.replace('|', "\r\n").replace('@', "|").into_bytes()
}
