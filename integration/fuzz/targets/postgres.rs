//! What the two ends of a connection to PostgreSQL say.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::{
    decode::UnparsedReason,
    l7::{
        dialogue::{Asked, Dialogue, Exchange, Handover, Hearer, Piece, Side},
        postgres::Postgres,
    },
};

#[derive(Default)]
struct Heard {
    watches: bool,
    exchanges: u64,
    unparsed: u64,
    malformed: u64,
}

impl Hearer for Heard {
    fn watches(&self) -> bool {
        self.watches
    }

    fn leaves_out(&self, _: &[u8]) -> bool {
        unreachable!()
    }

    fn exchanged(&mut self, exchange: Exchange) {
        assert!(exchange.asked_ns <= exchange.replied_ns);
        assert!(self.watches || exchange.asked.is_none());
        assert!(exchange.asked.is_none_or(|asked| asked.text.len() <= Asked::MAX_TEXT));
        self.exchanges += 1;
    }

    fn unparsed(&mut self, reason: UnparsedReason, count: u64) {
        assert_ne!(count, 0);
        self.unparsed += count;
        self.malformed += u64::from(reason == UnparsedReason::Malformed);
    }
}

/// Each piece behind a head: whose it is and what becomes of it, how often it is said, and its bytes.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    std::iter::from_fn(move || {
        let ([flags, often, len], rest) = bytes.split_first_chunk::<3>()?;
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        bytes = rest;
        Some((*flags, *often, payload))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut dialogue = Postgres::new();
    let mut heard = Heard::default();
    let (mut said, mut holes) = (0, 0);
    if let [255, pending, rest, ..] = bytes {
        dialogue.take_over(Handover {
            pending: u32::from(pending % 2),
            asked_ns: 0,
            rest: u64::from(*rest),
            ..Handover::default()
        });
        said += 5 * u64::from(pending % 2);
    }
    for (at, (flags, often, payload)) in pieces(bytes).enumerate() {
        let has = |flag| flags & flag != 0;
        let side = if has(1) { Side::Client } else { Side::Server };
        heard.watches = has(8);
        if has(4) {
            dialogue.miss(side, payload.len() as u64, UnparsedReason::Gap, &mut heard);
            holes += 1;
        } else {
            let payload = payload.repeat(usize::from(often % 64));
            let piece = Piece {
                time_ns: at as u64,
                bytes: &payload,
                starts: !has(2),
            };
            dialogue.hear(side, &piece, &mut heard);
            said += payload.len() as u64;
        }
        assert!(dialogue.buffered() < 1 << 20);
        assert!(!dialogue.is_over() || !dialogue.expects_reply());
    }
    dialogue.end(&mut heard);
    assert!(dialogue.is_over() && dialogue.buffered() == 0);
    // A request has five bytes at least that nobody has missed.
    assert!(heard.exchanges <= said / 5);
    assert!(heard.malformed <= 1 && heard.unparsed <= said + holes + 1);
});
