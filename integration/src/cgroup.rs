//! A control group of the same path in every hierarchy, as systemd and the runtimes make them.
use crate::{pause, unique};
use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

pub struct Cgroup {
    id: String,
    folders: Vec<PathBuf>,
    roots: Vec<PathBuf>,
}

impl Cgroup {
    /// `/system.slice/tarsier-it-<unique>-<name>.service`
    pub fn service(name: &str) -> Self {
        Self::at(&format!("/system.slice/{}.service", unique(name)))
    }

    /// `path` in every hierarchy that is mounted under `/sys/fs/cgroup`. Its last part should be unique.
    pub fn at(path: &str) -> Self {
        let roots = hierarchies();
        let folders: Vec<_> = roots
            .iter()
            .map(|root| root.join(path.trim_start_matches('/')))
            .collect();
        let cgroup = Self {
            id: path.to_owned(),
            folders,
            roots,
        };
        for (folder, root) in cgroup.folders.iter().zip(&cgroup.roots) {
            make(folder, root).unwrap_or_else(|error| panic!("making {}: {error}", folder.display()));
        }
        cgroup
    }

    /// Its path as a process in it reads it in `/proc/self/cgroup`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The files by which a process moves in, ready for use between fork and exec.
    pub fn doors(&self) -> Vec<CString> {
        self.folders
            .iter()
            .map(|folder| folder.join("cgroup.procs").into_os_string().into_encoded_bytes())
            .map(|path| CString::new(path).expect("no zero in a path"))
            .collect()
    }

    /// Its folder in the unified hierarchy.
    #[track_caller]
    pub fn unified(&self) -> &Path {
        let unified = |folder: &&PathBuf| folder.join("cgroup.controllers").exists();
        self.folders.iter().find(unified).expect("cgroup2 is mounted")
    }

    /// Its folders in the hierarchies of v1.
    pub fn legacy(&self) -> impl Iterator<Item = &Path> {
        let legacy = |folder: &&PathBuf| !folder.join("cgroup.controllers").exists();
        self.folders.iter().filter(legacy).map(PathBuf::as_path)
    }

    /// Processes that are in it, as the first hierarchy says.
    pub fn processes(&self) -> Vec<u32> {
        let first = self.folders.first().expect("a machine has a cgroup hierarchy");
        let text = fs::read_to_string(first.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last tasks may still be leaving.
        for _ in 0..100 {
            self.folders.retain(|folder| !gone(folder));
            if self.folders.is_empty() {
                break;
            }
            pause(Duration::from_millis(50));
        }
        assert!(
            std::thread::panicking() || self.folders.is_empty(),
            "processes are left in {}",
            self.id
        );
        // Shared parents go with the last child; before that the kernel refuses.
        for root in &self.roots {
            let mut parent = Path::new(self.id.trim_start_matches('/'));
            while let Some(next) = parent.parent().filter(|next| !next.as_os_str().is_empty()) {
                if fs::remove_dir(root.join(next)).is_err() {
                    break;
                }
                parent = next;
            }
        }
    }
}

fn gone(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let roots: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split(' ').nth(4)?;
            let wanted = after.starts_with("cgroup ") || after.starts_with("cgroup2 ");
            (wanted && point.starts_with("/sys/fs/cgroup")).then(|| PathBuf::from(point))
        })
        .collect();
    assert!(!roots.is_empty(), "no cgroup hierarchy under /sys/fs/cgroup");
    roots
}

fn make(folder: &Path, root: &Path) -> io::Result<()> {
    // Another test may remove the parent, empty for a moment, between its making and the child's.
    for _ in 0..20 {
        match fs::create_dir_all(folder) {
            Ok(()) => return allow_cpus(folder, root),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    fs::create_dir_all(folder)?;
    allow_cpus(folder, root)
}

/// A new group of the old `cpuset` hierarchy accepts nobody until it has CPUs and memory nodes.
fn allow_cpus(folder: &Path, root: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = match fs::read_to_string(root.join(file)) {
            Ok(value) => value,
            Err(_not_this_hierarchy) => continue,
        };
        let inner = folder.strip_prefix(root).expect("made by joining");
        let mut path = root.to_owned();
        for part in inner {
            path.push(part);
            fs::write(path.join(file), value.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Place, require_root};

    #[test]
    fn a_process_enters_every_hierarchy_and_nothing_is_left() {
        if !require_root() {
            return;
        }
        let cgroup = Cgroup::service("self");
        let output = Place::new()
            .cgroup(&cgroup)
            .command("cat")
            .arg("/proc/self/cgroup")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            assert!(line.ends_with(&format!(":{}", cgroup.id())), "{line}");
        }
        assert!(text.lines().count() >= cgroup.roots.len());
        let folders = cgroup.folders.clone();
        drop(cgroup);
        assert_eq!(folders.iter().filter(|folder| folder.exists()).count(), 0);
    }
}
