//! Known bytes, and what they mean.
use super::*;
use UnparsedReason::{Malformed, Unanswered, Unasked, Unsupported};

/// In turn, beginning with the client.
fn said(turns: &[&str]) -> Line {
    let mut line = Line::new();
    for pair in turns.chunks(2) {
        line.client(lines(pair[0]));
        line.server(pair.get(1).map(|text| lines(text)).unwrap_or_default());
    }
    line
}

#[track_caller]
fn are(turns: &[&str], statuses: &str, unparsed: &[(UnparsedReason, u64)]) {
    let mut line = said(turns);
    line.end();
    assert_eq!(
        (line.statuses().as_str(), line.unparsed().as_slice()),
        (statuses, unparsed)
    );
}

const GET: &str = "*2|$3|GET|$3|key|";

#[test]
fn every_kind_of_value_is_a_reply() {
    for reply in [
        "+OK|",
        ":7|",
        ":-7|",
        ":+7|",
        "$5|hello|",
        "$0||",
        "$-1|",
        "*0|",
        "*-1|",
        "*2|:1|:2|",
        "_|",
        "#t|",
        "#f|",
        ",1.5|",
        ",inf|",
        "(3492890328409238509324850943850943825024385|",
        "%1|+a|:1|",
        "%0|",
        "~2|:1|:2|",
        "=7|txt:abc|",
        "*3|$7|message|$1|a|$1|b|",
        "*2|*2|*0|$-1|-ERR within|",
        "*1|>1|:1|",
        "*1|@1|+a|:1|:2|",
        "+|",
        ":9223372036854775807|",
        ":-9223372036854775808|",
        "$0000000003|abc|",
    ] {
        are(&[GET, reply, GET, "-ERR|"], "+-", &[]);
    }
    for reply in ["-WRONGTYPE Operation against a key|", "-|", "!3|ERR|", "!0||"] {
        are(&[GET, reply, GET, "+OK|"], "-+", &[]);
    }
}

#[test]
fn commands_are_arrays_or_lines() {
    for command in [
        "*2|$3|GET|$3|key|",
        "*3|$4|LLEN|$6|mylist|$2|xy|",
        "*2|$8|SMEMBERS|$6|mylist|",
        "PING|",
        "get key|",
        "*3|$4|AUTH|$3|bob|$6|secret|",
        "SET key \"a \\\" b\"|",
        "*0|*1|$4|PING|",
        "*-1|*1|$4|PING|",
        "*1|$0||",
    ] {
        are(&[command, "+OK|", GET, "-ERR|"], "+-", &[]);
    }
    are(&["*1|$4|PING|*1|$4|PING|", "+PONG|+PONG|"], "++", &[]);
    are(
        &[GET, "$1|a|", "||PING|\n", "+PONG|", "FT.SEARCH a b|", "-ERR|"],
        "++-",
        &[],
    );
    assert_eq!(said(&["PING\n", "+PONG|"]).statuses(), "+");
    are(
        &["MULTI|SET a b|INCR a|EXEC|", "+OK|+QUEUED|+QUEUED|*2|+OK|-ERR|"],
        "++++",
        &[],
    );
    are(
        &["*2|$5|HELLO|$1|3|", "%2|$6|server|$5|redis|$5|proto|:3|", GET, "_|"],
        "++",
        &[],
    );
    are(&[GET, "+OK|", "QUIT|", "+OK|"], "++", &[]);
    are(&["PING|", "+PONG|", GET], "+", &[(Unanswered, 1)]);
}

#[test]
fn a_reply_is_timed_by_its_first_byte_and_told_by_its_first_line() {
    let mut line = Line::new();
    line.client("*1\r\n$4").client("\r\nPING\r\n*1\r\n$4\r\nPING\r\n");
    line.server("+PO").server("NG").server("\r");
    assert!(line.heard.exchanges.is_empty() && line.redis.expects_reply());
    line.server("\n$5\r").server("\n");
    assert_eq!(line.times(), [(1, 3), (2, 6)]);
    assert!(line.redis.expects_reply());
    line.server("hello\r\n");
    assert!(!line.redis.expects_reply());
    line.is_right();
}

#[test]
fn pushes_and_attributes_are_no_replies() {
    let push = ">3|$7|message|$1|c|$2|hi|";
    let (before, between) = (format!("{push}+OK|"), format!("*2|:1|:2|{push}"));
    are(&[GET, &before, GET, &between, GET, "-ERR|"], "++-", &[]);
    are(&[GET, ">2|$10|invalidate|*1|$1|a|_|", GET, ">0|-ERR|"], "+-", &[]);
    are(&[GET, "@1|+ttl|:3600|-ERR|", GET, "@0|+OK|"], "-+", &[]);
    are(
        &[GET, "@2|+a|*2|:1|@1|+b|:2|:3|+d|*1|@1|+c|:4|:5|-ERR|", GET, "+OK|"],
        "-+",
        &[],
    );
    let mut line = Line::new();
    line.client(command(&["GET", "a"]))
        .server("|1\r\n+a\r\n:1\r\n")
        .server("+OK\r\n");
    assert_eq!(line.times(), [(1, 3)]);
}

#[test]
fn a_subscription_is_one_command() {
    let ack = |what: &str, channel: &str, count: u32| format!("{}|{what}|{channel}:{count}|", what.len());
    for sort in ["*3|$", ">3|$"] {
        let ack = |what, channel, count| format!("{sort}{}", ack(what, channel, count));
        let a = ack("subscribe", "$1|a|", 1);
        let both = a.clone() + &ack("subscribe", "$1|b|", 2);
        are(
            &[
                "*3|$9|SUBSCRIBE|$1|a|$1|b|",
                &both,
                "PING|",
                "*2|$4|pong|$0||",
                "PING|",
                "-ERR|",
            ],
            "++-",
            &[],
        );
        let message = format!("{sort}7|message|$1|a|$9|subscribe|");
        let pattern = format!("{sort}8|pmessage|$1|a|$1|a|:1|").replacen('3', "4", 1);
        are(
            &[
                "SUBSCRIBE a|",
                &a,
                "PING|",
                &(message.clone() + &pattern + "+PONG|"),
                "PING|",
                "-ERR|",
            ],
            "++-",
            &[],
        );
        are(
            &[
                "SUBSCRIBE a|",
                &a,
                "",
                &message,
                "SUBSCRIBE a|",
                &(message.clone() + &a),
            ],
            "++",
            &[],
        );
        // Of one that leaves all nobody knows how many answers there are.
        let leave = ack("unsubscribe", "$1|a|", 2) + &ack("unsubscribe", "$1|b|", 1);
        let again = ack("unsubscribe", "$1|c|", 1);
        are(
            &[
                "SUBSCRIBE a|UNSUBSCRIBE|UNSUBSCRIBE c|PING|",
                &(a.clone() + &leave + &again + "-ERR|"),
            ],
            "+++-",
            &[],
        );
        let null = ack("unsubscribe", "$-1|", 1);
        are(
            &[
                "SUBSCRIBE a|UNSUBSCRIBE|UNSUBSCRIBE|PING|",
                &(a.clone() + &leave + &null + "-ERR|"),
            ],
            "+++-",
            &[],
        );
        are(
            &[
                "SUBSCRIBE a|",
                &a,
                "",
                &ack("sunsubscribe", "$1|s|", 0),
                "RESET|",
                "+RESET|",
            ],
            "++",
            &[],
        );
    }
    are(&["SUBSCRIBE a|", "-NOPERM no|", GET, "*3|$7|message|:1|:1|"], "-+", &[]);
    are(
        &[
            "SUBSCRIBE|",
            "-ERR|",
            "UNSUBSCRIBE|",
            ">3|$11|unsubscribe|_|:0|",
            GET,
            "-ERR|",
        ],
        "-+-",
        &[],
    );
    // Where all are left an array is an answer again, whatever it holds.
    let left = "*3|$9|subscribe|$1|a|:1|*3|$11|unsubscribe|$1|a|:0|*3|$7|message|$1|a|$1|b|";
    are(
        &["SUBSCRIBE a|UNSUBSCRIBE a|LRANGE a 0 2|", left, "PING|", "-ERR|"],
        "+++-",
        &[],
    );
    // It was subscribed before anybody looked.
    are(
        &[
            "",
            "*3|$7|message|$1|a|$1|b|",
            "PING|",
            "*3|$7|message|$1|a|$1|b|*2|$4|pong|$0||",
        ],
        "+",
        &[],
    );
}

#[test]
fn what_a_monitor_shows_is_no_reply() {
    let shown = "+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"|";
    let long = format!(
        "+1339518083.107412 [0 127.0.0.1:60866] \"set\" \"a\" \"{}\"|",
        "x".repeat(1 << 20)
    );
    are(
        &[
            "MONITOR|",
            "+OK|",
            "",
            shown,
            "PING|",
            &(long + "+PONG|"),
            "RESET|",
            "+RESET|",
        ],
        "+++",
        &[],
    );
    are(&["MONITOR|", "-NOPERM|", "PING|", "+PONG|"], "-+", &[]);
    are(&["", shown, "PING|", &format!("{shown}+PONG|")], "+", &[]);
}

#[test]
fn a_server_may_be_told_to_be_silent() {
    let voice = |word: &str| format!("CLIENT REPLY {word}|");
    are(&[&(voice("skip") + "GET a|PING|"), "-ERR|"], "-", &[(Unsupported, 2)]);
    are(
        &[&(voice("SKIP") + &voice("SKIP") + "GET a|PING|"), "-ERR|"],
        "-",
        &[(Unsupported, 3)],
    );
    are(
        &[&(voice("OFF") + "GET a|PING|" + &voice("On") + "PING|"), "+OK|-ERR|"],
        "+-",
        &[(Unsupported, 3)],
    );
    are(
        &[&(voice("OFF") + &voice("SKIP") + "RESET|PING|"), "+RESET|-ERR|"],
        "+-",
        &[(Unsupported, 2)],
    );
    are(
        &["*3|$6|CLIENT|$5|REPLY|$3|OFF|", "-NOAUTH|", "PING|", "-NOAUTH|"],
        "-",
        &[(Unsupported, 1)],
    );
    are(&["CLIENT REPLY maybe|CLIENT ID|", "-ERR|:1|"], "-+", &[]);
}

#[test]
fn a_replica_is_no_client() {
    for (sync, reply) in [
        (
            "*3|$5|PSYNC|$1|?|$2|-1|",
            "\n\n+FULLRESYNC 8de1787ba490483314a4d30f1c628bc5025eb761 0|$4|RDB!*1|$4|PING|",
        ),
        ("SYNC|", "\n$4|RDB!*1|$4|PING|"),
    ] {
        let mut line = said(&["PING|", "+PONG|", sync, reply, "REPLCONF ACK 0|", "*1|$4|PING|"]);
        assert!(line.redis.is_over());
        line.end();
        assert_eq!((line.statuses().as_str(), line.unparsed()), ("++", vec![]));
    }
    let refused = said(&["SYNC|", "-NOMASTERLINK|", "PING|", "+PONG|"]);
    assert!(!refused.redis.is_over());
    assert_eq!(refused.statuses(), "-+");
}

#[test]
fn replies_to_nothing() {
    are(&["", "+OK|", GET, "-ERR|"], "-", &[]);
    are(&["", "-ERR max number of clients reached|"], "", &[]);
    are(&[GET, "-ERR|+OK|", GET, "+OK|"], "-+", &[(Unasked, 1)]);
}

#[test]
fn nonsense_is_told_once() {
    for (turns, statuses, unparsed) in [
        (&[GET, "+OK|", "\u{16}\u{3}\u{1}"][..], "+", &[(Malformed, 1)][..]),
        (&[GET, "+OK|", "*1|+PING|"], "+", &[(Malformed, 1)]),
        (&[GET, "+OK|", "*x|"], "+", &[(Malformed, 1)]),
        (&[GET, "+OK|", "*1|$-1|"], "+", &[(Malformed, 1)]),
        (&[GET, "+OK|", "*1|$4|PINGPONG|"], "+", &[(Malformed, 1)]),
        (&[GET, "+OK|", "Host: redis|"], "+", &[(Malformed, 1)]),
        (&[GET, "+OK|", "*1|$99999999999999|"], "+", &[(Malformed, 1)]),
        (&[GET, "+OK|", GET, "PONG|"], "+", &[(Malformed, 1), (Unanswered, 1)]),
        (&[GET, "+OK|", GET, "$-2|"], "+", &[(Malformed, 1), (Unanswered, 1)]),
        (&[GET, "+OK|", GET, "$x|"], "+", &[(Malformed, 1), (Unanswered, 1)]),
        (&[GET, "+OK|", GET, "#y|"], "+", &[(Malformed, 1), (Unanswered, 1)]),
        (&[GET, "+OK|", GET, "_ |"], "+", &[(Malformed, 1), (Unanswered, 1)]),
        (&[GET, "+OK|", GET, "$2|abc|"], "++", &[(Malformed, 1)]),
        (
            &[GET, "+OK|", GET, "$?|;3|abc|;0|"],
            "+",
            &[(Unsupported, 1), (Unanswered, 1)],
        ),
        (
            &[GET, "+OK|", GET, "*?|:1|.|"],
            "+",
            &[(Unsupported, 1), (Unanswered, 1)],
        ),
    ] {
        let mut line = said(turns);
        assert!(line.redis.is_over(), "{turns:?}");
        line.client(lines(GET))
            .server("+OK\r\n")
            .miss(Client, 3)
            .miss(Server, 3)
            .end();
        assert_eq!(
            (line.statuses().as_str(), line.unparsed().as_slice()),
            (statuses, unparsed),
            "{turns:?}"
        );
    }
}

#[test]
fn other_protocols_are_not_redis() {
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let binary: &[&[u8]] = &[
        b"GETX /foo bar baz qux quux",
        b"PUTTING it together, a text protocol\r\n",
        b"\0\0\0\x03\x01\0\0\0\0\0abc",
        &[0; 12],
        b"\x17\x03\x03\0\x20abcdefgh",
        b"220 mail ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x0a\x05hello\x10\x01",
        b"\x7fELF....S\0\0\0\x04",
        b"\x04\0\0\x08\x07\x40\0\0\0abc",
        b"\xff\xff\xff\xffabc",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"USER bob\r\n",
        preface,
    ];
    for bytes in binary {
        for first in ["", "+OK POP3 ready\r\n"] {
            let mut line = Line::new();
            line.server(first)
                .client(bytes)
                .server(bytes)
                .client(bytes)
                .server(bytes)
                .end();
            assert_eq!(line.statuses(), "", "{}", bytes.escape_ascii());
            let unparsed: u64 = line.unparsed().iter().map(|(_, count)| count).sum();
            assert!(unparsed <= 4, "{}", bytes.escape_ascii());
        }
    }
    for byte in 0..=u8::MAX {
        let mut line = Line::new();
        line.client([byte]).server([byte]).client("").server("").end();
        assert_eq!(line.statuses(), "");
    }
}
