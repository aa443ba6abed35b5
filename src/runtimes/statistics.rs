//! How the runtimes answer, for whoever shows it: counted by their clients, read by scrapes without asking anybody.
use super::Runtime;
use serde::Serialize;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The runtime knows no such container.
    Unknown,
    Timeout,
    Error,
    /// Not asked at all: too many wait already, or the connection broke meanwhile.
    Rejected,
}

impl Outcome {
    pub const ALL: [Self; 5] = [Self::Ok, Self::Unknown, Self::Timeout, Self::Error, Self::Rejected];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Rejected => "rejected",
        }
    }
}

/// What is known of the way to a runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// Nobody looks for it.
    #[default]
    Off,
    /// Nobody knows yet.
    Connecting,
    Connected,
    /// It has no socket here.
    Absent,
    /// It does not answer.
    Broken,
}

impl Connection {
    const ALL: [Self; 5] = [Self::Off, Self::Connecting, Self::Connected, Self::Absent, Self::Broken];
}

#[derive(Debug, Default)]
pub struct Statistics {
    runtimes: [OfRuntime; Runtime::ALL.len()],
}

#[derive(Debug, Default)]
pub struct OfRuntime {
    connection: AtomicU8,
    calls: [AtomicU64; Outcome::ALL.len()],
    queue: AtomicUsize,
    running: AtomicUsize,
}

impl Statistics {
    pub fn of(&self, runtime: Runtime) -> &OfRuntime {
        &self.runtimes[runtime as usize]
    }

    /// Those that somebody looks for.
    pub fn wanted(&self) -> impl Iterator<Item = (Runtime, &OfRuntime)> {
        let all = Runtime::ALL.into_iter().map(|runtime| (runtime, self.of(runtime)));
        all.filter(|(_, of)| of.connection() != Connection::Off)
    }
}

impl OfRuntime {
    pub fn connection(&self) -> Connection {
        Connection::ALL[usize::from(self.connection.load(Relaxed))]
    }

    pub fn set_connection(&self, connection: Connection) {
        self.connection.store(connection as u8, Relaxed);
    }

    pub fn count(&self, outcome: Outcome) {
        self.calls[outcome as usize].fetch_add(1, Relaxed);
    }

    pub fn calls(&self, outcome: Outcome) -> u64 {
        self.calls[outcome as usize].load(Relaxed)
    }

    pub fn set_load(&self, queue: usize, running: usize) {
        self.queue.store(queue, Relaxed);
        self.running.store(running, Relaxed);
    }

    /// Questions that wait, and those that are being asked.
    pub fn load(&self) -> (usize, usize) {
        (self.queue.load(Relaxed), self.running.load(Relaxed))
    }
}
