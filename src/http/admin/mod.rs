//! The admin API on its unix socket, for a person at the node and for the subcommands that speak for him. JSON.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /api/v1/containers` | [`ContainerList`] |
//! | `GET /api/v1/containers/{id}` | [`Container`](super::api::Container); the id with its slashes, percent-encoded or not |
//! | `GET /api/v1/containers/{id}/tap` | a stream of [`Event`](super::overheard::Event)s, see below; an id that itself ends with `/tap` has to be percent-encoded |
//! | `GET /api/v1/features` | [`Readiness`](super::api::Readiness) |
//! | `GET /api/v1/ledger` | [`Snapshot`](crate::base::ledger::Snapshot) |
//! | `GET /api/v1/actors` | [`Actors`] |
//! | `GET /api/v1/events` | a stream of [`Event`](super::event::Event)s, see below |
//! | `GET /api/v1/explain/{pid}` | [`Explained`](super::explained::Explained): why a process belongs where it belongs |
//! | `GET /api/v1/explain/{ip:port}` | the same: who connects to it or listens on it, and which rule would leave it out |
//! | `GET /api/v1/config` | [`Config`](crate::config::Config) as it is after all its layers and reloads |
//! | `POST /api/v1/reload` | [`Reloaded`](super::reload::Reloaded): reads the configuration again, as SIGHUP does |
//!
//! Everything else is an [`ErrorBody`] with 400 (neither a pid nor an address), 403 (the agent may not look at it, or taps are off),
//! 404 (no such path, container or process), 405 (another method), 503 (who would know
//! is being restarted, or 4 taps run already), 422 (the configuration is wrong, and the old one stays), 504 (who would know did not answer within
//! `http.scrape_timeout`) or, of the stream, 429 (8 clients have
//! one already).
//!
//! The stream is `text/event-stream`: `event: NAME`, `data: OBJECT`, an empty line. It begins when it is asked for; what there
//! is already is not told. Lines that start with a colon are comments: the first says that from there on the client misses
//! nothing that the agent learns (what it does not, `tarsier_events_dropped_total` tells), and every 10 s without an event one
//! shows that the agent lives. A client may be 16 384 events behind. Who is further behind gets those, a `lagged` event with the number of events that he missed, and the end; an agent that ends says `ended`.
//!
//! A tap is such a stream too, of the requests of one container, made and served: `exchange`s, `dropped` with a number where
//! there were more than 1024 in a reading or the client had no room, comments as above, and `ended` with the reason as the
//! last. A client may be 4096 exchanges behind. What is told is for `admin.tap` to say; the log says who has watched, when a
//! tap begins and when it ends.
//!
//! Builds with the feature `test-hooks` also break things: `POST /api/v1/test/panic/{actor}`,
//! `POST /api/v1/test/block/core?ms=N`, `POST /api/v1/test/lose-event`; 200 with `{}`, or 404 if there is no such thing. And
//! `POST /api/v1/test/dns-answered?name=HOST&addresses=IP,IP` tells of an answer of a name server.
pub mod events;
mod explain;
#[cfg(feature = "test-hooks")]
mod hooks;
pub mod tap;

use super::{
    api::{Actors, ContainerList, ErrorBody},
    public::readiness,
    reload::{ReloadError, Reloaded},
    scrape::{Collected, Faces, Silence, ask},
    views,
};
use crate::{
    base::ids::ContainerId,
    collect::CollectError,
    container::{actor::GetSamples, samples::Samples},
    registry::actor::{GetHeldSamples, GetSnapshot},
    supervisor::messages::{GetActors, GetContainers},
};
use actix_web::{
    App, FromRequest, Handler, HttpRequest, HttpResponse, HttpServer, Resource, Responder, ResponseError,
    dev::Server,
    http::{StatusCode, header},
    web::{self, Data, Json, Path, ServiceConfig},
};
use serde::Serialize;
use std::{io, os::unix::net::UnixListener, sync::Arc, time::Duration};

/// People ask one at a time.
const MAX_CONNECTIONS: usize = 64;
const SHUTDOWN_SECONDS: u64 = 1;

pub fn serve(listener: UnixListener, faces: Arc<Faces>) -> io::Result<Server> {
    let faces = Data::from(faces);
    let app = move || App::new().app_data(Data::clone(&faces)).configure(routes);
    let server = HttpServer::new(app)
        .on_connect(|connection, data| {
            let stream = connection.downcast_ref::<actix_web::rt::net::UnixStream>();
            if let Some(peer) = stream.and_then(|stream| stream.peer_cred().ok()) {
                data.insert(tap::Peer {
                    uid: peer.uid(),
                    pid: peer.pid(),
                });
            }
        })
        .workers(1)
        .worker_max_blocking_threads(1)
        .max_connections(MAX_CONNECTIONS)
        .keep_alive(Duration::from_secs(5))
        .client_request_timeout(Duration::from_secs(5))
        .client_disconnect_timeout(Duration::from_secs(1))
        // Or one that has hung up would be missed by the next heartbeat only.
        .h1_allow_half_closed(false)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .listen_uds(listener)?;
    Ok(server.run())
}

fn routes(app: &mut ServiceConfig) {
    app.service(get("/api/v1/containers", containers))
        .service(get("/api/v1/containers/{id:.*}/tap", tap::tap))
        .service(get("/api/v1/containers/{id:.*}", container))
        .service(get("/api/v1/features", features))
        .service(get("/api/v1/events", events::events))
        .service(get("/api/v1/explain/{subject:.*}", explain::explain))
        .service(get("/api/v1/ledger", ledger))
        .service(get("/api/v1/actors", actors))
        .service(get("/api/v1/config", config))
        .service(only("POST", web::resource("/api/v1/reload").post(reload)));
    #[cfg(feature = "test-hooks")]
    hooks::routes(app);
    app.default_service(web::to(nothing));
}

fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    only("GET", web::resource(path).get(handler))
}

fn only(allowed: &'static str, resource: Resource) -> Resource {
    let others = move || async move { Err::<HttpResponse, _>(ApiError::Method { allowed }) };
    resource.default_service(web::to(others))
}

#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("no container {id}")]
    NoContainer { id: ContainerId },
    #[error("{subject:?} is neither a pid nor an address with a port, as 10.0.0.1:80 or [::1]:80")]
    NoSubject { subject: String },
    #[error("no process {pid}")]
    NoProcess { pid: u32 },
    #[error("process {pid} has ended")]
    Ended { pid: u32 },
    #[error("process {pid} is there, but the agent has not heard of it yet, or has no room for it")]
    Unknown { pid: u32 },
    #[error("{pid} is a thread of the kernel: those belong to nobody")]
    KernelThread { pid: u32 },
    #[error("{pid} is the agent, which does not watch itself")]
    Own { pid: u32 },
    #[error("process {pid} cannot be looked at: {source}")]
    Unreadable { pid: u32, source: CollectError },
    #[error("there is nothing at {path}")]
    NoPath { path: String },
    #[error("only {allowed} is answered here")]
    Method { allowed: &'static str },
    #[error("taps are off (admin.tap in the configuration)")]
    NoTaps,
    #[error("{taps} taps run already")]
    Tapped { taps: usize },
    #[error("{clients} clients follow the events already")]
    Crowded { clients: usize },
    #[error("{message}")]
    Config { message: String },
    #[error("reading the configuration has failed, the log says why")]
    Reading,
    #[error("{who} is being restarted, try again")]
    Gone { who: &'static str },
    #[error("{who} did not answer within {limit:?}")]
    Late { who: &'static str, limit: Duration },
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NoSubject { .. } => StatusCode::BAD_REQUEST,
            Self::NoContainer { .. }
            | Self::NoPath { .. }
            | Self::NoProcess { .. }
            | Self::Ended { .. }
            | Self::Unknown { .. }
            | Self::KernelThread { .. }
            | Self::Own { .. } => StatusCode::NOT_FOUND,
            Self::Unreadable { .. } | Self::NoTaps => StatusCode::FORBIDDEN,
            Self::Crowded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Config { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Reading => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Gone { .. } | Self::Tapped { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Self::Method { allowed } = self {
            response.insert_header((header::ALLOW, *allowed));
        }
        response.json(ErrorBody {
            error: self.to_string(),
        })
    }
}

impl Faces {
    fn silent(&self, who: &'static str) -> impl Fn(Silence) -> ApiError {
        let limit = self.config.get().http.scrape_timeout;
        move |silence| match silence {
            Silence::Gone => ApiError::Gone { who },
            Silence::Late => ApiError::Late { who, limit },
        }
    }
}

const SUPERVISOR: &str = "the supervisor";
const REGISTRY: &str = "the registry";
const CONTAINER: &str = "the container";
const CORE: &str = "the core";

async fn nothing(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::NoPath {
        path: request.path().to_owned(),
    })
}

async fn containers(faces: Data<Faces>) -> Result<Json<ContainerList>, ApiError> {
    let collected = faces.collect(faces.deadline()).await;
    let Collected {
        samples, late, held, ..
    } = collected.map_err(faces.silent(SUPERVISOR))?;
    if samples.is_empty() {
        // An empty list would say that there are none.
        if late > 0 {
            return Err(faces.silent(CORE)(Silence::Late));
        }
        held.map_err(faces.silent(REGISTRY))?;
    }
    let merged = Samples::merge(&samples);
    Ok(Json(ContainerList {
        containers: merged.iter().map(|container| views::summary(container)).collect(),
        late,
    }))
}

fn container_id(path: &str) -> ContainerId {
    ContainerId::from(format!("/{}", path.trim_start_matches('/')))
}

async fn container(faces: Data<Faces>, path: Path<String>) -> Result<HttpResponse, ApiError> {
    let id = container_id(&path);
    let deadline = faces.deadline();
    let list = ask(faces.containers.send(GetContainers), deadline).await;
    let list = list.map_err(faces.silent(SUPERVISOR))?;
    let mut samples = Vec::new();
    for (_, actor) in list.running.iter().filter(|(running, _)| *running == id) {
        let answer = ask(actor.send(GetSamples), deadline).await;
        samples.push(answer.map_err(faces.silent(CONTAINER))?);
    }
    let held = match &list.held {
        Some(registry) => ask(registry.send(GetHeldSamples), deadline).await,
        None => Err(Silence::Gone),
    };
    match held {
        Ok(held) => samples.extend(held.into_iter().filter(|held| held.id == id)),
        Err(silence) if samples.is_empty() => return Err(faces.silent(REGISTRY)(silence)),
        Err(_) => {}
    }
    match Samples::merge(&samples).first() {
        Some(found) => Ok(HttpResponse::Ok().json(views::container(found))),
        None => Err(ApiError::NoContainer { id }),
    }
}

async fn features(faces: Data<Faces>) -> impl Responder {
    Json(readiness(&faces))
}

async fn ledger(faces: Data<Faces>) -> impl Responder {
    Json(faces.ctx.ledger.snapshot())
}

async fn actors(faces: Data<Faces>) -> Result<Json<impl Serialize>, ApiError> {
    let deadline = faces.deadline();
    let (rows, list) = tokio::join!(
        ask(faces.actors.send(GetActors), deadline),
        ask(faces.containers.send(GetContainers), deadline)
    );
    let registry = match list.ok().and_then(|list| list.registry) {
        Some(registry) => ask(registry.send(GetSnapshot), deadline).await.ok(),
        None => None,
    };
    Ok(Json(Actors {
        actors: rows.map_err(faces.silent(SUPERVISOR))?,
        registry,
        tables: faces.side_tables(),
        kernel: faces.kernel.report(),
    }))
}

async fn config(faces: Data<Faces>) -> HttpResponse {
    HttpResponse::Ok().json(&*faces.config.get())
}

async fn reload(faces: Data<Faces>) -> Result<Json<Reloaded>, ApiError> {
    let reloaded = Arc::clone(&faces).reload().await;
    reloaded.map(Json).map_err(|error| match error {
        ReloadError::Refused { message } => ApiError::Config { message },
        ReloadError::Failed => ApiError::Reading,
        ReloadError::Unconfirmed(silence) => faces.silent(REGISTRY)(silence),
    })
}

#[cfg(test)]
mod tests;
