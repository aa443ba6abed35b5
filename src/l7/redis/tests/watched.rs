//! What was asked, without what it was about.
use super::*;

#[track_caller]
fn shows(asked: &[u8], verb: &str, text: &str) {
    for cut in 0..=asked.len() {
        let mut line = Line::watched();
        line.client(&asked[..cut]).client(&asked[cut..]).server("+OK\r\n");
        let [exchange] = &line.heard.exchanges[..] else {
            panic!("{:?}", line.heard.exchanges);
        };
        let asked = exchange.asked.as_ref().expect("somebody watches");
        assert_eq!((&*asked.verb, &*asked.text), (verb, text));
    }
}

#[test]
fn arguments_are_not_shown() {
    shows(&command(&["get", "secret"]), "GET", "GET ?");
    shows(b"PING\r\n", "PING", "PING");
    shows(b"set 'a b' \"c ' d\"\r\n", "SET", "SET ? ?");
    shows(&command(&["AUTH", "bob", "secret"]), "AUTH", "AUTH ? ?");
    shows(
        &command(&["config", "set", "requirepass", "secret"]),
        "CONFIG SET",
        "CONFIG SET ? ?",
    );
    shows(
        &command(&["CLIENT", "NO-EVICT", "ON"]),
        "CLIENT NO-EVICT",
        "CLIENT NO-EVICT ?",
    );
    shows(&command(&["ACL", "s3cret", "x"]), "ACL", "ACL ? ?");
    shows(&command(&["COMMAND"]), "COMMAND", "COMMAND");
    shows(&command(&["FT.SEARCH", "a"]), "FT.SEARCH", "FT.SEARCH ?");
    shows(
        &command(&["MGET", "1", "2", "3", "4", "5", "6", "7", "8"]),
        "MGET",
        "MGET ? ? ? ? ? ? ? ?",
    );
    shows(
        &command(&["MGET", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        "MGET",
        "MGET ? ? ? ? ? ? ? ? ...",
    );
    shows(&command(&[&b"\xff\x00"[..], b"a"]), "?", "? ?");
    shows(&command(&["a name that has blanks", "a"]), "?", "? ?");
    shows(&command(&["x".repeat(33).as_str(), "a"]), "?", "? ?");
    shows(
        &command(&["x".repeat(32).as_str(), "a"]),
        &"X".repeat(32),
        &("X".repeat(32) + " ?"),
    );
}

#[test]
fn nobody_watches() {
    let mut line = Line::new();
    line.client(command(&["GET", "a"])).server("+OK\r\n");
    assert_eq!(line.heard.exchanges[0].asked, None);
}

#[test]
fn each_shows_its_own() {
    let mut line = Line::watched();
    line.client(
        [
            command(&["GET", "a"]),
            command(&["GET", "b"]),
            command(&["SET", "a", "b"]),
        ]
        .concat(),
    );
    line.server("+OK\r\n+OK\r\n+OK\r\n");
    let shown: Vec<_> = line
        .heard
        .exchanges
        .iter()
        .map(|of| &*of.asked.as_ref().unwrap().text)
        .collect();
    assert_eq!(shown, ["GET ?", "GET ?", "SET ? ?"]);
}
