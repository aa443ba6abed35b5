//! Each whole, in two pieces, byte by byte, twice in a row, and cut off anywhere.
use super::*;

struct Vector {
    client: &'static str,
    server: &'static str,
    told: &'static [&'static str],
    /// Another may follow on the same connection.
    repeats: bool,
}

const VECTORS: [Vector; 12] = [
    Vector {
        client: "GET /api/users?id=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        server: "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        told: &["GET /api/users? 404"],
        repeats: true,
    },
    Vector {
        client: "GET / HTTP/1.0\r\n\r\n",
        server: "HTTP/1.0 200 OK\r\n\r\n",
        told: &["GET / 200"],
        repeats: false,
    },
    Vector {
        client: "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        server: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n\r\n",
        told: &["POST / 201"],
        repeats: false,
    },
    Vector {
        client: "HEAD /1 HTTP/1.1\nHost: x\n\n",
        server: "HTTP/1.1 200 OK\nContent-Length: 1000\n\n",
        told: &["HEAD /1 200"],
        repeats: true,
    },
    Vector {
        client: "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
        server: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        told: &["GET /a 200", "GET /b 500"],
        repeats: true,
    },
    Vector {
        client: "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        server: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\u{1}\u{2}HTTP/1.1 200 OK\r\n\r\n",
        told: &["GET /chat 101"],
        repeats: false,
    },
    Vector {
        client: "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
        server: "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n",
        told: &["TRACE / 405"],
        repeats: true,
    },
    Vector {
        client: "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        server: "HTTP/1.1 204\r\n\r\n",
        told: &["OPTIONS * 204"],
        repeats: true,
    },
    Vector {
        client: "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nGET /\r\n0\r\nSum: 1\r\n\r\n",
        server: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00A\r\nHTTP/1.1 2\r\n0\r\n\r\n",
        told: &["PUT /a 200"],
        repeats: true,
    },
    Vector {
        client: "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n\u{16}\u{3}\u{1}",
        server: "HTTP/1.1 200 Connection established\r\n\r\n\u{16}\u{3}\u{3}",
        told: &["CONNECT example.com:443 200"],
        repeats: false,
    },
    Vector {
        client: "PATCH http://a/b HTTP/1.1\r\n\r\nDELETE /c HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        server: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 304 No\r\nContent-Length: 7\r\n\r\n\
                 HTTP/1.1 204 No\r\n\r\n",
        told: &["PATCH http://a/b 304", "DELETE /c 204"],
        repeats: true,
    },
    Vector {
        client: "PROPFIND /dav HTTP/1.1\r\nContent-Length: 2\r\n\r\n\r\n\r\nM-SEARCH * HTTP/1.1\r\n\r\n",
        server: "HTTP/1.1 207 Multi\r\nContent-Length: 1\r\n\r\nx\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        told: &["PROPFIND /dav 207", "M-SEARCH * 200"],
        repeats: true,
    },
];

#[test]
fn whole() {
    for of in VECTORS {
        let mut talk = Talk::new();
        let told = talk.client(of.client).server(of.server).end();
        assert_eq!(told, of.told);
    }
}

#[test]
fn in_two_pieces_cut_anywhere() {
    for of in VECTORS {
        for starts in [true, false] {
            for at in 0..=of.client.len() {
                let (first, second) = of.client.as_bytes().split_at(at);
                let mut talk = Talk::new();
                talk.client(first).say(Client, second, starts || at == 0);
                assert_eq!(talk.server(of.server).end(), of.told, "{at} of {:?}", of.client);
            }
            for at in 0..=of.server.len() {
                let (first, second) = of.server.as_bytes().split_at(at);
                let mut talk = Talk::new();
                talk.client(of.client)
                    .server(first)
                    .say(Server, second, starts || at == 0);
                assert_eq!(talk.end(), of.told, "{at} of {:?}", of.server);
            }
        }
    }
}

#[test]
fn byte_by_byte() {
    for of in VECTORS {
        for starts in [true, false] {
            let mut talk = Talk::new();
            for (n, byte) in of.client.bytes().enumerate() {
                talk.say(Client, [byte], starts || n == 0);
            }
            for (n, byte) in of.server.bytes().enumerate() {
                talk.say(Server, [byte], starts || n == 0);
            }
            assert_eq!(talk.end(), of.told, "{:?}", of.client);
        }
    }
}

#[test]
fn one_behind_the_other() {
    for of in VECTORS.iter().filter(|of| of.repeats) {
        let mut talk = Talk::new();
        talk.client(of.client.repeat(3)).server(of.server.repeat(3));
        assert_eq!(talk.end(), of.told.repeat(3));
        let mut talk = Talk::new();
        for _ in 0..3 {
            talk.client(of.client).server(of.server);
        }
        assert_eq!(talk.end(), of.told.repeat(3));
    }
}

#[test]
fn all_on_one_connection() {
    let mut talk = Talk::new();
    let mut all: Vec<&str> = Vec::new();
    for of in VECTORS.iter().filter(|of| of.repeats) {
        talk.client(of.client).server(of.server);
        all.extend(of.told);
    }
    assert_eq!(talk.end(), all);
}

#[test]
fn cut_off_anywhere() {
    for of in VECTORS {
        for at in 0..of.client.len() {
            let mut talk = Talk::new();
            let told = talk.client(&of.client.as_bytes()[..at]).end();
            let expected = match told.as_slice() {
                [] => at == 0,
                [one] => one == "1 malformed" || one == "1 unanswered" || one == "2 unanswered",
                // Of the second no more is there than a part of its method.
                [_, _] => told == ["1 malformed", "1 unanswered"],
                _ => false,
            };
            assert!(expected, "{at} of {:?}: {told:?}", of.client);
        }
        for at in 0..of.server.len() {
            let mut talk = Talk::new();
            let told = talk.client(of.client).server(&of.server.as_bytes()[..at]).end();
            let lost = told.len() - talk.told.exchanges.len();
            assert_eq!(told[..told.len() - lost], of.told[..told.len() - lost]);
            let unanswered = of.told.len() - talk.told.exchanges.len();
            let expected = (unanswered > 0).then(|| format!("{unanswered} unanswered"));
            assert_eq!(
                told[told.len() - lost..],
                Vec::from_iter(expected),
                "{at} of {:?}",
                of.server
            );
        }
    }
}

#[test]
fn a_target_of_which_the_kernel_took_the_begin() {
    let mut talk = Talk::new();
    talk.client("GET /too-long-uri").miss(Client, 1000).server(reply(200));
    talk.client(get("/next")).server(reply(201));
    assert_eq!(talk.end(), ["GET /too-long-uri... 200", "GET /next 201"]);
    let mut talk = Talk::new();
    talk.client("GET /path?with=")
        .miss(Client, 1000)
        .server("HTTP/1.1 304")
        .miss(Server, 10);
    assert_eq!(talk.end(), ["GET /path? 304"]);
}

/// What is no HTTP. Most of it is another protocol.
fn others() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 18] = [
        b"GETX /foo bar baz qux quux",
        b"PUTTING it together, a text protocol\r\n",
        b"\0\0\0\x03\x01\0\0\0\0\0abcdefghijklmnopqrst",
        &[0; 12],
        b"\x17\x03\x03\0\x20abcdefghijklmnopqrstuvwxyzabcdef",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"+OK POP3 ready\r\n",
        b"220 mail ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x0a\x05hello\x10\x01",
        b"\x7fELF1234S\0\0\0\x04",
        b"\x04\0\0\x08\x07\x40\0\0\0abc",
        &[0xff; 9],
        b"GET key\r\n",
        b"GET /key\r\n",
        b"OPTIONS rtsp://a/b RTSP/1.0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    ];
    let mut all: Vec<_> = texts.iter().map(|text| text.to_vec()).collect();
    // Of some of these bytes a method is made.
    all.extend(
        (0..=255)
            .filter(|byte| !b"CDGHOPT\r\n".contains(byte))
            .map(|byte| vec![byte, b'\n']),
    );
    all
}

#[test]
fn what_is_no_http() {
    for bytes in others() {
        for (first, second) in [(Client, Server), (Server, Client)] {
            let mut talk = Talk::new();
            talk.say(first, &bytes, true)
                .say(second, b"\x01\x02\x03 what is this\r\n", true);
            if bytes.contains(&b'\n') || first == Server {
                assert!(talk.is_over(), "{bytes:?}");
            }
            assert_eq!(talk.end(), ["1 malformed"], "{bytes:?}");
            // By itself as well.
            let mut talk = Talk::new();
            assert_eq!(talk.say(first, &bytes, true).end(), ["1 malformed"], "{bytes:?}");
            let mut talk = Talk::new();
            for byte in &bytes {
                talk.say(first, [*byte], false);
            }
            assert_eq!(talk.end(), ["1 malformed"], "{bytes:?}");
        }
    }
}

#[test]
fn nothing_at_all() {
    assert_eq!(Talk::new().end(), [""; 0]);
    for side in [Client, Server] {
        assert_eq!(Talk::new().say(side, "", true).end(), [""; 0]);
        for byte in 0..=255 {
            Talk::new().say(side, [byte], true).end();
        }
    }
}

#[test]
fn http2() {
    let mut talk = Talk::new();
    talk.client("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(talk.is_over());
    assert_eq!(talk.server("\0\0\0\x04\x01\0\0\0\0").end(), ["1 unsupported"]);
    let mut talk = Talk::new();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        talk.client([*byte]);
    }
    assert_eq!(talk.end(), ["1 unsupported"]);
}
