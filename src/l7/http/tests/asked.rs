//! What is kept of a request where somebody watches.
use super::*;
use crate::l7::dialogue::Asked;

fn asked(target: &[u8]) -> String {
    let mut talk = Talk::new();
    talk.client([b"GET ", target, b" HTTP/1.1\r\n\r\n"].concat())
        .server(reply(200));
    let asked = talk.told.exchanges[0].asked.take().unwrap();
    assert_eq!(&*asked.verb, "GET");
    assert!(asked.text.len() <= Asked::MAX_TEXT);
    asked.text.into()
}

#[test]
fn without_what_is_secret() {
    assert_eq!(asked(b"/a/b?token=1&x=/c?d"), "/a/b?");
    assert_eq!(asked(b"/a/b?"), "/a/b?");
    assert_eq!(asked(b"/a/b"), "/a/b");
    assert_eq!(asked(b"/@x:y@z"), "/@x:y@z");
    assert_eq!(asked(b"http://me:secret@host/a?b"), "http://?@host/a?");
    assert_eq!(asked(b"http://host/a@b"), "http://host/a@b");
}

#[test]
fn whatever_the_bytes() {
    assert_eq!(asked(b"/a\x01\x7f\xff\xc3\xa9 b"), "/a\u{fffd}\u{fffd}\u{fffd}\u{e9} b");
    assert_eq!(asked(b"/\xc2\x85"), "/\u{fffd}");
}

#[test]
fn no_longer_than_agreed() {
    let path = |len| [b"/".as_slice(), &vec![b'a'; len - 1]].concat();
    let fits = path(Asked::MAX_TEXT);
    assert_eq!(asked(&fits).as_bytes(), fits);
    for longer in [path(Asked::MAX_TEXT + 1), path(50_000), [&fits[..], b"?x"].concat()] {
        let text = asked(&longer);
        assert_eq!(text.as_bytes(), [&fits[..Asked::MAX_TEXT - 3], b"..."].concat());
    }
    for bytes in [&b"\xff"[..], "é".as_bytes(), "\u{1f980}".as_bytes()] {
        let text = asked(&[b"/", &bytes.repeat(600)[..]].concat());
        assert!(text.ends_with("...") && text.len() > Asked::MAX_TEXT - 4, "{text}");
    }
    let mut talk = Talk::new();
    let cut = path(Asked::MAX_TEXT);
    talk.client([b"GET ", &cut[..]].concat())
        .miss(Client, 1)
        .server(reply(200));
    let text = &talk.told.exchanges[0].asked.as_ref().unwrap().text;
    assert!(text.ends_with("a...") && text.len() == Asked::MAX_TEXT);
}

#[test]
fn only_where_somebody_watches() {
    let mut talk = Talk::new();
    talk.told.watches = false;
    talk.client(get("/a")).server(reply(200));
    assert_eq!(talk.http.buffered(), 0);
    talk.told.watches = true;
    talk.client(get("/b").repeat(2));
    assert_eq!(talk.http.buffered(), 2 * "GET/b".len());
    talk.server(reply(201).repeat(2));
    assert_eq!(talk.http.buffered(), 0);
    assert_eq!(talk.end(), ["200", "GET /b 201", "GET /b 201"]);
}

#[test]
fn what_is_left_out_is_neither_told_nor_counted() {
    let mut talk = Talk::new();
    talk.told.left_out = "/health";
    talk.client([get("/health?x"), get("/a"), get("/healthz"), get("/b")].concat());
    talk.server([reply(500), reply(200), reply(501), reply(201)].concat());
    assert_eq!(talk.lines(), ["GET /a 200", "GET /b 201"]);
    talk.client([get("/health"), get("/a"), get("/health")].concat());
    assert_eq!(talk.end(), ["GET /a 200", "GET /b 201", "1 unanswered"]);
    let mut talk = Talk::new();
    talk.told.left_out = "/health";
    talk.client(get("/health"))
        .miss(Server, 100)
        .client(get("/a"))
        .server(reply(200));
    assert_eq!(talk.end(), ["GET /a 200", "1 gap"]);
}
