//! A systemd in a container of its own.
use crate::{Script, require_root, require_tool};
use std::path::{Path, PathBuf};

pub struct Machine(Script);

impl Machine {
    /// `flags`: of systemd-nspawn. `None`: this machine cannot have one.
    #[must_use]
    #[track_caller]
    pub fn start(flags: &[&str]) -> Option<Self> {
        if !(require_root() && require_tool(&["systemd-nspawn", "mmdebstrap", "nsenter"])) {
            return None;
        }
        // Beside the tests, made once for all runs: it takes half a minute.
        let test = std::env::current_exe().expect("/proc is mounted");
        let target = test.ancestors().nth(3).expect("target/<profile>/deps/<test>");
        let root = target.join("tmp/systemd-root");
        let systemd = Script::new("systemd.sh")
            .env("ROOT", root.to_str().expect("a path is text"))
            .env("MACHINE", &format!("tarsier-it-{}", std::process::id()));
        systemd.run(&[&["start"], flags].concat());
        Some(Self(systemd))
    }

    /// Runs it inside.
    #[track_caller]
    pub fn exec(&self, words: &[&str]) -> String {
        self.0.run(&[&["exec"], words].concat())
    }

    /// Of its first process, as the host counts.
    #[track_caller]
    pub fn leader(&self) -> u32 {
        self.0.run(&["leader"]).parse().expect("a process id")
    }

    pub fn bus(&self) -> PathBuf {
        Path::new(&self.0.run(&["rootfs"])).join("run/dbus/system_bus_socket")
    }
}
