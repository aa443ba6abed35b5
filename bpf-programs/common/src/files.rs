//! Rows of a pass over the files that are open for writing.
use crate::Owner;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a path that a row carries at most, the terminating zero included.
pub const FILE_PATH_LEN: usize = 512;
/// Rows of one process at most. What is beyond it is counted.
pub const FILES_PER_PROCESS: u32 = 256;
/// Rows of one pass at most.
pub const FILES_PER_PASS: u32 = 16_384;

/// `FileRecord::kind`.
pub mod file_row {
    /// A descriptor.
    pub const FILE: u8 = 1;
    /// How many more of this process there are.
    pub const LEFT_OUT: u8 = 2;
    /// The last row of a pass: how many were left out altogether.
    pub const END: u8 = 3;
}

/// Bits of `FileRecord::flags`.
pub mod file_flag {
    pub const APPEND: u8 = 1;
    /// Its name is gone. The kernel says so in the path, where a file may be called like that.
    pub const DELETED: u8 = 2;
}

/// Before as many bytes of path as `kept` says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FileRecord {
    pub owner: Owner,
    pub inode: u64,
    /// In rows of the other kinds only.
    pub left_out: u64,
    pub mount_id: u32,
    /// As the kernel has it: 12 bits major, 20 bits minor.
    pub device: u32,
    /// Bytes of the whole path, the terminating zero included, as the kernel answered; negative: an error.
    pub path_len: i32,
    pub kept: u16,
    /// One of `file_row`.
    pub kind: u8,
    pub flags: u8,
}
const _: () = assert!(size_of::<FileRecord>() == 72);

/// The only entry of `FILES_PASS`: how far a pass has come. User space sets it to zero before each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FilesPass {
    /// Whose files were last.
    pub owner: Owner,
    pub rows: u32,
    /// Of them, that owner's.
    pub rows_of_owner: u32,
    /// Of that owner.
    pub left_out: u64,
    pub left_out_in_all: u64,
}
const _: () = assert!(size_of::<FilesPass>() == 64);

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya reads map values as plain bytes")]
    // SAFETY: integers and byte arrays without padding, as zerocopy's derives check.
    unsafe impl aya::Pod for super::FilesPass {}
}
