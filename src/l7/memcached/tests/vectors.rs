//! Known bytes, and what they mean.
use super::*;
use UnparsedReason::{Crowded, Malformed, Unanswered, Unasked, Unsupported};

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
        (statuses, unparsed),
        "{turns:?}"
    );
}

const GET: &str = "get a|";

#[test]
fn commands_and_their_replies() {
    for (asked, reply) in [
        ("get foo|", "VALUE foo 0 2|hi|END|"),
        ("get foo|", "END|"),
        ("get a b|", "VALUE a 0 0||VALUE b 1 6|END|x|END|"),
        ("gets a b c|", "VALUE b 0 2 17|hi|END|"),
        ("gat 30 a b|", "VALUE a 0 2|hi|END|"),
        ("gats 30 a|", "END|"),
        ("set foo 0 60 2|hi|", "STORED|"),
        ("add foo 0 60 0||", "NOT_STORED|"),
        ("replace a 0 0 4|a|b|", "CLIENT_ERROR|"),
        ("append a 0 0 2|hi|", "STORED|"),
        ("prepend a 0 0 2|hi|", "STORED|"),
        ("cas a 0 0 2 17|hi|", "EXISTS|"),
        ("incr n 5|", "42|"),
        ("decr n 5|", "18446744073709551615|"),
        ("incr n 5|", "NOT_FOUND|"),
        ("delete a|", "DELETED|"),
        ("delete noreply|", "NOT_FOUND|"),
        ("touch a 0|", "TOUCHED|"),
        ("flush_all|", "OK|"),
        ("flush_all 10|", "OK|"),
        ("version|", "VERSION 1.6.18|"),
        ("verbosity 1|", "OK|"),
        ("stats|", "STAT pid 1|STAT time 2|END|"),
        ("stats reset|", "RESET|"),
        ("stats items|", "END|"),
        ("stats cachedump 1 1|", "ITEM a [1 b; 0 s]|END|"),
        ("lru_crawler metadump all|", "key=a exp=-1 la=1|key=b exp=-1|END|"),
        ("slabs reassign 1 2|", "BUSY now|"),
        ("mg foo v|", "VA 2|hi|"),
        ("mg foo v|", "EN|"),
        ("mg foo|", "HD|"),
        ("ms foo 2 T0|hi|", "HD|"),
        ("md foo|", "NF|"),
        ("ms foo 2 C1|hi|", "EX|"),
        ("ma n N0 J13 v|", "VA 2 t0|13|"),
        ("mn|", "MN|"),
        ("me foo|", "ME foo exp=-1|"),
        ("get noreply|", "END|"),
        ("get a\n", "END|"),
    ] {
        let failed = if reply.starts_with("CLIENT_ERROR") { '-' } else { '+' };
        are(
            &[asked, reply, GET, "SERVER_ERROR out of memory|"],
            &format!("{failed}-"),
            &[],
        );
        are(&[asked, "ERROR|", GET, "END|"], "-+", &[]);
    }
    for error in ["SERVER_ERROR out of memory|", "CLIENT_ERROR bad|", "ERROR|"] {
        are(
            &[GET, error, GET, &format!("VALUE a 0 1|x|{error}"), GET, "END|"],
            "-++",
            &[],
        );
    }
    are(&["shutdown|", "ERROR: shutdown not enabled|", GET, "END|"], "-+", &[]);
    are(&[GET, "END|", "nonsense a|", "ERROR|", GET, "END|"], "+-+", &[]);
    are(&[&GET.repeat(3), "END|VALUE a 0 2|hi|END|ERROR|"], "++-", &[]);
    are(&[GET, "END|", GET], "+", &[(Unanswered, 1)]);
}

#[test]
fn a_reply_is_timed_by_its_first_byte_and_told_by_its_first_line() {
    let mut line = Line::new();
    line.client("set a 0 0 2\r\nh")
        .client("i\r\nget a\r\n")
        .server("STO")
        .server("RED\r\nVAL")
        .server("UE a 0 2\r");
    assert_eq!(line.times(), [(1, 3)]);
    line.server("\n");
    assert_eq!(line.times(), [(1, 3), (2, 4)]);
    assert!(line.memcached.expects_reply());
    line.server("hi\r\nEND\r\n").is_right();
}

#[test]
fn some_want_no_reply() {
    for asked in [
        "set foo 0 60 2 noreply|hi|",
        "cas foo 0 60 2 17 noreply|hi|",
        "delete a noreply|",
        "incr n 5 noreply|",
        "touch a 0 noreply|",
        "flush_all noreply|",
        "verbosity 1 noreply|",
    ] {
        are(&[asked, "", GET, "ERROR|"], "-", &[(Unsupported, 1)]);
    }
    are(&[GET, "END|", "quit|", ""], "+", &[]);
    are(
        &["mg a v q|mg b v q|mg c v q|mn|", "VA 1|x|VA 1|y|MN|", GET, "ERROR|"],
        "+++-",
        &[(Unsupported, 1)],
    );
    are(
        &["ms a 1 q|x|md a q|ma n q|mn|", "NS|MN|", GET, "ERROR|"],
        "++-",
        &[(Unsupported, 2)],
    );
    are(&["ms a 1 q|x|get a|", "END|", GET, "ERROR|"], "+-", &[(Unsupported, 1)]);
    are(&["mg a v q|", "CLIENT_ERROR|", GET, "END|"], "-+", &[]);
    are(&["ms a 1 q|x|mn|", "SERVER_ERROR|MN|", GET, "END|"], "-++", &[]);
    are(
        &["ms a 1 q|x|", "", GET, "SERVER_ERROR|", GET, "END|"],
        "-+",
        &[(Unsupported, 1)],
    );
    are(&["mg a q|", ""], "", &[(Unsupported, 1)]);
    // The first was silent, and took the reply of the second.
    are(&["mg a v q|mg b v|", "EN|", GET, "ERROR|"], "+-", &[(Unsupported, 1)]);
}

fn binary(asked: &[Vec<u8>], said: &[Vec<u8>], statuses: &str, unparsed: &[(UnparsedReason, u64)]) {
    let mut line = Line::new();
    line.client(asked.concat()).server(said.concat()).is_right().end();
    assert_eq!(
        (line.statuses(), line.unparsed().as_slice()),
        (statuses.to_owned() + "+-", unparsed)
    );
}

#[test]
fn binary_messages() {
    let get = b"\x80\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x07\0\0\0\0\0\0\0\0foo".to_vec();
    let hit = b"\x81\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x07\0\0\0\0\0\0\0\x01\0\0\0\0hi".to_vec();
    let miss = b"\x81\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x09\x00\x00\x00\x07\0\0\0\0\0\0\0\0Not found".to_vec();
    binary(&[get.clone(), get], &[hit, miss], "++", &[]);
    let ask = |opcode, opaque| message(0x80, opcode, 0, opaque, "key", "");
    let told = |opcode, status, opaque| message(0x81, opcode, status, opaque, "", "value");
    for (status, is) in [
        (0, "+"),
        (1, "+"),
        (2, "+"),
        (5, "+"),
        (3, "-"),
        (4, "-"),
        (6, "-"),
        (0x20, "-"),
        (0x21, "+"),
        (0x82, "-"),
    ] {
        binary(&[ask(1, 9)], &[told(1, status, 9)], is, &[]);
    }
    // Of quiet ones some are silent.
    let quiet = [ask(0x0d, 1), ask(0x0d, 2), ask(0x0d, 3), ask(0x0a, 4)];
    binary(&quiet, &[told(0x0d, 0, 2), told(0x0a, 0, 4)], "++", &[(Unsupported, 2)]);
    binary(
        &[ask(0x11, 1), ask(0x11, 2), ask(0, 3)],
        &[told(0x11, 0x82, 1), told(0, 0, 3)],
        "-+",
        &[(Unsupported, 1)],
    );
    let quit = |opcode| message(0x80, opcode, 0, 1, "", "");
    binary(&[quit(0x17), ask(0, 3)], &[told(0, 0, 3)], "+", &[]);
    // Most hang up before they hear that it is.
    binary(&[ask(0, 3), quit(0x07)], &[told(0, 0, 3)], "+", &[]);
    binary(&[ask(0, 3), quit(0x07)], &[told(0, 0, 3), told(0x07, 0, 1)], "+", &[]);
    let stats = [
        message(0x81, 0x10, 0, 1, "pid", "1"),
        message(0x81, 0x10, 0, 1, "time", "2"),
        message(0x81, 0x10, 0, 1, "", ""),
    ];
    binary(&[ask(0x10, 1), ask(0, 2)], &[stats.concat(), told(0, 0, 2)], "++", &[]);
    binary(&[ask(0, 2)], &[told(0, 0, 1), told(0, 0, 2)], "+", &[(Unasked, 1)]);
}

#[test]
fn a_log_is_no_reply() {
    let mut line = said(&[
        GET,
        "END|",
        "watch mutations|",
        "OK|ts=1 gid=1 type=item_store|",
        GET,
        "END|",
    ]);
    assert!(line.memcached.is_over());
    line.end();
    assert_eq!((line.statuses().as_str(), line.unparsed()), ("++", vec![]));
}

#[test]
fn replies_to_nothing() {
    are(&["", "END|", GET, "ERROR|"], "-", &[]);
    are(&[GET, "ERROR|STORED|", GET, "END|"], "-+", &[(Unasked, 1)]);
}

#[test]
fn nonsense_is_told_once() {
    for (turns, statuses, unparsed) in [
        (&[GET, "END|", "\u{16}\u{3}\u{1}"][..], "+", &[(Malformed, 1)][..]),
        (&[GET, "END|", "GET / HTTP/1.1|"], "+", &[(Malformed, 1)]),
        (&[GET, "END|", "set a 0 0 2|abc|"], "+", &[(Malformed, 1)]),
        (
            &[GET, "END|", GET, "HTTP/1.1 200 OK|"],
            "+",
            &[(Malformed, 1), (Unanswered, 1)],
        ),
        (
            &[GET, "END|", GET, "220 mail|"],
            "+",
            &[(Malformed, 1), (Unanswered, 1)],
        ),
        (
            &[GET, "END|", GET, "VALUE a 0|"],
            "+",
            &[(Malformed, 1), (Unanswered, 1)],
        ),
        (&[GET, "END|", GET, "VALUE a 0 2|abc|"], "++", &[(Malformed, 1)]),
        (&[GET, "END|", GET, "VALUE a 0 2|ab|STORED|"], "++", &[(Malformed, 1)]),
        (
            &[GET, "END|", GET, "VALUE a 0 99999999999|"],
            "+",
            &[(Malformed, 1), (Unanswered, 1)],
        ),
    ] {
        let mut line = said(turns);
        assert!(line.memcached.is_over(), "{turns:?}");
        line.client(GET).server("END\r\n").miss(Client, 3).miss(Server, 3).end();
        assert_eq!(
            (line.statuses().as_str(), line.unparsed().as_slice()),
            (statuses, unparsed),
            "{turns:?}"
        );
    }
}

#[test]
fn other_protocols_are_not_memcached() {
    let others: &[&[u8]] = &[
        b"GETX /foo bar baz qux quux",
        b"PUTTING it together, a text protocol\r\n",
        b"\0\0\0\x03\x01\0\0\0\0\0abc",
        &[0; 12],
        b"\x17\x03\x03\0\x20abcdefgh",
        b"220 mail ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x0a\x05hello\x10\x01",
        b"\x7fELF....S\0\0\0\x04",
        b"\x80\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"get\r\n",
        b"set a b c d\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"PING\r\n",
    ];
    for bytes in others {
        let mut line = Line::new();
        line.client(bytes).server(bytes).client(bytes).server(bytes).end();
        assert_eq!(
            (line.statuses().as_str(), line.unparsed().len() <= 1),
            ("", true),
            "{}",
            bytes.escape_ascii()
        );
    }
    for byte in 0..=u8::MAX {
        let mut line = Line::new();
        line.client([byte]).server([byte]).client("").server("").end();
        assert_eq!(line.statuses(), "");
    }
}

#[test]
fn what_was_asked() {
    for (asked, verb, text) in [
        ("get secret|", "GET", "GET ?"),
        ("set secret 0 0 2|hi|", "SET", "SET ? ? ? ?"),
        ("mn|", "MN", "MN"),
        ("gets 1 2 3 4 5 6 7 8|", "GETS", "GETS ? ? ? ? ? ? ? ?"),
        ("gets 1 2 3 4 5 6 7 8 9|", "GETS", "GETS ? ? ? ? ? ? ? ? ..."),
    ] {
        let asked = lines(asked);
        for cut in 0..=asked.len() {
            let mut line = Line::watched();
            line.client(&asked[..cut]).client(&asked[cut..]).server("ERROR\r\n");
            let shown = line.heard.exchanges[0].asked.as_ref().expect("somebody watches");
            assert_eq!((&*shown.verb, &*shown.text), (verb, text));
        }
    }
    let mut line = Line::watched();
    line.client(message(0x80, 1, 0, 0, "secret", "x"))
        .server(message(0x81, 1, 0, 0, "", ""));
    assert_eq!(&*line.heard.exchanges[0].asked.as_ref().unwrap().text, "SET ?");
    let mut line = Line::new();
    line.client(GET.replace('|', "\r\n")).server("END\r\n");
    assert_eq!(line.heard.exchanges[0].asked, None);
}

#[test]
fn so_much_is_kept_and_no_more() {
    let mut line = Line::new();
    for _ in 0..super::super::talk::MAX_UNANSWERED {
        line.client("get a\r\n");
    }
    assert!(!line.memcached.is_over());
    line.client("get a\r\n");
    assert_eq!(line.unparsed(), [(Crowded, 1), (Unanswered, 65_536)]);
    assert_eq!(line.memcached.buffered(), 0);
    // Quiet ones make room.
    let mut line = Line::new();
    for _ in 0..70_000 {
        line.client("mg a q\r\n");
    }
    line.client("mn\r\n").server("MN\r\n").end();
    assert_eq!(
        (line.statuses().as_str(), line.unparsed()),
        ("+", vec![(Unsupported, 70_000)])
    );
    // As many keys as somebody likes, up to a mebibyte.
    for (keys, fits) in [(260_000, true), (263_000, false)] {
        let mut line = Line::new();
        line.is_right();
        let get = format!("get{}\r\n", " key".repeat(keys));
        for piece in get.as_bytes().chunks(1000) {
            line.client(piece);
            assert!(line.memcached.buffered() < 5000);
        }
        assert_eq!(line.server("END\r\n").statuses().len(), if fits { 3 } else { 2 });
    }
}
