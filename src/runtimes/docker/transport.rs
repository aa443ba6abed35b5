//! One HTTP exchange over a unix socket, of which no more comes in than its meter allows.
use bollard::errors::Error;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};

/// How many bytes more a connection may bring.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    left: Arc<AtomicUsize>,
    limit: usize,
}

impl Meter {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(limit)),
            limit,
        }
    }

    pub(super) fn refill(&self) {
        self.left.store(self.limit, Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.load(Relaxed) == 0
    }
}

struct Metered {
    stream: UnixStream,
    meter: Meter,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.meter.is_empty() {
            return Poll::Ready(Err(io::Error::other("the answer is too long")));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        let left = self.meter.left.load(Relaxed);
        self.meter.left.store(left.saturating_sub(read), Relaxed);
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// On a connection of its own, which ends with the body of the answer.
pub(super) async fn exchange<B>(path: &Path, meter: Meter, mut request: Request<B>) -> Result<Response<Incoming>, Error>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = UnixStream::connect(path).await?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(Metered { stream, meter })).await?;
    // What it ends with reaches the request and the body, too.
    drop(tokio::spawn(connection));
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_static("localhost"));
    // The socket is the authority.
    let target = request.uri().path_and_query().cloned();
    if let Some(target) = target {
        *request.uri_mut() = target.into();
    }
    Ok(requests.send_request(request).await?)
}
