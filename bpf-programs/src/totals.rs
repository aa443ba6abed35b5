// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The totals pass: one row per socket that is open. Needs iter/bpf_map_elem (5.8) and iter/bpf_sk_storage_map (5.9).
use crate::{
    kernel::load_as,
    maps::{PerSocket, YOUNG, word},
    news::header,
    socket::{close_seen, describe, never_sent, set_addresses, set_totals},
    tcp, young,
};
use aya_ebpf::helpers::generated as h;
use core::{ffi::c_void, ptr::addr_of_mut};
use tarsier_common::{Field, SocketRecord, kind, socket_flag, stage};

#[repr(C)]
pub struct Context {
    meta: *const *mut c_void,
    map: *const c_void,
    sk: *const c_void,
    value: *mut PerSocket,
}

/// A connect that has not sent its SYN after this long has failed: nothing in between waits for the network.
const ATTEMPT_NS: u64 = 1_000_000_000;

const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const CLOSE: u8 = 7;

// aya-ebpf has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
pub unsafe extern "C" fn totals(ctx: *const Context) -> i32 {
    unsafe {
        let (sk, socket) = ((*ctx).sk as *const u8, (*ctx).value);
        if !sk.is_null() && !socket.is_null() {
            show::<false>(*(*ctx).meta, sk, socket, young::word_of(socket));
        }
    }
    0
}

#[repr(C)]
pub struct SlotContext {
    pub meta: *const *mut c_void,
    map: *const c_void,
    pub index: *const u32,
    value: *const c_void,
}

/// Before the other: what moves meanwhile moves there.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
pub unsafe extern "C" fn totals_of_young(ctx: *const SlotContext) -> i32 {
    unsafe {
        let index = (*ctx).index;
        if index.is_null() {
            return 0;
        }
        let Some(slot) = YOUNG.get_ptr_mut(*index) else {
            return 0;
        };
        let seen = young::keep(slot);
        if seen != 0 {
            show::<true>(*(*ctx).meta, (*slot).sk as *const u8, slot, seen);
        }
    }
    0
}

#[inline(always)]
unsafe fn show<const PROBE: bool>(seq: *mut c_void, sk: *const u8, socket: *mut PerSocket, seen: u64) {
    unsafe {
        // Once more where somebody else changed something meanwhile: a row that is missing reads like a closed socket.
        if is_open::<PROBE>(sk, socket, seen) && !row::<PROBE>(seq, sk, socket, seen) {
            row::<PROBE>(seq, sk, socket, seen);
        }
    }
}

/// Another connection's by now: another socket has the slot, or this one has begun another life.
#[inline(always)]
fn is_another(word: u64, seen: u64) -> bool {
    (word ^ seen) & !word::BITS != 0
}

#[inline(always)]
unsafe fn is_open<const PROBE: bool>(sk: *const u8, socket: *mut PerSocket, seen: u64) -> bool {
    unsafe {
        let stage = addr_of_mut!((*socket).stage).read_volatile();
        if stage == stage::LISTENING {
            return true;
        }
        if stage != stage::ATTEMPT && stage != stage::CONNECTING && stage != stage::ESTABLISHED {
            return false;
        }
        let state: u8 = load_as::<PROBE, _>(sk, Field::SK_STATE);
        if stage == stage::ESTABLISHED {
            if state != CLOSE {
                return true;
            }
            // The kernel skipped the program at CLOSE, unless this is over meanwhile.
            let kind = tcp::end_kind(socket);
            if seen & word::CLOSED == 0 && close_seen(socket, kind, seen) {
                tcp::told::<PROBE>(sk, socket, kind, tcp::CLOSE, seen);
            }
            return false;
        }
        if stage == stage::ATTEMPT {
            if h::bpf_ktime_get_ns() - (*socket).begun_ns < ATTEMPT_NS {
                return false;
            }
            if is_another(young::word_of(socket), seen) {
                return false;
            }
            tcp::identify::<PROBE>(sk, socket);
            if state == CLOSE {
                never_sent(socket, 0);
                return false;
            }
            // The kernel skipped the program at SYN_SENT.
            (*socket).stage = stage::CONNECTING;
        }
        if state == SYN_SENT || state == SYN_RECV || state == CLOSE {
            return false;
        }
        // The kernel skipped the program at ESTABLISHED, or it runs right now and will find this done.
        (*socket).flags |= socket_flag::NO_DURATION;
        (*socket).stage = stage::ESTABLISHED;
        true
    }
}

/// Apart, for the stack's sake. `false`: somebody changed something meanwhile.
#[inline(never)]
unsafe fn row<const PROBE: bool>(seq: *mut c_void, sk: *const u8, socket: *mut PerSocket, before: u64) -> bool {
    unsafe {
        let seen = young::word_of(socket);
        if seen & word::CLOSED != 0 || is_another(seen, before) {
            return true;
        }
        // The stage was read before: what follows is read after it.
        if !young::change(socket, seen, seen) {
            return false;
        }
        let mut record = SocketRecord::default();
        describe(socket, header::<SocketRecord>(kind::COUNT, 0), &mut record);
        let mut shown = seen | word::KNOWN;
        if seen & word::SETTLED != 0 {
            record.flags |= socket_flag::SETTLED;
            shown |= word::COUNTED;
        }
        if seen & word::COUNTED != 0 {
            record.flags |= socket_flag::SHOWN;
        }
        set_addresses::<PROBE>(sk, &mut record);
        if record.stage == stage::ESTABLISHED {
            set_totals::<PROBE>(sk, socket, &mut record);
        }
        // All of the above was this socket's if its word is as it was. From here on a close that finds the ring full keeps
        // this socket's totals apart.
        if !young::change(socket, seen, shown) {
            return false;
        }
        if record.stage == stage::ESTABLISHED {
            doubt_fin(socket, &mut record);
        }
        h::bpf_seq_write(
            seq.cast(),
            addr_of_mut!(record).cast(),
            size_of::<SocketRecord>() as u32,
        );
        true
    }
}

/// A pass holds no socket's lock, and the kernel counts the peer's FIN a moment before it says that it came: a byte that user
/// space could not take back. So the last byte of what is new waits for the next pass, or for the close.
#[inline(always)]
unsafe fn doubt_fin(socket: *mut PerSocket, record: &mut SocketRecord) {
    unsafe {
        let received = record.received_bytes;
        if received > (*socket).received_seen {
            record.received_bytes = received - 1;
        }
        (*socket).received_seen = received;
    }
}
