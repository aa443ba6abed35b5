// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Reading kernel structures: typed loads through pointers the verifier knows, at offsets from frozen read-only data.
use crate::mptcp;
use aya_ebpf::helpers::generated as h;
use core::{
    mem::MaybeUninit,
    ptr::{addr_of, addr_of_mut},
};
use tarsier_common::{FIELDS_LEN, Field, Owner, owner_flag};

const PF_KTHREAD: u32 = 0x20_0000;

#[unsafe(no_mangle)]
static OFFSETS: [u32; FIELDS_LEN] = [0; FIELDS_LEN];

/// Whether `sched_process_exit` says that the last thread ended (since about 6.16).
#[unsafe(no_mangle)]
static HAS_GROUP_DEAD: u32 = 0;

/// Volatile, or the compiler folds the placeholder in; the verifier sees a constant.
#[inline(always)]
pub fn offset(field: Field) -> usize {
    unsafe { addr_of!(OFFSETS).cast::<u32>().add(field as usize).read_volatile() as usize }
}

#[inline(always)]
pub fn has_group_dead() -> bool {
    unsafe { addr_of!(HAS_GROUP_DEAD).read_volatile() != 0 }
}

/// No helper call: the verifier checks type and bounds.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: *const u8, field: Field) -> T {
    unsafe { load_as::<false, T>(base, field) }
}

/// The same where the verifier does not know the pointer: zeroes where nothing can be read.
#[inline(always)]
pub unsafe fn load_as<const PROBE: bool, T: Copy>(base: *const u8, field: Field) -> T {
    unsafe { load_at::<PROBE, T>(base, offset(field)) }
}

#[inline(always)]
pub unsafe fn load_at<const PROBE: bool, T: Copy>(base: *const u8, offset: usize) -> T {
    unsafe {
        let at = base.wrapping_add(offset).cast::<T>();
        if !PROBE {
            return at.read_volatile();
        }
        let mut value = MaybeUninit::<T>::zeroed();
        let _ = h::bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, at.cast());
        value.assume_init()
    }
}

/// The id of the cgroup of the unified hierarchy `task` is in.
#[inline(always)]
pub unsafe fn cgroup_id(task: *const u8) -> u64 {
    unsafe {
        let set: *const u8 = load(task, Field::TASK_CGROUPS);
        if set.is_null() {
            return 0;
        }
        let cgroup: *const u8 = load(set, Field::CSS_SET_CGROUP);
        if cgroup.is_null() {
            return 0;
        }
        node_id(cgroup)
    }
}

#[inline(always)]
pub unsafe fn node_id(cgroup: *const u8) -> u64 {
    unsafe {
        let node: *const u8 = load(cgroup, Field::CGROUP_KN);
        if node.is_null() {
            return 0;
        }
        load(node, Field::KN_ID)
    }
}

#[inline(always)]
pub unsafe fn is_kernel_thread(task: *const u8) -> bool {
    unsafe { load::<u32>(task, Field::TASK_FLAGS) & PF_KTHREAD != 0 }
}

/// The process `task` is a thread of.
#[inline(always)]
pub unsafe fn owner(task: *const u8, owner: &mut Owner) {
    unsafe {
        owner.tgid = load(task, Field::TASK_TGID);
        owner.flags = if is_kernel_thread(task) {
            owner_flag::KERNEL_THREAD
        } else {
            0
        };
        owner.cgroup_id = cgroup_id(task);
        let leader: *const u8 = load(task, Field::TASK_LEADER);
        if leader.is_null() {
            return;
        }
        owner.start_ns = load(leader, Field::TASK_START);
        // As two words: a helper that copies costs more than all the rest here.
        let comm = leader.add(offset(Field::TASK_COMM)).cast::<u64>();
        let to = addr_of_mut!(owner.comm).cast::<u64>();
        to.write(comm.read_volatile());
        to.add(1).write(comm.add(1).read_volatile());
    }
}

#[inline(always)]
pub unsafe fn current_owner(into: &mut Owner) {
    unsafe { owner(h::bpf_get_current_task_btf() as *const u8, into) }
}

/// The network namespace's inode number.
#[inline(always)]
pub unsafe fn netns<const PROBE: bool>(sk: *const u8) -> u32 {
    unsafe {
        let net: *const u8 = load_as::<PROBE, _>(sk, Field::SK_NET);
        if net.is_null() {
            return 0;
        }
        load_at::<PROBE, u32>(net, offset(Field::NET_NS) + offset(Field::NS_INUM))
    }
}

/// The agent itself.
#[unsafe(no_mangle)]
static OWN_TGID: u32 = 0;

#[inline(always)]
pub fn is_own(tgid: u32) -> bool {
    tgid == unsafe { addr_of!(OWN_TGID).read_volatile() }
}

/// Somebody asks where connections went whose destination is not known to be their last.
#[unsafe(no_mangle)]
static ASKS_FOR_ROUTES: u32 = 0;

#[inline(always)]
pub fn routes_are_asked_for() -> bool {
    unsafe { addr_of!(ASKS_FOR_ROUTES).read_volatile() != 0 }
}

/// The id of the unified hierarchy's root, where processes are that are placed in v1 hierarchies only.
#[unsafe(no_mangle)]
static ROOT_CGROUP: u64 = 1;

#[inline(always)]
pub fn in_root_cgroup(id: u64) -> bool {
    id == unsafe { addr_of!(ROOT_CGROUP).read_volatile() }
}

/// Bit of `struct sock` that says that the kernel itself made the socket.
#[unsafe(no_mangle)]
static KERNEL_SOCKET_BIT: u32 = 0;

/// An offset that the kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Sockets of the kernel's own clients and servers (NFS, iSCSI) are nobody's. Those that carry MPTCP for a user are his.
#[inline(always)]
pub unsafe fn is_kernels(sk: *const u8) -> bool {
    unsafe {
        let bit = addr_of!(KERNEL_SOCKET_BIT).read_volatile();
        sk.add((bit / 8) as usize).read_volatile() & (1 << (bit % 8)) != 0 && !mptcp::is_subflow(sk)
    }
}
