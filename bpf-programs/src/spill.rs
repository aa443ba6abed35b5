// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Ends of sockets that do not go through the ring: because it is full, or because nobody waits for them.
use crate::{
    kernel::in_root_cgroup,
    maps::{EPOCH, SPILLED_SOCKETS, SPILLED_SUMS},
};
use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr::addr_of_mut,
};
use tarsier_common::{SocketRecord, SpillKey, Sum, SumKey, close_reason, kind};

const NOEXIST: u64 = 1;

#[inline(always)]
pub fn spill_socket(record: &SocketRecord) -> bool {
    let key = SpillKey {
        cookie: record.cookie,
        generation: record.generation,
        padding: 0,
    };
    SPILLED_SOCKETS.insert(key, record, 0).is_ok()
}

#[inline(always)]
pub unsafe fn spill_sum(record: &SocketRecord) -> bool {
    if record.header.kind == kind::LISTEN_CLOSE {
        // Nobody has heard of this listen, so nobody needs to hear of its end.
        return true;
    }
    let accepted = record.header.kind == kind::ACCEPTED_CLOSE;
    let key = SumKey {
        cgroup_id: record.owner.cgroup_id,
        start_ns: record.owner.start_ns,
        tgid: record.owner.tgid,
        netns: record.netns,
        address: if accepted { record.local } else { record.remote },
        port: if accepted {
            record.local_port
        } else {
            record.remote_port
        },
        family: record.family as u8,
        accepted: accepted as u8,
        epoch: EPOCH.get(0).copied().unwrap_or(0),
    };
    let key = if in_root_cgroup(record.owner.cgroup_id) {
        key
    } else {
        SumKey {
            start_ns: 0,
            tgid: 0,
            ..key
        }
    };
    let sum = match SPILLED_SUMS.get_ptr_mut(key) {
        Some(sum) => sum,
        None => {
            let sum = Sum {
                comm: record.owner.comm,
                ..Sum::default()
            };
            // Somebody else may have put it there meanwhile: the look-up tells.
            let _ = SPILLED_SUMS.insert(key, sum, NOEXIST);
            let Some(sum) = SPILLED_SUMS.get_ptr_mut(key) else {
                return false;
            };
            sum
        }
    };
    unsafe {
        add(addr_of_mut!((*sum).retransmits), u64::from(record.retransmits));
        if record.header.kind == kind::CONNECT_FAILED {
            add(addr_of_mut!((*sum).failures), 1);
            return true;
        }
        let reason = usize::from(record.reason) % close_reason::COUNT;
        add(addr_of_mut!((*sum).closes).cast::<u64>().add(reason), 1);
        add(addr_of_mut!((*sum).connects), 1);
        add(addr_of_mut!((*sum).connect_ns), record.connect_ns);
        add(addr_of_mut!((*sum).sent_bytes), record.sent_bytes);
        add(addr_of_mut!((*sum).received_bytes), record.received_bytes);
    }
    true
}

#[inline(always)]
unsafe fn add(cell: *mut u64, value: u64) {
    if value == 0 {
        return;
    }
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, value) };
}
