//! What listens on a socket and is no runtime, or none that works; and answers that nobody should give.
use super::{
    Client, RuntimeError,
    metadata::{Metadata, limits},
};
use proptest::prelude::*;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};

pub(super) struct Stranger {
    pub(super) sockets: Vec<PathBuf>,
    _folder: TempDir,
    task: JoinHandle<()>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stranger {
    /// Serves one connection after the other.
    pub(super) fn new<F: Future<Output = ()> + Send>(serve: impl Fn(UnixStream) -> F + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream).await;
            }
        });
        Self {
            sockets: vec![socket],
            _folder: folder,
            task,
        }
    }

    pub(super) fn closes_at_once() -> Self {
        Self::new(async |stream| drop(stream))
    }

    pub(super) fn says(what: Vec<u8>) -> Self {
        Self::new(move |mut stream| {
            let what = what.clone();
            async move {
                // It may be hung up on.
                stream.write_all(&what).await.ok();
                stream.shutdown().await.ok();
                stream.read_to_end(&mut Vec::new()).await.ok();
            }
        })
    }

    /// Tells when it is hung up on.
    fn never_answers() -> (Self, mpsc::UnboundedReceiver<()>) {
        let (hung_up, told) = mpsc::unbounded_channel();
        let stranger = Self::new(move |mut stream| {
            let hung_up = hung_up.clone();
            async move {
                stream.read_to_end(&mut Vec::new()).await.ok();
                hung_up.send(()).ok();
            }
        });
        (stranger, told)
    }
}

/// Each of them is an error or a deadline, and never more than that.
pub(super) async fn refuses_strangers<C: Client>() {
    let connect = async |stranger: &Stranger| {
        let limit = Duration::from_millis(500);
        tokio::time::timeout(limit, C::connect(&stranger.sockets)).await
    };
    let is_error = |outcome| match outcome {
        Ok(Err(RuntimeError::Broken { .. } | RuntimeError::Nonsense { .. } | RuntimeError::Connect { .. })) => true,
        Ok(Err(_) | Ok(_)) | Err(_) => false,
    };
    assert!(is_error(connect(&Stranger::closes_at_once()).await));
    assert!(is_error(
        connect(&Stranger::says(b"\x00\xff garbage\r\n\r\n".repeat(1000))).await
    ));
    assert!(is_error(
        connect(&Stranger::says(
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec()
        ))
        .await
    ));

    let (mute, mut hung_up) = Stranger::never_answers();
    assert!(connect(&mute).await.is_err(), "somebody answered");
    let closed = tokio::time::timeout(Duration::from_secs(5), hung_up.recv()).await;
    assert_eq!(closed, Ok(Some(())), "the connection is still open");
}

/// Valid JSON, cut short or with one byte changed.
pub(super) fn damaged(whole: &str) -> impl Strategy<Value = Vec<u8>> {
    let whole = whole.as_bytes().to_vec();
    let length = whole.len();
    prop_oneof![
        (0..length).prop_map({
            let whole = whole.clone();
            move |end| whole[..end].to_vec()
        }),
        (0..length, any::<u8>()).prop_map(move |(at, byte)| {
            let mut changed = whole.clone();
            changed[at] = byte;
            changed
        }),
        prop::collection::vec(any::<u8>(), 0..64),
    ]
}

/// As `limits` says.
pub(super) fn is_bounded(metadata: &Metadata) -> bool {
    let small = |(key, value): (&String, &String)| key.len() <= limits::KEY_BYTES && value.len() <= limits::VALUE_BYTES;
    metadata.name.len() <= limits::NAME_BYTES
        && metadata.image.len() <= limits::VALUE_BYTES
        && metadata.labels.len() <= limits::LABELS
        && metadata.labels.iter().all(small)
        && metadata.environment.len() <= limits::LABELS
        && metadata.environment.iter().all(small)
        && metadata.mounts.len() <= limits::MOUNTS
        && metadata
            .mounts
            .iter()
            .all(|(to, from)| to.len().max(from.len()) <= limits::VALUE_BYTES)
        && metadata
            .log
            .iter()
            .all(|log| log.path.as_os_str().len() <= limits::VALUE_BYTES)
}
