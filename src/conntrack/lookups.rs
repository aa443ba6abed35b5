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
    /// Of others: a socket there would keep alive what its last process has left, so they go after each batch. `None`: nobody
    /// is left through whom to get there.
    passing: HashMap<NetnsId, Option<Conntrack>>,
    /// The agent may not go there.
    barred: bool,
}

impl Lookups {
    /// `configured`: `host.netns`, where /proc/1 does not lead to the host's.
    pub(super) fn new(proc: &Path, configured: &Path, host: NetnsId) -> Self {
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
            barred: false,
        }
    }

    pub(super) fn barred(&self) -> bool {
        self.barred
    }

    pub(super) fn ask(&mut self, event: &SocketEvent) -> io::Result<Answer> {
        let there = self.ask_in(event.netns, event)?;
        if matches!(there, Some(Answer::To(_))) || event.netns == self.host {
            return Ok(there.unwrap_or(Answer::Unknown));
        }
        match self.ask_in(self.host, event)? {
            Some(at_host) if at_host != Answer::Unknown => Ok(at_host),
            _ => Ok(there.unwrap_or(Answer::Unknown)),
        }
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
            let path = self.proc.join(tgid.to_string()).join("ns/net");
            let conntrack = match inode(&path) {
                Some(id) if NetnsId(id) == netns => match inside(&path, Conntrack::open) {
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
                        self.barred = true;
                        None
                    }
                    conntrack => Some(conntrack?),
                },
                _ => None,
            };
            self.passing.insert(netns, conntrack);
        }
        Ok(self.passing.get_mut(&netns).and_then(Option::as_mut))
    }

    pub(super) fn end_batch(&mut self) {
        self.passing = HashMap::new();
    }
}

/// Of a link in /proc, or a file that a namespace is mounted at.
fn inode_at(path: &Path) -> Option<NetnsId> {
    let mounted = || u32::try_from(rustix::fs::stat(path).ok()?.st_ino).ok();
    inode(path).or_else(mounted).map(NetnsId)
}
