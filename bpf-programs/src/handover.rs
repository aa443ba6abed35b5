// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Segments of connections go to user space.
use crate::{
    call::{self, Place},
    conversation::{Moved, place_of},
    maps::{Conversation, PAYLOAD, STREAM_DRAFT, StreamDraft},
    news::{count, header},
    segment::wake_up,
    words::{clear, copy as copy_words},
};
use core::ptr::{addr_of, addr_of_mut};
use tarsier_common::{PARTS, SEGMENT_MAX, StreamRecord, column, kind, stream_flag};

/// Pieces of a call that are copied in one round, and parts that one is cut into.
const COPY_STEPS: u32 = 56;
/// Enough for the 1024 pieces that a call may have, and the parts. What lies behind them is as if it could not be read.
const ROUNDS: u32 = 19;

/// What is told with a segment. `hand_over` follows, on the same processor.
#[inline(always)]
pub unsafe fn prepare(conversation: *mut Conversation, moved: &Moved, flags: u8) {
    unsafe {
        if let Some(draft) = STREAM_DRAFT.get_ptr_mut(moved.way) {
            describe(conversation, moved, flags, addr_of_mut!((*draft).record));
        }
    }
}

/// Hands `len` bytes to user space, in parts if there are many.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hand_over(conversation: *mut Conversation, len: u32, way: u32) -> u32 {
    if !conversation.is_null() {
        unsafe { record(conversation, len, way) };
    }
    0
}

#[inline(always)]
unsafe fn record(conversation: *mut Conversation, len: u32, way: u32) {
    unsafe {
        let Some(draft) = STREAM_DRAFT.get_ptr_mut(way) else {
            count(kind::SEGMENT, column::OBSERVED);
            (*conversation).lost = 1;
            return count(kind::SEGMENT, column::LOST);
        };
        (*draft).piece = 0;
        clear(addr_of_mut!((*draft).within));
        (*draft).parts = 0;
        (*draft).rounds = 0;
        clear(addr_of_mut!((*draft).lost));
        let place = if len == 0 { None } else { place_of(conversation, way) };
        let (len, pieces, count, base) = match place {
            Some(place) if place.pieces == 0 => (len, 0, place.len, place.base),
            Some(place) => (len, place.pieces, place.count, 0),
            None => (0, 0, 0, 0),
        };
        for _ in 0..ROUNDS {
            if copy_stream(way, len, pieces, count, base) == 0 {
                break;
            }
        }
        // If nothing else of it arrives, its end says so.
        if (*draft).lost != 0 {
            (*conversation).lost = 1;
        }
    }
}

#[inline(always)]
unsafe fn describe(conversation: *mut Conversation, moved: &Moved, flags: u8, record: *mut StreamRecord) {
    unsafe {
        let exchange = addr_of!((*conversation).exchange);
        let (known, other) = if moved.sent {
            ((*conversation).sent_known, (*conversation).received_known)
        } else {
            ((*conversation).received_known, (*conversation).sent_known)
        };
        (*record).header = header::<StreamRecord>(kind::SEGMENT, 0);
        copy_words(addr_of!((*conversation).owner), addr_of_mut!((*record).owner));
        copy_words(addr_of!((*conversation).ends), addr_of_mut!((*record).ends));
        (*record).cookie = (*conversation).cookie;
        (*record).position = moved.position;
        (*record).from = known;
        (*record).other_from = other;
        (*record).len = moved.len;
        (*record).copied = 0;
        (*record).offset = 0;
        (*record).skipped = 0;
        (*record).pending = (*exchange).pending;
        (*record).asked_ns = (*exchange).asked_ns;
        (*record).rest = (*exchange).rest;
        (*record).protocol = (*exchange).protocol;
        (*record).role = (*exchange).role;
        (*record).direction = moved.direction();
        (*record).flags = flags;
        (*record).carried = (*exchange).carried;
        (*record).carried_len = (*exchange).carried_len;
        (*record).reason = (*exchange).reason;
        (*record).head = (*exchange).asked_for_head;
    }
}

/// By itself, for the verifier: it walks through it once, whoever calls. `count`: of the pieces, or bytes where there is one.
/// Whether there are more of them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn copy_stream(way: u32, len: u32, pieces: u64, count: u64, base: u64) -> u32 {
    unsafe {
        let Some(draft) = STREAM_DRAFT.get_ptr_mut(way) else {
            return 0;
        };
        let place = Place {
            pieces,
            count,
            base,
            len: count,
        };
        u32::from(!copy(&place, draft, way, len))
    }
}

/// Piece by piece; a record whenever one is full, and at the end of the round. Whether that is all.
#[inline(always)]
unsafe fn copy(place: &Place, draft: *mut StreamDraft, way: u32, len: u32) -> bool {
    const ROOM: u32 = SEGMENT_MAX as u32;
    const HALF: u32 = PARTS / 2;
    /// Of a piece. There is more likely nothing but a body in it than in several short ones.
    const LONG: u32 = 8 * ROOM;
    unsafe {
        let mut is_over = false;
        let (mut copied, mut parts) = (0, unknown(draft, (*draft).parts));
        for _ in 0..COPY_STEPS {
            let done = (*draft).record.offset;
            let left = len.saturating_sub(done).saturating_sub(copied);
            let Some((base, size)) = place.piece((*draft).piece) else {
                is_over = true;
                break;
            };
            let within = (*draft).within;
            let n = u64::from(left.min(ROOM - copied)).min(size.saturating_sub(within)) as u32;
            if n > 0 {
                let (at, n) = (unknown(draft, copied), unknown(draft, n));
                let to = addr_of_mut!((*draft).payload).cast::<u8>().add(at as usize);
                if !call::read_bytes(to, n, base + within) {
                    is_over = true;
                    break;
                }
                copied = unknown(draft, at + n);
                (*draft).within = within + u64::from(n);
            }
            if (*draft).within >= size {
                (*draft).piece += 1;
                (*draft).within = 0;
            }
            if n >= left {
                is_over = true;
                break;
            }
            if copied >= ROOM {
                parts = unknown(draft, parts + 1);
                if parts >= PARTS {
                    is_over = true;
                    break;
                }
                let left = left.saturating_sub(n);
                // The end of it, rather than what follows: more often there is nothing but a body in between.
                let read = within + u64::from(n);
                let rest = u64::from(left).min(size.saturating_sub(read)) as u32;
                let skipped = if place.pieces == 0 && parts == HALF {
                    left.saturating_sub(HALF * ROOM)
                } else if place.pieces != 0 && len > PARTS * ROOM && read >= u64::from(ROOM) && rest > LONG {
                    rest - ROOM
                } else {
                    0
                };
                if skipped > 0 {
                    (*draft).record.skipped = skipped;
                    (*draft).within += u64::from(skipped);
                }
                part(way, copied, 0);
                copied = 0;
            }
            // However it came here: what follows is walked through once.
            (copied, parts) = (unknown(draft, copied), unknown(draft, parts));
        }
        (*draft).parts = parts;
        (*draft).rounds += 1;
        let is_over = is_over || (*draft).rounds >= ROUNDS;
        if is_over || copied > 0 {
            part(way, copied, u32::from(is_over));
        }
        is_over
    }
}

/// The same number, of which compiler and verifier know no more than that it is at most `SEGMENT_MAX`.
#[inline(always)]
unsafe fn unknown(draft: *mut StreamDraft, number: u32) -> u32 {
    unsafe {
        let at = addr_of_mut!((*draft).note);
        at.write_volatile(number);
        at.read_volatile() & SEGMENT_MAX as u32
    }
}

/// By itself, for the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn part(way: u32, copied: u32, last: u32) -> u32 {
    if let Some(draft) = STREAM_DRAFT.get_ptr_mut(way) {
        unsafe { output(draft, copied, last != 0) };
    }
    0
}

#[inline(always)]
unsafe fn output(draft: *mut StreamDraft, copied: u32, last: bool) {
    unsafe {
        let copied = unknown(draft, copied);
        let record = addr_of_mut!((*draft).record);
        let size = size_of::<StreamRecord>() + copied as usize;
        (*record).header.len = size as u32;
        (*record).copied = copied;
        if last {
            (*record).flags |= stream_flag::LAST;
        }
        count(kind::SEGMENT, column::OBSERVED);
        let bytes = core::slice::from_raw_parts(draft.cast::<u8>(), size);
        let sent = PAYLOAD.output_untyped::<[u8]>(bytes, wake_up()).is_ok();
        count(kind::SEGMENT, if sent { column::SENT } else { column::LOST });
        if !sent {
            (*draft).lost = 1;
        }
        (*record).offset += copied + (*record).skipped;
        (*record).skipped = 0;
        (*record).flags &= !stream_flag::BEGIN;
    }
}
