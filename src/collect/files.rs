//! Reading small files, and how it fails.

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("cannot {op} {}", path.display())]
    Io {
        op: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: usize },
    #[error("{} does not look as expected", path.display())]
    Malformed { path: PathBuf },
    #[error("{} is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error("{} shows another PID namespace than the host's", path.display())]
    NotTheHosts { path: PathBuf },
    #[error("{} is not a namespace", path.display())]
    NotNamespace { path: PathBuf },
    #[error("no unified cgroup hierarchy at {} or in its directory `unified`", path.display())]
    NoUnifiedHierarchy { path: PathBuf },
}

impl CollectError {
    pub(super) fn io(op: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            op,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// What was asked for does not exist, or has just ended: normal for processes and cgroups.
    pub fn is_gone(&self) -> bool {
        self.is_any_of(&[Errno::NOENT, Errno::SRCH, Errno::NODEV])
    }

    pub fn is_denied(&self) -> bool {
        self.is_any_of(&[Errno::ACCESS, Errno::PERM])
    }

    fn is_any_of(&self, errnos: &[Errno]) -> bool {
        matches!(self, Self::Io { source, .. } if Errno::from_io_error(source).is_some_and(|e| errnos.contains(&e)))
    }
}

/// A directory to read files below. Of a process: it stays that of the same process, whoever gets the pid next.
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    pub(super) fn open(path: PathBuf) -> Result<Self, CollectError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(errno) => Err(CollectError::io("open", &path, errno)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open_file(&self, name: &str) -> Result<File, CollectError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(fd.into()),
            Err(errno) => Err(CollectError::io("open", &self.path.join(name), errno)),
        }
    }

    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, CollectError> {
        read_whole(self.open_file(name)?, &self.path.join(name), limit)
    }

    pub(super) fn read_link(&self, name: &str) -> Result<Vec<u8>, CollectError> {
        match rustix::fs::readlinkat(&self.fd, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(errno) => Err(CollectError::io("read", &self.path.join(name), errno)),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// All of a file, or an error: half a file would be a wrong answer.
pub(super) fn read_whole(file: File, path: &Path, limit: usize) -> Result<Vec<u8>, CollectError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(|source| CollectError::io("read", path, source))?;
    if bytes.len() > limit {
        return Err(CollectError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_kinds_of_failure() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("five"), "12345").unwrap();
        let dir = Dir::open(temp.path().to_owned()).unwrap();
        assert_eq!(dir.read("five", 5).unwrap(), b"12345");
        let error = dir.read("five", 4).unwrap_err();
        assert!(matches!(error, CollectError::TooLarge { limit: 4, .. }), "{error}");
        assert!(!error.is_gone() && !error.is_denied());
        let error = dir.read("six", 4).unwrap_err();
        assert!(error.is_gone() && !error.is_denied());
        assert_eq!(error.to_string(), format!("cannot open {}/six", temp.path().display()));
    }

    #[test]
    fn a_process_is_told_from_the_next_with_its_pid() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let dir = Dir::open(format!("/proc/{}", child.id()).into()).unwrap();
        assert!(dir.read("stat", 4096).is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(dir.read("stat", 4096).unwrap_err().is_gone());
    }
}
