//! The public listener: what a scraper and whoever keeps the agent running may know. Nothing about single requests, no
//! configuration, nothing that changes anything.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /metrics` | 200, the text format 0.0.4, gzipped for whoever takes that |
//! | `GET /healthz` | 200 `ok`; 503 with the threads that have been silent for half of `supervisor.watchdog` |
//! | `GET /readyz` | 200 with [`Readiness`] as JSON; 503, with the same, only if nothing at all is collected |
//!
//! Any other path is 404, any other method 405; both without a body.
use super::{
    api::Readiness,
    scrape::{Faces, Scraper},
};
use crate::metrics::text;
use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    http::StatusCode,
    middleware::Compress,
    web::{self, Data, ServiceConfig},
};
use std::{io, net::TcpListener, sync::Arc, time::Duration};

/// One for a large scrape, one that is still there for the rest.
const WORKERS: usize = 2;
/// For each worker. A scraper has one, a kubelet another now and then; what is beyond waits in the backlog.
const MAX_CONNECTIONS: usize = 128;
/// Longer than the usual scrape interval, so that a scraper keeps its connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// To send a whole request head. How large that may be (128 KiB, 96 headers) is fixed in actix.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const SHUTDOWN_SECONDS: u64 = 1;

pub fn serve(listener: TcpListener, faces: Arc<Faces>) -> io::Result<Server> {
    let scraper = Data::new(Scraper::new(faces));
    let app = move || {
        App::new()
            .app_data(Data::clone(&scraper))
            .wrap(Compress::default())
            .configure(routes)
    };
    let server = HttpServer::new(app)
        .workers(WORKERS)
        // Compresses what is large.
        .worker_max_blocking_threads(1)
        .max_connections(MAX_CONNECTIONS)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

fn routes(app: &mut ServiceConfig) {
    app.service(web::resource("/metrics").get(metrics))
        .service(web::resource("/healthz").get(healthz))
        .service(web::resource("/readyz").get(readyz));
}

async fn metrics(scraper: Data<Scraper>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(text::CONTENT_TYPE)
        .body(scraper.text().await)
}

async fn healthz(scraper: Data<Scraper>) -> HttpResponse {
    let faces = &scraper.faces;
    let limit = faces.config.supervisor.watchdog / 2;
    let silent = faces.ctx.pulses.silent(faces.ctx.clock.monotonic_ns(), limit);
    if silent.is_empty() {
        return HttpResponse::Ok().content_type("text/plain").body("ok\n");
    }
    let lines = silent
        .into_iter()
        .map(|(thread, age)| format!("{thread}: no sign of life for {}s\n", age.as_secs()));
    HttpResponse::ServiceUnavailable()
        .content_type("text/plain")
        .body(lines.collect::<String>())
}

async fn readyz(scraper: Data<Scraper>) -> HttpResponse {
    let readiness = readiness(&scraper.faces);
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    HttpResponse::build(status).json(readiness)
}

pub(super) fn readiness(faces: &Faces) -> Readiness {
    Readiness {
        ready: faces.kernel.report().collects,
        features: faces.ctx.features.rows(),
    }
}
