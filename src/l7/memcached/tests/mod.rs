//! Both sides of a connection, through the front door.
mod cuts;
mod holes;
mod properties;
mod vectors;

use super::Memcached;
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
    memcached: Memcached,
    heard: Heard,
    now_ns: u64,
}

impl Line {
    fn new() -> Self {
        Self {
            memcached: Memcached::new(),
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
        line.memcached.take_over(handover);
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
        self.memcached.hear(side, &piece, &mut self.heard);
        self
    }

    fn client(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.piece(Client, bytes, true)
    }

    fn server(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.piece(Server, bytes, true)
    }

    fn miss(&mut self, side: Side, bytes: u64) -> &mut Self {
        self.memcached.miss(side, bytes, UnparsedReason::Cut, &mut self.heard);
        self
    }

    fn end(&mut self) -> &mut Self {
        self.memcached.end(&mut self.heard);
        assert_eq!(self.memcached.buffered(), 0);
        self
    }

    /// `+` and `-`, in their order.
    fn statuses(&self) -> String {
        let status = |exchange: &Exchange| match exchange.status {
            Status::Ok => '+',
            Status::Failed => '-',
            Status::Code(code) => panic!("{code} is not Memcached'"),
        };
        self.heard.exchanges.iter().map(status).collect()
    }

    fn times(&self) -> Vec<(u64, u64)> {
        let times = |exchange: &Exchange| (exchange.asked_ns, exchange.replied_ns);
        self.heard.exchanges.iter().map(times).collect()
    }

    /// The last two pieces were a command and its reply, and are an exchange.
    fn has_told_last(&self) -> bool {
        self.times().last() == Some(&(self.now_ns - 1, self.now_ns))
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
        for (reply, status) in [("END\r\n", Status::Ok), ("SERVER_ERROR no\r\n", Status::Failed)] {
            self.client("get key\r\n").server(reply);
            assert!(self.has_told_last());
            assert_eq!(self.heard.exchanges.last().map(|last| last.status), Some(status));
        }
        assert_eq!(self.heard.exchanges.len(), exchanges + 2);
        assert_eq!(self.unparsed(), unparsed);
        self
    }
}

/// Of lines, which end with `|`.
fn lines(text: &str) -> Vec<u8> {
    text.replace('|', "\r\n").into_bytes()
}

/// A binary message. Of an answer `status` is one, of a question it is nothing.
fn message(magic: u8, opcode: u8, status: u16, opaque: u32, key: &str, value: &str) -> Vec<u8> {
    let extras: &[u8] = if magic == 0x80 && matches!(opcode, 1 | 0x11) {
        &[0; 8]
    } else {
        &[]
    };
    let mut bytes = vec![magic, opcode];
    bytes.extend((key.len() as u16).to_be_bytes());
    bytes.extend([extras.len() as u8, 0]);
    bytes.extend(status.to_be_bytes());
    bytes.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    bytes.extend(opaque.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(extras);
    bytes.extend(key.bytes().chain(value.bytes()));
    bytes
}
