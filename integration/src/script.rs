//! The daemons of `runtimes/`: each test that needs one has its own, in a folder that goes with it.
use crate::unique;
use std::{
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
