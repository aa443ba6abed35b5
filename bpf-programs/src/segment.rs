// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What name servers and their clients say to each other, into a ring of its own: however much it is, news finds its room.
use crate::{
    call::{self, Place},
    kernel::{is_kernels, is_own, load, owner},
    maps::{PAYLOAD, SEGMENT_DRAFT, SegmentDraft, TALKS, Talk, address},
    news::{NO_WAKEUP, count, header},
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_cxchg},
    ptr::{addr_of, addr_of_mut, null_mut},
};
use tarsier_common::{DNS_PORTS, Field, SEGMENT_MAX, SegmentRecord, column, kind};

/// Where name servers are asked, host order; the rest is zero.
#[unsafe(no_mangle)]
static DNS: [u16; DNS_PORTS] = [0; DNS_PORTS];

/// Which program runs: two that run at once on a processor must not write into the same draft.
pub mod way {
    pub const SENT: u32 = 1;
    pub const STREAM: u32 = 2;
    /// The kernel's function for IPv6.
    pub const SIX: u32 = 4;
    /// Of a stream, which has no function for IPv6: the one that sends pages.
    pub const PAGES: u32 = SIX;
    pub const COUNT: usize = 8;
}

pub const MSG_PEEK: i32 = 2;
/// PF_IO_WORKER: its registers are copies.
pub const PF_IO_WORKER: u32 = 0x10;
pub const PF_KTHREAD: u32 = 0x20_0000;

#[inline(always)]
fn is_dns(port: u16) -> bool {
    let ports = addr_of!(DNS).cast::<u16>();
    // The rest is zero, which is nobody's port.
    port != 0 && (0..DNS_PORTS).any(|i| unsafe { ports.add(i).read_volatile() } == port)
}

#[inline(always)]
unsafe fn remote_port(sk: *const u8) -> u16 {
    unsafe { u16::from_be(load(sk, Field::SK_REMOTE_PORT)) }
}

#[inline(always)]
unsafe fn talk(sk: *const u8, flags: u64) -> *mut Talk {
    unsafe { h::bpf_sk_storage_get(address(&TALKS), sk as *mut c_void, null_mut(), flags) as *mut Talk }
}

const CREATE: u64 = 1;

/// Whether it is worth more than a look: for most it is not, and this is all that they cost.
#[inline(always)]
pub unsafe fn is_wanted<const STREAM: bool, const SENT: bool>(sk: *const u8) -> bool {
    unsafe {
        if is_dns(load(sk, Field::SK_PORT)) {
            return true;
        }
        let remote = remote_port(sk);
        if STREAM || remote != 0 {
            return is_dns(remote);
        }
        // Not connected: the call says where it goes, and what comes back is for those who have asked.
        if SENT {
            return true;
        }
        let talk = talk(sk, 0);
        !talk.is_null() && (*talk).asked != 0
    }
}

/// `way`: bits of that, constants where this is called. Apart, for the stack's sake.
#[inline(never)]
pub unsafe fn segment(sk: *const u8, len: u32, way: u32) {
    unsafe {
        let task = h::bpf_get_current_task_btf() as *const u8;
        let task_flags: u32 = load(task, Field::TASK_FLAGS);
        if task_flags & PF_KTHREAD != 0 || is_kernels(sk) || is_own(load(task, Field::TASK_TGID)) {
            return;
        }
        let (sent, stream) = (way & way::SENT != 0, way & way::STREAM != 0);
        let call = if task_flags & PF_IO_WORKER != 0 {
            None
        } else {
            call::running(task, sent)
        };
        let mut is_of = false;
        if !stream && sent && !is_dns(load(sk, Field::SK_PORT)) && remote_port(sk) == 0 {
            let Some(call) = &call else { return };
            // Most go elsewhere, and this is what they cost.
            if !call.port().is_some_and(is_dns) || !call.is_of(task, sk) {
                return;
            }
            is_of = true;
            let talk = talk(sk, CREATE);
            if talk.is_null() {
                return;
            }
            // What comes back is an answer.
            (*talk).asked = 1;
        }
        count(kind::DNS, column::OBSERVED);
        let Some(draft) = SEGMENT_DRAFT.get_ptr_mut(way) else {
            return count(kind::DNS, column::LOST);
        };
        let mut position = 0;
        if stream {
            let talk = talk(sk, CREATE);
            if talk.is_null() {
                return count(kind::DNS, column::LOST);
            }
            let at = if sent {
                addr_of_mut!((*talk).sent)
            } else {
                addr_of_mut!((*talk).received)
            };
            position = advance(at, u64::from(len));
        }
        let record = addr_of_mut!((*draft).record);
        owner(task, &mut *addr_of_mut!((*record).owner));
        (*record).cookie = h::bpf_get_socket_cookie(sk as *mut c_void);
        (*record).position = position;
        (*record).len = len;
        (*record).stream = u8::from(stream);
        (*record).sent = u8::from(sent);
        let call = call.filter(|call| is_of || call.is_of(task, sk));
        let place = call.and_then(|call| {
            call.place(|| {
                let talk = talk(sk, CREATE);
                if talk.is_null() {
                    null_mut()
                } else {
                    addr_of_mut!((*talk).vector)
                }
            })
        });
        hand_over(draft, place.as_ref(), len);
    }
}

/// What it was before. Two threads that meet here many times in a row leave a gap, which is said.
#[inline(always)]
pub unsafe fn advance(at: *mut u64, by: u64) -> u64 {
    const TRIES: u32 = 4;
    unsafe {
        let mut before = at.read_volatile();
        for _ in 0..TRIES {
            let (was, done) =
                atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, before, before + by);
            if done {
                return before;
            }
            before = was;
        }
        before
    }
}

#[inline(always)]
unsafe fn hand_over(draft: *mut SegmentDraft, place: Option<&Place>, len: u32) {
    unsafe {
        let wanted = len.min(SEGMENT_MAX as u32);
        let copied = match place {
            Some(place) => call::copy(place, draft, wanted),
            None => 0,
        };
        let copied = call::bounded(draft, copied);
        let size = size_of::<SegmentRecord>() + copied as usize;
        let record = addr_of_mut!((*draft).record);
        (*record).header = header::<SegmentRecord>(kind::DNS, 0);
        (*record).header.len = size as u32;
        (*record).copied = copied;
        let bytes = core::slice::from_raw_parts(draft.cast::<u8>(), size);
        let sent = PAYLOAD.output_untyped::<[u8]>(bytes, wake_up()).is_ok();
        count(kind::DNS, if sent { column::SENT } else { column::LOST });
    }
}

/// The reader comes by itself, now and then, and is woken only where the ring fills faster than that.
#[inline(always)]
pub fn wake_up() -> u64 {
    const AVAILABLE: u64 = 0;
    const SIZE: u64 = 1;
    const FORCE_WAKEUP: u64 = 2;
    let ask = |what| unsafe { h::bpf_ringbuf_query(addr_of!(PAYLOAD).cast_mut().cast(), what) };
    if ask(AVAILABLE) > ask(SIZE) / 8 {
        FORCE_WAKEUP
    } else {
        NO_WAKEUP
    }
}
