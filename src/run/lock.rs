//! One agent per node: two would count everything twice.
use anyhow::{Context as _, Result};
use libsystemd::daemon::{NotifyState, notify};
use rustix::fs::{FlockOperation, flock};
use slog::{Logger, warn};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::Path,
};

/// Held until dropped, or until the process ends however it ends.
pub(super) struct Lock(#[expect(dead_code, reason = "holding it is its use")] File);

pub(super) fn wait(path: &Path, log: &Logger) -> Result<Lock> {
    let named = || format!("{} (agent.lock)", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make the directory of {}", named()))?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open {}", named()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        (&file).take(32).read_to_string(&mut holder).ok();
        warn!(log, "another agent runs on this node, waiting for it to end";
            "pid" => holder.trim().to_owned(), "lock" => path.display().to_string());
        // However long that takes, it is no start that hangs.
        let patience = NotifyState::Other("EXTEND_TIMEOUT_USEC=86400000000".to_owned());
        let waiting = NotifyState::Status("waiting for another agent to end".to_owned());
        notify(false, &[patience, waiting]).ok();
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result.with_context(|| format!("cannot lock {}", named()))?,
            }
        }
    }
    // For whoever waits next, and for people.
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .ok();
    Ok(Lock(file))
}
