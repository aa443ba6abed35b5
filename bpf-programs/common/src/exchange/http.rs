//! HTTP/1.x: a request whose head ends in its segment, and the status lines of replies.
use super::{
    Head, Reason,
    head::{marks, word_of},
    walk::Requests,
};

/// With the space behind it, and where what is asked for begins.
const METHODS: [((u64, u64), u32); 9] = [
    (word_of(b"GET "), 4),
    (word_of(b"PUT "), 4),
    (word_of(b"POST "), 5),
    (word_of(b"HEAD "), 5),
    (word_of(b"PATCH "), 6),
    (word_of(b"TRACE "), 6),
    (word_of(b"DELETE "), 7),
    (word_of(b"OPTIONS "), 8),
    (word_of(b"CONNECT "), 8),
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
    // POST, PUT, PATCH: the body may also come in segments of its own.
    let has_body = head.byte(0) == b'P';
    // Most are alone in their segment.
    if !has_body && end(head) == len {
        return Ok(Requests { count: 1, rest: 0 });
    }
    let lines = lines(head).ok_or(Reason::LongHead)?;
    let end = head.forget(lines.end);
    let none = if has_body { Reason::NoLength } else { Reason::Pipelined };
    let at = head.forget(lines.length_at);
    if at == 0 {
        return Err(none);
    }
    let space = u32::from(head.byte(at) == b' ');
    let (body, _) = head.number(at + space).ok_or(none)?;
    let rest = (end + body).checked_sub(len).ok_or(Reason::Pipelined)?;
    Ok(Requests { count: 1, rest })
}

/// Behind the first empty line; 0: there is none.
#[inline(always)]
fn end(head: &Head) -> u32 {
    const WORDS: u32 = super::HEAD_BYTES as u32 / 8;
    let mut found = 0;
    let mut i = 0;
    for _ in 0..WORDS {
        // A line's end with the next one's begin behind it. The first mark is always right, and a wrong one behind it is
        // seen to be one below.
        found = marks(head.word(i), b'\n') & marks(head.word(i + 1), b'\r');
        if found != 0 || i >= head.seen {
            break;
        }
        i += 8;
    }
    // However many turns it took: what follows is walked through once.
    let (found, i) = (head.forget_all(found), head.forget(i));
    if found == 0 {
        return 0;
    }
    let at = i + found.trailing_zeros() / 8;
    let is_end = u32::from_le_bytes([head.byte(at), head.byte(at + 1), head.byte(at + 2), 0]);
    if is_end == u32::from_le_bytes(*b"\n\r\n\0") && at + 3 <= head.seen {
        at + 3
    } else {
        0
    }
}

/// What of a head counts.
struct Lines {
    /// Behind the empty line.
    end: u32,
    /// The value of Content-Length; 0: there is none.
    length_at: u32,
}

/// Eight bytes at a time, for it is the verifier that has to walk through all of them.
#[inline(always)]
fn lines(head: &Head) -> Option<Lines> {
    const STEPS: u32 = super::HEAD_BYTES as u32 / 8 + 40;
    const NAME: [&[u8; 8]; 2] = [b"\ncontent", b"-length:"];
    // Upper and lower case differ in one bit, which none of the signs needs here.
    const CASE: u64 = 0x2020_2020_2020_2020;
    let differs = |at, part: &[u8; 8]| (head.word(at) ^ u64::from_le_bytes(*part)) & !CASE;
    let (mut i, mut length_at) = (0, 0);
    let mut ends = marks(head.word(0), b'\n');
    // A step for each word, and one for each line.
    for _ in 0..STEPS {
        if ends == 0 {
            i = head.forget(i + 8);
            if i >= head.seen {
                return None;
            }
            ends = marks(head.word(i), b'\n');
        } else {
            let at = head.forget(i + ends.trailing_zeros() / 8);
            ends &= ends - 1;
            // The mark behind another one may be none.
            if u16::from_le_bytes([head.byte(at), head.byte(at + 1)]) == u16::from_le_bytes(*b"\n\r") {
                let end = at + 3;
                let whole = end <= head.seen && head.byte(at + 2) == b'\n';
                return whole.then_some(Lines { end, length_at });
            }
            if differs(at, NAME[0]) | differs(at + 8, NAME[1]) == 0 {
                length_at = at + 16;
            }
        }
        (i, length_at, ends) = (head.forget(i), head.forget(length_at), head.forget_all(ends));
    }
    None
}

/// The status of a segment that begins a response.
#[inline(always)]
pub(super) fn status(head: &Head) -> Option<u32> {
    const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
    let digit = |at| u32::from(head.byte(at).wrapping_sub(b'0'));
    let (a, b, c) = (digit(9), digit(10), digit(11));
    let is_status = (1..=5).contains(&a) && b <= 9 && c <= 9;
    (head.seen >= 12 && head.word(0) << 8 == VERSION << 8 && is_status).then_some(a * 100 + b * 10 + c)
}
