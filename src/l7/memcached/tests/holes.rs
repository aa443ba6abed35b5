//! Bytes that nobody sees, and connections that are older than the agent.
use super::*;
use UnparsedReason::{Cut, Gap, Malformed, Unanswered};

const BIG: u64 = 1 << 31;

#[test]
fn what_a_known_length_covers_is_not_missed() {
    let mut line = Line::new();
    line.is_right();
    line.client(format!("set a 0 0 {BIG}\r\nabc"))
        .miss(Client, BIG - 3)
        .client("\r\n")
        .server("STORED\r\n")
        .is_right();
    line.client(format!("set a 0 0 {BIG}\r\n"))
        .miss(Client, BIG + 2)
        .server("STORED\r\n")
        .is_right();
    line.client("get a\r\n")
        .server(format!("VALUE a 0 {BIG}\r\n"))
        .miss(Server, BIG + 2)
        .server("END\r\n")
        .is_right();
    let long = message(0x80, 1, 0, 0, "key", &"x".repeat(1000));
    line.client(&long[..100])
        .miss(Client, long.len() as u64 - 100)
        .server(message(0x81, 1, 0, 0, "", ""))
        .is_right();
    let long = message(0x81, 0, 0, 0, "", &"x".repeat(1000));
    line.client(message(0x80, 0, 0, 0, "a", ""))
        .server(&long[..24])
        .miss(Server, 1000)
        .is_right();
    assert_eq!(
        (line.statuses().as_str(), line.unparsed()),
        ("+-++-++-++-++-++-", vec![])
    );
}

#[test]
fn a_side_that_is_not_understood_is_again() {
    let mut line = Line::new();
    line.is_right();
    line.client("get a\r\nget b\r\nge")
        .miss(Client, 5)
        .client("abc")
        .miss(Client, 100)
        .server("END\r\nERROR\r\nEND\r\n");
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-+-", vec![(Cut, 1)]));
    line.is_right().is_right();
    line.client("get a\r\nget a\r\nget a\r\n")
        .server("END\r\nVAL")
        .miss(Server, 5)
        .server("END\r\n")
        .server("END\r\n");
    assert_eq!(
        (line.statuses().as_str(), line.unparsed()),
        ("+-+-+-+-+", vec![(Cut, 3)])
    );
    line.is_right().is_right();
    line.client("get a\r\n").piece(Server, "END\r\n", true).miss(Server, 10);
    assert_eq!(line.unparsed(), [(Cut, 4)]);
    line.is_right();
}

#[test]
fn what_only_begins_like_a_message_is_not_believed_for_long() {
    let mut long = message(0x80, 1, 0, 0, "key", "");
    long[8..12].copy_from_slice(&((1 << 20) + 100u32).to_be_bytes());
    let mut list = message(0x80, 0x20, 0, 0, "", "");
    list[11] = 100;
    let line = format!("set a 0 0 {}\r\n", (1 << 20) + 1);
    for begin in [long, list, line.into_bytes()] {
        let mut line = Line::new();
        line.is_right();
        line.client("get a").miss(Client, 5).client(begin);
        line.client("get a\r\n").server("END\r\n");
        assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-+", vec![(Cut, 1)]));
        line.is_right();
    }
}

#[test]
fn either_side_is_in_the_middle_of_something() {
    for bytes in [
        "lo\r\n",
        "hello",
        "\r\n",
        "STORED",
        "1",
        "END\r\nabc",
        "VALUE a 0 100\r\n",
        "get",
        "\u{1}",
    ] {
        for starts in [false, true] {
            let mut line = Line::new();
            line.piece(Server, bytes, starts).piece(Server, bytes, false).is_right();
            assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-", vec![]), "{bytes:?}");
            let mut line = Line::new();
            line.piece(Client, bytes, starts)
                .server("END\r\n")
                .client("\u{1}")
                .is_right()
                .end();
            assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-", vec![]), "{bytes:?}");
        }
    }
    let mut line = Line::new();
    line.client("get a\r\n")
        .server("lo\r\nEND\r\n")
        .client("get a\r\n")
        .server("ERROR\r\n")
        .is_right();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("-+-", vec![(Gap, 1)]));
    let mut line = Line::new();
    line.client("ABC").end();
    assert_eq!(line.unparsed(), [(Malformed, 1)]);
    let mut line = Line::new();
    for _ in 0..1025 {
        line.client("ABC");
    }
    assert_eq!(
        (line.memcached.is_over(), line.unparsed()),
        (true, vec![(Malformed, 1)])
    );
}

#[test]
fn taken_over() {
    let mut line = Line::after(Handover {
        pending: 2,
        asked_ns: 100,
        rest: 4,
        ..Handover::default()
    });
    line.client("hi\r\nget a\r\n")
        .server("STORED\r\nERROR\r\nEND\r\n")
        .is_right();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-++-", vec![]));
    assert_eq!(line.times()[..3], [(100, 102), (100, 102), (101, 102)]);
    let mut line = Line::after(Handover {
        pending: 2,
        asked_ns: 100,
        ..Handover::default()
    });
    line.server(message(0x81, 0, 0, 7, "", "")).end();
    assert_eq!(
        (line.statuses().as_str(), line.unparsed()),
        ("+", vec![(Unanswered, 1)])
    );
    let mut line = Line::after(Handover::default());
    line.server("VALUE a 0 2\r\n")
        .server("hi\r\nEND\r\n")
        .miss(Server, 10)
        .server("END\r\n");
    assert!(!line.memcached.expects_reply());
    line.is_right();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-", vec![]));
}
