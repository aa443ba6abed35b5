// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where a connection begins. Storage of its own costs two allocations, and a grace period to free them, for each end:
//! more than all the programs. So it begins in a slot of an array, which its cookie finds; where that is taken, in storage.
//! An inventory moves what stays.
//!
//! A slot is given back when the kernel destroys the socket, so never while a process sends or receives on it. A totals
//! pass may meet one that is given back and taken again, or a socket that has begun its next connection: the word, which
//! contains cookie and generation, tells.
use crate::{
    kernel::{load, load_as},
    maps::{PerSocket, SOCKETS, YOUNG, address, word},
    news::{count, header},
    socket::{CREATE, describe, tell_end},
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xchg},
    ptr::{addr_of_mut, null_mut},
};
use tarsier_common::{Field, SocketRecord, YOUNG_SLOTS, column, kind, socket_flag, stage};

/// Zero until somebody asks for it.
#[inline(always)]
pub unsafe fn cookie(sk: *const u8) -> u64 {
    unsafe { load(sk, Field::SK_COOKIE) }
}

/// The slot that the socket has. Null: none.
#[inline(always)]
pub unsafe fn slot(cookie: u64) -> *mut PerSocket {
    let Some(slot) = YOUNG.get_ptr_mut(cookie as u32 % YOUNG_SLOTS) else {
        return null_mut();
    };
    if cookie != 0 && unsafe { word_of(slot) } >> word::COOKIE_SHIFT == cookie {
        slot
    } else {
        null_mut()
    }
}

#[inline(always)]
pub unsafe fn word_of(slot: *mut PerSocket) -> u64 {
    unsafe { addr_of_mut!((*slot).word).read_volatile() }
}

/// Whether the word was still `old`.
#[inline(always)]
pub unsafe fn change(slot: *mut PerSocket, old: u64, new: u64) -> bool {
    unsafe {
        let at = addr_of_mut!((*slot).word);
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, new).1
    }
}

/// The stage says that the rest is there, to a pass on another CPU, too: so all that comes before it has to be seen first.
#[inline(always)]
pub unsafe fn enter(socket: *mut PerSocket, stage: u8) {
    unsafe {
        // Changes nothing, and is a barrier.
        atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(addr_of_mut!((*socket).word), 0);
        addr_of_mut!((*socket).stage).write_volatile(stage);
    }
}

/// A slot for a socket that has none. Null: another socket has it.
#[inline(always)]
pub unsafe fn claim(cookie: u64, sk: *const u8) -> *mut PerSocket {
    unsafe {
        let tag = cookie << word::COOKIE_SHIFT;
        // Cookies that are made while another is being made on this CPU count down from the largest number.
        if tag >> word::COOKIE_SHIFT != cookie {
            return null_mut();
        }
        let Some(slot) = YOUNG.get_ptr_mut(cookie as u32 % YOUNG_SLOTS) else {
            return null_mut();
        };
        if word_of(slot) != 0 || !change(slot, 0, tag) {
            return null_mut();
        }
        // Its stage, which is none, says that the rest is not to be read yet.
        (*slot).cookie = cookie;
        (*slot).generation = 0;
        (*slot).sk = sk as u64;
        slot
    }
}

/// The kernel destroys the socket.
#[inline(always)]
pub unsafe fn leave(sk: *const u8) {
    unsafe {
        let slot = slot(cookie(sk));
        if !slot.is_null() {
            give_back(slot);
        }
    }
}

#[inline(always)]
unsafe fn give_back(slot: *mut PerSocket) {
    unsafe {
        enter(slot, 0);
        // Also keeps the next one's stage from being overwritten by this.
        atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(addr_of_mut!((*slot).word), 0);
    }
}

/// Moves a connection that a pass has shown to storage of its own. Whoever calls holds a reference to the socket, so it is
/// not destroyed meanwhile, and neither a totals pass nor another move goes on; it may be closed, used and settled.
#[inline(never)]
pub unsafe fn grow_up(sk: *const u8) {
    unsafe {
        let slot = slot(cookie(sk));
        if slot.is_null() || (*slot).stage != stage::ESTABLISHED {
            return;
        }
        let seen = word_of(slot);
        if seen & (word::CLOSED | word::MOVED) != 0 || seen & word::KNOWN == 0 {
            return;
        }
        let mut own = slot.read();
        own.word = seen & word::BITS;
        own.sk = 0;
        let storage = h::bpf_sk_storage_get(address(&SOCKETS), sk as *mut c_void, addr_of_mut!(own).cast(), CREATE);
        if storage.is_null() {
            return;
        }
        // As long as the slot is not marked it is the one that counts.
        if change(slot, seen, seen & !word::BITS | word::CLOSED | word::MOVED) {
            (*slot).begun_ns = h::bpf_ktime_get_ns();
        } else {
            h::bpf_sk_storage_delete(address(&SOCKETS), sk as *mut c_void);
        }
    }
}

/// A word that no socket has.
const LEAVING: u64 = word::CLOSED;

/// Who found a slot may still write to it for a moment after it has moved.
const MOVED_NS: u64 = 1_000_000_000;

/// What a pass has to see to before it shows a slot: its word, to which all that the pass then does is tied. 0: there is
/// nothing to show.
#[inline(always)]
pub unsafe fn keep(slot: *mut PerSocket) -> u64 {
    unsafe {
        let seen = word_of(slot);
        // Without a stage it is just being taken, or given back. The rest is read after that.
        if seen == 0 || addr_of_mut!((*slot).stage).read_volatile() == 0 || !change(slot, seen, seen) {
            return 0;
        }
        if load_as::<true, u64>((*slot).sk as *const u8, Field::SK_COOKIE) != seen >> word::COOKIE_SHIFT {
            abandoned(slot, seen);
            return 0;
        }
        if seen & word::MOVED != 0 && h::bpf_ktime_get_ns() - (*slot).begun_ns > MOVED_NS {
            // From here on it is nobody's but the pass's, unless it has been given back meanwhile.
            if change(slot, seen, LEAVING) {
                give_back(slot);
            }
            return 0;
        }
        if seen & word::CLOSED == 0 { seen } else { 0 }
    }
}

/// The kernel has skipped the programs at the socket's end, and its memory is another's by now.
#[inline(never)]
unsafe fn abandoned(slot: *mut PerSocket, seen: u64) {
    unsafe {
        if !change(slot, seen, LEAVING) {
            // It has just been given back.
            return;
        }
        let kind = match (*slot).stage {
            stage::CONNECTING | stage::ESTABLISHED if (*slot).flags & socket_flag::ACCEPTED != 0 => {
                kind::ACCEPTED_CLOSE
            }
            stage::CONNECTING | stage::ESTABLISHED => kind::CLOSE,
            _ => return give_back(slot),
        };
        if seen & word::CLOSED == 0 {
            count(kind, column::OBSERVED);
            if kind == kind::CLOSE || seen & word::KNOWN != 0 {
                let mut record = SocketRecord::default();
                describe(slot, header::<SocketRecord>(kind, 0), &mut record);
                tell_end(seen, &mut record);
            } else {
                // Its addresses went with it.
                count(kind, column::LOST);
            }
        }
        give_back(slot);
    }
}
