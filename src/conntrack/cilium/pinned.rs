//! A table of Cilium's, as it is pinned in the BPF file system: read, never written.
use super::Failure;
use crate::base::features::State;
use aya::maps::{HashMap, Map, MapData, MapError};
use rustix::{fs::FsWord, io::Errno};
use std::{io, path::Path};

/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
const BPF_FS: FsWord = 0xcafe_4a11;

/// Which file it is: a new table at the same path is another.
type File = (u64, u64);
type Entries<const K: usize, const V: usize> = HashMap<MapData, [u8; K], [u8; V]>;

/// The place of a table. Its sizes are in its type: a map of others is none.
#[derive(Debug)]
pub(super) struct Pinned<const K: usize, const V: usize> {
    name: &'static str,
    open: Option<(File, Entries<K, V>)>,
}

impl<const K: usize, const V: usize> Pinned<K, V> {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, open: None }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whoever keeps a table open keeps its memory.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Opens what is there now. `true`: it is another than before.
    pub(super) fn look(&mut self, folder: &Path) -> Result<bool, Failure> {
        let path = folder.join(self.name);
        let file = match rustix::fs::stat(&path) {
            Ok(stat) => (stat.st_dev, stat.st_ino),
            Err(errno) => {
                self.close();
                return match errno {
                    Errno::NOENT | Errno::NOTDIR => Ok(false),
                    // Most nodes without Cilium let nobody but root see that there is none.
                    Errno::ACCESS => Err(Failure {
                        state: State::Off,
                        ..unreadable(&path, &errno.into())
                    }),
                    _ => Err(unreadable(&path, &errno.into())),
                };
            }
        };
        if self.open.as_ref().is_some_and(|(open, _)| *open == file) {
            return Ok(false);
        }
        self.close();
        let on_bpf_fs = rustix::fs::statfs(&path).map(|system| system.f_type == BPF_FS);
        if !on_bpf_fs.map_err(|errno| unreadable(&path, &errno.into()))? {
            return Err(Failure::layout(format!("{} is no map", path.display())));
        }
        let map = MapData::from_pin(&path).and_then(Map::from_map_data);
        let map = map
            .and_then(HashMap::try_from)
            .map_err(|error| failure(&path, &error))?;
        self.open = Some((file, map));
        Ok(true)
    }

    /// `None`: there is no such entry, or no table.
    pub(super) fn get(&self, key: &[u8; K]) -> Result<Option<[u8; V]>, Failure> {
        let Some((_, map)) = &self.open else { return Ok(None) };
        match map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failure(Path::new(self.name), &error)),
        }
    }
}

fn failure(path: &Path, error: &MapError) -> Failure {
    match error {
        MapError::SyscallError(call) => unreadable(path, &call.io_error),
        // With its hint the next release of Cilium can be told from a broken one.
        MapError::InvalidKeySize { size, expected } => {
            Failure::layout(format!("{}: keys have {expected} bytes, not {size}", path.display()))
        }
        MapError::InvalidValueSize { size, expected } => {
            Failure::layout(format!("{}: values have {expected} bytes, not {size}", path.display()))
        }
        MapError::InvalidMapType { map_type } => {
            Failure::layout(format!("{} is a map of type {map_type}, not a hash", path.display()))
        }
        other => Failure::new("fails", format!("{}: {other}", path.display())),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => Failure::new(
            "no_permission",
            format!(
                "where Cilium leads connections to services is not seen: {path} wants root or CAP_DAC_OVERRIDE, and CAP_BPF"
            ),
        ),
        _ => Failure::new("fails", format!("{path}: {error}")),
    }
}
