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
    let limit = faces.config.get().supervisor.watchdog / 2;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::ManualClock, features::feature},
        http::fakes::{FakeSupervisor, running},
        metrics::names,
        tracer::stats::KernelReport,
    };
    use actix_web::{
        body::to_bytes,
        http::header,
        test::{TestRequest, call_service, init_service},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    fn agent() -> (Arc<Faces>, Arc<ManualClock>) {
        let supervisor = FakeSupervisor {
            running: vec![running("/a", Duration::ZERO)],
            ..FakeSupervisor::default()
        };
        supervisor.faces()
    }

    struct Answer {
        status: u16,
        headers: header::HeaderMap,
        body: Vec<u8>,
    }

    impl Answer {
        fn text(&self) -> &str {
            std::str::from_utf8(&self.body).unwrap()
        }

        fn header(&self, name: &str) -> &str {
            self.headers.get(name).map_or("", |value| value.to_str().unwrap())
        }
    }

    async fn ask(faces: &Arc<Faces>, request: TestRequest) -> Answer {
        let scraper = Data::new(Scraper::new(Arc::clone(faces)));
        let app = App::new().app_data(scraper).wrap(Compress::default()).configure(routes);
        let response = call_service(&init_service(app).await, request.to_request()).await;
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: to_bytes(response.into_body()).await.ok().unwrap().to_vec(),
        }
    }

    async fn get(faces: &Arc<Faces>, path: &str) -> Answer {
        ask(faces, TestRequest::get().uri(path)).await
    }

    #[actix::test]
    async fn metrics_plain_and_gzipped() {
        let (faces, _clock) = agent();
        let plain = get(&faces, "/metrics").await;
        assert_eq!(plain.status, 200);
        assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4");
        assert_eq!(plain.header("content-encoding"), "");
        for family in [names::CONTAINER_INFO, names::BUILD_INFO] {
            assert!(
                plain.text().contains(&format!("\n{}{{", family.name)),
                "{}",
                plain.text()
            );
        }
        let request = TestRequest::get().uri("/metrics");
        let gzipped = ask(&faces, request.insert_header(("accept-encoding", "gzip"))).await;
        assert_eq!((gzipped.status, gzipped.header("content-encoding")), (200, "gzip"));
        assert!(gzipped.body.starts_with(&[0x1f, 0x8b]) && gzipped.body.len() < plain.body.len() / 2);
    }

    #[actix::test]
    async fn health_names_the_thread_that_is_silent() {
        let (faces, clock) = agent();
        faces.ctx.pulses.beat("core", 0);
        clock.advance(Duration::from_secs(14));
        faces.ctx.pulses.beat("tracer", 14_000_000_000);
        let healthy = get(&faces, "/healthz").await;
        assert_eq!((healthy.status, healthy.text()), (200, "ok\n"));
        clock.advance(Duration::from_secs(2));
        let sick = get(&faces, "/healthz").await;
        assert_eq!((sick.status, sick.text()), (503, "core: no sign of life for 16s\n"));
    }

    #[actix::test]
    async fn ready_while_anything_is_collected() {
        let (faces, _clock) = agent();
        faces.ctx.features.degraded(feature::BTF, "no_btf", "a hint");
        let blind = get(&faces, "/readyz").await;
        let expected =
            r#"{"ready":false,"features":[{"feature":"btf","state":"degraded","reason":"no_btf","hint":"a hint"}]}"#;
        assert_eq!((blind.status, blind.text()), (503, expected));
        assert_eq!(blind.header("content-type"), "application/json");
        faces.kernel.publish(KernelReport {
            collects: true,
            ..KernelReport::default()
        });
        let sees = get(&faces, "/readyz").await;
        assert_eq!((sees.status, sees.text()), (200, &*expected.replace("false", "true")));
    }

    #[actix::test]
    async fn nothing_else() {
        let (faces, _clock) = agent();
        for path in [
            "/",
            "/metrics/",
            "/metrics/x",
            "/api/v1/config",
            "/api/v1/containers",
            "/debug",
            "//metrics",
        ] {
            let answer = get(&faces, path).await;
            assert_eq!((answer.status, answer.text()), (404, ""), "{path}");
        }
        for path in ["/metrics", "/healthz", "/readyz"] {
            for request in [TestRequest::post(), TestRequest::delete(), TestRequest::put()] {
                let answer = ask(&faces, request.uri(path)).await;
                assert_eq!(
                    (answer.status, answer.header("allow"), answer.text()),
                    (405, "GET", ""),
                    "{path}"
                );
            }
        }
    }

    #[actix::test]
    async fn over_a_real_socket() {
        let (faces, _clock) = agent();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = serve(listener, faces).unwrap();
        let handle = server.handle();
        let server = actix_rt::spawn(server);
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        connection.write_all(request).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(names::BUILD_INFO.name), "{answer}");
        // One that says nothing more does not hold up the end.
        let _idle = TcpStream::connect(address).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(5), handle.stop(true)).await;
        ended.unwrap();
        server.await.unwrap().unwrap();
    }
}
