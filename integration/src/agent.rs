//! The agent under test: the built binary, on a port, sockets and files of its own.
use crate::{Metrics, Response, eventually_some, free_port, http, http_get, pause, place, wait::Stopwatch};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// Far longer than an answer takes: what is slower fails elsewhere, where the time is the point.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent's binary: `TARSIER_IT_AGENT`, else the one that this workspace built.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("TARSIER_IT_AGENT") {
        return path.into();
    }
    let test = env::current_exe().expect("/proc is mounted");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps/<test>");
    let path = folder.join("tarsier");
    assert!(
        path.exists(),
        "{} is missing: cargo build --features test-hooks",
        path.display()
    );
    path
}

pub struct AgentBuilder {
    environment: Vec<(String, String)>,
    arguments: Vec<OsString>,
    wrapper: Vec<OsString>,
    config: String,
    folder: TempDir,
}

impl AgentBuilder {
    /// A key of the configuration, e.g. `("CONTAINERS__MIN_AGE", "0s")`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.environment.push((format!("TARSIER__{key}"), value.to_owned()));
        self
    }

    /// One more argument of `tarsier run`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A command that ends by executing its arguments: `setpriv ...`, `unshare ...`.
    #[must_use]
    pub fn wrapped_in(mut self, words: &[&str]) -> Self {
        self.wrapper.extend(words.iter().map(OsString::from));
        self
    }

    /// The configuration file instead of an empty one.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.config);
        self
    }

    /// The folder with its socket, lock and log; `admin.sock`, `tarsier.lock`, `log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it and waits until it collects.
    #[track_caller]
    pub fn start(self) -> Agent {
        let agent = self.spawn();
        agent.wait_until_ready();
        agent
    }

    /// Only starts it.
    #[track_caller]
    pub fn spawn(self) -> Agent {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        self.spawn_at(address)
    }

    #[track_caller]
    pub fn spawn_at(self, address: SocketAddr) -> Agent {
        let folder = self.folder.path();
        let path = |name: &str| folder.join(name);
        fs::write(path("tarsier.yaml"), &self.config).expect("the folder is ours");
        let mut words = self.wrapper.clone();
        words.push(binary().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("run");
        // A file of our own: the machine may have one in /etc.
        command.arg("--config").arg(path("tarsier.yaml"));
        command.arg("--listen").arg(address.to_string());
        command.arg("--admin-socket").arg(path("admin.sock"));
        command.args(["--log-format", "json"]).args(&self.arguments);
        command.env("TARSIER__AGENT__LOCK", path("tarsier.lock"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = File::create(path("log")).expect("the folder is ours");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("starting {words:?}: {error}"));
        Agent {
            child,
            address,
            folder: self.folder,
            ended: None,
        }
    }
}

/// A row of `/readyz`.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    pub name: String,
    pub state: String,
    pub reason: String,
    pub hint: String,
}

impl Feature {
    /// All that an answer of `/readyz` says.
    #[track_caller]
    pub fn rows(readyz: &Response) -> Vec<Self> {
        let body: Value = serde_json::from_slice(&readyz.body).expect("/readyz is JSON");
        let rows = body["features"]
            .as_array()
            .unwrap_or_else(|| panic!("/readyz has no features: {body}"));
        let text = |row: &Value, key: &str| {
            row[key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key}: {row}"))
                .to_owned()
        };
        let feature = |row| Self {
            name: text(row, "feature"),
            state: text(row, "state"),
            reason: text(row, "reason"),
            hint: text(row, "hint"),
        };
        rows.iter().map(feature).collect()
    }

    pub fn ok(&self) -> bool {
        self.state == "ok"
    }
}

pub struct Agent {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    ended: Option<ExitStatus>,
}

impl Agent {
    /// What the tests want unless they say otherwise: everything is exposed at once.
    pub fn builder() -> AgentBuilder {
        let folder = tempfile::Builder::new()
            .prefix("tarsier-it-")
            .tempdir()
            .expect("a temporary folder");
        let config = "# everything as it is\n".to_owned();
        let builder = AgentBuilder {
            environment: vec![],
            arguments: vec![],
            wrapper: vec![],
            config,
            folder,
        };
        builder
            .set("CONTAINERS__MIN_AGE", "0s")
            .set("KERNEL__TOTALS_INTERVAL", "1s")
    }

    /// Started with those.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    #[track_caller]
    pub fn wait_until_ready(&self) {
        eventually_some(Duration::from_secs(30), "the agent is ready", || {
            assert!(self.is_running(), "the agent ended:\n{}", self.log());
            self.get("/readyz").ok().filter(|response| response.status == 200)
        });
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn is_running(&self) -> bool {
        // A zombie still has its folder in /proc.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// From the public listener.
    pub fn get(&self, path: &str) -> Result<Response> {
        http_get(self.address, path, &[], PATIENCE)
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.metrics_text())
    }

    #[track_caller]
    pub fn metrics_text(&self) -> String {
        let response = self
            .get("/metrics")
            .unwrap_or_else(|error| panic!("/metrics: {error:#}"));
        assert_eq!(response.status, 200, "/metrics: {}", response.text());
        response.text()
    }

    /// Scrapes until `condition` holds, and returns that scrape. The failure shows what `show` names.
    #[track_caller]
    pub fn metrics_when(&self, show: &str, limit: Duration, condition: impl Fn(&Metrics) -> bool) -> Metrics {
        let watch = Stopwatch::start();
        loop {
            let metrics = self.metrics();
            if condition(&metrics) {
                return metrics;
            }
            let lines = metrics.lines("", &["machine_id", "system_uuid"]);
            let lines: Vec<_> = lines.into_iter().filter(|line| line.contains(show)).collect();
            assert!(
                watch.elapsed() < limit,
                "still not after {limit:?}; what has {show:?}:\n{}",
                lines.join("\n")
            );
            pause(Duration::from_millis(100));
        }
    }

    /// From the admin socket; the answer must be JSON and a success.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Value {
        self.ask(path).unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    pub fn ask(&self, path: &str) -> Result<Value> {
        let response = http::over_unix(&self.admin_socket(), "GET", path, PATIENCE)?;
        ensure!(response.status == 200, "{}: {}", response.status, response.text());
        Ok(serde_json::from_slice(&response.body)?)
    }

    /// A test hook.
    #[track_caller]
    pub fn hook(&self, name: &str) {
        let path = format!("/api/v1/test/{name}");
        let response = http::over_unix(&self.admin_socket(), "POST", &path, PATIENCE);
        let response = response.unwrap_or_else(|error| panic!("{path}: {error:#}"));
        assert!(
            (200..300).contains(&response.status),
            "{path}: {} {}",
            response.status,
            response.text()
        );
    }

    /// The rows of `/readyz`.
    #[track_caller]
    pub fn features(&self) -> Vec<Feature> {
        Feature::rows(&self.get("/readyz").unwrap_or_else(|error| panic!("/readyz: {error:#}")))
    }

    #[track_caller]
    pub fn feature(&self, name: &str) -> Feature {
        let found = self.features().into_iter().find(|row| row.name == name);
        found.unwrap_or_else(|| panic!("/readyz has no row {name}"))
    }

    /// SIGTERM; how long the end took and what it was.
    pub fn stop(mut self) -> (Duration, ExitStatus) {
        let watch = Stopwatch::start();
        self.signal(rustix::process::Signal::TERM);
        let status = self.wait_for_end(Duration::from_secs(20));
        (watch.elapsed(), status)
    }

    /// SIGKILL. Its folder stays, so that another can be started on it.
    pub fn kill(mut self) -> AgentBuilder {
        place::end(&mut self.child);
        self.ended = self.child.wait().ok();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"));
        AgentBuilder {
            folder,
            ..Self::builder()
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).expect("it is our child");
    }

    #[track_caller]
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let status = eventually_some(limit, "the agent ends", || {
            self.child.try_wait().expect("it is our child")
        });
        self.ended = Some(status);
        status
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Where an event went is what a failed test wants to know.
        let ledger = (std::thread::panicking() && self.ended.is_none()).then(|| self.ask("/api/v1/ledger"));
        if self.ended.is_none() {
            place::end(&mut self.child);
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            // A destructor that panics while panicking would abort the other tests.
            drop(writeln!(
                io::stderr(),
                "--- the agent's log, last lines\n{}\n--- its ledger\n{ledger:?}\n---",
                tail.join("\n")
            ));
        }
    }
}
