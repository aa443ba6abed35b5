// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The server's side. A socket is born with a copy of its listener's storage, before any process knows of it: the owner
//! is the listener's, until the first who sends or receives proves to be another (socket activation, a passed descriptor).
//!
//! Who does is told by the first of three hooks that loads: `sock_send_length` and `sock_recv_length` (about 6.3),
//! fexit of tcp_sendmsg and tcp_recvmsg (5.5, x86 and arm64 with ftrace), `tcp_rcv_space_adjust` (4.18, receives only).
//! No system-call tracepoint: that would make every system call of the host dearer.
use crate::{
    inventory::adopt,
    kernel::{cgroup_id, in_root_cgroup, is_kernels, load, netns, owner},
    maps::{LISTENERS, PerSocket, word},
    mptcp,
    news::count,
    socket::{CREATE, mark, storage},
    tcp::IPPROTO_TCP,
};
use aya_ebpf::{
    helpers::generated as h,
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};
use core::ffi::c_void;
use tarsier_common::{AF_INET, AF_INET6, Field, ListenerKey, Owner, column, kind, socket_flag, stage};

const PF_KTHREAD: u32 = 0x20_0000;

#[btf_tracepoint(function = "sock_send_length")]
pub fn io_sent(ctx: BtfTracePointContext) -> i32 {
    unsafe { used(ctx.arg(0)) };
    0
}

/// What any program costs at such a place: the tests measure the others by it, and they alone load it.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn empty(_: BtfTracePointContext) -> i32 {
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
        let family: u16 = load(sk, Field::SK_FAMILY);
        if (family != AF_INET && family != AF_INET6) || load::<u16>(sk, Field::SK_PROTOCOL) != IPPROTO_TCP {
            return;
        }
        let socket = storage(sk, 0);
        if !socket.is_null() && (*socket).word & word::SETTLED != 0 {
            return;
        }
        let task = h::bpf_get_current_task_btf() as *const u8;
        if load::<u32>(task, Field::TASK_FLAGS) & PF_KTHREAD != 0 {
            return;
        }
        if socket.is_null() {
            adopt(sk, task, true);
        } else {
            settle(sk, socket, task);
        }
    }
}

/// `task` has the socket in its hands.
#[inline(always)]
pub unsafe fn settle(sk: *const u8, socket: *mut PerSocket, task: *const u8) {
    unsafe {
        if (*socket).stage == stage::LISTENING && is_copy(sk, socket) {
            begin(socket);
        }
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

/// From SYN_RECV to ESTABLISHED.
#[inline(always)]
pub unsafe fn accepted(sk: *const u8) {
    unsafe {
        let mut socket = storage(sk, 0);
        if socket.is_null() {
            if is_kernels(sk) {
                return;
            }
            // The listener is older than the programs, and no inventory has found it yet.
            socket = storage(sk, CREATE);
            if socket.is_null() {
                count(kind::ACCEPTED_CLOSE, column::OBSERVED);
                count(kind::ACCEPTED_CLOSE, column::LOST);
                return;
            }
            (*socket).family = load(sk, Field::SK_FAMILY);
            (*socket).netns = netns(sk);
            begin(socket);
            let key = ListenerKey {
                netns: (*socket).netns,
                port: load(sk, Field::SK_PORT),
                padding: 0,
            };
            if let Some(listener) = LISTENERS.get(key) {
                (*socket).owner = *listener;
            }
        } else if (*socket).stage == stage::LISTENING {
            begin(socket);
        } else {
            // With TCP fast open it has been used before.
            return;
        }
        if mptcp::is_subflow(sk) {
            (*socket).word = word::SETTLED;
        }
    }
}

/// Whether the storage is a copy that the kernel made of a listener's.
#[inline(always)]
pub unsafe fn is_copy(sk: *const u8, socket: *const PerSocket) -> bool {
    unsafe { (*socket).cookie != h::bpf_get_socket_cookie(sk as *mut c_void) }
}

/// Makes a connection of the copy.
#[inline(always)]
pub unsafe fn begin(socket: *mut PerSocket) {
    unsafe {
        (*socket).word = 0;
        (*socket).cookie = 0;
        (*socket).generation = 1;
        (*socket).connect_ns = 0;
        (*socket).flags = socket_flag::ACCEPTED;
        (*socket).sent_before = 0;
        (*socket).received_before = 0;
        (*socket).retransmits_before = 0;
        (*socket).stage = stage::ESTABLISHED;
    }
}
