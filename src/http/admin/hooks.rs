use super::{ApiError, SUPERVISOR};
use crate::{
    decode::DnsAnswered,
    http::scrape::{Faces, ask},
    supervisor::messages::Break,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Path, Query, ServiceConfig},
};
use serde::Deserialize;
use std::{net::IpAddr, time::Duration};

pub(super) fn routes(app: &mut ServiceConfig) {
    app.route("/api/v1/test/panic/{actor}", web::post().to(panic))
        .route("/api/v1/test/block/core", web::post().to(block))
        .route("/api/v1/test/lose-event", web::post().to(lose))
        .route("/api/v1/test/dns-answered", web::post().to(answered));
}

async fn send(faces: &Faces, request: &HttpRequest, what: Break) -> Result<HttpResponse, ApiError> {
    let broken = ask(faces.breaker.send(what), faces.deadline()).await;
    if broken.map_err(faces.silent(SUPERVISOR))? {
        return Ok(HttpResponse::Ok().json(serde_json::json!({})));
    }
    Err(ApiError::NoPath {
        path: request.path().to_owned(),
    })
}

async fn panic(faces: Data<Faces>, request: HttpRequest, actor: Path<String>) -> Result<HttpResponse, ApiError> {
    send(&faces, &request, Break::Panic(actor.into_inner())).await
}

#[derive(Deserialize)]
struct For {
    ms: u64,
}

async fn block(faces: Data<Faces>, request: HttpRequest, length: Query<For>) -> Result<HttpResponse, ApiError> {
    send(&faces, &request, Break::BlockCore(Duration::from_millis(length.ms))).await
}

async fn lose(faces: Data<Faces>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    send(&faces, &request, Break::LoseEvent).await
}

#[derive(Deserialize)]
struct Answered {
    name: String,
    /// With commas between; what is none is left out.
    addresses: String,
}

async fn answered(faces: Data<Faces>, request: HttpRequest, of: Query<Answered>) -> Result<HttpResponse, ApiError> {
    let of = of.into_inner();
    let addresses = of.addresses.split(',').filter_map(|ip| ip.parse::<IpAddr>().ok());
    let answer = DnsAnswered {
        name: of.name.into_bytes().into(),
        addresses: addresses.collect(),
    };
    send(&faces, &request, Break::DnsAnswered(answer)).await
}
