//! Docker, and Podman through the interface in which it is like Docker.
//!
//! Events come through bollard. Containers are asked for directly: the types of bollard hold everything that an answer has,
//! and labels are anybody's. Either way a connection breaks when an answer is too long.
mod answer;
mod transport;

use super::{Change, Client, Lookup, Runtime, RuntimeError, brief, globs, metadata::Metadata};
use crate::base::clock::{Clock, SystemClock};
use bollard::{
    API_DEFAULT_VERSION, BollardRequest, ClientVersion,
    errors::Error,
    models::EventMessage,
    query_parameters::{EventsOptions, EventsOptionsBuilder},
};
use futures_util::{Stream, StreamExt, future::join_all};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};
use transport::{Meter, exchange};

/// Where it listens, tried in this order. Not those below /run/user: they are their users', who could claim any id there. The
/// snap listens where the package does.
pub const DOCKER_SOCKETS: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];
pub const PODMAN_SOCKETS: [&str; 1] = ["/run/podman/podman.sock"];

/// Of one answer.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// One event has all labels of its container, and is read anew for each part of it that comes.
const MAX_EVENT_BYTES: usize = 4 << 20;
/// Answers that are longer are taken in one at a time.
const LARGE_BYTES: usize = 512 << 10;
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Within that for a connect, so that one socket that does not answer is not the end of the others.
const SOCKET_LIMIT: Duration = Duration::from_millis(1500);
const PING: &str = "ping";
/// Podman may answer with the first event only.
const FOR_EVER_SECONDS: u64 = 1 << 32;

pub type Docker = Engine<false>;
pub type Podman = Engine<true>;

pub struct Engine<const PODMAN: bool> {
    socket: PathBuf,
    large: Semaphore,
    events: Mutex<Events>,
}

struct Events {
    stream: Pin<Box<dyn Stream<Item = Result<EventMessage, Error>>>>,
    meter: Meter,
}

impl<const PODMAN: bool> Client for Engine<PODMAN> {
    const RUNTIME: Runtime = if PODMAN { Runtime::Podman } else { Runtime::Docker };

    async fn connect(sockets: &[PathBuf]) -> Result<Self, RuntimeError> {
        let attempts = globs::present(sockets).await.into_iter().map(Self::to);
        let mut first = None;
        for attempt in join_all(attempts).await {
            match attempt {
                Ok(Some(engine)) => return Ok(engine),
                // The other engine, under this one's name.
                Ok(None) => {}
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| RuntimeError::NoSocket {
            runtime: Self::RUNTIME.as_str(),
            paths: sockets.to_vec(),
        }))
    }

    async fn inspect(&self, lookup: &Lookup) -> Result<Option<Metadata>, RuntimeError> {
        let Lookup::Engine { id, .. } = lookup else {
            return Ok(None);
        };
        // A path of cgroups is anybody's, too.
        if !is_id(id) {
            return Ok(None);
        }
        let Some(body) = self.get("inspect", &format!("/containers/{id}/json")).await? else {
            return Ok(None);
        };
        let body = String::from_utf8_lossy(&body);
        let found = answer::container(Self::RUNTIME, id, &body);
        found.map(Some).ok_or_else(|| RuntimeError::Nonsense {
            op: "inspect",
            what: brief(&body),
        })
    }

    async fn next_change(&self) -> Result<Change, RuntimeError> {
        let mut events = self.events.lock().await;
        loop {
            let event = events.stream.next().await;
            let event = event.ok_or_else(|| RuntimeError::Broken {
                op: "events",
                source: "the stream has ended".into(),
            })?;
            let event = event.map_err(|error| failed("events", &events.meter, error))?;
            events.meter.refill();
            if let Some(change) = change(event) {
                return Ok(change);
            }
        }
    }
}

impl<const PODMAN: bool> Engine<PODMAN> {
    /// `None`: it is the other engine that listens there.
    async fn to(socket: PathBuf) -> Result<Option<Self>, RuntimeError> {
        let since = SystemClock.wall_ns() / 1_000_000_000;
        let greeted = timeout(SOCKET_LIMIT, greet(&socket)).await;
        let (is_podman, version) = greeted.map_err(|_elapsed| RuntimeError::Deadline {
            op: PING,
            after: SOCKET_LIMIT,
        })??;
        if is_podman != PODMAN {
            return Ok(None);
        }
        let meter = Meter::new(MAX_EVENT_BYTES);
        let bollard = bollard(socket.clone(), meter.clone(), &version)?;
        let stream = bollard.events(Some(container_events(since)));
        Ok(Some(Self {
            socket,
            large: Semaphore::new(1),
            events: Mutex::new(Events {
                stream: Box::pin(stream),
                meter,
            }),
        }))
    }

    /// `None`: there is no such thing.
    async fn get(&self, op: &'static str, target: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        let request = Request::get(target).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| RuntimeError::Broken {
            op,
            source: error.into(),
        })?;
        let meter = Meter::new(MAX_ANSWER_BYTES + MAX_HEAD_BYTES);
        let response = exchange(&self.socket, meter.clone(), request).await;
        let response = response.map_err(|error| unreachable(&self.socket, op, &meter, error))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = self.body(response.into_body()).await;
        let body = body.map_err(|error| failed(op, &meter, error.into()))?;
        if status == StatusCode::OK {
            return Ok(Some(body));
        }
        Err(RuntimeError::Nonsense {
            op,
            what: brief(&format!("{status} {}", String::from_utf8_lossy(&body))),
        })
    }

    async fn body(&self, mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
        let mut bytes = Vec::new();
        let mut permit = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if permit.is_none() && bytes.len() + data.len() > LARGE_BYTES {
                permit = self.large.acquire().await.ok();
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}

/// Whether it is Podman, and which version of the interface it speaks. Asked for its version in so many words, Podman
/// runs all programs that it needs to hear theirs, which alone takes it a second.
async fn greet(socket: &Path) -> Result<(bool, ClientVersion), RuntimeError> {
    let request = Request::get("/_ping").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| RuntimeError::Broken {
        op: PING,
        source: error.into(),
    })?;
    let meter = Meter::new(MAX_HEAD_BYTES);
    let response = exchange(socket, meter.clone(), request).await;
    let response = response.map_err(|error| unreachable(socket, PING, &meter, error))?;
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let version = header("api-version").and_then(interface_version);
    let version = version.ok_or_else(|| RuntimeError::Nonsense {
        op: PING,
        what: format!("{} without a version", response.status()),
    })?;
    Ok((header("libpod-api-version").is_some(), version))
}

/// The highest that both sides know.
fn interface_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    let theirs = ClientVersion {
        major_version: major.parse().ok()?,
        minor_version: minor.parse().ok()?,
    };
    Some(if theirs < *API_DEFAULT_VERSION {
        theirs
    } else {
        *API_DEFAULT_VERSION
    })
}

fn unreachable(socket: &Path, op: &'static str, meter: &Meter, error: Error) -> RuntimeError {
    match error {
        Error::IOError { err } => RuntimeError::Connect {
            path: socket.to_owned(),
            source: err,
        },
        error => failed(op, meter, error),
    }
}

fn bollard(socket: PathBuf, meter: Meter, version: &ClientVersion) -> Result<bollard::Docker, RuntimeError> {
    let path = socket.clone();
    let transport = move |request: BollardRequest| {
        let (path, meter) = (path.clone(), meter.clone());
        async move { exchange(&path, meter, request).await }
    };
    let address = Some("http://localhost");
    bollard::Docker::connect_with_custom_transport(transport, address, FOR_EVER_SECONDS, version)
        .map_err(|error| unconnected(&socket, error))
}

fn unconnected(socket: &Path, error: Error) -> RuntimeError {
    RuntimeError::Connect {
        path: socket.to_owned(),
        source: std::io::Error::other(error),
    }
}

/// Which of its errors say that the connection is of no use.
fn failed(op: &'static str, meter: &Meter, error: Error) -> RuntimeError {
    if meter.is_empty() {
        return RuntimeError::Nonsense {
            op,
            what: "it is too long".to_owned(),
        };
    }
    match error {
        Error::IOError { .. } | Error::HyperResponseError { .. } | Error::RequestTimeoutError => RuntimeError::Broken {
            op,
            source: Box::new(error),
        },
        // They quote what they could not read.
        error => RuntimeError::Nonsense {
            op,
            what: brief(&error.to_string()),
        },
    }
}

/// In Docker's words and in Podman's. `since`: also what has happened while the connection was made.
fn container_events(since_seconds: u64) -> EventsOptions {
    let actions = ["create", "start", "rename", "die", "died", "destroy", "remove"];
    let filters = HashMap::from([("type", vec!["container"]), ("event", actions.to_vec())]);
    let options = EventsOptionsBuilder::default().since(&since_seconds.to_string());
    options.filters(&filters).build()
}

fn change(event: EventMessage) -> Option<Change> {
    let id = event.actor?.id.filter(|id| is_id(id))?;
    match event.action?.as_str() {
        "create" | "start" | "rename" => Some(Change::Changed(id.into())),
        "die" | "died" | "destroy" | "remove" => Some(Change::Gone(id.into())),
        _ => None,
    }
}

fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}
