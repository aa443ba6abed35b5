//! What nobody sees, and what is made of the rest.
use super::*;

fn post(len: usize) -> String {
    format!("POST /p HTTP/1.1\r\nContent-Length: {len}\r\n\r\n")
}

#[test]
fn within_a_body_of_known_length() {
    let mut talk = Talk::new();
    talk.client(post(1_000_000) + "x").miss(Client, 999_998).client("y");
    talk.server("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        .miss(Server, 5000);
    talk.client(post(10)).miss(Client, 3).miss(Client, 7).server(reply(201));
    talk.client([&post(1), "x", &get("/a")].concat())
        .server([reply(202), reply(203)].concat());
    assert_eq!(talk.end(), ["POST /p 200", "POST /p 201", "POST /p 202", "GET /a 203"]);
}

#[test]
fn within_a_chunk() {
    let head = "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (seen, missing, rest) in [
        ("400\r\nabc", 1021, "\r\n0\r\n\r\n"),
        ("400\r\n", 1000, &*("x".repeat(24) + "\r\n0\r\n\r\n")),
        ("400\r\n", 1025, "\n0\r\n\r\n"),
        ("400\r\n", 1026, "0\r\n\r\n"),
        ("1\r\na", 1, "\n0\r\n\r\n"),
        ("1\r\na", 2, "0\r\n\r\n"),
        ("1\r\na\r", 1, "1\r\nb\r\n0\r\n\r\n"),
        ("3;\r\n", 5, "1\r\nb\r\n0\r\n\r\n"),
        ("3\n", 4, "1\nb\n0\n\n"),
        ("3;x\n", 3, "\n0\n\n"),
    ] {
        let mut talk = Talk::new();
        talk.client([head, seen].concat())
            .miss(Client, missing)
            .say(Client, rest, false);
        talk.say(Client, get("/a"), false)
            .server([reply(200), reply(201)].concat());
        assert_eq!(talk.end(), ["PUT /c 200", "GET /a 201"], "{seen:?}");
        let mut talk = Talk::new();
        talk.client(get("/a").repeat(2));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        talk.server([head, seen].concat()).miss(Server, missing);
        talk.say(Server, [rest, &reply(201)].concat(), false);
        assert_eq!(talk.end(), ["GET /a 200", "GET /a 201"], "{seen:?}");
    }
}

/// Who waits for the reply has nothing else to say.
#[test]
fn the_rest_of_what_is_answered_or_waits() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n";
    let close = "HTTP/1.0 200 OK\r\n\r\n";
    for cut in [chunked, close, "HTTP/1.1 200 OK\r\nSet-Coo", "HTTP/1.1 200 O"] {
        let mut talk = Talk::new();
        talk.client(get("/a")).server(cut).miss(Server, 5000).miss(Server, 10);
        talk.client(get("/b")).server(reply(201));
        assert_eq!(talk.end(), ["GET /a 200", "GET /b 201"], "{cut}");
    }
    for cut in [
        "GET /a HTTP/1.1\r\nCookie: ",
        "GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1",
        "GET /a HTT",
    ] {
        let mut talk = Talk::new();
        talk.client(cut).miss(Client, 5000).miss(Client, 10).server(reply(200));
        talk.client(get("/b")).server(reply(201));
        assert_eq!(talk.end(), ["GET /a 200", "GET /b 201"], "{cut}");
    }
}

#[test]
fn requests_are_lost() {
    let mut talk = Talk::new();
    talk.client(get("/a")).server(reply(200));
    talk.miss(Client, 100).server(reply(201));
    talk.client(get("/c")).server(reply(202));
    assert_eq!(talk.end(), ["GET /a 200", "GET /c 202", "1 unasked", "1 gap"]);
}

#[test]
fn replies_are_lost() {
    let mut talk = Talk::new();
    talk.client(get("/a")).miss(Server, 100);
    assert!(!talk.http.expects_reply());
    talk.client(get("/b"));
    assert!(talk.http.expects_reply());
    talk.server(reply(201)).client(get("/c")).server(reply(202));
    // The hole, and the request whose reply it took.
    assert_eq!(talk.end(), ["GET /b 201", "GET /c 202", "2 gap"]);
    // It took something else: an interim reply.
    let mut talk = Talk::new();
    talk.client(get("/a")).miss(Server, 25).server(reply(200));
    talk.client(get("/b")).server(reply(201));
    assert_eq!(talk.end(), ["GET /a 200", "GET /b 201", "1 gap"]);
}

#[test]
fn both_sides_are_lost_for_a_while() {
    let mut talk = Talk::new();
    talk.client(get("/a")).server(reply(200)).client(get("/b"));
    talk.miss(Server, 500).miss(Client, 500).miss(Server, 500);
    for n in 0..3 {
        talk.client(get("/c")).server(reply(300 + n));
    }
    let told = talk.end();
    assert_eq!(told[..4], ["GET /a 200", "GET /c 300", "GET /c 301", "GET /c 302"]);
    assert_eq!(talk.told.exchanges.len(), 4);
}

/// After a hole in the middle of a segment.
#[test]
fn the_next_message_begins_a_segment() {
    let mut talk = Talk::new();
    talk.client(get("/a")).server(reply(200));
    talk.miss(Client, 10)
        .say(Client, get("/hidden"), false)
        .client("GET the rest\r\n");
    talk.client("GE").client(get("/b")).server(reply(201));
    assert_eq!(talk.end(), ["GET /a 200", "GET /b 201", "1 gap"]);
    let mut talk = Talk::new();
    talk.client(get("/a"))
        .server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        .miss(Server, 6);
    talk.client(get("/b"))
        .say(Server, reply(500), false)
        .server("HTTP/2")
        .server("HTTP/1.1 2")
        .say(Server, "01 OK\r\n", false);
    talk.server("Content-Length: 0\r\n\r\n");
    talk.client(get("/c")).server(reply(202));
    assert_eq!(talk.end(), ["GET /a 200", "GET /b 201", "GET /c 202", "1 gap"]);
}

#[test]
fn requests_of_one_segment() {
    let mut talk = Talk::new();
    let batch = |n: usize| (0..4).map(|at| get(&format!("/{}", n * 4 + at))).collect::<String>();
    talk.client(batch(0)).server(reply(200).repeat(4));
    talk.client(batch(1))
        .server(reply(201))
        .miss(Server, 2 * reply(202).len() as u64)
        .server(reply(203));
    talk.client(batch(2)).server(reply(206).repeat(4));
    let told = talk.end();
    assert_eq!(
        told[..5],
        ["GET /0 200", "GET /1 200", "GET /2 200", "GET /3 200", "GET /4 201"]
    );
    // For one of three.
    assert_eq!(told[5], "GET /5 203");
    assert_eq!(
        told[6..],
        ["GET /8 206", "GET /9 206", "GET /10 206", "GET /11 206", "3 gap"]
    );
}

#[test]
fn requests_that_are_always_on_their_way() {
    let mut talk = Talk::new();
    let depth = 5;
    let (mut asked, mut told) = (0, Vec::new());
    for replied in 0..150 {
        while asked < replied + depth {
            talk.client(get(&format!("/{asked}")));
            asked += 1;
        }
        // Three in a row, once.
        if (40..43).contains(&replied) {
            talk.miss(Server, reply(200).len() as u64);
        } else {
            talk.server(reply(400 + replied));
            told.push(format!("GET /{replied} {}", 400 + replied));
        }
    }
    let heard = talk.lines();
    assert_eq!(heard[..147], told);
    // Three holes, and what they took.
    assert_eq!(heard[147..], ["6 gap"]);
}

#[test]
fn a_head_request_amid_lost_ones() {
    let mut talk = Talk::new();
    talk.client(get("/a")).server(reply(200)).miss(Client, 20);
    talk.client("HEAD /b HTTP/1.1\r\n\r\n")
        .server([reply(200), "HTTP/1.1 201 OK\r\nContent-Length: 9\r\n\r\n".into()].concat());
    for n in 0..3 {
        talk.client(get("/c")).server(reply(300 + n));
    }
    assert!(!talk.is_over());
    let told = talk.end();
    assert!(told.ends_with(&["GET /c 302".into(), "1 gap".into()]), "{told:?}");
}

#[test]
fn first_words_from_the_middle() {
    // A reply.
    let mut talk = Talk::new();
    talk.server("the rest of a body").server("\r\n0\r\n\r\n");
    talk.client(get("/a")).server(reply(200));
    assert_eq!(talk.end(), ["GET /a 200"]);
    // That is heard of late.
    let mut talk = Talk::new();
    talk.client(get("/a")).server("the rest of a body").server(reply(200));
    talk.client(get("/b")).server(reply(201));
    assert_eq!(talk.end(), ["GET /a 200", "GET /b 201"]);
    // A request, of which nothing but its reply is known.
    let mut talk = Talk::new();
    talk.client("the rest of a body").client("and more").server(reply(200));
    talk.client(get("/a")).server(reply(201));
    assert_eq!(talk.end(), ["GET /a 201", "1 unasked"]);
    let mut talk = Talk::new();
    talk.server(reply(200)).client(get("/a")).server(reply(201));
    assert_eq!(talk.end(), ["GET /a 201", "1 unasked"]);
    // It was for a HEAD.
    let mut talk = Talk::new();
    talk.server("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n");
    talk.client(get("/a"))
        .server(reply(201))
        .client(get("/b"))
        .server(reply(202));
    assert_eq!(talk.end(), ["GET /a 201", "GET /b 202", "1 unasked"]);
}

#[test]
fn a_head_from_the_kernel() {
    let head = Handover {
        pending: 1,
        head: true,
        ..Handover::default()
    };
    let mut talk = Talk::after(head);
    talk.server("HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n")
        .client(get("/b"))
        .server(reply(201));
    assert_eq!(talk.end(), ["200", "GET /b 201"]);
    // Of any other one it comes, whatever it looks like.
    let body = reply(202);
    let mut talk = Talk::after(Handover { head: false, ..head });
    talk.server(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))
        .server(body)
        .client(get("/b"))
        .server(reply(201));
    assert_eq!(talk.end(), ["200", "GET /b 201"]);
}

#[test]
fn from_the_kernel() {
    // A second request on top of the first.
    let of = |pending, rest| Handover {
        pending,
        asked_ns: 50,
        rest,
        ..Handover::default()
    };
    let mut talk = Talk::after(of(1, 0));
    assert!(talk.http.expects_reply());
    talk.client(get("/b")).server([reply(200), reply(201)].concat());
    assert_eq!(
        (talk.told.exchanges[0].asked_ns, talk.told.exchanges[0].replied_ns),
        (50, 102)
    );
    assert_eq!(talk.end(), ["200", "GET /b 201"]);
    // Within a body, with an interim reply.
    let mut talk = Talk::after(of(1, 10));
    talk.server("HTTP/1.1 100 Continue\r\n\r\n")
        .client("0123")
        .miss(Client, 6)
        .server(reply(200));
    talk.client(get("/b")).server(reply(201));
    assert_eq!(talk.end(), ["200", "GET /b 201"]);
    // Nothing is pending; the server is within a body.
    let mut talk = Talk::after(of(0, 0));
    assert!(!talk.http.expects_reply());
    talk.server("rest of a body")
        .client([get("/a"), get("/b")].concat())
        .server([reply(200), reply(201)].concat());
    assert_eq!(talk.end(), ["GET /a 200", "GET /b 201"]);
    // The rest of a body that looks like a reply.
    let unasked = Handover {
        unasked: true,
        ..of(0, 0)
    };
    let mut talk = Talk::after(unasked);
    talk.server(reply(500))
        .client(get("/a"))
        .server(reply(200))
        .server(reply(201));
    assert_eq!(talk.end(), ["GET /a 200", "1 unasked"]);
    // Another protocol.
    let mut talk = Talk::after(of(1, 0));
    talk.client("\x16\x03\x01");
    assert!(talk.is_over());
    assert_eq!(talk.lines(), ["1 malformed", "1 unanswered"]);
    assert_eq!(Talk::after(of(3, 0)).end(), ["3 unanswered"]);
}

#[test]
fn whatever_the_size() {
    for bytes in [0, 1, u64::MAX] {
        for words in [
            "",
            "G",
            "GET / H",
            "GET / HTTP/1.1\r\nA",
            &post(5),
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let mut talk = Talk::new();
            talk.client(words)
                .miss(Client, bytes)
                .miss(Client, bytes)
                .miss(Server, bytes);
            talk.server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
                .miss(Server, bytes)
                .miss(Server, bytes);
            talk.end();
            assert!(talk.told.exchanges.len() <= 1);
        }
    }
}
