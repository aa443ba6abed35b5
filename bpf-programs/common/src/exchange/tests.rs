//! The matcher as user space runs it: whole exchanges in, totals or a reason out.
use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const COMMAND: &[u8] = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n";
const QUERY: &[u8] = b"Q\0\0\0\x0dSELECT 1\0";
const ROW: &[u8] = b"T\0\0\0\x06\0\0D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
const ALL: u32 = u32::MAX;

/// Direction on the client's side, and bytes.
type Segments<'a> = &'a [(u8, &'a [u8])];

fn play_on(exchange: &mut Exchange, segments: Segments<'_>, flip: bool, countable: u32) {
    for (i, (direction, bytes)) in segments.iter().enumerate() {
        let direction = if flip { SEND + RECEIVE - direction } else { *direction };
        if exchange.is_tired(direction) {
            continue;
        }
        let seen = bytes.len().min(exchange.wanted(direction) as usize);
        let mut head = Head::empty();
        exchange.begin(&mut head, direction);
        head.append(&bytes[..seen]);
        let segment = Segment {
            direction,
            len: bytes.len() as u32,
            now_ns: i as u64 * 1_000_000,
            head: &head,
            countable,
        };
        exchange.advance(&segment, |what, len| walk(what, &head, len, ALL));
    }
}

/// Plays segments one millisecond apart to a client's socket and to a server's, which must agree.
fn play(segments: Segments<'_>) -> Exchange {
    let side = |flip| {
        let mut exchange = Exchange::default();
        play_on(&mut exchange, segments, flip, ALL);
        exchange
    };
    let (client, server) = (side(false), side(true));
    assert_eq!(
        (client.totals, client.lane, client.reason, client.pending),
        (server.totals, server.lane, server.reason, server.pending)
    );
    client
}

fn reason(exchange: &Exchange) -> &'static str {
    if exchange.lane == lane::RECORDS {
        REASON_NAMES[exchange.reason as usize]
    } else {
        ""
    }
}

#[test]
fn http_exchanges_are_counted() {
    let e = play(&[
        (SEND, GET),
        (RECEIVE, OK),
        (SEND, GET),
        (RECEIVE, b"HTTP/1.1 404 Not Found\r\n\r\n"),
    ]);
    assert_eq!((e.protocol, e.lane, e.role), (protocol::HTTP, lane::KERNEL, SEND));
    assert_eq!(e.totals.classes, [0, 0, 1, 0, 1, 0]);
    assert_eq!((e.totals.buckets[0], e.totals.latency_ns), (2, 2_000_000));
}

#[test]
fn a_slow_reply_lands_in_its_bucket() {
    let mut segments = vec![(SEND, b"POST / HTTP/1.1\r\nContent-Length: 29\r\n\r\n".as_slice())];
    segments.extend([(SEND, b".".as_slice()); 29]);
    segments.push((RECEIVE, OK));
    let e = play(&segments);
    assert_eq!((e.totals.classes[2], e.totals.buckets[3]), (1, 1));
}

#[test]
fn a_reply_in_several_segments_is_one() {
    let e = play(&[
        (SEND, GET),
        (RECEIVE, OK),
        (RECEIVE, b"more of the body"),
        (SEND, GET),
        (RECEIVE, OK),
    ]);
    assert_eq!((e.totals.classes[2], reason(&e)), (2, ""));
}

#[test]
fn bodies_are_followed_by_their_length() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 5\r\n\r\n".as_slice();
    for body in [[b"".as_slice(), b"hello"], [b"hel", b"lo"], [b"hello", b""]] {
        let first = [head, body[0]].concat();
        let mut segments = vec![(SEND, first.as_slice())];
        if !body[1].is_empty() {
            segments.push((SEND, body[1]));
        }
        segments.extend([(RECEIVE, OK), (SEND, GET), (RECEIVE, OK)]);
        let e = play(&segments);
        assert_eq!((e.totals.classes[2], reason(&e)), (2, ""), "{body:?}");
    }
}

#[test]
fn what_is_not_clean_goes_to_the_record_lane_and_nothing_is_lost_on_the_way() {
    let two = [GET, GET].concat();
    let long = [b"GET /".as_slice(), &[b'x'; 1200], b" HTTP/1.1\r\n\r\n"].concat();
    let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    let commands = COMMAND.repeat(60);
    let batch = b"P\0\0\0\x08\0S\0\0S\0\0\0\x04".as_slice();
    for (segments, expected, pending) in [
        (&[(SEND, two.as_slice())][..], "pipelined", 0),
        (&[(SEND, long.as_slice())], "long_head", 0),
        (&[(SEND, chunked)], "no_length", 0),
        (
            &[(SEND, b"*3\r\n$6\r\nclient\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n")],
            "special",
            0,
        ),
        (&[(SEND, b"*2\r\n$6\r\nCLIENT\r\n$5\r\nGETID\r\n")], "", 1),
        (&[(SEND, GET), (SEND, GET)], "overlap", 1),
        (
            &[(SEND, GET), (RECEIVE, b"HTTP/1.1 100 Continue\r\n\r\n")],
            "special",
            1,
        ),
        (&[(SEND, GET), (RECEIVE, b"nonsense, all of it")], "not_a_reply", 1),
        (&[(SEND, GET), (RECEIVE, OK), (RECEIVE, OK)], "unasked", 0),
        (&[(SEND, GET), (RECEIVE, OK), (SEND, b"nonsense")], "not_a_request", 0),
        (&[(SEND, b"CONNECT a:1 HTTP/1.1\r\n\r\n")], "connect", 0),
        (&[(SEND, commands.as_slice())], "too_many", 0),
        (&[(SEND, &COMMAND[..12])], "cut", 0),
        (&[(SEND, b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n")], "special", 0),
        (&[(SEND, COMMAND), (RECEIVE, b">2\r\n+a\r\n+b\r\n")], "not_a_reply", 1),
        (
            &[
                (SEND, COMMAND),
                (RECEIVE, b"$1\r\na\r\n"),
                (SEND, b"PING 12\r\n"),
                (RECEIVE, b"+PONG\r\n"),
            ],
            "not_a_request",
            0,
        ),
        (
            &[
                (SEND, COMMAND),
                (RECEIVE, b"$1\r\na\r\n"),
                (SEND, b"PING\r\n"),
                (RECEIVE, b"+PONG\r\n"),
            ],
            "early",
            0,
        ),
        (&[(SEND, QUERY), (RECEIVE, &ROW[..20])], "long_reply", 1),
        (&[(SEND, QUERY), (RECEIVE, ROW), (SEND, batch)], "special", 0),
        (&[(SEND, batch)], "special", 0),
    ] {
        let e = play(segments);
        assert_eq!((reason(&e), e.pending), (expected, pending), "{segments:?}");
    }
}

#[test]
fn what_came_before_the_segment_that_was_too_much_stays() {
    let mut exchange = Exchange::default();
    play_on(&mut exchange, &[(SEND, GET), (RECEIVE, OK), (SEND, b"GET")], false, ALL);
    assert_eq!(
        (exchange.lane, exchange.carried_len, &exchange.carried[..3]),
        (lane::KERNEL, 3, b"GET".as_slice())
    );
    let before = exchange;
    play_on(&mut exchange, &[(SEND, b" /a bit more of it")], false, ALL);
    assert_eq!(reason(&exchange), "long_head");
    assert_eq!(
        (
            exchange.totals,
            exchange.carried,
            exchange.carried_len,
            exchange.asked_ns
        ),
        (before.totals, before.carried, before.carried_len, before.asked_ns)
    );
}

#[test]
fn a_request_may_begin_with_a_few_bytes() {
    for cut in 1..=7 {
        let e = play(&[
            (SEND, &GET[..cut]),
            (SEND, &GET[cut..]),
            (RECEIVE, OK),
            (SEND, &GET[..1]),
            (SEND, &GET[1..]),
            (RECEIVE, OK),
        ]);
        assert_eq!((e.totals.classes[2], reason(&e)), (2, ""), "{cut}");
        assert_eq!(e.totals.latency_ns, 4_000_000, "from the first byte on");
    }
    let bytes: Vec<_> = GET.iter().map(|byte| (SEND, core::slice::from_ref(byte))).collect();
    assert_eq!(reason(&play(&bytes)), "long_head");
}

#[test]
fn redis_is_counted_pipelined_or_not() {
    let (commands, replies) = (
        COMMAND.repeat(16),
        [b"$1\r\na\r\n".repeat(15), b"-ERR no\r\n".to_vec()].concat(),
    );
    let e = play(&[
        (SEND, COMMAND),
        (RECEIVE, b"*3\r\n$1\r\na\r\n"),
        (RECEIVE, b"$1\r\nb\r\n$1\r\nc\r\n"),
        (SEND, &commands),
        (RECEIVE, &replies[..7 * 9]),
        (RECEIVE, &replies[7 * 9..]),
    ]);
    assert_eq!((reason(&e), e.totals.classes), ("", [0, 0, 16, 0, 0, 1]));
    assert_eq!((e.pending, e.totals.buckets[0]), (0, 17));
    let long = [b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5000\r\n".as_slice(), &[b'*'; 3000]].concat();
    let e = play(&[(SEND, &long), (SEND, &[b'*'; 2002]), (RECEIVE, b"+OK\r\n")]);
    assert_eq!((reason(&e), e.totals.classes[2]), ("", 1));
}

#[test]
fn postgres_simple_queries_are_counted() {
    let start = b"\0\0\0\x0f\0\x03\0\0user\0a\0".as_slice();
    let e = play(&[
        (SEND, start),
        (RECEIVE, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"),
        (SEND, QUERY),
        (RECEIVE, ROW),
        (SEND, QUERY),
        (RECEIVE, b"T\0\0\0\x06\0\0E\0\0\0\x06S\0Z\0\0\0\x05I"),
        (SEND, b"X\0\0\0\x04"),
    ]);
    assert_eq!((e.protocol, reason(&e)), (protocol::POSTGRES, ""));
    assert_eq!(e.totals.classes, [0, 0, 1, 0, 0, 1]);
    let asks = b"\0\0\0\x08\x04\xd2\x16\x2f".as_slice();
    let e = play(&[(SEND, asks), (RECEIVE, b"S"), (SEND, &[0x16; 300])]);
    assert_eq!(e.lane, lane::OPAQUE);
    let e = play(&[
        (SEND, asks),
        (RECEIVE, b"N"),
        (SEND, start),
        (RECEIVE, b"R"),
        (SEND, QUERY),
        (RECEIVE, ROW),
    ]);
    assert_eq!((reason(&e), e.totals.classes[2]), ("", 1));
}

#[test]
fn a_connection_that_is_older_is_found_at_its_next_request() {
    for (request, reply) in [(GET, OK), (COMMAND, b"+OK\r\n".as_slice()), (QUERY, ROW)] {
        let body = [b'.'; 1500].as_slice();
        let mut segments = vec![(SEND, body), (RECEIVE, b"+OK POP3 ready\r\n".as_slice())];
        segments.extend([(RECEIVE, body); 100]);
        segments.extend([(SEND, request), (RECEIVE, reply)]);
        let e = play(&segments);
        assert_eq!((e.lane, e.totals.classes[2]), (lane::KERNEL, 1), "{request:?}");
    }
}

#[test]
fn what_is_none_of_them_is_given_up() {
    for bytes in [
        b"GETX /foo bar baz qux quux".as_slice(),
        b"PUTTING it together, a text protocol\r\n",
        b"+OK POP3 ready\r\n",
        b"220 mail ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x0a\x05\x68\x65\x6c\x6c\x6f\x10\x01",
        b"\x7f\x45\x4c\x46 and so on S\0\0\0\x04",
        b"\xff\xff\xff\xff and so on",
        b"Q\xff\xff\xff\xff and so on",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 12],
    ] {
        let segments = [(SEND, bytes), (RECEIVE, bytes)].repeat(30);
        let e = play(&segments);
        assert_eq!((e.lane, e.totals), (lane::OPAQUE, Totals::default()), "{bytes:?}");
    }
    for byte in 0..=255 {
        let one = [byte];
        let e = play(&[(SEND, one.as_slice()), (RECEIVE, one.as_slice())].repeat(30));
        assert_eq!((e.lane, e.totals), (lane::OPAQUE, Totals::default()), "{byte}");
    }
}

#[test]
fn one_request_is_told_from_two() {
    let tail = "x".repeat(40);
    for len in 0..40 {
        let path = &tail[..len];
        let one = format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let e = play(&[(SEND, one.as_bytes())]);
        assert_eq!((e.lane, e.pending), (lane::KERNEL, 1), "{one}");
        let e = play(&[(SEND, one.repeat(2).as_bytes())]);
        assert_eq!(reason(&e), "pipelined", "{one}");
        let e = play(&[(SEND, &one.as_bytes()[..one.len() - 1])]);
        assert_eq!(reason(&e), "long_head", "{one}");
    }
}

#[test]
fn what_is_not_to_be_counted_here_is_handed_on() {
    let mut exchange = Exchange::default();
    play_on(&mut exchange, &[(SEND, GET)], false, 0);
    assert_eq!(
        (reason(&exchange), exchange.protocol, exchange.pending),
        ("configured", protocol::HTTP, 0)
    );
    let mut exchange = Exchange::default();
    play_on(&mut exchange, &[(SEND, GET)], false, ALL);
    play_on(&mut exchange, &[(RECEIVE, OK)], false, 0);
    assert_eq!((reason(&exchange), exchange.pending), ("configured", 1));
}

#[test]
fn memcached_is_recognised_and_handed_on() {
    let binary = b"\x80\0\0\x03\0\0\0\0\0\0\0\x03\0\0\0\x07\0\0\0\0\0\0\0\0foo".as_slice();
    let long = [b"set foo 0 60 5000\r\n".as_slice(), &[b'x'; 5000], b"\r\n"].concat();
    for request in [
        b"get foo\r\n".as_slice(),
        b"gets a b c\r\n",
        b"set foo 0 60 2\r\nhi\r\n",
        b"incr n 5\r\n",
        b"gat 30 a b\r\n",
        b"mg foo v\r\n",
        b"prepend foo 0 0 1\r\na\r\n",
        b"version\r\n",
        b"stats\r\n",
        b"stats slabs\r\n",
        b"flush_all\r\n",
        b"flush_all 10\r\n",
        &long,
        binary,
    ] {
        let mut exchange = Exchange::default();
        play_on(&mut exchange, &[(SEND, request)], false, COUNTABLE);
        assert_eq!(
            (exchange.protocol, reason(&exchange)),
            (protocol::MEMCACHED, "configured"),
            "{request:?}"
        );
    }
    for other in [
        b"get lost, everybody".as_slice(),
        b"set \r\n",
        b"getting there\r\n",
        b"stats\r\nand more",
        b"version\r",
        b"version\r\n\r\n",
        b"statistics\r\n",
        b"flush_al \r\n",
        b"\x80\x01 and so on, no header of it",
        b"\x80\0\0\x03\0\0\0\0\xff\xff\xff\xf0\0\0\0\x07\0\0\0\0\0\0\0\0foo",
    ] {
        let mut exchange = Exchange::default();
        play_on(&mut exchange, &[(SEND, other)], false, COUNTABLE);
        assert_eq!(exchange.protocol, 0, "{other:?}");
    }
}

#[test]
fn totals_wrap() {
    let mut before = Totals::default();
    before.classes[2] = u32::MAX;
    before.latency_ns = u64::MAX;
    let mut after = before;
    after.classes[2] = 1;
    after.latency_ns = 5;
    let mut new = after;
    new.subtract(&before);
    assert_eq!((new.classes[2], new.latency_ns), (2, 6));
}

#[test]
fn numbers_and_lines() {
    let head = |text: &str| {
        let mut head = Head::empty();
        head.append(text.as_bytes());
        head
    };
    for (text, number) in [
        ("0\r\n", Some((0, 3))),
        ("7\r\n$1\r\n", Some((7, 3))),
        ("1024\r\n", Some((1024, 6))),
        ("0000123\r\n", Some((123, 9))),
        ("9999999\r\n", Some((9_999_999, 9))),
        ("12345678\r\n", None),
        ("\r\n", None),
        ("", None),
        ("-1\r\n", None),
        ("1:2\r\n", None),
        ("1/2\r\n", None),
        ("1a\r\n", None),
        ("\u{7f}\r\n", None),
        ("12", None),
    ] {
        assert_eq!(head(text).number(0), number, "{text:?}");
    }
    for value in (0..10_000_000).step_by(37) {
        let text = format!("*{value}\r\n");
        assert_eq!(head(&text).number(1), Some((value, text.len() as u32 - 1)));
    }
    assert_eq!(head("OK\r\n").short_line(0), Some(4));
    assert_eq!(head("12345678901234\r\n").short_line(0), Some(16));
    assert_eq!(head("1234567890123456\r\n").short_line(0), None);
}
