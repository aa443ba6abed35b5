//! Connections as the kernel hands them over, and both lanes beside each other.
mod bodies;
mod ends;
mod lanes;

use super::{table::MAX_BUFFERED, *};
use crate::{
    decode::Unparsed,
    l7::{Fill, Limits, Output, Sessions},
};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

const LIMITS: Limits = Limits {
    sockets: 16,
    questions_per_socket: 16,
    questions: 16,
    stream_bytes: 4096,
    connections: 32,
    body_bytes: 1024,
};

pub(super) fn between(role: Role, protocol: Protocol) -> Between {
    let of = Exchanges::example(role, protocol);
    Between {
        owner: of.owner,
        netns: of.netns,
        local: of.local,
        remote: of.remote,
        role,
        protocol,
    }
}

/// Says segments one millisecond apart, each whole.
struct Node {
    sessions: Sessions,
    now_ns: u64,
    positions: [u64; 2],
    between: Between,
}

impl Node {
    fn new(protocol: Protocol) -> Self {
        Self {
            sessions: Sessions::new(LIMITS),
            now_ns: 1_000_000_000,
            positions: [100, 200],
            between: between(Role::Client, protocol),
        }
    }

    fn part<'a>(&mut self, side: Side, payload: &'a [u8]) -> Part<'a> {
        self.now_ns += 1_000_000;
        let len = u32::try_from(payload.len()).unwrap();
        let at = &mut self.positions[side as usize];
        *at += u64::from(len);
        Part {
            time_ns: self.now_ns,
            socket: 7,
            between: self.between,
            side,
            position: *at - u64::from(len),
            len,
            starts: true,
            payload,
            begin: None,
        }
    }

    /// Of a connection that the kernel has looked at from its begin.
    fn begin<'a>(&mut self, payload: &'a [u8]) -> Part<'a> {
        let [from, other_from] = self.positions;
        let part = self.part(Side::Client, payload);
        Part {
            begin: Some(Begin {
                from,
                other_from,
                handover: Handover::default(),
                carried: &[],
            }),
            ..part
        }
    }

    fn take(&mut self) -> Output {
        self.now_ns += 50_000_000;
        self.sessions.take(self.now_ns)
    }

    /// With all that it has said.
    fn ends(&mut self) -> Output {
        let words = Some(self.positions);
        self.ends_with(words, false)
    }

    fn ends_with(&mut self, words: Option<[u64; 2]>, lost: bool) -> Output {
        let mut exchanges = Exchanges::example(Role::Client, self.between.protocol);
        exchanges.classes = Classes::default();
        exchanges.latency = Latency::default();
        self.sessions.count(Counted {
            exchanges,
            unanswered: 0,
            ended: Some(End {
                time_ns: self.now_ns,
                socket: 7,
                words,
                lost,
            }),
        });
        self.take()
    }
}

fn classes(of: &Output) -> Classes {
    let mut sum = Classes::default();
    for exchanges in &of.exchanges {
        sum.iter_mut().zip(exchanges.classes).for_each(|(to, n)| *to += n);
    }
    sum
}

fn unparsed(of: &Output) -> Vec<(UnparsedReason, u64)> {
    let row = |of: &Unparsed| (of.reason, of.count);
    of.unparsed.iter().map(row).collect()
}

#[test]
fn requests_count_with_their_connection() {
    let mut node = Node::new(Protocol::Http);
    let parts = [node.begin(GET), node.part(Side::Server, OK)];
    parts.iter().for_each(|part| node.sessions.hear(part));
    let output = node.take();
    let expected = Exchanges {
        classes: [0, 0, 1, 0, 0, 0],
        latency: {
            let mut latency = Latency::default();
            latency.observe(1_000_000);
            latency
        },
        ..Exchanges::example(Role::Client, Protocol::Http)
    };
    assert_eq!(output.exchanges, [expected]);
    assert_eq!(node.take(), Output::default());
}

#[test]
fn what_the_kernel_has_begun_goes_on() {
    let mut node = Node::new(Protocol::Http);
    let part = node.part(Side::Server, NOT_FOUND);
    let [from, other_from] = node.positions;
    let begin = Begin {
        from: other_from - NOT_FOUND.len() as u64,
        other_from: from,
        handover: Handover {
            pending: 1,
            asked_ns: part.time_ns - 30_000_000,
            ..Handover::default()
        },
        carried: &[],
    };
    node.sessions.hear(&Part {
        begin: Some(begin),
        ..part
    });
    let output = node.take();
    assert_eq!(classes(&output), [0, 0, 0, 0, 1, 0]);
    assert_eq!(output.exchanges[0].latency.sum_ns, 30_000_000);
}

#[test]
fn the_first_bytes_of_a_request_come_with_the_begin() {
    let mut node = Node::new(Protocol::Http);
    node.positions = [103, 200];
    let part = node.begin(&GET[3..]);
    let asked_ns = part.time_ns - 9_000_000;
    let mut begin = part.begin.unwrap();
    begin.carried = &GET[..3];
    begin.handover.asked_ns = asked_ns;
    node.sessions.hear(&Part {
        begin: Some(begin),
        ..part
    });
    let reply = node.part(Side::Server, OK);
    node.sessions.hear(&reply);
    let output = node.take();
    assert_eq!(classes(&output)[2], 1);
    assert_eq!(output.exchanges[0].latency.sum_ns, reply.time_ns - asked_ns);
}

#[test]
fn what_comes_too_early_waits() {
    let mut node = Node::new(Protocol::Http);
    let parts = [
        node.begin(&GET[..5]),
        node.part(Side::Client, &GET[5..9]),
        node.part(Side::Client, &GET[9..]),
        node.part(Side::Server, OK),
    ];
    // The reply before its request, the parts of that in the wrong order, and the begin last.
    for which in [3, 2, 1, 0] {
        node.sessions.hear(&parts[which]);
    }
    let output = node.take();
    assert_eq!((classes(&output)[2], unparsed(&output)), (1, vec![]));
}

#[test]
fn what_never_comes_is_a_gap_and_the_next_request_is_found() {
    let mut node = Node::new(Protocol::Http);
    let lost = node.begin(GET);
    let more = [node.part(Side::Client, b"nobody knows"), node.part(Side::Server, OK)];
    more.iter().for_each(|part| node.sessions.hear(part));
    assert_eq!(node.take(), Output::default(), "it may still come");
    let (_, second) = (lost, node.take());
    assert!(
        unparsed(&second)
            .iter()
            .any(|(reason, _)| *reason == UnparsedReason::Gap),
        "{second:?}"
    );
    let parts = [node.part(Side::Client, GET), node.part(Side::Server, OK)];
    parts.iter().for_each(|part| node.sessions.hear(part));
    assert_eq!(classes(&node.take())[2], 1);
}

#[test]
fn a_long_segment_comes_in_parts_and_its_end_may_be_missing() {
    let mut node = Node::new(Protocol::Http);
    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    let begin = node.begin(GET);
    let first = node.part(Side::Server, reply);
    let last = Part {
        starts: false,
        len: 100_000,
        ..node.part(Side::Server, b"and so on")
    };
    node.positions[1] += 100_000 - 9;
    let next = [node.part(Side::Client, GET), node.part(Side::Server, NOT_FOUND)];
    for part in [begin, first, last].iter().chain(&next) {
        node.sessions.hear(part);
    }
    let output = node.take();
    assert_eq!((classes(&output), unparsed(&output)), ([0, 0, 1, 0, 1, 0], vec![]));
}

#[test]
fn of_a_connection_that_says_something_else_nothing_is_wanted() {
    let mut node = Node::new(Protocol::Http);
    let parts = [
        node.begin(GET),
        node.part(Side::Server, OK),
        node.part(Side::Client, b"\x16\x03\x01 and so on, no HTTP\r\n\r\n"),
        node.part(Side::Client, GET),
    ];
    parts.iter().for_each(|part| node.sessions.hear(part));
    let output = node.take();
    assert_eq!((classes(&output)[2], &output.given_up[..]), (1, &[7][..]));
    assert_eq!(unparsed(&output), [(UnparsedReason::Malformed, 1)]);
    let output = node.ends();
    assert_eq!((&output.ended[..], unparsed(&output)), (&[7][..], vec![]));
    assert_eq!(node.sessions.fill(), Fill::default());
}

#[test]
fn at_the_end_of_a_connection_requests_are_unanswered() {
    let mut node = Node::new(Protocol::Redis);
    let command = b"*1\r\n$4\r\nPING\r\n".repeat(3);
    let begin = node.begin(&command);
    node.sessions.hear(&begin);
    let reply = node.part(Side::Server, b"+PONG\r\n");
    node.sessions.hear(&reply);
    let output = node.ends();
    assert_eq!(
        (classes(&output)[2], unparsed(&output)),
        (1, vec![(UnparsedReason::Unanswered, 2)])
    );
    assert_eq!(node.sessions.fill(), Fill::default());
}

#[test]
fn a_server_counts_once_whoever_asks() {
    let mut sessions = Sessions::new(LIMITS);
    for (role, port) in [
        (Role::Server, 1),
        (Role::Server, 2),
        (Role::Client, 1),
        (Role::Client, 2),
    ] {
        let mut exchanges = Exchanges::example(role, Protocol::Postgres);
        exchanges.remote.set_port(port);
        sessions.count(Counted {
            exchanges,
            unanswered: 2,
            ended: None,
        });
    }
    let output = sessions.take(1);
    let counts: Vec<_> = output
        .exchanges
        .iter()
        .map(|of| (of.role, of.latency.count()))
        .collect();
    assert_eq!(counts, [(Role::Client, 3), (Role::Client, 3), (Role::Server, 6)]);
    assert_eq!(unparsed(&output), [(UnparsedReason::Unanswered, 8)]);
}

#[test]
fn targets_that_are_left_out_do_not_count() {
    let mut node = Node::new(Protocol::Http);
    node.sessions.leave_out(&["^/a".parse().unwrap()]);
    let parts = [
        node.begin(GET),
        node.part(Side::Server, OK),
        node.part(Side::Client, b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"),
        node.part(Side::Server, NOT_FOUND),
    ];
    parts.iter().for_each(|part| node.sessions.hear(part));
    let output = node.take();
    assert_eq!((classes(&output), unparsed(&output)), ([0, 0, 0, 0, 1, 0], vec![]));
}

#[test]
fn neither_connections_nor_what_they_keep_grow_without_end() {
    let mut node = Node::new(Protocol::Http);
    let head = [b"GET /".as_slice(), &[b'x'; 4000]].concat();
    for socket in 0..10_000 {
        node.positions = [0, 0];
        let begin = node.begin(&head);
        node.sessions.hear(&Part { socket, ..begin });
        for _ in 0..3 {
            let part = node.part(Side::Client, &head[5..]);
            node.sessions.hear(&Part { socket, ..part });
        }
        let fill = node.sessions.fill();
        assert!(fill.connections <= LIMITS.connections && fill.connection_bytes <= MAX_BUFFERED);
    }
    assert!(node.sessions.fill().connections_evicted >= 9_000);
    for socket in 0..10_000 {
        node.sessions.count(Counted {
            exchanges: Exchanges::example(Role::Client, Protocol::Http),
            unanswered: 0,
            ended: Some(End {
                time_ns: 1,
                socket,
                words: None,
                lost: false,
            }),
        });
    }
    assert_eq!(
        (node.sessions.fill().connections, node.sessions.fill().connection_bytes),
        (0, 0)
    );
}
