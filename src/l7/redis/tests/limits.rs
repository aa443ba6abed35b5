//! What is kept, and how long it takes.
use super::{super::talk::MAX_UNANSWERED, *};
use UnparsedReason::{Crowded, Malformed, Unanswered, Unsupported};

#[test]
fn so_many_wait_and_no_more() {
    let get = command(&["GET", "a"]);
    let mut line = Line::new();
    for _ in 0..MAX_UNANSWERED {
        line.client(&get);
    }
    assert!(!line.redis.is_over());
    line.client(get.repeat(2));
    assert!(line.redis.is_over());
    assert_eq!(line.unparsed(), [(Crowded, 2), (Unanswered, MAX_UNANSWERED as u64)]);
    assert_eq!((line.redis.buffered(), line.redis.expects_reply()), (0, false));
    // Those of one segment take one place.
    let mut line = Line::new();
    line.client(get.repeat(MAX_UNANSWERED * 2))
        .server(b"_\r\n".repeat(MAX_UNANSWERED * 2));
    assert_eq!(
        (line.heard.exchanges.len(), line.unparsed()),
        (MAX_UNANSWERED * 2, vec![])
    );
}

#[test]
fn of_those_that_wait_only_some_are_shown() {
    let mut line = Line::watched();
    for _ in 0..1100 {
        line.client("PING\r\n");
    }
    line.server(b"+PONG\r\n".repeat(1100));
    let shown = line
        .heard
        .exchanges
        .iter()
        .filter(|exchange| exchange.asked.is_some())
        .count();
    assert_eq!((line.heard.exchanges.len(), shown), (1100, 1024));
}

#[test]
fn lines_have_an_end() {
    for (kind, side) in [("+", Server), ("-", Server), ("(", Server), ("GET ", Client)] {
        for fits in [true, false] {
            let text = "1".repeat((64 << 10) - if side == Client { 6 } else { 1 } + usize::from(!fits));
            let long = format!("{kind}{text}\r\n");
            let mut line = Line::new();
            line.is_right();
            line.client(if side == Client { &long } else { "PING\r\n" });
            line.server(if side == Server { &long } else { "+OK\r\n" });
            assert_eq!(line.redis.is_over(), !fits, "{kind}");
        }
    }
    let mut line = Line::new();
    line.is_right();
    for _ in 0..64 << 10 {
        line.client("a");
        assert!(line.redis.buffered() <= 130 << 10);
    }
    line.client("a");
    assert_eq!((line.unparsed(), line.redis.buffered()), (vec![(Malformed, 1)], 0));
}

#[test]
fn nothing_of_a_value_is_kept() {
    let mut line = Line::new();
    line.is_right();
    line.client("*2\r\n$3\r\nSET\r\n$1048576\r\n").server("$1048576\r\n");
    for _ in 0..1024 {
        line.client([b'x'; 1024]).server([b'x'; 1024]);
        assert!(line.redis.buffered() < 100);
    }
}

#[test]
fn values_are_so_deep_and_no_deeper() {
    for (depth, unparsed) in [(32, vec![]), (33, vec![(Unsupported, 1)])] {
        let mut line = Line::new();
        line.client(command(&["EVAL"]))
            .server("*1\r\n".repeat(depth) + ":1\r\n");
        assert_eq!((line.statuses().as_str(), line.unparsed()), ("+", unparsed));
    }
}

#[test]
fn a_place_where_no_message_is_ever_found_is_left() {
    let mut line = Line::new();
    for _ in 0..1024 {
        line.client("abc\r\n");
    }
    assert_eq!((line.redis.is_over(), line.unparsed()), (false, vec![]));
    line.client("abc\r\n").client("abc\r\n").end();
    assert_eq!((line.redis.is_over(), line.unparsed()), (true, vec![(Malformed, 1)]));

    let mut line = Line::new();
    line.client("PING\r\n");
    for _ in 0..1025 {
        line.server("PONG\r\n");
    }
    line.end();
    assert_eq!(
        (line.redis.is_over(), line.unparsed()),
        (true, vec![(Malformed, 1), (Unanswered, 1)])
    );

    let mut line = Line::new();
    line.client("abc\r\n").end();
    assert_eq!(line.unparsed(), [(Malformed, 1)]);
}

#[test]
fn it_takes_no_longer_byte_by_byte() {
    let long = command(&vec!["x"; 300_000]);
    let mut line = Line::new();
    for byte in long {
        line.client([byte]);
    }
    let reply = format!("*300000\r\n{}", ":1\r\n".repeat(300_000));
    for byte in reply.bytes() {
        line.server([byte]);
    }
    line.is_right();
}
