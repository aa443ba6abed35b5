// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A socket's storage, its totals, and how news of it travels.
use crate::{
    kernel::load,
    maps::{EPOCH, PerSocket, SOCKETS, SPILLED_SOCKETS, SPILLED_SUMS, address, word},
    news::{count, header, send},
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd},
    ptr::{addr_of_mut, null_mut},
};
use tarsier_common::{AF_INET, Field, Header, SocketRecord, SpillKey, Sum, SumKey, column, kind, socket_flag, stage};

pub const CREATE: u64 = 1;
const NOEXIST: u64 = 1;

#[inline(always)]
pub unsafe fn storage(sk: *const u8, flags: u64) -> *mut PerSocket {
    unsafe { h::bpf_sk_storage_get(address(&SOCKETS), sk as *mut c_void, null_mut(), flags) as *mut PerSocket }
}

/// Sets bits of the socket's word unless it is closed. `false`: closed, or somebody else was faster.
#[inline(always)]
pub unsafe fn mark(socket: *mut PerSocket, bits: u64) -> bool {
    unsafe {
        let at = addr_of_mut!((*socket).word);
        let old = at.read_volatile();
        if old & word::CLOSED != 0 {
            return false;
        }
        old & bits == bits
            || atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, old | bits).1
    }
}

/// What the socket's storage knows. Addresses and bytes are added by those who hold the socket.
#[inline(always)]
pub unsafe fn describe(socket: *const PerSocket, header: Header) -> SocketRecord {
    unsafe {
        SocketRecord {
            header,
            cookie: (*socket).cookie,
            owner: (*socket).owner,
            generation: (*socket).generation,
            netns: (*socket).netns,
            connect_ns: (*socket).connect_ns,
            sent_bytes: 0,
            received_bytes: 0,
            local: [0; 16],
            remote: (*socket).remote,
            local_port: 0,
            remote_port: (*socket).remote_port,
            family: (*socket).family,
            stage: (*socket).stage,
            flags: (*socket).flags,
            errno: 0,
            padding: 0,
        }
    }
}

#[inline(always)]
pub unsafe fn set_local(sk: *const u8, record: &mut SocketRecord) {
    unsafe {
        if record.family == AF_INET {
            record.local[..4].copy_from_slice(&load::<[u8; 4]>(sk, Field::SK_LOCAL4));
        } else {
            record.local = address6(sk, Field::SK_LOCAL6);
        }
        record.local_port = load(sk, Field::SK_PORT);
    }
}

/// As two words: the verifier takes no wider load.
#[inline(always)]
pub unsafe fn address6(sk: *const u8, field: Field) -> [u8; 16] {
    unsafe {
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

/// The socket flag that the peer's FIN sets, and it alone.
const SOCK_DONE: u64 = 1 << 1;

/// Payload bytes so far. From `tcp_sock`, so that sendfile, splice and io_uring count like everything else.
#[inline(always)]
pub unsafe fn set_bytes(sk: *const u8, record: &mut SocketRecord) {
    unsafe {
        let tcp = h::bpf_skc_to_tcp_sock(sk as *mut c_void) as *const u8;
        if tcp.is_null() {
            return;
        }
        let sent: u64 = load(tcp, Field::TCP_SENT);
        let again: u64 = load(tcp, Field::TCP_RETRANS);
        record.sent_bytes = sent.saturating_sub(again);
        let received: u64 = load(tcp, Field::TCP_RECEIVED);
        // The FIN takes a sequence number, which the kernel counts as a byte.
        let fin = (load::<u64>(sk, Field::SK_FLAGS) & SOCK_DONE != 0 && received > 0) as u64;
        record.received_bytes = received - fin;
    }
}

/// `CONNECT` and `LISTEN`: where the ring is full, the next totals pass shows the socket instead.
#[inline(always)]
pub unsafe fn announce(socket: *mut PerSocket, record: &SocketRecord) {
    let kind = record.header.kind;
    if send(kind, record) {
        // The socket's lock is held from before the send: no close comes between.
        unsafe {
            mark(socket, word::KNOWN);
            (*socket).flags |= socket_flag::ANNOUNCED;
        }
    } else {
        count(kind, column::DEFERRED);
    }
}

/// The last news of a connection, once. Where the ring is full its totals go to a spill map.
#[inline(always)]
pub unsafe fn end(socket: *mut PerSocket, record: &SocketRecord) {
    let kind = record.header.kind;
    unsafe {
        let before = close(socket);
        (*socket).stage = stage::ENDED;
        // A pass may have changed the stage while another CPU ended the socket.
        if before & word::CLOSED != 0 {
            return;
        }
        count(kind, column::OBSERVED);
        let known = before & word::KNOWN != 0;
        if send(kind, record) {
            return;
        }
        let spilled = if known { spill_socket(record) } else { spill_sum(record) };
        count(kind, if spilled { column::DEFERRED } else { column::LOST });
    }
}

/// Marks the socket closed and says what stood there before.
#[inline(always)]
unsafe fn close(socket: *mut PerSocket) -> u64 {
    unsafe {
        let at = addr_of_mut!((*socket).word);
        core::intrinsics::atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(at, word::CLOSED)
    }
}

#[inline(always)]
fn spill_socket(record: &SocketRecord) -> bool {
    let key = SpillKey {
        cookie: record.cookie,
        generation: record.generation,
        padding: 0,
    };
    SPILLED_SOCKETS.insert(key, record, 0).is_ok()
}

#[inline(always)]
unsafe fn spill_sum(record: &SocketRecord) -> bool {
    if record.header.kind == kind::LISTEN_CLOSE {
        // Nobody has heard of this listen, so nobody needs to hear of its end.
        return true;
    }
    let key = SumKey {
        cgroup_id: record.owner.cgroup_id,
        start_ns: record.owner.start_ns,
        tgid: record.owner.tgid,
        netns: record.netns,
        remote: record.remote,
        remote_port: record.remote_port,
        family: record.family,
        epoch: EPOCH.get(0).copied().unwrap_or(0),
    };
    let key = if crate::kernel::in_root_cgroup(record.owner.cgroup_id) {
        key
    } else {
        SumKey {
            start_ns: 0,
            tgid: 0,
            ..key
        }
    };
    if SPILLED_SUMS.get_ptr_mut(key).is_none() {
        let sum = Sum {
            comm: record.owner.comm,
            ..Sum::default()
        };
        // Somebody else may have put it there meanwhile: the look-up below tells.
        let _ = SPILLED_SUMS.insert(key, sum, NOEXIST);
    }
    let Some(sum) = SPILLED_SUMS.get_ptr_mut(key) else {
        return false;
    };
    unsafe {
        if record.header.kind == kind::CONNECT_FAILED {
            add(addr_of_mut!((*sum).failures), 1);
            return true;
        }
        add(addr_of_mut!((*sum).connects), 1);
        add(addr_of_mut!((*sum).connect_ns), record.connect_ns);
        add(addr_of_mut!((*sum).sent_bytes), record.sent_bytes);
        add(addr_of_mut!((*sum).received_bytes), record.received_bytes);
    }
    true
}

#[inline(always)]
unsafe fn add(cell: *mut u64, value: u64) {
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, value) };
}

/// A connect that never sent a SYN: the routing table, a filter or a policy refused it.
#[inline(always)]
pub unsafe fn never_sent(socket: *mut PerSocket, errno: i32) {
    unsafe {
        let mut record = describe(socket, header::<SocketRecord>(kind::CONNECT_FAILED, 0));
        record.errno = errno;
        end(socket, &record);
    }
}
