//! What clients and servers say to each other on a connection that is taken for Redis'.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::{
    decode::UnparsedReason,
    l7::{
        dialogue::{Dialogue, Exchange, Handover, Hearer, Piece, Side, Status},
        redis::Redis,
    },
};

#[derive(Default)]
struct Heard {
    watches: bool,
    exchanges: u64,
    unparsed: u64,
    unanswered: u64,
    now_ns: u64,
}

impl Hearer for Heard {
    fn watches(&self) -> bool {
        self.watches
    }

    fn leaves_out(&self, _target: &[u8]) -> bool {
        unreachable!("only HTTP asks that")
    }

    fn exchanged(&mut self, exchange: Exchange) {
        assert!(exchange.replied_ns <= self.now_ns && exchange.asked_ns <= self.now_ns);
        assert!(matches!(exchange.status, Status::Ok | Status::Failed));
        if let Some(asked) = exchange.asked {
            assert!(self.watches && asked.text.starts_with(&*asked.verb) && asked.text.len() <= 128);
        }
        self.exchanges += 1;
    }

    fn unparsed(&mut self, reason: UnparsedReason, count: u64) {
        assert!(count > 0);
        match reason {
            UnparsedReason::Unanswered => self.unanswered += count,
            _ => self.unparsed += count,
        }
    }
}

/// Each piece behind a head: what it is, its bytes, and how many are missing before it.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 3], &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<3>()?;
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(head[1])));
        bytes = rest;
        Some((*head, piece))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([watches, pending, rest], bytes)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let mut redis = Redis::new();
    let mut heard = Heard {
        watches: watches & 1 != 0,
        ..Heard::default()
    };
    let pending = if watches & 2 != 0 { u32::from(*pending) } else { 0 };
    if watches & 2 != 0 {
        redis.take_over(Handover {
            pending,
            asked_ns: 0,
            rest: u64::from(*rest),
            ..Handover::default()
        });
    }
    let (mut asked, mut holes) = (0, 0);
    for ([flags, _, missing], piece) in pieces(bytes) {
        heard.now_ns += 1;
        let side = if flags & 1 != 0 { Side::Client } else { Side::Server };
        if flags & 4 != 0 {
            redis.miss(side, u64::from(missing), UnparsedReason::Gap, &mut heard);
            holes += 1;
        }
        let piece = Piece {
            time_ns: heard.now_ns,
            bytes: piece,
            starts: flags & 2 != 0,
        };
        redis.hear(side, &piece, &mut heard);
        asked += if side == Side::Client {
            piece.bytes.len() as u64
        } else {
            0
        };
        assert!(redis.buffered() <= 4096 + 128 * bytes.len());
        if redis.is_over() {
            assert!(redis.buffered() == 0 && !redis.expects_reply());
        }
    }
    redis.end(&mut heard);
    assert!(redis.buffered() == 0 && !redis.expects_reply());
    // The shortest command that is one is a letter and its line end; a hole may be the last bytes of another.
    assert!(heard.exchanges + heard.unanswered <= u64::from(pending) + asked / 2 + holes);
});
