//! What two ends of a connection say, be it HTTP or not.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::{
    decode::UnparsedReason,
    l7::{
        dialogue::{Dialogue, Exchange, Handover, Hearer, Piece, Side, Status},
        http::Http,
    },
};

/// A head of each side, grown by doubling; and what is kept of requests that wait.
const MAX_KEPT: usize = 2 * 2 * (64 << 10) + 4097 * 1100;

#[derive(Default)]
struct Counted {
    watches: bool,
    exchanges: u64,
    unanswered: u64,
    unparsed: u64,
    last_ns: u64,
}

impl Hearer for Counted {
    fn watches(&self) -> bool {
        self.watches
    }

    fn leaves_out(&self, target: &[u8]) -> bool {
        target.starts_with(b"/health")
    }

    fn exchanged(&mut self, exchange: Exchange) {
        self.exchanges += 1;
        assert!(matches!(exchange.status, Status::Code(101 | 200..=999)));
        assert!(exchange.asked_ns <= self.last_ns && exchange.replied_ns <= self.last_ns);
        if let Some(asked) = exchange.asked {
            assert!((1..=24).contains(&asked.verb.len()) && asked.text.len() <= 1024);
            assert!(!asked.text.contains(char::is_control) && !asked.text.starts_with("/health"));
            assert!(asked.text.find('?').is_none_or(|at| at + 1 == asked.text.len()
                || asked.text[at..].starts_with("?@")
                || asked.text[at..] == *"?..."));
        }
    }

    fn unparsed(&mut self, reason: UnparsedReason, count: u64) {
        assert!(count > 0);
        match reason {
            UnparsedReason::Unanswered => self.unanswered += count,
            _ => self.unparsed += count,
        }
    }
}

/// Each piece behind a head: what it is, how long, and how often it is repeated.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    std::iter::from_fn(move || {
        let ([flags, len, repeat], rest) = bytes.split_first_chunk()?;
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        bytes = rest;
        Some((*flags, *repeat, piece))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut http = Http::new();
    let mut counted = Counted::default();
    let (mut requests, mut holes, mut said) = (0, 0, 0);
    if let Some((&first, _)) = bytes.split_first() {
        counted.watches = first & 64 != 0;
        if first & 128 != 0 {
            let pending = u32::from(first % 4);
            requests += u64::from(pending);
            http.take_over(Handover {
                pending,
                asked_ns: 0,
                rest: u64::from(first / 4 % 16),
                head: first & 2 != 0,
                unasked: first & 1 != 0,
            });
        }
    }
    // Once more than a head may have, or runs take long; and a few of its lengths byte by byte.
    let (mut long, mut single) = (1, 4096);
    for (flags, repeat, piece) in pieces(bytes) {
        let has = |flag| flags & flag != 0;
        let side = if has(1) { Side::Client } else { Side::Server };
        if has(2) {
            let missing = if has(4) {
                u64::MAX >> (repeat % 64)
            } else {
                u64::from(repeat)
            };
            holes += 1;
            http.miss(side, missing, UnparsedReason::Gap, &mut counted);
        }
        let times = match repeat {
            255 if has(8) && long > 0 => {
                long -= 1;
                (80 << 10) / piece.len().max(1)
            }
            repeat if has(8) => usize::from(repeat % 16),
            _ => 1,
        };
        let whole = piece.repeat(times);
        counted.last_ns += u64::from(flags >> 6);
        let bytewise = has(16) && whole.len() <= single;
        single -= if bytewise { whole.len() } else { 0 };
        for part in whole.chunks(if bytewise { 1 } else { whole.len().max(1) }) {
            if side == Side::Client {
                // A request has a space, and ends with a line or a hole.
                requests += part.iter().filter(|byte| **byte == b' ').count() as u64;
            }
            said += 1;
            let piece = Piece {
                time_ns: counted.last_ns,
                bytes: part,
                starts: has(32),
            };
            let was_over = http.is_over();
            let before = (counted.exchanges, counted.unanswered, counted.unparsed);
            http.hear(side, &piece, &mut counted);
            if was_over {
                assert_eq!(before, (counted.exchanges, counted.unanswered, counted.unparsed));
                assert!(http.is_over());
            }
            if http.is_over() {
                assert_eq!(http.buffered(), 0);
                assert!(!http.expects_reply());
            }
            assert!(http.buffered() <= MAX_KEPT);
            said += part.len() as u64;
        }
    }
    http.end(&mut counted);
    assert!(http.is_over());
    assert!(counted.exchanges + counted.unanswered <= requests);
    assert!(counted.unparsed <= requests + holes + said);
});
