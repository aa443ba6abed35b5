//! Where PostgreSQL is on this machine, and what a cluster is made with.
use crate::{Place, demand};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Who a server may be: it refuses root.
pub const NOBODY: u32 = 65_534;

pub struct Postgres(PathBuf);

impl Postgres {
    /// Debian has a folder per version, and not all of them in `PATH`.
    #[must_use]
    #[track_caller]
    pub fn find() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let mut folders: Vec<_> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
        folders.sort();
        folders.push("/usr/bin".into());
        let names = ["initdb", "postgres", "pgbench", "psql"];
        let found = folders
            .into_iter()
            .find(|folder| names.iter().all(|name| folder.join(name).is_file()));
        demand("postgresql", found.is_some()).then_some(())?;
        found.map(Self)
    }

    /// Where its programs are.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// One of its programs, as nobody.
    pub fn command(&self, name: &str) -> Command {
        let nobody = NOBODY.to_string();
        let mut command = Place::new().command("setpriv");
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
        command.arg(self.0.join(name));
        command
    }
}
