//! Messages of one side, in whatever pieces they come.
use super::message::{HEAD_LEN, Head, OPENING_LEN, Sureness, is_chain};
use crate::l7::dialogue::{Piece, Side};

/// So many messages in a row make sure that they are some.
const SURE: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing was heard yet, so the first thing may be the begin of the connection, or anything.
    New,
    Lost,
    /// After that many messages in a row, where they seemed to begin.
    Guessed(u8),
    Known,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Opening {
        code: u32,
        time_ns: u64,
    },
    Message {
        kind: u8,
        /// Of its first byte.
        time_ns: u64,
    },
    Body(&'a [u8]),
    End,
    /// No message is known to begin in what was there.
    Passed,
    /// What seemed to be messages was none.
    Mistaken,
    /// There is no message where one has to begin.
    Nonsense,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// A part of a message, which goes on or has ended.
    Nothing,
    /// Where the next message begins.
    Place,
    /// More, where nobody knew that anyhow.
    Again,
}

pub(super) struct Stream {
    side: Side,
    place: Place,
    /// Packets without a type may come.
    opening: bool,
    head: [u8; OPENING_LEN],
    /// Of them there are.
    filled: usize,
    /// A bit for each of them with which a segment begins.
    starts: u8,
    time_ns: u64,
    /// In the body of a message, of which so much is to come.
    within: bool,
    left: u64,
    /// The next segment that looks like messages does begin with one.
    aligned: bool,
}

impl Stream {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            place: Place::New,
            opening: side == Side::Client,
            head: [0; OPENING_LEN],
            filled: 0,
            starts: 0,
            time_ns: 0,
            within: false,
            left: 0,
            aligned: false,
        }
    }

    /// A message begins behind so many bytes of another.
    pub(super) fn stand(&mut self, left: u64) {
        self.place = Place::Known;
        // Who takes over from the start hears the client say who it is.
        self.opening = self.side == Side::Client && left == 0;
        self.within = left > 0;
        self.left = left;
    }

    /// Nothing of what was said before is to come, as far as anybody can tell.
    pub(super) fn align(&mut self) {
        self.aligned = true;
    }

    /// The other side has begun the connection.
    pub(super) fn is_begun(&mut self) {
        if self.place == Place::New {
            self.place = Place::Known;
        }
    }

    pub(super) fn has_begun_message(&self) -> bool {
        self.within || self.filled > 0
    }

    pub(super) fn is_sure(&self) -> bool {
        self.place == Place::Known
    }

    /// So many that come next are of a message.
    pub(super) fn immaterial(&self) -> u64 {
        if self.within && self.is_sure() { self.left } else { 0 }
    }

    pub(super) fn buffered(&self) -> usize {
        self.filled
    }

    fn is_lost(&self) -> bool {
        matches!(self.place, Place::New | Place::Lost)
    }

    /// Takes what it tells of from `rest`, which is the end of `piece`. `None`: that is all.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a [u8], piece: &Piece<'a>) -> Option<Event<'a>> {
        let starts = |rest: &[u8]| piece.starts && rest.len() == piece.bytes.len();
        // What seemed to be a message is not over, but there are whole ones.
        if let Place::Guessed(before) = self.place
            && (self.left > 0 || self.filled > 0)
            && !rest.is_empty()
            && starts(rest)
            && is_chain(self.side, rest, false, true)
        {
            self.within = false;
            self.left = 0;
            let passed = self.pass();
            return Some(if before > 0 { Event::Mistaken } else { passed });
        }
        if self.within {
            if self.left == 0 {
                self.within = false;
                return Some(Event::End);
            }
            if rest.is_empty() {
                return None;
            }
            let len = usize::try_from(self.left).unwrap_or(usize::MAX);
            let (body, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            self.left -= body.len() as u64;
            *rest = after;
            return Some(Event::Body(body));
        }
        if rest.is_empty() {
            return None;
        }
        if self.filled == 0 {
            if self.is_lost() {
                if !starts(rest) || !is_chain(self.side, rest, self.opening, false) {
                    *rest = &[];
                    return Some(self.pass());
                }
                let sure = if std::mem::take(&mut self.aligned) { SURE } else { 0 };
                self.place = Place::Guessed(sure);
            }
            self.time_ns = piece.time_ns;
            // Most come whole.
            match self.head_of(rest, Sureness::Seeming) {
                Head::Open | Head::Nonsense => {}
                head @ Head::Message { .. } => return self.begin(head, rest, HEAD_LEN),
                head @ Head::Opening { .. } => return self.begin(head, rest, OPENING_LEN),
            }
        }
        loop {
            let head = self.head_of(self.head.get(..self.filled).unwrap_or_default(), Sureness::Unseen);
            match head {
                Head::Open => {
                    let (byte, after) = rest.split_first()?;
                    if let Some(place) = self.head.get_mut(self.filled) {
                        *place = *byte;
                    }
                    self.starts |= u8::from(starts(rest)) << self.filled;
                    self.filled += 1;
                    *rest = after;
                }
                Head::Nonsense => match self.place {
                    Place::Known => return Some(Event::Nonsense),
                    Place::Guessed(before) => {
                        if self.slide() {
                            self.place = Place::Guessed(0);
                            self.time_ns = piece.time_ns;
                        } else {
                            *rest = &[];
                        }
                        if before > 0 {
                            self.opening = false;
                            return Some(Event::Mistaken);
                        }
                        if self.filled == 0 {
                            return Some(self.pass());
                        }
                    }
                    Place::New | Place::Lost => return Some(self.pass()),
                },
                Head::Message { .. } | Head::Opening { .. } => {
                    self.clear();
                    return self.begin(head, rest, 0);
                }
            }
        }
    }

    fn head_of(&self, bytes: &[u8], guess: Sureness) -> Head {
        let sureness = if self.place == Place::Known {
            Sureness::Sure
        } else {
            guess
        };
        Head::of(self.side, bytes, self.opening, sureness)
    }

    /// `taken`: of `rest`, by the head.
    fn begin<'a>(&mut self, head: Head, rest: &mut &'a [u8], taken: usize) -> Option<Event<'a>> {
        *rest = rest.get(taken..).unwrap_or_default();
        self.within = true;
        let time_ns = self.time_ns;
        match head {
            Head::Open | Head::Nonsense => None,
            Head::Opening { code, body } => {
                self.place = Place::Known;
                self.left = u64::from(body);
                // Those that only ask for encryption are followed by another one.
                self.opening = body == 0;
                Some(Event::Opening { code, time_ns })
            }
            Head::Message { kind, body } => {
                self.opening = false;
                self.left = u64::from(body);
                self.place = match self.place {
                    Place::Guessed(before) if before < SURE => Place::Guessed(before + 1),
                    _ => Place::Known,
                };
                Some(Event::Message { kind, time_ns })
            }
        }
    }

    /// To what of the head a segment begins with, for a message may begin there.
    fn slide(&mut self) -> bool {
        while self.filled > 0 {
            self.head.rotate_left(1);
            self.filled -= 1;
            self.starts >>= 1;
            let begin = self.head.get(..self.filled).unwrap_or_default();
            if self.starts & 1 == 1 && self.head_of(begin, Sureness::Unseen) != Head::Nonsense {
                return true;
            }
        }
        self.clear();
        self.place = Place::Lost;
        false
    }

    fn clear(&mut self) {
        self.filled = 0;
        self.starts = 0;
    }

    fn pass<'a>(&mut self) -> Event<'a> {
        self.clear();
        self.place = Place::Lost;
        self.opening = false;
        Event::Passed
    }

    /// Bytes that nobody will ever see.
    pub(super) fn miss(&mut self, bytes: u64) -> Missed {
        let within = if self.within { self.left.min(bytes) } else { 0 };
        self.left -= within;
        if within == bytes {
            return Missed::Nothing;
        }
        let was_lost = self.place == Place::Lost;
        self.clear();
        self.aligned = false;
        self.place = Place::Lost;
        self.opening = false;
        if was_lost { Missed::Again } else { Missed::Place }
    }
}
