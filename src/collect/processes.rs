//! The processes there are, from `/proc`.
//!
//! Each is read through one directory handle, so that what is said about a pid is never said half about one process
//! and half about the next.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use super::{CollectError, files::Dir};
use crate::{
    base::ids::{NetnsId, ProcKey},
    registry::identity::{CgroupFile, MAX_FILE_BYTES},
};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, LazyLock},
};

/// Fifty numbers and a name.
const MAX_STAT_BYTES: usize = 4096;
const MAX_MOUNTINFO_BYTES: usize = 8 * 1024 * 1024;

/// `PF_KTHREAD` of the kernel's `sched.h`.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// A process as `/proc` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// `/proc` counts in clock ticks: the start is that of the kernel, [cut](cut_to_tick) to the tick it lies in.
    pub key: ProcKey,
    pub parent_tgid: u32,
    /// As the process calls itself: any bytes.
    pub comm: Vec<u8>,
    /// Kernel threads never belong to a container; the rest is not read for them.
    pub kernel_thread: bool,
    /// Shared by all processes of a pass whose file says the same.
    pub cgroups: Arc<CgroupFile>,
    /// `None` where the agent may not look.
    pub netns: Option<NetnsId>,
}

/// What one pass over `/proc` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    pub processes: Vec<Process>,
    /// Processes that are there, and cannot be read.
    pub unreadable: u32,
}

static TICK_NS: LazyLock<u64> = LazyLock::new(|| 1_000_000_000 / procfs::ticks_per_second().max(1));

/// The start of a process that the kernel gives to the nanosecond, as [`Process::key`] has it. For comparing the two;
/// they agree as long as the agent is in the first time namespace.
pub fn cut_to_tick(start_ns: u64) -> u64 {
    start_ns - start_ns % *TICK_NS
}

/// All living processes. One that ends meanwhile is left out, as is one that is dead and only waits for its parent.
/// The number is bounded by the kernel's `pid_max`.
pub fn processes(proc_root: &Path) -> Result<Inventory, CollectError> {
    let mut inventory = Inventory::default();
    let mut known = CgroupFiles::default();
    for pid in numbers(&Dir::open(proc_root.to_owned())?, ".")? {
        match read(proc_root, pid, &mut known) {
            Ok(process) => inventory.processes.extend(process),
            Err(_) => inventory.unreadable += 1,
        }
    }
    Ok(inventory)
}

/// One process; `None` if there is none, or only what is left of it.
pub fn process(proc_root: &Path, tgid: u32) -> Result<Option<Process>, CollectError> {
    read(proc_root, tgid, &mut CgroupFiles::default())
}

/// With the file that says where it is placed, as it is.
pub fn process_with_file(proc_root: &Path, tgid: u32) -> Result<Option<(Process, Vec<u8>)>, CollectError> {
    let mut known = CgroupFiles::default();
    let process = read(proc_root, tgid, &mut known)?;
    Ok(process.map(|process| (process, known.into_keys().next().unwrap_or_default())))
}

/// When the process began whose directory this is.
pub(super) fn start_ns(dir: &Dir) -> Option<u64> {
    let stat = Stat::parse(&dir.read("stat", MAX_STAT_BYTES).ok()?)?;
    Some(stat.start_ticks.saturating_mul(*TICK_NS))
}

/// Another thread than the first, of a process that has one.
pub(super) fn other_thread(dir: &Dir, tgid: u32) -> Option<u32> {
    numbers(dir, "task").ok()?.into_iter().find(|&tid| tid != tgid)
}

/// Many processes share a few cgroups.
type CgroupFiles = HashMap<Vec<u8>, Arc<CgroupFile>>;

fn read(proc_root: &Path, tgid: u32, known: &mut CgroupFiles) -> Result<Option<Process>, CollectError> {
    match try_read(proc_root, tgid, known) {
        Err(error) if error.is_gone() => Ok(None),
        other => other,
    }
}

fn try_read(proc_root: &Path, tgid: u32, known: &mut CgroupFiles) -> Result<Option<Process>, CollectError> {
    let dir = Dir::open(proc_root.join(tgid.to_string()))?;
    let stat = Stat::parse(&dir.read("stat", MAX_STAT_BYTES)?).ok_or_else(|| CollectError::Malformed {
        path: dir.path().join("stat"),
    })?;
    if stat.dead && stat.threads <= 1 {
        return Ok(None);
    }
    let mut process = Process {
        key: ProcKey {
            tgid,
            start_ns: stat.start_ticks.saturating_mul(*TICK_NS),
        },
        parent_tgid: stat.parent,
        comm: stat.comm,
        kernel_thread: stat.flags & KERNEL_THREAD != 0,
        cgroups: Arc::default(),
        netns: None,
    };
    if process.kernel_thread {
        return Ok(Some(process));
    }
    // A first thread that has ended before the others has lost its namespaces and its place in the v1 hierarchies.
    let thread = if stat.dead { other_thread(&dir, tgid) } else { None };
    let below = |name: &str| thread.map_or_else(|| name.to_owned(), |tid| format!("task/{tid}/{name}"));
    let bytes = dir.read(&below("cgroup"), MAX_FILE_BYTES)?;
    process.cgroups = known
        .entry(bytes)
        .or_insert_with_key(|bytes| Arc::new(CgroupFile::parse(bytes)))
        .clone();
    process.netns = dir
        .read_link(&below("ns/net"))
        .ok()
        .and_then(|target| namespace(&target))
        .map(NetnsId);
    Ok(Some(process))
}

/// The entries of a directory that are numbers.
pub(super) fn numbers(dir: &Dir, name: &str) -> Result<Vec<u32>, CollectError> {
    let path = dir.path().join(name);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || rustix::fs::Dir::new(rustix::fs::openat(dir, name, flags, Mode::empty())?);
    let entries = open().map_err(|errno| CollectError::io("open", &path, errno))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|errno| CollectError::io("read", &path, errno))?;
        numbers.extend(
            entry
                .file_name()
                .to_str()
                .ok()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    Ok(numbers)
}

/// The number in `net:[4026531840]`.
pub(super) fn namespace(target: &[u8]) -> Option<u32> {
    let (_, number) = std::str::from_utf8(target).ok()?.split_once(":[")?;
    number.strip_suffix(']')?.parse().ok()
}

/// The part of `/proc/PID/stat` that is of use here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: Vec<u8>,
    dead: bool,
    parent: u32,
    flags: u32,
    threads: u32,
    start_ticks: u64,
}

impl Stat {
    /// The name is printed as it is. Only numbers follow it, so that its end is the last parenthesis.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let begin = bytes.iter().position(|&b| b == b'(')?;
        let end = bytes.iter().rposition(|&b| b == b')')?;
        let comm = bytes.get(begin + 1..end)?.to_vec();
        let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
        // The state is the third field; `nth` counts on from the one before.
        let mut fields = rest.split_ascii_whitespace();
        let dead = matches!(fields.next()?, "Z" | "X" | "x");
        let parent = fields.next()?.parse().ok()?;
        let flags = fields.nth(4)?.parse().ok()?;
        let threads = fields.nth(10)?.parse().ok()?;
        let start_ticks = fields.nth(1)?.parse().ok()?;
        Some(Self {
            comm,
            dead,
            parent,
            flags,
            threads,
            start_ticks,
        })
    }
}

/// Whether these are the host's processes, with the numbers that the kernel tells the programs. The second one has always
/// been a kernel thread there; another PID namespace has none.
pub fn of_the_host(proc_root: &Path) -> bool {
    match process(proc_root, 2) {
        Ok(Some(second)) => second.kernel_thread,
        Ok(None) => hidepid(proc_root),
        Err(_) => true,
    }
}

/// May `/proc` hide processes? Either it was mounted so (a process that may trace all others sees them even then), or
/// the first process cannot be seen at all.
pub fn hidepid(proc_root: &Path) -> bool {
    let first = Dir::open(proc_root.join("1")).is_err_and(|error| error.is_gone());
    first || is_mounted_to_hide(proc_root).unwrap_or(false)
}

fn is_mounted_to_hide(proc_root: &Path) -> Option<bool> {
    let mountinfo = Dir::open(proc_root.join("self"))
        .ok()?
        .read("mountinfo", MAX_MOUNTINFO_BYTES)
        .ok()?;
    let device = rustix::fs::stat(proc_root).ok()?.st_dev;
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    Some(has_option(&mountinfo, &device, "hidepid="))
}

/// In the third field of a line of `mountinfo` is the device; the options of the file system are the last.
fn has_option(mountinfo: &[u8], device: &str, option: &str) -> bool {
    String::from_utf8_lossy(mountinfo)
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(device))
        .any(|line| {
            let options = line.rsplit(' ').next().unwrap_or_default();
            options.split(',').any(|found| found.starts_with(option))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{fs, process::Command};

    const STAT: &str = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9 9";

    fn stat(comm: &str, state: char, flags: u32, threads: u32) -> String {
        format!("7 ({comm}) {state} 3 7 7 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 {threads} 0 4711 9 9 9")
    }

    fn fake(stat: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("7/ns")).unwrap();
        fs::write(root.path().join("7/stat"), stat).unwrap();
        fs::write(root.path().join("7/cgroup"), "0::/a\n").unwrap();
        std::os::unix::fs::symlink("net:[4026531840]", root.path().join("7/ns/net")).unwrap();
        root
    }

    #[test]
    fn stat_line() {
        let expected = Stat {
            comm: b"a) b".to_vec(),
            dead: false,
            parent: 3,
            flags: 4194560,
            threads: 1,
            start_ticks: 4711,
        };
        assert_eq!(Stat::parse(STAT.as_bytes()), Some(expected));
        let hostile = stat("x) R 1 2\n(\u{1}", 'S', 0, 1);
        assert_eq!(Stat::parse(hostile.as_bytes()).unwrap().comm, b"x) R 1 2\n(\x01");
        for short in [
            "",
            "7",
            "7 (a",
            "7 a)",
            ")(",
            "7 (a) S",
            "7 (a) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0",
        ] {
            assert_eq!(Stat::parse(short.as_bytes()), None, "{short}");
        }
    }

    #[test]
    fn fake_process() {
        let root = fake(&stat("web", 'S', 0, 1));
        let found = process(root.path(), 7).unwrap().unwrap();
        assert_eq!(
            found.key,
            ProcKey {
                tgid: 7,
                start_ns: 4711 * *TICK_NS
            }
        );
        assert_eq!(
            (found.parent_tgid, &*found.comm, found.kernel_thread),
            (3, b"web".as_slice(), false)
        );
        assert_eq!(found.cgroups.unified.as_deref(), Some("/a"));
        assert_eq!(found.netns, Some(NetnsId(4026531840)));
        assert_eq!(process(root.path(), 8).unwrap(), None);
        // Whose namespaces cannot be seen is a process all the same.
        fs::remove_file(root.path().join("7/ns/net")).unwrap();
        assert_eq!(process(root.path(), 7).unwrap().unwrap().netns, None);
        fs::write(root.path().join("7/stat"), "nonsense").unwrap();
        assert!(matches!(process(root.path(), 7), Err(CollectError::Malformed { .. })));
        assert_eq!(
            processes(root.path()).unwrap(),
            Inventory {
                processes: vec![],
                unreadable: 1
            }
        );
    }

    #[test]
    fn kernel_thread() {
        let root = fake(&stat("kworker/0:1", 'I', 69238880, 1));
        let found = process(root.path(), 7).unwrap().unwrap();
        assert!(found.kernel_thread);
        assert_eq!((found.cgroups.unified.as_deref(), found.netns), (None, None));
    }

    #[test]
    fn whose_processes() {
        assert!(of_the_host(Path::new("/proc")));
        let root = tempfile::tempdir().unwrap();
        assert!(of_the_host(root.path()), "hidden");
        for pid in ["1", "2"] {
            fs::create_dir(root.path().join(pid)).unwrap();
            assert!(!of_the_host(root.path()), "{pid}");
        }
        for (text, expected) in [
            (stat("sh", 'S', 0, 1), false),
            (stat("kthreadd", 'S', 2129984, 1), true),
            ("nonsense".to_owned(), true),
        ] {
            fs::write(root.path().join("2/stat"), &text).unwrap();
            fs::write(root.path().join("2/cgroup"), "0::/\n").unwrap();
            assert_eq!(of_the_host(root.path()), expected, "{text}");
        }
    }

    #[test]
    fn dead_or_half_dead() {
        assert_eq!(process(fake(&stat("a", 'Z', 0, 1)).path(), 7).unwrap(), None);
        let root = fake(&stat("a", 'Z', 0, 2));
        for (tid, cgroup) in [(7, "1:cpu:/\n"), (9, "1:cpu:/b\n")] {
            let task = root.path().join(format!("7/task/{tid}"));
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("cgroup"), cgroup).unwrap();
        }
        let found = process(root.path(), 7).unwrap().unwrap();
        assert_eq!(found.cgroups.cpu.as_deref(), Some("/b"));
    }

    #[test]
    fn real_processes() {
        let uptime = || {
            let text = fs::read_to_string("/proc/uptime").unwrap();
            // Hundredths, which a float times a billion would miss by a nanosecond.
            let hundredths = text.split(' ').next().unwrap().replace('.', "");
            hundredths.parse::<u64>().unwrap() * 10_000_000
        };
        let before = uptime();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let after = uptime();
        let proc = Path::new("/proc");
        let inventory = processes(proc).unwrap();
        let of = |tgid| {
            inventory
                .processes
                .iter()
                .find(|process| process.key.tgid == tgid)
                .unwrap()
        };
        let (me, found) = (of(std::process::id()), of(child.id()));
        assert_eq!(found.parent_tgid, std::process::id());
        assert!(
            (before..=after).contains(&found.key.start_ns),
            "{before} {found:?} {after}"
        );
        assert_eq!(found.netns, me.netns);
        assert!(found.netns.is_some());
        assert!(Arc::ptr_eq(&found.cgroups, &me.cgroups), "the same file is kept once");
        assert_eq!(
            *found.cgroups,
            CgroupFile::parse(&fs::read("/proc/self/cgroup").unwrap())
        );
        assert_eq!(process(proc, child.id()).unwrap().as_ref(), Some(found));
        child.kill().unwrap();
        // Dead, and not yet waited for.
        while !fs::read_to_string(format!("/proc/{}/stat", child.id()))
            .unwrap()
            .contains(") Z ")
        {
            std::thread::yield_now();
        }
        assert_eq!(process(proc, child.id()).unwrap(), None);
        child.wait().unwrap();
        assert_eq!(process(proc, child.id()).unwrap(), None);
    }

    #[test]
    fn ticks() {
        assert_eq!(cut_to_tick(0), 0);
        assert_eq!(cut_to_tick(*TICK_NS * 5 + 1), *TICK_NS * 5);
        assert_eq!(cut_to_tick(*TICK_NS * 6 - 1), *TICK_NS * 5);
    }

    #[test]
    fn hidden_processes() {
        assert!(!hidepid(Path::new("/proc")));
        assert!(hidepid(fake(STAT).path()), "no first process");
        let mountinfo = b"22 1 0:21 / /sys rw - sysfs sysfs rw\n\
            23 1 0:22 / /proc rw,nosuid shared:5 - proc proc rw,gid=4,hidepid=invisible\n\
            24 1 0:23 / /other rw - proc proc rw\n";
        assert!(has_option(mountinfo, "0:22", "hidepid="));
        assert!(!has_option(mountinfo, "0:23", "hidepid="));
        assert!(!has_option(mountinfo, "0:2", "hidepid="));
        assert!(!has_option(b"", "0:22", "hidepid="));
    }

    #[test]
    fn namespaces() {
        assert_eq!(namespace(b"net:[4026531840]"), Some(4026531840));
        for bad in ["", "net", "net:[", "net:[x]", "net:[1", "net:[99999999999]"] {
            assert_eq!(namespace(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn total(bytes: Vec<u8>, likely in "7 \\(\\PC{0,16}\\) [SZ]( -?[0-9]{1,20}){0,30}") {
            Stat::parse(&bytes);
            Stat::parse(likely.as_bytes());
            namespace(&bytes);
            has_option(&bytes, "0:1", "hidepid=");
        }
    }
}
