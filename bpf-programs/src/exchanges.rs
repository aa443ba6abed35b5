// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What was counted on a socket goes to user space: by a pass, and at its end.
use crate::{
    maps::{
        Conversation, ENDED_EXCHANGES, EPOCH, PAYLOAD, SPILLED_EXCHANGES, TALKERS, TOTALS_DRAFT, TotalsDraft, telling,
    },
    news::{count, header},
    segment::wake_up,
    spill::{NOEXIST, add},
    talkers::{self, change},
    tcp::is_direct,
    totals::SlotContext,
    words::{clear, copy},
};
use aya_ebpf::{helpers::generated as h, macros::btf_tracepoint, programs::BtfTracePointContext};
use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_xadd},
    mem::MaybeUninit,
    ptr::{addr_of, addr_of_mut},
};
use tarsier_common::{
    EndedKey, ExchangesRecord, column,
    exchange::{BOUNDS_MS, RECEIVE, lane},
    kind, stream_flag,
};

#[repr(C)]
pub struct Context {
    meta: *const *mut c_void,
    map: *const c_void,
    sk: *const c_void,
    value: *mut Conversation,
}

/// A row for each socket on which something was counted since the last time.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
pub unsafe extern "C" fn l7_totals(ctx: *const Context) -> i32 {
    unsafe {
        let conversation = (*ctx).value;
        if !(*ctx).sk.is_null() && !conversation.is_null() && (*conversation).exchange.protocol != 0 {
            show(*(*ctx).meta, conversation);
        }
    }
    0
}

/// The same of those that have a slot.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
pub unsafe extern "C" fn l7_totals_of_slots(ctx: *const SlotContext) -> i32 {
    unsafe {
        let index = (*ctx).index;
        if index.is_null() {
            return 0;
        }
        let Some(slot) = TALKERS.get_ptr_mut(*index) else {
            return 0;
        };
        if talkers::keep(slot) && show(*(*ctx).meta, slot) {
            talkers::give_back(slot);
        }
    }
    0
}

/// `true`: it has ended, and that is told.
#[inline(always)]
unsafe fn show(seq: *mut c_void, conversation: *mut Conversation) -> bool {
    unsafe {
        let at = addr_of_mut!((*conversation).telling);
        let seen = at.read_volatile();
        // A pass's own: left over where there was no room for the last row of one that has ended.
        if seen & telling::BITS != telling::BITS {
            if seen & telling::BITS != 0 || !change(at, seen, seen | telling::PASS) {
                // It has ended, and that tells.
                return false;
            }
            if (*conversation).exchange.protocol != 0 {
                row(seq, conversation, 0);
            }
            if change(at, seen | telling::PASS, seen) {
                return false;
            }
        }
        // It has ended meanwhile, and left the telling to this.
        if (*conversation).exchange.protocol != 0 {
            if !row(seq, conversation, stream_flag::END) {
                return false;
            }
            count(kind::EXCHANGES, column::OBSERVED);
            count(kind::EXCHANGES, column::SUMMED);
        }
        at.write_volatile(seen & !telling::BITS | telling::CLOSED);
        true
    }
}

const PASS: u32 = 0;
const END: u32 = 1;

const CLASSES: usize = 6;
const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// `false`: there was no room for it, and the kernel asks for the row again.
#[inline(never)]
unsafe fn row(seq: *mut c_void, conversation: *mut Conversation, flags: u8) -> bool {
    unsafe {
        let Some(draft) = TOTALS_DRAFT.get_ptr_mut(PASS) else {
            return true;
        };
        describe(conversation, flags, draft);
        if (*draft).record.totals.is_zero() && flags == 0 {
            return true;
        }
        let size = size_of::<ExchangesRecord>() as u32;
        if h::bpf_seq_write(seq.cast(), draft.cast(), size) != 0 {
            return false;
        }
        (*conversation).shown = (*draft).now;
        true
    }
}

#[inline(always)]
unsafe fn describe(conversation: *mut Conversation, flags: u8, draft: *mut TotalsDraft) {
    unsafe {
        // The hooks go on meanwhile: each counter is read once, and what of it is told is what was read.
        (*draft).now = addr_of!((*conversation).exchange.totals).read_volatile();
        let record = addr_of_mut!((*draft).record);
        (*record).totals = addr_of!((*draft).now).read_volatile();
        (*addr_of_mut!((*record).totals)).subtract(&*addr_of!((*conversation).shown));
        (*record).header = header::<ExchangesRecord>(kind::EXCHANGES, 0);
        copy(addr_of!((*conversation).owner), addr_of_mut!((*record).owner));
        copy(addr_of!((*conversation).ends), addr_of_mut!((*record).ends));
        (*record).cookie = (*conversation).cookie;
        (*record).sent = (*conversation).sent;
        (*record).received = (*conversation).received;
        (*record).lost = (*conversation).lost;
        (*record).protocol = (*conversation).exchange.protocol;
        (*record).role = (*conversation).exchange.role;
        (*record).flags = flags;
        (*record).lane = (*conversation).exchange.lane;
        (*record).unanswered = if flags & stream_flag::END != 0 && (*record).lane == lane::KERNEL {
            (*conversation).exchange.pending
        } else {
            0
        };
    }
}

/// Nobody uses the socket any more.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn l7_destroy(ctx: BtfTracePointContext) -> i32 {
    unsafe {
        let sk: *const u8 = ctx.arg(0);
        let slot = talkers::slot(sk);
        if !slot.is_null() {
            if talkers::close(slot) {
                if (*slot).exchange.protocol != 0 {
                    tell_end(slot);
                }
                talkers::give_back(slot);
            }
            return 0;
        }
        let conversation = talkers::stored(sk);
        if !conversation.is_null() && talkers::close(conversation) && (*conversation).exchange.protocol != 0 {
            tell_end(conversation);
        }
    }
    0
}

#[inline(never)]
unsafe fn tell_end(conversation: *mut Conversation) {
    unsafe {
        let exchange = addr_of!((*conversation).exchange);
        let lane = (*exchange).lane;
        let unanswered = if lane == lane::KERNEL { (*exchange).pending } else { 0 };
        let (now, shown) = (addr_of!((*exchange).totals), addr_of!((*conversation).shown));
        let is_told = (0..BUCKETS).all(|i| (&(*now).buckets)[i] == (&(*shown).buckets)[i]);
        if is_told && lane != lane::RECORDS && unanswered == 0 {
            return;
        }
        count(kind::EXCHANGES, column::OBSERVED);
        let outcome = if lane == lane::KERNEL && add_up(conversation, unanswered) {
            column::SUMMED
        } else {
            tell_alone(conversation)
        };
        count(kind::EXCHANGES, outcome);
    }
}

#[inline(never)]
unsafe fn tell_alone(conversation: *mut Conversation) -> usize {
    unsafe {
        let Some(draft) = TOTALS_DRAFT.get_ptr_mut(END) else {
            return column::LOST;
        };
        describe(conversation, stream_flag::END, draft);
        let record = &*addr_of!((*draft).record);
        if PAYLOAD.output_untyped::<ExchangesRecord>(record, wake_up()).is_ok() {
            column::SENT
        } else if SPILLED_EXCHANGES.insert(record.cookie, record, 0).is_ok() {
            column::DEFERRED
        } else {
            column::LOST
        }
    }
}

/// To those of the same process and destination. `false`: somebody has to be asked first where it went, or there is no room.
#[inline(never)]
unsafe fn add_up(conversation: *mut Conversation, unanswered: u32) -> bool {
    unsafe {
        let (ends, owner) = (addr_of!((*conversation).ends), addr_of!((*conversation).owner));
        let mut key = MaybeUninit::<EndedKey>::uninit();
        clear(key.as_mut_ptr());
        let key = key.assume_init_mut();
        key.start_ns = (*owner).start_ns;
        key.tgid = (*owner).tgid;
        key.netns = (*ends).netns;
        key.protocol = (*conversation).exchange.protocol;
        key.role = (*conversation).exchange.role;
        key.epoch = EPOCH.get(0).copied().unwrap_or(0);
        if key.role != RECEIVE {
            (key.address, key.port, key.family) = ((*ends).remote, (*ends).remote_port, (*ends).family);
            if !is_direct(key.netns, (key.address, key.port, key.family)) {
                return false;
            }
        }
        // By reference, here and below: what is passed by value is copied to the stack.
        let key = &*key;
        if let Some(sum) = ENDED_EXCHANGES.get_ptr_mut(key) {
            add_to(sum, conversation, unanswered);
            return true;
        }
        let Some(draft) = TOTALS_DRAFT.get_ptr_mut(END) else {
            return false;
        };
        describe(conversation, 0, draft);
        (*draft).record.unanswered = unanswered;
        let record = &*addr_of!((*draft).record);
        if ENDED_EXCHANGES.insert(key, record, NOEXIST).is_ok() {
            return true;
        }
        // Somebody else has put it there meanwhile, or there is no room.
        let sum = ENDED_EXCHANGES.get_ptr_mut(key);
        if let Some(sum) = sum {
            add_to(sum, conversation, unanswered);
        }
        sum.is_some()
    }
}

/// What of it user space was not told.
#[inline(always)]
unsafe fn add_to(sum: *mut ExchangesRecord, conversation: *const Conversation, unanswered: u32) {
    unsafe {
        let to = addr_of_mut!((*sum).totals);
        let (now, shown) = (
            addr_of!((*conversation).exchange.totals),
            addr_of!((*conversation).shown),
        );
        add(
            addr_of_mut!((*to).latency_ns),
            (*now).latency_ns.wrapping_sub((*shown).latency_ns),
        );
        for i in 0..CLASSES {
            let more = (&(*now).classes)[i].wrapping_sub((&(*shown).classes)[i]);
            add_few(addr_of_mut!((*to).classes).cast::<u32>().add(i), more);
        }
        for i in 0..BUCKETS {
            let more = (&(*now).buckets)[i].wrapping_sub((&(*shown).buckets)[i]);
            add_few(addr_of_mut!((*to).buckets).cast::<u32>().add(i), more);
        }
        add_few(addr_of_mut!((*sum).unanswered), unanswered);
    }
}

#[inline(always)]
unsafe fn add_few(cell: *mut u32, value: u32) {
    if value > 0 {
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(cell, value) };
    }
}
