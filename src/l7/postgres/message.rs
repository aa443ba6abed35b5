//! What messages there are, how long they may be, and what their begin looks like.
use crate::l7::dialogue::Side;
use std::ops::RangeInclusive;

pub(super) const HEAD_LEN: usize = 5;
/// Of the packets that a connection begins with, which have no type.
pub(super) const OPENING_LEN: usize = 8;

pub(super) const CANCEL_REQUEST: u32 = 80_877_102;
pub(super) const SSL_REQUEST: u32 = 80_877_103;
pub(super) const GSSENC_REQUEST: u32 = 80_877_104;
const MAJOR_VERSION: u32 = 3;

/// Neither end allocates more for a message.
const LARGE: u32 = 1 << 30;
/// What a server takes of a message that has a name in it, or of an opening.
const SMALL: u32 = 10_000;
/// No message is taken to be longer where it is not sure that one begins: no text has a zero byte there. Even less where
/// nothing of what follows was looked at.
const SEEMING: u32 = (1 << 24) - 1;
const UNSEEN: u32 = (1 << 16) - 1;
/// Columns of a row: a server has no more than 1664.
const MAX_COLUMNS: u16 = 4096;

/// What bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Too few to tell.
    Open,
    Nonsense,
    Message {
        kind: u8,
        /// Bytes that follow.
        body: u32,
    },
    Opening {
        code: u32,
        body: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sureness {
    /// A message begins there.
    Sure,
    Seeming,
    Unseen,
}

/// By what it may count itself, in bytes.
fn lengths(side: Side, kind: u8) -> Option<RangeInclusive<u32>> {
    Some(match (side, kind) {
        (Side::Client, b'Q') => 5..=LARGE,
        (Side::Client, b'P') => 8..=LARGE,
        (Side::Client, b'B') => 12..=LARGE,
        (Side::Client, b'F') => 14..=LARGE,
        (Side::Client, b'E') => 9..=SMALL,
        (Side::Client, b'C' | b'D') => 6..=SMALL,
        (Side::Client, b'f') => 5..=SMALL,
        (Side::Client, b'S' | b'H' | b'X') => 4..=4,
        (Side::Client, b'p') => 4..=1 << 17,
        (Side::Server, b'1' | b'2' | b'3' | b'n' | b'I' | b's') => 4..=4,
        (Side::Server, b'Z') => 5..=5,
        (Side::Server, b'C') => 5..=1 << 16,
        (Side::Server, b'D') => 6..=LARGE,
        (Side::Server, b'E' | b'N') => 5..=LARGE,
        (Side::Server, b'V') => 8..=LARGE,
        (Side::Server, b'T') => 6..=1 << 24,
        (Side::Server, b't') => 6..=1 << 19,
        (Side::Server, b'G' | b'H' | b'W') => 7..=1 << 18,
        (Side::Server, b'A') => 10..=1 << 17,
        (Side::Server, b'S') => 6..=1 << 20,
        (Side::Server, b'K') => 12..=264,
        (Side::Server, b'R') => 8..=1 << 17,
        (Side::Server, b'v') => 12..=1 << 17,
        (_, b'd') => 4..=LARGE,
        (_, b'c') => 4..=4,
        _ => return None,
    })
}

impl Head {
    /// `opening`: it may be a packet without a type.
    pub(super) fn of(side: Side, bytes: &[u8], opening: bool, sureness: Sureness) -> Self {
        let Some((kind, rest)) = bytes.split_first() else {
            return Self::Open;
        };
        if opening && *kind == 0 {
            return Self::opening(bytes);
        }
        let Some(lengths) = lengths(side, *kind) else {
            return Self::Nonsense;
        };
        let Some(len) = rest.first_chunk::<4>() else {
            let text = sureness != Sureness::Sure && rest.first().is_some_and(|first| *first != 0);
            return if text { Self::Nonsense } else { Self::Open };
        };
        let len = u32::from_be_bytes(*len);
        let longest = match sureness {
            Sureness::Sure => LARGE,
            Sureness::Seeming => SEEMING,
            Sureness::Unseen => UNSEEN,
        };
        if !lengths.contains(&len) || len > longest {
            return Self::Nonsense;
        }
        Self::Message {
            kind: *kind,
            body: len - 4,
        }
    }

    fn opening(bytes: &[u8]) -> Self {
        if bytes.get(1).is_some_and(|second| *second != 0) {
            return Self::Nonsense;
        }
        let Some((len, rest)) = bytes.split_first_chunk::<4>() else {
            return Self::Open;
        };
        let len = u32::from_be_bytes(*len);
        if !(OPENING_LEN as u32..=SMALL).contains(&len) {
            return Self::Nonsense;
        }
        let Some(code) = rest.first_chunk::<4>() else {
            return Self::Open;
        };
        let code = u32::from_be_bytes(*code);
        let lengths = match code {
            SSL_REQUEST | GSSENC_REQUEST => 8..=8,
            // The key is no longer than that.
            CANCEL_REQUEST => 16..=268,
            _ if code >> 16 == MAJOR_VERSION => 9..=SMALL,
            _ => return Self::Nonsense,
        };
        if !lengths.contains(&len) {
            return Self::Nonsense;
        }
        Self::Opening {
            code,
            body: len - OPENING_LEN as u32,
        }
    }
}

/// Messages and nothing else. `closed`: the last of them is whole.
pub(super) fn is_chain(side: Side, mut bytes: &[u8], mut opening: bool, closed: bool) -> bool {
    while !bytes.is_empty() {
        let (head_len, kind, body) = match Head::of(side, bytes, opening, Sureness::Seeming) {
            Head::Nonsense => return false,
            Head::Open => return !closed,
            Head::Opening { code, body } => {
                opening = code >> 16 != MAJOR_VERSION;
                (OPENING_LEN, None, body)
            }
            Head::Message { kind, body } => {
                opening = false;
                (HEAD_LEN, Some(kind), body)
            }
        };
        let rest = bytes.get(head_len..).unwrap_or_default();
        let len = usize::try_from(body).unwrap_or(usize::MAX);
        let (begin, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        if closed && begin.len() < len {
            return false;
        }
        if kind.is_some_and(|kind| !may_be(side, kind, begin, len)) {
            return false;
        }
        bytes = after;
    }
    true
}

/// `begin`: of a body of `len` bytes, or all of it.
fn may_be(side: Side, kind: u8, begin: &[u8], len: usize) -> bool {
    let Some((first, _)) = begin.split_first() else {
        return true;
    };
    let whole = begin.len() == len;
    let ends = !whole || begin.last() == Some(&0);
    let is_text = || ends && text_len(begin) == begin.len() - usize::from(whole);
    match (side, kind) {
        (Side::Client, b'Q' | b'f') => is_text(),
        (Side::Client, b'P') => may_be_parse(begin, len),
        (Side::Client, b'B') => may_be_bind(begin),
        (Side::Client, b'C' | b'D') => matches!(first, b'S' | b'P') && is_text(),
        (Side::Client, b'E') => is_name(begin) && (!whole || text_len(begin) + 5 == begin.len()),
        (Side::Server, b'Z') => matches!(first, b'I' | b'T' | b'E'),
        (Side::Server, b'C') => is_text() && is_name(begin),
        (Side::Server, b'E' | b'N') => first.is_ascii_alphabetic() && ends,
        (Side::Server, b'S') => ends && is_name(begin),
        (Side::Server, b'D') => may_be_row(begin, len),
        (Side::Server, b'T') => begin
            .split_first_chunk::<2>()
            .is_none_or(|(count, columns)| u16::from_be_bytes(*count) <= MAX_COLUMNS && is_name(columns)),
        (Side::Server, b'G' | b'H' | b'W') => *first <= 1,
        (Side::Server, b'R') => *first == 0,
        _ => true,
    }
}

/// A name, a text, and how many numbers follow.
fn may_be_parse(begin: &[u8], len: usize) -> bool {
    let Some(text) = after_text(begin) else {
        return is_name(begin);
    };
    let Some(types) = after_text(text) else {
        return is_name(begin);
    };
    let rest = len - (begin.len() - types.len());
    let fits = |count: &[u8; 2]| rest == 2 + 4 * usize::from(u16::from_be_bytes(*count));
    is_name(begin) && types.first_chunk::<2>().map_or(rest >= 2, fits)
}

/// Two names, and formats of which there are two.
fn may_be_bind(begin: &[u8]) -> bool {
    let Some(statement) = after_text(begin) else {
        return is_name(begin);
    };
    let formats = after_text(statement).and_then(|rest| rest.split_first_chunk::<2>());
    let known = formats.is_none_or(|(count, formats)| {
        let count = usize::from(u16::from_be_bytes(*count));
        formats
            .chunks_exact(2)
            .take(count)
            .all(|format| matches!(format, [0, 0 | 1]))
    });
    is_name(begin) && is_name(statement) && known
}

/// Columns, each behind its length, or -1 for none.
fn may_be_row(begin: &[u8], len: usize) -> bool {
    let Some((count, mut rest)) = begin.split_first_chunk::<2>() else {
        return true;
    };
    let count = u16::from_be_bytes(*count);
    let mut left = len - 2;
    for _ in 0..count {
        let Some((column, after)) = rest.split_first_chunk::<4>() else {
            return left >= 4;
        };
        let column = u32::from_be_bytes(*column);
        let column = if column == u32::MAX {
            0
        } else {
            usize::try_from(column).unwrap_or(usize::MAX)
        };
        let Some(after_column) = left.checked_sub(4).and_then(|left| left.checked_sub(column)) else {
            return false;
        };
        left = after_column;
        rest = after.get(column..).unwrap_or_default();
    }
    count <= MAX_COLUMNS && left == 0
}

fn after_text(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(text_len(bytes) + 1..)
}

/// Before the zero byte that ends it.
pub(super) fn text_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())
}

fn is_name(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .take_while(|byte| **byte != 0)
        .all(|byte| !byte.is_ascii_control())
}
