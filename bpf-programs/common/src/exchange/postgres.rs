//! PostgreSQL, protocol 3: simple queries, each answered in one segment. What comes before them is passed over; a statement
//! that is prepared is for the record lane.
use super::{Head, Reason, walk::Requests};

/// Messages of one segment that are looked at.
const STEPS: u32 = 24;

const VERSION_3_0: u32 = 196_608;
const VERSION_3_2: u32 = 196_610;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// Type and length.
const HEADER: u32 = 5;
/// A query or a statement is no longer than that.
const SANE: u32 = 1 << 30;

/// The client's first packet: a length and what it wants, no type.
#[inline(always)]
fn is_start(head: &Head, len: u32) -> bool {
    head.seen >= 8 && head.be32(0) == len && matches!(head.be32(4), VERSION_3_0 | VERSION_3_2 | CANCEL | TLS | GSS)
}

/// Of a connection that is older than the programs, too.
#[inline(always)]
pub(super) fn is_request(head: &Head, len: u32) -> bool {
    is_start(head, len) || is_query(head, len) || is_batch(head, len)
}

/// One query that is all of the segment and ends as a text does.
#[inline(always)]
fn is_query(head: &Head, len: u32) -> bool {
    head.byte(0) == b'Q'
        && head.seen > HEADER
        && head.be32(1) == len - 1
        && (head.seen < len || head.byte(len - 1) == 0)
}

/// Messages about prepared statements that fill the segment, and a Sync or a Flush at its end.
#[inline(always)]
fn is_batch(head: &Head, len: u32) -> bool {
    let mut at = 0;
    for _ in 0..8 {
        at = head.forget(at);
        if at + HEADER > head.seen {
            return false;
        }
        let (kind, size) = (head.byte(at), head.be32(at + 1));
        if !(4..=SANE).contains(&size) || !matches!(kind, b'P' | b'B' | b'C' | b'D' | b'E' | b'S' | b'H') {
            return false;
        }
        at += 1 + size;
        if at >= len {
            return at == len && size == 4 && (kind == b'S' || kind == b'H');
        }
    }
    false
}

/// Instead of a number of requests: whether the rest is to be encrypted. The server says so in one byte.
pub(super) const ENCRYPTION: u32 = 0xff_ffff;

#[inline(always)]
pub(super) fn request(head: &Head, len: u32) -> Result<Requests, Reason> {
    if head.seen >= 8 && head.byte(0) == 0 {
        if !is_start(head, len) {
            return Err(Reason::NotARequest);
        }
        let count = match head.be32(4) {
            TLS | GSS => ENCRYPTION,
            _ => 0,
        };
        return Ok(Requests { count, rest: 0 });
    }
    if head.seen < HEADER {
        return Err(Reason::Cut);
    }
    let size = head.be32(1);
    if !(4..=SANE).contains(&size) {
        return Err(Reason::NotARequest);
    }
    let count = match head.byte(0) {
        b'Q' => 1,
        // A password, or the end.
        b'p' | b'X' => 0,
        b'P' | b'B' | b'C' | b'D' | b'E' | b'F' | b'H' | b'S' | b'c' | b'd' | b'f' => return Err(Reason::Special),
        _ => return Err(Reason::NotARequest),
    };
    let rest = (1 + size).checked_sub(len).ok_or(Reason::Pipelined)?;
    Ok(Requests { count, rest })
}

/// Whether the reply, which must be all in this segment, tells of a failure.
#[inline(always)]
pub(super) fn failed(head: &Head, len: u32) -> Result<bool, Reason> {
    let (mut at, mut failed) = (0, 0);
    for _ in 0..STEPS {
        (at, failed) = (head.forget(at), head.forget(failed));
        if at + HEADER > head.seen {
            return Err(Reason::LongReply);
        }
        let (kind, size) = (head.byte(at), head.be32(at + 1));
        if !(4..=SANE).contains(&size) {
            return Err(Reason::NotAReply);
        }
        at += 1 + size;
        match kind {
            b'E' => failed = 1,
            b'Z' if at == len => return Ok(failed != 0),
            b'T' | b'D' | b'C' | b'I' | b'N' | b'S' | b'A' => {}
            b'Z' => return Err(Reason::Unasked),
            // COPY.
            b'G' | b'H' | b'W' => return Err(Reason::LongReply),
            _ => return Err(Reason::NotAReply),
        }
    }
    Err(Reason::TooMany)
}
