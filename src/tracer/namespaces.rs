//! Runs an iterator that sees one network namespace only in each of several.
use super::iter::Iterator;
use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{collections::BTreeMap, fs::File, io, os::fd::AsFd, path::Path, thread};

/// What stopped a look into another namespace.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Entering them takes CAP_SYS_ADMIN.
    pub not_permitted: bool,
}

/// `processes`: one for each namespace. Those that have gone, and with them perhaps their namespace, are left out.
pub(super) fn read_in(iterator: &Iterator, processes: &BTreeMap<u32, u32>, proc: &Path) -> Refusals {
    let mut refusals = Refusals::default();
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
            Ok(())
        };
        refusals.not_permitted |=
            result.is_err_and(|error| Errno::from_io_error(&error).is_some_and(|errno| errno == Errno::PERM));
    }
    refusals
}

/// Of the namespace that a link names.
fn inode(link: &Path) -> Option<u32> {
    let target = std::fs::read_link(link).ok()?;
    let (_, number) = target.to_str()?.split_once(":[")?;
    number.strip_suffix(']')?.parse().ok()
}
