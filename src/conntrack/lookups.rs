//! Whom to ask: the connection tracking of the namespace that a connection is in, and that of the host, which forwards for
//! the others.
use super::netlink::{Answer, Conntrack};
use crate::{
    base::ids::NetnsId,
    decode::{Exchanges, SocketEvent},
    tracer::namespaces::{inode, inside},
};
use rustix::io::Errno;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// What is asked for: both ends of a connection, in the namespace that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) netns: NetnsId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl From<&SocketEvent> for Flow {
    fn from(of: &SocketEvent) -> Self {
        let (netns, local, remote) = (of.netns, of.local, of.remote);
        Self { netns, local, remote }
    }
}

impl From<&Exchanges> for Flow {
    fn from(of: &Exchanges) -> Self {
        let (netns, local, remote) = (of.netns, of.local, of.remote);
        Self { netns, local, remote }
    }
}

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
            doors: Doors::new(root, proc),
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

    /// Not even the host's can be asked.
    pub(super) fn away(&self) -> bool {
        self.barred && self.own != Some(self.host)
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

    /// By way of that process, where it is still there. `None`: who would know cannot be asked any more.
    pub(super) fn ask(&mut self, flow: &Flow, tgid: u32) -> io::Result<Option<Answer>> {
        if !self.is_tracked() {
            return Ok(Some(Answer::Unknown));
        }
        // What stays inside the namespace may have the addresses of something else outside.
        let leaves = flow.netns != self.host && !flow.remote.ip().is_loopback();
        // The host first: it is always at hand, and translates for all others.
        let at_host = if leaves {
            self.ask_in(self.host, flow, tgid)?
        } else {
            None
        };
        if let Some(Answer::To(_)) = at_host {
            return Ok(at_host);
        }
        let there = self.ask_in(flow.netns, flow, tgid)?;
        Ok(match there {
            Some(Answer::Unknown) => at_host.or(there),
            // For good, and not for want of a way.
            None if self.barred => at_host.or(Some(Answer::Unknown)),
            there => there,
        })
    }

    /// `None`: there is no way to get there.
    fn ask_in(&mut self, netns: NetnsId, flow: &Flow, tgid: u32) -> io::Result<Option<Answer>> {
        let Some(conntrack) = self.of(netns, tgid)? else {
            return Ok(None);
        };
        let answer = conntrack.ask(flow.local, flow.remote);
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
                    Some(Conntrack::open()?)
                } else if !self.barred && inode_at(&self.host_path) == Some(netns) {
                    let path = self.host_path.clone();
                    self.enter(&path)?
                } else {
                    None
                };
                let Some(conntrack) = conntrack else { return Ok(None) };
                self.lasting.insert(netns, conntrack);
            }
            return Ok(self.lasting.get_mut(&netns));
        }
        if !self.passing.contains_key(&netns) {
            let conntrack = self.through_a_door(netns, tgid)?;
            self.passing.insert(netns, conntrack);
        }
        Ok(self.passing.get_mut(&netns).and_then(Option::as_mut))
    }

    fn through_a_door(&mut self, netns: NetnsId, tgid: u32) -> io::Result<Option<Conntrack>> {
        if self.barred {
            return Ok(None);
        }
        let of_process = self.proc.join(tgid.to_string()).join("ns/net");
        if inode_at(&of_process) == Some(netns)
            && let Some(conntrack) = self.enter(&of_process)?
        {
            return Ok(Some(conntrack));
        }
        let door = self.doors.to(netns);
        Ok(door.map(|path| self.enter(&path)).transpose()?.flatten())
    }

    /// `None`: it may not, or what led there has ended since it was looked at.
    fn enter(&mut self, path: &Path) -> io::Result<Option<Conntrack>> {
        let entered = inside(path, Conntrack::open);
        match entered.as_ref().err().and_then(Errno::from_io_error) {
            Some(Errno::PERM) => self.barred = true,
            Some(Errno::NOENT | Errno::SRCH | Errno::ACCESS) => {}
            _ => return entered.map(Some),
        }
        Ok(None)
    }

    pub(super) fn end_batch(&mut self) {
        self.doors.batch += 1;
        self.passing = HashMap::new();
    }
}

/// By which namespaces are entered of those whose processes come and go.
struct Doors {
    /// Where runtimes and `ip netns` mount them.
    folders: Vec<PathBuf>,
    mounted: HashMap<NetnsId, PathBuf>,
    /// At which batch they were last looked through, and which this one is.
    looked: Option<u64>,
    batch: u64,
    /// Where no mount is to be seen, as from a container: any process that is still there.
    proc: PathBuf,
    lived_in: HashMap<NetnsId, PathBuf>,
    walked: Option<u64>,
}

impl Doors {
    fn new(root: &Path, proc: &Path) -> Self {
        const FOLDERS: [&str; 2] = ["run/netns", "run/docker/netns"];
        Self {
            folders: FOLDERS.map(|folder| root.join(folder)).into(),
            mounted: HashMap::new(),
            looked: None,
            batch: 0,
            proc: proc.to_owned(),
            lived_in: HashMap::new(),
            walked: None,
        }
    }

    fn to(&mut self, netns: NetnsId) -> Option<PathBuf> {
        /// Of which there are twenty in a second at most.
        const BATCHES_PER_WALK: u64 = 20;
        let known = self.known(netns);
        // Once for each batch.
        if known.is_some() || self.looked.replace(self.batch) == Some(self.batch) {
            return known;
        }
        self.mounted = doors(self.folders.iter().flat_map(|folder| entries(folder)));
        let rested = |walked| self.batch >= walked + BATCHES_PER_WALK;
        if !self.mounted.contains_key(&netns) && self.walked.is_none_or(rested) {
            self.walked = Some(self.batch);
            let is_process = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default();
                name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
            };
            let processes = entries(&self.proc).filter(is_process);
            self.lived_in = doors(processes.map(|process| process.join("ns/net")));
        }
        self.known(netns)
    }

    fn known(&self, netns: NetnsId) -> Option<PathBuf> {
        let known = [&self.mounted, &self.lived_in].map(|doors| doors.get(&netns));
        let there = |path: &&PathBuf| inode_at(path) == Some(netns);
        known.into_iter().flatten().find(there).cloned()
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn doors(paths: impl Iterator<Item = PathBuf>) -> HashMap<NetnsId, PathBuf> {
    const MAX: usize = 10_000;
    let known = paths.take(MAX).filter_map(|path| Some((inode_at(&path)?, path)));
    known.collect()
}

/// Of a link in /proc, or a file that a namespace is mounted at.
fn inode_at(path: &Path) -> Option<NetnsId> {
    let mounted = || u32::try_from(rustix::fs::stat(path).ok()?.st_ino).ok();
    inode(path).or_else(mounted).map(NetnsId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_namespace_without_a_mount_is_entered_by_whoever_is_still_there() {
        let temp = tempfile::tempdir().unwrap();
        let (root, proc) = (temp.path().join("root"), temp.path().join("proc"));
        fs::create_dir_all(root.join("run/netns")).unwrap();
        let process = |pid: &str, netns: u32| {
            fs::create_dir_all(proc.join(pid).join("ns")).unwrap();
            symlink(format!("net:[{netns}]"), proc.join(pid).join("ns/net")).unwrap();
        };
        process("7", 111);
        process("other", 333);
        let mut doors = Doors::new(&root, &proc);
        let of_seven = Some(proc.join("7/ns/net"));
        assert_eq!(doors.to(NetnsId(111)), of_seven);
        assert_eq!(doors.to(NetnsId(333)), None, "no process");
        process("8", 222);
        doors.batch = 19;
        assert_eq!(doors.to(NetnsId(222)), None, "it walks once a second");
        assert_eq!(doors.to(NetnsId(111)), of_seven, "and does not forget");
        doors.batch = 20;
        assert_eq!(doors.to(NetnsId(222)), Some(proc.join("8/ns/net")));
        fs::remove_dir_all(proc.join("7")).unwrap();
        assert_eq!(doors.to(NetnsId(111)), None);
        // What a runtime has mounted needs no walk.
        symlink("net:[111]", root.join("run/netns/cni")).unwrap();
        doors.batch = 21;
        assert_eq!(doors.to(NetnsId(111)), Some(root.join("run/netns/cni")));
    }

    #[test]
    fn a_process_that_ends_while_one_goes_there_is_no_way_and_no_failure() {
        let temp = tempfile::tempdir().unwrap();
        let (root, proc) = (temp.path().join("root"), temp.path().join("proc"));
        // Its link can be read, and what it leads to is not there.
        fs::create_dir_all(proc.join("7/ns")).unwrap();
        symlink("net:[111]", proc.join("7/ns/net")).unwrap();
        let mut lookups = Lookups::new(&proc, &root, Path::new(""), NetnsId(1));
        assert!(lookups.of(NetnsId(111), 7).unwrap().is_none());
        assert!(!lookups.barred());
    }
}
