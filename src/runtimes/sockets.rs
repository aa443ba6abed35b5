//! Which of the places where a runtime may listen it is.
use super::RuntimeError;
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::net::UnixStream;

/// The first socket that `attempt` is content with. Otherwise what is wrong with the first one that is there: the others
/// would only say less.
pub(super) async fn first_that_answers<T>(
    runtime: &'static str,
    sockets: &[PathBuf],
    attempt: impl AsyncFn(UnixStream, &Path) -> Result<T, RuntimeError>,
) -> Result<T, RuntimeError> {
    let mut first = None;
    for path in sockets {
        let outcome = match connect(path).await {
            Ok(Some(stream)) => attempt(stream, path).await,
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(connected) => return Ok(connected),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| RuntimeError::NoSocket {
        runtime,
        paths: sockets.to_vec(),
    }))
}

/// `None`: nothing is there.
pub(super) async fn connect(path: &Path) -> Result<Option<UnixStream>, RuntimeError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => Ok(None),
        Err(source) => Err(RuntimeError::Connect {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    async fn chosen(sockets: &[PathBuf]) -> Result<PathBuf, RuntimeError> {
        let attempt = async |_stream, path: &Path| match path.ends_with("mute") {
            true => Err(RuntimeError::Nonsense {
                op: "greeting",
                what: String::new(),
            }),
            false => Ok(path.to_owned()),
        };
        first_that_answers("test", sockets, attempt).await
    }

    #[tokio::test]
    async fn in_order_and_past_what_does_not_work() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let _listeners = ["mute", "good", "better"].map(|name| UnixListener::bind(at(name)).unwrap());
        drop(UnixListener::bind(at("stale")).unwrap());
        let [none, below, stale, mute, good] = ["none", "good/below", "stale", "mute", "good"].map(at);
        let all = [
            none.clone(),
            below.clone(),
            stale.clone(),
            mute.clone(),
            good.clone(),
            at("better"),
        ];
        assert_eq!(chosen(&all).await.unwrap(), good);
        let error = chosen(&[none.clone(), stale.clone(), mute.clone()]).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Connect { path, .. } if path == stale));
        let error = chosen(&[none.clone(), mute, stale]).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Nonsense { .. }), "{error}");
        let error = chosen(&[none, below]).await.unwrap_err();
        assert!(
            matches!(&error, RuntimeError::NoSocket { paths, .. } if paths.len() == 2),
            "{error}"
        );
        assert!(matches!(chosen(&[]).await, Err(RuntimeError::NoSocket { .. })));
    }
}
