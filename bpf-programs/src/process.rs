// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Processes start, change their program, end. Needs tp_btf (5.5).
//!
//! `task_newtask` rather than `sched_process_fork`: it also sees the I/O threads that the kernel clones for io_uring, so
//! what is observed equals `processes` of /proc/stat.
use crate::{
    kernel::{has_group_dead, load, owner},
    news::{count, header, send_or_lose},
};
use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};
use tarsier_common::{Field, Owner, ProcessRecord, column, kind, process_flag};

const CLONE_THREAD: u64 = 0x1_0000;
const SIGKILL: i32 = 9;

#[btf_tracepoint(function = "task_newtask")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    count(kind::FORK, column::OBSERVED);
    let clone_flags: u64 = ctx.arg(1);
    if clone_flags & CLONE_THREAD != 0 {
        count(kind::FORK, column::IGNORED);
        return 0;
    }
    unsafe { report(kind::FORK, 0, ctx.arg(0), 0) };
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    count(kind::EXEC, column::OBSERVED);
    unsafe { report(kind::EXEC, 0, ctx.arg(0), 0) };
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    count(kind::EXIT, column::OBSERVED);
    let task: *const u8 = ctx.arg(0);
    unsafe {
        let signal: *const u8 = load(task, Field::TASK_SIGNAL);
        if !last_thread(&ctx, signal) {
            count(kind::EXIT, column::IGNORED);
            return 0;
        }
        // A group that was ended as a whole has its code there, the leader's own is then meaningless.
        let group: i32 = if signal.is_null() {
            0
        } else {
            load(signal, Field::SIGNAL_EXIT_CODE)
        };
        let code = if group != 0 {
            group
        } else {
            load(task, Field::TASK_EXIT_CODE)
        };
        let flags = if killed_by_oom(signal, code) {
            process_flag::OOM_KILLED
        } else {
            0
        };
        report(kind::EXIT, flags, task, code);
    }
    0
}

/// The kernel notes at its victim which memory it is to free (4.9 and later): with the process, whichever of its threads was
/// picked, so that nothing need be kept between the kill and the end. A process that was ending by itself when memory ran
/// out is noted too, to let it finish: it ends by something else than the signal.
///
/// Since about 6.16 this program runs before the process gives back its memory, and so does not wait for the lock under
/// which the kernel first sends the signal and then makes the note. The kill shows as an ordinary one if its CPU is kept
/// from the instructions in between for as long as the victim takes to end.
#[inline(always)]
unsafe fn killed_by_oom(signal: *const u8, code: i32) -> bool {
    code & 0x7f == SIGKILL && !signal.is_null() && unsafe { load::<u64>(signal, Field::SIGNAL_OOM_MM) } != 0
}

/// The leader may end first: a process ends with its last thread. Without the argument two that end at once may both be
/// taken for the last; user space lets the second be.
#[inline(always)]
unsafe fn last_thread(ctx: &BtfTracePointContext, signal: *const u8) -> bool {
    if has_group_dead() {
        // Read by hand, as a byte: the argument is a bool.
        return unsafe { ctx.as_ptr().cast::<u64>().add(1).read_volatile() } & 1 != 0;
    }
    !signal.is_null() && unsafe { load::<i32>(signal, Field::SIGNAL_LIVE) } == 0
}

#[inline(always)]
unsafe fn report(kind: u16, flags: u16, task: *const u8, exit_code: i32) {
    unsafe {
        let mut record = ProcessRecord {
            header: header::<ProcessRecord>(kind, flags),
            owner: Owner::default(),
            parent_tgid: 0,
            exit_code,
        };
        owner(task, &mut record.owner);
        let parent: *const u8 = load(task, Field::TASK_PARENT);
        if !parent.is_null() {
            record.parent_tgid = load(parent, Field::TASK_TGID);
        }
        send_or_lose(kind, &record);
    }
}
