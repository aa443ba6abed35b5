//! The files that a container's processes have open for writing, as the last whole pass has found them.
use crate::{base::ids::ProcKey, decode::OpenFile};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

/// Files of one container at most. What is beyond it is counted.
pub const MAX_FILES: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInUse {
    pub file: OpenFile,
    /// By at least one of them.
    pub append: bool,
    pub processes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Files {
    /// By the pass that goes on.
    found: BTreeMap<OpenFile, Holders>,
    found_left_out: u64,
    /// In the order of the paths. Shared with whoever asks.
    shown: Arc<[FileInUse]>,
    shown_left_out: u64,
}

#[derive(Debug, Default)]
struct Holders {
    processes: BTreeSet<ProcKey>,
    append: bool,
}

impl Files {
    pub(super) fn seen(&mut self, process: ProcKey, file: OpenFile, append: bool) {
        let room = self.found.len() < MAX_FILES;
        let holders = match self.found.entry(file) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if room => entry.insert(Holders::default()),
            Entry::Vacant(_) => {
                self.found_left_out += 1;
                return;
            }
        };
        holders.processes.insert(process);
        holders.append |= append;
    }

    pub(super) fn left_out(&mut self, files: u64) {
        self.found_left_out += files;
    }

    pub(super) fn passed(&mut self) {
        let found = std::mem::take(&mut self.found).into_iter();
        self.shown = found
            .map(|(file, holders)| FileInUse {
                file,
                append: holders.append,
                processes: holders.processes.len(),
            })
            .collect();
        self.shown_left_out = std::mem::take(&mut self.found_left_out);
    }

    pub(super) fn shown(&self) -> Arc<[FileInUse]> {
        Arc::clone(&self.shown)
    }

    pub(super) fn shown_left_out(&self) -> u64 {
        self.shown_left_out
    }

    /// Between two passes, of which each comes as a whole.
    pub(super) fn absorb(&mut self, other: Self) {
        let (shown, left_out) = together(&self.shown, &other.shown);
        self.shown = shown;
        self.shown_left_out += other.shown_left_out + left_out;
    }
}

/// The files of both, and how many are one too many.
pub(super) fn together(one: &Arc<[FileInUse]>, other: &Arc<[FileInUse]>) -> (Arc<[FileInUse]>, u64) {
    if other.is_empty() {
        return (Arc::clone(one), 0);
    }
    let mut files: BTreeMap<OpenFile, FileInUse> = BTreeMap::new();
    for file in one.iter().chain(other.iter()) {
        match files.entry(file.file.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(file.clone());
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.append |= file.append;
                known.processes += file.processes;
            }
        }
    }
    let left_out = files.len().saturating_sub(MAX_FILES) as u64;
    (files.into_values().take(MAX_FILES).collect(), left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> OpenFile {
        OpenFile {
            path: path.as_bytes().into(),
            truncated: false,
            mount_id: 1,
            device: (8, 1),
            inode: 5,
            deleted: false,
        }
    }

    fn process(tgid: u32) -> ProcKey {
        ProcKey { tgid, start_ns: 1 }
    }

    fn shown(files: &Files) -> Vec<(String, usize, bool)> {
        let row = |file: &FileInUse| {
            let path = String::from_utf8_lossy(&file.file.path).into_owned();
            (path, file.processes, file.append)
        };
        files.shown().iter().map(row).collect()
    }

    #[test]
    fn a_file_is_shown_after_the_pass_and_until_a_pass_without_it() {
        let mut files = Files::default();
        files.seen(process(7), file("/b"), false);
        files.seen(process(7), file("/a"), false);
        assert_eq!(shown(&files), []);
        files.passed();
        let both = [("/a".to_owned(), 1, false), ("/b".to_owned(), 1, false)];
        assert_eq!(shown(&files), both);
        files.seen(process(7), file("/a"), false);
        assert_eq!(shown(&files), both);
        files.passed();
        assert_eq!(shown(&files), both[..1]);
        files.passed();
        assert_eq!(shown(&files), []);
    }

    #[test]
    fn a_process_counts_once_however_often_it_has_it() {
        let mut files = Files::default();
        files.seen(process(7), file("/a"), false);
        files.seen(process(8), file("/a"), false);
        files.seen(process(7), file("/a"), true);
        // The same name on another mount is another file.
        let elsewhere = OpenFile {
            mount_id: 2,
            ..file("/a")
        };
        files.seen(process(7), elsewhere, false);
        files.passed();
        assert_eq!(shown(&files), [("/a".to_owned(), 2, true), ("/a".to_owned(), 1, false)]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut files = Files::default();
        for at in 0..MAX_FILES + 3 {
            files.seen(process(7), file(&format!("/{at:04}")), false);
        }
        // One that is there needs no room.
        files.seen(process(8), file("/0000"), false);
        files.left_out(10);
        files.passed();
        assert_eq!((files.shown().len(), files.shown_left_out()), (MAX_FILES, 13));
        assert_eq!(files.shown()[0].processes, 2);
        files.passed();
        assert_eq!((files.shown().len(), files.shown_left_out()), (0, 0));
    }

    #[test]
    fn absorbing_adds_up_to_the_limit() {
        let with = |names: std::ops::Range<usize>| {
            let mut files = Files::default();
            names.for_each(|at| files.seen(process(at as u32), file(&format!("/{at:04}")), false));
            files.passed();
            files
        };
        let mut files = with(0..2);
        files.absorb(with(1..3));
        let expected = [("/0000", 1), ("/0001", 2), ("/0002", 1)];
        assert_eq!(shown(&files), expected.map(|(path, n)| (path.to_owned(), n, false)));
        assert_eq!(files.shown_left_out(), 0);
        files.absorb(with(3..MAX_FILES + 2));
        assert_eq!((files.shown().len(), files.shown_left_out()), (MAX_FILES, 2));
    }
}
