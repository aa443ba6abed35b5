//! Runs an iterator that sees one network namespace only in each of several.
use super::iter::Iterator;
use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::fd::AsFd,
    path::Path,
    thread,
};

/// What came of a look into the namespaces.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Where it was read to the end.
    pub visited: BTreeSet<u32>,
    /// Entering them takes CAP_SYS_ADMIN.
    pub not_permitted: bool,
}

/// `processes`: one for each namespace. Those that have gone, and with them perhaps their namespace, are left out.
pub(super) fn read_in(iterator: &Iterator, processes: &BTreeMap<u32, u32>, proc: &Path) -> Looks {
    let mut looks = Looks::default();
    let own = inode(&proc.join("thread-self/ns/net"));
    for (netns, tgid) in processes {
        let path = proc.join(tgid.to_string()).join("ns/net");
        let result = if own == Some(*netns) {
            iterator.read(&mut Vec::new())
        } else if inode(&path) == Some(*netns) {
            // It stays where it goes, and so ends there.
            thread::scope(|scope| {
                let inside = scope.spawn(|| {
                    let namespace = File::open(&path)?;
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                    iterator.read(&mut Vec::new())
                });
                inside.join().unwrap_or(Err(io::ErrorKind::Other.into()))
            })
        } else {
            continue;
        };
        match result {
            Ok(()) => {
                looks.visited.insert(*netns);
            }
            Err(error) => looks.not_permitted |= Errno::from_io_error(&error) == Some(Errno::PERM),
        }
    }
    looks
}

/// Of the namespace that a link names.
fn inode(link: &Path) -> Option<u32> {
    let target = std::fs::read_link(link).ok()?;
    let (_, number) = target.to_str()?.split_once(":[")?;
    number.strip_suffix(']')?.parse().ok()
}
