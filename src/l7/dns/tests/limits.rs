//! What goes over a limit is counted, and nothing grows.
use super::{encoder::*, *};
use crate::decode::{DnsUnanswered, Unparsed};

fn limits() -> Limits {
    Limits {
        sockets: 32,
        questions_per_socket: 4,
        questions: 100,
        stream_bytes: 64,
        connections: 64,
        body_bytes: u64::MAX,
    }
}

fn total(output: &Output) -> (u64, u64, u64) {
    (
        output.requests.iter().map(|of| of.latency.count()).sum(),
        output.unanswered.iter().map(|DnsUnanswered { count, .. }| count).sum(),
        output.unparsed.iter().map(|Unparsed { count, .. }| count).sum(),
    )
}

#[test]
fn the_oldest_question_of_a_socket_makes_room() {
    let mut node = Node::with(limits());
    for id in 0..10 {
        node.wait(MS).datagram(1, Received, &question(id, "example.com", A));
        assert!(node.sessions.fill().questions <= 4);
    }
    assert_eq!(lines(&node.take()), ["6 not answered"]);
    for id in 0..10 {
        node.datagram(1, Sent, &answer(id, 0, "example.com", A, &[]));
    }
    assert_eq!(node.told(), ["4 server TypeA example.com ok", "6 unasked"]);
}

#[test]
fn the_longest_idle_socket_makes_room() {
    let mut node = Node::with(limits());
    for socket in 0..100 {
        node.wait(MS).datagram(socket, Sent, &question(1, "example.com", A));
        assert!(node.sessions.fill().sockets <= 32);
    }
    let waiting = node.sessions.fill().questions as u64;
    assert_eq!(total(&node.take()), (0, 100 - waiting, 0));
    assert_eq!(node.sessions.fill().evicted, 100 - waiting);
    // The latest are there.
    node.datagram(99, Received, &answer(1, 0, "example.com", A, &[]));
    assert_eq!(lines(&node.take()), ["1 client TypeA example.com ok"]);
}

#[test]
fn all_questions_together_have_a_limit() {
    let mut node = Node::with(limits());
    for socket in 0..30 {
        for id in 0..4 {
            node.datagram(socket, Sent, &question(id, "example.com", A));
            assert!(node.sessions.fill().questions <= 100);
        }
    }
    // The last five sockets had none to give up.
    assert_eq!(node.sessions.fill().sockets, 25);
    assert_eq!(node.told(), ["100 unanswered", "20 crowded"]);
}

#[test]
fn the_longest_idle_stream_makes_room() {
    let mut node = Node::with(limits());
    let half = &framed(&question(1, "example.com", A))[..10];
    for socket in 0..100 {
        node.wait(MS).piece(socket, Sent, half);
        let fill = node.sessions.fill();
        assert!(fill.streams <= 32 && fill.stream_bytes == 10 * fill.streams);
    }
    let streams = node.sessions.fill().streams as u64;
    assert_eq!(total(&node.take()), (0, 0, 100 - streams));
    assert_eq!(node.told(), [format!("{streams} cut")]);
}

#[test]
fn all_streams_together_have_a_limit() {
    let mut node = Node::with(Limits {
        sockets: 100_000,
        stream_bytes: 60_000,
        connections: 64,
        body_bytes: u64::MAX,
        ..limits()
    });
    let text = Record {
        name: labels("a"),
        data: Data::Text(vec![b'x'; 60_000]),
    };
    let half = &framed(&answer(1, 0, "a", A, &[text]))[..40_000];
    for socket in 0..400 {
        node.wait(MS).piece(socket, Sent, half);
        let fill = node.sessions.fill();
        assert!(fill.stream_bytes <= 8 << 20);
        assert_eq!(fill.stream_bytes, 40_000 * fill.streams);
        assert_eq!(fill.streams as u64 + fill.evicted, socket + 1);
    }
    assert!(node.sessions.fill().streams > 150);
    assert_eq!(node.told(), ["400 unasked"]);
    assert_eq!(node.sessions.fill().stream_bytes, 0);
}

#[test]
fn segments_that_wait_have_a_limit() {
    let mut node = Node::with(limits());
    node.piece(1, Sent, &framed(&question(0, "example.com", A)));
    for _ in 0..50 {
        node.missed(1, Sent, 7);
        node.piece(1, Sent, &[0; 20]);
        assert!(node.sessions.fill().stream_bytes <= 2 * (64 + 2));
    }
    assert_eq!(node.told(), ["1 unanswered", "100 gap"]);
}

#[test]
fn early_answers_have_a_limit() {
    let mut node = Node::with(limits());
    for id in 0..5000 {
        node.datagram(1, Received, &answer(id, 0, "example.com", A, &[]));
    }
    assert_eq!(node.sessions.fill().early_answers, 1024);
    assert_eq!(lines(&node.take()), ["3976 unasked"]);
    assert_eq!(node.told(), ["1024 unasked"]);
}

#[test]
fn kinds_of_questions_have_a_limit() {
    let mut node = Node::with(limits());
    for n in 0..20_000u32 {
        let name = format!("n{n}.example");
        let ip = [address(&name, "192.0.2.1")];
        node.datagram(1, Sent, &question(1, &name, A));
        node.datagram(1, Received, &answer(1, 0, &name, A, &ip));
    }
    let output = node.take();
    assert_eq!((output.requests.len(), output.answers.len()), (16_384, 16_384));
    assert_eq!(total(&output), (16_384, 0, 20_000 - 16_384));
}

#[test]
fn nothing_at_all_may_be_kept() {
    let mut node = Node::with(Limits {
        sockets: 0,
        questions_per_socket: 0,
        questions: 0,
        stream_bytes: 0,
        connections: 64,
        body_bytes: u64::MAX,
    });
    let ask = question(1, "example.com", A);
    node.datagram(1, Sent, &ask).piece(2, Sent, &framed(&ask));
    assert_eq!(node.told(), ["2 crowded"]);
}
