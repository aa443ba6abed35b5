//! Rows of a pass over the open files.
use super::{DecodeError, Event, Owner, owner};
use crate::base::ids::ProcKey;
use serde::{Deserialize, Serialize};
use tarsier_common::{self as raw, FILE_PATH_LEN, file_flag, file_row};
use zerocopy::FromBytes;

/// A file, and by which name and through which mount it was opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpenFile {
    /// From the root of the mount namespace. Empty: the kernel could not tell.
    pub path: Box<[u8]>,
    /// The path is longer.
    pub truncated: bool,
    /// As in mountinfo.
    pub mount_id: u32,
    /// Of the filesystem: major and minor number.
    pub device: (u32, u32),
    pub inode: u64,
    pub deleted: bool,
}

/// A process has it open for writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEvent {
    pub owner: Owner,
    pub file: OpenFile,
    pub append: bool,
}

/// Rows, one behind the other. What is cut short ends the reading: where the next one begins nobody knows.
pub fn files(mut rows: &[u8]) -> impl Iterator<Item = Result<Event, DecodeError>> + '_ {
    std::iter::from_fn(move || {
        if rows.is_empty() {
            return None;
        }
        let short = DecodeError::Short { len: rows.len() };
        let split = raw::FileRecord::read_from_prefix(rows).ok().and_then(|(record, rest)| {
            let (path, rest) = rest.split_at_checked(usize::from(record.kept))?;
            Some((record, path, rest))
        });
        let Some((record, path, rest)) = split else {
            rows = &[];
            return Some(Err(short));
        };
        rows = rest;
        Some(row(&record, path))
    })
}

fn row(record: &raw::FileRecord, path: &[u8]) -> Result<Event, DecodeError> {
    match record.kind {
        file_row::FILE => Ok(Event::FileSeen(file(record, path))),
        file_row::LEFT_OUT => Ok(Event::FilesLeftOut(
            ProcKey {
                tgid: record.owner.tgid,
                start_ns: record.owner.start_ns,
            },
            record.left_out,
        )),
        file_row::END => Ok(Event::FilesPassed {
            left_out: record.left_out,
        }),
        kind => Err(DecodeError::UnknownKind { kind: kind.into() }),
    }
}

fn file(record: &raw::FileRecord, path: &[u8]) -> FileEvent {
    /// What the kernel writes behind a name that is gone.
    const DELETED: &[u8] = b" (deleted)";
    let len = usize::try_from(record.path_len).unwrap_or(0);
    let truncated = len > FILE_PATH_LEN || record.path_len == -libc::ENAMETOOLONG;
    let path = if truncated {
        path
    } else {
        path.split(|byte| *byte == 0).next().unwrap_or_default()
    };
    let gone = record.flags & file_flag::DELETED != 0;
    let name = path.strip_suffix(DELETED).filter(|_| gone);
    FileEvent {
        owner: owner(&record.owner),
        file: OpenFile {
            path: name.unwrap_or(path).into(),
            truncated,
            mount_id: record.mount_id,
            device: (record.device >> 20, record.device & 0xf_ffff),
            inode: record.inode,
            // Of a long path the end with these words is cut off.
            deleted: name.is_some() || (gone && truncated),
        },
        append: record.flags & file_flag::APPEND != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hint::black_box;
    use zerocopy::IntoBytes;

    fn record(path: &[u8]) -> (raw::FileRecord, Vec<u8>) {
        let record = raw::FileRecord {
            owner: raw::Owner {
                tgid: 7,
                start_ns: 8,
                ..Default::default()
            },
            inode: 11,
            mount_id: 13,
            device: 259 << 20 | 1,
            path_len: path.len() as i32 + 1,
            kept: path.len() as u16 + 1,
            kind: file_row::FILE,
            ..Default::default()
        };
        (record, [path, b"\0"].concat())
    }

    fn bytes((record, path): &(raw::FileRecord, Vec<u8>)) -> Vec<u8> {
        [record.as_bytes(), path].concat()
    }

    fn decoded(row: &(raw::FileRecord, Vec<u8>)) -> FileEvent {
        match files(&bytes(row)).next() {
            Some(Ok(Event::FileSeen(event))) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_row_keeps_every_field() {
        let mut row = record(b"/var/log/a\xff");
        row.0.flags = file_flag::APPEND;
        let event = decoded(&row);
        let expected = OpenFile {
            path: (*b"/var/log/a\xff").into(),
            truncated: false,
            mount_id: 13,
            device: (259, 1),
            inode: 11,
            deleted: false,
        };
        assert_eq!(event.file, expected);
        assert_eq!((event.owner.process.tgid, event.owner.process.start_ns), (7, 8));
        assert!(event.append);
        row.0.flags = 0;
        assert!(!decoded(&row).append);
    }

    #[test]
    fn rows_stand_one_behind_the_other() {
        let mut rest = record(b"").0;
        (rest.kind, rest.left_out, rest.kept) = (file_row::LEFT_OUT, 5, 0);
        let mut end = rest;
        (end.kind, end.left_out) = (file_row::END, 9);
        let rows = [
            &bytes(&record(b"/a"))[..],
            &bytes(&record(b"/bc")),
            rest.as_bytes(),
            end.as_bytes(),
        ]
        .concat();
        let rows: Vec<_> = files(&rows).map(Result::unwrap).collect();
        let process = ProcKey { tgid: 7, start_ns: 8 };
        assert!(matches!(&rows[..2], [Event::FileSeen(a), Event::FileSeen(bc)]
            if *a.file.path == *b"/a" && *bc.file.path == *b"/bc"));
        assert_eq!(
            rows[2..],
            [Event::FilesLeftOut(process, 5), Event::FilesPassed { left_out: 9 }]
        );
    }

    #[test]
    fn a_name_that_is_gone_is_not_one_that_says_so() {
        let mut row = record(b"/tmp/x (deleted)");
        let event = decoded(&row);
        assert_eq!(
            (&*event.file.path, event.file.deleted),
            (&b"/tmp/x (deleted)"[..], false)
        );
        row.0.flags = file_flag::DELETED;
        let event = decoded(&row);
        assert_eq!((&*event.file.path, event.file.deleted), (&b"/tmp/x"[..], true));
    }

    #[test]
    fn a_long_path_is_cut_and_says_so() {
        let (mut record, _) = record(b"");
        record.path_len = FILE_PATH_LEN as i32 + 1;
        record.kept = FILE_PATH_LEN as u16;
        let mut row = (record, vec![b'a'; FILE_PATH_LEN]);
        let event = decoded(&row);
        assert_eq!((event.file.path.len(), event.file.truncated), (FILE_PATH_LEN, true));
        row.0.flags = file_flag::DELETED;
        assert!(decoded(&row).file.deleted);
        // As long as fits.
        let whole = record_of_len(FILE_PATH_LEN - 1);
        let event = decoded(&whole);
        assert_eq!(
            (event.file.path.len(), event.file.truncated),
            (FILE_PATH_LEN - 1, false)
        );
        // Longer than the kernel was asked for, and anything else it could not tell.
        for (error, truncated) in [(-libc::ENAMETOOLONG, true), (-libc::EFAULT, false)] {
            let mut row = (record, vec![]);
            (row.0.path_len, row.0.kept) = (error, 0);
            let event = decoded(&row);
            assert_eq!((event.file.path.len(), event.file.truncated), (0, truncated));
        }
    }

    fn record_of_len(len: usize) -> (raw::FileRecord, Vec<u8>) {
        record(&vec![b'a'; len])
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        assert_eq!(files(&[]).count(), 0);
        let whole = bytes(&record(b"/var/log/a"));
        for len in 1..whole.len() {
            let found: Vec<_> = files(&whole[..len]).collect();
            assert_eq!(found, [Err(DecodeError::Short { len })], "{len}");
        }
        let (mut unknown, path) = record(b"/a");
        unknown.kind = 9;
        let rows = [bytes(&(unknown, path)), whole].concat();
        let found: Vec<_> = files(&rows).collect();
        assert_eq!(found[0], Err(DecodeError::UnknownKind { kind: 9 }));
        assert!(matches!(found[1..], [Ok(Event::FileSeen(_))]));
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..5, kept in 0u16..200) {
            assert!(files(&bytes).count() <= bytes.len());
            let mut typed = bytes;
            if let Some(at) = typed.get_mut(68..72) {
                at.copy_from_slice(&[kept.to_ne_bytes(), [kind, 1]].concat());
            }
            black_box(files(&typed).count());
        }
    }
}
