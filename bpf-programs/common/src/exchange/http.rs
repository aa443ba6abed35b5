//! HTTP/1.x: a request whose head ends in its segment, and the status lines of replies.
use super::{Head, Reason, Requests};

/// A method as eight bytes with the space behind it, and the mask of what of them counts.
const fn method(name: &[u8]) -> (u64, u64) {
    let (mut word, mut mask, mut i) = (0, 0, 0);
    while i < name.len() {
        word |= (name[i] as u64) << (8 * i);
        mask |= 0xff << (8 * i);
        i += 1;
    }
    (word, mask)
}

const METHODS: [((u64, u64), u32); 9] = [
    (method(b"GET "), 4),
    (method(b"PUT "), 4),
    (method(b"POST "), 5),
    (method(b"HEAD "), 5),
    (method(b"PATCH "), 6),
    (method(b"TRACE "), 6),
    (method(b"DELETE "), 7),
    (method(b"OPTIONS "), 8),
    (method(b"CONNECT "), 8),
];

#[inline(always)]
pub(super) fn is_request(head: &Head) -> bool {
    let begin = head.word(0);
    let mut target = 0;
    for ((word, mask), len) in METHODS {
        if begin & mask == word {
            target = len;
        }
    }
    // A path, or a URI; of CONNECT whatever it likes.
    let first = head.byte(target);
    target != 0 && head.seen > target && (matches!(first, b'/' | b'*' | b'h' | b'H') || head.byte(0) == b'C')
}

/// Exactly one request may begin in the segment: its head must end in it, and its length must cover the rest.
#[inline(always)]
pub(super) fn request(head: &Head, len: u32) -> Result<Requests, Reason> {
    if !is_request(head) {
        return Err(Reason::NotARequest);
    }
    if head.byte(0) == b'C' {
        return Err(Reason::Connect);
    }
    let end = head.forget(head.blank_line().ok_or(Reason::LongHead)?);
    // POST, PUT, PATCH: the body may also come in segments of its own.
    let has_body = head.byte(0) == b'P';
    if end == len && !has_body {
        return Ok(Requests { count: 1, rest: 0 });
    }
    let Some(body) = content_length(head, end) else {
        return Err(if has_body { Reason::NoLength } else { Reason::Pipelined });
    };
    let rest = (end + body).checked_sub(len).ok_or(Reason::Pipelined)?;
    Ok(Requests { count: 1, rest })
}

#[inline(always)]
fn content_length(head: &Head, end: u32) -> Option<u32> {
    const NAME: [&[u8; 8]; 2] = [b"\ncontent", b"-length:"];
    // Upper and lower case differ in one bit, which none of the signs needs here.
    const CASE: u64 = 0x2020_2020_2020_2020;
    // Two comparisons instead of sixteen: the verifier takes every branch at every offset.
    let differs = |at, part: &[u8; 8]| (head.word(at) ^ u64::from_le_bytes(*part)) & !CASE != 0;
    let mut found = 0;
    for at in 0..super::HEAD_BYTES as u32 - 16 {
        if at + 16 > end {
            return None;
        }
        if head.byte(at) == b'\n' && !differs(at, NAME[0]) && !differs(at + 8, NAME[1]) {
            found = at;
            break;
        }
    }
    if found == 0 {
        return None;
    }
    let value = head.forget(found) + 16;
    let space = u32::from(head.byte(value) == b' ');
    head.number(value + space).map(|(length, _)| length)
}

/// The status of a segment that begins a response.
#[inline(always)]
pub(super) fn status(head: &Head) -> Option<u32> {
    const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
    let digit = |at| u32::from(head.byte(at).wrapping_sub(b'0'));
    let (a, b, c) = (digit(9), digit(10), digit(11));
    let is_status = a >= 1 && a <= 5 && b <= 9 && c <= 9;
    (head.seen >= 12 && head.word(0) << 8 == VERSION << 8 && is_status).then_some(a * 100 + b * 10 + c)
}
