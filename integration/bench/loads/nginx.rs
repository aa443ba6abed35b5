//! One worker that answers from its configuration: as many requests a second as a server can have.
use super::{Load, Scene, Server};
use crate::tools::{self, Outcome, detached};
use anyhow::Result;
use rustix::process::Signal;
use std::{fs, time::Duration};

#[derive(Clone, Copy)]
pub(super) enum Connections {
    Kept,
    PerRequest,
}

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

    fn run(&mut self, seconds: u64) -> Result<Outcome> {
        let (duration, url) = (format!("-d{seconds}s"), format!("http://{}/", self.scene.address()));
        let mut words = vec!["wrk", "-t1", "-c32", "--latency", &duration];
        if let Connections::PerRequest = self.connections {
            words.extend(["-H", "Connection: close"]);
        }
        words.push(&url);
        let limit = Duration::from_secs(seconds + 30);
        tools::wrk(&tools::run(detached(self.scene.client(), &words), limit)?)
    }
}
