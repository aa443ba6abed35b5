//! The same words in other pieces.
use super::*;

/// Both sides, with one of everything.
fn talk() -> (Vec<u8>, Vec<u8>, &'static str) {
    let turns = [
        ("get a b|", "VALUE a 0 6|he|lo|VALUE b 0 0||END|"),
        ("set a 0 0 4|a|b|", "STORED|"),
        ("incr n 5|", "42|"),
        ("stats|", "STAT pid 1|END|"),
        ("nonsense|", "ERROR|"),
        ("mg a v|", "VA 2 f|hi|"),
        ("ms a 2 q|hi|mn|", "MN|"),
    ];
    let mut client: Vec<_> = turns.iter().flat_map(|(asked, _)| lines(asked)).collect();
    let mut server: Vec<_> = turns.iter().flat_map(|(_, said)| lines(said)).collect();
    client.extend([message(0x80, 0x0d, 0, 1, "a", ""), message(0x80, 0x01, 0, 2, "a", "b")].concat());
    server.extend(message(0x81, 0x01, 0x82, 2, "", "no"));
    (client, server, "++++-++-")
}

#[track_caller]
fn is_told(line: &mut Line) {
    assert!(!line.memcached.expects_reply());
    line.end();
    assert_eq!(
        (line.statuses().as_str(), line.unparsed()),
        (talk().2, vec![(UnparsedReason::Unsupported, 2)])
    );
}

#[test]
fn cut_in_two_anywhere() {
    let (client, server, _) = talk();
    for at in 0..=client.len() {
        is_told(Line::new().client(&client[..at]).client(&client[at..]).server(&server));
    }
    for at in 0..=server.len() {
        is_told(Line::new().client(&client).server(&server[..at]).server(&server[at..]));
    }
}

#[test]
fn byte_by_byte_and_all_at_once() {
    let (client, server, statuses) = talk();
    let mut line = Line::new();
    for byte in &client {
        line.client([*byte]);
    }
    for byte in &server {
        line.server([*byte]);
    }
    is_told(&mut line);
    let mut line = Line::new();
    line.client(client.repeat(300)).server(server.repeat(300)).end();
    assert!(line.statuses() == statuses.repeat(300));
}

#[test]
fn cut_off() {
    let (client, server, statuses) = talk();
    for at in 0..=client.len() {
        let mut line = Line::new();
        line.client(&client[..at]).server(&server).end();
        assert!(line.heard.exchanges.len() <= statuses.len());
        line.heard.unparsed.remove(&UnparsedReason::Unsupported);
        assert!(
            line.heard
                .unparsed
                .keys()
                .all(|reason| *reason == UnparsedReason::Unasked),
            "{at}"
        );
    }
    for at in 0..=server.len() {
        let mut line = Line::new();
        line.client(&client).server(&server[..at]).end();
        let unanswered = line.heard.unparsed.remove(&UnparsedReason::Unanswered).unwrap_or(0);
        assert_eq!(line.heard.exchanges.len() as u64 + unanswered, statuses.len() as u64);
        assert_eq!(line.unparsed(), [(UnparsedReason::Unsupported, 2)]);
        assert!(statuses.starts_with(&line.statuses()));
    }
}
