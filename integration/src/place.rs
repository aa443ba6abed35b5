//! Starts processes in a cgroup and a network namespace: in both before their first own instruction.
use crate::{Cgroup, Netns};
use serde_json::Value;
use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Where a process runs; nowhere in particular by default.
#[derive(Clone, Copy, Default)]
pub struct Place<'a> {
    cgroup: Option<&'a Cgroup>,
    netns: Option<&'a Netns>,
    program: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn cgroup(self, cgroup: &'a Cgroup) -> Self {
        Self {
            cgroup: Some(cgroup),
            ..self
        }
    }

    #[must_use]
    pub fn netns(self, netns: &'a Netns) -> Self {
        Self {
            netns: Some(netns),
            ..self
        }
    }

    /// A program of this crate instead of the workload, by its name or path; it has to speak as that does.
    #[must_use]
    pub fn program(self, program: &'a str) -> Self {
        Self {
            program: Some(program),
            ..self
        }
    }

    fn workload(self) -> Command {
        self.command(built(self.program.unwrap_or("workload")))
    }

    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let doors = self.cgroup.map(Cgroup::doors).unwrap_or_default();
        let netns = self.netns.map(Netns::open);
        let enter = move || {
            use rustix::{
                fs::{Mode, OFlags},
                thread::{LinkNameSpaceType, move_into_link_name_space},
            };
            for door in &doors {
                let door = rustix::fs::open(door.as_c_str(), OFlags::WRONLY, Mode::empty())?;
                rustix::io::write(&door, b"0")?;
            }
            if let Some(netns) = &netns {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(netns), Some(LinkNameSpaceType::Network))?;
            }
            io::Result::Ok(())
        };
        #[expect(unsafe_code, reason = "a process has to move itself")]
        // SAFETY: between fork and exec only system calls are made: nothing allocates or takes a lock.
        unsafe {
            command.pre_exec(enter);
        }
        command
    }

    /// Runs the workload to its end and returns what it reports.
    #[track_caller]
    pub fn run(self, arguments: &[&str]) -> Value {
        let mut command = self.workload();
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let output = output.expect("the workload starts");
        assert!(
            output.status.success(),
            "workload {}: {}",
            arguments.join(" "),
            output.status
        );
        serde_json::from_slice(&output.stdout).expect("the workload reports JSON")
    }

    /// Starts a workload that prints `ready`, and waits for that.
    #[track_caller]
    pub fn start(self, arguments: &[&str]) -> Running {
        let mut command = self.workload();
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the workload starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped above"));
        let mut running = Running { child, stdin, stdout };
        assert_eq!(running.line(), "ready", "workload {}", arguments.join(" "));
        running
    }
}

/// A workload that goes on until it is told to stop, or dropped.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the workload's output is text");
        line.trim_end().to_owned()
    }

    /// Gives it a line to read.
    #[track_caller]
    pub fn give(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it has not been told to end");
        writeln!(stdin, "{line}").expect("it reads what it is told");
    }

    /// Gives it a line and returns what it reports.
    #[track_caller]
    pub fn tell(&mut self, command: &str) -> Value {
        self.give(command);
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {line:?}: {error}"))
    }

    /// Ends it and returns what it reports.
    #[track_caller]
    pub fn finish(mut self) -> Value {
        drop(self.stdin.take());
        let report = self.line();
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "the workload ended with {status}");
        serde_json::from_str(&report).unwrap_or(Value::Null)
    }

    /// Ends it the hard way.
    pub fn kill(mut self) {
        end(&mut self.child);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills and reaps; harmless when it has ended already.
pub(crate) fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        child.kill().expect("it is our child and runs");
        child.wait().expect("it is our child");
    }
}

/// A program of this crate: beside its others, and one folder above its tests.
pub fn built(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("/proc is mounted");
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    found
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: cargo build -p tarsier-integration"))
}
