// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What was counted on a socket goes to user space: by a pass, and at its end.
use crate::{
    maps::{Conversation, PAYLOAD, SPILLED_EXCHANGES, TALKERS, TOTALS_DRAFT, TotalsDraft, telling},
    news::{count, header},
    segment::wake_up,
    talkers::{self, change},
    totals::SlotContext,
};
use aya_ebpf::{helpers::generated as h, macros::btf_tracepoint, programs::BtfTracePointContext};
use core::{
    ffi::c_void,
    ptr::{addr_of, addr_of_mut},
};
use tarsier_common::{ExchangesRecord, column, exchange::lane, kind, stream_flag};

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
        if addr_of!((*slot).sk).read_volatile() == 0 {
            return 0;
        }
        if talkers::is_abandoned(slot) && talkers::close(slot) {
            // From here on it is this pass's alone.
            addr_of_mut!((*slot).telling).write_volatile(telling::PASS | telling::CLOSED);
        }
        if show(*(*ctx).meta, slot) {
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
        // Left over where there was no room for the last row of one that has ended.
        if at.read_volatile() != telling::PASS | telling::CLOSED {
            if !change(at, 0, telling::PASS) {
                // It has ended, and that tells.
                return false;
            }
            if (*conversation).exchange.protocol != 0 {
                row(seq, conversation, 0);
            }
            if change(at, telling::PASS, 0) {
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
        at.write_volatile(telling::CLOSED);
        true
    }
}

const PASS: u32 = 0;
const END: u32 = 1;

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
        (*record).owner = (*conversation).owner;
        (*record).ends = (*conversation).ends;
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
        let Some(draft) = TOTALS_DRAFT.get_ptr_mut(END) else {
            return;
        };
        describe(conversation, stream_flag::END, draft);
        let record = &*addr_of!((*draft).record);
        if record.totals.is_zero() && record.lane != lane::RECORDS && record.unanswered == 0 {
            return;
        }
        count(kind::EXCHANGES, column::OBSERVED);
        let outcome = if PAYLOAD.output_untyped::<ExchangesRecord>(record, wake_up()).is_ok() {
            column::SENT
        } else if SPILLED_EXCHANGES.insert(record.cookie, record, 0).is_ok() {
            column::DEFERRED
        } else {
            column::LOST
        };
        count(kind::EXCHANGES, outcome);
    }
}
