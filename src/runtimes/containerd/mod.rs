//! containerd, over gRPC: Kubernetes' containers, nerdctl's, Docker's, and anybody else's.

mod events;
pub mod spec;
#[cfg(test)]
mod tests;

pub use events::change;

use super::{
    Change, Client, Lookup, Runtime, RuntimeError,
    metadata::{Metadata, limits},
    sockets,
};
use containerd_client::{
    services::v1::{
        GetContainerRequest, GetRequest, ListNamespacesRequest, containers_client::ContainersClient,
        namespaces_client::NamespacesClient, tasks_client::TasksClient, version_client::VersionClient,
    },
    tonic::{
        Code, Request, Status,
        codegen::{Service, http::Uri},
        transport::{Channel, Endpoint},
    },
};
use events::Events;
use futures_util::future::{Either, Ready, ready, select};
use hyper_util::rt::TokioIo;
use spec::Record;
use std::{
    error::Error as _,
    io,
    path::{Path, PathBuf},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::UnixStream, sync::Mutex};

/// A cluster's own containerd before the one that Docker brings.
pub const SOCKETS: [&str; 4] = [
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/k0s/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/containerd/containerd.sock",
];

const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Where a container most likely is.
const USUAL_NAMESPACES: [&str; 2] = ["k8s.io", "default"];
/// There containerd knows no names: who is in it Docker has to say.
const DOCKERS_NAMESPACE: &str = "moby";
/// Asking each takes a call.
const MAX_NAMESPACES: usize = 64;

/// Cgroups can have names that no namespace may have, the empty one included.
const NOT_THERE: [Code; 3] = [Code::NotFound, Code::InvalidArgument, Code::FailedPrecondition];

/// The daemon asks the container's shim, which may hang alone. Who a container is does not depend on it.
const SHIM_DEADLINE: Duration = Duration::from_secs(1);

pub struct Containerd {
    channel: Channel,
    events: Mutex<Events>,
}

impl Client for Containerd {
    const RUNTIME: Runtime = Runtime::Containerd;

    async fn connect(sockets: &[PathBuf]) -> Result<Self, RuntimeError> {
        sockets::first_that_answers(Self::RUNTIME.as_str(), sockets, Self::greet).await
    }

    async fn inspect(&self, lookup: &Lookup) -> Result<Option<Metadata>, RuntimeError> {
        match lookup {
            Lookup::Named { namespace, name } => self.container(namespace, name).await,
            Lookup::Engine { id, .. } => self.in_any_namespace(id).await,
            Lookup::Unit { .. } => Ok(None),
        }
    }

    async fn next_change(&self) -> Result<Change, RuntimeError> {
        self.events.lock().await.next().await
    }
}

impl Containerd {
    async fn greet(stream: UnixStream, path: &Path) -> Result<Self, RuntimeError> {
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(Once(Some(stream)))
            .await
            .map_err(|error| RuntimeError::Connect {
                path: path.to_owned(),
                source: io::Error::other(error),
            })?;
        let greeted = |outcome: Result<_, Status>| outcome.map_err(|status| failed("version", status));
        let mut client = VersionClient::new(channel.clone());
        let version = pin!(client.version(()));
        // Events are asked for first, so that whoever asks for a container afterwards misses no change of it.
        let events = match select(events::ask(channel.clone()), version).await {
            Either::Left((stream, version)) => {
                let stream = stream.map_err(|status| failed("events.subscribe", status))?;
                greeted(version.await)?;
                Events::Open(Box::new(stream))
            }
            Either::Right((version, asked)) => {
                greeted(version)?;
                Events::Asked(asked)
            }
        };
        Ok(Self {
            channel,
            events: Mutex::new(events),
        })
    }

    /// The list is asked for anew each time: a container may be the first of its namespace.
    async fn in_any_namespace(&self, id: &str) -> Result<Option<Metadata>, RuntimeError> {
        for namespace in USUAL_NAMESPACES {
            if let Some(found) = self.container(namespace, id).await? {
                return Ok(Some(found));
            }
        }
        let mut client = NamespacesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = client.list(ListNamespacesRequest::default()).await;
        let list = answer.map_err(|status| failed("namespaces.list", status))?.into_inner();
        let others = list.namespaces.iter().map(|namespace| namespace.name.as_str());
        for namespace in others
            .filter(|name| !USUAL_NAMESPACES.contains(name) && *name != DOCKERS_NAMESPACE)
            .take(MAX_NAMESPACES)
        {
            if let Some(found) = self.container(namespace, id).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn container(&self, namespace: &str, id: &str) -> Result<Option<Metadata>, RuntimeError> {
        let Some(request) = within(namespace, GetContainerRequest { id: id.to_owned() }) else {
            return Ok(None);
        };
        let mut client = ContainersClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let found = match client.get(request).await {
            Ok(answer) => answer.into_inner().container,
            Err(status) if NOT_THERE.contains(&status.code()) => None,
            Err(status) => return Err(failed("containers.get", status)),
        };
        let Some(container) = found else { return Ok(None) };
        let mut metadata = spec::describe(&Record {
            id,
            image: &container.image,
            labels: &container.labels,
            spec: container
                .spec
                .as_ref()
                .map(|spec| spec.value.as_slice())
                .unwrap_or_default(),
            cri: container
                .extensions
                .get(spec::CRI_METADATA)
                .map(|extension| extension.value.as_slice())
                .unwrap_or_default(),
        });
        // No longer than a name may be: containerd takes 76 bytes at most.
        metadata.namespace = namespace.chars().take(limits::NAME_BYTES).collect();
        metadata.pid = self.pid(namespace, id).await;
        Ok(Some(metadata))
    }

    /// 0 where none runs, or nobody says.
    async fn pid(&self, namespace: &str, id: &str) -> u32 {
        let request = GetRequest {
            container_id: id.to_owned(),
            exec_id: String::new(),
        };
        let Some(request) = within(namespace, request) else {
            return 0;
        };
        let mut client = TasksClient::new(self.channel.clone());
        let answer = tokio::time::timeout(SHIM_DEADLINE, client.get(request)).await;
        let process = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|answer| answer.into_inner().process);
        process.map_or(0, |process| process.pid)
    }
}

/// `None` if a header cannot hold the name.
fn within<T>(namespace: &str, message: T) -> Option<Request<T>> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace.parse().ok()?);
    Some(request)
}

/// What the daemon says itself, and what the decoder says of its answer, leaves the connection as it is.
fn failed(op: &'static str, status: Status) -> RuntimeError {
    const MOST_BYTES: usize = 200;
    if status.source().is_some() || [Code::Unavailable, Code::Cancelled].contains(&status.code()) {
        return RuntimeError::Broken {
            op,
            source: Box::new(status),
        };
    }
    let message = status.message();
    let message = message
        .get(..message.floor_char_boundary(MOST_BYTES))
        .unwrap_or_default();
    RuntimeError::Nonsense {
        op,
        what: format!("{:?}: {message:?}", status.code()),
    }
}

/// Gives its stream away once. Without another the channel cannot connect again behind the actor's back.
struct Once(Option<UnixStream>);

impl Service<Uri> for Once {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Ready<Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let stream = self.0.take().map(TokioIo::new);
        ready(stream.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
