// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The pass over the files that processes have open for writing: one row per descriptor. No open, write or close of anybody
//! runs a program. Needs iter/task_file (5.8) and bpf_d_path in iterators (5.12).
//!
//! When the kernel's buffer is full it throws away what a run wrote, and runs the program again for the same file: so
//! nothing is remembered of a run whose writes did not all succeed.
use crate::{
    inventory::Context,
    kernel::{is_kernel_thread, is_own, load, offset, owner},
    maps::{FILE_DRAFT, FILES_PASS, FileDraft, PATH_MAX},
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    ptr::{addr_of, addr_of_mut},
};
use tarsier_common::{
    FILE_PATH_LEN, FILES_PER_PASS, FILES_PER_PROCESS, Field, FileRecord, FilesPass, Owner, file_flag, file_row,
};

const FMODE_WRITE: u32 = 2;
const O_APPEND: u32 = 0o2000;
const S_IFMT: u16 = 0o17_0000;
const S_IFREG: u16 = 0o10_0000;
/// Mounted by the kernel for itself: memfd, shared memory, pipes, anonymous inodes.
const SB_KERNMOUNT: u64 = 1 << 22;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub unsafe extern "C" fn open_files(ctx: *const Context) -> i32 {
    unsafe {
        let (Some(pass), Some(draft)) = (FILES_PASS.get_ptr_mut(0), FILE_DRAFT.get_ptr_mut(0)) else {
            return 0;
        };
        let (task, file) = ((*ctx).task, (*ctx).file as *const u8);
        if task.is_null() || file.is_null() {
            end(ctx, pass);
            return 0;
        }
        if load::<u32>(file, Field::FILE_MODE) & FMODE_WRITE == 0 {
            return 0;
        }
        let inode: *const u8 = load(file, Field::FILE_INODE);
        if inode.is_null() || load::<u16>(inode, Field::INODE_MODE) & S_IFMT != S_IFREG {
            return 0;
        }
        let filesystem: *const u8 = load(inode, Field::INODE_SUPER);
        if filesystem.is_null() || keeps_no_files(filesystem) {
            return 0;
        }
        if is_kernel_thread(task) || is_own(load(task, Field::TASK_TGID)) {
            return 0;
        }
        let record = addr_of_mut!((*draft).record);
        owner(task, &mut *addr_of_mut!((*record).owner));
        let same = (*record).owner.tgid == (*pass).owner.tgid && (*record).owner.start_ns == (*pass).owner.start_ns;
        if !same && !write_left_out(ctx, pass) {
            return 0;
        }
        let before = if same { (*pass).rows_of_owner } else { 0 };
        if before >= FILES_PER_PROCESS || (*pass).rows >= FILES_PER_PASS {
            let left_out = if same { (*pass).left_out } else { 0 };
            (*pass).left_out = left_out + 1;
            (*pass).left_out_in_all += 1;
            (*pass).rows_of_owner = before;
        } else {
            describe(draft, file, inode, filesystem);
            if !write(ctx, draft) {
                return 0;
            }
            if !same {
                (*pass).left_out = 0;
            }
            (*pass).rows += 1;
            (*pass).rows_of_owner = before + 1;
        }
        (*pass).owner = (*record).owner;
    }
    0
}

/// What the kernel shows as files is written to no disk. Its tmpfs for users (/tmp, /run, /dev/shm) is one of theirs.
#[inline(always)]
unsafe fn keeps_no_files(filesystem: *const u8) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    const CGROUP: u64 = 0x0027_e0eb;
    const CGROUP2: u64 = 0x6367_7270;
    const BPF: u64 = 0xcafe_4a11;
    const DEBUGFS: u64 = 0x6462_6720;
    const TRACEFS: u64 = 0x7472_6163;
    const SECURITYFS: u64 = 0x7363_6673;
    const CONFIGFS: u64 = 0x6265_6570;
    const SELINUXFS: u64 = 0xf97c_ff8c;
    const MQUEUE: u64 = 0x1980_0202;
    const BINFMT: u64 = 0x4249_4e4d;
    const EFIVARFS: u64 = 0xde5e_81e4;
    unsafe {
        let kernels = load::<u64>(filesystem, Field::SUPER_FLAGS) & SB_KERNMOUNT != 0;
        kernels
            || matches!(
                load::<u64>(filesystem, Field::SUPER_MAGIC),
                PROC | SYSFS
                    | CGROUP
                    | CGROUP2
                    | BPF
                    | DEBUGFS
                    | TRACEFS
                    | SECURITYFS
                    | CONFIGFS
                    | SELINUXFS
                    | MQUEUE
                    | BINFMT
                    | EFIVARFS
            )
    }
}

#[inline(always)]
unsafe fn describe(draft: *mut FileDraft, file: *const u8, inode: *const u8, filesystem: *const u8) {
    unsafe {
        let record = addr_of_mut!((*draft).record);
        (*record).kind = file_row::FILE;
        (*record).left_out = 0;
        (*record).inode = load(inode, Field::INODE_NUMBER);
        (*record).device = load(filesystem, Field::SUPER_DEVICE);
        let path = file.add(offset(Field::FILE_PATH));
        (*record).mount_id = mount_id(path);
        let mut flags = 0;
        if load::<u32>(file, Field::FILE_FLAGS) & O_APPEND != 0 {
            flags |= file_flag::APPEND;
        }
        // Before the path is read: it may go at any time, and does not come back.
        if has_no_name(path) {
            flags |= file_flag::DELETED;
        }
        (*record).flags = flags;
        let len = h::bpf_d_path(
            path.cast_mut().cast(),
            addr_of_mut!((*draft).path).cast(),
            PATH_MAX as u32,
        );
        (*record).path_len = len as i32;
        (*record).kept = if len < 0 {
            0
        } else if len > FILE_PATH_LEN as i64 {
            FILE_PATH_LEN as u16
        } else {
            len as u16
        };
    }
}

/// Of `path.mnt`, which is a part of the mount. By a probe read: the verifier knows the part only.
#[inline(always)]
unsafe fn mount_id(path: *const u8) -> u32 {
    let mut id = 0u32;
    unsafe {
        let part: *const u8 = path.add(offset(Field::PATH_MOUNT)).cast::<*const u8>().read_volatile();
        let at = part.add(offset(Field::MOUNT_ID) - offset(Field::MOUNT_VFS));
        h::bpf_probe_read_kernel(addr_of_mut!(id).cast(), 4, at.cast::<c_void>());
    }
    id
}

#[inline(always)]
unsafe fn has_no_name(path: *const u8) -> bool {
    unsafe {
        let dentry: *const u8 = path.add(offset(Field::PATH_DENTRY)).cast::<*const u8>().read_volatile();
        if dentry.is_null() {
            return false;
        }
        let previous = offset(Field::DENTRY_HASH) + offset(Field::HASH_PREVIOUS);
        dentry.add(previous).cast::<u64>().read_volatile() == 0
    }
}

/// `false`: there was no room.
#[inline(always)]
unsafe fn write(ctx: *const Context, draft: *const FileDraft) -> bool {
    unsafe {
        let kept = usize::from((*draft).record.kept);
        if kept > FILE_PATH_LEN {
            return false;
        }
        let len = (size_of::<FileRecord>() + kept) as u32;
        h::bpf_seq_write((*ctx).sequence(), draft.cast_mut().cast(), len) == 0
    }
}

/// Of the process whose files were last.
#[inline(always)]
unsafe fn write_left_out(ctx: *const Context, pass: *const FilesPass) -> bool {
    unsafe {
        if (*pass).left_out == 0 {
            return true;
        }
        write_count(ctx, file_row::LEFT_OUT, (*pass).owner, (*pass).left_out)
    }
}

#[inline(always)]
unsafe fn end(ctx: *const Context, pass: *const FilesPass) {
    unsafe {
        if write_left_out(ctx, pass) {
            let nobody: Owner = core::mem::zeroed();
            write_count(ctx, file_row::END, nobody, (*pass).left_out_in_all);
        }
    }
}

#[inline(always)]
unsafe fn write_count(ctx: *const Context, kind: u8, owner: Owner, left_out: u64) -> bool {
    let record = FileRecord {
        owner,
        inode: 0,
        left_out,
        mount_id: 0,
        device: 0,
        path_len: 0,
        kept: 0,
        kind,
        flags: 0,
    };
    let len = size_of::<FileRecord>() as u32;
    unsafe { h::bpf_seq_write((*ctx).sequence(), addr_of!(record).cast_mut().cast(), len) == 0 }
}
