// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Segments of connections go to user space.
use crate::{
    call::{self, Place},
    conversation::{Moved, place_of},
    maps::{Conversation, PAYLOAD, STREAM_DRAFT, StreamDraft},
    news::{count, header},
    segment::wake_up,
};
use core::ptr::{addr_of, addr_of_mut};
use tarsier_common::{PARTS, SEGMENT_MAX, StreamRecord, column, kind, stream_flag};

/// Pieces of a call that are copied, and parts that one is cut into: what lies behind them is as if it could not be read.
const COPY_STEPS: u32 = 56;

/// Hands a segment to user space, in parts if it is long.
#[inline(never)]
pub unsafe fn record(conversation: *mut Conversation, moved: &Moved, flags: u8) {
    unsafe {
        let Some(draft) = STREAM_DRAFT.get_ptr_mut(moved.way) else {
            count(kind::SEGMENT, column::OBSERVED);
            return count(kind::SEGMENT, column::LOST);
        };
        describe(conversation, moved, flags, addr_of_mut!((*draft).record));
        (*draft).piece = 0;
        (*draft).within = 0;
        let place = if moved.len == 0 {
            None
        } else {
            place_of(conversation, moved)
        };
        match place {
            Some(place) if place.pieces == 0 => copy_stream(moved.way, moved.len, 0, place.len, place.base),
            Some(place) => copy_stream(moved.way, moved.len, place.pieces, place.count, 0),
            None => copy_stream(moved.way, 0, 0, 0, 0),
        };
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
        (*record).owner = (*conversation).owner;
        (*record).ends = (*conversation).ends;
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
    }
}

/// By itself, for the verifier: it walks through it once, whoever calls. `count`: of the pieces, or bytes where there is one.
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
        copy(&place, draft, way, len);
    }
    0
}

/// Piece by piece; a record whenever one is full.
#[inline(always)]
unsafe fn copy(place: &Place, draft: *mut StreamDraft, way: u32, len: u32) {
    const ROOM: u32 = SEGMENT_MAX as u32;
    const HALF: u32 = PARTS / 2;
    unsafe {
        let (mut copied, mut parts) = (0, 0);
        for _ in 0..COPY_STEPS {
            let done = (*draft).record.offset;
            let left = len.saturating_sub(done).saturating_sub(copied);
            let Some((base, size)) = place.piece((*draft).piece) else {
                break;
            };
            let within = (*draft).within;
            let n = u64::from(left.min(ROOM - copied)).min(size.saturating_sub(within)) as u32;
            if n > 0 {
                let (at, n) = (unknown(draft, copied), unknown(draft, n));
                let to = addr_of_mut!((*draft).payload).cast::<u8>().add(at as usize);
                if !call::read_bytes(to, n, base + within) {
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
                break;
            }
            if copied >= ROOM {
                parts = unknown(draft, parts + 1);
                if parts >= PARTS {
                    break;
                }
                let left = left.saturating_sub(n);
                if parts == HALF && place.pieces == 0 && left > HALF * ROOM {
                    // The end of it, rather than what follows: more often there is nothing but a body in between.
                    let skipped = left - HALF * ROOM;
                    (*draft).record.skipped = skipped;
                    (*draft).within += u64::from(skipped);
                }
                part(way, copied, 0);
                copied = 0;
            }
            // However it came here: what follows is walked through once.
            (copied, parts) = (unknown(draft, copied), unknown(draft, parts));
        }
        part(way, copied, 1);
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
        unsafe { hand_over(draft, copied, last != 0) };
    }
    0
}

#[inline(always)]
unsafe fn hand_over(draft: *mut StreamDraft, copied: u32, last: bool) {
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
        (*record).offset += copied + (*record).skipped;
        (*record).skipped = 0;
        (*record).flags &= !stream_flag::BEGIN;
    }
}
