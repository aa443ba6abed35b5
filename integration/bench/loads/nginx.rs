//! One worker that answers from its configuration: as many requests a second as a server can have.
use super::{Load, Scene, Server};
use crate::tools::{self, Outcome, detached};
use anyhow::Result;
use rustix::process::Signal;
use std::{fs, time::Duration};

#[derive(Clone, Copy)]
pub(super) enum Connections {
    Kept,
    /// Each rests for three milliseconds before it asks again: about 9 000 requests a second in all.
    Paced,
    PerRequest,
}

const PACE: &str = "function delay() return 3 end\n";

struct Nginx {
    connections: Connections,
    _server: Server,
    scene: Scene,
}

pub(super) fn prepare(connections: Connections) -> Result<Box<dyn Load>> {
    let scene = Scene::new()?;
    let (config, folder, log) = (scene.path("nginx.conf"), scene.path(""), scene.path("error.log"));
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("{what}_temp_path {what};"));
    let text = format!(
        "daemon off; worker_processes 1; pid nginx.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; {}\n\
         server {{ listen {} backlog=4096; location / {{ return 200 \"ok\\n\"; }} }} }}\n",
        temporary.join(" "),
        scene.address()
    );
    fs::write(&config, text)?;
    fs::write(scene.path("pace.lua"), PACE)?;
    let command = detached(scene.server(), &["nginx", "-p", &folder, "-e", &log, "-c", &config]);
    Ok(Box::new(Nginx {
        connections,
        _server: Server::start(command, Signal::TERM, &scene)?,
        scene,
    }))
}

impl Load for Nginx {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn counts(&self) -> Option<&'static str> {
        Some("container_http_requests_total")
    }

    fn run(&mut self, seconds: u64) -> Result<Outcome> {
        let (duration, url) = (format!("-d{seconds}s"), format!("http://{}/", self.scene.address()));
        let pace = self.scene.path("pace.lua");
        let mut words = vec!["wrk", "-t1", "-c32", "--latency", &duration];
        match self.connections {
            Connections::Kept => {}
            Connections::Paced => words.extend(["-s", &pace]),
            Connections::PerRequest => words.extend(["-H", "Connection: close"]),
        }
        words.push(&url);
        let limit = Duration::from_secs(seconds + 30);
        tools::wrk(&tools::run(detached(self.scene.client(), &words), limit)?)
    }
}
