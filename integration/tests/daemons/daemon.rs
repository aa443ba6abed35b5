//! What the tests do to every daemon, and to the containers that it knows.
use std::{net::SocketAddr, path::PathBuf};
use tarsier_integration::{Agent, Cgroup, Metrics, Place, Running, Traffic};

pub(crate) trait Daemon: Send + Sync {
    fn runtime(&self) -> &'static str;
    /// Where it listens itself.
    fn socket(&self) -> PathBuf;

    /// Whether what it runs is in the network namespace of the test.
    fn is_in_netns(&self) -> bool {
        false
    }

    /// Below which its cgroups are, if not below the root.
    fn cgroup_root(&self) -> Option<String> {
        None
    }

    fn kill(&self);
    /// Returns when it answers.
    fn start_again(&self);
    fn halt(&self);
    fn go_on(&self);

    /// A container that it runs.
    fn run(&self, name: &str, work: Work) -> Guest;
    /// A container that it knows of, while it is still there: it starts when nobody is there to start it.
    fn expect(&self, name: &str) -> Expected;
    fn run_alone(&self, expected: Expected, work: Work) -> Guest;

    /// One that nobody wants to see, if there is such a kind: only it can say so.
    fn run_unwanted(&self, _name: &str, _work: Work) -> Option<Guest> {
        None
    }
}

/// What a container does: it connects to nobody else.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) address: SocketAddr,
    /// `None`: until it gets a SIGTERM.
    pub(crate) connects: Option<u32>,
}

impl Work {
    /// Ends only when the container does. `connect`: a command of its shell.
    pub(crate) fn script(&self, connect: impl Fn(SocketAddr) -> String) -> String {
        let (connect, count) = (connect(self.address), self.connects.unwrap_or(1_000_000));
        // Within a trap nothing is left half done: the connect before it has come to its end.
        format!(
            "trap 'exit 0' TERM; i=0; while [ $i -lt {count} ]; do {connect}; sleep 0.1; i=$((i+1)); done; sleep 1000 & wait"
        )
    }

    pub(crate) fn of_busybox(&self) -> String {
        self.script(|address| format!("nc {} {} </dev/null >/dev/null", address.ip(), address.port()))
    }

    /// Of a program of ours, in a cgroup that is a container's.
    pub(crate) fn start_in(&self, group: &Cgroup) -> Running {
        let (address, count) = (self.address.to_string(), self.connects.unwrap_or(u32::MAX).to_string());
        Place::new()
            .cgroup(group)
            .start(&["steady", &address, "--every", "100", "--count", &count])
    }
}

/// A container without a process.
pub(crate) struct Expected {
    pub(crate) name: String,
    /// In which a process of it would be; empty where its runtime needs no daemon to start it.
    pub(crate) path: String,
    pub(crate) names: Names,
}

impl Expected {
    /// As the runtime would: the kernel and the agent know a container by nothing else.
    pub(crate) fn enter(self, work: Work) -> Guest {
        let group = Cgroup::at(&self.path);
        let process = work.start_in(&group);
        Guest {
            names: self.names,
            work,
            description: None,
            inside: Inside::Ours(process, group),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) id: String,
    /// What its path says.
    pub(crate) interim: String,
}

/// A container that does its work.
pub(crate) struct Guest {
    pub(crate) names: Names,
    pub(crate) work: Work,
    /// Of a unit, which its path names well enough: by this it is seen that somebody was asked.
    pub(crate) description: Option<String>,
    pub(crate) inside: Inside,
}

/// Who is in it.
pub(crate) enum Inside {
    /// The runtime's, by its host process id.
    Foreign(u32),
    /// In the order in which they have to go.
    Ours(Running, Cgroup),
}

impl Guest {
    fn traffic(&self, metrics: &Metrics, id: &str) -> Traffic {
        let destination = self.work.address.to_string();
        Traffic::of(metrics, &[("container_id", id), ("destination", &destination)])
    }

    fn all(&self) -> Traffic {
        Traffic {
            successful: self.work.connects.expect("it is counted").into(),
            ..Traffic::default()
        }
    }

    /// All that it does stands under what its path says.
    pub(crate) fn is_interim(&self, metrics: &Metrics) -> bool {
        self.traffic(metrics, &self.names.interim) == self.all()
    }

    /// All that it does stands under its name, and nothing of it under another.
    pub(crate) fn is_right(&self, agent: &Agent, metrics: &Metrics) -> bool {
        let Names { id, interim } = &self.names;
        let destination = self.work.address.to_string();
        let info = [("container_id", id.as_str())];
        self.traffic(metrics, id) == self.all()
            && Traffic::of(metrics, &[("destination", &destination)]) == self.all()
            && metrics.value("container_info", &info) == Some(1.0)
            && (id == interim || metrics.of_container(interim).is_empty())
            && self.is_described(agent)
    }

    fn is_described(&self, agent: &Agent) -> bool {
        let Some(description) = &self.description else {
            return true;
        };
        let row = agent.ask(&format!("/api/v1/containers{}", self.names.id));
        row.is_ok_and(|row| row["runtime"]["unit"]["description"] == *description)
    }
}
