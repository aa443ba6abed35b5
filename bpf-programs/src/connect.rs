// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Connects that fail before their SYN (no route, refused by a filter) change no state, so no tracepoint shows them.
//! These hooks run where connect(2) begins, and leave a mark that the SYN takes away.
//!
//! Syscall tracepoints would tell the error number, and would make every system call of the host a third slower.
//! Needs cgroup/connect (4.17) and socket storage there (5.8).
use crate::{
    kernel::current_owner,
    maps::PerSocket,
    news::header,
    socket::{begin_by, describe, end, find_by, never_sent},
    tcp::restart,
    young,
};
use aya_ebpf::{helpers::generated as h, macros::cgroup_sock_addr, programs::SockAddrContext};
use tarsier_common::{AF_INET, AF_INET6, SocketRecord, kind, stage};

const ALLOW: i32 = 1;
const IPPROTO_TCP: u32 = 6;

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    unsafe {
        let Some(socket) = attempt(&ctx) else {
            return ALLOW;
        };
        let address = (*ctx.sock_addr).user_ip4;
        (&mut (*socket).remote)[..4].copy_from_slice(&address.to_ne_bytes());
        (*socket).family = AF_INET;
    }
    ALLOW
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    unsafe {
        let Some(socket) = attempt(&ctx) else {
            return ALLOW;
        };
        let to = (*socket).remote.as_mut_ptr().cast::<u32>();
        to.write(core::ptr::addr_of!((*ctx.sock_addr).user_ip6[0]).read_volatile());
        to.add(1)
            .write(core::ptr::addr_of!((*ctx.sock_addr).user_ip6[1]).read_volatile());
        to.add(2)
            .write(core::ptr::addr_of!((*ctx.sock_addr).user_ip6[2]).read_volatile());
        to.add(3)
            .write(core::ptr::addr_of!((*ctx.sock_addr).user_ip6[3]).read_volatile());
        (*socket).family = AF_INET6;
    }
    ALLOW
}

#[inline(always)]
unsafe fn attempt(ctx: &SockAddrContext) -> Option<*mut PerSocket> {
    unsafe {
        if (*ctx.sock_addr).protocol != IPPROTO_TCP {
            return None;
        }
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk as *const u8;
        if sk.is_null() {
            return None;
        }
        let cookie = h::bpf_get_socket_cookie(ctx.sock_addr.cast());
        let mut socket = find_by(cookie, sk);
        if socket.is_null() {
            socket = begin_by(cookie, sk);
            if socket.is_null() {
                return None;
            }
        }
        match (*socket).stage {
            // The one before never got as far as its SYN.
            stage::ATTEMPT => never_sent(socket, 0),
            // The kernel skipped the program at CLOSE; the bytes of that life are gone.
            stage::CONNECTING | stage::ESTABLISHED => {
                let mut record = SocketRecord::default();
                describe(socket, header::<SocketRecord>(kind::CLOSE, 0), &mut record);
                end(socket, &mut record);
            }
            _ => {}
        }
        restart(socket);
        current_owner(&mut (*socket).owner);
        (*socket).cookie = cookie;
        (*socket).begun_ns = h::bpf_ktime_get_ns();
        (*socket).remote_port = u16::from_be((*ctx.sock_addr).user_port as u16);
        young::enter(socket, stage::ATTEMPT);
        Some(socket)
    }
}
