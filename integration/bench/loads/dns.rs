//! A name server that answers from its configuration, asked over UDP as fast as it answers.
use super::{Load, Scene, Server};
use crate::tools::{self, Outcome, detached};
use anyhow::Result;
use rustix::process::Signal;
use std::{fs, time::Duration};

struct Dns {
    _server: Server,
    scene: Scene,
}

/// As an agent expects it.
const NAME_SERVER: u16 = 53;

pub(super) fn prepare() -> Result<Box<dyn Load>> {
    let scene = Scene::new()?;
    let listen = format!("--listen-address={}", scene.ip());
    let words = [
        "dnsmasq",
        "--no-daemon",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--local=/example/",
        "--address=/one.example/192.0.2.1",
        &listen,
    ];
    fs::write(scene.path("questions"), "one.example A\nnone.example A\n")?;
    Ok(Box::new(Dns {
        _server: Server::start_at(NAME_SERVER, detached(scene.server(), &words), Signal::TERM, &scene)?,
        scene,
    }))
}

impl Load for Dns {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn counts(&self) -> Option<&'static str> {
        Some("container_dns_requests_total")
    }

    fn run(&mut self, seconds: u64) -> Result<Outcome> {
        let (ip, questions, time) = (self.scene.ip(), self.scene.path("questions"), seconds.to_string());
        let words = ["dnsperf", "-s", &ip, "-d", &questions, "-l", &time, "-c", "10"];
        let limit = Duration::from_secs(seconds + 30);
        tools::dnsperf(&tools::run(detached(self.scene.client(), &words), limit)?)
    }
}
