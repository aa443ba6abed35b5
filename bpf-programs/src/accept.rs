// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The server's side. A connection is established before any process knows of it: the owner is the listener's, until the
//! first who sends or receives proves to be another (socket activation, a passed descriptor).
//!
//! Who does is told by the first of three hooks that loads: `sock_send_length` and `sock_recv_length` (about 6.3),
//! fexit of tcp_sendmsg and tcp_recvmsg (5.5, x86 and arm64 with ftrace), `tcp_rcv_space_adjust` (4.18, receives only).
//! No system-call tracepoint: that would make every system call of the host dearer.
use crate::{
    inventory::adopt,
    kernel::{cgroup_id, in_root_cgroup, is_kernels, load, netns, owner},
    listeners::listener,
    maps::{PerSocket, word},
    mptcp,
    news::count,
    socket::{begin_by, find, mark, storage},
    tcp::{IPPROTO_TCP, SYN_RECV, restart},
    young,
};
use aya_ebpf::{
    helpers::generated as h,
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};
use core::ffi::c_void;
use tarsier_common::{AF_INET, AF_INET6, Field, Owner, column, kind, socket_flag, stage};

const PF_KTHREAD: u32 = 0x20_0000;

/// What any program costs at such a place: the tests measure the others by it, and they alone load it.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn empty(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn io_sent(ctx: BtfTracePointContext) -> i32 {
    unsafe { used(ctx.arg(0)) };
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn io_received(ctx: BtfTracePointContext) -> i32 {
    unsafe { used(ctx.arg(0)) };
    0
}

#[fexit(function = "tcp_sendmsg")]
pub fn io_sent_exit(ctx: FExitContext) -> i32 {
    unsafe { used(ctx.arg(0)) };
    0
}

#[fexit(function = "tcp_recvmsg")]
pub fn io_received_exit(ctx: FExitContext) -> i32 {
    unsafe { used(ctx.arg(0)) };
    0
}

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn io_consumed(ctx: BtfTracePointContext) -> i32 {
    unsafe { used(ctx.arg(0)) };
    0
}

/// A process has sent or received. Almost always it is known already that it does.
#[inline(always)]
unsafe fn used(sk: *const u8) {
    unsafe {
        if is_inet(sk) && load::<u16>(sk, Field::SK_PROTOCOL) == IPPROTO_TCP {
            used_by_somebody(sk);
        }
    }
}

#[inline(always)]
pub unsafe fn is_inet(sk: *const u8) -> bool {
    let family: u16 = unsafe { load(sk, Field::SK_FAMILY) };
    family == AF_INET || family == AF_INET6
}

/// A TCP socket. Says whether it was known already who does: nothing changes that.
#[inline(always)]
pub unsafe fn used_by_somebody(sk: *const u8) -> bool {
    unsafe {
        let mut socket = storage(sk, 0);
        if socket.is_null() {
            socket = young::slot(young::cookie(sk));
        }
        if !socket.is_null() && (*socket).word & word::SETTLED != 0 {
            return true;
        }
        first_use(sk, socket);
    }
    false
}

/// Apart, for it is seldom.
#[inline(always)]
unsafe fn first_use(sk: *const u8, socket: *mut PerSocket) {
    unsafe {
        let task = h::bpf_get_current_task_btf() as *const u8;
        if load::<u32>(task, Field::TASK_FLAGS) & PF_KTHREAD != 0 {
            return;
        }
        if !socket.is_null() {
            return settle(socket, task);
        }
        if i32::from(load::<u8>(sk, Field::SK_STATE)) != SYN_RECV {
            return adopt(sk, task, true);
        }
        // TCP fast open.
        accepted(sk);
        let socket = find(sk);
        if !socket.is_null() {
            settle(socket, task);
        }
    }
}

/// `task` has the socket in its hands.
#[inline(always)]
unsafe fn settle(socket: *mut PerSocket, task: *const u8) {
    unsafe {
        if (*socket).stage != stage::ESTABLISHED {
            return;
        }
        let known = addr_of_owner(socket);
        if (*known).tgid != load::<u32>(task, Field::TASK_TGID) {
            let cgroup = cgroup_id(task);
            // Another process of the same container is no news; where v1 hierarchies place it the cgroup does not tell.
            if (*known).tgid == 0 || cgroup != (*known).cgroup_id || in_root_cgroup(cgroup) {
                owner(task, &mut *known);
            }
        }
        let _ = mark(socket, word::SETTLED);
    }
}

#[inline(always)]
unsafe fn addr_of_owner(socket: *mut PerSocket) -> *mut Owner {
    unsafe { core::ptr::addr_of_mut!((*socket).owner) }
}

/// From SYN_RECV on, usually to ESTABLISHED.
#[inline(never)]
pub unsafe fn accepted(sk: *const u8) {
    unsafe {
        if !find(sk).is_null() {
            return;
        }
        let (netns, family) = (netns::<false>(sk), load(sk, Field::SK_FAMILY));
        let listener = listener(sk, netns, family);
        // A listen of MPTCP is a socket of the kernel's, and so is what it accepts from a peer that knows TCP only.
        if listener.is_none() && is_kernels(sk) {
            return;
        }
        let cookie = h::bpf_get_socket_cookie(sk as *mut c_void);
        let socket = begin_by(cookie, sk);
        if socket.is_null() {
            if !find(sk).is_null() {
                return;
            }
            count(kind::ACCEPTED_CLOSE, column::OBSERVED);
            count(kind::ACCEPTED_CLOSE, column::LOST);
            return;
        }
        restart(socket);
        (*socket).cookie = cookie;
        (*socket).family = family;
        (*socket).netns = netns;
        (*socket).flags = socket_flag::ACCEPTED;
        (*socket).owner = match listener {
            Some(listener) => listener.owner,
            // It is older than the programs, and no inventory has found it yet.
            None => Owner::default(),
        };
        if !mptcp::is_subflow(sk) {
            (*socket).word &= !word::SETTLED;
        }
        young::enter(socket, stage::ESTABLISHED);
    }
}
