//! Every namespace once, through any process that is in it.
use super::{
    Limits, Reason, Source, State,
    dump::{DumpError, dump},
    gaps::{Gaps, of},
    seen::Seen,
    table::{Line, line},
};
use crate::{
    base::ids::NetnsId,
    collect::{
        CollectError,
        files::Dir,
        processes::{Inventory, namespace, numbers},
    },
};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
};

/// Processes end while they are looked at; so many in a row, and the namespace is given up.
const MAX_TRIES: usize = 16;
/// Far longer than any line of the tables.
const MAX_LINE_BYTES: u64 = 1024;
/// 1 GiB: some seven million sockets, for which the kernel needs more than ten.
const MAX_TABLE_BYTES: usize = 1 << 30;

/// In the order of their numbers; the sockets of each in the order in which they are shown, each once.
pub(super) type Spaces = BTreeMap<NetnsId, Vec<Seen>>;

pub(super) fn look(proc_root: &Path, processes: &Inventory, source: Source, limits: Limits, gaps: &mut Gaps) -> Spaces {
    let mut members = BTreeMap::<NetnsId, Vec<u32>>::new();
    for process in processes.processes.iter().filter(|process| !process.kernel_thread) {
        match process.netns {
            Some(netns) => members.entry(netns).or_default().push(process.key.tgid),
            None => gaps.add(Reason::NamespacesHidden, 1, || {
                format!("process {}: its namespace cannot be read", process.key.tgid)
            }),
        }
    }
    // What cannot even be read as a process has a namespace all the same.
    gaps.add(Reason::NamespacesHidden, processes.unreadable.into(), || {
        "a process that cannot be read".to_owned()
    });
    let own = std::fs::metadata("/proc/self/ns/net").ok().map(|own| own.ino());
    let own = own.and_then(|inode| u32::try_from(inode).ok()).map(NetnsId);
    let mut members: Vec<_> = members.into_iter().collect();
    // The host's own services before any container's.
    members.sort_by_key(|(netns, _)| (Some(*netns) != own, *netns));
    let mut left = limits.total;
    let mut spaces = Spaces::new();
    for (netns, pids) in members {
        let look = Look {
            proc_root,
            netns,
            own: own == Some(netns),
            pids: &pids,
            limit: left.min(limits.per_namespace),
        };
        if let Some(found) = look.with(source, gaps) {
            left = left.saturating_sub(found.len());
            spaces.insert(netns, found);
        }
    }
    spaces
}

struct Look<'a> {
    proc_root: &'a Path,
    netns: NetnsId,
    own: bool,
    pids: &'a [u32],
    limit: usize,
}

impl Look<'_> {
    fn with(&self, source: Source, gaps: &mut Gaps) -> Option<Vec<Seen>> {
        let netns = of(self.netns);
        if source != Source::Proc {
            match self.diag() {
                Ok(found) => return found.map(|found| found.finish(self.netns, gaps)),
                Err(LookError::Dump(error @ DumpError::Enter(_))) => gaps.failed(Reason::NotEntered, &netns, &error),
                Err(error) => gaps.failed(Reason::NoDiag, &netns, error.inner()),
            }
        }
        if source == Source::Diag {
            return None;
        }
        match self.tables() {
            Ok(found) => found.map(|found| found.finish(self.netns, gaps)),
            Err(error) => {
                gaps.failed(Reason::NamespacesUnseen, &netns, &error);
                None
            }
        }
    }

    fn diag(&self) -> Result<Option<Found>, LookError> {
        let mut found = Found::new(self.limit);
        if self.own {
            found.malformed = dump(None, |seen| found.add(seen))?;
            return Ok(Some(found));
        }
        let Some(file) = self.through_any(|dir| {
            let file = dir.open_file("ns/net")?;
            let inode = file
                .metadata()
                .map_err(|source| CollectError::io("read", dir.path(), source))?
                .ino();
            Ok((inode == u64::from(self.netns.0)).then_some(file))
        })?
        else {
            return Ok(None);
        };
        found.malformed = dump(Some(file.as_fd()), |seen| found.add(seen))?;
        Ok(Some(found))
    }

    fn tables(&self) -> Result<Option<Found>, CollectError> {
        self.through_any(|dir| {
            let mut found = Found::new(self.limit);
            read_table(dir, false, &mut found)?;
            match read_table(dir, true, &mut found) {
                // A kernel without IPv6.
                Err(error) if error.is_gone() => {}
                other => other?,
            }
            // It may have moved meanwhile.
            Ok((is_in(dir)? == self.netns).then_some(found))
        })
    }

    /// The first answer that a process in the namespace gives; `None` if they are all gone, and so is the namespace.
    fn through_any<T>(
        &self,
        mut ask: impl FnMut(&Dir) -> Result<Option<T>, CollectError>,
    ) -> Result<Option<T>, CollectError> {
        let mut failed = None;
        for pid in self.pids.iter().take(MAX_TRIES) {
            match living(self.proc_root, *pid).and_then(|dir| ask(&dir)) {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) => {}
                Err(error) if error.is_gone() => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

#[derive(Debug)]
enum LookError {
    Dump(DumpError),
    Collect(CollectError),
}

impl LookError {
    fn inner(&self) -> &dyn std::error::Error {
        match self {
            Self::Dump(error) => error,
            Self::Collect(error) => error,
        }
    }
}

impl From<DumpError> for LookError {
    fn from(error: DumpError) -> Self {
        Self::Dump(error)
    }
}

impl From<CollectError> for LookError {
    fn from(error: CollectError) -> Self {
        Self::Collect(error)
    }
}

/// The directory of a process, or of another of its threads where the first has ended: that has lost its namespaces and
/// descriptors.
pub(super) fn living(proc_root: &Path, pid: u32) -> Result<Dir, CollectError> {
    let dir = Dir::open(proc_root.join(pid.to_string()))?;
    match dir.read_link("ns/net") {
        Err(error) if error.is_gone() => {}
        // Whoever may not be looked at does not thereby lack anything.
        _ => return Ok(dir),
    }
    let others = numbers(&dir, "task")?.into_iter().find(|&tid| tid != pid);
    others.map_or(Ok(dir), |tid| Dir::open(proc_root.join(format!("{pid}/task/{tid}"))))
}

fn is_in(dir: &Dir) -> Result<NetnsId, CollectError> {
    namespace(&dir.read_link("ns/net")?)
        .map(NetnsId)
        .ok_or_else(|| CollectError::Malformed {
            path: dir.path().join("ns/net"),
        })
}

fn read_table(dir: &Dir, v6: bool, found: &mut Found) -> Result<(), CollectError> {
    let name = if v6 { "net/tcp6" } else { "net/tcp" };
    let path = || dir.path().join(name);
    let mut reader = BufReader::with_capacity(64 * 1024, dir.open_file(name)?);
    let (mut text, mut bytes) = (Vec::new(), 0);
    loop {
        text.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut text);
        match read.map_err(|source| CollectError::io("read", &path(), source))? {
            0 => return Ok(()),
            read => bytes += read,
        }
        if bytes > MAX_TABLE_BYTES {
            return Err(CollectError::TooLarge {
                path: path(),
                limit: MAX_TABLE_BYTES,
            });
        }
        match line(&text, v6) {
            Line::Socket(seen) => found.add(seen),
            Line::Other => {}
            Line::Malformed => found.malformed += 1,
        }
    }
}

struct Found {
    sockets: Vec<Seen>,
    /// Of listeners, and of the others: connections cannot push out what tells their roles.
    limit: usize,
    listeners: usize,
    left_out: u64,
    malformed: u64,
}

impl Found {
    fn new(limit: usize) -> Self {
        Self {
            sockets: Vec::new(),
            limit,
            listeners: 0,
            left_out: 0,
            malformed: 0,
        }
    }

    fn add(&mut self, seen: Seen) {
        let listens = seen.state == State::Listen;
        let same_kind = match listens {
            true => self.listeners,
            false => self.sockets.len() - self.listeners,
        };
        if same_kind < self.limit {
            self.listeners += usize::from(listens);
            self.sockets.push(seen);
        } else {
            self.left_out += 1;
        }
    }

    fn finish(self, netns: NetnsId, gaps: &mut Gaps) -> Vec<Seen> {
        let limit = self.limit;
        gaps.add(Reason::LeftOut, self.left_out, || {
            format!("{}: more than {limit} sockets", of(netns))
        });
        gaps.add(Reason::Malformed, self.malformed, || of(netns).to_string());
        let mut sockets = self.sockets;
        // A chain that grows while it is read is told twice in part.
        sockets.sort_by_key(|seen| (seen.local, seen.remote, seen.inode, seen.cookie));
        sockets.dedup_by_key(|seen| (seen.local, seen.remote, seen.inode, seen.cookie));
        sockets
    }
}
