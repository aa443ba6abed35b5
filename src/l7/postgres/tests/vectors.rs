//! Bytes made from the protocol's specification, in every way in which they can come.
use super::*;

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

const SSL_REQUEST: &str = "0000000804d2162f";
const STARTUP: &str = "00000020000300007573657200626f620064617461626173650073686f700000";
const WELCOME: &str = "5200000008000000005a0000000549";
const QUERY: &str = "510000000d53454c454354203100";
const ROW: &str = "540000002100013f636f6c756d6e3f00000000000000000000170004ffffffff0000\
                   440000000b00010000000131430000000d53454c4543542031005a0000000549";
const ERROR: &str = "4500000037534552524f5200564552524f5200433432503031004d72656c6174696f6e2022742220646f6573206e6f7420\
                     657869737400005a0000000549";
const PREPARE: &str = "500000001373310053454c4543542024310000004400000008537331005300000004";
const PREPARED: &str = "3100000004740000000a000100000019540000002100013f636f6c756d6e3f00000000000000000000170004ffffffff0000\
                        5a0000000549";
const EXECUTE: &str = "4200000013007331000000000100000001370000450000000900000000005300000004";
const EXECUTED: &str = "3200000004440000000b00010000000131430000000d53454c4543542031005a0000000549";
const CLOSE: &str = "4300000008537331005300000004";
const CLOSED: &str = "33000000045a0000000549";
const INSERTED: &str = "310000000432000000046e00000004430000000f494e5345525420302031005a0000000549";
const TERMINATE: &str = "5800000004";

fn turns(turns: &[(Side, &str)]) -> Vec<Turn> {
    turns.iter().map(|(side, hex)| (*side, unhex(hex))).collect()
}

/// Whole, byte by byte, with each head on its own, and cut in two at every place.
fn every_way(name: &str, said: &[(Side, &str)], expected: &[Status]) {
    let turns = turns(said);
    let longest = turns.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
    for size in 1..=longest {
        let mut talk = in_pieces(&turns, size);
        assert_eq!(
            (talk.statuses(), talk.unparsed()),
            (expected.to_vec(), Vec::new()),
            "{name} by {size}"
        );
        talk.end();
        assert_eq!(
            (talk.statuses().len(), talk.unparsed()),
            (expected.len(), Vec::new()),
            "{name} by {size}"
        );
    }
    for cut in 1..longest {
        let mut talk = Talk::default();
        for (side, bytes) in &turns {
            let (begin, end) = bytes.split_at(cut.min(bytes.len()));
            talk.hear(*side, begin, true).hear(*side, end, false);
        }
        assert_eq!(
            (talk.statuses(), talk.unparsed()),
            (expected.to_vec(), Vec::new()),
            "{name} cut at {cut}"
        );
    }
    // Truncated anywhere it is no more than it was.
    for (at, (side, bytes)) in turns.iter().enumerate() {
        for len in 0..bytes.len() {
            let mut talk = in_pieces(&turns[..at], usize::MAX);
            talk.hear(*side, &bytes[..len], true).end();
            let told = talk.statuses();
            assert!(
                expected.starts_with(&told) || told.contains(&Failed),
                "{name} truncated: {told:?}"
            );
            assert!(told.len() <= expected.len());
        }
    }
}

#[test]
fn vectors_are_understood_in_every_way_they_come() {
    let executed_twice = format!("{EXECUTE}{EXECUTE}");
    let twice = format!("{EXECUTED}{EXECUTED}");
    let steps = format!("31000000043200000004{ROW}");
    type Vector<'a> = (&'a str, &'a [(Side, &'a str)], &'a [Status]);
    let vectors: &[Vector<'_>] = &[
        ("a login", &[(Client, STARTUP), (Server, WELCOME)], &[]),
        (
            "a plain one",
            &[
                (Client, SSL_REQUEST),
                (Server, "4e"),
                (Client, STARTUP),
                (Server, WELCOME),
            ],
            &[],
        ),
        (
            "a query",
            &[(Client, STARTUP), (Server, WELCOME), (Client, QUERY), (Server, ROW)],
            &[Ok],
        ),
        ("a query of an old connection", &[(Client, QUERY), (Server, ROW)], &[Ok]),
        ("a failed query", &[(Client, QUERY), (Server, ERROR)], &[Failed]),
        ("prepare", &[(Client, PREPARE), (Server, PREPARED)], &[Ok]),
        ("execute", &[(Client, EXECUTE), (Server, EXECUTED)], &[Ok]),
        (
            "both",
            &[
                (Client, PREPARE),
                (Server, PREPARED),
                (Client, EXECUTE),
                (Server, EXECUTED),
            ],
            &[Ok, Ok],
        ),
        ("close", &[(Client, CLOSE), (Server, CLOSED)], &[]),
        ("twice", &[(Client, &executed_twice), (Server, &twice)], &[Ok, Ok]),
        ("an insert", &[(Client, EXECUTE), (Server, INSERTED)], &[Ok]),
        ("steps and rows", &[(Client, EXECUTE), (Server, &steps)], &[Ok]),
        (
            "terminate",
            &[(Client, QUERY), (Server, ROW), (Client, TERMINATE)],
            &[Ok],
        ),
    ];
    for (name, said, expected) in vectors {
        every_way(name, said, expected);
    }
}

#[test]
fn copies_in_one_segment_are_as_many() {
    let pairs = [
        (QUERY, ROW, Ok),
        (QUERY, ERROR, Failed),
        (PREPARE, PREPARED, Ok),
        (EXECUTE, INSERTED, Ok),
    ];
    for (asked, answered, status) in pairs {
        let mut talk = Talk::default();
        talk.client(&unhex(asked).repeat(5)).server(&unhex(answered).repeat(5));
        assert_eq!((talk.statuses(), talk.unparsed()), (vec![status; 5], vec![]));
    }
}

#[test]
fn what_follows_a_yes_to_encryption_is_none_of_it() {
    let mut talk = Talk::default();
    talk.client(&unhex(SSL_REQUEST));
    assert!(talk.dialogue.expects_reply() && !talk.dialogue.is_over());
    talk.server(b"S");
    assert!(talk.dialogue.is_over() && !talk.dialogue.expects_reply());
    talk.client(&unhex(QUERY)).server(&unhex(ROW)).end();
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![], vec![]));
}

#[test]
fn what_it_is_not_stays_nothing() {
    let mut negative: Vec<Vec<u8>> = [
        b"GETX /foo bar baz qux quux".to_vec(),
        b"PUTTING it together, a text protocol\r\n".to_vec(),
        b"Q what is it? C what else\r\n".to_vec(),
        vec![0; 12],
        [&unhex("1703030020")[..], &[7; 32]].concat(),
        b"+OK POP3 ready\r\n".to_vec(),
        b"220 mail ESMTP\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        unhex("0a0568656c6c6f1001"),
        unhex("7f454c46020101000000000000000000005300000004"),
        unhex("ffffffff510000000d53454c4543542031005300000004"),
        unhex("51ffffffff53454c4543542031005300000004"),
        Vec::new(),
    ]
    .to_vec();
    negative.extend((0..=255).map(|byte| vec![byte]));
    for bytes in negative {
        for size in [1, 5, usize::MAX] {
            let mut talk = Talk::default();
            for side in [Client, Server] {
                for (at, piece) in bytes.chunks(size).enumerate() {
                    talk.hear(side, piece, at == 0);
                }
            }
            talk.end();
            assert_eq!(
                (talk.statuses(), talk.unparsed()),
                (vec![], vec![]),
                "{bytes:x?} by {size}"
            );
        }
    }
}

#[test]
fn what_follows_it_may_be_one_all_the_same() {
    let mut talk = Talk::default();
    talk.client(&unhex("7f454c46020101005300000004"))
        .server(b"rest of a row")
        .client(&unhex(QUERY))
        .server(&unhex(ROW));
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok], vec![]));
}
