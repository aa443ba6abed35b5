//! Where a message ends.
use super::*;

fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\n{fields}\r\n\r\n{body}")
}

/// A request behind it is found.
fn told_of_request(request: &str) -> Vec<String> {
    let mut talk = Talk::new();
    talk.client([request, &get("/next")].concat());
    talk.server([reply(200), reply(201)].concat()).end()
}

fn told_of_reply(method: &str, first: &str) -> Vec<String> {
    let mut talk = Talk::new();
    talk.client(format!("{method} / HTTP/1.1\r\n\r\n{}", get("/next")));
    talk.server([first, &reply(201)].concat()).end()
}

#[test]
fn bodies_of_requests() {
    let fine = ["POST /p 200", "GET /next 201"];
    for (fields, body) in [
        ("Content-Length: 0", ""),
        ("content-length:6", "GET /x"),
        ("CONTENT-LENGTH : \t6 ", "GET /x"),
        ("Content-Length: 2\r\nContent-Length: 2", "ab"),
        ("Content-Length: 2, 2", "ab"),
        ("Content-Length: 000000000000000000000000000002", "ab"),
        ("Transfer-Encoding: chunked", "0\r\n\r\n"),
        ("transfer-encoding: gzip, Chunked", "2\r\nab\r\n0\r\n\r\n"),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        (
            "Transfer-Encoding: chunked",
            "a;n=v;m=\"q\"\r\n0123456789\r\nB \r\n0123456789a\r\n0;x\r\nA: b\r\nC: d\r\n\r\n",
        ),
        ("Transfer-Encoding: chunked", "2\nab\n0\nA: b\n\n"),
        ("Transfer-Encoding: identity\r\nContent-Length: 1", "a"),
        // The encoding wins.
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: what", "0\r\n\r\n"),
        ("X-Content-Length: 5\r\nno colon\r\n folded: 1", ""),
    ] {
        assert_eq!(told_of_request(&post(fields, body)), fine, "{fields}");
    }
}

#[test]
fn lengths_that_make_no_sense() {
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 2",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length:",
        "Content-Length: 0x10",
        "Content-Length: 1,",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
    ] {
        let mut talk = Talk::new();
        talk.client([post(fields, ""), get("/next")].concat());
        assert!(talk.is_over());
        assert_eq!(talk.lines(), ["1 malformed"], "{fields}");
        if !fields.starts_with('T') {
            let mut talk = Talk::new();
            talk.client(get("/").repeat(3));
            talk.server(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
            assert!(talk.is_over());
            assert_eq!(talk.lines(), ["GET / 200", "1 malformed", "2 unanswered"], "{fields}");
        }
    }
    let mut talk = Talk::new();
    let body = format!("Content-Length: {}", u64::MAX);
    talk.client(post(&body, &get("/within")));
    assert_eq!(talk.end(), ["1 unanswered"]);
}

#[test]
fn chunks_that_make_no_sense() {
    for body in [
        "x",
        "\r\n",
        ";\r\n",
        "-1\r\n",
        "1\r\nab",
        "1\r\na\rb",
        "10000000000000000\r\n",
    ] {
        let mut talk = Talk::new();
        talk.client(post("Transfer-Encoding: chunked", body))
            .client("\r\n\r\n\r\n!");
        assert!(talk.is_over(), "{body:?}");
        assert_eq!(talk.lines(), ["1 malformed"], "{body:?}");
    }
}

#[test]
fn bodies_of_replies() {
    for (method, first, code) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nHTTP/1.1", 200),
        ("GET", "HTTP/1.0 599 OK\r\nContent-Length: 0\r\n\r\n", 599),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", 200),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200),
        ("GET", "HTTP/1.1 204 OK\r\nContent-Length: 8\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 304),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            200,
        ),
        ("CONNECT", "HTTP/1.1 407 No\r\nContent-Length: 1\r\n\r\nx", 407),
        (
            "POST",
            "HTTP/1.1 100 Continue\r\nContent-Length: 8\r\n\r\nHTTP/1.1 205 A\r\nContent-Length: 0\r\n\r\n",
            205,
        ),
        (
            "POST",
            "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 H\r\n\r\nHTTP/1.1 999\tA\r\nContent-Length: 0\r\n\r\n",
            999,
        ),
        // Without a length as long as the connection.
        ("GET", "HTTP/1.1 200 OK\r\n\r\n", 200),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
            200,
        ),
    ] {
        let endless = method == "GET" && (first.ends_with("OK\r\n\r\n") || first.contains("gzip"));
        let last = if endless { "1 unanswered" } else { "GET /next 201" };
        assert_eq!(
            told_of_reply(method, first),
            [&format!("{method} / {code}"), last],
            "{first}"
        );
    }
}

#[test]
fn status_lines_that_are_none() {
    for bad in [
        "HTTP/1.1 99 A",
        "HTTP/1.1 0200 A",
        "HTTP/1.1 2x0 A",
        "HTTP/2 200",
        "HTTP/1.1",
        "HTTP/1.x 200 A",
        "ICY 200",
    ] {
        let mut talk = Talk::new();
        talk.client(get("/a")).server(reply(200)).client(get("/b"));
        talk.server(format!("{bad}\r\n\r\n"));
        assert!(talk.is_over());
        assert_eq!(talk.lines(), ["GET /a 200", "1 malformed", "1 unanswered"], "{bad}");
    }
}

#[test]
fn a_reply_is_told_with_its_status_line() {
    let mut talk = Talk::new();
    assert!(!talk.http.expects_reply());
    talk.client("GET / HTTP/1.1\r\nHo").client("st: x\r\n\r\n");
    assert!(talk.http.expects_reply());
    talk.server("HTTP/1.1 100 Continue\r\n\r\n")
        .server("HTT")
        .server("P/1.1 200 O");
    assert_eq!(talk.lines(), [""; 0]);
    talk.server("K\r\n");
    assert!(talk.http.expects_reply());
    let told = &talk.told.exchanges[0];
    assert_eq!((told.asked_ns, told.replied_ns), (1, 4));
    talk.server("Content-Length: 1\r\n\r\n");
    assert!(talk.http.expects_reply());
    talk.server("x");
    assert!(!talk.http.expects_reply());
    // Empty lines are of no message.
    talk.client("\r\n").client("\nG").client("ET / HTTP/1.1\r\n\r\n");
    talk.server("\r").server("\n").server("H").server("TTP/1.1 200\r\n\r\n");
    let told = &talk.told.exchanges[1];
    assert_eq!((told.asked_ns, told.replied_ns), (10, 14));
    assert_eq!(talk.end(), ["GET / 200"; 2]);
}

#[test]
fn other_protocols_follow() {
    let upgrade = "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let connect = "CONNECT [::1]:443 HTTP/1.1\r\n\r\n";
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let established = "HTTP/1.1 200 Connection established\r\n\r\n";
    for (request, reply, told) in [
        (upgrade, switching, "GET /ws 101"),
        (connect, established, "CONNECT [::1]:443 200"),
    ] {
        // Of what the client says then something may be heard of too early.
        for early in [false, true] {
            let mut talk = Talk::new();
            talk.client(request);
            if early {
                talk.client("\x16\x03\x01 GET / HTTP/1.1\r\n\r\n");
            }
            talk.server(reply);
            assert!(talk.is_over());
            talk.client(get("/not-http")).server("HTTP/1.1 200 OK\r\n\r\n");
            assert_eq!(talk.end(), [told]);
        }
    }
    // The server knows nothing of that.
    for request in [upgrade, connect] {
        let mut talk = Talk::new();
        talk.client(request)
            .server("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        talk.client(get("/a")).server(reply(200));
        assert_eq!(talk.end().last().unwrap(), "GET /a 200");
        assert_eq!(talk.told.exchanges.len(), 2);
    }
    let mut talk = Talk::new();
    talk.client([upgrade, &get("/behind")].concat()).server(switching);
    assert_eq!(talk.end(), ["GET /ws 101", "1 unanswered"]);
}

#[test]
fn who_expects_leave_to_send_a_body() {
    let head = "PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n";
    let mut talk = Talk::new();
    talk.client(head).server("HTTP/1.1 100 Continue\r\n\r\n");
    talk.client("GET / HTTP/1.1\r\n\r\n..").server(reply(201));
    assert_eq!(talk.end(), ["PUT /a 201"]);
    // Without: no body, but another request.
    let mut talk = Talk::new();
    talk.client(head)
        .server(reply(417))
        .client(get("/b"))
        .server(reply(200));
    assert_eq!(talk.end(), ["PUT /a 417", "GET /b 200"]);
    // It does not wait, and the server does not read.
    let mut talk = Talk::new();
    talk.client(head).server(reply(413)).client([b'x'; 20]);
    talk.client(get("/b")).server(reply(200));
    assert_eq!(talk.end(), ["PUT /a 413", "GET /b 200"]);
}

#[test]
fn the_server_may_answer_early() {
    let mut talk = Talk::new();
    talk.client("POST /p HTTP/1.1\r\nContent-Length: 5\r\n")
        .server(reply(400));
    talk.client("\r\n12").client("345").client(get("/b")).server(reply(200));
    assert_eq!(talk.end(), ["POST /p 400", "GET /b 200"]);
    // Nobody has asked.
    let mut talk = Talk::new();
    talk.server("HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\n\r\n")
        .server("ok");
    talk.client(get("/b")).server(reply(200));
    assert_eq!(talk.end(), ["GET /b 200", "1 unasked"]);
}

#[test]
fn servers_that_forget_the_length() {
    let mut talk = Talk::new();
    talk.client(get("/a")).server("HTTP/1.1 201 Created\r\n\r\n");
    talk.client(get("/b")).server(reply(200));
    assert_eq!(talk.end(), ["GET /a 201", "GET /b 200"]);
    // It is a body as long as nobody asks for anything.
    let mut talk = Talk::new();
    talk.client(get("/a"))
        .server("HTTP/1.1 200 OK\r\n\r\n")
        .server(reply(500));
    assert_eq!(talk.end(), ["GET /a 200"]);
}

#[test]
fn requests_without_a_reply() {
    let mut talk = Talk::new();
    talk.client(get("/a").repeat(7)).server(reply(200).repeat(2));
    assert_eq!(talk.end(), ["GET /a 200", "GET /a 200", "5 unanswered"]);
}
