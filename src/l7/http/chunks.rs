//! Bodies in chunks, each behind its length.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    Size {
        digits: u8,
        size: u64,
    },
    /// What else is in the line of a size.
    Extension {
        size: u64,
        /// Its last byte so far.
        cr: bool,
    },
    Data {
        /// Bytes that are to come.
        left: u64,
        /// The line end behind them, if it is like the one before.
        end: u8,
    },
    /// Bytes that are to come behind data: of `\r\n` or `\n`.
    End(u8),
    Trailer {
        /// The line has nothing in it so far.
        blank: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunks {
    pub(super) const BEGIN: Self = Self::Size { digits: 0, size: 0 };

    /// Bytes of a chunk that are to come.
    pub(super) fn immaterial(self) -> u64 {
        match self {
            Self::Data { left, .. } => left,
            _ => 0,
        }
    }

    /// What follows the body, once all of it is there.
    pub(super) fn feed<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if let Self::Data { left, end } = *self {
                let skipped = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                rest = rest.get(skipped..).unwrap_or_default();
                *self = Self::data(left - skipped as u64, end);
                continue;
            }
            rest = after;
            *self = match (*self, *byte) {
                (Self::Trailer { blank: true }, b'\n') => return Ok(Some(rest)),
                (state, byte) => state.next(byte)?,
            };
        }
        Ok(None)
    }

    fn next(self, byte: u8) -> Result<Self, Malformed> {
        Ok(match (self, byte) {
            (Self::Size { digits: 1.., size: 0 } | Self::Extension { size: 0, .. }, b'\n') => {
                Self::Trailer { blank: true }
            }
            (Self::Size { digits: 1.., size }, b'\n') => Self::data(size, 1),
            (Self::Extension { size, cr }, b'\n') => Self::data(size, 1 + u8::from(cr)),
            (Self::Size { digits: 1.., size }, b'\r' | b' ' | b'\t' | b';') | (Self::Extension { size, .. }, _) => {
                let cr = byte == b'\r';
                Self::Extension { size, cr }
            }
            (Self::Size { digits, size }, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
                let size = size.checked_mul(16).ok_or(Malformed)?;
                Self::Size {
                    digits: digits.saturating_add(1),
                    size: size | u64::from(digit),
                }
            }
            (Self::Data { .. }, _) => self,
            (Self::End(_), b'\n') => Self::BEGIN,
            (Self::End(_), b'\r') => Self::End(1),
            (Self::End(_), _) => return Err(Malformed),
            (Self::Trailer { .. }, b'\n') => Self::Trailer { blank: true },
            (Self::Trailer { blank }, byte) => Self::Trailer {
                blank: blank && byte == b'\r',
            },
        })
    }

    /// Behind bytes that nobody sees. `None`: that is not known.
    pub(super) fn skip(self, bytes: u64) -> Option<Self> {
        let (left, end) = match self {
            Self::Data { left, end } => (left, end),
            Self::End(end) => (0, end),
            _ => return None,
        };
        let Some(more) = bytes.checked_sub(left) else {
            return Some(Self::data(left - bytes, end));
        };
        match end.checked_sub(u8::try_from(more).ok()?)? {
            0 => Some(Self::BEGIN),
            end => Some(Self::End(end)),
        }
    }

    fn data(left: u64, end: u8) -> Self {
        match left {
            0 => Self::End(end),
            left => Self::Data { left, end },
        }
    }
}
