//! Conversations that are in order, cut anywhere: both lanes count each request, whichever of them has begun.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::net::{Ipv4Addr, SocketAddr};
use tarsier::{
    base::ids::{CgroupId, NetnsId, ProcKey},
    decode::{Owner, Protocol, Role},
    l7::{Begin, Between, Limits, Output, Part, Sessions, dialogue::Handover, dialogue::Side},
};
use tarsier_common::exchange::{self, COUNTABLE, Exchange, Head, RECEIVE, SEND, Segment, lane, protocol, walk};

/// By first digit of HTTP's status; of others 2 is success and 5 failure.
type Classes = [u64; 6];

struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    /// Zero where none are left.
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first)
    }

    fn of<'b>(&mut self, some: &[&'b [u8]]) -> &'b [u8] {
        some[self.next() % some.len()]
    }

    /// What looks like messages, and is none.
    fn body(&mut self) -> Vec<u8> {
        const MISLEADING: &[&[u8]] = &[
            b"x",
            b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"\r\n*1\r\n$4\r\nPING\r\n",
            b"+OK\r\n-ERR\r\n",
            b"\r\n\r\n0\r\n",
        ];
        let text = self.of(MISLEADING);
        text.repeat(match self.next() {
            long if long > 240 => 16 * long / text.len(),
            short => short % 8,
        })
    }
}

/// A request, its reply, and the class of that.
type Pair = (Vec<u8>, Vec<u8>, usize);

fn http(choices: &mut Choices<'_>) -> Pair {
    let body = choices.body();
    let (request, has_reply_body) = match choices.next() % 8 {
        0 => (b"HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), false),
        1 => {
            let head = format!("POST /p HTTP/1.1\r\ncontent-LENGTH: {}\r\nHost: a\r\n\r\n", body.len());
            ([head.as_bytes(), &body].concat(), true)
        }
        2 => {
            let head = b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            ([head.as_slice(), &chunked(&body)].concat(), true)
        }
        3 => {
            let path = vec![b'l'; 900 + choices.next()];
            ([b"GET /", path.as_slice(), b" HTTP/1.1\r\n\r\n"].concat(), true)
        }
        4 => (b"DELETE /d HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_vec(), true),
        _ => (b"GET /g?q HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), true),
    };
    let said = choices.body();
    let (status, class) = *[("200 OK", 2), ("302 Found", 3), ("404 Not Found", 4), ("500 Oops", 5)]
        .get(choices.next() % 4)
        .unwrap_or(&("200 OK", 2));
    let body = |of: &[u8]| if has_reply_body { of.to_vec() } else { Vec::new() };
    let (reply, class) = match choices.next() % 6 {
        0 => (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), 2),
        1 => (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n".to_vec(), 3),
        2 => {
            let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
            ([head.as_bytes(), &body(&chunked(&said))].concat(), class)
        }
        3 => {
            let head = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            (head.into_bytes(), class)
        }
        _ => {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", said.len());
            ([head.as_bytes(), &body(&said)].concat(), class)
        }
    };
    (request, reply, class)
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut whole: Vec<u8> = body
        .chunks(100)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .collect();
    whole.extend_from_slice(b"0\r\n\r\n");
    whole
}

fn redis(choices: &mut Choices<'_>) -> Pair {
    let command = |words: &[&[u8]]| {
        let word = |word: &&[u8]| [format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat();
        let words_of: Vec<u8> = words.iter().flat_map(word).collect();
        [format!("*{}\r\n", words.len()).as_bytes(), &words_of].concat()
    };
    let value = choices.body();
    let request = match choices.next() % 4 {
        0 => command(&[b"SET", b"key", &value]),
        1 => command(&[b"PING"]),
        2 => command(&[b"MGET", &value, b"", b"a"]),
        _ => command(&[b"GET", b"key"]),
    };
    let bulk = |of: &[u8]| [format!("${}\r\n", of.len()).as_bytes(), of, b"\r\n"].concat();
    let said = choices.body();
    let reply = match choices.next() % 10 {
        0 => bulk(&said),
        1 => [b"*2\r\n".as_slice(), &bulk(&said), b"*1\r\n:1\r\n"].concat(),
        2 => [b"%1\r\n+a\r\n".as_slice(), &bulk(&said)].concat(),
        3 => b"$-1\r\n".to_vec(),
        4 => b"*0\r\n".to_vec(),
        5 => b"_\r\n".to_vec(),
        6 => b"-ERR no such thing, and more of it\r\n".to_vec(),
        7 => b"-NO\r\n".to_vec(),
        8 => b":12345\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    };
    let class = if reply.starts_with(b"-") { 5 } else { 2 };
    (request, reply, class)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u32 + 4;
    [&[kind], len.to_be_bytes().as_slice(), body].concat()
}

fn postgres(choices: &mut Choices<'_>) -> Pair {
    let mut text = choices.body();
    text.retain(|byte| *byte != 0);
    text.push(0);
    let statement = message(b'P', &[b"\0".as_slice(), &text, b"\0\0"].concat());
    let (bind, execute, sync) = (message(b'B', &[0; 8]), message(b'E', &[0; 5]), message(b'S', b""));
    let (request, before) = match choices.next() % 4 {
        0 => (
            [statement, bind, execute, sync].concat(),
            [message(b'1', b""), message(b'2', b"")].concat(),
        ),
        1 => ([bind, execute, sync].concat(), message(b'2', b"")),
        _ => (message(b'Q', &text), Vec::new()),
    };
    let row = message(b'D', &[&[0, 1, 0, 0, 0, 9], b"Z\0\0\0\x05IE\0\0".as_slice()].concat());
    let rows = row.repeat(match choices.next() {
        many if many > 240 => many,
        few => few % 4,
    });
    let ready = message(b'Z', b"I");
    let (reply, class) = if choices.next() % 4 == 0 {
        ([message(b'E', b"SERROR\0C42P01\0\0"), ready].concat(), 5)
    } else {
        ([before, rows, message(b'C', b"SELECT 1\0"), ready].concat(), 2)
    };
    (request, reply, class)
}

type Said = Vec<(Side, Vec<u8>)>;

/// Batches of requests, then all their replies.
fn conversation(choices: &mut Choices<'_>) -> (Protocol, Said, Classes) {
    let (mut said, mut classes) = (Said::new(), Classes::default());
    let spoken = [Protocol::Http, Protocol::Redis, Protocol::Postgres][choices.next() % 3];
    if spoken == Protocol::Postgres {
        // Whole segments: without them nobody would know what it is.
        said.push((Side::Client, b"\0\0\0\x0f\0\x03\0\0user\0a\0".to_vec()));
        let ready = [message(b'R', b"\0\0\0\0"), message(b'Z', b"I")];
        said.push((Side::Server, ready.concat()));
    }
    while !choices.0.is_empty() {
        // PostgreSQL's clients wait for each reply here.
        let batch = match choices.next() {
            several if several > 200 && spoken != Protocol::Postgres => 1 + several % 32,
            _ => 1,
        };
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for _ in 0..batch {
            let (request, reply, class) = match spoken {
                Protocol::Http => http(choices),
                Protocol::Redis => redis(choices),
                _ => postgres(choices),
            };
            requests.extend(request);
            replies.extend(reply);
            classes[class] += 1;
        }
        for (side, whole) in [(Side::Client, requests), (Side::Server, replies)] {
            let mut rest = whole.as_slice();
            while !rest.is_empty() {
                // Whole where no choice is left, or most of the time goes into single bytes.
                let len = match choices.next() {
                    cut @ 1..=64 => cut,
                    _ => rest.len(),
                };
                let (piece, more) = rest.split_at(len.min(rest.len()));
                said.push((side, piece.to_vec()));
                rest = more;
            }
        }
    }
    (spoken, said, classes)
}

/// A socket, as the programs treat it, and what comes of it in user space.
struct Socket {
    exchange: Exchange,
    between: Between,
    positions: [u64; 2],
    known: [u64; 2],
    sessions: Sessions,
    now_ns: u64,
}

impl Socket {
    fn new(role: Role, protocol: Protocol) -> Self {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            exchange: Exchange::default(),
            between: Between {
                owner: Owner {
                    process: ProcKey { tgid: 7, start_ns: 1 },
                    cgroup: CgroupId(1),
                    comm: [0; 16],
                    kernel_thread: false,
                },
                netns: NetnsId(1),
                local: address(1),
                remote: address(2),
                role,
                protocol,
            },
            positions: [0; 2],
            known: [0; 2],
            sessions: Sessions::new(Limits {
                sockets: 1,
                questions_per_socket: 1,
                questions: 1,
                stream_bytes: 1,
                connections: 1,
                body_bytes: 100,
            }),
            now_ns: 1_000_000_000,
        }
    }

    fn says(&mut self, side: Side, bytes: &[u8], countable: u32) {
        self.now_ns += 1_000;
        let sends = (side == Side::Client) == (self.between.role == Role::Client);
        let direction = if sends { SEND } else { RECEIVE };
        let (this, other) = (side as usize, 1 - side as usize);
        let len = bytes.len() as u32;
        let position = self.positions[this];
        self.positions[this] += u64::from(len);
        let mut begin = None;
        if self.exchange.lane != lane::RECORDS {
            let was_known = self.exchange.lane == lane::KERNEL;
            let mut head = Head::empty();
            let wanted = self.exchange.wanted(direction) as usize;
            let from = self.exchange.begin(&mut head, direction) as usize;
            head.append(&bytes[..bytes.len().min(wanted).min(exchange::HEAD_BYTES - 1 - from)]);
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
                self.known[this] = position;
            }
            if self.exchange.lane != lane::RECORDS {
                self.known[this] = self.positions[this];
                return;
            }
            begin = Some(Begin {
                from: self.known[this],
                other_from: self.known[other],
                handover: Handover {
                    pending: self.exchange.pending,
                    asked_ns: self.exchange.asked_ns,
                    rest: u64::from(self.exchange.rest),
                    head: self.exchange.asked_for_head != 0,
                    unasked: self.exchange.reason == exchange::Reason::Unasked as u8,
                },
                carried: &self.exchange.carried[..usize::from(self.exchange.carried_len)],
            });
        }
        self.sessions.hear(&Part {
            time_ns: self.now_ns,
            socket: 7,
            between: self.between,
            side,
            position,
            len,
            starts: true,
            payload: bytes,
            begin,
        });
    }

    /// Of both lanes.
    fn counted(&mut self) -> (Classes, Output) {
        let output = self.sessions.take(self.now_ns);
        let mut classes = self.exchange.totals.classes.map(u64::from);
        for of in &output.exchanges {
            classes.iter_mut().zip(of.classes).for_each(|(to, n)| *to += n);
        }
        (classes, output)
    }
}

/// To read.
fn shown(said: &Said) -> String {
    let line = |(side, bytes): &(Side, Vec<u8>)| {
        let begin = &bytes[..bytes.len().min(200)];
        format!("\n{side:?} {}: {}", bytes.len(), begin.escape_ascii())
    };
    said.iter().map(line).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    let role = if choices.next() % 2 == 0 {
        Role::Client
    } else {
        Role::Server
    };
    let (spoken, said, wanted) = conversation(&mut choices);
    for countable in [0, COUNTABLE] {
        let mut socket = Socket::new(role, spoken);
        for (side, bytes) in &said {
            socket.says(*side, bytes, countable);
        }
        if !said.is_empty() {
            let known = match spoken {
                Protocol::Http => protocol::HTTP,
                Protocol::Redis => protocol::REDIS,
                _ => protocol::POSTGRES,
            };
            assert_eq!(socket.exchange.protocol, known);
        }
        let (counted, output) = socket.counted();
        let right = counted == wanted && output.unparsed.is_empty();
        assert!(
            right,
            "{counted:?}, not {wanted:?}; {:?}; countable {countable}, reason {}: {}",
            output.unparsed,
            socket.exchange.reason,
            shown(&said)
        );
    }
});
