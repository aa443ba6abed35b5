//! A server as it should be: what it says to each command, and which of its words are replies.
use super::*;
use proptest::{collection::vec, prelude::*};
use std::fmt;

/// One thing that is said after another. A reply is never said before its command.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) asked: Vec<u8>,
    /// What is said after it and is no reply; the reply; what else belongs to it.
    pub(super) before: Vec<u8>,
    pub(super) reply: Vec<u8>,
    pub(super) after: Vec<u8>,
    /// `None`: it has no reply.
    pub(super) status: Option<Status>,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.asked, &self.before, &self.reply, &self.after];
        write!(
            f,
            "{:?} {:?}",
            parts.map(|part| part.escape_ascii().to_string()),
            self.status
        )
    }
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..20),
        1 => vec(any::<u8>(), 95..120),
        1 => vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'*'), Just(b'$'), Just(b'+'), Just(b'1')], 0..20),
    ]
}

fn asked() -> impl Strategy<Value = Vec<u8>> {
    let name = "(GET|set|MGET|Lrange|EXEC|x|CLIENT|CONFIG|EXTREMELYLONGCOMMANDNAMEOFMORETHAN32BYTES)";
    let inline = "(GET|SET|PING)( [a-z0-9\"]{0,20})? *\r?\n";
    prop_oneof![
        6 => (name, vec(word(), 0..5)).prop_map(|(name, mut words)| {
            words.insert(0, name.into_bytes());
            command(&words)
        }),
        1 => inline.prop_map(String::into_bytes),
    ]
}

fn scalar() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "\\+[ -~\r]{0,30}[ -~]\r\n".prop_map(String::into_bytes),
        "-[A-Z]{1,20} [ -~]{0,30}\r\n".prop_map(String::into_bytes),
        any::<i64>().prop_map(|n| format!(":{n}\r\n").into_bytes()),
        any::<f64>().prop_map(|n| format!(",{n}\r\n").into_bytes()),
        "\\(-?[0-9]{1,60}\r\n".prop_map(String::into_bytes),
        any::<bool>().prop_map(|is| if is { b"#t\r\n" } else { b"#f\r\n" }.to_vec()),
        Just(b"_\r\n".to_vec()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        word().prop_map(|word| bulk(&word)),
        word().prop_map(|word| [&b"!"[..], &bulk(&word)[1..]].concat()),
        word().prop_map(|word| [&b"="[..], &bulk(&word)[1..]].concat()),
    ]
}

fn aggregate(kind: char, values: &[Vec<u8>]) -> Vec<u8> {
    let whole = if matches!(kind, '%' | '|') {
        values.len() / 2
    } else {
        values.len()
    };
    let taken = if matches!(kind, '%' | '|') { whole * 2 } else { whole };
    [format!("{kind}{whole}\r\n").into_bytes(), values[..taken].concat()].concat()
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    scalar().prop_recursive(6, 40, 6, |inner| {
        let attribute = prop_oneof![4 => Just(None), 1 => vec(inner.clone(), 0..4).prop_map(Some)];
        (
            prop::sample::select(vec!['*', '%', '~', '>']),
            vec((attribute, inner), 0..6),
        )
            .prop_map(|(kind, values)| {
                let with = |(attribute, value): (Option<Vec<_>>, Vec<u8>)| {
                    let attribute = attribute.map(|of| aggregate('|', &of)).unwrap_or_default();
                    [attribute, value].concat()
                };
                aggregate(kind, &values.into_iter().map(with).collect::<Vec<_>>())
            })
    })
}

/// Pushes and attributes.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec!['>', '|']);
    let noise = (kinds, vec(value(), 0..5)).prop_map(|(kind, values)| aggregate(kind, &values));
    prop_oneof![3 => Just(Vec::new()), 1 => vec(noise, 1..3).prop_map(|noise| noise.concat())]
}

pub(super) fn turn() -> impl Strategy<Value = Turn> {
    let reply = value().prop_map(|mut value| {
        // A push is none.
        if value[0] == b'>' {
            value[0] = b'*';
        }
        value
    });
    (asked(), noise(), reply).prop_map(|(asked, before, reply)| Turn {
        status: Some(if matches!(reply[0], b'-' | b'!') {
            Status::Failed
        } else {
            Status::Ok
        }),
        asked,
        before,
        reply,
        after: Vec::new(),
    })
}

/// Of commands that change how others are answered.
#[derive(Clone, Debug)]
enum Op {
    Get,
    Ping,
    Reset,
    Voice(&'static str),
    /// Topic, channels.
    Join(usize, Vec<u8>),
    Leave(usize, Vec<u8>),
    /// Somebody publishes.
    News(usize, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let channels = |least| vec(b'a'..b'f', least..4);
    prop_oneof![
        3 => Just(Op::Get),
        3 => Just(Op::Ping),
        1 => Just(Op::Reset),
        2 => prop::sample::select(vec!["ON", "OFF", "SKIP"]).prop_map(Op::Voice),
        3 => (0..3usize, channels(1)).prop_map(|(topic, channels)| Op::Join(topic, channels)),
        4 => (0..3usize, channels(0)).prop_map(|(topic, channels)| Op::Leave(topic, channels)),
        3 => (0..3usize, b'a'..b'f').prop_map(|(topic, channel)| Op::News(topic, channel)),
    ]
}

#[derive(Default)]
struct Model {
    resp3: bool,
    /// Subscriptions are granted aloud even where all else is silent.
    insists: bool,
    /// Values look like news.
    feigns: bool,
    channels: [Vec<u8>; 3],
    /// One was asked for that should have no answer, and may have had one: whose the next is nobody can tell.
    blurred: bool,
    silent: bool,
    skips: bool,
}

impl Model {
    fn array(&self, parts: &[Vec<u8>]) -> Vec<u8> {
        aggregate(if self.resp3 { '>' } else { '*' }, parts)
    }

    fn count(&self, topic: usize) -> usize {
        let [channels, patterns, shards] = &self.channels;
        if topic == 2 {
            shards.len()
        } else {
            channels.len() + patterns.len()
        }
    }

    fn listens(&self) -> bool {
        !self.resp3 && self.count(0) + self.count(2) > 0
    }

    fn confirm(&self, verb: &str, topic: usize, channel: Option<u8>) -> Vec<u8> {
        let channel = channel.map_or_else(
            || if self.resp3 { b"_\r\n" } else { &b"$-1\r\n"[..] }.to_vec(),
            |c| bulk(&[c]),
        );
        let name = ["", "p", "s"][topic].to_owned() + verb;
        self.array(&[
            bulk(name.as_bytes()),
            channel,
            format!(":{}\r\n", self.count(topic)).into_bytes(),
        ])
    }

    /// Of what it says, piece by piece, the first is the reply.
    fn told(&mut self, op: &Op) -> (Vec<u8>, Vec<Vec<u8>>) {
        match op {
            Op::Get if self.listens() => (command(&["GET", "a"]), vec![b"-ERR not now\r\n".to_vec()]),
            Op::Get => {
                let name: &[u8] = if self.feigns { b"subscribe" } else { b"value" };
                let reply = aggregate('*', &[bulk(name), bulk(b"a"), b":1\r\n".to_vec()]);
                (command(&["GET", "a"]), vec![reply])
            }
            Op::Ping if self.listens() => (command(&["PING"]), vec![b"*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_vec()]),
            Op::Ping => (b"PING\r\n".to_vec(), vec![b"+PONG\r\n".to_vec()]),
            Op::Reset => {
                *self = Self {
                    insists: self.insists,
                    feigns: self.feigns,
                    ..Self::default()
                };
                (command(&["reset"]), vec![b"+RESET\r\n".to_vec()])
            }
            Op::Voice(word) => (command(&["CLIENT", "reply", word]), vec![b"+OK\r\n".to_vec()]),
            Op::Join(topic, channels) => {
                let mut said = Vec::new();
                for channel in channels {
                    if !self.channels[*topic].contains(channel) {
                        self.channels[*topic].push(*channel);
                    }
                    said.push(self.confirm("subscribe", *topic, Some(*channel)));
                }
                (self.of_topic("SUBSCRIBE", *topic, channels), said)
            }
            Op::Leave(topic, channels) => {
                let left = if channels.is_empty() {
                    self.channels[*topic].clone()
                } else {
                    channels.clone()
                };
                let mut said = Vec::new();
                for channel in &left {
                    self.channels[*topic].retain(|other| other != channel);
                    said.push(self.confirm("unsubscribe", *topic, Some(*channel)));
                }
                if left.is_empty() {
                    said.push(self.confirm("unsubscribe", *topic, None));
                }
                (self.of_topic("UNSUBSCRIBE", *topic, channels), said)
            }
            Op::News(topic, channel) => {
                let mut said = Vec::new();
                if self.channels[*topic].contains(channel) {
                    let name = ["message", "pmessage", "smessage"][*topic];
                    let mut parts = vec![bulk(name.as_bytes()), bulk(&[*channel]), bulk(b"subscribe")];
                    if *topic == 1 {
                        parts.push(bulk(b"text"));
                    }
                    said.push(self.array(&parts));
                }
                (Vec::new(), said)
            }
        }
    }

    fn of_topic(&self, verb: &str, topic: usize, channels: &[u8]) -> Vec<u8> {
        let mut words = vec![(["", "p", "S"][topic].to_owned() + verb).into_bytes()];
        words.extend(channels.iter().map(|channel| vec![*channel]));
        command(&words)
    }

    fn turn(&mut self, op: &Op) -> Turn {
        let op = match op {
            Op::Join(..) | Op::Leave(..) if self.blurred => &Op::Ping,
            op => op,
        };
        let (asked, said) = self.told(op);
        let mut turn = Turn {
            asked,
            before: Vec::new(),
            reply: Vec::new(),
            after: Vec::new(),
            status: None,
        };
        let (first, rest) = said
            .split_first()
            .map(|(first, rest)| (first.clone(), rest.concat()))
            .unwrap_or_default();
        if let Op::News(..) = op {
            turn.before = first;
            return turn;
        }
        let skipped = std::mem::take(&mut self.skips);
        match op {
            Op::Voice("ON") => self.silent = false,
            Op::Voice("OFF") => self.silent = true,
            Op::Voice(_) if !self.silent => self.skips = true,
            _ => {}
        }
        let is_heard =
            matches!(op, Op::Reset | Op::Voice("ON")) || !self.silent && !skipped && !matches!(op, Op::Voice(_));
        if is_heard {
            turn.status = Some(if first.starts_with(b"-") {
                Status::Failed
            } else {
                Status::Ok
            });
            turn.reply = first;
            turn.after = rest;
            self.blurred = false;
        } else if matches!(op, Op::Join(..) | Op::Leave(..)) {
            self.blurred = true;
            if self.insists {
                turn.before = first;
                turn.after = rest;
            }
        }
        turn
    }
}

pub(super) fn modes() -> impl Strategy<Value = Vec<Turn>> {
    (any::<[bool; 2]>(), vec(op(), 1..40)).prop_map(|([resp3, insists], ops)| {
        let mut model = Model {
            resp3,
            insists,
            // Where a subscription is not answered nobody knows.
            feigns: !ops.iter().any(|op| matches!(op, Op::Voice(_))),
            ..Model::default()
        };
        ops.iter().map(|op| model.turn(op)).collect()
    })
}
