//! One request, one answer, one connection. Enough to ask the agent without sharing any code with it.
use anyhow::{Context as _, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET` with `headers`, each `Name: value`. `limit` holds for connecting and for every read.
pub fn http_get(address: SocketAddr, path: &str, headers: &[&str], limit: Duration) -> Result<Response> {
    let stream = TcpStream::connect_timeout(&address, limit).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    request(stream, "GET", path, headers)
}

/// `POST` to some agent's admin socket.
pub fn admin_post(socket: &Path, path: &str) -> Result<Response> {
    over_unix(socket, "POST", path, Duration::from_secs(10))
}

pub(crate) fn over_unix(socket: &Path, method: &str, path: &str, limit: Duration) -> Result<Response> {
    let stream = UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(limit))?;
    request(stream, method, path, &[])
}

fn request(mut stream: impl Read + Write, method: &str, path: &str, headers: &[&str]) -> Result<Response> {
    let extra: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\nContent-Length: 0\r\n{extra}\r\n"
    )?;
    let mut raw = Vec::new();
    stream
        .read_to_end(&mut raw)
        .with_context(|| format!("{method} {path}"))?;
    let end = raw
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .with_context(|| format!("{method} {path}: no answer"))?;
    let (head, body) = raw.split_at(end + 4);
    let head = std::str::from_utf8(head).context("the answer's head")?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("no status line")?
        .parse()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response {
        status,
        headers,
        body: body.to_vec(),
    };
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = unchunk(&response.body)?;
    } else if let Some(length) = response.header("content-length") {
        ensure!(length.parse() == Ok(response.body.len()), "{method} {path}: cut off");
    }
    Ok(response)
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .context("a chunk has no size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(body);
        }
        ensure!(rest.len() >= size + 2, "a chunk is cut off");
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_a_cut_is_an_error() {
        assert_eq!(unchunk(b"4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n").unwrap(), b"abcdefg");
        assert!(unchunk(b"4\r\nab").is_err());
        assert!(unchunk(b"4\r\nabcd\r\n").is_err());
    }
}
