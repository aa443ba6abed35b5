//! Numbers that end a line: counts, lengths, integers.

/// Of the longest argument or string that anything believes in.
pub(super) const MAX_LENGTH: i64 = 1 << 40;

/// Most are small and come whole. `None`: anything else.
pub(super) fn whole(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    let mut rest = bytes;
    let mut digits = 0;
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let after = rest.strip_prefix(b"\n")?;
            return (*byte == b'\r' && digits > 0).then_some((value, after));
        }
        digits += 1;
        if digits > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
}

pub(super) enum Read {
    Open,
    Number(i64),
    /// How long it is says its end.
    Streamed,
    Nonsense,
}

/// In whatever pieces it comes.
#[derive(Debug, Default)]
pub(super) struct Digits {
    value: u64,
    digits: u8,
    signed: bool,
    negative: bool,
    ended: bool,
}

impl Digits {
    pub(super) fn read(&mut self, rest: &mut &[u8]) -> Read {
        while let Some((byte, after)) = rest.split_first() {
            *rest = after;
            let is_first = self.digits == 0 && !self.signed;
            match byte {
                b'\n' if self.ended => return self.number(),
                _ if self.ended => return Read::Nonsense,
                b'\r' if self.digits > 0 => self.ended = true,
                b'?' if is_first => return Read::Streamed,
                b'-' | b'+' if is_first => {
                    self.signed = true;
                    self.negative = *byte == b'-';
                }
                // As many as always fit.
                b'0'..=b'9' if self.digits < 19 => {
                    self.digits += 1;
                    self.value = self.value * 10 + u64::from(byte - b'0');
                }
                _ => return Read::Nonsense,
            }
        }
        Read::Open
    }

    fn number(&self) -> Read {
        let value = i64::try_from(self.value).unwrap_or(i64::MAX);
        Read::Number(if self.negative { -value } else { value })
    }
}
