//! What one side says: heads, line by line, and how far bodies go. Only a line that has not ended is kept.
//!
//! | where the reader stands | what follows |
//! | --- | --- |
//! | at the begin of a message | its first line; nonsense there means that this is not HTTP |
//! | within a head | fields, until one is empty |
//! | within a body | the rest of it, be it there or missing |
//! | nowhere (after a hole, behind nonsense that may be somebody else's) | the next segment that begins like a message |
use super::{
    End,
    chunks::Chunks,
    head::{Begin, Fault, Fields, split_line, without_cr},
};
use crate::l7::dialogue::Piece;
use std::borrow::Cow;

/// Of a head. For more of it nobody waits.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// Where a first line is this long, its begin has been looked at.
const BEGIN_LEN: usize = 32;

/// What a side's grammar is, and who hears of its messages.
pub(super) trait Speaker {
    fn begin(&self, bytes: &[u8], sure: bool) -> Begin;

    fn first_line(&mut self, line: &[u8], begin: Began) -> Result<(), Fault>;

    /// The end of the line is missing. Whether something could be made of it.
    fn cut_line(&mut self, line: &[u8], begin: Began) -> Result<bool, End>;

    fn after_head(&mut self, fields: &Fields) -> Result<Next, End>;

    /// As things are, a message of this side may come next.
    fn has_turn(&self) -> bool;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Began {
    /// The segment with its first byte.
    pub(super) time_ns: u64,
    /// Which began with it.
    pub(super) leads: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Bytes(u64),
    Chunks,
    /// As long as the connection.
    Endless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) body: Body,
    /// It may be another one than the head says, or be no HTTP.
    pub(super) loose: bool,
}

/// What a hole has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    Nothing,
    /// The rest of a message, perhaps more.
    Rest,
    Messages,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Lost,
    FirstLine,
    Fields,
    Bytes(u64),
    Chunks(Chunks),
    Endless,
}

/// What has come of one.
enum Line<'a> {
    Open,
    /// Without its LF, and what follows.
    Whole(Cow<'a, [u8]>, &'a [u8]),
    TooLong,
}

pub(super) struct Stream {
    place: Place,
    /// It has not ended.
    line: Vec<u8>,
    head_len: usize,
    fields: Fields,
    began: Began,
    /// A message is expected here, not only looked for.
    sure: bool,
    /// There was a message.
    confirmed: bool,
    loose: bool,
    /// Pieces in which no message was found.
    strange: u32,
    /// The rest of a message may come that somebody else has read the begin of.
    trails: bool,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            place: Place::FirstLine,
            line: Vec::new(),
            head_len: 0,
            fields: Fields::default(),
            began: Began::default(),
            sure: true,
            confirmed: false,
            loose: false,
            strange: 0,
            trails: false,
        }
    }

    /// `rest`: bytes of a body that are still to come. Without it the place is not known.
    pub(super) fn amid(rest: Option<u64>) -> Self {
        let place = match rest {
            Some(0) => Place::FirstLine,
            Some(rest) => Place::Bytes(rest),
            None => Place::Lost,
        };
        Self {
            place,
            confirmed: true,
            ..Self::new()
        }
    }

    /// Whatever is said until it is this side's turn is of the message before.
    pub(super) fn trails(&mut self, trails: bool) {
        self.trails = trails;
    }

    pub(super) fn is_trailing(&self) -> bool {
        self.trails && self.place == Place::Lost
    }

    pub(super) fn buffered(&self) -> usize {
        self.line.capacity()
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    pub(super) fn is_lost(&self) -> bool {
        self.place == Place::Lost
    }

    /// A message has begun and not ended.
    pub(super) fn is_amid(&self) -> bool {
        match self.place {
            Place::Lost => false,
            Place::FirstLine => !self.line.is_empty(),
            Place::Fields | Place::Bytes(_) | Place::Chunks(_) | Place::Endless => true,
        }
    }

    /// Its first line has been read.
    pub(super) fn is_past_first_line(&self) -> bool {
        self.is_amid() && self.place != Place::FirstLine
    }

    pub(super) fn strange(&self) -> u32 {
        self.strange
    }

    pub(super) fn hear(&mut self, piece: &Piece<'_>, speaker: &mut impl Speaker) -> Result<(), End> {
        if piece.starts && self.may_be_elsewhere(speaker) && speaker.begin(piece.bytes, false) == Begin::Yes {
            self.look_for_message();
        }
        let mut carried = !self.line.is_empty();
        let mut rest = piece.bytes;
        while !rest.is_empty() {
            rest = match self.place {
                Place::Lost if self.is_trailing() && !speaker.has_turn() => return Ok(()),
                Place::Lost => {
                    self.trails = false;
                    let begins = piece.starts && rest.len() == piece.bytes.len();
                    if !begins || speaker.begin(rest, false) == Begin::No {
                        self.strange = self.strange.saturating_add(1);
                        return Ok(());
                    }
                    self.look_for_message();
                    rest
                }
                Place::FirstLine => match self.first_line(rest, piece, speaker) {
                    Ok(rest) => {
                        carried = false;
                        rest
                    }
                    Err(Fault::End(end)) => return Err(end),
                    Err(Fault::Nonsense) if self.sure && self.confirmed && !self.loose => return Err(End::Malformed),
                    Err(Fault::Nonsense) => {
                        self.lose();
                        // What came before was not the begin of a message: this may be.
                        if !std::mem::take(&mut carried) {
                            self.strange = self.strange.saturating_add(1);
                            return Ok(());
                        }
                        piece.bytes
                    }
                },
                Place::Fields => self.field(rest, speaker)?,
                Place::Bytes(left) => {
                    let skipped = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.enter(Body::Bytes(left - skipped as u64));
                    rest.get(skipped..).unwrap_or_default()
                }
                Place::Chunks(ref mut chunks) => match chunks.feed(rest) {
                    Ok(Some(after)) => {
                        self.expect_message();
                        after
                    }
                    Ok(None) => return Ok(()),
                    Err(_) if self.loose => {
                        self.lose();
                        return Ok(());
                    }
                    Err(_) => return Err(End::Malformed),
                },
                Place::Endless => return Ok(()),
            };
        }
        Ok(())
    }

    /// What looks like a message is taken for one, not for what was expected.
    fn may_be_elsewhere(&self, speaker: &impl Speaker) -> bool {
        match self.place {
            Place::Lost | Place::Fields => false,
            Place::FirstLine => !self.sure && !self.line.is_empty(),
            Place::Bytes(_) | Place::Chunks(_) | Place::Endless => self.loose && speaker.has_turn(),
        }
    }

    fn first_line<'a>(
        &mut self,
        bytes: &'a [u8],
        piece: &Piece<'_>,
        speaker: &mut impl Speaker,
    ) -> Result<&'a [u8], Fault> {
        let mut rest = bytes;
        if self.line.is_empty() {
            rest = skip_blank(bytes);
            if rest.is_empty() {
                return Ok(rest);
            }
            self.began = Began {
                time_ns: piece.time_ns,
                leads: piece.starts && rest.len() == piece.bytes.len(),
            };
        }
        let looked_at = self.line.len();
        let (line, after) = match self.line(rest) {
            Line::Whole(line, after) => (line, after),
            Line::Open if looked_at < BEGIN_LEN && speaker.begin(&self.line, self.sure) == Begin::No => {
                return Err(Fault::Nonsense);
            }
            Line::Open => return Ok(&[]),
            Line::TooLong if self.sure => return Err(Fault::End(End::Malformed)),
            Line::TooLong => return Err(Fault::Nonsense),
        };
        speaker.first_line(without_cr(&line), self.began)?;
        self.place = Place::Fields;
        self.fields = Fields::default();
        (self.sure, self.confirmed, self.loose) = (true, true, false);
        Ok(after)
    }

    fn field<'a>(&mut self, bytes: &'a [u8], speaker: &mut impl Speaker) -> Result<&'a [u8], End> {
        let (line, after) = match self.line(bytes) {
            Line::Whole(line, after) => (line, after),
            Line::Open => return Ok(&[]),
            Line::TooLong => return Err(End::Malformed),
        };
        match without_cr(&line) {
            [] => {
                let next = speaker.after_head(&self.fields)?;
                self.enter(next.body);
                self.loose = next.loose;
            }
            field => self.fields.add(field),
        }
        Ok(after)
    }

    fn line<'a>(&mut self, bytes: &'a [u8]) -> Line<'a> {
        let split = split_line(bytes);
        let len = split.map_or(bytes.len(), |(line, _)| line.len() + 1);
        self.head_len = self.head_len.saturating_add(len);
        if self.head_len > MAX_HEAD {
            return Line::TooLong;
        }
        match split {
            None => {
                self.line.extend_from_slice(bytes);
                Line::Open
            }
            Some((line, after)) if self.line.is_empty() => Line::Whole(line.into(), after),
            Some((line, after)) => {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                Line::Whole(whole.into(), after)
            }
        }
    }

    /// So many that come next are of a body, if the head is right.
    pub(super) fn immaterial(&self) -> u64 {
        match self.place {
            _ if self.loose => 0,
            Place::Bytes(left) => left,
            Place::Chunks(chunks) => chunks.immaterial(),
            Place::Endless => u64::MAX,
            Place::Lost | Place::FirstLine | Place::Fields => 0,
        }
    }

    /// So many bytes are not to be seen.
    pub(super) fn miss(&mut self, bytes: u64, speaker: &mut impl Speaker) -> Result<Missed, End> {
        let missed = match self.place {
            Place::Endless => return Ok(Missed::Nothing),
            Place::Bytes(left) if bytes <= left => {
                self.enter(Body::Bytes(left - bytes));
                return Ok(Missed::Nothing);
            }
            Place::Bytes(_) if self.loose => Missed::Rest,
            Place::Bytes(_) => Missed::Messages,
            Place::Chunks(chunks) => match chunks.skip(bytes) {
                Some(chunks) => {
                    self.place = Place::Chunks(chunks);
                    return Ok(Missed::Nothing);
                }
                None => Missed::Rest,
            },
            Place::Fields | Place::Lost => Missed::Rest,
            Place::FirstLine => {
                let known = !self.sure || self.cut(speaker)?;
                if known { Missed::Rest } else { Missed::Messages }
            }
        };
        self.lose();
        Ok(missed)
    }

    /// Makes what it can of a first line that will not be completed.
    pub(super) fn cut(&mut self, speaker: &mut impl Speaker) -> Result<bool, End> {
        let line = std::mem::take(&mut self.line);
        if self.place != Place::FirstLine || !self.sure || line.is_empty() {
            return Ok(false);
        }
        speaker.cut_line(&line, self.began)
    }

    fn lose(&mut self) {
        self.place = Place::Lost;
        self.line = Vec::new();
    }

    fn enter(&mut self, body: Body) {
        match body {
            Body::Bytes(0) => self.expect_message(),
            Body::Bytes(left) => self.place = Place::Bytes(left),
            Body::Chunks => self.place = Place::Chunks(Chunks::BEGIN),
            Body::Endless => self.place = Place::Endless,
        }
    }

    fn expect_message(&mut self) {
        self.place = Place::FirstLine;
        self.line = Vec::new();
        self.head_len = 0;
        self.sure = true;
    }

    fn look_for_message(&mut self) {
        self.expect_message();
        self.sure = false;
    }
}

/// There may be empty lines before a message.
fn skip_blank(bytes: &[u8]) -> &[u8] {
    let text = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    text.and_then(|at| bytes.get(at..)).unwrap_or_default()
}
