//! CRI-O, over the HTTP of its own socket. It tells nothing of its own accord.

mod container;
#[cfg(test)]
mod tests;

pub use container::describe;

use super::{Change, Client, Lookup, Runtime, RuntimeError, metadata::Metadata, sockets};
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::IgnoredAny};
use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
};
use tokio::net::UnixStream;

pub const SOCKETS: [&str; 2] = ["/var/run/crio/crio.sock", "/run/crio/crio.sock"];

const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Each request has a connection of its own: one that was given up leaves nothing behind.
pub struct Crio {
    socket: PathBuf,
}

impl Client for Crio {
    const RUNTIME: Runtime = Runtime::Crio;

    async fn connect(sockets: &[PathBuf]) -> Result<Self, RuntimeError> {
        sockets::first_that_answers(Self::RUNTIME.as_str(), sockets, Self::greet).await
    }

    async fn inspect(&self, lookup: &Lookup) -> Result<Option<Metadata>, RuntimeError> {
        const OP: &str = "GET /containers";
        // Whatever else it is, it does not belong in a URL.
        let id = match lookup {
            Lookup::Engine { id, .. } if id.bytes().all(|byte| byte.is_ascii_alphanumeric()) => id,
            _ => return Ok(None),
        };
        let stream = sockets::connect(&self.socket)
            .await?
            .ok_or_else(|| RuntimeError::Connect {
                path: self.socket.clone(),
                source: io::ErrorKind::NotFound.into(),
            })?;
        let (status, body) = get(OP, stream, &format!("/containers/{id}")).await?;
        match status {
            StatusCode::OK => describe(id, &body).map(Some).map_err(|error| nonsense(OP, error)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(nonsense(OP, status)),
        }
    }

    async fn next_change(&self) -> Result<Change, RuntimeError> {
        std::future::pending().await
    }
}

impl Crio {
    async fn greet(stream: UnixStream, path: &Path) -> Result<Self, RuntimeError> {
        const OP: &str = "GET /info";
        let (status, body) = get(OP, stream, "/info").await?;
        if status != StatusCode::OK {
            return Err(nonsense(OP, status));
        }
        serde_json::from_slice::<Info>(&body).map_err(|error| nonsense(OP, error))?;
        Ok(Self {
            socket: path.to_owned(),
        })
    }
}

/// By this it is known as CRI-O: every version says it.
#[derive(Deserialize)]
struct Info {
    #[serde(rename = "storage_root")]
    _storage_root: IgnoredAny,
}

fn nonsense(op: &'static str, what: impl ToString) -> RuntimeError {
    RuntimeError::Nonsense {
        op,
        what: what.to_string(),
    }
}

async fn get(op: &'static str, stream: UnixStream, path: &str) -> Result<(StatusCode, Bytes), RuntimeError> {
    let broken = |source: hyper::Error| RuntimeError::Broken {
        op,
        source: source.into(),
    };
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::get(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .expect("paths are built from constants and alphanumeric ids");
    let exchange = async {
        let response = requests.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        match body {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(nonsense(op, error)),
            Err(source) => Err(RuntimeError::Broken { op, source }),
        }
    };
    // Not a task of its own: who gives up waiting closes the connection with it.
    match select(pin!(exchange), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // It is over, and all that came is there.
        Either::Right((_, exchange)) => exchange.await,
    }
}
