//! What a server says: lines, data behind some of them, lists up to their end, and binary messages.
use super::{
    binary::{self, Head, Header},
    command::MAX_TRIES,
    line::{self, Line, NoLine, number, words},
    talk::Talk,
};
use crate::l7::dialogue::{Hearer, Piece};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Failed,
    /// Of meta commands.
    Value,
    Done,
    Miss,
    NotFound,
    NotStored,
    Exists,
    Noop,
    Other,
    Binary(Header),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Line,
    /// Of data and their line end, so many.
    Data(u64),
    Head,
    Body(u64),
}

/// What a reply goes on with when its first part is complete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    None,
    Lines,
    Binary,
}

pub(super) struct Replies {
    at: At,
    list: List,
    /// Where a reply begins is not known.
    lost: bool,
    /// It may be at the next begin of a segment.
    ready: bool,
    tries: u32,
    line: Line,
    head: Head,
    replied_ns: u64,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            at: At::Begin,
            list: List::None,
            lost: true,
            ready: true,
            tries: 0,
            line: Line::default(),
            head: Head::default(),
            replied_ns: 0,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// A reply has begun, and has not ended.
    pub(super) fn is_within(&self) -> bool {
        !self.lost && (self.at != At::Begin || self.list != List::None)
    }

    pub(super) fn buffered(&self) -> usize {
        self.line.buffered()
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
        self.list = List::None;
        self.line.clear();
    }

    pub(super) fn read(&mut self, piece: &Piece<'_>, talk: &mut Talk, hearer: &mut dyn Hearer) -> Result<(), NoLine> {
        let mut carried = self.is_within();
        if self.lost {
            if !piece.starts || !self.ready {
                return Ok(());
            }
            self.lost = false;
        }
        loop {
            match self.bytes(piece, talk, hearer) {
                Err(NoLine) if talk.fits() => return Err(NoLine),
                Err(NoLine) => {
                    self.lose();
                    if talk.has_asked() {
                        self.tries += 1;
                        talk.astray();
                    }
                    if self.tries > MAX_TRIES {
                        return Err(NoLine);
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

    fn bytes(&mut self, piece: &Piece<'_>, talk: &mut Talk, hearer: &mut dyn Hearer) -> Result<(), NoLine> {
        let mut rest = piece.bytes;
        while let Some(byte) = rest.first()
            && !talk.is_over()
        {
            match self.at {
                At::Begin => {
                    if self.list == List::None {
                        self.replied_ns = piece.time_ns;
                    }
                    self.at = match byte {
                        &binary::RESPONSE if self.list != List::Lines => {
                            self.head.clear();
                            At::Head
                        }
                        byte if byte.is_ascii_alphanumeric() && self.list != List::Binary => At::Line,
                        _ => return Err(NoLine),
                    };
                }
                At::Line => {
                    let within = self.list == List::Lines;
                    let (read, after) = self.line.read(rest, |line| reply(line, within))?;
                    rest = after;
                    if let Some(read) = read {
                        let Part { said, goes_on, data } = read.ok_or(NoLine)?;
                        self.at = data.map_or(At::Begin, |len| At::Data(len + 2));
                        self.list = if goes_on { List::Lines } else { List::None };
                        if !within {
                            talk.answered(said, self.replied_ns, hearer);
                        }
                    }
                }
                At::Data(left) => {
                    let (left, after) = line::skip(left, rest)?;
                    rest = after;
                    self.at = if left > 0 { At::Data(left) } else { At::Begin };
                }
                At::Head => {
                    if let Some(head) = self.head.read(&mut rest) {
                        let likely = |header: &Header| talk.fits() || header.is_likely();
                        let header = Header::of(head).filter(likely).ok_or(NoLine)?;
                        self.header(header, talk, hearer)?;
                    }
                }
                At::Body(left) => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    rest = rest.get(taken..).unwrap_or_default();
                    self.body(left - taken as u64);
                }
            }
        }
        Ok(())
    }

    /// A list of statistics ends with one that has no name.
    fn header(&mut self, header: Header, talk: &mut Talk, hearer: &mut dyn Hearer) -> Result<(), NoLine> {
        let within = self.list == List::Binary;
        if within && header.opcode != binary::STAT {
            return Err(NoLine);
        }
        let goes_on = header.opcode == binary::STAT && header.key > 0;
        self.list = if goes_on { List::Binary } else { List::None };
        self.body(u64::from(header.body));
        if !within {
            talk.answered(Said::Binary(header), self.replied_ns, hearer);
        }
        Ok(())
    }

    fn body(&mut self, left: u64) {
        self.at = if left > 0 { At::Body(left) } else { At::Begin };
    }

    /// So many bytes are missing. Whether anything but data of known length is.
    pub(super) fn miss(&mut self, bytes: u64) -> bool {
        let mut missing = bytes;
        if let At::Data(left) | At::Body(left) = self.at {
            let skipped = missing.min(left);
            missing -= skipped;
            self.at = match self.at {
                _ if left == skipped => At::Begin,
                At::Data(_) => At::Data(left - skipped),
                _ => At::Body(left - skipped),
            };
        }
        if missing == 0 {
            return false;
        }
        self.lose();
        self.ready = false;
        true
    }
}

struct Part {
    said: Said,
    /// More lines belong to it.
    goes_on: bool,
    data: Option<u64>,
}

/// `within`: of a list. `None`: it is none.
fn reply(line: &[u8], within: bool) -> Option<Part> {
    let first = words(line).next()?;
    let one = |said| {
        Some(Part {
            said,
            goes_on: false,
            data: None,
        })
    };
    let list = |data| {
        Some(Part {
            said: Said::Other,
            goes_on: true,
            data,
        })
    };
    match first {
        b"VALUE" => list(Some(line::length(words(line).nth(3)?)?)),
        b"STAT" | b"ITEM" | b"PREFIX" | b"mg" => list(None),
        _ if first.starts_with(b"key=") => list(None),
        b"END" => one(Said::Other),
        b"EN" => one(Said::Miss),
        b"ERROR" | b"ERROR:" | b"CLIENT_ERROR" | b"SERVER_ERROR" => one(Said::Failed),
        _ if within => None,
        b"VA" => Some(Part {
            said: Said::Value,
            goes_on: false,
            data: Some(line::length(words(line).nth(1)?)?),
        }),
        b"HD" => one(Said::Done),
        b"NF" => one(Said::NotFound),
        b"NS" => one(Said::NotStored),
        b"EX" => one(Said::Exists),
        b"MN" => one(Said::Noop),
        b"ME" | b"STORED" | b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" | b"DELETED" | b"TOUCHED" | b"OK" | b"RESET"
        | b"VERSION" | b"BUSY" | b"BADCLASS" | b"NOSPARE" | b"NOTFULL" | b"UNSAFE" | b"SAME" => one(Said::Other),
        // What a number has come to. Only that.
        _ if number(first).is_some() && words(line).nth(1).is_none() => one(Said::Other),
        _ => None,
    }
}
