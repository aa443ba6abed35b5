//! The binary protocol's headers.
use super::line::MAX_LIKELY;

pub(super) const REQUEST: u8 = 0x80;
pub(super) const RESPONSE: u8 = 0x81;
pub(super) const LEN: usize = 24;

const MAX_KEY: u16 = 250;

pub(super) const STAT: u8 = 0x10;
const QUIT: u8 = 0x07;
const QUIT_QUIETLY: u8 = 0x17;

const NAMES: [&str; 0x25] = [
    "GET",
    "SET",
    "ADD",
    "REPLACE",
    "DELETE",
    "INCR",
    "DECR",
    "QUIT",
    "FLUSH_ALL",
    "GETQ",
    "NOOP",
    "VERSION",
    "GETK",
    "GETKQ",
    "APPEND",
    "PREPEND",
    "STATS",
    "SETQ",
    "ADDQ",
    "REPLACEQ",
    "DELETEQ",
    "INCRQ",
    "DECRQ",
    "QUITQ",
    "FLUSH_ALLQ",
    "APPENDQ",
    "PREPENDQ",
    "VERBOSITY",
    "TOUCH",
    "GAT",
    "GATQ",
    "",
    "SASL_LIST",
    "SASL_AUTH",
    "SASL_STEP",
    "GATK",
    "GATKQ",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) magic: u8,
    pub(super) opcode: u8,
    /// Of an answer.
    pub(super) status: u16,
    /// What follows.
    pub(super) body: u32,
    /// The answer repeats it.
    pub(super) opaque: u32,
    pub(super) key: u16,
    extras: u8,
}

impl Header {
    /// `None`: it is none.
    pub(super) fn of(bytes: &[u8; LEN]) -> Option<Self> {
        let [
            magic,
            opcode,
            k0,
            k1,
            extras,
            kind,
            s0,
            s1,
            b0,
            b1,
            b2,
            b3,
            o0,
            o1,
            o2,
            o3,
            ..,
        ] = *bytes;
        let key = u16::from_be_bytes([k0, k1]);
        let header = Self {
            magic,
            opcode,
            status: u16::from_be_bytes([s0, s1]),
            body: u32::from_be_bytes([b0, b1, b2, b3]),
            opaque: u32::from_be_bytes([o0, o1, o2, o3]),
            key,
            extras,
        };
        let parts = u32::from(key) + u32::from(extras);
        (kind == 0 && parts <= header.body).then_some(header)
    }

    /// Its parts are those of such a message. A server says what it thinks of others, but where nobody knows what comes they
    /// are rather something else. So are longer ones: all that they claim is skipped.
    pub(super) fn is_likely(&self) -> bool {
        let value = self.body - u32::from(self.key) - u32::from(self.extras);
        if u64::from(value) > MAX_LIKELY {
            return false;
        }
        if self.magic == RESPONSE {
            return self.opcode < 0x25 && self.status < 0x90 && self.key <= MAX_KEY && self.extras <= 4;
        }
        let parts = (self.key > 0, self.extras, value > 0);
        self.key <= MAX_KEY
            && match self.opcode {
                0x00 | 0x04 | 0x09 | 0x0c | 0x0d | 0x14 => parts == (true, 0, false),
                0x01..=0x03 | 0x11..=0x13 => matches!(parts, (true, 8, _)),
                0x05 | 0x06 | 0x15 | 0x16 => parts == (true, 20, false),
                0x07 | 0x0a | 0x0b | 0x17 | 0x20 => parts == (false, 0, false),
                0x08 | 0x18 => matches!(parts, (false, 0 | 4, false)),
                0x0e | 0x0f | 0x19 | 0x1a => matches!(parts, (true, 0, _)),
                0x10 => matches!(parts, (_, 0, false)),
                0x1b => parts == (false, 4, false),
                0x1c..=0x1e | 0x23 | 0x24 => parts == (true, 4, false),
                0x21 | 0x22 => matches!(parts, (true, 0, _)),
                _ => false,
            }
    }

    pub(super) fn says_goodbye(&self) -> bool {
        matches!(self.opcode, QUIT | QUIT_QUIETLY)
    }

    /// Where all is well it may have no answer.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.opcode, 0x09 | 0x0d | 0x11..=0x1a | 0x1e | 0x24)
    }

    /// Not found, already there and not stored are answers like others, and so is a step of a log-in.
    pub(super) fn failed(&self) -> bool {
        !matches!(self.status, 0 | 1 | 2 | 5 | 0x21)
    }

    pub(super) fn name(&self) -> &'static str {
        let name = NAMES.get(usize::from(self.opcode)).copied().unwrap_or_default();
        if name.is_empty() { "?" } else { name }
    }
}

/// One that may come in pieces.
#[derive(Default)]
pub(super) struct Head {
    bytes: [u8; LEN],
    len: usize,
}

impl Head {
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// What of it is there, and all of it when it is complete.
    pub(super) fn read(&mut self, rest: &mut &[u8]) -> Option<&[u8; LEN]> {
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        let taken = free.len().min(rest.len());
        let (more, after) = rest.split_at_checked(taken)?;
        for (to, from) in free.iter_mut().zip(more) {
            *to = *from;
        }
        *rest = after;
        self.len += taken;
        (self.len == LEN).then_some(&self.bytes)
    }
}
