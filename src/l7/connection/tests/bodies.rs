//! Large bodies, of which nobody has to see what is within.
use super::*;
use crate::l7::watch::Watch;

const MIB: u64 = 1 << 20;

/// A request, and the begin of a large reply.
fn begun(node: &mut Node) -> (Output, u64) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MIB}\r\n\r\n");
    let first = [head.as_bytes(), &[b'b'; 1000]].concat();
    let parts = [node.begin(GET), node.part(Side::Server, &first)];
    parts.iter().for_each(|part| node.sessions.hear(part));
    (node.take(), 200 + head.len() as u64 + MIB)
}

#[test]
fn what_is_within_a_large_body_is_passed_over() {
    let mut node = Node::new(Protocol::Http);
    let (output, end) = begun(&mut node);
    let body = PassOver {
        socket: 7,
        sent: 0,
        received: end,
    };
    assert_eq!(
        (output.passed_over.as_slice(), classes(&output)[2]),
        ([body].as_slice(), 1)
    );
    // What was on its way already, and what is behind the body.
    let within = node.part(Side::Server, &[b'b'; 3000]);
    node.positions[1] = end;
    let behind = [node.part(Side::Client, GET), node.part(Side::Server, NOT_FOUND)];
    [within].iter().chain(&behind).for_each(|part| node.sessions.hear(part));
    let output = node.take();
    assert_eq!((classes(&output)[4], unparsed(&output)), (1, vec![]));
    assert_eq!((output.passed_over, node.sessions.fill().connection_bytes), (vec![], 0));
}

#[test]
fn a_segment_may_begin_within_a_body_and_end_behind_it() {
    let mut node = Node::new(Protocol::Http);
    let (_, end) = begun(&mut node);
    let asks = node.part(Side::Client, GET);
    node.positions[1] = end - 500;
    let last = [&[b'b'; 500], NOT_FOUND].concat();
    let parts = [asks, node.part(Side::Server, &last)];
    parts.iter().for_each(|part| node.sessions.hear(part));
    let output = node.take();
    assert_eq!((classes(&output)[4], unparsed(&output)), (1, vec![]));
}

#[test]
fn a_segment_may_be_cut_within_the_body() {
    let mut node = Node::new(Protocol::Http);
    let (_, end) = begun(&mut node);
    let asks = node.part(Side::Client, GET);
    node.positions[1] = end - 500;
    let last = [&[b'b'; 500], NOT_FOUND].concat();
    let cut = Part {
        payload: &last[..400],
        ..node.part(Side::Server, &last)
    };
    [asks, cut].iter().for_each(|part| node.sessions.hear(part));
    let output = node.take();
    assert_eq!(
        (classes(&output)[4], unparsed(&output)),
        (0, vec![(UnparsedReason::Cut, 1)])
    );
}

#[test]
fn what_ends_before_its_body_does_is_counted() {
    let mut node = Node::new(Protocol::Http);
    let (first, _) = begun(&mut node);
    let last = node.ends();
    assert_eq!((classes(&first)[2], unparsed(&last)), (1, vec![]));
    assert_eq!(node.sessions.fill(), Fill::default());
}

#[test]
fn the_values_of_a_server_are_passed_over() {
    let mut node = Node::new(Protocol::Redis);
    node.between.role = Role::Server;
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${MIB}\r\n");
    let begin = node.begin(set.as_bytes());
    node.sessions.hear(&begin);
    let end = 100 + set.len() as u64 + MIB + 2;
    let body = PassOver {
        socket: 7,
        sent: 0,
        received: end,
    };
    assert_eq!(node.take().passed_over, [body]);
    node.positions[0] = end;
    let reply = node.part(Side::Server, b"+OK\r\n");
    node.sessions.hear(&reply);
    let output = node.take();
    assert_eq!((classes(&output)[2], unparsed(&output)), (1, vec![]));
}

/// The request may be in there.
#[test]
fn what_is_shown_to_somebody_is_heard_whole() {
    let mut node = Node::new(Protocol::Http);
    let owner = node.between.owner.process.tgid;
    node.sessions.watch(Watch {
        tgids: std::sync::Arc::new([owner].into()),
        text: true,
    });
    assert_eq!(begun(&mut node).0.passed_over, []);
}
