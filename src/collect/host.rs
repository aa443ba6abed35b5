//! Who the node is: read from the host's files and namespaces, not from those of a container the agent may be in.
//!
//! Everything has the same order of preference: the first process, whose root and namespaces are the host's; what the
//! config names, for hosts where the first process may not be looked at; the agent's own.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use super::{
    CollectError,
    files::{Dir, read_whole},
    processes::{namespace, of_the_host},
};
use crate::base::ids::NetnsId;
use rustix::{
    fs::{FileType, FsWord, Mode, OFlags, ResolveFlags},
    system::uname,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde::{Deserialize, Serialize};
use std::{
    error::Error,
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
};

const MAX_HOST_FILE_BYTES: usize = 64 * 1024;
/// The longest name that DNS allows.
const MAX_HOSTNAME_BYTES: usize = 253;

/// `NSFS_MAGIC` of the kernel's `magic.h`.
const NSFS: FsWord = 0x6e73_6673;

const PRODUCT_UUID: &str = "/sys/devices/virtual/dmi/id/product_uuid";

/// Where something about the host was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    FirstProcess,
    Configured,
    /// Right on a plain host. In a container it tells about the container.
    Own,
}

/// The root directory of the host.
pub struct HostFiles {
    root: Dir,
    source: Source,
    reason: Option<String>,
}

impl HostFiles {
    /// Where the host's root is seen.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// `configured` is `host.root`; empty: there is none.
    pub fn open(proc_root: &Path, configured: &Path) -> Result<Self, CollectError> {
        let mut missed = Missed::default();
        let first = first_process(proc_root).map(|first| first.join("root"));
        let mut candidates = vec![(first, Source::FirstProcess)];
        if !configured.as_os_str().is_empty() {
            candidates.push((Ok(configured.to_owned()), Source::Configured));
        }
        for (path, source) in candidates {
            if let Some(root) = missed.unless(path.and_then(Dir::open)) {
                return Ok(Self {
                    root,
                    source,
                    reason: missed.reason(),
                });
            }
        }
        Ok(Self {
            root: Dir::open("/".into())?,
            source: Source::Own,
            reason: missed.reason(),
        })
    }

    pub fn source(&self) -> Source {
        self.source
    }

    /// Why nothing better was used, if there is better.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// A regular file of moderate size. Symbolic links are followed as the host itself would, and never out.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, CollectError> {
        let shown = self.root.path().join(path.trim_start_matches('/'));
        // A FIFO does not block the open, a terminal does not become the agent's own.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
            .and_then(|fd| Ok((rustix::fs::fstat(&fd)?, fd)));
        match file {
            Err(errno) => Err(CollectError::io("open", &shown, errno)),
            Ok((stat, _)) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                Err(CollectError::NotRegular { path: shown })
            }
            Ok((_, fd)) => read_whole(fd.into(), &shown, MAX_HOST_FILE_BYTES),
        }
    }

    fn text(&self, path: &str) -> Option<String> {
        let text = String::from_utf8(self.read(path).ok()?).ok()?;
        Some(text.trim().to_owned())
    }
}

/// That of a container is no way to the host.
fn first_process(proc_root: &Path) -> Result<PathBuf, CollectError> {
    match of_the_host(proc_root) {
        true => Ok(proc_root.join("1")),
        false => Err(CollectError::NotTheHosts {
            path: proc_root.to_owned(),
        }),
    }
}

/// The label `machine_id`: empty if the host has none. (The Go agent takes a file that only says `uninitialized`, as
/// systemd leaves it before the first boot is over.)
pub fn machine_id(files: &HostFiles) -> String {
    let id = |path| {
        files
            .text(path)
            .filter(|text| is_id(text))
            .map(|text| text.replace('-', ""))
    };
    ["/etc/machine-id", "/var/lib/dbus/machine-id", PRODUCT_UUID]
        .into_iter()
        .find_map(id)
        .unwrap_or_default()
}

/// The label `system_uuid`: empty if the firmware tells none.
pub fn system_uuid(files: &HostFiles) -> String {
    files.text(PRODUCT_UUID).filter(|text| is_id(text)).unwrap_or_default()
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// The name of the host, and whence. Where the agent may not enter the first process's UTS namespace, the host's file
/// tells the name as of the last boot.
pub fn hostname(proc_root: &Path, files: &HostFiles) -> (String, Source) {
    if let Some(name) = first_hostname(proc_root) {
        return (name, Source::FirstProcess);
    }
    if files.source() != Source::Own
        && let Some(name) = files.text("/etc/hostname").filter(|text| is_hostname(text))
    {
        return (name, files.source());
    }
    (own_hostname(), Source::Own)
}

fn first_hostname(proc_root: &Path) -> Option<String> {
    let uts = File::open(first_process(proc_root).ok()?.join("ns/uts")).ok()?;
    let own = fs::metadata(proc_root.join("self/ns/uts")).ok()?;
    if uts.metadata().ok()?.ino() == own.ino() {
        return Some(own_hostname());
    }
    // Only the thread that looks enters, and then ends.
    let enter = || move_into_link_name_space(uts.as_fd(), Some(LinkNameSpaceType::HostNameAndNISDomainName));
    let look = || enter().ok().map(|()| own_hostname());
    thread::scope(|scope| thread::Builder::new().spawn_scoped(scope, look).ok()?.join().ok()?)
}

fn own_hostname() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

fn is_hostname(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_HOSTNAME_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The label `kernel_version`. There is only one kernel.
pub fn kernel_release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// The network namespace in which loopback addresses mean the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetns {
    pub id: NetnsId,
    pub source: Source,
    /// Why nothing better was used, if there is better.
    pub reason: Option<String>,
}

/// `configured` is `host.netns`, a file that a namespace is mounted at or linked from; empty: there is none. Fails only
/// where the agent cannot see its own.
pub fn host_netns(proc_root: &Path, configured: &Path) -> Result<HostNetns, CollectError> {
    let mut missed = Missed::default();
    if let Some(id) = missed.unless(first_process(proc_root).and_then(|first| netns_of(&first))) {
        return Ok(HostNetns {
            id,
            source: Source::FirstProcess,
            reason: missed.reason(),
        });
    }
    if !configured.as_os_str().is_empty()
        && let Some(id) = missed.unless(netns_at(configured))
    {
        return Ok(HostNetns {
            id,
            source: Source::Configured,
            reason: missed.reason(),
        });
    }
    let id = netns_of(&proc_root.join("self"))?;
    Ok(HostNetns {
        id,
        source: Source::Own,
        reason: missed.reason(),
    })
}

fn netns_of(process: &Path) -> Result<NetnsId, CollectError> {
    let target = Dir::open(process.to_owned())?.read_link("ns/net")?;
    namespace(&target).map(NetnsId).ok_or_else(|| CollectError::Malformed {
        path: process.join("ns/net"),
    })
}

fn netns_at(path: &Path) -> Result<NetnsId, CollectError> {
    let found = rustix::fs::statfs(path).and_then(|system| Ok((system.f_type, rustix::fs::stat(path)?.st_ino)));
    match found.map_err(|errno| CollectError::io("open", path, errno))? {
        (NSFS, inode) => u32::try_from(inode).ok().map(NetnsId),
        _ => None,
    }
    .ok_or_else(|| CollectError::NotNamespace { path: path.to_owned() })
}

/// What failed on the way to an answer.
#[derive(Default)]
struct Missed(Vec<String>);

impl Missed {
    fn unless<T>(&mut self, result: Result<T, CollectError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        self.0.push(match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        None
    }

    fn reason(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mknodat};
    use std::{os::unix::fs::symlink, path::PathBuf};

    const ID: &str = "0123456789abcdef0123456789abcdef";
    const UUID: &str = "EC2E1916-9099-7CAF-FD21-012345ABCDEF";

    fn of_a_host(proc: &Path) {
        let stat = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 2 0 0";
        fs::create_dir_all(proc.join("2")).unwrap();
        fs::write(proc.join("2/stat"), stat).unwrap();
    }

    /// A `/proc` whose first process has the root `host` next to it.
    fn fake(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf, HostFiles) {
        let temp = tempfile::tempdir().unwrap();
        let (proc, host) = (temp.path().join("proc"), temp.path().join("host"));
        fs::create_dir_all(proc.join("1")).unwrap();
        of_a_host(&proc);
        fs::create_dir_all(&host).unwrap();
        symlink(&host, proc.join("1/root")).unwrap();
        for (path, text) in files {
            let path = host.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = HostFiles::open(&proc, Path::new("")).unwrap();
        (temp, host, files)
    }

    #[test]
    fn which_root() {
        let (temp, host, files) = fake(&[]);
        assert_eq!((files.source(), files.reason()), (Source::FirstProcess, None));
        let proc = temp.path().join("proc");
        fs::remove_file(proc.join("1/root")).unwrap();
        let files = HostFiles::open(&proc, &host).unwrap();
        assert_eq!(files.source(), Source::Configured);
        let lost = format!(
            "cannot open {}: No such file or directory (os error 2)",
            proc.join("1/root").display()
        );
        assert_eq!(files.reason(), Some(&*lost));
        let files = HostFiles::open(&proc, Path::new("/nowhere")).unwrap();
        assert_eq!(files.source(), Source::Own);
        assert!(files.reason().unwrap().contains(&lost) && files.reason().unwrap().contains("/nowhere"));
        assert_eq!(HostFiles::open(&proc, Path::new("")).unwrap().reason(), Some(&*lost));

        // Of a container with a PID namespace of its own.
        symlink(&host, proc.join("1/root")).unwrap();
        fs::remove_dir_all(proc.join("2")).unwrap();
        let files = HostFiles::open(&proc, Path::new("")).unwrap();
        assert_eq!(files.source(), Source::Own);
        assert!(
            files
                .reason()
                .unwrap()
                .ends_with("another PID namespace than the host's")
        );
        assert_eq!(HostFiles::open(&proc, &host).unwrap().source(), Source::Configured);
    }

    #[test]
    fn ids() {
        let all = [
            ("/etc/machine-id", ID),
            ("/var/lib/dbus/machine-id", "ff"),
            (PRODUCT_UUID, UUID),
        ];
        let (_temp, _, files) = fake(&all);
        assert_eq!(
            (machine_id(&files), system_uuid(&files)),
            (ID.to_owned(), UUID.to_owned())
        );
        for unusable in ["", "\n", "uninitialized\n", "a b", "\u{7f}"] {
            let (_temp, _, files) = fake(&[("/etc/machine-id", unusable), ("/var/lib/dbus/machine-id", " ff\n")]);
            assert_eq!(machine_id(&files), "ff", "{unusable:?}");
            assert_eq!(system_uuid(&files), "");
        }
        let (_temp, _, files) = fake(&[(PRODUCT_UUID, &format!("{UUID}\n"))]);
        assert_eq!(
            (machine_id(&files), system_uuid(&files)),
            (UUID.replace('-', ""), UUID.to_owned())
        );
        let (_temp, _, files) = fake(&[]);
        assert_eq!(machine_id(&files), "");
    }

    #[test]
    fn links_stay_inside() {
        let (temp, host, files) = fake(&[("/run/id", ID), ("/etc/other", "inside")]);
        fs::write(temp.path().join("outside"), "outside").unwrap();
        symlink("/run/id", host.join("etc/machine-id")).unwrap();
        assert_eq!(machine_id(&files), ID, "an absolute link begins at the host's root");
        symlink("../../../outside", host.join("etc/up")).unwrap();
        symlink(temp.path().join("outside"), host.join("etc/away")).unwrap();
        assert!(files.read("/etc/up").unwrap_err().is_gone());
        assert!(files.read("/etc/away").unwrap_err().is_gone());
        assert!(files.read("/../outside").unwrap_err().is_gone());
        assert_eq!(files.read("/../etc/other").unwrap(), b"inside");
    }

    #[test]
    fn only_regular_files() {
        let (_temp, host, files) = fake(&[("/etc/large", "")]);
        mknodat(CWD, host.join("etc/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(files.read("/etc/fifo"), Err(CollectError::NotRegular { .. })));
        assert!(matches!(files.read("/etc"), Err(CollectError::NotRegular { .. })));
        let large = File::options().write(true).open(host.join("etc/large")).unwrap();
        large.set_len(MAX_HOST_FILE_BYTES as u64 + 1).unwrap();
        assert!(matches!(files.read("/etc/large"), Err(CollectError::TooLarge { .. })));
    }

    #[test]
    fn name_of_the_host() {
        let (temp, _, files) = fake(&[("/etc/hostname", "node-7\n")]);
        let proc = temp.path().join("proc");
        assert_eq!(hostname(&proc, &files), ("node-7".to_owned(), Source::FirstProcess));
        let (temp, _, files) = fake(&[("/etc/hostname", "two words\n")]);
        assert_eq!(
            hostname(&temp.path().join("proc"), &files),
            (own_hostname(), Source::Own)
        );
        // The namespace of the first process is the agent's.
        fs::create_dir_all(proc.join("1/ns")).unwrap();
        fs::create_dir_all(proc.join("self/ns")).unwrap();
        symlink("/proc/self/ns/uts", proc.join("1/ns/uts")).unwrap();
        symlink("/proc/self/ns/uts", proc.join("self/ns/uts")).unwrap();
        assert_eq!(hostname(&proc, &files), (own_hostname(), Source::FirstProcess));
        assert!(!own_hostname().is_empty());
        assert_eq!(
            kernel_release(),
            fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim()
        );
    }

    #[test]
    fn network_namespace() {
        let temp = tempfile::tempdir().unwrap();
        let proc = temp.path();
        for (pid, target) in [("1", "net:[111]"), ("self", "net:[222]")] {
            fs::create_dir_all(proc.join(pid).join("ns")).unwrap();
            symlink(target, proc.join(pid).join("ns/net")).unwrap();
        }
        assert_eq!(host_netns(proc, Path::new("")).unwrap().source, Source::Own);
        of_a_host(proc);
        let first = host_netns(proc, Path::new("/proc/self/ns/net")).unwrap();
        assert_eq!(
            first,
            HostNetns {
                id: NetnsId(111),
                source: Source::FirstProcess,
                reason: None
            }
        );
        fs::remove_file(proc.join("1/ns/net")).unwrap();
        let configured = host_netns(proc, Path::new("/proc/self/ns/net")).unwrap();
        let expected = namespace(fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap().as_bytes()).unwrap();
        assert_eq!(
            (configured.id, configured.source),
            (NetnsId(expected), Source::Configured)
        );
        assert!(configured.reason.unwrap().contains("1/ns/net: No such file"));
        let own = host_netns(proc, Path::new("/etc/passwd")).unwrap();
        assert_eq!((own.id, own.source), (NetnsId(222), Source::Own));
        assert!(own.reason.unwrap().ends_with("; /etc/passwd is not a namespace"));
        fs::remove_file(proc.join("self/ns/net")).unwrap();
        assert!(host_netns(proc, Path::new("")).unwrap_err().is_gone());
    }
}
