// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The life of TCP connections and of listens. Needs tp_btf (5.5) and socket storage in tracing (5.11).
//!
//! One hook sees it all: every state change passes `inet_sock_set_state`, and the change to CLOSE comes before the
//! kernel forgets addresses and counters (`tcp_disconnect`, `tcp_done`), under the socket's lock.
//!
//! What fills a record is a function of its own: together they would not fit on the stack of 512 bytes.
use crate::{
    accept::accepted,
    kernel::{current_owner, is_kernels, load, load_as, netns, routes_are_asked_for},
    listeners,
    maps::{DIRECT, PerSocket, word},
    news::{count, header, send},
    socket::{
        CREATE, announce, begin_by, close, describe, end, find, find_by, never_sent, reason, set_addresses, set_remote,
        set_totals, storage, tell_end,
    },
    spill::add_up,
    words::clear,
    young,
};
use aya_ebpf::{helpers::generated as h, macros::btf_tracepoint, programs::BtfTracePointContext};
use core::{ffi::c_void, ptr::addr_of_mut};
use tarsier_common::{AF_INET, AF_INET6, AddressKey, Field, SocketRecord, column, kind, socket_flag, stage};

pub const ESTABLISHED: i32 = 1;
pub const SYN_SENT: i32 = 2;
pub const SYN_RECV: i32 = 3;
const FIN_WAIT1: i32 = 4;
pub const CLOSE: i32 = 7;
pub const LISTEN: i32 = 10;

pub const IPPROTO_TCP: u16 = 6;

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn tcp_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    unsafe {
        // With TCP fast open a connection may be used, and shut down, before it is established.
        let unacknowledged = old == SYN_RECV && new == FIN_WAIT1;
        if new != CLOSE && new != ESTABLISHED && new != SYN_SENT && new != LISTEN && !unacknowledged {
            return 0;
        }
        if load::<u16>(sk, Field::SK_PROTOCOL) != IPPROTO_TCP {
            return 0;
        }
        match new {
            SYN_SENT => begin(sk),
            LISTEN => listen(sk),
            ESTABLISHED if old == SYN_SENT => established(sk),
            ESTABLISHED | FIN_WAIT1 => accepted(sk),
            _ => closed(sk, old),
        }
    }
    0
}

/// For sockets that never left CLOSE, and for those whose change to CLOSE the kernel skipped.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn tcp_destroy(ctx: BtfTracePointContext) -> i32 {
    let sk = ctx.arg(0);
    unsafe {
        closed(sk, CLOSE);
        young::leave(sk);
    }
    0
}

#[inline(always)]
unsafe fn begin(sk: *const u8) {
    unsafe {
        if is_kernels(sk) {
            // Its attempt has left a mark.
            let socket = find(sk);
            if !socket.is_null() {
                (*socket).stage = stage::ENDED;
            }
            return;
        }
        let cookie = h::bpf_get_socket_cookie(sk as *mut c_void);
        let mut socket = find_by(cookie, sk);
        if socket.is_null() {
            socket = begin_by(cookie, sk);
            if socket.is_null() {
                if !find(sk).is_null() {
                    return;
                }
                // No memory: the connection cannot be followed.
                count(kind::CLOSE, column::OBSERVED);
                count(kind::CLOSE, column::LOST);
                return;
            }
        }
        if (*socket).stage == stage::CONNECTING || (*socket).stage == stage::ESTABLISHED {
            // The kernel skipped the program at CLOSE; the bytes of that life are gone.
            ended::<false>(sk, socket, CLOSE);
        }
        if (*socket).stage != stage::ATTEMPT {
            restart(socket);
            current_owner(&mut (*socket).owner);
        }
        identify::<false>(sk, socket);
        set_remote::<false>(sk, (*socket).family, &mut (*socket).remote, &mut (*socket).remote_port);
        (*socket).begun_ns = h::bpf_ktime_get_ns();
        young::enter(socket, stage::CONNECTING);
    }
}

/// The next life of this `struct sock`.
#[inline(always)]
pub unsafe fn restart(socket: *mut PerSocket) {
    unsafe {
        let generation = (*socket).generation + 1;
        (*socket).generation = generation;
        let lives = u64::from(generation) << word::GENERATION_SHIFT & word::GENERATION;
        (*socket).word = (*socket).word & !(word::BITS | word::GENERATION) | lives | word::SETTLED;
        (*socket).connect_ns = 0;
        (*socket).flags = 0;
        clear(addr_of_mut!((*socket).remote));
        clear(addr_of_mut!((*socket).sent_before));
        clear(addr_of_mut!((*socket).received_before));
        (*socket).retransmits_before = 0;
        clear(addr_of_mut!((*socket).received_seen));
    }
}

#[inline(always)]
pub unsafe fn identify<const PROBE: bool>(sk: *const u8, socket: *mut PerSocket) {
    unsafe {
        if !PROBE {
            (*socket).cookie = h::bpf_get_socket_cookie(sk as *mut c_void);
        }
        (*socket).netns = netns::<PROBE>(sk);
        (*socket).family = load_as::<PROBE, _>(sk, Field::SK_FAMILY);
    }
}

#[inline(always)]
unsafe fn established(sk: *const u8) {
    unsafe {
        let socket = find(sk);
        if socket.is_null() {
            return;
        }
        if (*socket).stage == stage::ATTEMPT {
            // The kernel skipped the program at SYN_SENT.
            identify::<false>(sk, socket);
        } else if (*socket).stage != stage::CONNECTING {
            return;
        }
        (*socket).connect_ns = h::bpf_ktime_get_ns() - (*socket).begun_ns;
        young::enter(socket, stage::ESTABLISHED);
    }
}

#[inline(never)]
unsafe fn listen(sk: *const u8) {
    unsafe {
        let family: u16 = load(sk, Field::SK_FAMILY);
        if (family != AF_INET && family != AF_INET6) || is_kernels(sk) {
            return;
        }
        count(kind::LISTEN, column::OBSERVED);
        let mut socket = find(sk);
        if socket.is_null() {
            socket = storage(sk, CREATE);
            if socket.is_null() {
                count(kind::LISTEN, column::LOST);
                return;
            }
        }
        restart(socket);
        current_owner(&mut (*socket).owner);
        identify::<false>(sk, socket);
        (*socket).remote_port = 0;
        (*socket).stage = stage::LISTENING;
        let mut record = SocketRecord::default();
        describe(socket, header::<SocketRecord>(kind::LISTEN, 0), &mut record);
        set_addresses::<false>(sk, &mut record);
        announce(socket, &record);
        listeners::begins(&record);
    }
}

#[inline(always)]
unsafe fn closed(sk: *const u8, old: i32) {
    unsafe {
        let socket = find(sk);
        if socket.is_null() {
            return;
        }
        if (*socket).stage == stage::ATTEMPT && old != CLOSE {
            // The kernel skipped the program at SYN_SENT.
            identify::<false>(sk, socket);
            (*socket).stage = stage::CONNECTING;
        }
        match (*socket).stage {
            stage::ATTEMPT => {
                (*socket).netns = netns::<false>(sk);
                (*socket).cookie = h::bpf_get_socket_cookie(sk as *mut c_void);
                never_sent(socket, 0);
            }
            stage::CONNECTING if old == SYN_SENT || old == SYN_RECV => failed(sk, socket),
            stage::CONNECTING => {
                // The kernel skipped the program at ESTABLISHED.
                (*socket).flags |= socket_flag::NO_DURATION;
                ended::<false>(sk, socket, old);
            }
            stage::ESTABLISHED => ended::<false>(sk, socket, old),
            stage::LISTENING => unlisten(sk, socket),
            _ => {}
        }
    }
}

#[inline(never)]
unsafe fn failed(sk: *const u8, socket: *mut PerSocket) {
    unsafe {
        let mut record = SocketRecord::default();
        describe(socket, header::<SocketRecord>(kind::CONNECT_FAILED, 0), &mut record);
        // Zero where the caller gave up: it closed or reset the socket before an answer came.
        record.errno = load(sk, Field::SK_ERROR);
        set_addresses::<false>(sk, &mut record);
        set_totals::<false>(sk, socket, &mut record);
        end(socket, &mut record);
    }
}

#[inline(never)]
unsafe fn unlisten(sk: *const u8, socket: *mut PerSocket) {
    unsafe {
        let mut record = SocketRecord::default();
        describe(socket, header::<SocketRecord>(kind::LISTEN_CLOSE, 0), &mut record);
        set_addresses::<false>(sk, &mut record);
        listeners::ends(&record);
        end(socket, &mut record);
    }
}

/// The last totals of a connection, whoever began it. One that no pass has shown is added up with its like: nobody waits for
/// its end.
#[inline(always)]
pub unsafe fn ended<const PROBE: bool>(sk: *const u8, socket: *mut PerSocket, old: i32) {
    unsafe {
        let kind = end_kind(socket);
        if let Some(before) = close(socket, kind) {
            told::<PROBE>(sk, socket, kind, old, before);
        }
    }
}

#[inline(always)]
pub unsafe fn end_kind(socket: *const PerSocket) -> u16 {
    if unsafe { (*socket).flags } & socket_flag::ACCEPTED != 0 {
        kind::ACCEPTED_CLOSE
    } else {
        kind::CLOSE
    }
}

/// `before`: the word, before it was closed.
#[inline(always)]
pub unsafe fn told<const PROBE: bool>(sk: *const u8, socket: *mut PerSocket, kind: u16, old: i32, before: u64) {
    unsafe {
        if before & word::KNOWN != 0 {
            return shown::<PROBE>(sk, socket, kind, old, before);
        }
        let goes_direct = || {
            let to = ((*socket).remote, (*socket).remote_port, (*socket).family);
            is_direct((*socket).netns, to)
        };
        if kind == kind::ACCEPTED_CLOSE || goes_direct() || !told_alone::<PROBE>(sk, socket, kind, old) {
            add_up::<PROBE>(sk, socket, kind, reason::<PROBE>(sk, old));
        }
    }
}

/// Nobody has to be asked where connections to there went.
#[inline(always)]
pub fn is_direct(netns: u32, (address, port, family): ([u8; 16], u16, u16)) -> bool {
    let key = AddressKey {
        netns,
        port,
        family,
        address,
    };
    !routes_are_asked_for() || DIRECT.get_ptr(key).is_some()
}

/// `false`: there is no room for it.
#[inline(never)]
unsafe fn told_alone<const PROBE: bool>(sk: *const u8, socket: *mut PerSocket, kind: u16, old: i32) -> bool {
    unsafe {
        let mut record = SocketRecord::default();
        describe(socket, header::<SocketRecord>(kind, 0), &mut record);
        set_addresses::<PROBE>(sk, &mut record);
        set_totals::<PROBE>(sk, socket, &mut record);
        record.reason = reason::<PROBE>(sk, old);
        send(kind, &record)
    }
}

#[inline(never)]
unsafe fn shown<const PROBE: bool>(sk: *const u8, socket: *mut PerSocket, kind: u16, old: i32, before: u64) {
    unsafe {
        let mut record = SocketRecord::default();
        describe(socket, header::<SocketRecord>(kind, 0), &mut record);
        set_addresses::<PROBE>(sk, &mut record);
        set_totals::<PROBE>(sk, socket, &mut record);
        record.reason = reason::<PROBE>(sk, old);
        tell_end(before, &mut record);
    }
}
