//! Conversations, through the front door.
mod asked;
mod framing;
mod holes;
mod hostile;
mod properties;
mod vectors;

use super::{Http, stream::MAX_HEAD};
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
struct Told {
    watches: bool,
    left_out: &'static str,
    exchanges: Vec<Exchange>,
    unparsed: BTreeMap<UnparsedReason, u64>,
    /// How often something was.
    holes: usize,
}

impl Hearer for Told {
    fn watches(&self) -> bool {
        self.watches
    }

    fn leaves_out(&self, target: &[u8]) -> bool {
        !self.left_out.is_empty() && target.starts_with(self.left_out.as_bytes())
    }

    fn exchanged(&mut self, exchange: Exchange) {
        self.exchanges.push(exchange);
    }

    fn unparsed(&mut self, reason: UnparsedReason, count: u64) {
        assert!(count > 0);
        self.holes += usize::from(matches!(reason, UnparsedReason::Gap | UnparsedReason::Unreadable));
        *self.unparsed.entry(reason).or_default() += count;
    }
}

/// A connection, and a clock that goes on by one with each piece.
struct Talk {
    http: Http,
    told: Told,
    now_ns: u64,
}

impl Talk {
    fn new() -> Self {
        Self {
            http: Http::new(),
            told: Told {
                watches: true,
                ..Told::default()
            },
            now_ns: 0,
        }
    }

    fn after(from: Handover) -> Self {
        let mut talk = Self::new();
        talk.http.take_over(from);
        talk.now_ns = 100;
        talk
    }

    fn say(&mut self, side: Side, bytes: impl AsRef<[u8]>, starts: bool) -> &mut Self {
        self.now_ns += 1;
        let piece = Piece {
            time_ns: self.now_ns,
            bytes: bytes.as_ref(),
            starts,
        };
        let was_over = self.http.is_over();
        let before = (self.told.exchanges.len(), self.told.unparsed.clone());
        self.http.hear(side, &piece, &mut self.told);
        if was_over {
            assert!(self.http.is_over());
            assert_eq!((self.told.exchanges.len(), self.told.unparsed.clone()), before);
        }
        self
    }

    fn client(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.say(Client, bytes, true)
    }

    fn server(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.say(Server, bytes, true)
    }

    fn miss(&mut self, side: Side, bytes: u64) -> &mut Self {
        self.http.miss(side, bytes, UnparsedReason::Gap, &mut self.told);
        self
    }

    fn is_over(&self) -> bool {
        self.http.is_over()
    }

    /// What there has been to say, up to here.
    fn lines(&self) -> Vec<String> {
        let exchanges = self.told.exchanges.iter().map(line);
        let unparsed = self.told.unparsed.iter();
        let unparsed = unparsed.map(|(reason, count)| format!("{count} {reason:?}").to_lowercase());
        exchanges.chain(unparsed).collect()
    }

    fn end(&mut self) -> Vec<String> {
        self.http.end(&mut self.told);
        assert!(self.http.is_over());
        self.lines()
    }
}

fn line(exchange: &Exchange) -> String {
    let Status::Code(code) = exchange.status else {
        unreachable!("{exchange:?}");
    };
    match &exchange.asked {
        Some(asked) => format!("{} {} {code}", asked.verb, asked.text),
        None => code.to_string(),
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn reply(code: u16) -> String {
    format!("HTTP/1.1 {code} Whatever\r\nContent-Length: 2\r\n\r\nok")
}
