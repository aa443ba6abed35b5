//! The unified cgroup hierarchy: from the ids that the kernel's events carry to paths.
//!
//! The id of a cgroup is the inode number of its directory, and there is no index to look it up in: the tree is walked.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use super::{
    CollectError,
    files::{Dir, read_whole},
};
use crate::{
    base::ids::CgroupId,
    registry::identity::{CgroupFile, MAX_FILE_BYTES},
};
use rustix::fs::FsWord;
use std::{
    collections::{HashMap, VecDeque},
    fs::{self, DirEntry, File},
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// `CGROUP2_SUPER_MAGIC` of the kernel's `magic.h`.
const CGROUP2: FsWord = 0x6367_7270;

/// Enough for a host with thousands of containers.
const MAX_CGROUPS: usize = 65_536;
const MAX_PROCS_BYTES: usize = 4 * 1024 * 1024;

/// The hierarchy below one directory, as far as the last walk saw it.
#[derive(Debug)]
pub struct CgroupTree {
    root: PathBuf,
    root_id: CgroupId,
    paths: HashMap<CgroupId, Arc<str>>,
    walked_in: Option<u64>,
    max_cgroups: usize,
    complete: bool,
}

impl CgroupTree {
    /// `cgroup_root` is where the host has its cgroups. On hybrid hosts the unified hierarchy is in `unified` below.
    pub fn new(cgroup_root: &Path) -> Result<Self, CollectError> {
        let is_unified = |path: &PathBuf| rustix::fs::statfs(path).is_ok_and(|found| found.f_type == CGROUP2);
        let root = [cgroup_root.to_owned(), cgroup_root.join("unified")]
            .into_iter()
            .find(is_unified);
        Self::at(
            root.ok_or_else(|| CollectError::NoUnifiedHierarchy {
                path: cgroup_root.to_owned(),
            })?,
            MAX_CGROUPS,
        )
    }

    fn at(root: PathBuf, max_cgroups: usize) -> Result<Self, CollectError> {
        let root_id = match fs::metadata(&root) {
            Ok(metadata) => CgroupId(metadata.ino()),
            Err(source) => return Err(CollectError::io("open", &root, source)),
        };
        Ok(Self {
            root,
            root_id,
            paths: HashMap::new(),
            walked_in: None,
            max_cgroups,
            complete: true,
        })
    }

    /// Where programs are attached that must see the whole host.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Also the id of all processes that are placed in v1 hierarchies only.
    pub fn root_id(&self) -> CgroupId {
        self.root_id
    }

    /// False if the last walk found more cgroups than it may remember.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The path of a cgroup from the root of the hierarchy. An unknown id costs a walk, but at most one for each value
    /// of `generation`: whoever asks decides by it how soon to look again.
    pub fn path_of(&mut self, id: CgroupId, generation: u64) -> Option<String> {
        if !self.paths.contains_key(&id) && self.walked_in != Some(generation) {
            self.walk();
            self.walked_in = Some(generation);
        }
        self.paths.get(&id).map(|path| path.to_string())
    }

    fn walk(&mut self) {
        let mut paths = HashMap::from([(self.root_id, "/".into())]);
        self.complete = visit(&self.root, |path, entry| {
            if paths.len() >= self.max_cgroups {
                return false;
            }
            paths.insert(CgroupId(entry.ino()), path.into());
            true
        });
        self.paths = paths;
    }

    /// Where the agent's cgroup namespace begins, as a path of this tree: `/` unless it runs in one of its own. `None`
    /// if that cannot be found out.
    ///
    /// A process may see the whole host's tree, mounted from there, and still be told all paths relative to its
    /// namespace. What is the same in both views is in which cgroup the process is.
    pub fn own_base(&self, proc_root: &Path) -> Option<String> {
        let file = Dir::open(proc_root.join("self"))
            .ok()?
            .read("cgroup", MAX_FILE_BYTES)
            .ok()?;
        self.base_of(std::process::id(), &CgroupFile::parse(&file).unified?)
    }

    fn base_of(&self, pid: u32, relative: &str) -> Option<String> {
        // Outside of where its own namespace begins: then the path does not tell where that is.
        if relative.split('/').any(|segment| segment == "..") {
            return None;
        }
        if is_member(&self.root.join(relative.trim_start_matches('/')), pid) {
            return Some("/".to_owned());
        }
        let mut own = None;
        visit(&self.root, |path, entry| {
            if is_member(&entry.path(), pid) {
                own = Some(path.to_owned());
            }
            own.is_none()
        });
        let own = own?;
        own.strip_suffix(relative.trim_end_matches('/'))
            .filter(|base| !base.is_empty())
            .map(str::to_owned)
    }
}

/// Goes through all directories below, those nearer to the root first: whoever nests cgroups without end loses his own.
/// Ends when `each` says no, and answers whether it came to the end of the tree.
fn visit(root: &Path, mut each: impl FnMut(&str, &DirEntry) -> bool) -> bool {
    let mut waiting = VecDeque::from([(root.to_owned(), String::new())]);
    while let Some((directory, path)) = waiting.pop_front() {
        // A cgroup may go at any time.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = format!("{path}/{}", entry.file_name().to_string_lossy());
            if !each(&path, &entry) {
                return false;
            }
            waiting.push_back((entry.path(), path));
        }
    }
    true
}

fn is_member(cgroup: &Path, pid: u32) -> bool {
    let path = cgroup.join("cgroup.procs");
    let Ok(file) = File::open(&path) else { return false };
    let pid = pid.to_string();
    read_whole(file, &path, MAX_PROCS_BYTES)
        .is_ok_and(|pids| pids.split(|&b| b == b'\n').any(|line| line == pid.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        process::{Child, Command},
    };

    fn tree(directories: &[&str]) -> (tempfile::TempDir, CgroupTree) {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let tree = CgroupTree::at(root.path().to_owned(), 100).unwrap();
        (root, tree)
    }

    fn id(path: &Path) -> CgroupId {
        CgroupId(fs::metadata(path).unwrap().ino())
    }

    #[test]
    fn paths_by_id() {
        let (root, mut tree) = tree(&["a/b/c", "d"]);
        fs::write(root.path().join("a/cgroup.procs"), "").unwrap();
        for (directory, path) in [("", "/"), ("a", "/a"), ("a/b/c", "/a/b/c"), ("d", "/d")] {
            assert_eq!(tree.path_of(id(&root.path().join(directory)), 0).as_deref(), Some(path));
        }
        assert_eq!(
            tree.path_of(id(&root.path().join("a/cgroup.procs")), 1),
            None,
            "not a directory"
        );
        assert_eq!(tree.root_id(), id(root.path()));
        assert!(tree.is_complete());
    }

    #[test]
    fn one_walk_for_each_generation() {
        let (root, mut tree) = tree(&["a"]);
        let a = id(&root.path().join("a"));
        assert_eq!(tree.path_of(CgroupId(u64::MAX), 1), None);
        fs::create_dir(root.path().join("b")).unwrap();
        let b = id(&root.path().join("b"));
        assert_eq!(tree.path_of(b, 1), None, "this generation has had its walk");
        assert_eq!(tree.path_of(a, 1).as_deref(), Some("/a"));
        assert_eq!(tree.path_of(b, 2).as_deref(), Some("/b"));
        fs::remove_dir(root.path().join("a")).unwrap();
        assert_eq!(tree.path_of(a, 3).as_deref(), Some("/a"), "what is known needs no walk");
        tree.path_of(CgroupId(u64::MAX), 3);
        assert_eq!(tree.path_of(a, 3), None, "what is gone is forgotten");
    }

    #[test]
    fn the_nearest_are_kept() {
        let (root, mut tree) = tree(&["a/1/2/3/4/5", "b/1/2", "c"]);
        tree.max_cgroups = 6;
        assert_eq!(tree.path_of(id(&root.path().join("c")), 0).as_deref(), Some("/c"));
        assert_eq!(tree.path_of(id(&root.path().join("b/1")), 0).as_deref(), Some("/b/1"));
        assert_eq!(tree.path_of(id(&root.path().join("a/1/2/3/4/5")), 0), None);
        assert!(!tree.is_complete());
    }

    #[test]
    fn where_the_namespace_begins() {
        let (root, tree) = tree(&["a/b/c", "d"]);
        fs::write(root.path().join("cgroup.procs"), "1\n2\n").unwrap();
        fs::write(root.path().join("a/b/c/cgroup.procs"), "70\n7\n8\n").unwrap();
        assert_eq!(tree.base_of(2, "/").as_deref(), Some("/"));
        assert_eq!(tree.base_of(7, "/a/b/c").as_deref(), Some("/"));
        assert_eq!(tree.base_of(7, "/").as_deref(), Some("/a/b/c"));
        assert_eq!(tree.base_of(7, "/c").as_deref(), Some("/a/b"));
        assert_eq!(tree.base_of(7, "/x"), None, "moved meanwhile");
        assert_eq!(tree.base_of(7, "/../c"), None);
        assert_eq!(tree.base_of(9, "/"), None, "not in this tree");
    }

    #[test]
    fn not_a_hierarchy() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(
            CgroupTree::new(root.path()),
            Err(CollectError::NoUnifiedHierarchy { .. })
        ));
        assert!(matches!(
            CgroupTree::new(Path::new("/proc")),
            Err(CollectError::NoUnifiedHierarchy { .. })
        ));
    }

    /// A cgroup with one process in it.
    struct Real {
        path: PathBuf,
        child: Child,
    }

    impl Real {
        fn new(tree: &CgroupTree) -> io::Result<Self> {
            let path = tree.root().join(format!("tarsier-unit-test-{}", std::process::id()));
            fs::create_dir(&path)?;
            let child = Command::new("sleep").arg("60").spawn()?;
            let real = Self { path, child };
            fs::write(real.path.join("cgroup.procs"), real.child.id().to_string())?;
            Ok(real)
        }
    }

    impl Drop for Real {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            fs::remove_dir(&self.path).unwrap();
        }
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test that is left out says so")]
    fn real_hierarchy() {
        let Ok(mut tree) = CgroupTree::new(Path::new("/sys/fs/cgroup")) else {
            return eprintln!("SKIPPED: this host has no unified hierarchy");
        };
        let real = match Real::new(&tree) {
            Ok(real) => real,
            Err(error) => return eprintln!("SKIPPED: cannot make a cgroup: {error}"),
        };
        let path = format!("/{}", real.path.file_name().unwrap().to_str().unwrap());
        assert_eq!(tree.path_of(id(&real.path), 0), Some(path.clone()));
        assert_eq!(tree.path_of(tree.root_id(), 0).as_deref(), Some("/"));
        assert_eq!(tree.base_of(real.child.id(), &path).as_deref(), Some("/"));
        assert_eq!(
            tree.base_of(real.child.id(), "/"),
            Some(path),
            "as seen from a namespace that begins there"
        );
        assert_eq!(tree.own_base(Path::new("/proc")).as_deref(), Some("/"));
    }
}
