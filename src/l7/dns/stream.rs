//! Messages of a stream: each behind its length, in whatever pieces they come.
//!
//! | where the reader stands | what follows |
//! | --- | --- |
//! | at the begin of a message | its length and header; nonsense there means that it stands somewhere else |
//! | within a message | the rest by its length, be it there or missing |
//! | nowhere (at first, after a gap) | the next segment that begins like a message |
use super::message::{HEADER_LEN, is_plausible};
use crate::{decode::UnparsedReason, l7::Segment};

const PREFIX_LEN: usize = 2;
/// Enough to tell whether a message begins there.
const HEAD_LEN: usize = PREFIX_LEN + HEADER_LEN;

/// What a segment completes.
pub(super) enum Piece<'a> {
    Message {
        bytes: &'a [u8],
        /// There was more of it.
        cut: bool,
        /// When its first byte was seen.
        began_ns: u64,
    },
    Lost(UnparsedReason),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the begin of the stream, as far as anybody knows.
    New,
    Known,
    Lost,
}

enum Head {
    /// Too little of it.
    Open,
    Nonsense,
    /// The message has that many bytes.
    Known(usize),
}

impl Head {
    fn of(bytes: &[u8]) -> Self {
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_LEN>() else {
            return Self::Open;
        };
        let len = usize::from(u16::from_be_bytes(*prefix));
        if len < HEADER_LEN {
            return Self::Nonsense;
        }
        match rest.get(..HEADER_LEN) {
            None => Self::Open,
            Some(header) if is_plausible(len, header) => Self::Known(len),
            Some(_) => Self::Nonsense,
        }
    }
}

/// One direction of a connection.
pub(super) struct Stream {
    place: Place,
    /// Where the next segment begins. `None`: there was none.
    next: Option<u64>,
    /// Of the message at hand, with its length in front.
    buffer: Vec<u8>,
    began_ns: u64,
    /// Of a message that is done with.
    skip: u64,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            place: Place::New,
            next: None,
            buffer: Vec::new(),
            began_ns: 0,
            skip: 0,
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Something is missing before that.
    pub(super) fn is_behind(&self, position: u64) -> bool {
        self.next.is_some_and(|next| next < position)
    }

    /// `limit`: bytes to keep of one message.
    pub(super) fn feed(&mut self, segment: &Segment<'_>, limit: usize, emit: &mut impl FnMut(Piece<'_>)) {
        let position = segment.position;
        match self.next.map(|next| position.checked_sub(next)) {
            None if position > 0 => self.place = Place::Lost,
            None | Some(Some(0)) => {}
            Some(Some(missing)) => self.hole(missing, UnparsedReason::Gap, emit),
            // What was given up comes late.
            Some(None) => return emit(Piece::Lost(UnparsedReason::Gap)),
        }
        let bytes = segment.bytes();
        let len = u64::from(segment.len);
        self.next = Some(position.saturating_add(len));
        self.bytes(bytes, segment.time_ns, limit, emit);
        let missing = len.saturating_sub(bytes.len() as u64);
        if missing > 0 {
            let reason = if segment.is_unreadable() {
                UnparsedReason::Unreadable
            } else {
                UnparsedReason::Gap
            };
            self.hole(missing, reason, emit);
        }
    }

    fn bytes(&mut self, segment: &[u8], time_ns: u64, limit: usize, emit: &mut impl FnMut(Piece<'_>)) {
        let mut rest = segment;
        let mut carried = !self.buffer.is_empty();
        while !rest.is_empty() {
            if self.skip > 0 {
                let skipped = rest.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= skipped as u64;
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            if self.buffer.is_empty() {
                self.began_ns = time_ns;
                // Most messages come whole, and are read where they are.
                if let Head::Known(len) = Head::of(rest)
                    && let Some((frame, after)) = rest.split_at_checked(PREFIX_LEN + len)
                {
                    self.place = Place::Known;
                    self.message(frame, false, emit);
                    rest = after;
                    continue;
                }
            }
            let wanted = match Head::of(&self.buffer) {
                Head::Known(len) => PREFIX_LEN + len.min(limit),
                Head::Open | Head::Nonsense => HEAD_LEN,
            };
            let more = wanted.saturating_sub(self.buffer.len()).min(rest.len());
            let (begin, after) = rest.split_at_checked(more).unwrap_or((rest, &[]));
            self.buffer.extend_from_slice(begin);
            rest = after;
            match Head::of(&self.buffer) {
                Head::Open => {}
                Head::Nonsense => {
                    self.lose(self.nonsense(), emit);
                    // What came before was not the begin of a message: this may be.
                    if !std::mem::take(&mut carried) {
                        return;
                    }
                    rest = segment;
                }
                Head::Known(len) => {
                    self.place = Place::Known;
                    if self.buffer.len() >= PREFIX_LEN + len.min(limit) {
                        let frame = std::mem::take(&mut self.buffer);
                        carried = false;
                        self.skip = (PREFIX_LEN + len - frame.len()) as u64;
                        self.message(&frame, self.skip > 0, emit);
                    }
                }
            }
        }
    }

    fn message(&self, frame: &[u8], cut: bool, emit: &mut impl FnMut(Piece<'_>)) {
        emit(Piece::Message {
            bytes: frame.get(PREFIX_LEN..).unwrap_or_default(),
            cut,
            began_ns: self.began_ns,
        });
    }

    /// Bytes that nobody will ever see.
    fn hole(&mut self, missing: u64, reason: UnparsedReason, emit: &mut impl FnMut(Piece<'_>)) {
        let skipped = missing.min(self.skip);
        self.skip -= skipped;
        let mut missing = missing - skipped;
        if missing == 0 {
            return;
        }
        let frame = std::mem::take(&mut self.buffer);
        if let Some(left) = self.left_of(&frame) {
            if frame.len() >= HEAD_LEN {
                self.message(&frame, true, emit);
            } else {
                let unreadable = reason == UnparsedReason::Unreadable;
                emit(Piece::Lost(if unreadable { reason } else { UnparsedReason::Cut }));
            }
            let skipped = missing.min(left);
            self.skip = left - skipped;
            missing -= skipped;
        }
        if missing > 0 {
            self.lose(reason, emit);
        }
    }

    /// How much of the message at hand is to come. `None`: there is none, or it may be none.
    fn left_of(&self, frame: &[u8]) -> Option<u64> {
        let prefix = frame
            .first_chunk::<PREFIX_LEN>()
            .filter(|_| self.place == Place::Known)?;
        let len = PREFIX_LEN + usize::from(u16::from_be_bytes(*prefix));
        Some(len.saturating_sub(frame.len()) as u64)
    }

    /// What to call it where no message begins.
    fn nonsense(&self) -> UnparsedReason {
        match self.place {
            Place::New | Place::Known => UnparsedReason::Malformed,
            Place::Lost => UnparsedReason::Gap,
        }
    }

    fn lose(&mut self, reason: UnparsedReason, emit: &mut impl FnMut(Piece<'_>)) {
        self.place = Place::Lost;
        self.buffer = Vec::new();
        emit(Piece::Lost(reason));
    }

    /// Nobody will see the rest of it.
    pub(super) fn end(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        let frame = std::mem::take(&mut self.buffer);
        if frame.len() >= HEAD_LEN && self.place == Place::Known {
            self.message(&frame, true, emit);
        } else if !frame.is_empty() {
            emit(Piece::Lost(UnparsedReason::Cut));
        }
    }
}
