//! Asks a running agent, over its admin socket.
use super::layout::printable;
use crate::http::api::ErrorBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use std::{error::Error, io, path::PathBuf, time::Duration};
use tokio::net::UnixStream;

/// The agent answers in milliseconds, or something is wrong with it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Ten thousand containers take a fiftieth of it.
const MAX_BODY_BYTES: usize = 128 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no agent listens on {}, start one with `systemctl start tarsier` or `tarsier run`", socket.display())]
    NotRunning { socket: PathBuf, source: io::Error },
    #[error("{} is for its owner alone, try as root", socket.display())]
    Denied { socket: PathBuf, source: io::Error },
    #[error("cannot connect to {}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the agent on {} did not answer within {deadline:?}", socket.display())]
    Late { socket: PathBuf, deadline: Duration },
    #[error("what listens on {} broke off", socket.display())]
    Exchange { socket: PathBuf, source: hyper::Error },
    #[error("the answer of the agent on {} is too long or incomplete", socket.display())]
    Body {
        socket: PathBuf,
        source: Box<dyn Error + Send + Sync>,
    },
    /// The agent's own words where it has any.
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error("the agent answered what this version of tarsier does not read")]
    Answer { source: serde_json::Error },
    #[error("cannot wait for the agent")]
    Runtime { source: io::Error },
}

#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    deadline: Duration,
    max_body_bytes: usize,
}

impl Client {
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            deadline: DEADLINE,
            max_body_bytes: MAX_BODY_BYTES,
        }
    }

    /// The body of a 200.
    pub fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ClientError::Runtime { source })?;
        let answer = runtime.block_on(async { tokio::time::timeout(self.deadline, self.exchange(path)).await });
        let (status, body) = answer.map_err(|_elapsed| ClientError::Late {
            socket: self.socket.clone(),
            deadline: self.deadline,
        })??;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let message = serde_json::from_slice::<ErrorBody>(&body).map_or_else(
            |_not_ours| format!("the agent on {} answered {status}", self.socket.display()),
            |body| printable(&body.error),
        );
        Err(ClientError::Refused { status, message })
    }

    async fn exchange(&self, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| self.connect_error(source))?;
        let broke_off = |source| ClientError::Exchange {
            socket: self.socket.clone(),
            source,
        };
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
        // What it ends with reaches the request, too.
        let connection = tokio::spawn(connection);
        let request = Request::get(path)
            .header(HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .expect("paths are built from constants and percent-encoded ids");
        let response = requests.send_request(request).await.map_err(broke_off)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), self.max_body_bytes).collect().await;
        connection.abort();
        match body {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(source) => Err(ClientError::Body {
                socket: self.socket.clone(),
                source,
            }),
        }
    }

    fn connect_error(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { socket, source },
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket, source },
            _ => ClientError::Connect { socket, source },
        }
    }
}

/// As one segment of a path: an id has slashes of its own.
pub fn percent_encode(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use http_body_util::LengthLimitError;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
        path::Path,
        thread::{self, JoinHandle},
    };
    use tempfile::TempDir;

    /// Answers one request with `answer`, and holds the connection until the client has closed it.
    pub(in crate::cli) struct Agent {
        dir: TempDir,
        thread: JoinHandle<String>,
    }

    impl Agent {
        pub(in crate::cli) fn answering(status: &str, body: &str) -> Self {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            Self::saying(head + body)
        }

        fn saying(answer: String) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
            let thread = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                if !answer.is_empty() && !answer.ends_with("\r\n\r\n") {
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                }
                stream.read_to_end(&mut Vec::new()).ok();
                String::from_utf8(request).unwrap()
            });
            Self { dir, thread }
        }

        pub(in crate::cli) fn socket(&self) -> PathBuf {
            self.dir.path().join("admin.sock")
        }

        /// The request line that came.
        pub(in crate::cli) fn asked(self) -> String {
            let request = self.thread.join().unwrap();
            request.lines().next().unwrap().to_owned()
        }
    }

    fn message(err: &ClientError) -> String {
        err.to_string()
    }

    #[test]
    fn gets_the_body() {
        let agent = Agent::answering("200 OK", "{}");
        assert_eq!(&*Client::new(agent.socket()).get("/api/v1/containers").unwrap(), b"{}");
        assert_eq!(agent.asked(), "GET /api/v1/containers HTTP/1.1");
    }

    #[test]
    fn says_what_the_agent_says() {
        let agent = Agent::answering("404 Not Found", r#"{"error":"no container /a\u001b"}"#);
        let err = Client::new(agent.socket()).get("/").unwrap_err();
        assert_eq!(message(&err), "no container /a\\u{1b}");

        let agent = Agent::answering("502 Bad Gateway", "<html>");
        let err = Client::new(agent.socket()).get("/").unwrap_err();
        let expected = format!("the agent on {} answered 502 Bad Gateway", agent.socket().display());
        assert_eq!(message(&err), expected);
    }

    #[test]
    fn says_how_to_start_an_agent_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let expected = format!(
            "no agent listens on {}, start one with `systemctl start tarsier` or `tarsier run`",
            socket.display()
        );
        let err = Client::new(socket.clone()).get("/").unwrap_err();
        assert_eq!(message(&err), expected);
        // What a killed agent leaves behind.
        drop(UnixListener::bind(&socket).unwrap());
        let err = Client::new(socket).get("/").unwrap_err();
        assert_eq!(message(&err), expected);
    }

    #[test]
    fn says_who_may_ask() {
        let client = Client::new(PathBuf::from("/s"));
        let err = client.connect_error(io::ErrorKind::PermissionDenied.into());
        assert_eq!(message(&err), "/s is for its owner alone, try as root");
        let err = Client::new(Path::new("/").join("x".repeat(200))).get("/").unwrap_err();
        assert!(matches!(err, ClientError::Connect { .. }), "{err:?}");
    }

    #[test]
    fn does_not_wait_for_ever() {
        let silent = [String::new(), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_owned()];
        for answer in silent {
            let agent = Agent::saying(answer);
            let mut client = Client::new(agent.socket());
            client.deadline = Duration::from_millis(50);
            let err = client.get("/").unwrap_err();
            assert!(matches!(err, ClientError::Late { .. }), "{err:?}");
            let expected = format!("the agent on {} did not answer within 50ms", agent.socket().display());
            assert_eq!(message(&err), expected);
        }
    }

    #[test]
    fn refuses_half_an_answer_no_http_and_too_much() {
        let agent = Agent::saying("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab".to_owned());
        let err = Client::new(agent.socket()).get("/").unwrap_err();
        assert!(matches!(err, ClientError::Body { .. }), "{err:?}");

        let agent = Agent::saying("+PONG\r\n".to_owned());
        let err = Client::new(agent.socket()).get("/").unwrap_err();
        assert!(matches!(err, ClientError::Exchange { .. }), "{err:?}");

        let agent = Agent::answering("200 OK", "12345");
        let mut client = Client::new(agent.socket());
        client.max_body_bytes = 4;
        match client.get("/").unwrap_err() {
            ClientError::Body { source, .. } => assert!(source.is::<LengthLimitError>(), "{source}"),
            err => panic!("{err:?}"),
        }
    }

    #[test]
    fn an_id_becomes_one_segment() {
        assert_eq!(
            percent_encode("/system.slice/a b.service"),
            "%2Fsystem.slice%2Fa%20b.service"
        );
        assert_eq!(percent_encode("~a-Z_0?#%ü"), "~a-Z_0%3F%23%25%C3%BC");
    }
}
