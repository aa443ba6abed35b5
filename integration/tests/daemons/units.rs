//! The bus of a systemd that runs in a container.
use crate::daemon::{Daemon, Expected, Guest, Inside, Names, Work};
use std::{fs, path::PathBuf, sync::Mutex, time::Duration};
use tarsier_integration::{Machine, Netns, eventually_some};

pub(crate) struct Systemd {
    machine: Machine,
    /// Of who is stopped, inside.
    stopped: Mutex<Option<String>>,
}

impl Systemd {
    pub(crate) fn start(netns: &Netns) -> Option<Self> {
        let machine = Machine::start(&[&format!("--network-namespace-path={}", netns.path())])?;
        let stopped = Mutex::new(None);
        Some(Self { machine, stopped })
    }

    fn systemctl(&self, words: &[&str]) {
        self.machine.exec(&[&["systemctl"], words].concat());
    }

    fn bus_pid(&self) -> String {
        self.machine
            .exec(&["systemctl", "show", "-P", "MainPID", "dbus.service"])
    }

    /// Of a unit's main process, as the host counts.
    fn host_pid(&self, unit: &str) -> u32 {
        let leader = self.machine.leader();
        let children = format!("/proc/{leader}/task/{leader}/children");
        let of_unit = |pid: &u32| {
            let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            cgroup.contains(&format!("/{unit}\n"))
        };
        eventually_some(Duration::from_secs(5), unit, || {
            let children = fs::read_to_string(&children).expect("its first process runs");
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .find(of_unit)
        })
    }

    /// `kind`: a type of services, in the words of systemd.
    fn service(&self, name: &str, kind: &str, work: Work) -> Guest {
        let unit = format!("{name}.service");
        let description = format!("It is {name}");
        let script = work.script(|address| format!(": >/dev/tcp/{}/{}", address.ip(), address.port()));
        self.machine.exec(&[
            "systemd-run",
            "--no-block",
            &format!("--unit={name}"),
            &format!("--description={description}"),
            &format!("--property=Type={kind}"),
            "bash",
            "-c",
            &script,
        ]);
        Guest {
            names: names(&unit),
            work,
            description: Some(description),
            inside: Inside::Foreign(self.host_pid(&unit)),
        }
    }
}

fn names(unit: &str) -> Names {
    let id = format!("/system.slice/{unit}");
    Names {
        interim: id.clone(),
        id,
    }
}

impl Daemon for Systemd {
    fn runtime(&self) -> &'static str {
        "systemd"
    }

    fn socket(&self) -> PathBuf {
        self.machine.bus()
    }

    fn is_in_netns(&self) -> bool {
        true
    }

    fn cgroup_root(&self) -> Option<String> {
        let file = format!("/proc/{}/cgroup", self.machine.leader());
        let text = fs::read_to_string(file).expect("its first process runs");
        let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
        let root = unified.and_then(|path| path.strip_suffix("/init.scope"));
        Some(root.expect("systemd is in its scope").to_owned())
    }

    fn kill(&self) {
        // Else systemd starts another as soon as somebody connects.
        self.systemctl(&["mask", "--runtime", "dbus.service"]);
        self.machine.exec(&["kill", "-s", "KILL", &self.bus_pid()]);
    }

    fn start_again(&self) {
        self.systemctl(&["unmask", "--runtime", "dbus.service"]);
        self.systemctl(&["reset-failed", "dbus.service", "dbus.socket"]);
        self.systemctl(&["start", "dbus.socket", "dbus.service"]);
    }

    fn halt(&self) {
        let pid = self.bus_pid();
        self.machine.exec(&["kill", "-s", "STOP", &pid]);
        *self.stopped.lock().expect("nobody panics with it") = Some(pid);
    }

    fn go_on(&self) {
        let stopped = self.stopped.lock().expect("nobody panics with it").take();
        self.machine
            .exec(&["kill", "-s", "CONT", &stopped.expect("it is stopped")]);
    }

    fn run(&self, name: &str, work: Work) -> Guest {
        self.service(name, "exec", work)
    }

    fn expect(&self, name: &str) -> Expected {
        Expected {
            name: name.to_owned(),
            path: String::new(),
            names: names(name),
        }
    }

    fn run_alone(&self, expected: Expected, work: Work) -> Guest {
        self.run(&expected.name, work)
    }

    fn run_unwanted(&self, name: &str, work: Work) -> Option<Guest> {
        Some(self.service(name, "oneshot", work))
    }
}
