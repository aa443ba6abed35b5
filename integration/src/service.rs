//! A daemon in a container of its own, reached over loopback and from another network namespace, by IPv4 and IPv6.
use crate::{Cgroup, Netns, Place, eventually, free_port, place, wait::Stopwatch};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Service {
    daemon: Option<(Child, Signal)>,
    pub group: Cgroup,
    pub netns: Netns,
    pub port: u16,
    folder: TempDir,
}

/// One of the ways to it.
#[derive(Clone, Copy)]
pub struct Door<'a> {
    pub name: &'static str,
    pub address: SocketAddr,
    netns: Option<&'a Netns>,
}

impl<'a> Door<'a> {
    /// Where somebody is who comes this way.
    pub fn place(&self, group: &'a Cgroup) -> Place<'a> {
        let place = Place::new().cgroup(group);
        match self.netns {
            Some(netns) => place.netns(netns),
            None => place,
        }
    }
}

impl Service {
    /// Nothing runs yet.
    pub fn new() -> Self {
        Self {
            daemon: None,
            group: Cgroup::service("server"),
            netns: Netns::new(),
            port: free_port(),
            folder: tempfile::Builder::new()
                .prefix("tarsier-it-service-")
                .tempdir()
                .expect("a temporary folder"),
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn doors(&self) -> [Door<'_>; 4] {
        let [v4, v6] = self.netns.outside(self.port);
        let local = |ip: IpAddr| SocketAddr::new(ip, self.port);
        let door = |name, address, netns| Door { name, address, netns };
        [
            door("loopback v4", local(Ipv4Addr::LOCALHOST.into()), None),
            door("loopback v6", local(Ipv6Addr::LOCALHOST.into()), None),
            door("namespaces v4", v4, Some(&self.netns)),
            door("namespaces v6", v6, Some(&self.netns)),
        ]
    }

    /// Where it has to listen.
    pub fn ips(&self) -> Vec<String> {
        self.doors().iter().map(|door| door.address.ip().to_string()).collect()
    }

    /// In its container, as root or as somebody else. It ends with us however we end.
    pub fn command(&self, user: Option<u32>, words: &[&str]) -> Command {
        let mut command = Place::new().cgroup(&self.group).command("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(user) = user {
            let user = user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        }
        command.args(words).current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until its log has the line. `signal` ends it.
    #[track_caller]
    pub fn start(&mut self, mut command: Command, says: &str, signal: Signal) {
        let path = self.folder().join("daemon.log");
        let log = File::create(&path).expect("the folder is ours");
        command
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let (child, _) = self.daemon.insert((child, signal));
        eventually(PATIENCE, "the daemon is ready", || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            assert!(matches!(child.try_wait(), Ok(None)), "the daemon ended:\n{text}");
            text.contains(says)
        });
    }
}

impl Default for Service {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let Some((child, signal)) = &mut self.daemon else {
            return;
        };
        let watch = Stopwatch::start();
        // One that has ended already is still ours to reap.
        kill_process(Pid::from_child(child), *signal).ok();
        while matches!(child.try_wait(), Ok(None)) && watch.elapsed() < Duration::from_secs(10) {
            crate::pause(Duration::from_millis(20));
        }
        place::end(child);
    }
}
