//! Memcached: what its clients begin with, as text and binary. Nothing of it is counted in the kernel.
use super::{Head, head::word_of};

/// A command as eight bytes with the space behind it, the mask of what of them counts, and where its key begins. Of the last,
/// that is where its name goes on.
const COMMANDS: [((u64, u64), u32); 19] = [
    (word_of(b"get "), 4),
    (word_of(b"gat "), 4),
    (word_of(b"set "), 4),
    (word_of(b"add "), 4),
    (word_of(b"cas "), 4),
    (word_of(b"gets "), 5),
    (word_of(b"gats "), 5),
    (word_of(b"incr "), 5),
    (word_of(b"decr "), 5),
    (word_of(b"touch "), 6),
    (word_of(b"delete "), 7),
    (word_of(b"append "), 7),
    (word_of(b"prepend "), 8),
    (word_of(b"replace "), 8),
    (word_of(b"mg "), 3),
    (word_of(b"ms "), 3),
    (word_of(b"md "), 3),
    (word_of(b"stats "), 6),
    (word_of(b"flush_al"), 8),
];

/// What watches a server says one of these, and nothing behind it in the same segment: with how long that is.
const KEYLESS: [((u64, u64), u32); 2] = [(word_of(b"stats\r\n"), 7), (word_of(b"version\r"), 9)];

const BINARY_REQUEST: u8 = 0x80;
const BINARY_HEADER: u32 = 24;
const BINARY_OPCODES: u8 = 0x40;

#[inline(always)]
pub(super) fn is_request(head: &Head, len: u32) -> bool {
    is_text(head, len) || is_binary(head, len)
}

/// A command with a key, and the end of a line at the end of the segment, where that is to be seen.
#[inline(always)]
fn is_text(head: &Head, len: u32) -> bool {
    let begin = head.word(0);
    for ((word, mask), all) in KEYLESS {
        if begin & mask == word && len == all && head.seen >= all && head.byte(all - 1) == b'\n' {
            return true;
        }
    }
    let mut key = 0;
    for ((word, mask), at) in COMMANDS {
        if begin & mask == word {
            key = at;
        }
    }
    if key == 0 || head.seen < key + 3 || head.byte(key) <= b' ' {
        return false;
    }
    head.seen < len || (head.byte(len - 2) == b'\r' && head.byte(len - 1) == b'\n')
}

#[inline(always)]
fn is_binary(head: &Head, len: u32) -> bool {
    let key = u32::from(head.byte(2)) << 8 | u32::from(head.byte(3));
    let body = head.be32(8);
    head.byte(0) == BINARY_REQUEST
        && head.seen >= BINARY_HEADER
        && head.byte(1) < BINARY_OPCODES
        // The type of the data, and what older versions called reserved.
        && head.byte(5) == 0
        && key + u32::from(head.byte(4)) <= body
        // All of it is in the segment then: a length may be as large as a number can be.
        && (head.seen < len || body <= len - BINARY_HEADER)
}
