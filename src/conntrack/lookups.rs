//! Whom to ask: the connection tracking of the namespace that a connection is in, and that of the host, which forwards for
//! the others.
use super::netlink::{Answer, Conntrack};
use crate::{
    base::ids::NetnsId,
    decode::SocketEvent,
    tracer::namespaces::{inode, inside},
};
use rustix::io::Errno;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub(super) struct Lookups {
    proc: PathBuf,
    /// Where the agent itself is.
    own: Option<NetnsId>,
    host: NetnsId,
    host_path: PathBuf,
    /// Of the agent's own namespace and the host's, kept.
    lasting: HashMap<NetnsId, Conntrack>,
    /// Of others: a socket there would keep alive what its last process has left, so they go after each batch. `None`: there
    /// is no way to get there any more.
    passing: HashMap<NetnsId, Option<Conntrack>>,
    doors: Doors,
    /// The agent may not go there.
    barred: bool,
    /// The kernel tracks connections, or could. Before that, a question would load the modules for it.
    tracks: bool,
}

impl Lookups {
    /// `configured`: `host.netns`, where /proc/1 does not lead to the host's.
    pub(super) fn new(proc: &Path, root: &Path, configured: &Path, host: NetnsId) -> Self {
        let of_first = proc.join("1/ns/net");
        let host_path = match inode(&of_first) {
            Some(id) if NetnsId(id) == host => of_first,
            _ => configured.to_owned(),
        };
        Self {
            own: inode(&proc.join("thread-self/ns/net")).map(NetnsId),
            proc: proc.to_owned(),
            host,
            host_path,
            lasting: HashMap::new(),
            passing: HashMap::new(),
            doors: Doors::new(root),
            barred: false,
            tracks: false,
        }
    }

    pub(super) fn tracks(&self) -> bool {
        self.tracks
    }

    pub(super) fn barred(&self) -> bool {
        self.barred
    }

    /// Finds out what it may ask, before anything has to be asked.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        if !self.is_tracked() {
            return Ok(());
        }
        // Where one is already, it takes the same power to go.
        let there = inside(&self.proc.join("self/ns/net"), || Ok(()));
        self.barred = there.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::PERM));
        let nobody = SocketAddr::from(([192, 0, 2, 1], 1));
        Conntrack::open()?.ask(nobody, nobody).map(drop)
    }

    fn is_tracked(&mut self) -> bool {
        self.tracks = self.tracks || self.proc.join("sys/net/netfilter/nf_conntrack_max").exists();
        self.tracks
    }

    /// `None`: who would know cannot be asked any more.
    pub(super) fn ask(&mut self, event: &SocketEvent) -> io::Result<Option<Answer>> {
        if !self.is_tracked() {
            return Ok(Some(Answer::Unknown));
        }
        // What stays inside the namespace may have the addresses of something else outside.
        let leaves = event.netns != self.host && !event.remote.ip().is_loopback();
        // The host first: it is always at hand, and translates for all others.
        let at_host = if leaves { self.ask_in(self.host, event)? } else { None };
        if let Some(Answer::To(_)) = at_host {
            return Ok(at_host);
        }
        let there = self.ask_in(event.netns, event)?;
        Ok(match there {
            Some(Answer::Unknown) => at_host.or(there),
            // For good, and not for want of a way.
            None if self.barred => at_host.or(Some(Answer::Unknown)),
            there => there,
        })
    }

    /// `None`: there is no way to get there.
    fn ask_in(&mut self, netns: NetnsId, event: &SocketEvent) -> io::Result<Option<Answer>> {
        let Some(conntrack) = self.of(netns, event.owner.process.tgid)? else {
            return Ok(None);
        };
        let answer = conntrack.ask(event.local, event.remote);
        if answer.is_err() {
            // Whatever it still says would be taken for the answer to the next question.
            self.lasting.remove(&netns);
            self.passing.remove(&netns);
        }
        answer.map(Some)
    }

    fn of(&mut self, netns: NetnsId, tgid: u32) -> io::Result<Option<&mut Conntrack>> {
        if self.own == Some(netns) || netns == self.host {
            if !self.lasting.contains_key(&netns) {
                let conntrack = if self.own == Some(netns) {
                    Conntrack::open()?
                } else if inode_at(&self.host_path) == Some(netns) {
                    inside(&self.host_path, Conntrack::open)?
                } else {
                    return Ok(None);
                };
                self.lasting.insert(netns, conntrack);
            }
            return Ok(self.lasting.get_mut(&netns));
        }
        if !self.passing.contains_key(&netns) {
            let of_process = self.proc.join(tgid.to_string()).join("ns/net");
            let path = if inode(&of_process).map(NetnsId) == Some(netns) {
                Some(of_process)
            } else {
                self.doors.to(netns)
            };
            let conntrack = match path.map(|path| inside(&path, Conntrack::open)) {
                Some(Err(error)) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
                    self.barred = true;
                    None
                }
                conntrack => conntrack.transpose()?,
            };
            self.passing.insert(netns, conntrack);
        }
        Ok(self.passing.get_mut(&netns).and_then(Option::as_mut))
    }

    pub(super) fn end_batch(&mut self) {
        self.doors.batch += 1;
        self.passing = HashMap::new();
    }
}

/// Where runtimes and `ip netns` mount the namespaces of those whose processes come and go.
struct Doors {
    folders: Vec<PathBuf>,
    known: HashMap<NetnsId, PathBuf>,
    /// At which batch they were last looked through, and which this one is.
    looked: Option<u64>,
    batch: u64,
}

impl Doors {
    fn new(root: &Path) -> Self {
        const FOLDERS: [&str; 2] = ["run/netns", "run/docker/netns"];
        Self {
            folders: FOLDERS.map(|folder| root.join(folder)).into(),
            known: HashMap::new(),
            looked: None,
            batch: 0,
        }
    }

    fn to(&mut self, netns: NetnsId) -> Option<PathBuf> {
        const MAX: usize = 10_000;
        let there = |path: &&PathBuf| inode_at(path) == Some(netns);
        if let Some(path) = self.known.get(&netns).filter(there) {
            return Some(path.clone());
        }
        // Once for each batch: there are twenty of them in a second at most.
        if self.looked.replace(self.batch) == Some(self.batch) {
            return None;
        }
        let entries = self.folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
        let paths = entries.flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let known = paths.take(MAX).filter_map(|path| Some((inode_at(&path)?, path)));
        self.known = known.collect();
        self.known.get(&netns).cloned()
    }
}

/// Of a link in /proc, or a file that a namespace is mounted at.
fn inode_at(path: &Path) -> Option<NetnsId> {
    let mounted = || u32::try_from(rustix::fs::stat(path).ok()?.st_ino).ok();
    inode(path).or_else(mounted).map(NetnsId)
}
