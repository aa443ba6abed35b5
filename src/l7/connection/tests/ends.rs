//! What is lost at the end of a connection, where nothing comes behind it.
use super::*;

const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\na value..\r\n";
const STORED: &[u8] = b"+OK\r\n";

/// One command and its reply are heard, then those of another that are left.
fn last(hears: impl FnOnce(&mut Node)) -> (Classes, Vec<(UnparsedReason, u64)>) {
    let mut node = Node::new(Protocol::Redis);
    let parts = [node.begin(SET), node.part(Side::Server, STORED)];
    parts.iter().for_each(|part| node.sessions.hear(part));
    hears(&mut node);
    let output = node.ends();
    assert_eq!(node.sessions.fill(), Fill::default());
    (classes(&output), unparsed(&output))
}

const ONE: Classes = [0, 0, 1, 0, 0, 0];
const TWO: Classes = [0, 0, 2, 0, 0, 0];

#[test]
fn a_last_request_that_is_lost_with_its_reply_is_a_gap_on_either_side() {
    let lost = last(|node| {
        node.part(Side::Client, SET);
        node.part(Side::Server, STORED);
    });
    assert_eq!(lost, (ONE, vec![(UnparsedReason::Gap, 2)]));
}

#[test]
fn a_last_request_that_is_lost_without_its_reply_is_a_gap() {
    let lost = last(|node| {
        node.part(Side::Client, SET);
        let reply = node.part(Side::Server, STORED);
        node.sessions.hear(&reply);
    });
    assert_eq!(lost, (ONE, vec![(UnparsedReason::Gap, 1)]));
}

#[test]
fn a_last_reply_that_is_lost_is_a_gap() {
    let lost = last(|node| {
        let request = node.part(Side::Client, SET);
        node.sessions.hear(&request);
        node.part(Side::Server, STORED);
    });
    assert_eq!(lost, (ONE, vec![(UnparsedReason::Gap, 1)]));
}

#[test]
fn the_last_of_a_value_may_be_lost() {
    let counted = last(|node| {
        let (begin, rest) = SET.split_at(SET.len() - 5);
        let request = node.part(Side::Client, begin);
        node.part(Side::Client, rest);
        let reply = node.part(Side::Server, STORED);
        [request, reply].iter().for_each(|part| node.sessions.hear(part));
    });
    assert_eq!(counted, (TWO, vec![]));
}

#[test]
fn nothing_is_lost_where_all_was_heard() {
    let counted = last(|node| {
        let parts = [node.part(Side::Client, SET), node.part(Side::Server, STORED)];
        // Late, and in the wrong order.
        parts.iter().rev().for_each(|part| node.sessions.hear(part));
    });
    assert_eq!(counted, (TWO, vec![]));
    assert_eq!(last(|_| ()), (ONE, vec![]));
}

#[test]
fn of_a_connection_of_which_nothing_was_heard_only_the_kernel_can_tell() {
    for (words, lost, expected) in [
        (Some([100, 100]), true, vec![(UnparsedReason::Gap, 1)]),
        (None, true, vec![(UnparsedReason::Gap, 1)]),
        (Some([100, 100]), false, vec![]),
    ] {
        let mut node = Node::new(Protocol::Redis);
        let output = node.ends_with(words, lost);
        assert_eq!((classes(&output), unparsed(&output)), (Classes::default(), expected));
        assert_eq!(output.ended, [7]);
    }
}

#[test]
fn a_begin_without_bytes_takes_nobodys_place() {
    let mut node = Node::new(Protocol::Redis);
    // The kernel has counted a command and the begin of its reply. Of two threads one has found the socket busy with the
    // rest of that, and the other hands over what comes behind its own.
    let rest = node.part(Side::Server, b"the rest of it\r\n");
    let begin = Part {
        len: 0,
        payload: &[],
        begin: Some(Begin {
            from: rest.position,
            other_from: node.positions[0],
            handover: Handover::default(),
            carried: &[],
        }),
        ..rest
    };
    let more = [node.part(Side::Client, SET), node.part(Side::Server, STORED)];
    let parts = [rest, begin].into_iter().chain(more);
    parts.for_each(|part| node.sessions.hear(&part));
    let output = node.ends();
    assert_eq!((classes(&output), unparsed(&output)), (ONE, vec![]));
}
