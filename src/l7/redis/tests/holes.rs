//! Bytes that nobody sees, and connections that are older than the agent.
use super::*;
use UnparsedReason::{Cut, Gap, Malformed, Unanswered};

const BIG: u64 = 5_000_000_000;

#[test]
fn what_a_known_length_covers_is_not_missed() {
    let mut line = Line::new();
    line.is_right();
    line.client(format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${BIG}\r\nabc"))
        .miss(Client, BIG - 3)
        .client("\r\n")
        .server("+OK\r\n");
    line.client(format!("*3\r\n$3\r\nSET\r\n${BIG}\r\n"))
        .miss(Client, BIG + 2)
        .client("$1\r\na\r\n")
        .server("-ERR\r\n");
    line.client(format!("*2\r\n$3\r\nGET\r\n${BIG}\r\n"))
        .miss(Client, BIG)
        .miss(Client, 1)
        .miss(Client, 1)
        .server(":1\r\n");
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-+-+", vec![]));
    line.client(command(&["GET", "a"]))
        .server(format!("${BIG}\r\n"))
        .miss(Server, BIG)
        .server("\r\n")
        .is_right();
    line.client(command(&["GET", "a"]))
        .server(format!("*2\r\n!{BIG}\r\nab"))
        .miss(Server, BIG)
        .server(":1\r\n")
        .is_right();
    line.client(command(&["GET", "a"]))
        .server(format!(">1\r\n${BIG}\r\n"))
        .miss(Server, BIG + 2);
    assert!(line.redis.expects_reply());
    line.server("-ERR\r\n").is_right();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-+-+++-++--+-", vec![]));
}

#[test]
fn a_client_that_is_not_understood_is_again_at_a_segment() {
    let get = command(&["GET", "a"]);
    let mut line = Line::new();
    line.is_right();
    // Two commands, and the begin of a third one.
    line.client([&get[..], &get, b"*2\r\n$3"].concat()).miss(Client, 1);
    line.piece(Client, &get, false)
        .miss(Client, 5)
        .client("abc")
        .miss(Client, 100);
    line.server("-ERR\r\n+OK\r\n+OK\r\n-ERR\r\n");
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+--+", vec![(Cut, 1)]));
    line.is_right().is_right();
    // A hole of its own is told of anew.
    line.client("*").miss(Client, 1).is_right();
    assert_eq!(line.unparsed(), [(Cut, 2)]);
}

#[test]
fn a_server_that_is_not_understood_is_again_at_an_answer() {
    let get = command(&["GET", "a"]);
    let mut line = Line::new();
    line.is_right();
    line.client(get.repeat(5))
        .server("-ERR\r\n+OK\r\n*2\r\n:1")
        .miss(Server, 1);
    // What is left of the replies to that batch is nobody's.
    line.server("+OK\r\n").server(":7\r\n");
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+--++", vec![(Cut, 2)]));
    assert!(!line.redis.expects_reply());
    line.is_right().is_right();
    line.server("+").miss(Server, 10);
    assert_eq!(line.unparsed(), [(Cut, 3)]);
    // The reply is not at the begin of a segment.
    line.client(&get)
        .piece(Server, "+OK\r\n", false)
        .client(&get)
        .server("-ERR\r\n")
        .is_right();
    assert_eq!(line.unparsed(), [(Cut, 4)]);
}

#[test]
fn a_command_that_is_heard_of_behind_the_hole_of_its_reply() {
    let mut line = Line::new();
    line.is_right();
    line.miss(Server, 5)
        .client(command(&["GET", "a"]))
        .client(command(&["GET", "b"]))
        .server("-ERR\r\n");
    assert_eq!(line.times().last(), Some(&(6, 7)));
    line.is_right();
    assert_eq!(line.unparsed(), [(Cut, 2)]);
}

#[test]
fn who_is_still_unanswered_when_the_client_goes_on_is_lost_once() {
    let get = command(&["GET", "a"]);
    let mut line = Line::new();
    line.is_right();
    // What looks like a command to the client's reader was none to the server.
    line.client("*2\r\n$3\r\n")
        .miss(Client, 6)
        .client(get.repeat(2))
        .server("+OK\r\n");
    assert!(line.redis.expects_reply());
    line.client(&get).server("-ERR\r\n").is_right();
    assert_eq!(line.statuses(), "+-+-+-");
    assert_eq!(line.unparsed(), [(Cut, 2)]);
    // Later on it may wait for as many as it likes.
    line.client(&get)
        .client(&get)
        .server("+OK\r\n")
        .client(&get)
        .server("+OK\r\n-ERR\r\n");
    assert_eq!(line.unparsed(), [(Cut, 2)]);
    assert!(!line.redis.expects_reply());
}

#[test]
fn news_that_are_missing_hide_nothing() {
    let mut line = Line::new();
    line.client("MONITOR\r\n").server("+OK\r\n+1").miss(Server, 100);
    line.server("+1.2 [0 lua]\r\n")
        .client("PING\r\n")
        .server("+1.2 [0 lua]\r\n-ERR\r\n");
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-", vec![]));
}

#[test]
fn either_side_is_in_the_middle_of_something() {
    for bytes in [
        "lo\r\n",
        "hello",
        "\r\n",
        "-lo",
        ":",
        "*2",
        "+lo\r\nabc",
        "$7\r\nabc\r\n",
        "*3\r\n:1\r\n",
        "\n",
        "1\r\n$3\r\nkey\r\n",
    ] {
        for starts in [false, true] {
            let mut line = Line::new();
            line.piece(Server, bytes, starts).piece(Server, bytes, false).is_right();
            assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-", vec![]), "{bytes:?}");
            let mut line = Line::new();
            line.piece(Client, bytes, starts)
                .piece(Client, bytes, false)
                .server("+OK\r\n")
                .is_right()
                .end();
            assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-", vec![]), "{bytes:?}");
        }
    }
    // A reply to the first of its commands is not understood: whose the next one is shows when it goes on.
    let get = command(&["GET", "a"]);
    let mut line = Line::new();
    line.client(&get)
        .server("lo\r\n+OK\r\n")
        .client(&get)
        .server("-ERR\r\n")
        .is_right();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("-+-", vec![(Gap, 1)]));
}

#[test]
fn a_segment_that_begins_with_what_no_message_was_is_tried_anew() {
    let get = command(&["GET", "a"]);
    let mut line = Line::new();
    line.client("*2\r\n$3")
        .client(&get)
        .server("$")
        .server("-ERR\r\n")
        .is_right()
        .end();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("-+-", vec![]));
}

#[test]
fn taken_over_where_the_client_is() {
    let get = command(&["GET", "a"]);
    let mut line = Line::after(Handover {
        pending: 3,
        asked_ns: 100,
        rest: 7,
        ..Handover::default()
    });
    assert!(line.redis.expects_reply());
    line.client([b"*1\r\n$4\r", &get[..]].concat())
        .server("-ERR\r\n+OK\r\n$1\r\na\r\n-ERR\r\n")
        .is_right();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("-++-+-", vec![]));
    assert_eq!(line.times()[..4], [(100, 102), (100, 102), (100, 102), (101, 102)]);

    let mut line = Line::after(Handover {
        pending: 1,
        asked_ns: 100,
        rest: BIG,
        ..Handover::default()
    });
    line.client("abc")
        .miss(Client, BIG - 3)
        .client(&get)
        .piece(Server, "+OK\r\n", false)
        .server("-ERR\r\n")
        .end();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("+-", vec![]));

    let mut line = Line::after(Handover {
        pending: 2,
        asked_ns: 100,
        ..Handover::default()
    });
    line.miss(Server, 1).is_right();
    assert_eq!(line.unparsed(), [(Cut, 2)]);
    let mut line = Line::after(Handover {
        pending: 2,
        asked_ns: 100,
        ..Handover::default()
    });
    line.server(":1\r\n").end();
    assert_eq!(
        (line.statuses().as_str(), line.unparsed()),
        ("+", vec![(Unanswered, 1)])
    );
    let mut line = Line::after(Handover {
        pending: 1,
        asked_ns: 100,
        ..Handover::default()
    });
    line.client("\u{1}").end();
    assert_eq!(line.unparsed(), [(Malformed, 1), (Unanswered, 1)]);
}

#[test]
fn taken_over_where_the_server_is() {
    let mut line = Line::after(Handover::default());
    // The rest of what the kernel has counted.
    line.server("-abc\r\n")
        .server(":1\r\n")
        .miss(Server, 10)
        .server("+OK\r\n");
    assert!(!line.redis.expects_reply());
    line.is_right();
    let mut line = Line::after(Handover::default());
    line.client(command(&["GET", "a"]))
        .piece(Server, "abc\r\n", false)
        .server("-ERR\r\n")
        .is_right();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("-+-", vec![]));
    // What the kernel has counted may have been a subscription.
    let mut line = Line::after(Handover {
        pending: 1,
        ..Handover::default()
    });
    line.server(lines(">3|$9|subscribe|$1|a|:1|>3|$7|message|$1|a|$1|b|"))
        .is_right();
    assert_eq!(line.statuses(), "++-");
    let mut line = Line::after(Handover {
        pending: 1,
        ..Handover::default()
    });
    line.server(lines("*3|$7|message|$1|a|$1|b|")).is_right();
    assert_eq!(line.statuses(), "++-");
}
