// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What TCP sockets say to each other. Clean exchanges of a few protocols are counted here, by the matcher that user space
//! has too; whatever it cannot tell goes to user space, segment by segment, from there on. See `exchange`.
use crate::{
    call::{self, Call, Place},
    handover::prepare,
    kernel::load,
    maps::{Conversation, HEADS, SWITCHES, VERDICTS, WATCHED},
    news::count,
    segment::{PF_IO_WORKER, PF_KTHREAD, advance, way},
    talkers,
    walks::{http_request, postgres_reply, postgres_request, recognise, redis_replies, redis_requests},
};
use aya_ebpf::helpers::generated as h;
use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xchg},
    ptr::{addr_of, addr_of_mut, null_mut},
};
use tarsier_common::{
    Field, Switches, column,
    exchange::{HEAD_BYTES, RECEIVE, Reason, SEND, Segment, lane, what},
    kind, stream_flag,
};

/// Pieces of a call that the matcher looks at.
const HEAD_PIECES: u32 = 8;

/// What is remembered of a socket on which a process has sent or received. Null: nobody wants to know, or there is no room.
#[inline(always)]
pub unsafe fn begin(sk: *const u8) -> *mut Conversation {
    unsafe {
        let Some(switches) = SWITCHES.get_ptr(0) else {
            return null_mut();
        };
        if (*switches).protocols == 0 {
            return null_mut();
        }
        let conversation = talkers::begin(sk, &*switches);
        if conversation.is_null() {
            count(kind::SEGMENT, column::OBSERVED);
            count(kind::SEGMENT, column::LOST);
        }
        conversation
    }
}

/// What the caller of `said` has to do. It does it itself, for the stack's sake.
pub mod then {
    pub const NOTHING: u32 = 0;
    /// The segment goes to user space: `hand_over` is to be called, for all of its bytes.
    pub const SEGMENT: u32 = 1;
    /// For none of them.
    pub const BEGIN: u32 = 2;
}

/// A process has sent or received `len` bytes on a TCP socket. `way`: bits of that. By itself, for the verifier: it walks
/// through it once, wherever the conversation is remembered.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn said(conversation: *mut Conversation, len: u32, way: u32) -> u32 {
    if conversation.is_null() {
        return then::NOTHING;
    }
    unsafe { said_on(conversation, len, way) }
}

#[inline(always)]
unsafe fn said_on(conversation: *mut Conversation, len: u32, way: u32) -> u32 {
    unsafe {
        let Some(switches) = SWITCHES.get_ptr(0) else {
            return then::NOTHING;
        };
        if (*switches).protocols == 0 {
            return then::NOTHING;
        }
        if (*conversation).epoch != (*switches).epoch {
            look_again(conversation, &*switches);
        }
        let lane = (*conversation).exchange.lane;
        let sent = way & way::SENT != 0;
        let direction = if sent { SEND } else { RECEIVE };
        // What went before the first request does not matter, nor where it went.
        if lane == lane::OPAQUE || (*addr_of!((*conversation).exchange)).is_tired(direction) {
            return then::NOTHING;
        }
        let position = if sent {
            advance(addr_of_mut!((*conversation).sent), u64::from(len))
        } else {
            advance(addr_of_mut!((*conversation).received), u64::from(len))
        };
        let mut moved = Moved {
            position,
            len,
            way,
            sent,
        };
        let outcome = if lane == lane::RECORDS {
            if is_wanted(conversation, &moved) {
                Outcome::GOES_ON
            } else {
                Outcome::NOTHING
            }
        } else if take(conversation) {
            let outcome = matched(conversation, &moved, &*switches);
            release(conversation);
            outcome
        } else if lane == lane::KERNEL {
            // The other one hands it over, or who comes next.
            addr_of_mut!((*conversation).contended).write_volatile(1);
            Outcome::GOES_ON
        } else {
            Outcome::NOTHING
        };
        if outcome == Outcome::NOTHING {
            return then::NOTHING;
        }
        if outcome == Outcome::BEGINS_BEHIND {
            moved.position += u64::from(moved.len);
            moved.len = 0;
        }
        let begins = outcome == Outcome::BEGINS || outcome == Outcome::BEGINS_BEHIND;
        prepare(conversation, &moved, if begins { stream_flag::BEGIN } else { 0 });
        if moved.len > 0 { then::SEGMENT } else { then::BEGIN }
    }
}

/// What user space is to have of a segment. Numbers, for a program has one place only where it hands over.
struct Outcome;

impl Outcome {
    const NOTHING: u32 = 0;
    const GOES_ON: u32 = 1;
    /// It is the first.
    const BEGINS: u32 = 2;
    /// What comes behind it is.
    const BEGINS_BEHIND: u32 = 3;
}

pub struct Moved {
    pub position: u64,
    pub len: u32,
    pub way: u32,
    pub sent: bool,
}

impl Moved {
    #[inline(always)]
    pub fn direction(&self) -> u8 {
        if self.sent { SEND } else { RECEIVE }
    }
}

/// The configuration has changed: what nobody wanted may be wanted now. Apart, for the stack's sake, as what follows.
#[inline(never)]
unsafe fn look_again(conversation: *mut Conversation, switches: &Switches) {
    unsafe {
        if !take(conversation) {
            return;
        }
        (*conversation).epoch = switches.epoch;
        let exchange = &mut *addr_of_mut!((*conversation).exchange);
        if exchange.lane == lane::OPAQUE && (*conversation).nobodys == 0 {
            exchange.look_again();
        } else if exchange.protocol != 0 && switches.protocols & (1 << exchange.protocol) == 0 {
            exchange.lane = lane::OPAQUE;
        }
        release(conversation);
    }
}

#[inline(always)]
unsafe fn take(conversation: *mut Conversation) -> bool {
    unsafe {
        let busy = addr_of_mut!((*conversation).busy);
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(busy, 0, 1).1
    }
}

/// An exchange, because a plain store is no release on every machine.
#[inline(always)]
unsafe fn release(conversation: *mut Conversation) {
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(addr_of_mut!((*conversation).busy), 0) };
}

/// Not where user space could make nothing of what was said, nor within what it knows to be a body.
#[inline(always)]
unsafe fn is_wanted(conversation: *mut Conversation, moved: &Moved) -> bool {
    unsafe {
        let cookie = (*conversation).cookie;
        let Some(verdict) = VERDICTS.get_ptr(cookie) else {
            return true;
        };
        if (*verdict).over != 0 {
            (*conversation).exchange.lane = lane::OPAQUE;
            let _ = VERDICTS.remove(cookie);
            return false;
        }
        let up_to = if moved.sent {
            (*verdict).sent
        } else {
            (*verdict).received
        };
        moved.position + u64::from(moved.len) > up_to
    }
}

/// The call that runs, if it is one that moves data of this socket.
#[inline(always)]
pub unsafe fn place_of(conversation: *mut Conversation, way: u32) -> Option<Place> {
    unsafe {
        // Pages were never the caller's own: nobody can read them here.
        if way & way::PAGES != 0 {
            return None;
        }
        let task = h::bpf_get_current_task_btf() as *const u8;
        if load::<u32>(task, Field::TASK_FLAGS) & (PF_KTHREAD | PF_IO_WORKER) != 0 {
            return None;
        }
        let call: Call = call::running(task, way & way::SENT != 0)?;
        if !call.is_known(task, (*conversation).sk, addr_of_mut!((*conversation).fd)) {
            return None;
        }
        call.place(|| addr_of_mut!((*conversation).vector))
    }
}

/// An `Outcome`.
#[inline(always)]
unsafe fn matched(conversation: *mut Conversation, moved: &Moved, switches: &Switches) -> u32 {
    unsafe {
        let Some(head) = HEADS.get_ptr_mut(moved.way) else {
            return Outcome::NOTHING;
        };
        let head = &mut *addr_of_mut!((*head).head);
        let exchange = &mut *addr_of_mut!((*conversation).exchange);
        match exchange.lane {
            // Somebody else came first, and has handed it over.
            lane::RECORDS => return Outcome::GOES_ON,
            lane::OPAQUE => return Outcome::NOTHING,
            _ => {}
        }
        let direction = moved.direction();
        let was_known = exchange.lane == lane::KERNEL;
        if was_known && is_contended(conversation) {
            exchange.leave(Reason::Contended);
            return Outcome::BEGINS;
        }
        let wanted = exchange.wanted(direction).min(moved.len);
        let from = exchange.begin(head, direction);
        if wanted > 0
            && let Some(place) = place_of(conversation, moved.way)
        {
            read_head(&place, head, from, wanted);
        }
        let countable = if switches.watching != 0 && is_watched((*conversation).owner.tgid) {
            0
        } else {
            switches.countable
        };
        let segment = Segment {
            direction,
            len: moved.len,
            now_ns: h::bpf_ktime_get_ns(),
            head,
            countable,
        };
        exchange.advance(&segment, |what, len| match what {
            what::RECOGNISE => recognise(moved.way, len, switches.protocols),
            what::HTTP_REQUEST => http_request(moved.way, len),
            what::REDIS_REQUESTS => redis_requests(moved.way, len),
            what::REDIS_REPLIES => redis_replies(moved.way, len),
            what::POSTGRES_REQUEST => postgres_request(moved.way, len),
            _ => postgres_reply(moved.way, len),
        });
        if !was_known && exchange.lane != lane::LOOKING {
            // Nobody knows what came before, and nobody has to.
            (*conversation).sent_known = addr_of!((*conversation).sent).read_volatile();
            (*conversation).received_known = addr_of!((*conversation).received).read_volatile();
            know(conversation, moved, moved.position);
        }
        if exchange.lane == lane::RECORDS {
            return Outcome::BEGINS;
        }
        know(conversation, moved, moved.position + u64::from(moved.len));
        if exchange.lane == lane::KERNEL && is_contended(conversation) {
            exchange.leave(Reason::Contended);
            return Outcome::BEGINS_BEHIND;
        }
        Outcome::NOTHING
    }
}

#[inline(always)]
unsafe fn is_contended(conversation: *mut Conversation) -> bool {
    unsafe { addr_of_mut!((*conversation).contended).read_volatile() != 0 }
}

/// The matcher has seen what went that way up to there. Of a socket that it does not know yet nothing before matters.
#[inline(always)]
unsafe fn know(conversation: *mut Conversation, moved: &Moved, up_to: u64) {
    unsafe {
        if moved.sent {
            (*conversation).sent_known = up_to;
        } else {
            (*conversation).received_known = up_to;
        }
    }
}

#[inline(always)]
fn is_watched(tgid: u32) -> bool {
    WATCHED.get_ptr(tgid).is_some()
}

#[inline(always)]
unsafe fn read_head(place: &Place, head: &mut tarsier_common::exchange::Head, from: u32, wanted: u32) {
    unsafe {
        let mut seen = from;
        let mut left = wanted;
        for i in 0..HEAD_PIECES {
            let Some((base, len)) = place.piece(i) else { break };
            let at = head.forget(seen) % HEAD_BYTES as u32;
            // One byte less than there is room, so that a mask is a bound. The verifier knows it by itself only.
            let n = u64::from(left.min(HEAD_BYTES as u32 - 1 - at)).min(len) as u32;
            let n = head.forget(n) % HEAD_BYTES as u32;
            if n > 0 {
                if !call::read_bytes(addr_of_mut!(head.bytes).cast::<u8>().add(at as usize), n, base) {
                    break;
                }
                seen = at + n;
                left -= n;
                head.seen = seen;
            }
            if left == 0 || seen >= HEAD_BYTES as u32 - 1 {
                break;
            }
        }
    }
}
