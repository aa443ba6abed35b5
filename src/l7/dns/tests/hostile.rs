//! Whoever writes to a socket may write anything.
use super::{encoder::*, *};
use crate::l7::dns::message;
use proptest::{collection::vec, prelude::*};

/// An answer to `a`, with these bytes as its records.
fn reply(count: u16, records: &[u8]) -> Vec<u8> {
    let mut message = answer(1, 0, "a", A, &[]);
    message[6..8].copy_from_slice(&count.to_be_bytes());
    message.extend(records);
    message
}

fn told_of(reply: &[u8]) -> Vec<String> {
    let mut node = Node::new();
    node.datagram(1, Sent, &question(1, "a", A))
        .datagram(1, Received, reply);
    node.told()
}

const MALFORMED: [&str; 2] = ["1 unanswered", "1 malformed"];
const FIXED: [u8; 8] = [0, 1, 0, 1, 0, 0, 0, 60];

fn a_record(name: &[u8], data: &[u8]) -> Vec<u8> {
    [name, &FIXED, &(data.len() as u16).to_be_bytes(), data].concat()
}

#[test]
fn pointers_lead_back_and_not_too_often() {
    let ip = [192, 0, 2, 1];
    // The question's name is at 12, the first record at 19.
    assert_eq!(told_of(&reply(1, &a_record(&[0xc0, 12], &ip)))[0], "a is 192.0.2.1");
    for target in [0, 11, 19, 20, 21, 60, 255] {
        assert_eq!(
            told_of(&reply(1, &a_record(&[0xc0, target], &ip))),
            MALFORMED,
            "{target}"
        );
    }
    assert_eq!(told_of(&reply(1, &a_record(&[0xff, 0xff], &ip))), MALFORMED);
    for reserved in [0x40, 0x80] {
        assert_eq!(told_of(&reply(1, &a_record(&[reserved, 12], &ip))), MALFORMED);
    }
    // Within a label that leads back to itself.
    assert_eq!(told_of(&reply(1, &a_record(&[1, b'a', 0xc0, 19], &ip))), MALFORMED);
    // A text record full of pointers, each to the one before; then one to the last.
    for (pointers, fine) in [(32, true), (33, false)] {
        let text_at = 19 + 2 + 8 + 2;
        let mut text = vec![0xc0, 12];
        for n in 1..pointers - 1 {
            text.extend((0xc000 | (text_at + 2 * (n - 1)) as u16).to_be_bytes());
        }
        let last = (0xc000 | (text_at + text.len() - 2) as u16).to_be_bytes();
        let mut first = a_record(&[0xc0, 12], &text);
        first[3] = TXT as u8;
        let told = told_of(&reply(2, &[first, a_record(&last, &ip)].concat()));
        assert_eq!(told[0] == "a is 192.0.2.1", fine, "{told:?}");
    }
}

#[test]
fn names_have_a_length() {
    let label = [&[63][..], &[b'x'; 63]].concat();
    for (last, fine) in [(61, true), (62, false)] {
        let name = [label.repeat(3), vec![last], vec![b'y'; usize::from(last)], vec![0]].concat();
        let mut message = Encoder::new(1, QUESTION, false).done();
        message[5] = 1;
        message.extend(name);
        message.extend([0, 1, 0, 1]);
        let expected = if fine { "1 unanswered" } else { "1 malformed" };
        assert_eq!(Node::new().datagram(1, Sent, &message).told(), [expected]);
    }
}

#[test]
fn records_that_are_not_what_they_say() {
    let name = [0xc0, 12];
    for data in [&[][..], &[192, 0, 2], &[192, 0, 2, 1, 0]] {
        assert_eq!(told_of(&reply(1, &a_record(&name, data))), MALFORMED);
    }
    let mut v6 = a_record(&name, &[0; 15]);
    v6[3] = 28;
    assert_eq!(told_of(&reply(1, &v6)), MALFORMED);
    for data in [&[][..], &[1, b'b'], &[1, b'b', 0, 0]] {
        let mut alias = a_record(&name, data);
        alias[3] = CNAME as u8;
        assert_eq!(told_of(&reply(1, &alias)), MALFORMED, "{data:?}");
    }
    // One record less than there should be, and a great many more.
    assert_eq!(told_of(&reply(2, &a_record(&name, &[192, 0, 2, 1]))), MALFORMED);
    assert_eq!(told_of(&reply(u16::MAX, &a_record(&name, &[192, 0, 2, 1]))), MALFORMED);
}

#[test]
fn more_addresses_than_anybody_has() {
    let records = a_record(&[0xc0, 12], &[192, 0, 2, 1]).repeat(5000);
    let mut node = Node::new();
    node.datagram(1, Sent, &question(1, "a", A))
        .datagram(1, Received, &reply(5000, &records));
    assert_eq!(node.take().answers[0].addresses.len(), 128);
}

#[test]
fn lengths_that_lie() {
    let ask = question(1, "a", A);
    for position in [0, 1, u64::MAX - 1, u64::MAX] {
        for len in [0, 1, 19, 65_536, u32::MAX] {
            for transport in [Transport::Datagram, Transport::Stream] {
                let mut node = Node::new();
                for time_ns in [0, u64::MAX, node.now_ns] {
                    node.sessions.apply(&Segment {
                        time_ns,
                        socket: 1,
                        owner: owner(7),
                        transport,
                        direction: Sent,
                        position,
                        len,
                        payload: &ask,
                    });
                }
                let fill = node.sessions.fill();
                assert!(fill.questions <= 1 && fill.stream_bytes <= 2 * LIMITS.stream_bytes);
                node.take();
                node.sessions.take(u64::MAX);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in vec(any::<u8>(), 0..600), cut: bool, learn: bool) {
        drop(message::parse(&bytes, cut, learn));
        message::is_plausible(bytes.len(), &bytes);
    }

    /// Each datagram is told of once: with its exchange, or by itself.
    #[test]
    fn nothing_is_lost(
        datagrams in vec((0u64..3, any::<bool>(), 0u16..4, any::<bool>(), 0usize..40, any::<u8>()), 0..60),
    ) {
        let mut node = Node::new();
        let mut sum = 0;
        let mut add = |output: &Output| {
            sum += 2 * output.requests.iter().map(|of| of.latency.count()).sum::<u64>();
            sum += output.unanswered.iter().map(|of| of.count).sum::<u64>();
            sum += output.unparsed.iter().map(|of| of.count).sum::<u64>();
        };
        for (socket, sent, id, asks, at, to) in &datagrams {
            let mut message = if *asks { question(*id, "a.b", A) } else { answer(*id, 0, "a.b", A, &[]) };
            if let Some(byte) = message.get_mut(*at) {
                *byte = *to;
            }
            node.wait(MS).datagram(*socket, if *sent { Sent } else { Received }, &message);
            if *to % 8 == 0 {
                add(&node.take());
            }
        }
        for _ in 0..4 {
            add(&node.wait(20 * SECOND).take());
        }
        prop_assert_eq!(sum, datagrams.len() as u64);
    }
}
