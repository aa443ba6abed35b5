//! Who a container is: what the engines and the service manager of the node know of it.
//!
//! One client per runtime, each an actor of its own, behind one facade. Nobody waits for them: the registry asks, goes on,
//! and is told.

pub mod client;
pub mod containerd;
pub mod crio;
pub mod docker;
pub mod facade;
mod globs;
mod json;
pub mod metadata;
mod sockets;
pub mod statistics;
#[cfg(test)]
mod strangers;
pub mod systemd;

use metadata::Metadata;
use serde::{Deserialize, Serialize};
use std::{io, path::PathBuf, sync::Arc, time::Duration};

/// Whom a cgroup path names, as the runtimes know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lookup {
    /// An engine's id: 64 hexadecimal digits. Which engine's, the path tells only sometimes.
    Engine { id: Arc<str>, engines: Engines },
    /// A container of containerd that has a name instead: `/default/c1`.
    Named { namespace: Arc<str>, name: Arc<str> },
    /// A unit of the system's service manager.
    Unit { unit: Arc<str> },
}

/// In which order whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Engines {
    /// `/docker/<id>`, `docker-<id>.scope`.
    Docker,
    /// `libpod-<id>`.
    Podman,
    /// `cri-containerd-<id>`.
    Containerd,
    /// `crio-<id>`.
    Crio,
    /// The path does not tell.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    Docker,
    Podman,
    Containerd,
    Crio,
    Systemd,
}

impl Runtime {
    pub const ALL: [Self; 5] = [Self::Docker, Self::Podman, Self::Containerd, Self::Crio, Self::Systemd];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Systemd => "systemd",
        }
    }
}

/// What came of a look-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    Known(Arc<Metadata>),
    /// Every runtime that could know it was asked, or is not there.
    Nobody,
    /// Somebody could not be asked. It is tried again, and another answer will come.
    Unanswered,
}

/// Something that happened to a container, as the runtime calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made, or something of it changed (its name): what was known is to be asked again.
    Changed(Arc<str>),
    Gone(Arc<str>),
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("no socket of {runtime} at {}", tried(paths))]
    NoSocket { runtime: &'static str, paths: Vec<PathBuf> },
    #[error("cannot connect to {path}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("no answer to {op} within {after:?}")]
    Deadline { op: &'static str, after: Duration },
    /// The connection is of no use any more.
    #[error("{op} failed")]
    Broken {
        op: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The runtime answers, but not with what was asked for.
    #[error("the answer to {op} makes no sense: {what}")]
    Nonsense { op: &'static str, what: String },
}

/// A stranger's words as they may stand in a log: short, on one line.
pub fn brief(text: &str) -> String {
    const CHARACTERS: usize = 200;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(CHARACTERS).map(clean).collect()
}

fn tried(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

/// One connection to one runtime. It keeps no cache and does not reconnect: its actor does.
///
/// Every call may be dropped halfway (its deadline is over). Answers are a stranger's: of any size, any content.
#[expect(async_fn_in_trait, reason = "used on one thread only, by generic code of this crate")]
pub trait Client: Sized + 'static {
    const RUNTIME: Runtime;

    /// `sockets`: tried in this order. Succeeds once the runtime has answered something.
    async fn connect(sockets: &[PathBuf]) -> Result<Self, RuntimeError>;

    /// `None`: it knows no such container.
    async fn inspect(&self, lookup: &Lookup) -> Result<Option<Metadata>, RuntimeError>;

    /// Waits for what happens next, for ever where the runtime does not tell. Called by one at a time, while others
    /// inspect. An error: the connection is broken.
    async fn next_change(&self) -> Result<Change, RuntimeError>;
}
