use core::{cell::Cell, ptr::from_ref};

/// Enough for 22 pipelined commands of 45 bytes and for most request heads. A power of two: offsets are masked.
pub const HEAD_BYTES: usize = 1024;

/// The first bytes of a segment, with what was carried before them. From `seen` on they are left over from other segments.
#[repr(C, align(8))]
pub struct Head {
    pub bytes: [u8; HEAD_BYTES],
    pub seen: u32,
    padding: u32,
    note: Cell<u64>,
}

impl Head {
    /// Without what was carried: see `Exchange::begin`.
    pub const fn empty() -> Self {
        Self {
            bytes: [0; HEAD_BYTES],
            seen: 0,
            padding: 0,
            note: Cell::new(0),
        }
    }

    /// As the hooks do it, from bytes that are there.
    pub fn append(&mut self, segment: &[u8]) {
        let from = self.seen as usize;
        for (to, byte) in self.bytes.iter_mut().skip(from).zip(segment) {
            *to = *byte;
            self.seen += 1;
        }
    }

    /// Masked rather than checked: no panic path for the compiler, a provable bound for the verifier.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked")]
    pub fn byte(&self, at: u32) -> u8 {
        self.bytes[at as usize % HEAD_BYTES]
    }

    /// The same value, of which the verifier knows nothing: it follows ranges through registers and stack, but not
    /// through map memory. Values carried from one turn of a loop to the next go through here, so that all paths
    /// look alike at the next turn and are verified once.
    #[inline(always)]
    pub fn forget(&self, value: u32) -> u32 {
        self.forget_all(u64::from(value)) as u32
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "only a volatile access keeps the detour")]
    pub fn forget_all(&self, value: u64) -> u64 {
        let note = self.note.as_ptr();
        // SAFETY: a cell of our own, not shared between threads.
        unsafe {
            note.write_volatile(value);
            note.read_volatile()
        }
    }

    /// Eight bytes, the lowest first. In one load: put together from bytes they cost more than all else that is done with
    /// them.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a load that need not be aligned")]
    pub fn word(&self, at: u32) -> u64 {
        let at = at as usize % HEAD_BYTES;
        // SAFETY: behind the last of the bytes is the rest of this, which has eight of them and is initialised.
        let word = unsafe { from_ref(self).cast::<u8>().add(at).cast::<u64>().read_unaligned() };
        u64::from_le(word)
    }

    /// Four bytes, the highest first.
    #[inline(always)]
    pub fn be32(&self, at: u32) -> u32 {
        (self.word(at) as u32).swap_bytes()
    }

    /// `<digits> CR LF`, at most seven of them: the value and the bytes taken. All at once, for the verifier's sake.
    #[inline(always)]
    pub fn number(&self, at: u32) -> Option<(u32, u32)> {
        const ZEROES: u64 = 0x3030_3030_3030_3030;
        const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
        let word = self.word(at);
        let end = marks(word, b'\r');
        let digits = end.trailing_zeros() / 8;
        if end == 0 || digits == 0 {
            return None;
        }
        // As if it were eight digits.
        let text = word << (64 - 8 * digits) | ZEROES >> (8 * digits);
        // Whatever is not between '0' and '9' has another upper half, or gets one by six.
        if (text & HIGH) | ((text.wrapping_add(ZEROES / 8) & HIGH) >> 4) != ZEROES | (ZEROES >> 4) {
            return None;
        }
        // Pairs, then fours, then all.
        let pairs = (text & !HIGH).wrapping_mul(10 * 256 + 1) >> 8;
        let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 * 65_536 + 1) >> 16;
        let value = (fours & 0x0000_ffff_0000_ffff).wrapping_mul((10_000 << 32) + 1) >> 32;
        Some((value as u32, digits + 2))
    }

    /// The bytes of a line of at most fourteen, with its CR LF.
    #[inline(always)]
    pub fn short_line(&self, at: u32) -> Option<u32> {
        let (first, second) = (marks(self.word(at), b'\r'), marks(self.word(at + 8), b'\r'));
        if first != 0 {
            Some(first.trailing_zeros() / 8 + 2)
        } else if second != 0 {
            Some(second.trailing_zeros() / 8 + 10)
        } else {
            None
        }
    }
}

/// A word of eight bytes that begins with those, and the mask of what of it counts.
pub(super) const fn word_of(text: &[u8]) -> (u64, u64) {
    let (mut word, mut mask) = (0, 0);
    let mut rest = text;
    while let [before @ .., last] = rest {
        word = word << 8 | *last as u64;
        mask = mask << 8 | 0xff;
        rest = before;
    }
    (word, mask)
}

/// The high bit of every byte that equals `wanted`; behind the first, perhaps also of one that does not.
#[inline(always)]
pub(super) fn marks(word: u64, wanted: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let differ = word ^ (ONES * u64::from(wanted));
    differ.wrapping_sub(ONES) & !differ & (ONES << 7)
}
