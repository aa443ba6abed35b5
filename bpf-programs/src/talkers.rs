// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where it is remembered what a socket says: in a slot of an array, which its cookie finds, or where that is taken in storage
//! of its own, which costs two allocations and a grace period to free them. A slot is given back when the kernel destroys the
//! socket; one that is not in use is zeroed.
use crate::{
    kernel::{is_kernels, is_own, load, load_as, netns, owner},
    maps::{CONVERSATIONS, Conversation, TALKERS, address, telling},
    segment::PF_KTHREAD,
    socket::{CREATE, local_address, set_remote},
    words::clear,
    young,
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xchg},
    ptr::{addr_of_mut, null_mut},
};
use tarsier_common::{Field, Switches, TALKER_SLOTS, exchange::lane};

#[inline(always)]
pub unsafe fn stored(sk: *const u8) -> *mut Conversation {
    unsafe { storage(sk, 0) }
}

#[inline(always)]
unsafe fn storage(sk: *const u8, flags: u64) -> *mut Conversation {
    unsafe {
        let map = address(&CONVERSATIONS);
        h::bpf_sk_storage_get(map, sk as *mut c_void, null_mut(), flags) as *mut Conversation
    }
}

#[inline(always)]
fn slot_of(cookie: u64) -> *mut Conversation {
    TALKERS.get_ptr_mut(cookie as u32 % TALKER_SLOTS).unwrap_or(null_mut())
}

/// The slot that the socket has. Null: none.
#[inline(always)]
pub unsafe fn slot(sk: *const u8) -> *mut Conversation {
    unsafe {
        let cookie = young::cookie(sk);
        let slot = slot_of(cookie);
        if cookie != 0 && !slot.is_null() && addr_of_mut!((*slot).cookie).read_volatile() == cookie && is_filled(slot) {
            slot
        } else {
            null_mut()
        }
    }
}

#[inline(always)]
pub unsafe fn is_filled(slot: *mut Conversation) -> bool {
    unsafe { addr_of_mut!((*slot).sk).read_volatile() != 0 }
}

/// Null: nothing is remembered of it.
#[inline(always)]
pub unsafe fn find(sk: *const u8) -> *mut Conversation {
    unsafe {
        let slot = slot(sk);
        if slot.is_null() { stored(sk) } else { slot }
    }
}

/// Of a socket on which a process sends or receives for the first time. Null: there is no room.
#[inline(never)]
pub unsafe fn begin(sk: *const u8, switches: &Switches) -> *mut Conversation {
    unsafe {
        let cookie = h::bpf_get_socket_cookie(sk as *mut c_void);
        let slot = slot_of(cookie);
        let tag = cookie << telling::COOKIE_SHIFT;
        // Cookies that are made while another is being made on this CPU count down from the largest number.
        if !slot.is_null() && tag >> telling::COOKIE_SHIFT == cookie {
            let at = addr_of_mut!((*slot).cookie);
            let is_first = change(at, 0, cookie);
            if is_first {
                (*slot).telling = tag;
            }
            // Another thread may just be filling it.
            if is_first || at.read_volatile() == cookie {
                fill(slot, sk, cookie, switches);
                return slot;
            }
        }
        let conversation = storage(sk, CREATE);
        if !conversation.is_null() {
            fill(conversation, sk, cookie, switches);
        }
        conversation
    }
}

/// Two who do it at once write the same.
#[inline(never)]
pub unsafe fn fill(conversation: *mut Conversation, sk: *const u8, cookie: u64, switches: &Switches) {
    unsafe {
        let task = h::bpf_get_current_task_btf() as *const u8;
        owner(task, &mut *addr_of_mut!((*conversation).owner));
        let nobodys = load::<u32>(task, Field::TASK_FLAGS) & PF_KTHREAD != 0 || is_kernels(sk);
        if nobodys || is_own((*conversation).owner.tgid) {
            (*conversation).nobodys = 1;
            (*conversation).exchange.lane = lane::OPAQUE;
        }
        let ends = addr_of_mut!((*conversation).ends);
        let family = load(sk, Field::SK_FAMILY);
        (*ends).family = family;
        (*ends).netns = netns::<false>(sk);
        (*ends).local = local_address::<false>(sk, family);
        (*ends).local_port = load(sk, Field::SK_PORT);
        set_remote::<false>(sk, family, &mut (*ends).remote, &mut (*ends).remote_port);
        (*conversation).epoch = switches.epoch;
        (*conversation).cookie = cookie;
        // The rest is there: a barrier.
        atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(addr_of_mut!((*conversation).sk), sk as u64);
    }
}

#[inline(always)]
pub unsafe fn change(at: *mut u64, from: u64, to: u64) -> bool {
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, from, to).1 }
}

/// The end of it. `true`: it is to be told; `false`: a pass that is at it will.
#[inline(always)]
pub unsafe fn close(conversation: *mut Conversation) -> bool {
    unsafe {
        let at = addr_of_mut!((*conversation).telling);
        atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(at, telling::CLOSED) & telling::BITS == 0
    }
}

/// Whether there is anything in the slot for a pass to show. Where the kernel has destroyed the socket without a word, since
/// the programs were not there or busy, the slot is the pass's alone from here on.
#[inline(always)]
pub unsafe fn keep(slot: *mut Conversation) -> bool {
    unsafe {
        let at = addr_of_mut!((*slot).telling);
        let seen = at.read_volatile();
        // Changes nothing, and is a barrier: the rest is of that socket, or of a later one.
        if seen == 0 || !change(at, seen, seen) || !is_filled(slot) {
            return false;
        }
        let cookie = load_as::<true, u64>((*slot).sk as *const u8, Field::SK_COOKIE);
        if seen & telling::BITS == 0 && cookie != seen >> telling::COOKIE_SHIFT {
            // Unless it has been given back meanwhile.
            change(at, seen, seen | telling::PASS | telling::CLOSED);
        }
        true
    }
}

/// Nobody uses it any more, and all of it is told.
#[inline(always)]
pub unsafe fn give_back(slot: *mut Conversation) {
    unsafe {
        // As if nothing were there, to a pass that comes now.
        addr_of_mut!((*slot).sk).write_volatile(0);
        clear(addr_of_mut!((*slot).exchange));
        clear(addr_of_mut!((*slot).shown));
        for number in [
            addr_of_mut!((*slot).sent),
            addr_of_mut!((*slot).received),
            addr_of_mut!((*slot).sent_known),
            addr_of_mut!((*slot).received_known),
            addr_of_mut!((*slot).busy),
        ] {
            clear(number);
        }
        (*slot).contended = 0;
        (*slot).fd = 0;
        (*slot).lost = 0;
        (*slot).settled = 0;
        (*slot).nobodys = 0;
        (*slot).vector.thread = 0;
        // The slot is free last; each is a barrier.
        atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(addr_of_mut!((*slot).telling), 0);
        atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(addr_of_mut!((*slot).cookie), 0);
    }
}
