//! Who uses a socket: a process that has a descriptor for it.
//!
//! Several may. Of a connection it is the one that started last: a server that forks for each connection and keeps its own
//! copy, `inetd` or `sshd` before it hands over. Of a listener the same one decides to whom it belongs, so that a socket
//! that systemd opened is the service's; but in its cgroup the process that started *first*, the master: workers come and
//! go while the listener stays.
use super::{
    Reason, State,
    gaps::Gaps,
    namespaces::{Spaces, living},
};
use crate::{
    base::ids::ProcKey,
    collect::{
        CollectError,
        files::Dir,
        processes::{Inventory, Process, process},
    },
};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{collections::HashMap, mem::MaybeUninit, path::Path, sync::Arc};

/// As many as the kernel allows a process unless it is told otherwise (`fs.nr_open`).
const MAX_DESCRIPTORS: usize = 1 << 20;
/// `socket:[` and a number.
const MAX_LINK_BYTES: usize = 32;

/// By inode; these are unique on a host, whatever the namespace.
pub(super) type Owners = HashMap<u64, ProcKey>;

#[derive(Default)]
struct Candidate<'a> {
    listens: bool,
    holder: Option<&'a Process>,
}

impl<'a> Candidate<'a> {
    /// Holders come in the order of their start, the last one first.
    fn held_by(&mut self, process: &'a Process) {
        match self.holder {
            None => self.holder = Some(process),
            Some(later) if self.listens && same_cgroup(later, process) => self.holder = Some(process),
            Some(_) => {}
        }
    }
}

fn same_cgroup(a: &Process, b: &Process) -> bool {
    Arc::ptr_eq(&a.cgroups, &b.cgroups) || a.cgroups == b.cgroups
}

pub(super) fn owners(proc_root: &Path, processes: &Inventory, spaces: &Spaces, gaps: &mut Gaps) -> Owners {
    let mut candidates = HashMap::<u64, Candidate<'_>>::new();
    for seen in spaces.values().flatten().filter(|seen| seen.inode != 0) {
        candidates.entry(seen.inode).or_default().listens |= seen.state == State::Listen;
    }
    let mut holders: Vec<_> = processes
        .processes
        .iter()
        .filter(|process| !process.kernel_thread)
        .collect();
    holders.sort_by_key(|process| std::cmp::Reverse((process.key.start_ns, process.key.tgid)));
    let mut held = Vec::new();
    for holder in holders {
        held.clear();
        let tgid = holder.key.tgid;
        let looked = living(proc_root, tgid).and_then(|dir| {
            each_socket(&dir, |inode| {
                if candidates.contains_key(&inode) {
                    held.push(inode);
                }
            })
        });
        match looked {
            Ok(true) => {}
            Ok(false) => gaps.add(Reason::OwnersHidden, 1, || {
                format!("process {tgid}: more than {MAX_DESCRIPTORS} descriptors")
            }),
            Err(error) if error.is_gone() => {}
            Err(error) => gaps.failed(Reason::OwnersHidden, format_args!("process {tgid}"), &error),
        }
        // Still the same: then it was when its descriptors were read, too.
        if held.is_empty()
            || process(proc_root, tgid)
                .ok()
                .flatten()
                .is_none_or(|now| now.key != holder.key)
        {
            continue;
        }
        for inode in &held {
            if let Some(candidate) = candidates.get_mut(inode) {
                candidate.held_by(holder);
            }
        }
    }
    candidates
        .into_iter()
        .filter_map(|(inode, candidate)| Some((inode, candidate.holder?.key)))
        .collect()
}

/// The inodes of a process's sockets; false if there may be more.
fn each_socket(process: &Dir, mut each: impl FnMut(u64)) -> Result<bool, CollectError> {
    let path = process.path().join("fd");
    let failed = |op| {
        let path = &path;
        move |errno: Errno| CollectError::io(op, path, errno)
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(process, "fd", flags, Mode::empty()).map_err(failed("open"))?;
    let mut entries = rustix::fs::Dir::read_from(&fd).map_err(failed("open"))?;
    let mut count = 0;
    let mut link = [MaybeUninit::uninit(); MAX_LINK_BYTES];
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(failed("read"))?;
        if !entry.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        count += 1;
        if count > MAX_DESCRIPTORS {
            return Ok(false);
        }
        match rustix::fs::readlinkat_raw(&fd, entry.file_name(), &mut link[..]) {
            Ok((target, _)) => socket(target).into_iter().for_each(&mut each),
            // Whose descriptors may be listed, but not followed.
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(failed("read")(errno)),
            // Closed meanwhile.
            Err(_) => {}
        }
    }
    Ok(true)
}

fn socket(target: &[u8]) -> Option<u64> {
    let number = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}
