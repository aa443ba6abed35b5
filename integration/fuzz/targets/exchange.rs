//! The kernel's matcher, whatever is sent and received on a socket.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier_common::exchange::{
    COUNTABLE, Exchange, HEAD_BYTES, Head, REASONS, RECEIVE, SEND, Segment, Totals, lane, protocol, walk,
};

/// What a direction has shown so far that may be requests.
#[derive(Default)]
struct Shown {
    segments: u64,
    stars: u64,
    queries: u64,
}

impl Shown {
    fn add(&mut self, bytes: &[u8]) {
        let of = |wanted| bytes.iter().filter(|byte| **byte == wanted).count() as u64;
        self.segments += 1;
        self.stars += of(b'*');
        self.queries += of(b'Q');
    }

    /// No more than that has been asked.
    fn most(&self, of: u8) -> u64 {
        match of {
            protocol::HTTP => self.segments,
            protocol::REDIS => self.stars,
            protocol::POSTGRES => self.queries,
            _ => 0,
        }
    }
}

fn counted(totals: &Totals) -> u64 {
    totals.classes.iter().copied().map(u64::from).sum()
}

/// Each segment behind a head: what it is, and how often its bytes come.
fn segments(mut bytes: &[u8]) -> impl Iterator<Item = (u8, Vec<u8>)> {
    std::iter::from_fn(move || {
        let ([flags, often, len], rest) = bytes.split_first_chunk::<3>()?;
        let (said, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        bytes = rest;
        Some((*flags, said.repeat(usize::from(often % 8).max(1))))
    })
}

/// As the hooks do it. `left_over`: what the memory for the head has from other segments.
fn advance(
    mut exchange: Exchange,
    segment: (u8, &[u8], u64),
    visible: usize,
    countable: u32,
    left_over: u8,
) -> Exchange {
    let (direction, said, now_ns) = segment;
    let mut head = Head::empty();
    head.bytes = [left_over; HEAD_BYTES];
    let wanted = exchange.wanted(direction) as usize;
    assert!(wanted <= HEAD_BYTES);
    let from = exchange.begin(&mut head, direction) as usize;
    assert!(from < 8 && head.seen as usize == from);
    head.append(&said[..visible.min(wanted).min(HEAD_BYTES - 1 - from)]);
    let segment = Segment {
        direction,
        len: said.len() as u32,
        now_ns,
        head: &head,
        countable,
    };
    exchange.advance(&segment, |what, len| walk(what, &head, len, u32::MAX));
    // What is behind what is carried, nobody reads.
    exchange.carried[usize::from(exchange.carried_len)..].fill(0);
    exchange
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&settings, bytes)) = bytes.split_first() else {
        return;
    };
    let countable = COUNTABLE & !u32::from(settings);
    let mut exchange = Exchange::default();
    let mut shown = [Shown::default(), Shown::default()];
    let mut now_ns = 1_000_000_000;
    for (flags, said) in segments(bytes) {
        let has = |flag| flags & flag != 0;
        let direction = if has(1) { SEND } else { RECEIVE };
        now_ns += if has(8) { 3_000_000_000 } else { 1_000 };
        // The bytes may not be to be had, or the call's first pieces only.
        let visible = match (has(2), has(4)) {
            (true, _) => 0,
            (_, true) => said.len() / 2,
            _ => said.len(),
        };
        if said.is_empty() || exchange.is_tired(direction) {
            continue;
        }
        shown[usize::from(direction == exchange.role || exchange.role == 0 && has(1))].add(&said);
        let before = exchange;
        let segment = (direction, said.as_slice(), now_ns);
        exchange = advance(before, segment, visible, countable, 0);
        let other = advance(before, segment, visible, countable, b'1');
        assert_eq!(exchange, other, "what is left over from other segments counts");
        check(&before, &exchange, countable);
        if before.role == 0 && exchange.role == RECEIVE {
            // Now it is known whose requests those are.
            shown.swap(0, 1);
        }
        let asked = counted(&exchange.totals) + u64::from(exchange.pending);
        assert!(asked <= shown[1].most(exchange.protocol), "{exchange:?}");
        assert!(exchange.totals.latency_ns <= now_ns * counted(&exchange.totals));
    }
});

fn check(before: &Exchange, after: &Exchange, countable: u32) {
    let timed: u64 = after.totals.buckets.iter().copied().map(u64::from).sum();
    assert_eq!(timed, counted(&after.totals));
    assert!(timed >= counted(&before.totals));
    assert!(after.carried_len < 8);
    match (before.lane, after.lane) {
        (lane::LOOKING, lane::LOOKING | lane::OPAQUE) => assert_eq!(after.protocol, 0),
        (lane::LOOKING, lane::KERNEL | lane::RECORDS) => assert_ne!(after.protocol, 0),
        (lane::KERNEL, lane::KERNEL) => {}
        (lane::KERNEL, lane::OPAQUE) => assert_ne!(after.protocol, protocol::REDIS),
        (lane::KERNEL, lane::RECORDS) => {
            // Nothing of the segment is in what is handed over.
            let mut left = *before;
            (left.lane, left.reason) = (after.lane, after.reason);
            assert_eq!(left, *after);
        }
        // It is left to others for good.
        (lane::RECORDS, lane::RECORDS) | (lane::OPAQUE, lane::OPAQUE) => assert_eq!(before, after),
        moved => panic!("from lane to lane: {moved:?}"),
    }
    if after.lane == lane::RECORDS {
        assert!((1..REASONS).contains(&usize::from(after.reason)));
        assert!(after.role == SEND || after.role == RECEIVE);
    }
    if after.lane == lane::KERNEL {
        assert_ne!(countable & (1 << after.protocol), 0);
    }
    if before.lane != lane::LOOKING {
        assert_eq!((before.protocol, before.role), (after.protocol, after.role));
    }
}
