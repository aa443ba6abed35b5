//! Random conversations, written by somebody who knows nothing of the parser.
use super::*;
use proptest::{collection::vec, prelude::*};

#[derive(Clone, Debug)]
enum Framing {
    None,
    Length,
    /// Of these sizes, over and over.
    Chunked(Vec<usize>),
}

#[derive(Clone, Debug)]
struct Message {
    framing: Framing,
    body: Vec<u8>,
    /// Of all line ends.
    bare: bool,
    fields: Vec<String>,
}

#[derive(Clone, Debug)]
struct Turn {
    method: &'static str,
    request: Message,
    interim: Vec<u16>,
    code: u16,
    reply: Message,
}

/// `sly`: some look like messages.
fn body(sly: bool) -> impl Strategy<Value = Vec<u8>> {
    let like = [get("/within"), reply(599), "0\r\n\r\n".repeat(3)];
    let like = prop::sample::select(like.map(String::into_bytes).to_vec());
    prop_oneof![
        1 => Just(Vec::new()),
        2 => vec(any::<u8>(), 0..300),
        u32::from(sly) * 2 => like,
    ]
}

fn message(sly: bool) -> impl Strategy<Value = Message> {
    let framing = prop_oneof![
        Just(Framing::None),
        Just(Framing::Length),
        vec(1usize..100, 1..5).prop_map(Framing::Chunked),
    ];
    let field = "[A-Z][a-z-]{0,10}: ?[ -~]{0,40}".prop_filter("framing is the writer's", |field| {
        let name = field.split(':').next().unwrap_or_default();
        !["Upgrade", "Expect", "Content-length", "Transfer-encoding"].contains(&name)
    });
    (framing, body(sly), prop::bool::weighted(0.2), vec(field, 0..4)).prop_map(|(framing, body, bare, fields)| {
        Message {
            framing,
            body,
            bare,
            fields,
        }
    })
}

fn turn(sly: bool) -> impl Strategy<Value = Turn> {
    let methods = &[
        "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND",
    ];
    let code = prop_oneof![200u16..=599, Just(204), Just(304)];
    let interim = prop_oneof![4 => Just(vec![]), 1 => vec(prop_oneof![Just(100), Just(102), Just(103)], 1..3)];
    (
        prop::sample::select(methods.as_slice()),
        message(sly),
        interim,
        code,
        message(sly),
    )
        .prop_map(|(method, request, interim, code, reply)| Turn {
            method,
            request,
            interim,
            code,
            reply,
        })
}

impl Message {
    /// `silent`: its body is not sent, though it is described.
    fn write(&self, first: &str, silent: bool) -> Vec<u8> {
        let mut head = vec![first.to_owned()];
        head.extend(self.fields.iter().cloned());
        let end = if self.bare { "\n" } else { "\r\n" };
        let mut body = Vec::new();
        match &self.framing {
            Framing::None => {}
            Framing::Length => {
                head.push(format!("content-Length: {}", self.body.len()));
                body.extend(&self.body);
            }
            Framing::Chunked(sizes) => {
                head.push("Transfer-encoding:chunked".into());
                let mut rest = self.body.as_slice();
                for size in sizes.iter().cycle() {
                    let (chunk, after) = rest.split_at(rest.len().min(*size));
                    rest = after;
                    body.extend(format!("{:X};ext=\"1\"{end}", chunk.len()).bytes());
                    if chunk.is_empty() {
                        break;
                    }
                    body.extend(chunk);
                    body.extend(end.bytes());
                }
                for field in &self.fields {
                    body.extend([field, end].concat().bytes());
                }
                body.extend(end.bytes());
            }
        }
        let mut all = (head.join(end) + end + end).into_bytes();
        all.extend(if silent { vec![] } else { body });
        all
    }
}

impl Turn {
    fn line(&self, n: usize) -> String {
        format!("{} /{n} {}", self.method, self.code)
    }

    fn request(&self, n: usize) -> Vec<u8> {
        self.request.write(&format!("{} /{n} HTTP/1.1", self.method), false)
    }

    fn reply(&self, last: bool) -> Vec<u8> {
        let mut all = Vec::new();
        for code in &self.interim {
            all.extend(format!("HTTP/1.1 {code} Wait\r\nA: b\r\n\r\n").bytes());
        }
        let silent = self.method == "HEAD" || matches!(self.code, 204 | 304);
        let mut reply = self.reply.clone();
        if matches!(reply.framing, Framing::None) && !last && !silent {
            reply.framing = Framing::Length;
        }
        all.extend(reply.write(&format!("HTTP/1.1 {} What", self.code), silent));
        if last && !silent && matches!(reply.framing, Framing::None) {
            all.extend(&reply.body);
        }
        all
    }
}

/// One side's messages, each after the other, and where each begins and ends.
fn joined(messages: impl Iterator<Item = Vec<u8>>) -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut all = Vec::new();
    let places = messages
        .map(|message| {
            let begin = all.len();
            all.extend(message);
            (begin, all.len())
        })
        .collect();
    (all, places)
}

/// With no more of any reply than what has been asked for allows.
fn talk_in_pieces(turns: &[Turn], lengths: &[usize], order: &[bool], starts: &[bool]) -> Talk {
    let (asked, requests) = joined(turns.iter().enumerate().map(|(n, turn)| turn.request(n)));
    let (said, replies) = joined(
        turns
            .iter()
            .enumerate()
            .map(|(n, turn)| turn.reply(n + 1 == turns.len())),
    );
    let mut talk = Talk::new();
    let (mut client, mut server) = (0, 0);
    let mut how = lengths
        .iter()
        .cycle()
        .zip(order.iter().cycle())
        .zip(starts.iter().cycle());
    while client < asked.len() || server < said.len() {
        let ((len, first), starts) = how.next().unwrap();
        let open = requests.iter().zip(&replies).find(|((_, end), _)| *end > client);
        let limit = open.map_or(said.len(), |(_, (begin, _))| *begin);
        if client < asked.len() && (*first || server == limit) {
            let end = asked.len().min(client + len);
            talk.say(Client, &asked[client..end], *starts || client == 0);
            client = end;
        } else {
            let end = limit.min(server + len);
            talk.say(Server, &said[server..end], *starts || server == 0);
            server = end;
        }
    }
    talk
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    None,
    All,
    /// But so many bytes.
    Tail(usize),
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![3 => Just(Loss::None), 1 => Just(Loss::All), 1 => (0usize..60).prop_map(Loss::Tail)]
}

/// In segments of their own, some of which are lost.
fn say_in_segments(talk: &mut Talk, side: Side, bytes: &[u8], len: usize, losses: &mut impl Iterator<Item = Loss>) {
    for segment in bytes.chunks(len) {
        let seen = match losses.next().unwrap() {
            Loss::None => segment.len(),
            Loss::All => 0,
            Loss::Tail(seen) => segment.len().min(seen),
        };
        if seen > 0 {
            talk.say(side, &segment[..seen], true);
        }
        talk.miss(side, (segment.len() - seen) as u64);
    }
}

/// Then comes one after the other, and nothing is lost any more.
fn is_right_again(talk: &mut Talk, allowed: usize) -> Result<(), TestCaseError> {
    let before = talk.told.exchanges.len();
    let count = 40;
    for n in 0..count {
        talk.client(get(&format!("/right/{n}"))).server(reply(400 + n));
    }
    prop_assert!(!talk.is_over());
    let expected: Vec<_> = (allowed as u16..count)
        .map(|n| format!("GET /right/{n} {}", 400 + n))
        .collect();
    let told: Vec<_> = talk.told.exchanges[before..].iter().map(line).collect();
    prop_assert!(told.ends_with(&expected), "{told:?}");
    prop_assert!(told.len() <= usize::from(count));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn what_was_written_is_read(
        turns in vec(turn(true), 1..8),
        lengths in vec(prop_oneof![1usize..10, 1usize..2000], 1..8),
        order in vec(any::<bool>(), 1..8),
        starts in vec(any::<bool>(), 1..8),
    ) {
        let mut talk = talk_in_pieces(&turns, &lengths, &order, &starts);
        let expected: Vec<_> = turns.iter().enumerate().map(|(n, turn)| turn.line(n)).collect();
        prop_assert!(talk.told.exchanges.iter().all(|told| told.asked_ns < told.replied_ns));
        prop_assert!(!talk.is_over());
        prop_assert_eq!(talk.http.buffered(), 0);
        prop_assert_eq!(talk.end(), expected);
    }

    #[test]
    fn holes_make_up_nothing(
        turns in vec(turn(false), 1..8),
        losses in vec(loss(), 1..20),
        len in 1usize..400,
    ) {
        let mut talk = Talk::new();
        let mut losses = losses.into_iter().cycle();
        for (n, turn) in turns.iter().enumerate() {
            say_in_segments(&mut talk, Client, &turn.request(n), len, &mut losses);
            say_in_segments(&mut talk, Server, &turn.reply(false), len, &mut losses);
            prop_assert!(talk.told.exchanges.len() <= n + 1);
        }
        // Any of which may be a reply's to what nobody has seen the end of.
        is_right_again(&mut talk, 1)?;
        let replied = talk.told.exchanges.len() as u64;
        talk.end();
        let unasked = talk.told.unparsed.get(&UnparsedReason::Unasked).copied().unwrap_or_default();
        prop_assert!(replied + unasked <= turns.len() as u64 + 40);
    }

    /// The same where requests are sent ahead.
    #[test]
    fn doubt_has_an_end(
        batches in vec(vec(turn(false), 1..5), 1..6),
        losses in vec(loss(), 1..20),
        len in 1usize..400,
    ) {
        let mut talk = Talk::new();
        let mut losses = losses.into_iter().cycle();
        for batch in &batches {
            let (asked, _) = joined(batch.iter().enumerate().map(|(n, turn)| turn.request(n)));
            let (said, _) = joined(batch.iter().map(|turn| turn.reply(false)));
            say_in_segments(&mut talk, Client, &asked, len, &mut losses);
            say_in_segments(&mut talk, Server, &said, len, &mut losses);
        }
        let requests: usize = batches.iter().map(Vec::len).sum();
        prop_assert!(talk.told.exchanges.len() <= requests);
        is_right_again(&mut talk, 20)?;
    }
}
