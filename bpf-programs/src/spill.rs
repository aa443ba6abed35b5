// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Ends of sockets that do not go through the ring: because it is full, or because nobody waits for them.
use crate::{
    kernel::{in_root_cgroup, is_own, load_as},
    maps::{EPOCH, NOTHING, PerSocket, SPILLED_SOCKETS, SPILLED_SUMS},
    news::count,
    socket::{bytes_since, local_address, retransmits_since, tcp_sock},
};
use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr::{addr_of, addr_of_mut, null_mut},
};
use tarsier_common::{Field, Owner, SocketRecord, SpillKey, Sum, SumKey, close_reason, column, kind, socket_flag};

pub const NOEXIST: u64 = 1;

#[inline(never)]
pub fn spill_socket(record: &SocketRecord) -> bool {
    let key = SpillKey {
        cookie: record.cookie,
        generation: record.generation,
        padding: 0,
    };
    SPILLED_SOCKETS.insert(key, record, 0).is_ok()
}

/// What finds the ring full, and is known to nobody.
#[inline(never)]
pub unsafe fn spill_sum(record: &SocketRecord) -> bool {
    if record.header.kind == kind::LISTEN_CLOSE {
        // Nobody has heard of this listen, so nobody needs to hear of its end.
        return true;
    }
    unsafe {
        let key = key(
            &record.owner,
            record.netns,
            (record.remote, record.remote_port, record.family),
            false,
        );
        let sum = sum(key, &record.owner);
        if sum.is_null() {
            return false;
        }
        add(addr_of_mut!((*sum).retransmits), u64::from(record.retransmits));
        if record.header.kind == kind::CONNECT_FAILED {
            add(addr_of_mut!((*sum).failures), 1);
            return true;
        }
        // A life of a socket of which the kernel skipped the end.
        add(addr_of_mut!((*sum).closes).cast::<u64>(), 1);
        add(addr_of_mut!((*sum).connects), 1);
        add(addr_of_mut!((*sum).connect_ns), record.connect_ns);
    }
    true
}

/// A connection that has ended before any pass has shown it.
#[inline(never)]
pub unsafe fn add_up<const PROBE: bool>(sk: *const u8, socket: *const PerSocket, kind: u16, reason: u8) {
    unsafe {
        if is_own((*socket).owner.tgid) {
            // In a sum nobody could tell it apart.
            return count(kind, column::IGNORED);
        }
        let tcp = tcp_sock::<PROBE>(sk);
        if tcp.is_null() {
            return count(kind, column::LOST);
        }
        let accepted = kind == kind::ACCEPTED_CLOSE;
        let family = (*socket).family;
        let at = if accepted {
            // The socket has given its port back by now; what its segments carry stays.
            let port = u16::from_be(load_as::<PROBE, u16>(tcp, Field::SK_LOCAL_PORT));
            (local_address::<PROBE>(sk, family), port, family)
        } else {
            ((*socket).remote, (*socket).remote_port, family)
        };
        let owner = addr_of!((*socket).owner);
        let sum = sum(key(&*owner, (*socket).netns, at, accepted), &*owner);
        if sum.is_null() {
            return count(kind, column::LOST);
        }
        let (sent, received) = bytes_since::<PROBE>(sk, tcp, socket);
        add(addr_of_mut!((*sum).sent_bytes), sent);
        add(addr_of_mut!((*sum).received_bytes), received);
        add(
            addr_of_mut!((*sum).retransmits),
            u64::from(retransmits_since::<PROBE>(tcp, socket)),
        );
        let reason = usize::from(reason) % close_reason::COUNT;
        add(addr_of_mut!((*sum).closes).cast::<u64>().add(reason), 1);
        if (*socket).flags & socket_flag::OLD == 0 {
            add(addr_of_mut!((*sum).connects), 1);
            add(addr_of_mut!((*sum).connect_ns), (*socket).connect_ns);
        }
        count(kind, column::SUMMED);
    }
}

/// By whose and to where: the process stands for itself only where its cgroup does not tell the owner.
#[inline(always)]
fn key(owner: &Owner, netns: u32, (address, port, family): ([u8; 16], u16, u16), accepted: bool) -> SumKey {
    let alone = in_root_cgroup(owner.cgroup_id);
    SumKey {
        cgroup_id: owner.cgroup_id,
        start_ns: if alone { owner.start_ns } else { 0 },
        tgid: if alone { owner.tgid } else { 0 },
        netns,
        address,
        port,
        family: family as u8,
        accepted: accepted as u8,
        epoch: EPOCH.get(0).copied().unwrap_or(0),
    }
}

/// The sum of that key, made if there is none. Null: there is no room.
#[inline(always)]
unsafe fn sum(key: SumKey, owner: &Owner) -> *mut Sum {
    if let Some(sum) = SPILLED_SUMS.get_ptr_mut(key) {
        return sum;
    }
    let Some(nothing) = NOTHING.get(0) else {
        return null_mut();
    };
    // Somebody else may have put it there meanwhile: the look-up tells.
    let _ = SPILLED_SUMS.insert(key, nothing, NOEXIST);
    let Some(sum) = SPILLED_SUMS.get_ptr_mut(key) else {
        return null_mut();
    };
    unsafe { (*sum).comm = owner.comm };
    sum
}

#[inline(always)]
pub unsafe fn add(cell: *mut u64, value: u64) {
    if value == 0 {
        return;
    }
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, value) };
}
