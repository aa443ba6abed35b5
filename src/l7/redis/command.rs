//! What a client says: arrays of strings, or a line.
use super::{
    number::{self, Digits, MAX_LENGTH, Read},
    verb::{self, Word, Words},
};
use crate::{decode::UnparsedReason, l7::dialogue::Piece};

/// Of a line, as Redis has it.
pub(super) const MAX_LINE: usize = 64 << 10;
/// Begins of segments at which no message was found. Then there are none.
pub(super) const MAX_TRIES: u32 = 1024;

/// Before anything was understood a line is a command only if it is one of these: text that a value breaks off with looks
/// much the same, and so do other protocols.
const LINES: [&str; 40] = [
    "PING",
    "ECHO",
    "GET",
    "SET",
    "DEL",
    "EXISTS",
    "INCR",
    "DECR",
    "MGET",
    "MSET",
    "KEYS",
    "SCAN",
    "INFO",
    "SELECT",
    "DBSIZE",
    "HELLO",
    "CONFIG",
    "CLIENT",
    "MONITOR",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SYNC",
    "PSYNC",
    "ROLE",
    "TIME",
    "FLUSHALL",
    "FLUSHDB",
    "COMMAND",
    "RESET",
    "LPUSH",
    "RPUSH",
    "LRANGE",
    "SADD",
    "HSET",
    "HGET",
    "EXPIRE",
    "TTL",
    "TYPE",
    "MULTI",
    "PUBLISH",
];

/// Framing makes no sense, or is of a kind that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Malformed,
    Unsupported,
}

impl From<Trouble> for UnparsedReason {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Malformed => Self::Malformed,
            Trouble::Unsupported => Self::Unsupported,
        }
    }
}

pub(super) struct Command<'a> {
    pub(super) words: Words<'a>,
    pub(super) asked_ns: u64,
    /// So does a segment.
    pub(super) starts: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Count,
    /// Of an argument, with the `$` in front.
    Length,
    LengthDigits,
    /// Of an argument and its line end, so many.
    Bytes(u64),
    Line,
    /// Of a command that is counted.
    Rest(u64),
}

pub(super) struct Commands {
    at: At,
    /// Where a message begins is not known.
    lost: bool,
    /// And that counts already.
    told: bool,
    /// A command was understood since.
    sure: bool,
    /// It was a line, and may have been a word of something else. What follows tells.
    half_sure: bool,
    tries: u32,
    digits: Digits,
    /// Words of the command at hand, and how many of them have gone by.
    count: u64,
    seen: u64,
    words: [Word; 3],
    line: Vec<u8>,
    asked_ns: u64,
    starts: bool,
}

impl Commands {
    pub(super) fn new() -> Self {
        Self {
            at: At::Begin,
            lost: true,
            told: false,
            sure: false,
            half_sure: false,
            tries: 0,
            digits: Digits::default(),
            count: 0,
            seen: 0,
            words: [Word::default(); 3],
            line: Vec::new(),
            asked_ns: 0,
            starts: false,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn buffered(&self) -> usize {
        self.line.capacity()
    }

    /// After so many bytes a command begins.
    pub(super) fn take_over(&mut self, rest: u64) {
        *self = Self::new();
        self.lost = false;
        self.sure = true;
        self.at = if rest > 0 { At::Rest(rest) } else { At::Begin };
    }

    fn lose(&mut self) {
        self.lost = true;
        self.sure = false;
        self.half_sure = false;
        self.at = At::Begin;
        self.line = Vec::new();
    }

    /// `settled`: what was understood was no mistake after a hole.
    pub(super) fn read(
        &mut self,
        piece: &Piece<'_>,
        settled: bool,
        emit: &mut impl FnMut(Command<'_>),
    ) -> Result<(), Trouble> {
        let mut carried = !self.lost && self.at != At::Begin;
        if self.lost {
            if !piece.starts {
                return Ok(());
            }
            self.lost = false;
        }
        loop {
            match self.bytes(piece, emit) {
                Err(trouble) if self.sure && settled => return Err(trouble),
                Err(_) => {
                    self.lose();
                    self.tries += 1;
                    if self.tries > MAX_TRIES {
                        return Err(Trouble::Malformed);
                    }
                    // What came before was not the begin of a message: this may be.
                    if !std::mem::take(&mut carried) || !piece.starts {
                        return Ok(());
                    }
                    self.lost = false;
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    fn bytes(&mut self, piece: &Piece<'_>, emit: &mut impl FnMut(Command<'_>)) -> Result<(), Trouble> {
        let mut rest = piece.bytes;
        while let Some((byte, after)) = rest.split_first() {
            match self.at {
                At::Begin => {
                    self.asked_ns = piece.time_ns;
                    self.starts = piece.starts && rest.len() == piece.bytes.len();
                    self.sure |= self.half_sure && (byte.is_ascii_alphabetic() || b"*\r\n".contains(byte));
                    if let Some((words, after)) = whole(rest) {
                        rest = after;
                        self.sure = true;
                        self.tell(words, emit);
                        continue;
                    }
                    match byte {
                        b'*' => {
                            rest = after;
                            self.digits = Digits::default();
                            self.at = At::Count;
                        }
                        // A line without a command.
                        b'\r' | b'\n' if self.sure => rest = after,
                        byte if byte.is_ascii_alphabetic() => self.at = At::Line,
                        _ => return Err(Trouble::Malformed),
                    }
                }
                At::Count => {
                    if let Some(count) = self.number(&mut rest)? {
                        self.begin(count);
                    }
                }
                At::Length => {
                    if *byte != b'$' {
                        return Err(Trouble::Malformed);
                    }
                    rest = after;
                    self.digits = Digits::default();
                    self.at = At::LengthDigits;
                }
                At::LengthDigits => {
                    if let Some(len) = self.number(&mut rest)? {
                        let len = u64::try_from(len).ok().ok_or(Trouble::Malformed)?;
                        self.at = At::Bytes(len + 2);
                    }
                }
                At::Bytes(left) => {
                    let (left, after) = self.argument(left, rest)?;
                    rest = after;
                    self.at = At::Bytes(left);
                    if left == 0 {
                        self.argument_done(emit);
                    }
                }
                At::Line => rest = self.line(rest, emit)?,
                At::Rest(left) => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    rest = rest.get(taken..).unwrap_or_default();
                    self.skip_rest(left - taken as u64);
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, rest: &mut &[u8]) -> Result<Option<i64>, Trouble> {
        match self.digits.read(rest) {
            Read::Open => Ok(None),
            Read::Number(number) if number <= MAX_LENGTH => Ok(Some(number)),
            Read::Number(_) | Read::Streamed | Read::Nonsense => Err(Trouble::Malformed),
        }
    }

    /// None, or fewer than none, is no command, and no error either.
    fn begin(&mut self, count: i64) {
        self.count = u64::try_from(count).unwrap_or(0);
        self.seen = 0;
        self.words = [Word::default(); 3];
        self.at = if self.count == 0 { At::Begin } else { At::Length };
    }

    /// Some of an argument and of its line end. How much is left.
    fn argument<'a>(&mut self, left: u64, rest: &'a [u8]) -> Result<(u64, &'a [u8]), Trouble> {
        let of_word = left.saturating_sub(2);
        if of_word > 0 {
            let taken = rest.len().min(usize::try_from(of_word).unwrap_or(usize::MAX));
            let (more, after) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            if let Some(word) = self.word() {
                word.extend(more);
            }
            return Ok((left - more.len() as u64, after));
        }
        let end = if left == 2 { b'\r' } else { b'\n' };
        match rest.split_first() {
            Some((byte, after)) if *byte == end => Ok((left - 1, after)),
            _ => Err(Trouble::Malformed),
        }
    }

    /// Where the argument at hand is kept, if it is: they are other people's.
    fn word(&mut self) -> Option<&mut Word> {
        let at = usize::try_from(self.seen).ok().filter(|at| *at < self.words.len())?;
        if at > 0 && !verb::has_second(self.words.first()?.get()) {
            return None;
        }
        self.words.get_mut(at)
    }

    fn argument_done(&mut self, emit: &mut impl FnMut(Command<'_>)) {
        self.seen += 1;
        if self.seen < self.count {
            self.at = At::Length;
            return;
        }
        self.at = At::Begin;
        let kept = std::mem::take(&mut self.words);
        let [name, second, third] = &kept;
        let words = Words {
            name: name.get(),
            second: second.get(),
            third: third.get(),
            count: self.count,
        };
        self.sure = true;
        self.tell(words, emit);
    }

    fn tell(&mut self, words: Words<'_>, emit: &mut impl FnMut(Command<'_>)) {
        self.told = false;
        self.tries = 0;
        emit(Command {
            words,
            asked_ns: self.asked_ns,
            starts: self.starts,
        });
    }

    /// Up to its end, or all that there is. What follows it.
    fn line<'a>(&mut self, rest: &'a [u8], emit: &mut impl FnMut(Command<'_>)) -> Result<&'a [u8], Trouble> {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (more, after) = rest
            .split_at_checked(end.map_or(rest.len(), |end| end + 1))
            .unwrap_or((rest, &[]));
        if self.line.len() + more.len() > MAX_LINE || !more.iter().all(|byte| is_of_line(*byte)) {
            return Err(Trouble::Malformed);
        }
        if end.is_none() {
            self.line.extend_from_slice(more);
            return Ok(after);
        }
        self.at = At::Begin;
        let mut line = std::mem::take(&mut self.line);
        let line = if line.is_empty() {
            more
        } else {
            line.extend_from_slice(more);
            &line
        };
        let words = words_of(line);
        if !(is_name(words.name) && (self.sure || is_known(words.name))) {
            return Err(Trouble::Malformed);
        }
        self.half_sure = true;
        self.tell(words, emit);
        Ok(after)
    }

    fn skip_rest(&mut self, left: u64) {
        self.at = if left > 0 { At::Rest(left) } else { At::Begin };
    }

    /// So many that come next are of an argument.
    pub(super) fn immaterial(&self) -> u64 {
        match self.at {
            At::Bytes(left) | At::Rest(left) if self.sure => left,
            _ => 0,
        }
    }

    /// So many bytes are missing. Whether anything but bytes of known arguments is.
    pub(super) fn miss(&mut self, bytes: u64, emit: &mut impl FnMut(Command<'_>)) -> bool {
        let mut missing = bytes;
        match self.at {
            At::Bytes(left) => {
                let skipped = missing.min(left);
                missing -= skipped;
                // Its line end may be all that is missing.
                if left > 2
                    && let Some(word) = self.word()
                {
                    word.spoil();
                }
                self.at = At::Bytes(left - skipped);
                if left == skipped {
                    self.argument_done(emit);
                }
            }
            At::Rest(left) => {
                let skipped = missing.min(left);
                missing -= skipped;
                self.skip_rest(left - skipped);
            }
            _ => {}
        }
        if missing == 0 {
            return false;
        }
        self.lose();
        !std::mem::replace(&mut self.told, true)
    }

    /// Something was said, and nothing of it was ever understood.
    pub(super) fn is_nonsense(&self) -> bool {
        self.tries > 0 && !self.sure && !self.half_sure && !self.told
    }
}

/// All of a command.
fn whole(bytes: &[u8]) -> Option<(Words<'_>, &[u8])> {
    let (count, mut rest) = number::whole(bytes.strip_prefix(b"*")?)?;
    if count == 0 {
        return None;
    }
    let mut words = Words {
        count: u64::from(count),
        ..Words::default()
    };
    for at in 0..words.count {
        let (len, after) = number::whole(rest.strip_prefix(b"$")?)?;
        let (word, after) = after.split_at_checked(usize::try_from(len).ok()?)?;
        rest = after.strip_prefix(b"\r\n")?;
        words.set(at, word);
    }
    Some((words, rest))
}

fn is_of_line(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || matches!(byte, b'\t' | b'\r' | b'\n')
}

fn is_name(word: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    !word.is_empty() && word.iter().all(is_name)
}

fn is_known(word: &[u8]) -> bool {
    LINES.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

/// Between blanks, where no quotes keep them together.
fn words_of(line: &[u8]) -> Words<'_> {
    let mut words = Words::default();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let mut quote = None;
        let mut escaped = false;
        let ends = |byte: &u8| {
            match quote {
                Some(_) if escaped => escaped = false,
                Some(_) if *byte == b'\\' => escaped = true,
                Some(open) if *byte == open => quote = None,
                Some(_) => {}
                None if matches!(byte, b'"' | b'\'') => quote = Some(*byte),
                None => return byte.is_ascii_whitespace(),
            }
            false
        };
        let end = rest.iter().position(ends).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        words.set(words.count, word);
        words.count += 1;
        rest = after.trim_ascii_start();
    }
    words
}
