//! What a client says: lines, data behind some of them, and binary messages.
use super::{
    binary::{self, Head, Header},
    line::{self, Line, NoLine, words},
    verb::{self, Command, Kind},
};
use crate::l7::dialogue::{Asked, Piece};

/// Begins of segments at which no message was found. Then there are none.
pub(super) const MAX_TRIES: u32 = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Line,
    /// Of data and their line end, so many.
    Data(u64),
    Head,
    Body(u64),
    /// Of a command that is counted.
    Rest(u64),
}

pub(super) struct Said {
    pub(super) command: Command,
    pub(super) asked: Option<Box<Asked>>,
    pub(super) asked_ns: u64,
    /// So does a segment.
    pub(super) starts: bool,
}

pub(super) struct Commands {
    at: At,
    /// Where a message begins is not known.
    lost: bool,
    /// And that counts already.
    told: bool,
    /// A command was understood since.
    sure: bool,
    tries: u32,
    line: Line,
    head: Head,
    /// The command whose data are skipped.
    command: Command,
    asked: Option<Box<Asked>>,
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
            tries: 0,
            line: Line::default(),
            head: Head::default(),
            command: Command::default(),
            asked: None,
            asked_ns: 0,
            starts: false,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn buffered(&self) -> usize {
        self.line.buffered()
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
        self.at = At::Begin;
        self.line.clear();
    }

    /// `settled`: what was understood was no mistake after a hole. `watched`: somebody wants to know what is asked.
    pub(super) fn read(
        &mut self,
        piece: &Piece<'_>,
        (settled, watched): (bool, bool),
        emit: &mut impl FnMut(Said),
    ) -> Result<(), NoLine> {
        let mut carried = !self.lost && self.at != At::Begin;
        if self.lost {
            if !piece.starts {
                return Ok(());
            }
            self.lost = false;
        }
        loop {
            match self.bytes(piece, watched, emit) {
                Err(NoLine) if self.sure && settled => return Err(NoLine),
                Err(NoLine) => {
                    self.lose();
                    self.tries += 1;
                    if self.tries > MAX_TRIES {
                        return Err(NoLine);
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

    fn bytes(&mut self, piece: &Piece<'_>, watched: bool, emit: &mut impl FnMut(Said)) -> Result<(), NoLine> {
        let mut rest = piece.bytes;
        while let Some(byte) = rest.first() {
            match self.at {
                At::Begin => {
                    self.asked_ns = piece.time_ns;
                    self.starts = piece.starts && rest.len() == piece.bytes.len();
                    self.at = match byte {
                        &binary::REQUEST => {
                            self.head.clear();
                            At::Head
                        }
                        byte if byte.is_ascii_lowercase() => At::Line,
                        _ => return Err(NoLine),
                    };
                }
                At::Line => {
                    let sure = self.sure;
                    let (read, after) = self.line.read(rest, |line| command(line, sure, watched))?;
                    rest = after;
                    if let Some(read) = read {
                        let data;
                        (self.command, data, self.asked) = read.ok_or(NoLine)?;
                        match data {
                            Some(len) => self.at = At::Data(len + 2),
                            None => self.done(emit),
                        }
                    }
                }
                At::Data(left) => {
                    let (left, after) = line::skip(left, rest)?;
                    rest = after;
                    self.at = At::Data(left);
                    if left == 0 {
                        self.done(emit);
                    }
                }
                At::Head => {
                    let Some(head) = self.head.read(&mut rest) else {
                        continue;
                    };
                    let header = Header::of(head)
                        .filter(|header| self.sure || header.is_likely())
                        .ok_or(NoLine)?;
                    self.command = verb::binary(&header);
                    self.asked = watched.then(|| Box::new(verb::asked(header.name(), u64::from(header.key > 0))));
                    self.body(u64::from(header.body), emit);
                }
                At::Body(left) => {
                    let (left, after) = taken(left, rest);
                    rest = after;
                    self.body(left, emit);
                }
                At::Rest(left) => {
                    let (left, after) = taken(left, rest);
                    rest = after;
                    self.at = if left > 0 { At::Rest(left) } else { At::Begin };
                }
            }
        }
        Ok(())
    }

    fn body(&mut self, left: u64, emit: &mut impl FnMut(Said)) {
        self.at = At::Body(left);
        if left == 0 {
            self.done(emit);
        }
    }

    fn done(&mut self, emit: &mut impl FnMut(Said)) {
        self.at = At::Begin;
        self.sure = true;
        self.told = false;
        self.tries = 0;
        emit(Said {
            command: self.command,
            asked: self.asked.take(),
            asked_ns: self.asked_ns,
            starts: self.starts,
        });
    }

    /// So many bytes are missing. Whether anything but data of known length is.
    pub(super) fn miss(&mut self, bytes: u64, emit: &mut impl FnMut(Said)) -> bool {
        let mut missing = bytes;
        if let At::Data(left) | At::Body(left) | At::Rest(left) = self.at {
            let skipped = missing.min(left);
            missing -= skipped;
            let left = left - skipped;
            match self.at {
                At::Rest(_) => self.at = if left > 0 { At::Rest(left) } else { At::Begin },
                _ if left == 0 => self.done(emit),
                At::Data(_) => self.at = At::Data(left),
                _ => self.at = At::Body(left),
            }
        }
        if missing == 0 {
            return false;
        }
        self.lose();
        !std::mem::replace(&mut self.told, true)
    }

    /// Something was said, and nothing of it was ever understood.
    pub(super) fn is_nonsense(&self) -> bool {
        self.tries > 0 && !self.sure && !self.told
    }
}

fn taken(left: u64, rest: &[u8]) -> (u64, &[u8]) {
    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    (left - taken as u64, rest.get(taken..).unwrap_or_default())
}

type Read = (Command, Option<u64>, Option<Box<Asked>>);

/// And how many bytes of data follow. `None`: it is none.
fn command(line: &[u8], sure: bool, watched: bool) -> Option<Read> {
    let name = words(line).next()?;
    let arguments = words(line).skip(1).count();
    let Some((known, kind, data)) = verb::known(name) else {
        // Whatever it is, it has an answer.
        let fits = sure && name.len() <= 32 && name.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_');
        let asked = watched.then(|| Box::new(verb::asked("?", arguments as u64)));
        return fits.then_some((Command::default(), None, asked));
    };
    let argument = |at: usize| words(line).nth(at + 1).unwrap_or_default();
    let len = data.and_then(|at| line::length(argument(at)));
    // Text that some data break off with looks much the same.
    let likely = data.is_none() || len.is_some_and(|len| len <= line::MAX_LIKELY);
    if !sure && (arguments < verb::least(kind) || !likely) {
        return None;
    }
    let quiet = match kind {
        Kind::MetaGet | Kind::MetaSet | Kind::MetaDelete | Kind::MetaArithmetic => {
            words(line).skip(2).any(|flag| flag == b"q")
        }
        _ => false,
    };
    let command = Command {
        kind,
        quiet,
        silent: kind == Kind::Plain && is_silent(line),
        ..Command::default()
    };
    let asked = watched.then(|| Box::new(verb::asked(&known.to_ascii_uppercase(), arguments as u64)));
    Some((command, len, asked))
}

/// Where a key may be the only argument it is no such word.
fn is_silent(line: &[u8]) -> bool {
    let mut words = words(line);
    let without_key = matches!(words.next(), Some(b"flush_all" | b"verbosity"));
    let skipped = usize::from(!without_key);
    words.skip(skipped).last() == Some(b"noreply")
}
