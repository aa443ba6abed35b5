//! Whole connections, through the front door.
mod encoder;
mod holes;
mod hostile;
mod pairing;
mod properties;
mod sessions;
mod sql;
mod texts;
mod vectors;

use super::Postgres;
use crate::{
    decode::UnparsedReason,
    l7::dialogue::{
        Dialogue, Exchange, Hearer, Piece,
        Side::{self, Client, Server},
        Status::{self, Failed, Ok},
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

    fn leaves_out(&self, _: &[u8]) -> bool {
        false
    }

    fn exchanged(&mut self, exchange: Exchange) {
        assert!(exchange.asked_ns <= exchange.replied_ns, "{exchange:?}");
        assert!(self.watches || exchange.asked.is_none());
        self.exchanges.push(exchange);
    }

    fn unparsed(&mut self, reason: UnparsedReason, count: u64) {
        assert_ne!(count, 0);
        *self.unparsed.entry(reason).or_default() += count;
    }
}

/// A connection, and a clock that goes on by one with each segment.
#[derive(Default)]
struct Talk {
    dialogue: Postgres,
    heard: Heard,
    now_ns: u64,
}

impl Talk {
    fn watched() -> Self {
        let mut talk = Self::default();
        talk.heard.watches = true;
        talk
    }

    /// Behind a login, so both sides know where they are.
    fn logged_in() -> Self {
        let mut talk = Self::default();
        talk.client(&encoder::startup()).server(&encoder::welcome());
        assert!(talk.heard.exchanges.is_empty());
        talk
    }

    fn hear(&mut self, side: Side, bytes: &[u8], starts: bool) -> &mut Self {
        self.now_ns += u64::from(starts);
        let piece = Piece {
            time_ns: self.now_ns,
            bytes,
            starts,
        };
        self.dialogue.hear(side, &piece, &mut self.heard);
        assert!(self.dialogue.buffered() < 1 << 20);
        self
    }

    fn client(&mut self, bytes: &[u8]) -> &mut Self {
        self.hear(Client, bytes, true)
    }

    fn server(&mut self, bytes: &[u8]) -> &mut Self {
        self.hear(Server, bytes, true)
    }

    fn miss(&mut self, side: Side, bytes: u64) -> &mut Self {
        self.dialogue.miss(side, bytes, UnparsedReason::Gap, &mut self.heard);
        self
    }

    fn end(&mut self) -> &mut Self {
        self.dialogue.end(&mut self.heard);
        assert_eq!(self.dialogue.buffered(), 0);
        self
    }

    fn statuses(&self) -> Vec<Status> {
        self.heard.exchanges.iter().map(|exchange| exchange.status).collect()
    }

    /// Segments in which they were asked and replied to.
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

    fn texts(&self) -> Vec<(&str, &str)> {
        let asked = self
            .heard
            .exchanges
            .iter()
            .filter_map(|exchange| exchange.asked.as_ref());
        asked.map(|asked| (&*asked.verb, &*asked.text)).collect()
    }
}

/// What one side says before the other one does.
type Turn = (Side, Vec<u8>);

/// In segments of so many bytes each.
fn in_pieces(turns: &[Turn], size: usize) -> Talk {
    let mut talk = Talk::default();
    for (side, bytes) in turns {
        for piece in bytes.chunks(size) {
            talk.hear(*side, piece, true);
        }
    }
    talk
}
