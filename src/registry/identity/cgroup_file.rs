//! `/proc/PID/cgroup`, and which of its paths says where the process is placed.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Room for every v1 controller on a hierarchy of its own, each with the longest path.
pub const MAX_FILE_BYTES: usize = 128 * 1024;

/// The kernel prints no path longer than `PATH_MAX`; the rest is for the names of the controllers.
const MAX_LINE_BYTES: usize = 4096 + 256;

/// What the kernel appends to a path of the unified hierarchy whose directory is gone.
const REMOVED: &str = " (deleted)";

/// The paths of one process that can tell its placement, as the kernel printed them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CgroupFile {
    pub unified: Option<String>,
    pub cpu: Option<String>,
    pub memory: Option<String>,
    /// The named hierarchy that systemd uses on v1 and hybrid hosts.
    pub systemd: Option<String>,
    /// The unified cgroup has been removed: the process is about to be gone.
    pub removed: bool,
}

impl CgroupFile {
    /// Total: a line that is too long or not made of three parts is left out, bytes that are not UTF-8 are replaced.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut file = Self::default();
        for line in bytes.split(|&b| b == b'\n').filter(|line| line.len() <= MAX_LINE_BYTES) {
            let mut parts = line.splitn(3, |&b| b == b':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            if path.is_empty() {
                continue;
            }
            let path = String::from_utf8_lossy(path);
            for controller in controllers.split(|&b| b == b',') {
                match controller {
                    b"" => {
                        let kept = path.strip_suffix(REMOVED);
                        file.removed = kept.is_some();
                        file.unified = Some(kept.unwrap_or(&path).to_owned());
                    }
                    b"cpu" => file.cpu = Some(path.clone().into_owned()),
                    b"memory" => file.memory = Some(path.clone().into_owned()),
                    b"name=systemd" => file.systemd = Some(path.clone().into_owned()),
                    _ => {}
                }
            }
        }
        file
    }
}

/// From where cgroup paths are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRoot {
    /// Both cleaned, without a slash at the end: the root itself is empty.
    base: String,
    root: String,
}

impl CgroupRoot {
    /// `base` is where the agent's cgroup namespace begins, seen from the host's root: the kernel prints all paths
    /// relative to it. `root` is the configured `identity.cgroup_root`. Both are `/` on a plain host.
    ///
    /// One base serves all hierarchies: container runtimes give a container the same path in each.
    pub fn new(base: &str, root: &str) -> Self {
        let cleaned = |path| match clean("", path) {
            path if path == "/" => String::new(),
            path => path,
        };
        Self {
            base: cleaned(base),
            root: cleaned(root),
        }
    }

    /// `None` for the places where a process belongs to nobody.
    fn resolve(&self, path: &str) -> Option<String> {
        let path = clean(&self.base, path);
        let path = match path.strip_prefix(&self.root) {
            Some("") => return None,
            Some(below) if below.starts_with('/') => below,
            _ => &path,
        };
        if path == "/" || path == "/init.scope" {
            return None;
        }
        // What LXC puts below is the business of the init inside.
        if path.starts_with("/lxc.payload.") {
            return path.split('/').nth(1).map(|first| format!("/{first}"));
        }
        Some(path.to_owned())
    }
}

/// Follows `.` and `..`, as in the paths that the kernel prints for processes outside the reader's cgroup namespace.
fn clean(base: &str, path: &str) -> String {
    let mut segments = Vec::new();
    for segment in base.split('/').chain(path.split('/')) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Where a process is placed: an absolute, cleaned path; `/` when it is placed nowhere in particular.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CgroupPath {
    pub path: Arc<str>,
    /// As in [`CgroupFile::removed`]: no reason to bring a container to life.
    pub removed: bool,
}

/// Why a path is the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// Kubernetes' wins wherever it stands.
    PodOfCpu,
    PodOfMemory,
    Unified,
    /// Of v1 hierarchies in this order, where the unified one says nothing.
    Cpu,
    Memory,
    Systemd,
    /// None says anything but the root.
    Nowhere,
}

impl PathRule {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodOfCpu => "pod_of_cpu",
            Self::PodOfMemory => "pod_of_memory",
            Self::Unified => "unified",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Systemd => "systemd",
            Self::Nowhere => "nowhere",
        }
    }
}

/// The path that counts. Kubernetes' wins wherever it stands, since with some runtimes the unified path is that of the
/// runtime's own service.
pub fn placement(file: &CgroupFile, root: &CgroupRoot) -> CgroupPath {
    placement_by(file, root).0
}

/// With the reason.
pub fn placement_by(file: &CgroupFile, root: &CgroupRoot) -> (CgroupPath, PathRule) {
    let resolve = |path: &Option<String>| path.as_deref().and_then(|path| root.resolve(path));
    let (cpu, memory) = (resolve(&file.cpu), resolve(&file.memory));
    let is_pod = |path: &Option<String>| path.as_deref().is_some_and(|path| path.starts_with("/kubepods"));
    let unified = resolve(&file.unified);
    let (path, rule) = if is_pod(&cpu) {
        (cpu, PathRule::PodOfCpu)
    } else if is_pod(&memory) {
        (memory, PathRule::PodOfMemory)
    } else if unified.is_some() {
        (unified, PathRule::Unified)
    } else if cpu.is_some() {
        (cpu, PathRule::Cpu)
    } else if memory.is_some() {
        (memory, PathRule::Memory)
    } else {
        match resolve(&file.systemd) {
            Some(path) => (Some(path), PathRule::Systemd),
            None => (None, PathRule::Nowhere),
        }
    };
    let path = CgroupPath {
        path: path.as_deref().unwrap_or("/").into(),
        removed: rule == PathRule::Unified && file.removed,
    };
    (path, rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path_of(file: &str, root: &CgroupRoot) -> String {
        placement(&CgroupFile::parse(file.as_bytes()), root).path.to_string()
    }

    fn host(file: &str) -> String {
        path_of(file, &CgroupRoot::default())
    }

    #[test]
    fn unified_only() {
        assert_eq!(host("0::/system.slice/nginx.service\n"), "/system.slice/nginx.service");
        assert_eq!(host("0::/\n"), "/");
        assert_eq!(host("0::/init.scope\n"), "/");
        assert_eq!(host("0::/init.scope/below\n"), "/init.scope/below");
        assert_eq!(host(""), "/");
    }

    #[test]
    fn order_of_hierarchies() {
        let file = "5:name=systemd:/s\n4:memory:/m\n3:cpu,cpuacct:/c\n0::/u\n";
        assert_eq!(host(file), "/u");
        assert_eq!(host("5:name=systemd:/s\n4:memory:/m\n3:cpu,cpuacct:/c\n0::/\n"), "/c");
        assert_eq!(host("5:name=systemd:/s\n4:memory:/m\n3:cpu,cpuacct:/\n0::/\n"), "/m");
        assert_eq!(host("5:name=systemd:/s\n3:cpuacct,cpu:/init.scope\n"), "/s");
        assert_eq!(
            host("7:blkio:/b\n8:pids:/p\n"),
            "/",
            "no other controller tells the placement"
        );
    }

    #[test]
    fn kubernetes_wins() {
        let file = "3:cpu,cpuacct:/kubepods/burstable/pod1/x\n0::/reserved.slice/containerd.service\n";
        assert_eq!(host(file), "/kubepods/burstable/pod1/x");
        let file = "4:memory:/kubepods.slice/x\n3:cpu:/c\n0::/reserved.slice/containerd.service\n";
        assert_eq!(host(file), "/kubepods.slice/x");
        assert_eq!(host("1:name=systemd:/kubepods/x\n0::/u\n"), "/u");
    }

    #[test]
    fn the_reason_goes_with_the_path() {
        for (file, expected) in [
            ("3:cpu:/kubepods/x\n0::/u\n", "pod_of_cpu"),
            ("4:memory:/kubepods/x\n3:cpu:/c\n0::/u\n", "pod_of_memory"),
            ("3:cpu:/c\n0::/u\n", "unified"),
            ("5:name=systemd:/s\n4:memory:/m\n3:cpu:/c\n0::/\n", "cpu"),
            ("5:name=systemd:/s\n4:memory:/m\n3:cpu:/\n", "memory"),
            ("5:name=systemd:/s\n0::/init.scope\n", "systemd"),
            ("0::/\n", "nowhere"),
        ] {
            let (_, rule) = placement_by(&CgroupFile::parse(file.as_bytes()), &CgroupRoot::default());
            assert_eq!(rule.as_str(), expected, "{file}");
        }
    }

    #[test]
    fn systemd_where_the_rest_is_at_the_root() {
        let file = "12:pids:/init.scope\n4:memory:/\n3:cpu,cpuacct:/\n1:name=systemd:/system.slice/app.service\n0::/init.scope\n";
        assert_eq!(host(file), "/system.slice/app.service");
    }

    #[test]
    fn other_cgroup_namespace() {
        let root = CgroupRoot::new("/kubepods.slice/a/b/c.scope", "/");
        let docker = "/system.slice/docker-x.scope";
        assert_eq!(path_of(&format!("0::/../../../..{docker}\n"), &root), docker);
        assert_eq!(path_of("0::/below\n", &root), "/kubepods.slice/a/b/c.scope/below");
        assert_eq!(
            path_of("0::/\n", &root),
            "/kubepods.slice/a/b/c.scope",
            "the agent itself"
        );
        assert_eq!(path_of("0::/../../../..\n", &root), "/");
        assert_eq!(
            path_of("0::/../../../../../../../x\n", &root),
            "/x",
            "no way above the root"
        );
    }

    #[test]
    fn systemd_in_a_container() {
        let root = CgroupRoot::new("/", "/payload/");
        assert_eq!(
            path_of("0::/payload/system.slice/d1.service\n", &root),
            "/system.slice/d1.service"
        );
        assert_eq!(path_of("0::/payload/init.scope\n", &root), "/");
        assert_eq!(path_of("0::/payload\n2:memory:/m\n", &root), "/m");
        assert_eq!(
            path_of("0::/payload2/x\n", &root),
            "/payload2/x",
            "only whole segments match"
        );
        assert_eq!(
            path_of("0::/system.slice/a.service\n", &root),
            "/system.slice/a.service"
        );
    }

    #[test]
    fn lxc_keeps_its_name_only() {
        assert_eq!(
            host("0::/lxc.payload.first/system.slice/a.service\n"),
            "/lxc.payload.first"
        );
    }

    #[test]
    fn removed_cgroup() {
        let read = |file: &str| placement(&CgroupFile::parse(file.as_bytes()), &CgroupRoot::default());
        let gone = read("0::/system.slice/a.service (deleted)\n");
        assert_eq!((&*gone.path, gone.removed), ("/system.slice/a.service", true));
        assert!(!read("0::/system.slice/a.service\n").removed);
        assert!(
            !read("3:cpu:/kubepods/x\n0::/a (deleted)\n").removed,
            "another path counts here"
        );
    }

    #[test]
    fn foreign_bytes() {
        assert_eq!(CgroupFile::parse(b"0::/a\xffb\n").unified.unwrap(), "/a\u{fffd}b");
        assert_eq!(
            CgroupFile::parse(b"0::/a:b\n").unified.unwrap(),
            "/a:b",
            "colons belong to the path"
        );
        assert_eq!(CgroupFile::parse(b"nonsense\n0:\n::\n0::\n"), CgroupFile::default());
        let long = [b"0::/".as_slice(), &[b'x'; MAX_LINE_BYTES], b"\n3:cpu:/c\n"].concat();
        let file = CgroupFile::parse(&long);
        assert_eq!((file.unified, file.cpu), (None, Some("/c".to_owned())));
    }

    proptest! {
        #[test]
        fn placement_is_total_and_clean(bytes: Vec<u8>, base in ".*", root in ".*") {
            let path = placement(&CgroupFile::parse(&bytes), &CgroupRoot::new(&base, &root)).path;
            prop_assert!(path.starts_with('/'));
        }

        #[test]
        fn no_way_out(paths in proptest::collection::vec("(/(\\.\\.|\\.|a|kubepods|lxc\\.payload\\.x|init\\.scope)?){0,6}", 4), root in "(/\\.\\.|/a){0,3}") {
            let file = format!("9:name=systemd:{}\n2:memory:{}\n1:cpu:{}\n0::{}\n", paths[0], paths[1], paths[2], paths[3]);
            let path = path_of(&file, &CgroupRoot::new("/a/b", &root));
            prop_assert!(path == "/" || path.split('/').skip(1).all(|s| !s.is_empty() && s != "." && s != ".."), "{path}");
        }
    }
}
