//! Redis: commands and replies, walked from header to header.
use super::{Head, Reason, walk::Requests};

/// Headers looked at in one segment: 18 SET commands have 72.
const STEPS: u32 = 72;

#[inline(always)]
pub(super) fn is_request(head: &Head) -> bool {
    head.byte(0) == b'*'
        && matches!(head.number(1), Some((_, size)) if head.byte(1 + size) == b'$' && head.seen > 1 + size)
}

/// Of the arguments that are left: the next one is the command's name.
const NAME: u32 = 1 << 31;

/// Walks the commands of a segment. The last argument may reach into later segments (`rest`); anything else that does not
/// end with the segment is `Cut`.
#[inline(always)]
pub(super) fn requests(head: &Head, len: u32) -> Result<Requests, Reason> {
    let (mut at, mut arguments, mut count) = (0, 0, 0);
    for _ in 0..STEPS {
        (at, arguments) = (head.forget(at), head.forget(arguments));
        if at >= head.seen {
            return Err(Reason::Cut);
        }
        let (value, size) = head.number(at + 1).ok_or(Reason::NotARequest)?;
        let marker = head.byte(at);
        at += 1 + size;
        if at > head.seen {
            return Err(Reason::Cut);
        }
        if arguments == 0 {
            if marker != b'*' || value == 0 {
                return Err(Reason::NotARequest);
            }
            arguments = value | NAME;
            count += 1;
            continue;
        }
        if marker != b'$' {
            return Err(Reason::NotARequest);
        }
        if arguments & NAME != 0 && is_special(head, at) {
            return Err(Reason::Special);
        }
        at += value + 2;
        arguments = (arguments & !NAME) - 1;
        if arguments == 0 && at >= len {
            return Ok(Requests { count, rest: at - len });
        }
    }
    Err(Reason::TooMany)
}

/// Commands that are not answered once each: `[P|S](UN)SUBSCRIBE`, `MONITOR`, `SYNC`, `PSYNC` and `CLIENT REPLY`.
#[inline(always)]
fn is_special(head: &Head, at: u32) -> bool {
    const CASE: u64 = 0x2020_2020;
    let word = (head.word(at) & 0xffff_ffff) | CASE;
    // Zero less one has its uppermost bit set: one branch for all of them.
    let hits = [
        *b"subs", *b"psub", *b"ssub", *b"unsu", *b"puns", *b"suns", *b"moni", *b"sync", *b"psyn",
    ]
    .iter()
    .fold(0, |hits, name| {
        hits | (word ^ u64::from(u32::from_le_bytes(*name))).wrapping_sub(1)
    });
    // Its second word, with the header before it.
    let client = word ^ u64::from(u32::from_le_bytes(*b"clie"));
    let reply = (head.word(at + 8) | CASE << 32) ^ u64::from_le_bytes(*b"$5\r\nrepl");
    (hits | (client | reply).wrapping_sub(1)) >> 63 != 0
}

/// Whether the reply that begins the segment is a failure.
#[inline(always)]
pub(super) fn failed(head: &Head) -> Result<bool, Reason> {
    match head.byte(0) {
        b'-' | b'!' => Ok(true),
        b'+' | b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'=' | b'%' | b'~' => Ok(false),
        _ => Err(Reason::NotAReply),
    }
}

pub(super) struct Replies {
    pub ok: u32,
    pub failed: u32,
}

/// Walks the replies to pipelined commands; they must end with the segment.
#[inline(always)]
pub(super) fn replies(head: &Head, len: u32) -> Result<Replies, Reason> {
    let mut at = 0;
    let mut replies = Replies { ok: 0, failed: 0 };
    for _ in 0..STEPS {
        at = head.forget(at);
        if at >= head.seen {
            return Err(Reason::Cut);
        }
        let marker = head.byte(at);
        at += match marker {
            b'$' if head.byte(at + 1) == b'-' => 5,
            b'$' => head
                .number(at + 1)
                .map(|(value, size)| size + value + 3)
                .ok_or(Reason::NotAReply)?,
            b'+' | b':' | b'-' | b'_' | b'#' => head.short_line(at + 1).ok_or(Reason::Aggregate)? + 1,
            _ => return Err(Reason::Aggregate),
        };
        if marker == b'-' {
            replies.failed += 1;
        } else {
            replies.ok += 1;
        }
        if at == len {
            return Ok(replies);
        }
    }
    Err(Reason::TooMany)
}
