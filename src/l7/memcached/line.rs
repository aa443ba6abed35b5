//! Lines, and what is kept of them.

/// With all keys that somebody may ask for at once.
pub(super) const MAX_LINE: usize = 1 << 20;
/// What matters stands in front: of that much nothing but keys is cut off.
pub(super) const MAX_HEAD: usize = 1024;

/// Bytes of data that servers store unless they are told otherwise. What only looks like a message claims more.
pub(super) const MAX_LIKELY: u64 = 1 << 20;

/// One that may come in pieces.
#[derive(Default)]
pub(super) struct Line {
    head: Vec<u8>,
    len: usize,
}

/// It is too long, or none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoLine;

impl Line {
    pub(super) fn buffered(&self) -> usize {
        self.head.capacity()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Up to its end, or all that there is. Calls with its begin where it ends. What follows it.
    pub(super) fn read<'a, T>(
        &mut self,
        rest: &'a [u8],
        ended: impl FnOnce(&[u8]) -> T,
    ) -> Result<(Option<T>, &'a [u8]), NoLine> {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (more, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        self.len = self.len.saturating_add(more.len());
        if self.len > MAX_LINE || !more.iter().all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\r') {
            return Err(NoLine);
        }
        if end.is_some() && self.head.is_empty() {
            self.len = 0;
            let told = ended(head(more).trim_ascii());
            return Ok((Some(told), after.get(1..).unwrap_or_default()));
        }
        let room = MAX_HEAD - self.head.len().min(MAX_HEAD);
        self.head.extend(more.iter().take(room));
        if end.is_none() {
            return Ok((None, after));
        }
        let whole = std::mem::take(self);
        Ok((Some(ended(whole.head.trim_ascii())), after.get(1..).unwrap_or_default()))
    }
}

fn head(line: &[u8]) -> &[u8] {
    line.get(..MAX_HEAD).unwrap_or(line)
}

pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

pub(super) fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 20 {
        return None;
    }
    word.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Of data, which nobody believes are longer.
pub(super) fn length(word: &[u8]) -> Option<u64> {
    number(word).filter(|len| *len <= 1 << 32)
}

/// Bytes that are skipped, and a line end behind them.
pub(super) fn skip(left: u64, rest: &[u8]) -> Result<(u64, &[u8]), NoLine> {
    let data = left.saturating_sub(2);
    if data > 0 {
        let taken = rest.len().min(usize::try_from(data).unwrap_or(usize::MAX));
        return Ok((left - taken as u64, rest.get(taken..).unwrap_or_default()));
    }
    let end = if left == 2 { b'\r' } else { b'\n' };
    match rest.split_first() {
        Some((byte, after)) if *byte == end => Ok((left - 1, after)),
        _ => Err(NoLine),
    }
}
