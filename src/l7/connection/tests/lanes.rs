//! Whatever is said: with the kernel counting and without it the counts are equal.
use super::*;
use proptest::prelude::*;
use tarsier_common::exchange::{
    self, COUNTABLE, Exchange as Matched, Head, RECEIVE, Reason, SEND, Segment, lane, walk,
};

type Said = Vec<(Side, Vec<u8>)>;

/// One socket of the kernel's, as its programs treat it, and what comes of it in user space.
struct Socket {
    exchange: Matched,
    role: Role,
    positions: [u64; 2],
    known: [u64; 2],
    sessions: Sessions,
    now_ns: u64,
}

impl Socket {
    fn new(role: Role) -> Self {
        Self {
            exchange: Matched::default(),
            role,
            positions: [0; 2],
            known: [0; 2],
            sessions: Sessions::new(LIMITS),
            now_ns: 1_000_000,
        }
    }

    fn says(&mut self, side: Side, bytes: &[u8], countable: u32) {
        self.now_ns += 1_000_000;
        let len = u32::try_from(bytes.len()).unwrap();
        let sends = (side == Side::Client) == (self.role == Role::Client);
        let direction = if sends { SEND } else { RECEIVE };
        let position = self.positions[side as usize];
        self.positions[side as usize] += u64::from(len);
        let mut begins = false;
        if self.exchange.lane != lane::RECORDS {
            let was_known = self.exchange.lane == lane::KERNEL;
            let mut head = Head::empty();
            let wanted = self.exchange.wanted(direction) as usize;
            self.exchange.begin(&mut head, direction);
            head.append(bytes.get(..wanted.min(1023)).unwrap_or(bytes));
            let segment = Segment {
                direction,
                len,
                now_ns: self.now_ns,
                head: &head,
                countable,
            };
            self.exchange
                .advance(&segment, |what, len| walk(what, &head, len, u32::MAX));
            if !was_known && self.exchange.lane != lane::LOOKING {
                self.known = self.positions;
                self.known[side as usize] = position;
            }
            if self.exchange.lane != lane::RECORDS {
                self.known[side as usize] = self.positions[side as usize];
                return;
            }
            begins = true;
        }
        let other = 1 - side as usize;
        let exchange = self.exchange;
        let carried = &exchange.carried[..usize::from(exchange.carried_len)];
        let begin = begins.then_some(Begin {
            from: self.known[side as usize],
            other_from: self.known[other],
            handover: Handover {
                pending: exchange.pending,
                asked_ns: exchange.asked_ns,
                rest: u64::from(exchange.rest),
                head: exchange.asked_for_head != 0,
                unasked: exchange.reason == Reason::Unasked as u8,
            },
            carried,
        });
        let protocol = match exchange.protocol {
            exchange::protocol::HTTP => Protocol::Http,
            exchange::protocol::REDIS => Protocol::Redis,
            _ => Protocol::Postgres,
        };
        self.sessions.hear(&Part {
            time_ns: self.now_ns,
            socket: 7,
            between: between(self.role, protocol),
            side,
            position,
            len,
            starts: true,
            payload: bytes,
            begin,
        });
    }

    /// Of both lanes, and what could not be understood.
    fn counts(mut self) -> (Classes, Latency, Vec<(UnparsedReason, u64)>) {
        let output = self.sessions.take(self.now_ns);
        let mut classes = classes(&output);
        let totals = self.exchange.totals;
        classes
            .iter_mut()
            .zip(totals.classes)
            .for_each(|(to, n)| *to += u64::from(n));
        let mut latency = Latency {
            counts: totals.buckets.map(u64::from),
            sum_ns: totals.latency_ns,
        };
        output.exchanges.iter().for_each(|of| latency.add(&of.latency));
        (classes, latency, unparsed(&output))
    }
}

fn counts(said: &Said, role: Role, countable: u32) -> (Classes, Latency, Vec<(UnparsedReason, u64)>) {
    let mut socket = Socket::new(role);
    for (side, bytes) in said {
        socket.says(*side, bytes, countable);
    }
    socket.counts()
}

/// The same bytes in other pieces, none of them empty.
fn cut(said: Said, cuts: &[usize]) -> Said {
    let mut cuts = cuts.iter().cycle();
    let mut pieces = Vec::new();
    for (side, bytes) in said {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let len = cuts.next().map_or(rest.len(), |cut| (*cut).clamp(1, rest.len()));
            pieces.push((side, rest[..len].to_vec()));
            rest = &rest[len..];
        }
    }
    pieces
}

fn http() -> impl Strategy<Value = Said> {
    let request = prop_oneof![
        4 => Just(GET.to_vec()),
        1 => (0..300usize).prop_map(|len| [
            format!("POST /p HTTP/1.1\r\ncontent-LENGTH: {len}\r\nHost: x\r\n\r\n").as_bytes(), &vec![b'.'; len]].concat()),
        1 => Just(b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()),
        1 => (900..1500usize).prop_map(|len| [b"GET /".as_slice(), &vec![b'l'; len], b" HTTP/1.1\r\n\r\n"].concat()),
    ];
    let reply = prop_oneof![
        3 => Just(OK.to_vec()),
        2 => Just(NOT_FOUND.to_vec()),
        1 => Just(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nabc".to_vec()),
        1 => Just(b"HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n".to_vec()),
    ];
    conversation(request, reply)
}

fn redis() -> impl Strategy<Value = Said> {
    let request = prop_oneof![
        4 => Just(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n".to_vec()),
        1 => (0..3000usize).prop_map(|len| [
            format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n").as_bytes(), &vec![b'*'; len], b"\r\n"].concat()),
    ];
    let reply = prop_oneof![
        3 => Just(b"$5\r\nhello\r\n".to_vec()),
        1 => Just(b"-ERR no such thing\r\n".to_vec()),
        1 => Just(b"*2\r\n:1\r\n*1\r\n$-1\r\n".to_vec()),
        1 => Just(b"+OK\r\n".to_vec()),
    ];
    conversation(request, reply)
}

fn postgres() -> impl Strategy<Value = Said> {
    let message = |kind: u8, body: &[u8]| {
        let len = u32::try_from(body.len() + 4).unwrap();
        [&[kind], len.to_be_bytes().as_slice(), body].concat()
    };
    let query = message(b'Q', b"SELECT 1\0");
    let batch = [
        message(b'P', b"\0SELECT $1\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat();
    let request = prop_oneof![5 => Just(query), 1 => Just(batch)];
    let ready = message(b'Z', b"I");
    let row = [[0, 1, 0, 0, 0, 54].as_slice(), &[0; 54]].concat();
    let done = [message(b'C', b"SELECT 1\0"), ready.clone()].concat();
    let reply = prop_oneof![
        3 => Just([message(b'T', b"\0\0"), message(b'D', b"\0\0"), done.clone()].concat()),
        1 => Just([message(b'E', b"SERROR\0C42P01\0\0"), ready].concat()),
        1 => (1..40usize).prop_map(move |rows| [message(b'D', &row).repeat(rows), done.clone()].concat()),
    ];
    // It answers one after the other.
    prop::collection::vec((request, reply), 1..12).prop_map(|pairs| {
        let both = |(request, reply)| [(Side::Client, request), (Side::Server, reply)];
        pairs.into_iter().flat_map(both).collect()
    })
}

/// Batches of requests, then all their replies.
fn conversation(
    request: impl Strategy<Value = Vec<u8>> + 'static,
    reply: impl Strategy<Value = Vec<u8>> + 'static,
) -> impl Strategy<Value = Said> {
    let size = prop_oneof![4 => Just(1usize), 1 => 2..30usize];
    let batch = size.prop_flat_map({
        let pair = (request, reply).boxed();
        move |size| prop::collection::vec(pair.clone(), size)
    });
    prop::collection::vec(batch, 1..10).prop_map(|batches| {
        let mut said = Said::new();
        for batch in batches {
            let (requests, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            said.push((Side::Client, requests.concat()));
            said.push((Side::Server, replies.concat()));
        }
        said
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn both_lanes_agree(
        said in prop_oneof![http(), redis(), postgres()],
        whole in any::<bool>(),
        cuts in prop::collection::vec(prop_oneof![1..40usize, Just(5000)], 1..20),
        server in any::<bool>(),
    ) {
        let role = if server { Role::Server } else { Role::Client };
        let said = if whole { said } else { cut(said, &cuts) };
        let read = counts(&said, role, 0);
        let counted = counts(&said, role, COUNTABLE);
        prop_assert!(read.2.is_empty(), "{:?}", read.2);
        prop_assert_eq!((read.0, read.1.count(), &read.2), (counted.0, counted.1.count(), &counted.2));
        // To the kernel all requests of a batch begin with its first byte, of which it waits for seven more.
        let differ = read.1.sum_ns.abs_diff(counted.1.sum_ns);
        prop_assert!(differ <= read.1.count() * 8_000_000, "{differ}");
    }
}
