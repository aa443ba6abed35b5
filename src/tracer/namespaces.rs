//! Does things in other network namespaces.
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
    path::{Path, PathBuf},
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

/// `processes`: who holds sockets of each namespace. Where all of them have gone, the namespace is left out.
pub(super) fn read_in(iterator: &Iterator, processes: &BTreeMap<u32, BTreeSet<u32>>, proc: &Path) -> Looks {
    let mut looks = Looks::default();
    let own = inode(&proc.join("thread-self/ns/net"));
    for (netns, holders) in processes {
        let result = if own == Some(*netns) {
            iterator.read(&mut Vec::new())
        } else if let Some(path) = door(*netns, holders, proc) {
            inside(&path, || iterator.read(&mut Vec::new()))
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

/// On a thread in that network namespace: it stays where it goes, and so ends there.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = File::open(namespace)?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        });
        inside.join().unwrap_or(Err(io::ErrorKind::Other.into()))
    })
}

/// By which a namespace can be entered. A socket stays in the namespace it was made in, its holder need not.
fn door(netns: u32, holders: &BTreeSet<u32>, proc: &Path) -> Option<PathBuf> {
    let mut paths = holders.iter().map(|tgid| proc.join(tgid.to_string()).join("ns/net"));
    paths.find(|path| inode(path) == Some(netns))
}

/// Of the namespace that a link names.
pub fn inode(link: &Path) -> Option<u32> {
    let target = std::fs::read_link(link).ok()?;
    let (_, number) = target.to_str()?.split_once(":[")?;
    number.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_namespace_is_entered_by_a_holder_that_is_still_in_it() {
        let proc = tempfile::tempdir().unwrap();
        for (tgid, netns) in [(7, 1), (8, 2), (9, 1)] {
            let folder = proc.path().join(format!("{tgid}/ns"));
            fs::create_dir_all(&folder).unwrap();
            symlink(format!("net:[{netns}]"), folder.join("net")).unwrap();
        }
        let found = |netns, holders: &[u32]| door(netns, &holders.iter().copied().collect(), proc.path());
        let inside = proc.path().join("8/ns/net");
        // 7 and 9 made their sockets elsewhere, 6 has gone.
        assert_eq!(found(2, &[6, 7, 8, 9]), Some(inside));
        assert_eq!(found(2, &[6, 7, 9]), None);
        assert_eq!(found(3, &[]), None);
    }
}
