//! First lines and fields.
use crate::l7::http::End;

/// The longest that is known of has 17.
const MAX_METHOD: usize = 24;
const METHODS: [&[u8]; 9] = [
    b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"CONNECT", b"OPTIONS", b"PATCH", b"TRACE",
];
/// What a client of HTTP/2 begins with.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";
const VERSION: &[u8] = b"HTTP/1.";
const STATUS_LEN: usize = b"HTTP/1.1 200".len();

/// Whether a message may begin like that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    No,
    Open,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    /// The end of the target is missing.
    pub(super) cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No message begins like that.
    Nonsense,
    End(End),
}

impl<'a> RequestLine<'a> {
    /// `sure`: a request is expected there. Otherwise it has to look like one of the usual.
    pub(super) fn begin(bytes: &'a [u8], sure: bool) -> Begin {
        let short = bytes.get(..MAX_METHOD + 2).unwrap_or(bytes);
        let Some((method, target)) = split_once(short, b' ') else {
            let fits = short.len() <= MAX_METHOD && short.iter().all(|byte| is_of_method(*byte));
            let usual = METHODS.iter().any(|method| method.starts_with(short)) || HTTP2.starts_with(short);
            return if fits && (sure || usual) {
                Begin::Open
            } else {
                Begin::No
            };
        };
        if !is_method(method) {
            return Begin::No;
        }
        let usual = METHODS.contains(&method) || method == b"PRI";
        match target.first() {
            None if sure || usual => Begin::Open,
            Some(b'/' | b'*') if sure || usual => Begin::Yes,
            Some(byte) if (sure || method == b"CONNECT") && is_of_authority(*byte) => Begin::Yes,
            Some(b'h') if usual => Begin::Yes,
            _ if !sure && first_line(bytes).is_some_and(|line| Self::parse(line).is_ok()) => Begin::Yes,
            _ => Begin::No,
        }
    }

    /// Without its end.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Fault> {
        if line == HTTP2 {
            return Err(Fault::End(End::Unsupported));
        }
        let (method, rest) = split_once(line, b' ').ok_or(Fault::Nonsense)?;
        let space = rest.iter().rposition(|byte| *byte == b' ').ok_or(Fault::Nonsense)?;
        let (target, version) = rest.split_at_checked(space).ok_or(Fault::Nonsense)?;
        let minor = version
            .strip_prefix(b" ")
            .and_then(|version| version.strip_prefix(VERSION));
        let right = is_method(method) && is_target(method, target) && matches!(minor, Some([b'0'..=b'9']));
        let line = Self {
            method,
            target,
            cut: false,
        };
        right.then_some(line).ok_or(Fault::Nonsense)
    }

    /// Of which the end is missing. Only the method is whole, and it has to be one of the usual.
    pub(super) fn parse_cut(line: &'a [u8]) -> Option<Self> {
        let (method, rest) = split_once(line, b' ')?;
        let usual = METHODS.contains(&method) && Self::begin(line, false) == Begin::Yes;
        let whole = split_once(rest, b' ').map(|(target, _)| target);
        usual.then_some(Self {
            method,
            target: whole.unwrap_or(rest),
            cut: whole.is_none(),
        })
    }
}

pub(super) fn begin_of_status(bytes: &[u8]) -> Begin {
    if bytes.starts_with(VERSION) {
        Begin::Yes
    } else if VERSION.starts_with(bytes) {
        Begin::Open
    } else {
        Begin::No
    }
}

/// Of a line, be it whole or not.
pub(super) fn status(line: &[u8]) -> Option<u16> {
    let (status, reason) = line.split_at_checked(STATUS_LEN)?;
    let rest = status.strip_prefix(VERSION)?;
    let &[
        b'0'..=b'9',
        b' ',
        hundreds @ b'1'..=b'9',
        tens @ b'0'..=b'9',
        ones @ b'0'..=b'9',
    ] = rest
    else {
        return None;
    };
    let digit = |digit: u8| u16::from(digit - b'0');
    let code = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    matches!(reason.first(), None | Some(b' ' | b'\t' | b'\r')).then_some(code)
}

fn is_method(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() <= MAX_METHOD && bytes.iter().all(|byte| is_of_method(*byte))
}

fn is_of_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-' || byte == b'_'
}

fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'['
}

fn is_target(method: &[u8], target: &[u8]) -> bool {
    let has_scheme = || target.windows(3).take(MAX_METHOD).any(|bytes| bytes == b"://");
    match target.first() {
        Some(b'/') => true,
        Some(b'*') => target.len() == 1,
        Some(byte) => is_of_authority(*byte) && (method == b"CONNECT" || has_scheme()),
        None => false,
    }
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    let (before, after) = bytes.split_at_checked(at)?;
    Some((before, after.get(1..)?))
}

/// Up to its LF, and what follows.
pub(super) fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    split_once(bytes, b'\n')
}

fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    split_line(bytes).map(|(line, _)| without_cr(line))
}

pub(super) fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Length {
    #[default]
    Unsaid,
    Said(u64),
    Nonsense,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    None,
    /// The last of them.
    Chunked,
    Other,
}

/// What framing needs of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields {
    pub(super) length: Length,
    pub(super) encoding: Encoding,
    pub(super) upgrades: bool,
    pub(super) expects: bool,
}

impl Fields {
    pub(super) fn add(&mut self, line: &[u8]) {
        let Some((name, value)) = split_once(line, b':') else {
            return;
        };
        let value = value.trim_ascii();
        let name = name.trim_ascii_end();
        // Nearly all of them are others.
        if name.eq_ignore_ascii_case(b"content-length") {
            for item in value.split(|byte| *byte == b',') {
                self.add_length(item.trim_ascii());
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value
                .rsplit(|byte| *byte == b',')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            if last.eq_ignore_ascii_case(b"chunked") {
                self.encoding = Encoding::Chunked;
            } else if !last.eq_ignore_ascii_case(b"identity") {
                self.encoding = Encoding::Other;
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrades = true;
        } else if name.eq_ignore_ascii_case(b"expect") {
            self.expects |= value.eq_ignore_ascii_case(b"100-continue");
        }
    }

    fn add_length(&mut self, digits: &[u8]) {
        let right = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let length = digits.iter().filter(|_| right).try_fold(0u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit.saturating_sub(b'0')))
        });
        self.length = match (self.length, length.filter(|_| right)) {
            (Length::Unsaid, Some(length)) => Length::Said(length),
            (Length::Said(before), Some(length)) if before == length => self.length,
            _ => Length::Nonsense,
        };
    }
}
