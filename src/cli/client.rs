//! Asks a running agent, over its admin socket.
use super::layout::printable;
use crate::http::{admin::events::HEARTBEAT, api::ErrorBody};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use std::{error::Error, io, path::PathBuf, time::Duration};
use tokio::net::UnixStream;

/// The agent answers in milliseconds, or something is wrong with it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Ten thousand containers take a fiftieth of it.
const SILENCE: Duration = HEARTBEAT.saturating_mul(3);
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
    #[error("the agent on {} broke off", socket.display())]
    BrokeOff { socket: PathBuf },
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
    /// Of a stream that shows in between that it lives.
    silence: Duration,
}

impl Client {
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            deadline: DEADLINE,
            max_body_bytes: MAX_BODY_BYTES,
            silence: SILENCE,
        }
    }

    /// The body of a 200.
    pub fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        self.call(Method::GET, path)
    }

    /// The same, of something that is to be done.
    pub fn post(&self, path: &str) -> Result<Bytes, ClientError> {
        self.call(Method::POST, path)
    }

    fn call(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        let exchange = async {
            let (response, _connection) = self.open(method, path).await?;
            let status = response.status();
            Ok((status, self.whole(response.into_body()).await?))
        };
        let (status, body) = runtime()?.block_on(self.within(self.deadline, exchange))?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(self.refusal(status, &body))
    }

    /// Hands on the data of every server-sent event, until `each` has enough or the user interrupts.
    pub fn follow(&self, path: &str, each: impl FnMut(&[u8]) -> bool) -> Result<(), ClientError> {
        runtime()?.block_on(async {
            tokio::select! {
                followed = self.stream(path, each) => followed,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        })
    }

    async fn stream(&self, path: &str, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), ClientError> {
        let (response, _connection) = self.within(self.deadline, self.open(Method::GET, path)).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = self.within(self.deadline, self.whole(response.into_body())).await?;
            return Err(self.refusal(status, &body));
        }
        let (mut body, mut lines) = (response.into_body(), Lines::default());
        loop {
            let frame = self.within(self.silence, async { Ok(body.frame().await) }).await?;
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(source)) => {
                    let socket = self.socket.clone();
                    return Err(ClientError::Exchange { socket, source });
                }
                // It says so when it ends in order.
                None => {
                    let socket = self.socket.clone();
                    return Err(ClientError::BrokeOff { socket });
                }
            };
            let Some(bytes) = frame.data_ref() else { continue };
            lines.push(bytes);
            while let Some(line) = lines.next() {
                let data = line.strip_prefix(b"data: ");
                if data.is_some_and(|data| !each(data)) {
                    return Ok(());
                }
            }
            if lines.rest.len() > self.max_body_bytes {
                let source = "an event without an end".into();
                let socket = self.socket.clone();
                return Err(ClientError::Body { socket, source });
            }
        }
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        what: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let done = tokio::time::timeout(deadline, what).await;
        done.map_err(|_elapsed| ClientError::Late {
            socket: self.socket.clone(),
            deadline,
        })?
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ClientError {
        let message = serde_json::from_slice::<ErrorBody>(body).map_or_else(
            |_not_ours| format!("the agent on {} answered {status}", self.socket.display()),
            |body| printable(&body.error),
        );
        ClientError::Refused { status, message }
    }

    /// The connection goes with its guard.
    async fn open(&self, method: Method, path: &str) -> Result<(Response<Incoming>, AbortOnDrop), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| self.connect_error(source))?;
        let broke_off = |source| ClientError::Exchange {
            socket: self.socket.clone(),
            source,
        };
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
        // What it ends with reaches the request, too.
        let connection = AbortOnDrop(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .expect("paths are built from constants and percent-encoded ids");
        let response = requests.send_request(request).await.map_err(broke_off)?;
        Ok((response, connection))
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, ClientError> {
        match Limited::new(body, self.max_body_bytes).collect().await {
            Ok(body) => Ok(body.to_bytes()),
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

fn runtime() -> Result<tokio::runtime::Runtime, ClientError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ClientError::Runtime { source })
}

struct AbortOnDrop(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Bytes as they come, cut into lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    /// Up to there they have been handed out.
    read: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.rest.drain(..std::mem::take(&mut self.read));
        self.rest.extend_from_slice(bytes);
    }

    /// Without its end.
    fn next(&mut self) -> Option<&[u8]> {
        let unread = &self.rest[self.read..];
        let end = unread.iter().position(|&byte| byte == b'\n')?;
        self.read += end + 1;
        Some(&unread[..end])
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
    fn hands_on_events_however_they_are_cut() {
        let stream = "data: {\"a\":1}\n\n: nothing\n\nevent: x\ndata: {\"b\":2}\n\ndata: late\n\n";
        let chunks: String = stream.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
        let agent = Agent::saying(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ));
        let mut seen = Vec::new();
        let enough = |data: &[u8]| {
            seen.push(String::from_utf8(data.to_vec()).unwrap());
            seen.len() < 2
        };
        Client::new(agent.socket()).follow("/", enough).unwrap();
        assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}"]);

        let agent = Agent::answering("429 Too Many Requests", r#"{"error":"8 clients"}"#);
        let err = Client::new(agent.socket()).follow("/", |_| true).unwrap_err();
        assert_eq!(message(&err), "8 clients");
    }

    #[test]
    fn a_stream_that_says_nothing_or_has_no_end_is_given_up() {
        let agent = Agent::saying("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n".to_owned());
        let mut client = Client::new(agent.socket());
        client.silence = Duration::from_millis(50);
        let err = client.follow("/", |_| true).unwrap_err();
        assert!(matches!(err, ClientError::Late { .. }), "{err:?}");

        let agent = Agent::answering("200 OK", "data: 12345");
        let mut client = Client::new(agent.socket());
        client.max_body_bytes = 4;
        let err = client.follow("/", |_| true).unwrap_err();
        assert!(matches!(err, ClientError::Body { .. }), "{err:?}");
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
