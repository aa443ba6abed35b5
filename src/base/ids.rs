//! Names of things. Units and namespaces are in the types, so that two of them are never mixed up.
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, sync::Arc};

/// A process for as long as it lives: pids are reused, a pid with its start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcKey {
    pub tgid: u32,
    /// `CLOCK_BOOTTIME` at the start of the group leader.
    pub start_ns: u64,
}

/// One connection or listen. A `struct sock` may carry several, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SocketId {
    pub cookie: u64,
    pub generation: u32,
}

/// A cgroup of the unified hierarchy: the inode number of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

/// A network namespace: the inode number of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetnsId(pub u32);

/// What the label `container_id` says, e.g. `/system.slice/nginx.service`. Never empty, starts with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId(pub Arc<str>);

impl ContainerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ContainerId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for ContainerId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the label `application_type` says: software that is known by name, e.g. `postgres`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Application(Cow<'static, str>);

impl Application {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Application {
    fn from(kind: &'static str) -> Self {
        Self(Cow::Borrowed(kind))
    }
}
