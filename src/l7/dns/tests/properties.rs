//! Random exchanges, written by an encoder that knows nothing of the parser.
use super::{encoder::*, *};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::net::IpAddr;

#[derive(Clone, Debug)]
struct Exchange {
    name: Vec<Vec<u8>>,
    kind: u16,
    code: u16,
    /// Of the name, in order: any number of aliases, and the addresses of the last.
    aliases: Vec<Vec<Vec<u8>>>,
    addresses: Vec<IpAddr>,
    others: Vec<Record>,
    shuffle: Vec<Index>,
    compress: bool,
}

fn name() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec("[a-zA-Z0-9_-]{1,20}[a-z]".prop_map(String::into_bytes), 1..6)
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ]
}

fn other() -> impl Strategy<Value = Record> {
    let data = prop_oneof![
        any_address().prop_map(Data::Address),
        name().prop_map(Data::Alias),
        vec(any::<u8>(), 0..40).prop_map(Data::Text),
    ];
    // No name of the others has this label.
    (name(), data).prop_map(|(mut name, data)| {
        name.push(b"unrelated".to_vec());
        Record { name, data }
    })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    (
        (name(), any::<u16>(), prop_oneof![4 => Just(0), 1 => 1u16..16]),
        (vec(name(), 0..6), vec(any_address(), 0..8), vec(other(), 0..4)),
        (vec(any::<Index>(), 24), any::<bool>()),
    )
        .prop_map(
            |((name, kind, code), (aliases, addresses, others), (shuffle, compress))| {
                // Each is a name of its own, or the chain would be another one.
                let numbered = (0..).zip(aliases).map(|(n, mut alias): (u32, Vec<Vec<u8>>)| {
                    alias.push(format!("alias{n}").into_bytes());
                    alias
                });
                Exchange {
                    name,
                    kind,
                    code,
                    aliases: numbered.collect(),
                    addresses,
                    others,
                    shuffle,
                    compress,
                }
            },
        )
}

impl Exchange {
    fn question(&self, id: u16) -> Vec<u8> {
        let begin = Encoder::new(id, QUESTION, self.compress);
        begin.question(&self.name, self.kind, IN).done()
    }

    fn records(&self) -> Vec<Record> {
        let mut records = self.others.clone();
        let mut name = &self.name;
        for alias in &self.aliases {
            records.push(Record {
                name: name.clone(),
                data: Data::Alias(alias.clone()),
            });
            name = alias;
        }
        records.extend(self.addresses.iter().map(|ip| Record {
            name: name.clone(),
            data: Data::Address(*ip),
        }));
        for (at, index) in self.shuffle.iter().enumerate().take(records.len()) {
            let other = index.index(records.len());
            records.swap(at, other);
        }
        records
    }

    fn answer(&self, id: u16) -> Vec<u8> {
        let begin = Encoder::new(id, ANSWER | self.code, self.compress).question(&self.name, self.kind, IN);
        let records = self.records();
        records
            .iter()
            .fold(begin, |message, record| message.record(record))
            .done()
    }

    /// Without what the message says about others.
    fn learnt(&self) -> Option<(Vec<u8>, Vec<IpAddr>)> {
        let mut addresses = self.addresses.clone();
        addresses.sort_unstable();
        let learns = self.code == 0 && !addresses.is_empty();
        learns.then(|| (self.name.join(&b'.').to_ascii_lowercase(), addresses))
    }
}

fn learnt(output: &Output) -> Vec<(Vec<u8>, Vec<IpAddr>)> {
    let sorted = |addresses: &[IpAddr]| {
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses
    };
    let answers = output.answers.iter();
    answers
        .map(|answer| (answer.name.to_vec(), sorted(&answer.addresses)))
        .collect()
}

fn requests(output: &Output) -> u64 {
    output.requests.iter().map(|of| of.latency.count()).sum()
}

/// Pieces of these lengths, over and over.
fn pieces<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(rest.len().min(*lengths.next()?));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// One behind the other, numbered.
fn streams(exchanges: &[Exchange]) -> (Vec<u8>, Vec<u8>) {
    let numbered = || (0u16..).zip(exchanges);
    let questions = numbered().flat_map(|(id, of)| framed(&of.question(id)));
    let answers = numbered().flat_map(|(id, of)| framed(&of.answer(id)));
    (questions.collect(), answers.collect())
}

proptest! {
    #[test]
    fn what_was_written_is_read(of in exchange(), id: u16) {
        for role in Role::ALL {
            let (there, back) = ways(role);
            let mut node = Node::new();
            node.datagram(1, there, &of.question(id)).datagram(1, back, &of.answer(id));
            let output = node.take();
            prop_assert_eq!(requests(&output), 1);
            let request = &output.requests[0];
            prop_assert_eq!((request.role, request.question_type), (role, of.kind));
            prop_assert_eq!(request.status, (of.code as u8).into());
            let expected = of.learnt().filter(|_| role == Role::Client);
            prop_assert_eq!(learnt(&output), Vec::from_iter(expected));
            prop_assert_eq!(node.told(), [""; 0]);
        }
    }

    #[test]
    fn pieces_of_a_stream_are_as_good_as_the_whole(
        exchanges in vec(exchange(), 1..6),
        lengths in vec(1usize..200, 1..8),
    ) {
        let (questions, answers) = streams(&exchanges);
        let mut node = Node::new();
        pieces(&questions, &lengths).for_each(|piece| { node.piece(1, Sent, piece); });
        pieces(&answers, &lengths).for_each(|piece| { node.piece(1, Received, piece); });
        let output = node.take();
        prop_assert_eq!(requests(&output), exchanges.len() as u64);
        let expected: Vec<_> = exchanges.iter().filter_map(Exchange::learnt).collect();
        prop_assert_eq!(learnt(&output), expected);
        prop_assert_eq!(node.told(), [""; 0]);
    }

    /// Neighbours may be swapped.
    #[test]
    fn segments_may_come_in_another_order(
        exchanges in vec(exchange(), 1..6),
        lengths in vec(1usize..200, 1..8),
        swaps in vec(any::<bool>(), 8),
    ) {
        let (questions, answers) = streams(&exchanges);
        let mut node = Node::new();
        node.piece(1, Sent, &questions);
        let mut all: Vec<_> = pieces(&answers, &lengths)
            .map(|piece| (node.missed(1, Received, piece.len() as u64), piece))
            .collect();
        // What a stream begins with is not known to be missing.
        if let Some((_, rest)) = all.split_first_mut() {
            for (pair, _) in rest.chunks_exact_mut(2).zip(swaps.iter().cycle()).filter(|(_, swap)| **swap) {
                pair.swap(0, 1);
            }
        }
        for (position, piece) in all {
            node.segment(Transport::Stream, 1, Received, position, piece, piece.len());
        }
        prop_assert_eq!(requests(&node.take()), exchanges.len() as u64);
        prop_assert_eq!(node.told(), [""; 0]);
    }

    /// Whatever is lost or cut: nothing is made up, and something is said about it.
    #[test]
    fn holes_make_up_nothing(
        exchanges in vec(exchange(), 1..6),
        lengths in vec(1usize..200, 1..8),
        taken in vec(prop_oneof![4 => Just(usize::MAX), 1 => Just(0), 1 => 0usize..100], 1..8),
        lost in vec(prop::bool::weighted(0.2), 1..8),
    ) {
        let (questions, answers) = streams(&exchanges);
        let mut node = Node::new();
        node.piece(1, Sent, &questions);
        let mut whole = true;
        let mut how = taken.iter().cycle().zip(lost.iter().cycle());
        for piece in pieces(&answers, &lengths) {
            let (taken, lost) = how.next().unwrap();
            whole &= !lost && *taken >= piece.len();
            if *lost {
                node.missed(1, Received, piece.len() as u64);
            } else {
                node.cut_piece(1, Received, piece, piece.len().min(*taken));
            }
        }
        let truth: Vec<_> = exchanges.iter().filter_map(Exchange::learnt).collect();
        let mut counted = 0;
        let mut unanswered = 0;
        for _ in 0..4 {
            let output = node.wait(200 * SECOND).take();
            counted += requests(&output);
            unanswered += output.unanswered.iter().map(|of| of.count).sum::<u64>();
            for request in &output.requests {
                prop_assert!(exchanges.iter().any(|of| of.kind == request.question_type));
            }
            for (name, addresses) in learnt(&output) {
                let right = |(of, all): &(Vec<u8>, Vec<IpAddr>)| *of == name && addresses.iter().all(|ip| all.contains(ip));
                prop_assert!(truth.iter().any(right));
            }
        }
        prop_assert_eq!(counted + unanswered, exchanges.len() as u64);
        prop_assert!(!whole || unanswered == 0);
    }
}
