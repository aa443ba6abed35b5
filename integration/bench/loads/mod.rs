//! What is measured: each load is a server and a client in a network namespace of their own, where nobody else connects.
pub(crate) mod containers;
mod dns;
mod idle;
mod nginx;
mod postgres;
mod redis;
mod storm;

use crate::{interrupt, tools::Outcome};
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::SocketAddr,
    process::{Child, Command},
    time::Duration,
};
use tarsier_integration::{Cgroup, Netns, Place, Stopwatch, has_tool, pause};
use tempfile::TempDir;

/// One that stands ready to be run again and again.
pub(crate) trait Load {
    fn scene(&self) -> &Scene;

    /// The containers that connect.
    fn clients(&self) -> BTreeSet<String> {
        BTreeSet::from([self.scene().client.id().to_owned()])
    }

    /// The metric of what it makes, if that is not connects.
    fn counts(&self) -> Option<&'static str> {
        None
    }

    /// What of that it makes in each run besides what it speaks of.
    fn besides(&self) -> u64 {
        0
    }

    /// What goes before, with the agent there and outside the measurement.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, seconds: u64) -> Result<Outcome>;

    fn end(&mut self) {}
}

pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What it counts.
    pub(crate) unit: &'static str,
    /// Whether it has a speed to compare.
    pub(crate) compared: bool,
    has_tools: fn() -> Result<(), &'static str>,
    pub(crate) prepare: fn() -> Result<Box<dyn Load>>,
}

impl Kind {
    /// The name of what is missing here.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        (self.has_tools)().err()
    }
}

fn tools(names: &[&'static str]) -> Result<(), &'static str> {
    match names.iter().find(|name| !has_tool(name)) {
        Some(name) => Err(name),
        None => Ok(()),
    }
}

pub(crate) const ALL: &[Kind] = &[
    Kind {
        name: "nginx",
        unit: "request",
        compared: true,
        has_tools: || tools(&["nginx", "wrk"]),
        prepare: || nginx::prepare(nginx::Connections::Kept),
    },
    Kind {
        name: "nginx-9k",
        unit: "request",
        // A fixed pace, of which nothing is lost before the machine is full.
        compared: true,
        has_tools: || tools(&["nginx", "wrk"]),
        prepare: || nginx::prepare(nginx::Connections::Paced),
    },
    Kind {
        name: "nginx-short",
        unit: "request",
        compared: true,
        has_tools: || tools(&["nginx", "wrk"]),
        prepare: || nginx::prepare(nginx::Connections::PerRequest),
    },
    Kind {
        name: "redis",
        unit: "request",
        compared: true,
        has_tools: || tools(&["redis-server", "redis-benchmark"]),
        prepare: || redis::prepare(1),
    },
    Kind {
        name: "redis-p16",
        unit: "request",
        compared: true,
        has_tools: || tools(&["redis-server", "redis-benchmark"]),
        prepare: || redis::prepare(16),
    },
    Kind {
        name: "pgbench",
        unit: "transaction",
        compared: true,
        has_tools: || postgres::folder().map(drop),
        prepare: postgres::prepare,
    },
    Kind {
        name: "dns",
        unit: "question",
        compared: true,
        has_tools: || tools(&["dnsmasq", "dnsperf"]),
        prepare: dns::prepare,
    },
    Kind {
        name: "idle",
        unit: "connection and second",
        compared: false,
        has_tools: || Ok(()),
        prepare: idle::prepare,
    },
    Kind {
        name: "containers",
        unit: "connection",
        compared: true,
        has_tools: || Ok(()),
        prepare: containers::prepare,
    },
    Kind {
        name: "storm",
        unit: "process",
        compared: true,
        has_tools: || Ok(()),
        prepare: storm::prepare,
    },
];

pub(crate) struct Scene {
    pub(crate) netns: Netns,
    client: Cgroup,
    server: Cgroup,
    folder: TempDir,
}

impl Scene {
    fn new() -> Result<Self> {
        Ok(Self {
            netns: Netns::new(),
            client: Cgroup::service("client"),
            server: Cgroup::service("server"),
            folder: tempfile::Builder::new().prefix("tarsier-bench-").tempdir()?,
        })
    }

    fn client(&self) -> Place<'_> {
        Place::new().cgroup(&self.client).netns(&self.netns)
    }

    fn server(&self) -> Place<'_> {
        Place::new().cgroup(&self.server).netns(&self.netns)
    }

    /// Where the server listens. Not 127.0.0.1: an agent may leave out the loopback of a namespace that is not the host's.
    /// Client and server are in the same, so it is the loopback device all the same.
    fn address(&self) -> SocketAddr {
        self.netns.inside(PORT)[0]
    }

    fn ip(&self) -> String {
        self.address().ip().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Connects of the namespace so far, as its kernel counts them: what an agent should have seen.
    pub(crate) fn connects(&self) -> u64 {
        self.netns.snmp("Tcp", "ActiveOpens") - self.netns.snmp("Tcp", "AttemptFails")
    }
}

const PORT: u16 = 8000;

/// A daemon that stays in the foreground.
struct Server {
    child: Child,
    /// What makes it end with all its children.
    signal: Signal,
}

impl Server {
    fn start(command: Command, signal: Signal, scene: &Scene) -> Result<Self> {
        Self::start_at(PORT, command, signal, scene)
    }

    fn start_at(port: u16, mut command: Command, signal: Signal, scene: &Scene) -> Result<Self> {
        let log = scene.path("server.log");
        let file = File::create(&log)?;
        let child = command.stdout(file.try_clone()?).stderr(file).spawn();
        let child = child.with_context(|| format!("starting {command:?}"))?;
        let mut server = Self { child, signal };
        let up = server.wait_until_it_listens(port);
        up.with_context(|| format!("{command:?}\n{}", fs::read_to_string(log).unwrap_or_default()))?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self, port: u16) -> Result<()> {
        let watch = Stopwatch::start();
        // That of its namespace. Asking by a connect would count as one.
        let table = format!("/proc/{}/net/tcp", self.child.id());
        let row = format!(":{port:04X} 00000000:0000 0A ");
        while !fs::read_to_string(&table).unwrap_or_default().contains(&row) {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "the server ended: {ended:?}");
            ensure!(watch.elapsed() < Duration::from_secs(30), "the server does not listen");
            interrupt::check()?;
            pause(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child, self.signal);
    }
}

/// Asks it to end, and insists after a while.
pub(crate) fn end(child: &mut Child, signal: Signal) {
    let watch = Stopwatch::start();
    let mut asked = false;
    while matches!(child.try_wait(), Ok(None)) {
        if watch.elapsed() > Duration::from_secs(10) {
            drop(child.kill());
        } else if !asked {
            asked = kill_process(Pid::from_child(child), signal).is_ok();
        }
        pause(Duration::from_millis(20));
    }
}
