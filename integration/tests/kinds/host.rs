//! Processes of the host, put into cgroups as a runtime that is not here would have done it.
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    os::unix::process::CommandExt as _,
    process::{Child, Stdio},
};
use tarsier_integration::{Cgroup, Place};

/// A process, and those that it starts.
pub(crate) struct Process(Child);

impl Process {
    /// `words`: the program, what it is called, and its arguments.
    pub(crate) fn start(cgroup: Option<&Cgroup>, words: &[&str]) -> Self {
        let place = cgroup.map_or(Place::new(), |cgroup| Place::new().cgroup(cgroup));
        let mut command = place.command(words[0]);
        command.arg0(words[1]).args(&words[2..]).process_group(0);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{words:?}: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Itself it may have come to its end; what listens for it has not.
        kill_process_group(Pid::from_child(&self.0), Signal::KILL).ok();
        self.0.wait().ok();
    }
}
