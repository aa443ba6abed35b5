//! What nobody should say.
use super::{encoder::*, sessions::*, *};
use UnparsedReason::{Crowded, Malformed, Unanswered};
use proptest::prelude::*;

#[test]
fn garbage_where_a_message_has_to_begin_is_the_end() {
    for (side, garbage) in [
        (Client, &b"GET / HTTP/1.1\r\n\r\n"[..]),
        (Client, b"S\0\0\0\x05x"),
        (Client, b"Q\x7f\0\0\0"),
        (Client, b"Z\0\0\0\x05I"),
        (Server, b"HTTP/1.1 400 Bad Request"),
        (Server, b"Z\0\0\0\x04"),
        (Server, b"D\xff\xff\xff\xff"),
        (Server, b"Q"),
    ] {
        let mut talk = Talk::logged_in();
        talk.client(&query("x").repeat(3)).hear(side, garbage, true);
        assert!(talk.dialogue.is_over());
        talk.client(&query("x")).server(&[complete(), ready()].concat());
        talk.miss(Client, 9)
            .miss(Server, 9)
            .client(&startup())
            .server(garbage)
            .end();
        assert_eq!(talk.unparsed(), vec![(Malformed, 1), (Unanswered, 3)]);
        assert_eq!(talk.statuses(), vec![]);
    }
    let mut talk = Talk::default();
    talk.client(&ssl_request()).server(b"no");
    assert_eq!((talk.dialogue.is_over(), talk.unparsed()), (true, vec![(Malformed, 1)]));
}

#[test]
fn too_many_that_wait_are_the_end() {
    let mut talk = Talk::logged_in();
    for _ in 0..2048 {
        talk.client(&query("x")).client(&call());
    }
    assert!(!talk.dialogue.is_over());
    talk.client(&query("x"));
    assert!(talk.dialogue.is_over());
    talk.client(&query("x")).server(&[complete(), ready()].concat()).end();
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![], vec![(Crowded, 4097)]));
    // Those of one segment are one entry.
    let mut talk = Talk::logged_in();
    talk.client(&query("x").repeat(100_000))
        .server(&[complete(), ready()].concat().repeat(100_000));
    assert_eq!((talk.statuses().len(), talk.unparsed()), (100_000, vec![]));
}

#[test]
fn of_too_many_that_are_alike_only_the_times_are_lost() {
    let mut talk = Talk::logged_in();
    for _ in 0..10_000 {
        talk.client(&query("x"));
    }
    talk.server(&[complete(), ready()].concat().repeat(10_000));
    let asked: Vec<_> = talk.times().iter().map(|(asked_ns, _)| *asked_ns).collect();
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok; 10_000], vec![]));
    assert!(asked.is_sorted() && (asked[0], asked[2046]) == (3, 2049));
    assert!(asked[2047..].iter().all(|asked_ns| *asked_ns == 2050));
    // Once they are answered, it is as before.
    talk.client(&query("x")).server(&[complete(), ready()].concat());
    assert_eq!(talk.times()[10_000], (10_004, 10_005));
}

#[test]
fn nothing_is_kept_of_what_is_huge() {
    let mut talk = Talk::watched();
    // Sure enough.
    talk.client(&sync().repeat(5)).server(&ready().repeat(5));
    let chunk = vec![b'x'; 1 << 20];
    let mut huge = |side: Side, head: &[u8], chunks: usize| {
        talk.hear(side, head, true);
        for _ in 0..chunks {
            talk.hear(side, &chunk, true);
        }
        assert!(talk.dialogue.buffered() < 4096, "{}", talk.dialogue.buffered());
    };
    let len = (1u32 << 26) + 4;
    huge(Client, &[&b"Q"[..], &len.to_be_bytes()].concat(), 64);
    let row = [&b"D"[..], &(len + 6).to_be_bytes(), &[0, 1, 4, 0, 0, 0]].concat();
    huge(Server, &row, 64);
    talk.server(&[complete(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok], vec![]));
}

#[test]
fn bytes_take_the_same_time_each() {
    let turns = [
        (Client, startup()),
        (Server, welcome()),
        (Client, query(&"x".repeat(1 << 20))),
        (Server, [row(1 << 20), complete(), ready()].concat()),
    ];
    assert_eq!(in_pieces(&turns, 1).statuses(), [Ok]);
    // Where nobody knows what comes, too.
    let turns = [(Client, b"Q\0\0".repeat(1 << 19)), (Server, b"D\0\0\0".repeat(1 << 18))];
    for size in [1, 3, 4, 1 << 16] {
        assert_eq!(in_pieces(&turns, size).statuses(), []);
    }
}

/// Bytes that are not far from messages.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let head = (any::<u8>(), 0..20u32).prop_map(|(kind, len)| [&[kind][..], &len.to_be_bytes()].concat());
    let known = prop::sample::select(b"QPBDECHSXFdcfpZTGWIsnt123VNAKRv\0".to_vec());
    let message = (known, prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, body)| message(kind, &body));
    let part = prop_oneof![
        head,
        message,
        prop::collection::vec(any::<u8>(), 0..9),
        Just(startup()),
        Just(sync())
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn it_takes_whatever_comes(
        pieces in prop::collection::vec((any::<bool>(), nearly(), any::<bool>(), 0..9u8), 0..40),
        watches in any::<bool>(),
    ) {
        let mut talk = if watches { Talk::watched() } else { Talk::default() };
        let mut asked = 0;
        for (client, bytes, starts, hole) in pieces {
            let side = if client { Client } else { Server };
            talk.hear(side, &bytes, starts);
            asked += if client { bytes.len() as u64 } else { 0 };
            if hole == 0 {
                talk.miss(side, bytes.len() as u64);
                asked += bytes.len() as u64;
            }
        }
        talk.end();
        prop_assert!(talk.dialogue.is_over() && !talk.dialogue.expects_reply());
        prop_assert!(talk.statuses().len() as u64 <= asked / 5);
        prop_assert!(talk.heard.unparsed.get(&Malformed).is_none_or(|count| *count == 1));
    }

    #[test]
    fn it_takes_a_session_with_other_bytes_in_it(
        acts in prop::collection::vec((act(), any::<bool>()), 1..6),
        cuts in cuts(1),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let (mut turns, expected) = session(&acts, true);
        for (turn, at, byte) in wrong {
            let (_, said) = turn.get(&turns[..]).clone();
            let at = at.index(said.len());
            let turn = turn.index(turns.len());
            turns[turn].1[at] = byte;
        }
        let mut talk = Talk::default();
        for (side, piece, starts) in pieces(&turns, &cuts) {
            talk.hear(side, piece, starts);
        }
        talk.end();
        // An odd length may make two of one.
        let bytes: usize = turns.iter().map(|(_, said)| said.len()).sum();
        prop_assert!(talk.statuses().len() <= expected.len() + bytes / 5);
    }
}
