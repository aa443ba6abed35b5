//! Streams with pieces missing, and in the wrong order.
use super::{encoder::*, *};

fn ask(id: u16) -> Vec<u8> {
    framed(&question(id, "example.com", A))
}

fn reply(id: u16) -> Vec<u8> {
    framed(&answer(id, 3, "example.com", A, &[]))
}

fn counted(count: u32) -> String {
    format!("{count} client TypeA example.com nxdomain")
}

#[test]
fn a_gap_within_a_message_is_skipped_by_its_length() {
    for lost in 1..=10 {
        let mut node = Node::new();
        node.piece(1, Sent, &[ask(1), ask(2), ask(3)].concat());
        let stream = [reply(1), reply(2), reply(3)].concat();
        let at = reply(1).len() + 14;
        node.piece(1, Received, &stream[..at]);
        node.missed(1, Received, lost);
        node.piece(1, Received, &stream[at + lost as usize..]);
        assert_eq!(node.told(), [&counted(2), "1 unanswered", "1 cut"], "{lost}");
    }
}

#[test]
fn a_gap_behind_the_question_costs_nothing() {
    let text = Record {
        name: labels("example.com"),
        data: Data::Text(vec![b'x'; 200]),
    };
    let long = framed(&answer(1, 0, "example.com", TXT, &[text]));
    let mut node = Node::new();
    node.piece(1, Sent, &framed(&question(1, "example.com", TXT)))
        .piece(1, Sent, &ask(2));
    node.cut_piece(1, Received, &long, 100).piece(1, Received, &reply(2));
    let expected = [&counted(1), "1 client TypeTXT example.com ok"];
    assert_eq!(node.told(), expected);
}

#[test]
fn a_gap_between_messages() {
    let mut node = Node::new();
    for id in 1..=4 {
        node.piece(1, Sent, &ask(id));
    }
    node.piece(1, Received, &reply(1));
    node.missed(1, Received, reply(2).len() as u64);
    node.piece(1, Received, &reply(3)).piece(1, Received, &reply(4));
    assert_eq!(node.told(), [&counted(3), "1 unanswered", "1 gap"]);
}

#[test]
fn after_a_gap_the_next_message_that_begins_a_segment() {
    let mut node = Node::new();
    node.piece(1, Sent, &[ask(1), ask(2), ask(3), ask(4)].concat());
    let both = [reply(1), reply(2)].concat();
    node.missed(1, Received, 20);
    // Begins within the first; then the length by itself, which is none yet.
    node.piece(1, Received, &both[20..]);
    node.piece(1, Received, &reply(3)[..2])
        .piece(1, Received, &reply(3)[2..]);
    node.piece(1, Received, &reply(4));
    assert_eq!(node.told(), [&counted(2), "2 unanswered", "1 gap"]);
}

/// A message within a message is none: those who ask do not answer.
#[test]
fn after_a_gap_what_looks_like_a_question_of_the_other_side() {
    let mut node = Node::new();
    node.piece(1, Sent, &[ask(1), ask(2)].concat());
    node.missed(1, Received, 20);
    node.piece(1, Received, &ask(9)).piece(1, Received, &reply(2));
    assert_eq!(node.told(), [&counted(1), "1 unanswered", "1 malformed"]);
    // If it is the first that was heard, it is believed, but not for long.
    let mut node = Node::new();
    node.missed(1, Received, 20);
    node.piece(1, Received, &ask(9));
    node.piece(1, Sent, &[ask(1), ask(2)].concat());
    node.piece(1, Received, &[reply(1), reply(2)].concat());
    assert_eq!(node.told(), [&counted(1), "1 not answered", "1 malformed", "1 unasked"]);
}

#[test]
fn a_gap_with_the_length_alone() {
    let mut node = Node::new();
    node.piece(1, Sent, &[ask(1), ask(2), ask(3)].concat());
    node.piece(1, Received, &reply(1)).piece(1, Received, &reply(2)[..2]);
    node.missed(1, Received, reply(2).len() as u64 - 2);
    node.piece(1, Received, &reply(3));
    assert_eq!(node.told(), [&counted(2), "1 unanswered", "1 cut"]);
}

#[test]
fn what_the_kernel_could_not_read() {
    let mut node = Node::new();
    node.piece(1, Sent, &ask(1))
        .cut_piece(1, Sent, &ask(2), 0)
        .piece(1, Sent, &ask(3));
    node.piece(1, Received, &[reply(1), reply(3)].concat());
    // Nor the rest of one whose length is known.
    node.piece(1, Sent, &ask(4)[..2])
        .cut_piece(1, Sent, &ask(4)[2..], 0)
        .piece(1, Sent, &ask(5));
    node.piece(1, Received, &reply(5));
    assert_eq!(node.told(), [&counted(3), "2 unreadable"]);
}

#[test]
fn a_message_that_is_longer_than_the_limit() {
    let text = Record {
        name: labels("example.com"),
        data: Data::Text(vec![b'x'; 20_000]),
    };
    let long = framed(&answer(1, 0, "example.com", TXT, &[text]));
    let mut node = Node::new();
    node.piece(1, Sent, &framed(&question(1, "example.com", TXT)))
        .piece(1, Sent, &ask(2));
    for piece in [&long[..], &reply(2)].concat().chunks(500) {
        node.piece(1, Received, piece);
        assert!(node.sessions.fill().stream_bytes <= LIMITS.stream_bytes + 2);
    }
    assert_eq!(node.told(), [&counted(1), "1 client TypeTXT example.com ok"]);
}

#[test]
fn threads_may_overtake_each_other() {
    let mut node = Node::new();
    node.piece(1, Sent, &[ask(1), ask(2), ask(3)].concat());
    let positions: Vec<_> = (1..=3)
        .map(|id| node.missed(1, Received, reply(id).len() as u64))
        .collect();
    for id in [1, 3, 2] {
        let bytes = reply(id);
        let position = positions[usize::from(id) - 1];
        node.wait(MS)
            .segment(Transport::Stream, 1, Received, position, &bytes, bytes.len());
    }
    let output = node.take();
    assert_eq!(lines(&output), [counted(3)]);
    // Each with its own time.
    assert_eq!(output.requests[0].latency.sum_ns, 6 * MS);
    assert_eq!(node.sessions.fill().stream_bytes, 0);
    assert_eq!(node.told(), [""; 0]);
}

#[test]
fn what_comes_too_late_is_missing() {
    let mut node = Node::new();
    node.piece(1, Sent, &[ask(1), ask(2)].concat());
    let position = node.missed(1, Received, reply(1).len() as u64);
    node.segment(Transport::Stream, 1, Received, position, &reply(1), reply(1).len());
    let position = node.missed(1, Received, 50);
    node.piece(1, Received, &reply(2));
    assert_eq!(lines(&node.take()), [counted(1)]);
    assert_eq!(lines(&node.wait(10 * MS).take()), [&counted(1), "1 gap"]);
    node.segment(Transport::Stream, 1, Received, position, &[0; 50], 50);
    assert_eq!(node.told(), ["1 gap"]);
}

#[test]
fn a_question_whose_segment_had_to_wait_has_its_answer() {
    let mut node = Node::new();
    node.piece(1, Sent, &ask(1));
    node.missed(1, Sent, ask(2).len() as u64);
    node.piece(1, Sent, &ask(3)).wait(MS);
    node.piece(1, Received, &[reply(1), reply(2), reply(3)].concat());
    assert_eq!(lines(&node.take()), [counted(1)]);
    assert_eq!(lines(&node.wait(10 * MS).take()), [&counted(1), "1 unasked", "1 gap"]);
}

#[test]
fn a_connection_older_than_anybody_who_looks() {
    let mut node = Node::new();
    node.missed(1, Sent, 1000);
    node.missed(1, Received, 1000);
    node.piece(1, Received, &reply(9)[20..]);
    node.piece(1, Sent, &ask(1)).piece(1, Received, &reply(1));
    assert_eq!(node.told(), [&counted(1), "1 gap"]);
}

#[test]
fn an_idle_connection_is_forgotten_and_found_again() {
    let mut node = Node::new();
    node.piece(1, Sent, &ask(1)).piece(1, Received, &reply(1)[..5]);
    assert_eq!(lines(&node.wait(120 * SECOND - 1).take()), ["1 unanswered"]);
    assert_eq!(node.sessions.fill().streams, 1);
    assert_eq!(lines(&node.wait(1).take()), ["1 cut"]);
    assert_eq!(node.sessions.fill().streams, 0);
    node.piece(1, Received, &reply(1)[5..]);
    node.piece(1, Sent, &ask(2)).piece(1, Received, &reply(2));
    assert_eq!(node.told(), [&counted(1), "1 gap"]);
}

/// From the last byte of the question to the first one of the answer.
#[test]
fn time_is_taken_at_the_end_of_a_question_and_at_the_begin_of_an_answer() {
    let mut node = Node::new();
    node.piece(1, Sent, &ask(1)[..10])
        .wait(MS)
        .piece(1, Sent, &ask(1)[10..]);
    node.wait(2 * MS).piece(1, Received, &reply(1)[..2]);
    node.wait(4 * MS).piece(1, Received, &reply(1)[2..]);
    assert_eq!(node.take().requests[0].latency.sum_ns, 2 * MS);
}

#[test]
fn the_end_of_a_stream_is_no_message() {
    let mut node = Node::new();
    node.piece(1, Received, &[]);
    assert_eq!(node.sessions.fill().streams, 0);
    assert_eq!(node.told(), [""; 0]);
}
