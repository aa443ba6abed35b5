//! What one side of a connection says, in the order in which it is said. Two threads may write to one connection, and the one
//! that was second may be heard of first; only what stays away for long is missing.
use crate::{decode::UnparsedReason, l7::dialogue::Piece};
use std::collections::BTreeMap;

/// Segments that wait: threads that write at the same time, or replies that were heard of before their requests.
const MAX_HELD: usize = 64;
const MAX_HELD_BYTES: usize = 128 << 10;
/// Then they have waited long enough.
const MAX_READINGS: u8 = 2;
const MIN_NS: u64 = 5_000_000;

/// A segment, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    pub time_ns: u64,
    pub position: u64,
    /// All bytes of it; the payload may be shorter.
    pub len: u32,
    pub starts: bool,
    pub payload: &'a [u8],
}

struct Held {
    time_ns: u64,
    len: u32,
    starts: bool,
    payload: Box<[u8]>,
    readings: u8,
}

/// What a segment comes to.
pub(super) enum Heard<'a> {
    Piece(Piece<'a>),
    Missed(u64, UnparsedReason),
}

#[derive(Default)]
pub(super) struct Line {
    /// Where the next segment begins. `None`: wherever it does.
    next: Option<u64>,
    /// By position.
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
}

impl Line {
    pub(super) fn begin(&mut self, from: u64) {
        self.next = Some(from);
        // Somebody else has counted those.
        while let Some(entry) = self.held.first_entry()
            && *entry.key() < from
        {
            self.held_bytes -= entry.remove().payload.len();
        }
    }

    /// So many bytes are passed over, be they there or not. Says where what follows begins.
    pub(super) fn pass_over(&mut self, bytes: u64) -> Option<u64> {
        self.next = self.next.map(|next| next.saturating_add(bytes));
        self.next
    }

    pub(super) fn buffered(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Something is missing before that.
    pub(super) fn is_behind(&self, position: u64) -> bool {
        self.next.is_some_and(|next| next < position)
    }

    /// All of it was passed over, or is given up.
    pub(super) fn is_past(&self, words: &Words<'_>) -> bool {
        let end = words.position.saturating_add(u64::from(words.len));
        words.len > 0 && self.next.is_some_and(|next| end <= next)
    }

    pub(super) fn waits_before(&self, position: u64) -> bool {
        self.held.first_key_value().is_some_and(|(first, _)| *first < position)
    }

    /// The first of those that wait has nothing missing before it.
    pub(super) fn is_due(&self) -> bool {
        self.held
            .first_key_value()
            .is_some_and(|(first, _)| !self.is_behind(*first))
    }

    /// `false`: there is no room.
    pub(super) fn hold(&mut self, words: &Words<'_>) -> bool {
        if self.held.len() >= MAX_HELD || self.held_bytes + words.payload.len() > MAX_HELD_BYTES {
            return false;
        }
        let held = Held {
            time_ns: words.time_ns,
            len: words.len,
            starts: words.starts,
            payload: words.payload.into(),
            readings: 0,
        };
        self.held_bytes += words.payload.len();
        if let Some(before) = self.held.insert(words.position, held) {
            self.held_bytes -= before.payload.len();
        }
        true
    }

    pub(super) fn next_held(&mut self, hear: &mut dyn FnMut(Heard<'_>)) {
        let Some((position, held)) = self.held.pop_first() else {
            return;
        };
        self.held_bytes -= held.payload.len();
        let words = Words {
            time_ns: held.time_ns,
            position,
            len: held.len,
            starts: held.starts,
            payload: &held.payload,
        };
        self.say(&words, hear);
    }

    /// Whatever is missing before it.
    pub(super) fn say(&mut self, words: &Words<'_>, hear: &mut dyn FnMut(Heard<'_>)) {
        match self.next.map(|next| words.position.checked_sub(next)) {
            None | Some(Some(0)) => {}
            Some(Some(missing)) => hear(Heard::Missed(missing, UnparsedReason::Gap)),
            // It was given up, and that was said; or it was counted before, or is of a body.
            Some(None) => return self.say_rest(words, hear),
        }
        self.next = Some(words.position.saturating_add(u64::from(words.len)));
        let len = usize::try_from(words.len).unwrap_or(usize::MAX);
        let bytes = words.payload.get(..len).unwrap_or(words.payload);
        if !bytes.is_empty() {
            hear(Heard::Piece(Piece {
                time_ns: words.time_ns,
                bytes,
                starts: words.starts,
            }));
        }
        let missing = u64::from(words.len) - bytes.len() as u64;
        if missing > 0 {
            let reason = if bytes.is_empty() && words.starts {
                UnparsedReason::Unreadable
            } else {
                UnparsedReason::Cut
            };
            hear(Heard::Missed(missing, reason));
        }
    }

    /// Of what begins before that, what does not.
    fn say_rest(&mut self, words: &Words<'_>, hear: &mut dyn FnMut(Heard<'_>)) {
        let Some(next) = self.next else { return };
        let Ok(before) = u32::try_from(next.saturating_sub(words.position)) else {
            return;
        };
        let Some(len) = words.len.checked_sub(before).filter(|len| *len > 0) else {
            return;
        };
        let payload = words.payload.get(before as usize..).unwrap_or_default();
        let rest = Words {
            position: next,
            len,
            starts: false,
            payload,
            ..*words
        };
        self.say(&rest, hear);
    }

    /// Once per reading: whether those that wait have waited long enough.
    pub(super) fn grows_old(&mut self, now_ns: u64) -> bool {
        let mut old = false;
        for held in self.held.values_mut() {
            held.readings = held.readings.saturating_add(1);
            old |= held.readings >= MAX_READINGS && now_ns.abs_diff(held.time_ns) >= MIN_NS;
        }
        old
    }
}
