//! Which answer belongs to which question, and what is learnt from it.
use super::{encoder::*, *};

fn example(id: u16) -> (Vec<u8>, Vec<u8>) {
    let ip = [address("example.com", "192.0.2.1")];
    (question(id, "example.com", A), answer(id, 0, "example.com", A, &ip))
}

const LEARNT: &str = "example.com is 192.0.2.1";
const COUNTED: &str = "1 client TypeA example.com ok";

#[test]
fn nobody_has_asked() {
    let (_, reply) = example(1);
    let mut node = Node::new();
    node.datagram(1, Received, &reply).datagram(2, Sent, &reply);
    assert_eq!(node.told(), ["2 unasked"]);
}

#[test]
fn the_answer_to_another_question_is_none() {
    let (ask, reply) = example(1);
    let ip = |name: &str| [address(name, "192.0.2.66")];
    let others = [
        answer(2, 0, "example.com", A, &ip("example.com")),
        answer(1, 0, "example.org", A, &ip("example.org")),
        answer(1, 0, "xexample.com", A, &ip("xexample.com")),
        answer(1, 0, "example.com", AAAA, &ip("example.com")),
        Encoder::new(1, ANSWER, true)
            .question(&labels("example.com"), A, 3)
            .record(&ip("example.com")[0])
            .done(),
    ];
    let mut node = Node::new();
    node.datagram(1, Sent, &ask);
    for other in &others {
        node.datagram(1, Received, other);
    }
    // Another socket's, and one that goes the other way.
    node.datagram(2, Received, &reply).datagram(1, Sent, &reply);
    node.datagram(1, Received, &reply);
    assert_eq!(node.told(), [LEARNT, COUNTED, "7 unasked"]);
}

#[test]
fn letters_may_be_large_or_small() {
    let ip = [address("eXample.Com", "192.0.2.1")];
    let mut node = Node::new();
    node.datagram(1, Sent, &question(1, "EXAMPLE.com", A));
    node.datagram(1, Received, &answer(1, 0, "eXAMPLE.cOM", A, &ip));
    assert_eq!(node.told(), [LEARNT, COUNTED]);
}

#[test]
fn an_answer_may_be_heard_of_before_its_question() {
    let (ask, reply) = example(1);
    let mut node = Node::new();
    node.datagram(1, Received, &reply);
    assert_eq!(lines(&node.take()), [""; 0]);
    node.wait(MS).datagram(1, Sent, &ask);
    let output = node.take();
    assert_eq!(lines(&output), [LEARNT, COUNTED]);
    assert_eq!(output.requests[0].latency.sum_ns, 0);
    assert_eq!(node.told(), [""; 0]);
}

#[test]
fn an_early_answer_waits_two_readings_and_five_milliseconds() {
    let (ask, reply) = example(1);
    let mut node = Node::new();
    node.datagram(1, Received, &reply);
    for _ in 0..4 {
        assert_eq!(lines(&node.wait(MS).take()), [""; 0]);
    }
    assert_eq!(lines(&node.wait(MS).take()), ["1 unasked"]);
    node.datagram(1, Received, &reply);
    assert_eq!(lines(&node.wait(100 * MS).take()), [""; 0]);
    assert_eq!(lines(&node.wait(100 * MS).take()), ["1 unasked"]);
    // Nor is an old one the answer to what is asked only now.
    node.datagram(1, Received, &reply).wait(20 * MS).datagram(1, Sent, &ask);
    assert_eq!(node.told(), ["1 unanswered", "1 unasked"]);
}

#[test]
fn asked_again_under_the_same_id() {
    let (ask, reply) = example(1);
    let mut node = Node::new();
    node.datagram(1, Sent, &ask).wait(5 * SECOND).datagram(1, Sent, &ask);
    assert_eq!(lines(&node.take()), ["1 unanswered"]);
    node.wait(2 * MS).datagram(1, Received, &reply);
    let output = node.take();
    assert_eq!(lines(&output), [LEARNT, COUNTED]);
    assert_eq!(output.requests[0].latency.sum_ns, 2 * MS);
    // Something else, too: whoever uses an id again does not wait for the first answer.
    node.datagram(1, Sent, &question(1, "example.org", A));
    node.datagram(1, Sent, &ask).datagram(1, Received, &reply);
    assert_eq!(lines(&node.take()), [LEARNT, COUNTED, "1 unanswered"]);
    assert_eq!(node.told(), [""; 0]);
}

#[test]
fn clients_of_a_server_may_use_the_same_id() {
    let (ask, reply) = example(1);
    let mut node = Node::new();
    node.datagram(1, Received, &ask);
    node.wait(MS).datagram(1, Received, &question(1, "example.org", A));
    node.wait(MS).datagram(1, Received, &ask);
    node.wait(MS).datagram(1, Sent, &reply);
    node.datagram(1, Sent, &answer(1, 3, "example.org", A, &[]));
    node.wait(MS).datagram(1, Sent, &reply);
    let output = node.take();
    let expected = ["2 server TypeA example.com ok", "1 server TypeA example.org nxdomain"];
    assert_eq!(lines(&output), expected);
    assert_eq!(output.requests[0].latency.sum_ns, 5 * MS);
    assert_eq!(node.told(), [""; 0]);
}

#[test]
fn nobody_answers() {
    let (ask, reply) = example(1);
    let mut node = Node::new();
    node.datagram(1, Sent, &ask).datagram(2, Received, &ask);
    assert_eq!(lines(&node.wait(10 * SECOND - 1).take()), [""; 0]);
    assert_eq!(lines(&node.wait(1).take()), ["1 unanswered", "1 not answered"]);
    node.datagram(1, Received, &reply);
    assert_eq!(node.told(), ["1 unasked"]);
    // Nor is what comes that late an answer, if the reading is late as well.
    node.datagram(1, Sent, &ask)
        .wait(10 * SECOND)
        .datagram(1, Received, &reply);
    assert_eq!(node.told(), ["1 unanswered", "1 unasked"]);
}

#[test]
fn every_code_has_its_status() {
    let mut node = Node::new();
    for code in 0..16 {
        node.datagram(1, Sent, &question(code, "a.b", AAAA));
        node.datagram(1, Received, &answer(code, code, "a.b", AAAA, &[]));
    }
    let statuses: Vec<_> = node.take().requests.iter().map(|of| of.status.as_str()).collect();
    let expected = "ok format_error servfail nxdomain not_implemented refused 6 7 8 9 10 11 12 13 14 15";
    assert_eq!(statuses.join(" "), expected);
}

#[test]
fn an_error_may_leave_out_the_question() {
    let (ask, _) = example(1);
    let bare = |code| Encoder::new(1, ANSWER | code, true).done();
    let mut node = Node::new();
    node.datagram(1, Sent, &ask).datagram(1, Received, &bare(5));
    assert_eq!(lines(&node.take()), ["1 client TypeA example.com refused"]);
    node.datagram(1, Received, &bare(1)).datagram(1, Sent, &ask);
    assert_eq!(lines(&node.take()), ["1 client TypeA example.com format_error"]);
    // Nothing of the sort can be said without an error.
    node.datagram(1, Sent, &ask).datagram(1, Received, &bare(0));
    assert_eq!(node.told(), ["1 unanswered", "1 unsupported"]);
}

#[test]
fn other_operations() {
    let mut node = Node::new();
    for opcode in 1..16 {
        let message = Encoder::new(1, opcode << 11, true)
            .question(&labels("a.b"), 6, IN)
            .done();
        node.datagram(1, Sent, &message);
    }
    // Several questions, and none: multicast.
    let two = Encoder::new(0, 0, true).question(&labels("a.local"), A, IN);
    node.datagram(1, Sent, &two.question(&labels("b.local"), A, IN).done());
    node.datagram(1, Sent, &Encoder::new(0, 0, true).done());
    assert_eq!(node.told(), ["11 malformed", "6 unsupported"]);
}

fn learnt(name: &str, records: &[Record]) -> Vec<String> {
    let mut node = Node::new();
    node.datagram(1, Sent, &question(1, name, A));
    node.datagram(1, Received, &answer(1, 0, name, A, records));
    let mut told = node.told();
    assert!(told.pop().unwrap().starts_with("1 client TypeA"), "{told:?}");
    told
}

#[test]
fn addresses_of_the_name_and_of_what_it_is_an_alias_of() {
    let mut records = vec![
        address("c.example", "192.0.2.1"),
        alias("b.example", "c.example"),
        address("other.example", "192.0.2.66"),
        alias("a.example", "b.example"),
        address("c.example", "2001:db8::1"),
        alias("other.example", "a.example"),
    ];
    assert_eq!(learnt("a.example", &records), ["a.example is 192.0.2.1 2001:db8::1"]);
    records.reverse();
    assert_eq!(learnt("a.example", &records), ["a.example is 2001:db8::1 192.0.2.1"]);
    assert_eq!(learnt("unrelated.example", &records), [""; 0]);
}

#[test]
fn a_chain_may_go_in_circles_or_on_and_on() {
    let circle = [
        alias("a.example", "b.example"),
        alias("b.example", "a.example"),
        address("b.example", "192.0.2.1"),
    ];
    assert_eq!(learnt("a.example", &circle), ["a.example is 192.0.2.1"]);
    for links in [16, 17] {
        let name = |n: u32| format!("n{n}.example");
        let mut records: Vec<_> = (0..links).map(|n| alias(&name(n), &name(n + 1))).collect();
        records.push(address(&name(links), "192.0.2.1"));
        assert_eq!(learnt("n0.example", &records).len(), usize::from(links == 16));
    }
}

#[test]
fn what_teaches_nobody() {
    let ip = address("example.com", "192.0.2.1");
    let begin = |flags, class| Encoder::new(1, ANSWER | flags, true).question(&labels("example.com"), A, class);
    let text = Record {
        name: labels("example.com"),
        data: Data::Text(vec![192, 0, 2, 1]),
    };
    for (reply, class, status) in [
        (begin(TRUNCATED, IN).record(&ip), IN, "ok"),
        // Also where the truncation left half a record.
        (begin(TRUNCATED, IN).record(&ip), IN, "ok"),
        (begin(3, IN).record(&ip), IN, "nxdomain"),
        (begin(0, 3).record(&ip), 3, "ok"),
        (begin(0, IN).record_of_class(&ip, 3), IN, "ok"),
        (begin(0, IN).record(&text), IN, "ok"),
        (begin(0, IN).additional(&ip), IN, "ok"),
    ] {
        let mut node = Node::new();
        let ask = Encoder::new(1, QUESTION, true).question(&labels("example.com"), A, class);
        node.datagram(1, Sent, &ask.done()).datagram(1, Received, &reply.done());
        assert_eq!(node.told(), [format!("1 client TypeA example.com {status}")]);
    }
}

#[test]
fn a_truncated_answer_may_end_anywhere() {
    let (ask, reply) = example(1);
    let mut reply = reply;
    reply[2] |= 2;
    for len in ask.len()..reply.len() {
        let mut node = Node::new();
        node.datagram(1, Sent, &ask).datagram(1, Received, &reply[..len]);
        assert_eq!(node.told(), [COUNTED]);
    }
}

#[test]
fn names_that_no_host_has() {
    let mut node = Node::new();
    let names = [
        vec![],
        vec![b"a b".to_vec()],
        vec![b"example.com".to_vec()],
        vec![vec![0xff; 63]; 3],
    ];
    for (id, name) in (0..).zip(&names) {
        let ip = Record {
            name: name.clone(),
            data: Data::Address([192, 0, 2, 1].into()),
        };
        let begin = |flags| Encoder::new(id, flags, false).question(name, A, IN);
        node.datagram(1, Sent, &begin(QUESTION).done());
        node.datagram(1, Received, &begin(ANSWER).record(&ip).done());
    }
    let output = node.take();
    let counted = &lines(&output)[output.answers.len()..];
    assert_eq!(counted, ["1 client TypeA . ok", "3 client TypeA ~other ok"]);
    // A dot within a label would make another name of it.
    assert!(output.answers.iter().all(|answer| *answer.name != *b"example.com"));
}

#[test]
fn counts_are_by_process() {
    let (ask, reply) = example(1);
    let mut node = Node::new();
    for tgid in [9, 8, 9] {
        for (direction, payload) in [(Sent, &ask), (Received, &reply)] {
            node.sessions.apply(&Segment {
                time_ns: node.now_ns,
                socket: u64::from(tgid),
                owner: owner(tgid),
                transport: Transport::Datagram,
                direction,
                position: 0,
                len: payload.len() as u32,
                payload,
            });
        }
    }
    let output = node.take();
    let counts: Vec<_> = output
        .requests
        .iter()
        .map(|of| (of.owner.process.tgid, of.latency.count()))
        .collect();
    assert_eq!(counts, [(8, 1), (9, 2)]);
}
