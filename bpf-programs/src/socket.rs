// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A socket's storage, its totals, and how news of it travels.
use crate::{
    kernel::load_as,
    maps::{PerSocket, SOCKETS, address, word},
    mptcp,
    news::{count, header, send},
    spill::{spill_socket, spill_sum},
    young,
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or},
    ptr::{addr_of_mut, null_mut},
};
use tarsier_common::{AF_INET, Field, Header, SocketRecord, close_reason, column, kind, socket_flag, stage};

pub const CREATE: u64 = 1;

#[inline(always)]
pub unsafe fn storage(sk: *const u8, flags: u64) -> *mut PerSocket {
    unsafe { h::bpf_sk_storage_get(address(&SOCKETS), sk as *mut c_void, null_mut(), flags) as *mut PerSocket }
}

/// What is known of a socket, wherever that is. Null: nothing.
#[inline(always)]
pub unsafe fn find(sk: *const u8) -> *mut PerSocket {
    unsafe { find_by(young::cookie(sk), sk) }
}

#[inline(always)]
pub unsafe fn find_by(cookie: u64, sk: *const u8) -> *mut PerSocket {
    unsafe {
        let slot = young::slot(cookie);
        if !slot.is_null() && (*slot).word & word::MOVED == 0 {
            return slot;
        }
        storage(sk, 0)
    }
}

/// A place for what will be known of a socket of which nothing is. Null: no memory.
#[inline(always)]
pub unsafe fn begin_by(cookie: u64, sk: *const u8) -> *mut PerSocket {
    unsafe {
        let slot = young::claim(cookie, sk);
        if !slot.is_null() {
            return slot;
        }
        if !young::slot(cookie).is_null() {
            // Somebody else began it just now.
            return null_mut();
        }
        storage(sk, CREATE)
    }
}

/// Sets bits of the socket's word unless it is closed, and says what it was. `None`: closed, or somebody else was faster.
#[inline(always)]
pub unsafe fn mark(socket: *mut PerSocket, bits: u64) -> Option<u64> {
    unsafe {
        let at = addr_of_mut!((*socket).word);
        let old = at.read_volatile();
        if old & word::CLOSED != 0 {
            return None;
        }
        let set = old & bits == bits
            || atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, old | bits).1;
        if set { Some(old) } else { None }
    }
}

/// What the socket's storage knows. Addresses and bytes are added by those who hold the socket.
///
/// Field by field: a value that is made and then moved would be on the stack twice.
#[inline(always)]
pub unsafe fn describe(socket: *const PerSocket, header: Header, record: &mut SocketRecord) {
    unsafe {
        record.header = header;
        record.cookie = (*socket).cookie;
        record.owner = (*socket).owner;
        record.generation = (*socket).generation;
        record.netns = (*socket).netns;
        record.connect_ns = (*socket).connect_ns;
        record.remote = (*socket).remote;
        record.remote_port = (*socket).remote_port;
        record.family = (*socket).family;
        record.stage = (*socket).stage;
        record.flags = (*socket).flags;
    }
}

/// The addresses that the storage does not keep: the local one, and of an accepted socket the remote one.
#[inline(always)]
pub unsafe fn set_addresses<const PROBE: bool>(sk: *const u8, record: &mut SocketRecord) {
    unsafe {
        record.local = local_address::<PROBE>(sk, record.family);
        record.local_port = load_as::<PROBE, _>(sk, Field::SK_PORT);
        if record.local_port == 0 {
            // An accepted socket has given its port back by the time it is closed; what its segments carry stays.
            let tcp = tcp_sock::<PROBE>(sk);
            if !tcp.is_null() {
                record.local_port = u16::from_be(load_as::<PROBE, u16>(tcp, Field::SK_LOCAL_PORT));
            }
        }
        if record.flags & socket_flag::ACCEPTED != 0 {
            set_remote::<PROBE>(sk, record.family, &mut record.remote, &mut record.remote_port);
        }
    }
}

#[inline(always)]
pub unsafe fn local_address<const PROBE: bool>(sk: *const u8, family: u16) -> [u8; 16] {
    unsafe {
        if family != AF_INET {
            return address6::<PROBE>(sk, Field::SK_LOCAL6);
        }
        let mut local = [0; 16];
        local[..4].copy_from_slice(&load_as::<PROBE, [u8; 4]>(sk, Field::SK_LOCAL4));
        local
    }
}

#[inline(always)]
pub unsafe fn set_remote<const PROBE: bool>(sk: *const u8, family: u16, remote: &mut [u8; 16], port: &mut u16) {
    unsafe {
        *port = u16::from_be(load_as::<PROBE, u16>(sk, Field::SK_REMOTE_PORT));
        if family == AF_INET {
            (remote)[..4].copy_from_slice(&load_as::<PROBE, [u8; 4]>(sk, Field::SK_REMOTE4));
        } else {
            *remote = address6::<PROBE>(sk, Field::SK_REMOTE6);
        }
    }
}

/// Word by word: the verifier takes no wider load.
#[inline(always)]
pub unsafe fn address6<const PROBE: bool>(sk: *const u8, field: Field) -> [u8; 16] {
    unsafe {
        if PROBE {
            return load_as::<PROBE, _>(sk, field);
        }
        let at = sk.add(crate::kernel::offset(field)).cast::<u32>();
        let mut out = [0u8; 16];
        let to = out.as_mut_ptr().cast::<u32>();
        to.write(at.read_volatile());
        to.add(1).write(at.add(1).read_volatile());
        to.add(2).write(at.add(2).read_volatile());
        to.add(3).write(at.add(3).read_volatile());
        out
    }
}

/// The same socket, as the verifier lets it be read.
#[inline(always)]
pub unsafe fn tcp_sock<const PROBE: bool>(sk: *const u8) -> *const u8 {
    if PROBE {
        return sk;
    }
    unsafe { h::bpf_skc_to_tcp_sock(sk as *mut c_void) as *const u8 }
}

/// The socket flag that the peer's FIN sets, and it alone.
const SOCK_DONE: u64 = 1 << 1;

/// Payload bytes in both directions, from `tcp_sock`, so that sendfile, splice and io_uring count like everything else.
#[inline(always)]
pub unsafe fn bytes<const PROBE: bool>(sk: *const u8, tcp: *const u8) -> (u64, u64) {
    unsafe {
        let sent: u64 = load_as::<PROBE, _>(tcp, Field::TCP_SENT);
        let again: u64 = load_as::<PROBE, _>(tcp, Field::TCP_RETRANS);
        let received: u64 = load_as::<PROBE, _>(tcp, Field::TCP_RECEIVED);
        // The FIN takes a sequence number, which the kernel counts as a byte.
        let fin = (load_as::<PROBE, u64>(sk, Field::SK_FLAGS) & SOCK_DONE != 0 && received > 0) as u64;
        (sent.saturating_sub(again), received - fin)
    }
}

/// Those since the inventory, of a connection that is older than the programs.
#[inline(always)]
pub unsafe fn bytes_since<const PROBE: bool>(sk: *const u8, tcp: *const u8, socket: *const PerSocket) -> (u64, u64) {
    unsafe {
        let (sent, received) = mptcp::bytes::<PROBE>(tcp).unwrap_or_else(|| bytes::<PROBE>(sk, tcp));
        (
            sent.saturating_sub((*socket).sent_before),
            received.saturating_sub((*socket).received_before),
        )
    }
}

#[inline(always)]
pub unsafe fn retransmits_since<const PROBE: bool>(tcp: *const u8, socket: *const PerSocket) -> u32 {
    unsafe { load_as::<PROBE, u32>(tcp, Field::TCP_RETRANSMITS).saturating_sub((*socket).retransmits_before) }
}

/// What the connection has done so far.
#[inline(always)]
pub unsafe fn set_totals<const PROBE: bool>(sk: *const u8, socket: *const PerSocket, record: &mut SocketRecord) {
    unsafe {
        let tcp = tcp_sock::<PROBE>(sk);
        if tcp.is_null() {
            return;
        }
        (record.sent_bytes, record.received_bytes) = bytes_since::<PROBE>(sk, tcp, socket);
        record.retransmits = retransmits_since::<PROBE>(tcp, socket);
        // The kernel keeps eight times the value.
        record.rtt_us = load_as::<PROBE, u32>(tcp, Field::TCP_RTT) >> 3;
    }
}

const EPIPE: i32 = 32;
const ENETUNREACH: i32 = 101;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const EHOSTUNREACH: i32 = 113;

const FIN_WAIT1: i32 = 4;
const FIN_WAIT2: i32 = 5;
const CLOSE: i32 = 7;
const CLOSE_WAIT: i32 = 8;
const LAST_ACK: i32 = 9;

/// `old`: the state that the connection leaves; CLOSE where the kernel skipped the program at the change.
#[inline(always)]
pub unsafe fn reason<const PROBE: bool>(sk: *const u8, old: i32) -> u8 {
    unsafe {
        match load_as::<PROBE, i32>(sk, Field::SK_ERROR) {
            // An answer to this side's own end.
            ECONNRESET if old == FIN_WAIT1 || old == FIN_WAIT2 => {}
            // The second where the other side had already sent its FIN.
            ECONNRESET | EPIPE | ECONNABORTED => return close_reason::RESET,
            ETIMEDOUT | EHOSTUNREACH | ENETUNREACH => return close_reason::TIMEOUT,
            _ => {}
        }
        let by_peer = match old {
            CLOSE_WAIT | LAST_ACK => true,
            CLOSE => load_as::<PROBE, u64>(sk, Field::SK_FLAGS) & SOCK_DONE != 0,
            _ => false,
        };
        if by_peer {
            close_reason::PEER
        } else {
            close_reason::LOCAL
        }
    }
}

/// `LISTEN`: where the ring is full, the next totals pass shows the socket instead.
#[inline(always)]
pub unsafe fn announce(socket: *mut PerSocket, record: &SocketRecord) {
    let kind = record.header.kind;
    if send(kind, record) {
        // The socket's lock is held from before the send: no close comes between.
        let _ = unsafe { mark(socket, word::KNOWN) };
    } else {
        count(kind, column::DEFERRED);
    }
}

/// The last news of a socket, once.
#[inline(always)]
pub unsafe fn end(socket: *mut PerSocket, record: &mut SocketRecord) {
    unsafe {
        let Some(before) = close(socket, record.header.kind) else {
            return;
        };
        tell_end(before, record);
    }
}

/// The same for a pass, which holds no lock: not if the word has changed since it was seen.
#[inline(always)]
pub unsafe fn close_seen(socket: *mut PerSocket, kind: u16, seen: u64) -> bool {
    unsafe {
        let closed = young::change(socket, seen, seen | word::CLOSED);
        if closed {
            (*socket).stage = stage::ENDED;
            count(kind, column::OBSERVED);
        }
        closed
    }
}

/// Marks the socket closed and says what stood there before. `None`: somebody else was faster, perhaps on another CPU.
#[inline(always)]
pub unsafe fn close(socket: *mut PerSocket, kind: u16) -> Option<u64> {
    unsafe {
        let at = addr_of_mut!((*socket).word);
        let before = atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(at, word::CLOSED);
        (*socket).stage = stage::ENDED;
        if before & word::CLOSED != 0 {
            return None;
        }
        count(kind, column::OBSERVED);
        Some(before)
    }
}

/// Where the ring is full, what user space may know goes to a map of its own, and the rest is added up.
#[inline(always)]
pub unsafe fn tell_end(before: u64, record: &mut SocketRecord) {
    let kind = record.header.kind;
    if before & word::COUNTED != 0 {
        record.flags |= socket_flag::SHOWN;
    }
    if send(kind, record) {
        return;
    }
    let known = before & word::KNOWN != 0;
    let spilled = if known {
        spill_socket(record)
    } else {
        unsafe { spill_sum(record) }
    };
    let outcome = match spilled {
        false => column::LOST,
        // Read as part of the sum.
        true if kind == kind::CLOSE && !known => column::SUMMED,
        true => column::DEFERRED,
    };
    count(kind, outcome);
}

/// A connect that never sent a SYN: the routing table, a filter or a policy refused it.
#[inline(never)]
pub unsafe fn never_sent(socket: *mut PerSocket, errno: i32) {
    unsafe {
        let mut record = SocketRecord::default();
        describe(socket, header::<SocketRecord>(kind::CONNECT_FAILED, 0), &mut record);
        record.errno = errno;
        end(socket, &mut record);
    }
}
