//! GETs by fifty clients. `redis-benchmark` wants a number of requests, so a first run tells how many a second has.
use super::{Load, PORT, Scene, Server};
use crate::tools::{self, Outcome, detached};
use anyhow::Result;
use rustix::process::Signal;
use std::time::Duration;

struct Redis {
    pipeline: u64,
    per_second: f64,
    _server: Server,
    scene: Scene,
}

pub(super) fn prepare(pipeline: u64) -> Result<Box<dyn Load>> {
    let scene = Scene::new()?;
    let (ip, port, folder) = (scene.ip(), PORT.to_string(), scene.path(""));
    let words = [
        "redis-server",
        "--bind",
        &ip,
        "--protected-mode",
        "no",
        "--port",
        &port,
        "--save",
        "",
        "--dir",
        &folder,
    ];
    let server = Server::start(detached(scene.server(), &words), Signal::TERM, &scene)?;
    let mut redis = Redis {
        pipeline,
        per_second: 0.0,
        _server: server,
        scene,
    };
    redis.per_second = redis.requests(20_000 * pipeline)?.per_second;
    Ok(Box::new(redis))
}

impl Redis {
    fn requests(&self, count: u64) -> Result<Outcome> {
        let (ip, port) = (self.scene.ip(), PORT.to_string());
        let (pipeline, number) = (self.pipeline.to_string(), count.to_string());
        let words = [
            "redis-benchmark",
            "-h",
            &ip,
            "-p",
            &port,
            "-c",
            "50",
            "-t",
            "get",
            "-P",
            &pipeline,
            "-n",
            &number,
            "--csv",
        ];
        // It tries for ever when its server is gone.
        let printed = tools::run(detached(self.scene.client(), &words), Duration::from_secs(300))?;
        tools::redis(&printed, count)
    }
}

impl Load for Redis {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn counts(&self) -> Option<&'static str> {
        Some("container_redis_queries_total")
    }

    /// It asks for the server's configuration.
    fn besides(&self) -> u64 {
        2
    }

    fn run(&mut self, seconds: u64) -> Result<Outcome> {
        self.requests((self.per_second * seconds as f64) as u64)
    }
}
