//! What a server says: values, and values within values.
use super::{
    command::{MAX_LINE, MAX_TRIES, Trouble},
    number::{self, Digits, MAX_LENGTH, Read},
    talk::Talk,
    verb::{Subscription, Word},
};
use crate::l7::dialogue::{Hearer, Piece};

const MAX_DEPTH: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Number(u8),
    Line(u8),
    /// Of a string and its line end, so many.
    Bytes(u64),
}

/// What an aggregate still has to hold.
struct Level {
    left: u64,
    /// What it belongs to comes behind it.
    attribute: bool,
}

/// How much of an array is understood that may be news of a channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Away,
    Name,
    Channel(Subscription),
    Count(Subscription, bool),
}

pub(super) struct Replies {
    at: At,
    /// Where a reply begins is not known.
    lost: bool,
    /// It may be at the next begin of a segment.
    ready: bool,
    tries: u32,
    levels: Vec<Level>,
    digits: Digits,
    /// Of the line at hand: its bytes, the first of them, and whether it may end.
    len: usize,
    first: u8,
    ends: bool,
    look: Look,
    /// It is looked at because it is none, or may be none.
    push: bool,
    name: Word,
    replied_ns: u64,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            at: At::Begin,
            lost: true,
            ready: true,
            tries: 0,
            levels: Vec::new(),
            digits: Digits::default(),
            len: 0,
            first: 0,
            ends: false,
            look: Look::Away,
            push: false,
            name: Word::default(),
            replied_ns: 0,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// A reply has begun, and has not ended.
    pub(super) fn is_within(&self) -> bool {
        !self.lost && (self.at != At::Begin || !self.levels.is_empty())
    }

    pub(super) fn buffered(&self) -> usize {
        self.levels.capacity() * size_of::<Level>()
    }

    pub(super) fn take_over(&mut self, lost: bool) {
        *self = Self::new();
        self.lost = lost;
        self.ready = false;
    }

    /// The client asks: what comes next may be what it is told.
    pub(super) fn expect(&mut self) {
        self.ready = true;
    }

    /// What was said so far was the rest of something that nobody asked for here.
    pub(super) fn start(&mut self) {
        self.lose();
        self.ready = true;
    }

    fn lose(&mut self) {
        self.lost = true;
        self.at = At::Begin;
        self.levels.clear();
        self.look = Look::Away;
    }

    pub(super) fn read(&mut self, piece: &Piece<'_>, talk: &mut Talk, hearer: &mut dyn Hearer) -> Result<(), Trouble> {
        let mut carried = self.is_within();
        if self.lost {
            if !piece.starts || !self.ready {
                return Ok(());
            }
            self.lost = false;
        }
        loop {
            match self.bytes(piece, talk, hearer) {
                Err(trouble) if talk.fits() => return Err(trouble),
                Err(_) => {
                    self.lose();
                    if talk.has_asked() {
                        self.tries += 1;
                        talk.astray();
                    }
                    if self.tries > MAX_TRIES {
                        return Err(Trouble::Malformed);
                    }
                    if !std::mem::take(&mut carried) || !piece.starts {
                        return Ok(());
                    }
                    self.lost = false;
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    fn bytes(&mut self, piece: &Piece<'_>, talk: &mut Talk, hearer: &mut dyn Hearer) -> Result<(), Trouble> {
        let mut rest = piece.bytes;
        while let Some((byte, after)) = rest.split_first()
            && !talk.is_over()
        {
            match self.at {
                At::Begin => {
                    rest = after;
                    if self.levels.is_empty() {
                        self.replied_ns = piece.time_ns;
                    }
                    match byte {
                        b'$' | b'*' | b':' | b'%' | b'~' | b'>' | b'|' | b'!' | b'=' => {
                            if let Some((number, after)) = number::whole(rest) {
                                rest = after;
                                self.header(*byte, i64::from(number), talk, hearer)?;
                            } else {
                                self.digits = Digits::default();
                                self.at = At::Number(*byte);
                            }
                        }
                        b'+' | b'-' | b'_' | b'#' | b',' | b'(' => {
                            self.len = 0;
                            self.first = 0;
                            self.ends = false;
                            self.at = At::Line(*byte);
                        }
                        // So a master lets its replica know that it is still at work.
                        b'\n' if self.levels.is_empty() && talk.syncs() => {}
                        _ => return Err(Trouble::Malformed),
                    }
                }
                At::Number(kind) => match self.digits.read(&mut rest) {
                    Read::Open => {}
                    Read::Number(number) => self.header(kind, number, talk, hearer)?,
                    Read::Streamed if kind != b':' => return Err(Trouble::Unsupported),
                    Read::Streamed | Read::Nonsense => return Err(Trouble::Malformed),
                },
                At::Line(kind) => rest = self.line(kind, rest, talk, hearer)?,
                At::Bytes(left) => {
                    let (left, after) = self.string(left, rest)?;
                    rest = after;
                    self.at = At::Bytes(left);
                    if left == 0 {
                        self.string_done(talk, hearer);
                    }
                }
            }
        }
        Ok(())
    }

    fn header(&mut self, kind: u8, number: i64, talk: &mut Talk, hearer: &mut dyn Hearer) -> Result<(), Trouble> {
        let is_null = number == -1 && matches!(kind, b'$' | b'*');
        if kind != b':' && !is_null && !(0..=MAX_LENGTH).contains(&number) {
            return Err(Trouble::Malformed);
        }
        if self.levels.is_empty() {
            self.first_line(kind, number, talk, hearer);
        } else if self.look != Look::Away && self.levels.len() == 1 {
            self.noticed(kind, number, talk, hearer);
        }
        self.at = At::Begin;
        let number = u64::try_from(number).unwrap_or(0);
        match kind {
            b':' => self.value_done(),
            _ if is_null => self.value_done(),
            b'$' | b'!' | b'=' => self.at = At::Bytes(number + 2),
            // What it belongs to is still to come.
            b'|' if number == 0 => {}
            _ if number == 0 => self.value_done(),
            _ if self.levels.len() >= MAX_DEPTH => return Err(Trouble::Unsupported),
            b'%' | b'|' => self.levels.push(Level {
                left: number * 2,
                attribute: kind == b'|',
            }),
            _ => self.levels.push(Level {
                left: number,
                attribute: false,
            }),
        }
        Ok(())
    }

    /// Up to its end, or all that there is. What follows it.
    fn line<'a>(
        &mut self,
        kind: u8,
        rest: &'a [u8],
        talk: &mut Talk,
        hearer: &mut dyn Hearer,
    ) -> Result<&'a [u8], Trouble> {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (more, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        if self.len == 0
            && let Some(first) = more.first()
        {
            self.first = *first;
        }
        self.len = self.len.saturating_add(more.len());
        if let Some(last) = more.last() {
            self.ends = *last == b'\r';
        }
        // A monitor shows whole commands.
        if self.len > MAX_LINE && !talk.monitors() {
            return Err(Trouble::Malformed);
        }
        let Some((_, after)) = after.split_first() else {
            return Ok(after);
        };
        if !self.ends {
            self.len = self.len.saturating_add(1);
            return Ok(after);
        }
        let len = self.len.saturating_sub(1);
        let fits = match kind {
            b'_' => len == 0,
            b'#' => len == 1 && matches!(self.first, b't' | b'f'),
            b',' | b'(' => len > 0,
            _ => true,
        };
        if !fits {
            return Err(Trouble::Malformed);
        }
        if self.levels.is_empty() {
            self.first_line(kind, i64::from(self.first), talk, hearer);
        } else if self.look != Look::Away && self.levels.len() == 1 {
            self.noticed(kind, -1, talk, hearer);
        }
        self.value_done();
        Ok(after)
    }

    /// Some of a string and of its line end. How much is left.
    fn string<'a>(&mut self, left: u64, rest: &'a [u8]) -> Result<(u64, &'a [u8]), Trouble> {
        let of_string = left.saturating_sub(2);
        // Most come whole.
        if !self.is_name()
            && let Some(after) = usize::try_from(of_string).ok().and_then(|len| rest.get(len..))
            && let Some(after) = after.strip_prefix(b"\r\n").filter(|_| left > 1)
        {
            return Ok((0, after));
        }
        if of_string > 0 {
            let taken = rest.len().min(usize::try_from(of_string).unwrap_or(usize::MAX));
            let (more, after) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            if self.is_name() {
                self.name.extend(more);
            }
            return Ok((left - more.len() as u64, after));
        }
        let end = if left == 2 { b'\r' } else { b'\n' };
        match rest.split_first() {
            Some((byte, after)) if *byte == end => Ok((left - 1, after)),
            _ => Err(Trouble::Malformed),
        }
    }

    fn is_name(&self) -> bool {
        self.look == Look::Name && self.levels.len() == 1
    }

    fn string_done(&mut self, talk: &mut Talk, hearer: &mut dyn Hearer) {
        if self.is_name() {
            self.named(talk, hearer);
        }
        self.value_done();
    }

    /// A value is complete, and with it perhaps what it is in.
    fn value_done(&mut self) {
        self.at = At::Begin;
        while let Some(level) = self.levels.last_mut() {
            level.left -= 1;
            if level.left > 0 {
                return;
            }
            let attribute = level.attribute;
            self.levels.pop();
            if attribute {
                return;
            }
        }
    }

    fn first_line(&mut self, kind: u8, number: i64, talk: &mut Talk, hearer: &mut dyn Hearer) {
        self.look = Look::Away;
        match kind {
            b'|' => {}
            b'*' | b'>' => {
                self.push = kind == b'>';
                if (3..=4).contains(&number) && talk.may_be_news(self.push) {
                    self.look = Look::Name;
                    self.name = Word::default();
                } else if !self.push {
                    talk.answered(kind, self.replied_ns, hearer);
                }
            }
            b'+' if talk.is_monitored(u8::try_from(number).unwrap_or(0)) => {}
            b'+' => talk.said(u8::try_from(number).unwrap_or(0), self.replied_ns, hearer),
            _ => talk.answered(kind, self.replied_ns, hearer),
        }
    }

    /// The next element of what may be news.
    fn noticed(&mut self, kind: u8, number: i64, talk: &mut Talk, hearer: &mut dyn Hearer) {
        let is_null = kind == b'_' || kind == b'$' && number < 0;
        match self.look {
            Look::Name if kind == b'$' && (7..=12).contains(&number) => {}
            Look::Channel(subscription) if kind == b'$' || is_null => self.look = Look::Count(subscription, is_null),
            Look::Count(subscription, is_null) if kind == b':' => {
                self.look = Look::Away;
                talk.confirmed(subscription, is_null, number, (self.push, self.replied_ns), hearer);
            }
            Look::Away => {}
            _ => self.is_no_news(talk, hearer),
        }
    }

    fn named(&mut self, talk: &mut Talk, hearer: &mut dyn Hearer) {
        let shard = match self.name.get() {
            b"message" | b"pmessage" => false,
            b"smessage" => true,
            name => {
                match Subscription::of(name) {
                    Some(subscription) => self.look = Look::Channel(subscription),
                    None => self.is_no_news(talk, hearer),
                }
                return;
            }
        };
        self.look = Look::Away;
        if !self.push && !talk.message(shard) {
            talk.answered(b'*', self.replied_ns, hearer);
        }
    }

    fn is_no_news(&mut self, talk: &mut Talk, hearer: &mut dyn Hearer) {
        self.look = Look::Away;
        if !self.push {
            talk.answered(b'*', self.replied_ns, hearer);
        }
    }

    /// So many that come next are of a string.
    pub(super) fn immaterial(&self) -> u64 {
        match self.at {
            At::Bytes(left) => left,
            _ => 0,
        }
    }

    /// So many bytes are missing. Whether anything but bytes of a known string is.
    pub(super) fn miss(&mut self, bytes: u64, talk: &mut Talk, hearer: &mut dyn Hearer) -> bool {
        let mut missing = bytes;
        if let At::Bytes(left) = self.at {
            let skipped = missing.min(left);
            missing -= skipped;
            if left > 2 && self.is_name() {
                self.name.spoil();
            }
            self.at = At::Bytes(left - skipped);
            if left == skipped {
                self.string_done(talk, hearer);
            }
        }
        if missing == 0 {
            return false;
        }
        self.lose();
        self.ready = false;
        true
    }
}
