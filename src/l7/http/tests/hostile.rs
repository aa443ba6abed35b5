//! Whoever writes to a socket may write anything.
use super::*;
use crate::l7::http::{MAX_STRANGE, MAX_UNANSWERED};
use proptest::{collection::vec, prelude::*};

const KEPT: usize = 2 * (2 * MAX_HEAD);

#[test]
fn heads_that_do_not_end() {
    let endless = |side, begin: &str| {
        let mut talk = Talk::new();
        if side == Server {
            talk.client(get("/"));
        }
        talk.say(side, begin, true);
        let mut said = begin.len();
        while !talk.is_over() {
            talk.say(side, "x", false);
            assert!(talk.http.buffered() <= KEPT);
            said += 1;
        }
        (said, talk.lines())
    };
    for begin in ["GET /", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nCookie: "] {
        assert_eq!(endless(Client, begin), (MAX_HEAD + 1, vec!["1 malformed".to_owned()]));
    }
    let (said, told) = endless(Server, "HTTP/1.1 200 OK\r\nSet-Cookie: ");
    assert_eq!(
        (said, told),
        (MAX_HEAD + 1, vec!["GET / 200".to_owned(), "1 malformed".to_owned()])
    );
    let (said, told) = endless(Server, "HTTP/1.1 200 ");
    assert_eq!(
        (said, told),
        (MAX_HEAD + 1, vec!["1 malformed".to_owned(), "1 unanswered".to_owned()])
    );
    // Of lines that are short.
    let mut talk = Talk::new();
    talk.client(["GET / HTTP/1.1\r\n", &"A: b\r\n".repeat(MAX_HEAD / 6), "\r\n"].concat());
    assert_eq!(talk.lines(), ["1 malformed"]);
    let mut talk = Talk::new();
    talk.client(["GET / HTTP/1.1\r\n", &"A: b\r\n".repeat(MAX_HEAD / 6 - 4), "\r\n"].concat())
        .server(reply(200));
    assert_eq!(talk.lines(), ["GET / 200"]);
}

#[test]
fn nothing_else_is_kept() {
    let mut talk = Talk::new();
    talk.told.watches = false;
    talk.client("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;");
    for _ in 0..1000 {
        talk.client([b'x'; 1000]);
        assert_eq!(talk.http.buffered(), 0);
    }
    talk.client("\r\na\r\n0\r\n");
    for _ in 0..1000 {
        talk.client([b'x'; 1000]);
        assert_eq!(talk.http.buffered(), 0);
    }
    talk.client("\r\n\r\n").client([b'\n'; 100_000]).client(get("/"));
    talk.server("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        .server([0; 100_000]);
    assert_eq!(talk.http.buffered(), 0);
    assert_eq!(talk.end(), ["200", "1 unanswered"]);
}

#[test]
fn requests_without_end() {
    let mut talk = Talk::new();
    for _ in 0..MAX_UNANSWERED {
        talk.client(get("/"));
    }
    assert!(!talk.is_over());
    talk.client(get("/"));
    assert!(talk.is_over());
    assert_eq!(talk.lines(), ["4097 crowded"]);
    assert_eq!(talk.http.buffered(), 0);
    // Those of a segment are one.
    let mut talk = Talk::new();
    talk.client(get("/").repeat(10_000)).server(reply(200).repeat(10_000));
    assert_eq!(talk.end().len(), 10_000);
}

#[test]
fn words_without_a_message() {
    for side in [Client, Server] {
        let mut talk = Talk::new();
        for _ in 0..MAX_STRANGE {
            talk.say(side, "words", true);
        }
        assert!(!talk.is_over());
        talk.say(side, "words", true);
        assert!(talk.is_over());
        assert_eq!(talk.lines(), ["1 malformed"]);
    }
}

#[test]
fn nonsense_where_a_message_should_begin() {
    let mut talk = Talk::new();
    talk.client(get("/a")).server(reply(200)).client("what is this\r\n");
    assert!(talk.is_over());
    assert_eq!(talk.end(), ["GET /a 200", "1 malformed"]);
    let mut talk = Talk::new();
    talk.client(get("/a").repeat(3)).server(reply(200) + "?");
    assert!(talk.is_over());
    assert_eq!(talk.end(), ["GET /a 200", "1 malformed", "2 unanswered"]);
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: &[&str] = &[
        "GET ",
        "HEAD ",
        "CONNECT ",
        "/",
        "*",
        " HTTP/1.1",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "HTTP/1.1 ",
        "200",
        "100",
        "101",
        " ",
        "Content-Length: ",
        "5",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Upgrade: x",
        "0",
        "abcde",
        "a:b",
        "GET /a HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 No\r\n\r\n",
    ];
    let word = prop_oneof![
        9 => prop::sample::select(KNOWN).prop_map(|word: &str| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(word, 0..12).prop_map(|words| words.concat())
}

#[derive(Clone, Debug)]
enum Step {
    Say(Side, Vec<u8>, bool),
    Miss(Side, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let side = || prop_oneof![Just(Client), Just(Server)];
    prop_oneof![
        5 => (side(), words(), any::<bool>()).prop_map(|(side, words, starts)| Step::Say(side, words, starts)),
        1 => (side(), prop_oneof![0u64..10, any::<u64>()]).prop_map(|(side, bytes)| Step::Miss(side, bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// It is bounded, and nothing is told that nobody has asked.
    #[test]
    fn anything_goes(steps in vec(step(), 0..40), pending in 0u32..3, rest in 0u64..20, head: bool) {
        let mut talk = Talk::new();
        let handed_over = pending > 0;
        if handed_over {
            talk.http.take_over(Handover { pending, asked_ns: 0, rest, head, unasked: !head });
        }
        let mut requests = u64::from(if handed_over { pending } else { 0 });
        for step in steps {
            match step {
                Step::Say(side, words, starts) => {
                    if side == Client {
                        // As many at most.
                        requests += words.iter().filter(|byte| **byte == b' ').count() as u64;
                    }
                    talk.say(side, words, starts);
                }
                Step::Miss(side, bytes) => {
                    talk.miss(side, bytes);
                }
            }
            prop_assert!(talk.http.buffered() <= KEPT);
        }
        talk.end();
        let unanswered = talk.told.unparsed.get(&UnparsedReason::Unanswered).copied().unwrap_or_default();
        prop_assert!(talk.told.exchanges.len() as u64 + unanswered <= requests);
    }
}
