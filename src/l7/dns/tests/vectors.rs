//! Messages as they were captured, in every shape in which they may come.
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text
        .bytes()
        .map(|digit| char::from(digit).to_digit(16).unwrap())
        .collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

const EXAMPLE_A: &str = "1a2b01000001000000000000076578616d706c6503636f6d0000010001";
const EXAMPLE_A_IS: &str = "1a2b81800001000100000000076578616d706c6503636f6d0000010001c00c000100010000003c00045db8d822";
const NOPE_IS_NOT: &str = "1a2c81830001000000000000046e6f70650373766307636c7573746572056c6f63616c0000010001";
const EXAMPLE_AAAA_HAS_NONE: &str = "1a2d81800001000000000000076578616d706c6503636f6d00001c0001";
const SERVFAIL: &str = "1a2e81820001000000000000016101620000010001";
const WWW_IS: &str = "1a2f8180000100020000000003777777076578616d706c6503636f6d0000010001c00c000500010000003c0002c010c010000100010000003c00040a000001";
const OWN_POINTER: &str = "1a3081800001000000000000c00c00010001";

/// What must have been asked.
fn question_to(answer: &[u8]) -> Vec<u8> {
    let mut at = 12;
    while answer[at] > 0 {
        at += 1 + usize::from(answer[at]);
    }
    let mut question = answer[..at + 5].to_vec();
    question[2..4].copy_from_slice(&[1, 0]);
    question[6..8].copy_from_slice(&[0, 0]);
    question
}

struct Vector {
    answer: &'static str,
    learnt: Option<&'static str>,
    counted: &'static str,
}

const VECTORS: [Vector; 5] = [
    Vector {
        answer: EXAMPLE_A_IS,
        learnt: Some("example.com is 93.184.216.34"),
        counted: "TypeA example.com ok",
    },
    Vector {
        answer: NOPE_IS_NOT,
        learnt: None,
        counted: "TypeA nope.svc.cluster.local nxdomain",
    },
    Vector {
        answer: EXAMPLE_AAAA_HAS_NONE,
        learnt: None,
        counted: "TypeAAAA example.com ok",
    },
    Vector {
        answer: SERVFAIL,
        learnt: None,
        counted: "TypeA a.b servfail",
    },
    Vector {
        answer: WWW_IS,
        learnt: Some("www.example.com is 10.0.0.1"),
        counted: "TypeA www.example.com ok",
    },
];

impl Vector {
    fn messages(&self) -> (Vec<u8>, Vec<u8>) {
        let answer = hex(self.answer);
        (question_to(&answer), answer)
    }

    fn told(&self, role: Role, times: u32) -> Vec<String> {
        let learnt = self.learnt.filter(|_| role == Role::Client).map(str::to_owned);
        let counted = format!("{times} {} {}", role.as_str(), self.counted);
        let learnt = std::iter::repeat_n(learnt, times as usize).flatten();
        learnt.chain([counted]).collect()
    }
}

#[test]
fn whole() {
    assert_eq!(question_to(&hex(EXAMPLE_A_IS)), hex(EXAMPLE_A));
    for vector in &VECTORS {
        let (question, answer) = vector.messages();
        for role in Role::ALL {
            let (there, back) = ways(role);
            let mut node = Node::new();
            node.datagram(1, there, &question)
                .wait(3 * MS)
                .datagram(1, back, &answer);
            let output = node.take();
            assert_eq!(lines(&output), vector.told(role, 1));
            assert_eq!(output.requests[0].latency.sum_ns, 3 * MS);
            assert_eq!(output.requests[0].owner, owner(7));
            assert_eq!(node.told(), [""; 0]);
        }
    }
}

#[test]
fn both_kinds_of_address_are_asked_for_at_once() {
    let mut v6 = hex(EXAMPLE_A);
    v6[1] = 0x2d;
    v6[26] = 28;
    let mut node = Node::new();
    node.datagram(1, Sent, &hex(EXAMPLE_A)).datagram(1, Sent, &v6);
    node.datagram(1, Received, &hex(EXAMPLE_AAAA_HAS_NONE));
    node.datagram(1, Received, &hex(EXAMPLE_A_IS));
    let expected = [
        "example.com is 93.184.216.34",
        "1 client TypeA example.com ok",
        "1 client TypeAAAA example.com ok",
    ];
    assert_eq!(node.told(), expected);
}

#[test]
fn a_name_that_points_to_itself() {
    for direction in [Sent, Received] {
        let mut node = Node::new();
        node.datagram(1, direction, &hex(OWN_POINTER));
        node.piece(2, direction, &framed(&hex(OWN_POINTER)));
        assert_eq!(node.told(), ["2 malformed"]);
    }
}

/// In two pieces, wherever the break is; then twice, one behind the other.
#[test]
fn split_at_every_byte() {
    for vector in &VECTORS {
        let (question, answer) = vector.messages();
        for role in Role::ALL {
            let (there, back) = ways(role);
            let (question, answer) = (framed(&question), framed(&answer));
            let twice = |message: &[u8]| {
                let mut other = message.to_vec();
                other[2] ^= 0xff;
                [message, &other].concat()
            };
            for (question, answer, times) in [
                (question.clone(), answer.clone(), 1),
                (twice(&question), twice(&answer), 2),
            ] {
                for at in 0..=question.len().max(answer.len()) {
                    let mut node = Node::new();
                    for (way, message) in [(there, &question), (back, &answer)] {
                        let (begin, rest) = message.split_at(at.min(message.len()));
                        node.piece(1, way, begin).piece(1, way, rest);
                    }
                    assert_eq!(node.told(), vector.told(role, times), "{at}");
                }
            }
        }
    }
}

#[test]
fn byte_by_byte_and_with_the_head_by_itself() {
    for vector in &VECTORS {
        let (question, answer) = vector.messages();
        for size in [1, 2, 3, 12, 14, 16] {
            let mut node = Node::new();
            for (way, message) in [(Sent, &question), (Received, &answer)] {
                let message = framed(message);
                if size == 1 {
                    for byte in &message {
                        node.piece(1, way, &[*byte]);
                    }
                } else {
                    let (head, rest) = message.split_at(size);
                    node.piece(1, way, head).piece(1, way, rest);
                }
            }
            assert_eq!(node.told(), vector.told(Role::Client, 1), "{size}");
        }
    }
}

/// The process itself sent less: of a question or of an answer.
#[test]
fn truncated_at_every_length() {
    for vector in &VECTORS {
        let (question, answer) = vector.messages();
        for len in 0..question.len() {
            let told = Node::new().datagram(1, Sent, &question[..len]).told();
            assert_eq!(told, ["1 malformed"], "{len}");
        }
        for len in 0..answer.len() {
            let mut node = Node::new();
            node.datagram(1, Sent, &question).datagram(1, Received, &answer[..len]);
            assert_eq!(node.told(), ["1 unanswered", "1 malformed"], "{len}");
        }
    }
}

/// The kernel took less.
#[test]
fn cut_at_every_length() {
    for vector in &VECTORS {
        let (question, answer) = vector.messages();
        for taken in 0..question.len() {
            let reason = if taken == 0 { "1 unreadable" } else { "1 cut" };
            assert_eq!(Node::new().cut_datagram(1, Sent, &question, taken).told(), [reason]);
        }
        for taken in 1..answer.len() {
            let mut node = Node::new();
            // What a server appends to a question is of no importance.
            let longer = [&question[..], b"more"].concat();
            node.cut_datagram(1, Sent, &longer, question.len());
            node.cut_datagram(1, Received, &answer, taken);
            let expected = if taken < question.len() {
                vec!["1 unanswered".to_owned(), "1 cut".to_owned()]
            } else {
                // The last record has the address.
                vec![vector.told(Role::Client, 1).pop().unwrap()]
            };
            assert_eq!(node.told(), expected, "{taken}");
        }
    }
}

#[test]
fn what_is_none_is_not_taken_for_one() {
    let zeros = [0; 12];
    let tls = [&[0x17, 3, 3, 0, 0x20][..], &[0xa5; 32]].concat();
    let negative = [&[0xff; 4][..], b"anything at all"].concat();
    let texts: [&[u8]; 6] = [
        b"GETX /foo bar baz qux quux",
        b"+OK POP3 ready\r\n",
        b"220 mail ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &hex("0a0568656c6c6f1001"),
        b"",
    ];
    for bytes in texts.into_iter().chain([&zeros[..], &tls, &negative]) {
        for direction in [Sent, Received] {
            let told = Node::new().datagram(1, direction, bytes).told();
            assert!(
                told == ["1 malformed"] || told == ["1 unsupported"],
                "{bytes:?}: {told:?}"
            );
            let told = Node::new().piece(1, direction, bytes).told();
            let none = bytes.is_empty() && told.is_empty();
            assert!(
                none || told == ["1 malformed"] || told == ["1 cut"],
                "{bytes:?}: {told:?}"
            );
        }
    }
    for byte in 0..=u8::MAX {
        assert_eq!(Node::new().datagram(1, Sent, &[byte]).told(), ["1 malformed"]);
        assert_eq!(Node::new().piece(1, Sent, &[byte]).told(), ["1 cut"]);
    }
    // Without the length in front: another protocol.
    let mut node = Node::new();
    node.piece(1, Sent, &hex(EXAMPLE_A))
        .piece(1, Received, &hex(EXAMPLE_A_IS));
    assert_eq!(node.told(), ["2 malformed"]);
}
