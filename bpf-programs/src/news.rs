// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The news ring and its accounts.
use crate::maps::{COUNTERS, NEWS};
use aya_ebpf::helpers::generated as h;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use tarsier_common::{Header, column};

/// The reader polls: waking it per event would cost the watched process.
pub const NO_WAKEUP: u64 = 1;

/// Atomic although it is per CPU: an interrupt may run another program here between load and store.
#[inline(always)]
pub fn count(kind: u16, column: usize) {
    if let Some(row) = COUNTERS.get_ptr_mut(u32::from(kind)) {
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(row.cast::<u64>().add(column), 1) };
    }
}

#[inline(always)]
pub fn header<T>(kind: u16, flags: u16) -> Header {
    Header {
        time_ns: unsafe { h::bpf_ktime_get_ns() },
        kind,
        flags,
        len: size_of::<T>() as u32,
    }
}

/// Copies a record into the ring. `false`: it is full, and the caller says what becomes of the event.
#[inline(always)]
pub fn send<T>(kind: u16, record: &T) -> bool {
    let sent = NEWS.output_untyped::<T>(record, NO_WAKEUP).is_ok();
    if sent {
        count(kind, column::SENT);
    }
    sent
}

/// For news that nothing else carries.
#[inline(always)]
pub fn send_or_lose<T>(kind: u16, record: &T) {
    if !send(kind, record) {
        count(kind, column::LOST);
    }
}
