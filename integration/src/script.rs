//! The daemons of `runtimes/`: each test that needs one has its own, in a folder that goes with it.
use crate::unique;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

pub struct Script {
    path: PathBuf,
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Script {
    /// `name` is a file of `runtimes/` that knows the verbs `start` and `stop`.
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes").join(name);
        assert!(path.exists(), "{} is missing", path.display());
        let folder = tempfile::Builder::new()
            .prefix(&unique("rt"))
            .tempdir()
            .expect("a temporary folder");
        Self {
            path,
            folder,
            environment: Vec::new(),
        }
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its own files are in here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// To the daemon that has its files in the folder `name`.
    #[track_caller]
    pub fn signal(&self, name: &str, signal: Signal) {
        let file = self.folder().join(name).join("pid");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let pid = pid.and_then(Pid::from_raw).expect("the script wrote it");
        kill_process(pid, signal).expect("it runs");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).env("RT", self.folder.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What it prints, without the last line's end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the script starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{} {}: {text}{errors}",
            self.path.display(),
            arguments.join(" ")
        );
        text.trim_end().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let stopped = self.command(&["stop"]).output();
        assert!(
            std::thread::panicking() || stopped.is_ok_and(|output| output.status.success()),
            "{} did not stop",
            self.path.display()
        );
    }
}
