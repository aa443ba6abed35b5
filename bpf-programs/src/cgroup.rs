// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Cgroups come, go, and processes move between them. Needs tp_btf (5.5).
use crate::{
    kernel::{load, node_id, owner},
    news::{count, header, send_or_lose},
};
use aya_ebpf::{helpers::generated as h, macros::btf_tracepoint, programs::BtfTracePointContext};
use core::{ffi::c_void, ptr::addr_of_mut};
use tarsier_common::{CGROUP_PATH_LEN, CgroupRecord, Field, Owner, ProcessRecord, column, kind, process_flag};

#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach(ctx: BtfTracePointContext) -> i32 {
    count(kind::CGROUP_MOVE, column::OBSERVED);
    let cgroup: *const u8 = ctx.arg(0);
    let task: *const u8 = ctx.arg(2);
    unsafe {
        let leader: *const u8 = load(task, Field::TASK_LEADER);
        if leader != task {
            // A thread on its own: the process stays where its first thread is.
            count(kind::CGROUP_MOVE, column::IGNORED);
            return 0;
        }
        let unified = hierarchy(cgroup) == 0;
        let flags = if unified { 0 } else { process_flag::LEGACY_HIERARCHY };
        let mut record = ProcessRecord {
            header: header::<ProcessRecord>(kind::CGROUP_MOVE, flags),
            owner: Owner::default(),
            parent_tgid: 0,
            exit_code: 0,
        };
        owner(task, &mut record.owner);
        if unified {
            record.owner.cgroup_id = node_id(cgroup);
        }
        send_or_lose(kind::CGROUP_MOVE, &record);
    }
    0
}

#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    unsafe { report(kind::CGROUP_MADE, ctx.arg(0), ctx.arg(1)) }
}

#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    unsafe { report(kind::CGROUP_GONE, ctx.arg(0), ctx.arg(1)) }
}

#[inline(always)]
unsafe fn report(kind: u16, cgroup: *const u8, path: *const u8) -> i32 {
    count(kind, column::OBSERVED);
    unsafe {
        if hierarchy(cgroup) != 0 {
            count(kind, column::IGNORED);
            return 0;
        }
        let mut record = CgroupRecord {
            header: header::<CgroupRecord>(kind, 0),
            cgroup_id: node_id(cgroup),
            path_len: 0,
            path: [0; CGROUP_PATH_LEN],
        };
        record.path_len = h::bpf_probe_read_kernel_str(
            addr_of_mut!(record.path).cast(),
            CGROUP_PATH_LEN as u32,
            path.cast::<c_void>(),
        );
        send_or_lose(kind, &record);
    }
    0
}

/// Zero is the unified one.
#[inline(always)]
unsafe fn hierarchy(cgroup: *const u8) -> i32 {
    unsafe {
        let root: *const u8 = load(cgroup, Field::CGROUP_ROOT);
        if root.is_null() {
            return -1;
        }
        load(root, Field::ROOT_HIERARCHY)
    }
}
