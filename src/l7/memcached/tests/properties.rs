//! Random talk, cut and mixed at random.
use super::*;
use proptest::{collection::vec, prelude::*};

/// What is asked, what is said to it, and as what it counts. `None`: as nothing that is heard of.
type Turn = (Vec<u8>, Vec<u8>, Option<Status>);

/// With its key.
const LONGEST: usize = (1 << 20) + 1024;

fn data() -> impl Strategy<Value = Vec<u8>> {
    let ends = prop::sample::select(vec![b'\r', b'\n', b'E', b'N', b'D']);
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 200..300), vec(ends, 0..20)]
}

fn with(line: String, data: &[u8]) -> Vec<u8> {
    [line.as_bytes(), b"\r\n", data, b"\r\n"].concat()
}

fn text() -> impl Strategy<Value = Turn> {
    let key = "[a-zA-Z0-9:_.-]{1,30}";
    let error = prop::sample::select(vec![
        "ERROR\r\n",
        "CLIENT_ERROR bad\r\n",
        "SERVER_ERROR out of memory\r\n",
    ]);
    let verb = prop::sample::select(vec!["set", "add", "replace", "append", "prepend"]);
    let stored = prop::sample::select(vec!["STORED\r\n", "NOT_STORED\r\n", "EXISTS\r\n", "NOT_FOUND\r\n"]);
    let ok = prop_oneof![
        (vec((key, data(), any::<bool>()), 1..5), any::<bool>()).prop_map(|(keys, gets)| {
            let mut asked = if gets { "gets" } else { "get" }.to_owned();
            let mut said = Vec::new();
            for (key, data, hit) in keys {
                asked = format!("{asked} {key}");
                if hit {
                    said.extend(with(
                        format!("VALUE {key} 7 {}{}", data.len(), if gets { " 18" } else { "" }),
                        &data,
                    ));
                }
            }
            said.extend(b"END\r\n");
            (asked.into_bytes(), said)
        }),
        (verb, key, data(), stored).prop_map(|(verb, key, data, stored)| {
            let asked = with(format!("{verb} {key} 0 0 {}", data.len()), &data);
            (asked[..asked.len() - 2].to_vec(), stored.as_bytes().to_vec())
        }),
        (key, any::<u64>())
            .prop_map(|(key, n)| (format!("incr {key} {n}").into_bytes(), format!("{n}\r\n").into_bytes())),
        (key, data()).prop_map(|(key, data)| {
            (
                format!("mg {key} v").into_bytes(),
                with(format!("VA {} f0", data.len()), &data),
            )
        }),
        vec(key, 0..4).prop_map(|names| {
            let stats: String = names.iter().map(|name| format!("STAT {name} 1\r\n")).collect();
            (b"stats".to_vec(), (stats + "END\r\n").into_bytes())
        }),
    ];
    (ok, error, prop::bool::weighted(0.2)).prop_map(|((mut asked, said), error, fails)| {
        asked.extend(b"\r\n");
        let said = if fails { error.as_bytes().to_vec() } else { said };
        (asked, said, Some(if fails { Status::Failed } else { Status::Ok }))
    })
}

fn silent() -> impl Strategy<Value = Turn> {
    prop_oneof![
        data().prop_map(|data| with(format!("set a 0 0 {} noreply", data.len()), &data)),
        data().prop_map(|data| with(format!("ms a {} q", data.len()), &data)),
        Just(b"delete a noreply\r\n".to_vec()),
        any::<u32>().prop_map(|opaque| message(0x80, 0x0d, 0, opaque, "key", "")),
        any::<u32>().prop_map(|opaque| message(0x80, 0x11, 0, opaque, "key", "value")),
    ]
    .prop_map(|asked| (asked, Vec::new(), None))
}

fn binary() -> impl Strategy<Value = Turn> {
    let opcode = prop::sample::select(vec![0u8, 1, 4, 0x0a, 0x0b, 0x0c]);
    let status = prop::sample::select(vec![
        (0, Status::Ok),
        (1, Status::Ok),
        (3, Status::Failed),
        (0x82, Status::Failed),
    ]);
    (opcode, status, any::<u32>(), "[a-z]{1,20}", "[a-z]{0,40}").prop_map(
        |(opcode, (code, status), opaque, key, value)| {
            let asked = match opcode {
                0x0a | 0x0b => message(0x80, opcode, 0, opaque, "", ""),
                1 => message(0x80, opcode, 0, opaque, &key, &value),
                _ => message(0x80, opcode, 0, opaque, &key, ""),
            };
            (asked, message(0x81, opcode, code, opaque, "", &value), Some(status))
        },
    )
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![4 => text(), 1 => silent(), 2 => binary()]
}

proptest! {
    #[test]
    fn what_is_said_is_told(turns in vec(turn(), 1..20), lens in vec((1..6usize, 1..100usize), 1..30)) {
        let mut line = Line::new();
        let mut lens = lens.iter().cycle();
        let mut right = Vec::new();
        let mut silent = 0;
        let mut rest = &turns[..];
        while !rest.is_empty() {
            let (count, len) = *lens.next().unwrap();
            let (batch, after) = rest.split_at(rest.len().min(count));
            rest = after;
            let (mut asked, mut said, mut begins) = (Vec::new(), Vec::new(), Vec::new());
            for (client, server, status) in batch {
                match status {
                    Some(status) => begins.push((asked.len(), said.len(), *status)),
                    None => silent += 1,
                }
                asked.extend(client);
                said.extend(server);
            }
            let mut hear = |side, bytes: &[u8], len: usize| {
                let mut times = Vec::new();
                for piece in bytes.chunks(len) {
                    line.piece(side, piece, true);
                    times.resize(times.len() + piece.len(), line.now_ns);
                }
                times
            };
            let (asked_ns, said_ns) = (hear(Client, &asked, len), hear(Server, &said, lens.next().unwrap().1));
            right.extend(begins.iter().map(|(at, reply, status)| (asked_ns[*at], said_ns[*reply], *status)));
        }
        let told = |of: &Exchange| (of.asked_ns, of.replied_ns, of.status);
        prop_assert_eq!(line.heard.exchanges.iter().map(told).collect::<Vec<_>>(), right);
        line.end();
        prop_assert_eq!(line.heard.unparsed.remove(&UnparsedReason::Unsupported).unwrap_or(0), silent);
        prop_assert_eq!(line.unparsed(), vec![]);
    }

    /// Of a client that waits for its replies, some bytes are missing. What only looks like a message is over at the latest
    /// when the longest that is believed is.
    #[test]
    fn holes_heal(
        batches in vec(vec(turn(), 1..6), 1..8),
        cuts in vec((1..60usize, prop::bool::weighted(0.2)), 1..40),
    ) {
        let mut line = Line::new();
        let mut cuts = cuts.iter().cycle();
        let commands = batches.iter().map(Vec::len).sum::<usize>();
        for batch in &batches {
            let asked: Vec<_> = batch.iter().flat_map(|(asked, ..)| asked.clone()).collect();
            let said: Vec<_> = batch.iter().flat_map(|(_, said, _)| said.clone()).collect();
            for (side, bytes) in [(Client, &asked), (Server, &said)] {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (len, missing) = cuts.next().unwrap();
                    let (piece, after) = rest.split_at(rest.len().min(*len));
                    rest = after;
                    if *missing {
                        line.miss(side, piece.len() as u64);
                    } else {
                        line.piece(side, piece, true);
                    }
                }
            }
        }
        prop_assert!(line.heard.exchanges.len() <= commands);
        // A segment may begin like a message that is none.
        prop_assume!(!line.memcached.is_over());
        let mut rounds = 0;
        while rounds < 3 || !line.has_told_last() {
            line.client("get a\r\n").server("END\r\n");
            rounds += 1;
            prop_assert!(rounds < LONGEST / "get a\r\n".len() + 10);
        }
        line.is_right().is_right();
    }

    #[test]
    fn nonsense_does_no_harm(
        talk in vec((any::<bool>(), any::<bool>(), hostile(), prop_oneof![4 => Just(0u64), 1 => 1..50u64]), 0..40),
    ) {
        let mut line = Line::watched();
        for (is_client, starts, bytes, missing) in &talk {
            let side = if *is_client { Client } else { Server };
            line.piece(side, bytes, *starts).miss(side, *missing);
            prop_assert!(line.memcached.buffered() <= 300_000);
        }
        line.end();
        prop_assert!(!line.memcached.expects_reply());
    }
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        prop::sample::select(vec![
            "get a\r\n",
            "set a 0 0 2\r\n",
            "hi\r\n",
            "mg a q\r\n",
            "mn\r\n",
            "MN\r\n",
            "VA 2\r\n",
            "VALUE a 0 2\r\n",
            "END\r\n",
            "EN\r\n",
            "STAT a 1\r\n",
            "ERROR\r\n",
            "\r",
            "\n",
            " ",
            "noreply",
            "set a 0 0 4294967296\r\n",
            "watch\r\n",
            "OK\r\n",
            "1\r\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        (any::<bool>(), 0u8..40, 0u16..3, 0u32..3).prop_map(|(asks, opcode, status, opaque)| {
            message(if asks { 0x80 } else { 0x81 }, opcode, status, opaque, "a", "b")
        }),
        vec(any::<u8>(), 0..6),
    ];
    vec(token, 0..12).prop_map(|tokens| tokens.concat())
}
