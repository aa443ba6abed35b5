//! `pgbench -S` with a cluster of its own in a temporary folder, as nobody: the server refuses root.
use super::{Load, PORT, Scene, Server};
use crate::tools::{self, Outcome, detached};
use anyhow::{Context as _, Result};
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const NOBODY: u32 = 65_534;

struct Postgres {
    pgbench: String,
    _server: Server,
    scene: Scene,
}

/// Where the programs are; Debian has a folder per version, and not all of them in `PATH`.
pub(super) fn folder() -> Result<PathBuf, &'static str> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders: Vec<_> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.push(PathBuf::from("/usr/bin"));
    let complete =
        |folder: &PathBuf| ["initdb", "postgres", "pgbench"].map(|name| folder.join(name).is_file()) == [true; 3];
    folders.into_iter().find(complete).ok_or("postgresql")
}

pub(super) fn prepare() -> Result<Box<dyn Load>> {
    let programs = folder().ok().context("postgresql is gone")?;
    let program = |name: &str| programs.join(name).display().to_string();
    let scene = Scene::new()?;
    let (data, port, nobody) = (scene.path("data"), PORT.to_string(), NOBODY.to_string());
    let owned = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY));
    owned(scene.folder.path())?;
    let as_nobody = ["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups"];
    let start = |words: &[&str]| {
        let mut command = detached(scene.server(), &[&as_nobody[..], words].concat());
        command.current_dir(scene.folder.path());
        command
    };
    let (initdb, postgres, pgbench) = (program("initdb"), program("postgres"), program("pgbench"));
    let make = start(&[&initdb, "-D", &data, "-U", "bench", "-A", "trust", "--no-sync"]);
    tools::run(make, Duration::from_secs(120))?;
    fs::write(Path::new(&data).join("pg_hba.conf"), "host all all all trust\n")?;
    let mut words = vec![postgres.as_str(), "-D", &data, "-p", &port];
    let listen = format!("listen_addresses={}", scene.ip());
    for setting in ["fsync=off", &listen, "unix_socket_directories="] {
        words.extend(["-c", setting]);
    }
    let server = Server::start(start(&words), Signal::INT, &scene)?;
    let load = Postgres {
        pgbench,
        _server: server,
        scene,
    };
    load.pgbench(&["-i", "-q", "-s", "5"], Duration::from_secs(120))?;
    Ok(Box::new(load))
}

impl Postgres {
    fn pgbench(&self, arguments: &[&str], limit: Duration) -> Result<String> {
        let (ip, port) = (self.scene.ip(), PORT.to_string());
        let who = [self.pgbench.as_str(), "-h", &ip, "-p", &port, "-U", "bench"];
        let words = [&who[..], arguments, &["postgres"]].concat();
        tools::run(detached(self.scene.client(), &words), limit)
    }
}

impl Load for Postgres {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn counts(&self) -> Option<&'static str> {
        Some("container_postgres_queries_total")
    }

    /// It looks at how large the tables are, and how they are divided.
    fn besides(&self) -> u64 {
        2
    }

    fn run(&mut self, seconds: u64) -> Result<Outcome> {
        let duration = seconds.to_string();
        let arguments = ["-S", "-n", "-c", "8", "-T", &duration];
        tools::pgbench(&self.pgbench(&arguments, Duration::from_secs(seconds + 30))?)
    }
}
