//! What processes send and receive where names are asked for.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::{
    base::ids::{CgroupId, ProcKey},
    decode::Owner,
    l7::{Direction, Limits, Output, Segment, Sessions, Transport},
};

const LIMITS: Limits = Limits {
    sockets: 3,
    questions_per_socket: 4,
    questions: 8,
    stream_bytes: 100,
    connections: 1,
    body_bytes: u64::MAX,
};

/// Each segment behind a head: what it is, on which socket, by how much its position and its time jump, its bytes, and
/// how many of them were not taken.
fn segments(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 6], &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<6>()?;
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(head[4])));
        bytes = rest;
        Some((*head, payload))
    })
}

#[derive(Default)]
struct Counted {
    exchanges: u64,
    unanswered: u64,
    unparsed: u64,
}

impl Counted {
    fn add(&mut self, output: &Output) {
        for request in &output.requests {
            assert!(request.domain.len() <= 253 && !request.domain.is_empty());
            assert!(request.latency.sum_ns < 10_000_000_000 * request.latency.count());
            self.exchanges += request.latency.count();
        }
        self.unanswered += output.unanswered.iter().map(|of| of.count).sum::<u64>();
        self.unparsed += output.unparsed.iter().map(|of| of.count).sum::<u64>();
        assert!(output.answers.len() as u64 <= self.exchanges);
        assert!(output.answers.iter().all(|answer| !answer.addresses.is_empty()));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut sessions = Sessions::new(LIMITS);
    let mut now_ns = 1_000_000_000_000;
    let mut positions = [0u64; 16];
    let mut counted = Counted::default();
    let (mut datagrams, mut pieces, mut stream_bytes) = (0, 0, 0);
    for ([flags, socket, jump, wait, _, missing], payload) in segments(bytes) {
        let has = |flag| flags & flag != 0;
        let transport = if has(1) { Transport::Stream } else { Transport::Datagram };
        let direction = if has(2) { Direction::Sent } else { Direction::Received };
        let socket = socket % 8;
        let len = payload.len() as u32 + if has(4) { u32::from(missing) } else { 0 };
        let at = &mut positions[usize::from(socket * 2 + flags / 2 % 2)];
        *at = at.wrapping_add_signed(if has(8) { i64::from(jump as i8) } else { 0 });
        now_ns += u64::from(wait) << if has(16) { 30 } else { 12 };
        sessions.apply(&Segment {
            time_ns: if has(32) {
                now_ns.saturating_sub(2_000_000)
            } else {
                now_ns
            },
            socket: u64::from(socket),
            owner: Owner {
                process: ProcKey {
                    tgid: u32::from(flags >> 7),
                    start_ns: 1,
                },
                cgroup: CgroupId(1),
                comm: [0; 16],
                kernel_thread: false,
            },
            transport,
            direction,
            position: *at,
            len,
            payload,
        });
        match transport {
            Transport::Datagram => datagrams += 1,
            Transport::Stream => {
                *at = at.wrapping_add(u64::from(len));
                pieces += 1;
                stream_bytes += u64::from(len);
            }
        }
        let fill = sessions.fill();
        assert!(fill.sockets <= LIMITS.sockets && fill.questions <= LIMITS.questions);
        assert!(fill.streams <= LIMITS.sockets && fill.early_answers <= 1024);
        assert!(fill.stream_bytes <= fill.streams * 2 * (2 * LIMITS.stream_bytes + 2));
        if has(64) {
            counted.add(&sessions.take(now_ns));
        }
    }
    for _ in 0..3 {
        now_ns += 200_000_000_000;
        counted.add(&sessions.take(now_ns));
    }
    let fill = sessions.fill();
    assert_eq!(
        (fill.questions, fill.early_answers, fill.streams, fill.stream_bytes),
        (0, 0, 0, 0)
    );
    // Each datagram is counted once; of a stream no more than there is room for, and what is missing.
    let messages = 2 * counted.exchanges + counted.unanswered + counted.unparsed;
    assert!(messages >= datagrams);
    assert!(messages <= datagrams + 4 * pieces + stream_bytes / 14);
});
