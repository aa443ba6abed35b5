//! The same words in other pieces.
use super::*;

/// Both sides, with one of everything.
fn talk() -> (Vec<u8>, Vec<u8>, &'static str) {
    let turns = [
        ("*2|$3|GET|$3|key|", "$6|he|lo|"),
        ("PING|", "+PONG|"),
        ("*3|$6|CLIENT|$7|SETNAME|$0||", "-ERR no|"),
        ("*0||*1|$8|SMEMBERS|", "@1|+a|*1|:1|~2|:1|*2|$-1|=7|txt:abc|"),
        (
            "*3|$9|subscribe|$1|a|$1|b|",
            "*3|$9|subscribe|$1|a|:1|*3|$9|subscribe|$1|b|:2|*3|$7|message|$1|a|$1|x|",
        ),
        ("*1|$4|PING|", "*2|$4|pong|$0||"),
        ("UNSUBSCRIBE|", "*3|$11|unsubscribe|$1|a|:1|*3|$11|unsubscribe|$1|b|:0|"),
        ("set k 'a b'|", ">3|$10|invalidate|_|:1|#t|"),
        ("*1|$4|TIME|", "%1|$1|a|>0|"),
        ("*1|$4|TIME|", "!3|ERR|"),
        (
            "*1|$7|MONITOR|",
            "+OK|+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"|",
        ),
        ("*1|$5|RESET|", "+RESET|"),
    ];
    let client = turns.iter().flat_map(|(asked, _)| lines(asked)).collect();
    let server = turns.iter().flat_map(|(_, said)| lines(said)).collect();
    (client, server, "++-++++++-++")
}

#[track_caller]
fn is_told(line: &mut Line) {
    assert!(!line.redis.expects_reply());
    line.end();
    assert_eq!((line.statuses().as_str(), line.unparsed()), (talk().2, vec![]));
}

#[test]
fn whole() {
    let (client, server, _) = talk();
    is_told(Line::new().client(client).server(server));
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
fn byte_by_byte() {
    let (client, server, _) = talk();
    for starts in [true, false] {
        let mut line = Line::new();
        line.client(&client[..1]);
        for byte in &client[1..] {
            line.piece(Client, [*byte], starts);
        }
        line.server(&server[..1]);
        for byte in &server[1..] {
            line.piece(Server, [*byte], starts);
        }
        is_told(&mut line);
    }
}

#[test]
fn cut_off() {
    let (client, server, statuses) = talk();
    let mut told = Vec::new();
    for at in 0..=client.len() {
        let mut line = Line::new();
        line.client(&client[..at]).server(&server).end();
        told.push(line.heard.exchanges.len());
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
        told.push(line.heard.exchanges.len());
        assert_eq!(line.heard.exchanges.len() as u64 + unanswered, statuses.len() as u64);
        assert_eq!((line.unparsed(), line.redis.is_over()), (vec![], false));
        assert!(statuses.starts_with(&line.statuses()));
    }
    let (by_client, by_server) = told.split_at(client.len() + 1);
    assert!(by_client.is_sorted() && by_server.is_sorted());
}

#[test]
fn many_at_once() {
    let (client, server, statuses) = talk();
    let mut line = Line::new();
    line.client(client.repeat(300)).server(server.repeat(300)).end();
    assert!(line.statuses() == statuses.repeat(300));
    assert_eq!(line.unparsed(), []);
    let mut line = Line::new();
    for _ in 0..20 {
        line.client(command(&["SET", "key:000000000001", "xxx"]).repeat(10_000));
        line.server(b"+OK\r\n".repeat(10_000));
    }
    assert_eq!(line.statuses(), "+".repeat(200_000));
    assert_eq!(line.times().last(), Some(&(39, 40)));
}
