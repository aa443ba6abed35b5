//! A unix socket behind which is what a test wants to be there: a daemon, something else, or nobody.
use crate::eventually;
use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Duration,
};

/// An answer to the target of an HTTP request, with its head.
pub type Answers = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

#[derive(Clone)]
pub enum Manner {
    /// As whoever listens there.
    Relay(PathBuf),
    /// One request per connection.
    Http(Answers),
    /// Says what belongs to no protocol, and hangs up.
    Garbage,
    ClosesAtOnce,
    /// Takes whatever comes.
    NeverAnswers,
}

pub struct Front {
    path: PathBuf,
    open: Mutex<Option<Open>>,
}

struct Open {
    listener: Arc<UnixListener>,
    streams: Arc<Streams>,
    thread: JoinHandle<()>,
}

impl Front {
    /// Nobody is there yet, and no socket.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            open: Mutex::new(None),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on. Whoever was connected is cut off.
    pub fn behave(&self, manner: Manner) {
        self.vanish();
        let listener = Arc::new(UnixListener::bind(&self.path).expect("the path is ours"));
        let streams = Arc::new(Streams::default());
        let (accepting, kept) = (Arc::clone(&listener), Arc::clone(&streams));
        let thread = thread::spawn(move || {
            for stream in accepting.incoming() {
                // It has been shut down.
                let Ok(stream) = stream else { break };
                let (manner, kept) = (manner.clone(), Arc::clone(&kept));
                // What a peer makes of an answer that is none is not the socket's affair.
                thread::spawn(move || kept.during(&stream, || drop(serve(&manner, &stream, &kept))));
            }
        });
        let open = Open {
            listener,
            streams,
            thread,
        };
        *self.lock() = Some(open);
    }

    /// The socket is left behind, as by a daemon that was killed.
    pub fn refuse(&self) {
        if let Some(open) = self.lock().take() {
            rustix::net::shutdown(&*open.listener, rustix::net::Shutdown::Both).expect("it listens");
            open.thread.join().expect("accepting does not panic");
            open.streams.end();
        }
    }

    pub fn vanish(&self) {
        self.refuse();
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", self.path.display()),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().expect("nothing panics while it holds the lock")
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.vanish();
        }
    }
}

/// Those that are open, so that they can be ended.
#[derive(Default)]
struct Streams(Mutex<(bool, u64, HashMap<u64, UnixStream>)>);

impl Streams {
    fn lock(&self) -> MutexGuard<'_, (bool, u64, HashMap<u64, UnixStream>)> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }

    fn during(&self, stream: &UnixStream, work: impl FnOnce()) {
        let Ok(copy) = stream.try_clone() else { return };
        let number = {
            let (ended, next, open) = &mut *self.lock();
            if *ended {
                return;
            }
            *next += 1;
            open.insert(*next, copy);
            *next
        };
        work();
        self.lock().2.remove(&number);
    }

    fn end(&self) {
        let mut lock = self.lock();
        lock.0 = true;
        for stream in lock.2.values() {
            // The peer may have been quicker.
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(lock);
        eventually(Duration::from_secs(5), "the connections end", || {
            self.lock().2.is_empty()
        });
    }
}

fn serve(manner: &Manner, mut stream: &UnixStream, streams: &Streams) -> io::Result<()> {
    match manner {
        Manner::Relay(path) => {
            let server = UnixStream::connect(path)?;
            streams.during(&server, || relay(stream, &server));
        }
        Manner::Http(answer) => {
            let request = request(stream)?;
            let target = request.split(' ').nth(1).unwrap_or_default();
            stream.write_all(&answer(target))?;
        }
        Manner::Garbage => {
            stream.write_all(&b"\x00\xff garbage\r\n\r\n".repeat(1000))?;
            stream.shutdown(Shutdown::Write)?;
            io::copy(&mut stream, &mut io::sink())?;
        }
        Manner::ClosesAtOnce => {}
        Manner::NeverAnswers => {
            io::copy(&mut stream, &mut io::sink())?;
        }
    }
    Ok(())
}

/// Until either side ends.
fn relay(client: &UnixStream, server: &UnixStream) {
    let copy = |mut from: &UnixStream, mut to: &UnixStream| {
        drop(io::copy(&mut from, &mut to));
        for side in [client, server] {
            drop(side.shutdown(Shutdown::Both));
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(client, server));
        copy(server, client);
    });
}

fn request(mut stream: &UnixStream) -> io::Result<String> {
    const MAX_BYTES: usize = 64 << 10;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_BYTES {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(path: &Path) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        stream.write_all(b"GET /x HTTP/1.1\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn it_is_what_it_is_told_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let [inner, outer] = ["inner", "outer"].map(|name| Front::new(&folder.path().join(name)));
        let error = |front: &Front| says(front.path()).unwrap_err().kind();
        assert_eq!(error(&outer), io::ErrorKind::NotFound);
        inner.behave(Manner::Http(Arc::new(|target| target.into())));
        outer.behave(Manner::Relay(inner.path().to_owned()));
        assert_eq!(says(outer.path()).unwrap(), b"/x");

        // Whoever was connected is not any more.
        let mut connected = UnixStream::connect(outer.path()).unwrap();
        outer.behave(Manner::Garbage);
        assert_eq!(connected.read(&mut [0]).unwrap(), 0);
        assert!(says(outer.path()).unwrap().starts_with(b"\x00\xff garbage"));
        outer.behave(Manner::NeverAnswers);
        assert_eq!(error(&outer), io::ErrorKind::WouldBlock);
        outer.behave(Manner::ClosesAtOnce);
        assert!(says(outer.path()).unwrap_or_default().is_empty());
        outer.refuse();
        assert_eq!(error(&outer), io::ErrorKind::ConnectionRefused);
        outer.vanish();
        assert_eq!(error(&outer), io::ErrorKind::NotFound);
    }
}
