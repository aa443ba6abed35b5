//! All daemons that this machine can have, and what they fail together with.
use crate::{
    crio::Crio,
    daemon::{Daemon, Work},
    engines::{Containerd, Docker, Podman},
    units::Systemd,
};
use std::{net::SocketAddr, path::PathBuf, thread};
use tarsier_integration::{Agent, AgentBuilder, Front, Netns, Place, Running, free_port, require_root, require_tool};
use tempfile::TempDir;

pub(crate) struct Member {
    pub(crate) daemon: Box<dyn Daemon>,
    /// In front of its socket; nobody is there at first.
    pub(crate) front: Front,
}

impl Member {
    pub(crate) fn runtime(&self) -> &'static str {
        self.daemon.runtime()
    }

    pub(crate) fn name(&self, what: &str) -> String {
        // Units that are called after systemd are its own, which nobody wants to see.
        let prefix = match self.runtime() {
            "systemd" => "unit",
            runtime => runtime,
        };
        format!("{prefix}-{what}")
    }
}

pub(crate) struct Scene {
    pub(crate) members: Vec<Member>,
    pub(crate) netns: Netns,
    _folder: TempDir,
}

impl Scene {
    pub(crate) fn start() -> Option<Self> {
        if !(require_root() && require_tool(&["ip", "nsenter"])) {
            return None;
        }
        let netns = Netns::new();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let daemons = thread::scope(|scope| {
            let all = [
                scope.spawn(|| boxed(Docker::start())),
                scope.spawn(|| boxed(Podman::start())),
                scope.spawn(|| boxed(Containerd::start())),
                scope.spawn(|| boxed(Systemd::start(&netns))),
                scope.spawn(|| boxed(Some(Crio::start()))),
            ];
            all.map(|started| started.join().expect("it starts"))
        });
        let members = daemons.into_iter().flatten().map(|daemon| Member {
            front: Front::new(&folder.path().join(daemon.runtime())),
            daemon,
        });
        Some(Self {
            members: members.collect(),
            netns,
            _folder: folder,
        })
    }

    pub(crate) fn agent(&self, socket: impl Fn(&Member) -> PathBuf) -> AgentBuilder {
        let mut builder = Agent::builder();
        for runtime in ["docker", "podman", "containerd", "crio", "systemd"] {
            let key = format!("RUNTIMES__{}", runtime.to_uppercase());
            let member = self.members.iter().find(|member| member.runtime() == runtime);
            builder = match member {
                Some(member) => {
                    let path = socket(member);
                    builder.set(&format!("{key}__SOCKETS"), path.to_str().expect("a path is text"))
                }
                None => builder.set(&format!("{key}__ENABLED"), "false"),
            };
        }
        let mut roots = self.members.iter().filter_map(|member| member.daemon.cgroup_root());
        match roots.next() {
            Some(root) => builder.set("IDENTITY__CGROUP_ROOT", &root),
            None => builder,
        }
    }

    /// What a container of it does, and who serves that and nobody else.
    pub(crate) fn work(&self, daemon: Option<&dyn Daemon>, connects: Option<u32>) -> (Work, Running) {
        let port = free_port();
        let (address, place): (SocketAddr, _) = match daemon.is_some_and(Daemon::is_in_netns) {
            true => (self.netns.outside(port)[0], Place::new()),
            false => (self.netns.inside(port)[0], Place::new().netns(&self.netns)),
        };
        let server = place.start(&["serve", &address.to_string()]);
        (Work { address, connects }, server)
    }
}

fn boxed(daemon: Option<impl Daemon + 'static>) -> Option<Box<dyn Daemon>> {
    daemon.map(|daemon| Box::new(daemon) as Box<dyn Daemon>)
}
