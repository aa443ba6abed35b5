//! SQL without its literals.
//!
//! | what | becomes |
//! | --- | --- |
//! | `'…'`, `E'…'`, `U&'…'`, `B'…'`, `X'…'`, `N'…'`, `$tag$…$tag$`, a number | `?` |
//! | a comment, white space | a space, where something follows |
//! | a word, `"a name"`, `$1`, an operator | itself |
//! | what has no end | `?`, and nothing after it |
//!
//! Where a string ends may depend on what is not known here, a setting or an encoding: `\'` is its end or is not. Then
//! everything from its begin on is one `?`.
use crate::l7::dialogue::Asked;

const DOTS: &str = "...";
/// Bytes of a verb.
const MAX_VERB: usize = 32;

/// `cut`: there is more of it.
pub fn obfuscate(sql: &[u8], cut: bool) -> Asked {
    let mut lexer = Lexer {
        rest: sql,
        out: Vec::with_capacity(sql.len().min(Asked::MAX_TEXT)),
        verb: None,
        spaced: false,
        open: false,
    };
    while lexer.token() {}
    let verb = lexer.verb.unwrap_or_default();
    Asked {
        verb: verb.into(),
        text: self::cut(String::from_utf8_lossy(&lexer.out).into_owned(), cut || lexer.open).into(),
    }
}

/// To what is told of a text. `is_cut`: it is the begin of a longer one.
pub(super) fn cut(mut text: String, is_cut: bool) -> String {
    if !is_cut && text.len() <= Asked::MAX_TEXT {
        return text;
    }
    let mut len = text.len().min(Asked::MAX_TEXT - DOTS.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.truncate(len);
    text.push_str(DOTS);
    text
}

struct Lexer<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    verb: Option<String>,
    /// Something without meaning came before.
    spaced: bool,
    /// What follows cannot be told from a literal.
    open: bool,
}

/// Where a literal or a comment ends: so many bytes from its begin.
enum End {
    At(usize),
    /// Nowhere, or nobody knows where.
    Unknown,
}

impl<'a> Lexer<'a> {
    /// `false`: there are no more.
    fn token(&mut self) -> bool {
        let Some((first, after)) = self.rest.split_first() else {
            return false;
        };
        let second = after.first().copied().unwrap_or_default();
        match first {
            _ if first.is_ascii_whitespace() || first.is_ascii_control() => self.skip(1),
            b'-' if second == b'-' => {
                let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
                self.skip(self.rest.iter().position(is_end).unwrap_or(self.rest.len()));
            }
            b'/' if second == b'*' => self.skip(comment_len(self.rest)),
            b'\'' => self.literal(quoted(after, b'\'', Escapes::Maybe), 1),
            b'"' => match quoted(after, b'"', Escapes::Never) {
                End::At(len) => self.keep(1 + len),
                End::Unknown => self.literal(End::Unknown, 1),
            },
            b'$' if second.is_ascii_digit() => self.keep(1 + prefix_len(after, u8::is_ascii_digit)),
            b'$' => self.dollar(after),
            b'.' if second.is_ascii_digit() => self.literal(End::At(number_len(self.rest)), 0),
            _ if first.is_ascii_digit() => self.literal(End::At(number_len(self.rest)), 0),
            _ if is_word(first) => self.word(),
            _ => self.keep(1),
        }
        true
    }

    fn word(&mut self) {
        let len = prefix_len(self.rest, |byte| {
            is_word(byte) || byte.is_ascii_digit() || *byte == b'$'
        });
        let (word, after) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        match (word, after) {
            (b"e" | b"E", [b'\'', string @ ..]) => return self.literal(quoted(string, b'\'', Escapes::Always), 2),
            (b"b" | b"B" | b"x" | b"X" | b"n" | b"N", [b'\'', string @ ..]) => {
                return self.literal(quoted(string, b'\'', Escapes::Maybe), 2);
            }
            (b"u" | b"U", [b'&', b'\'', string @ ..]) => {
                return self.literal(quoted(string, b'\'', Escapes::Maybe), 3);
            }
            _ => {}
        }
        self.verb.get_or_insert_with(|| {
            let verb = word.get(..MAX_VERB).unwrap_or(word);
            String::from_utf8_lossy(verb).to_ascii_uppercase()
        });
        self.keep(len);
    }

    fn dollar(&mut self, after: &[u8]) {
        let tag_len = prefix_len(after, |byte| is_word(byte) || byte.is_ascii_digit());
        let Some((tag, [b'$', body @ ..])) = after.split_at_checked(tag_len) else {
            // It may be the begin of a tag.
            return if tag_len == after.len() {
                self.literal(End::Unknown, 1)
            } else {
                self.keep(1)
            };
        };
        let mut end = 0;
        // Every `$` begins what may be the tag, so each is looked at once.
        while let Some(rest) = body.get(end..) {
            let Some(at) = rest.iter().position(|byte| *byte == b'$') else {
                break;
            };
            end += at + 1;
            let ends = |rest: &[u8]| rest.strip_prefix(tag).is_some_and(|rest| rest.first() == Some(&b'$'));
            if body.get(end..).is_some_and(ends) {
                return self.literal(End::At(end + tag_len + 1), 2 + tag_len);
            }
        }
        self.literal(End::Unknown, 1);
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
        self.spaced = true;
    }

    fn space(&mut self) {
        if std::mem::take(&mut self.spaced) && !self.out.is_empty() {
            self.out.push(b' ');
        }
    }

    fn keep(&mut self, len: usize) {
        self.space();
        let (token, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        let plain = |byte: &u8| if byte.is_ascii_control() { b' ' } else { *byte };
        self.out.extend(token.iter().map(plain));
        self.rest = rest;
    }

    /// `before`: bytes of it before those that `end` counts.
    fn literal(&mut self, end: End, before: usize) {
        self.space();
        self.out.push(b'?');
        match end {
            End::At(len) => self.rest = self.rest.get(before + len..).unwrap_or_default(),
            End::Unknown => {
                self.rest = &[];
                self.open = true;
            }
        }
    }
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphabetic() || *byte == b'_' || !byte.is_ascii()
}

fn prefix_len(bytes: &[u8], mut is_of_it: impl FnMut(&u8) -> bool) -> usize {
    bytes.iter().position(|byte| !is_of_it(byte)).unwrap_or(bytes.len())
}

/// Also of what is none, for a word that begins with a digit.
fn number_len(bytes: &[u8]) -> usize {
    let mut before = 0;
    prefix_len(bytes, |byte| {
        let is_exponent = matches!(byte, b'+' | b'-') && matches!(before, b'e' | b'E');
        before = *byte;
        is_exponent || is_word(byte) || byte.is_ascii_digit() || *byte == b'.'
    })
}

/// They are nested.
fn comment_len(bytes: &[u8]) -> usize {
    let mut depth = 0u32;
    let mut at = 0;
    while let Some(pair) = bytes.get(at..).and_then(<[u8]>::first_chunk::<2>) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Whether a backslash keeps a quote from ending the string.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Never,
    /// By the session's settings.
    Maybe,
    Always,
}

/// Where what follows on its first quote ends, with the last one.
fn quoted(bytes: &[u8], quote: u8, escapes: Escapes) -> End {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        if *byte == quote {
            if next != Some(&quote) {
                return End::At(at + 1);
            }
            at += 2;
        } else if *byte == b'\\' && escapes == Escapes::Always {
            // In some encodings it is the second half of a character.
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            if before.is_some_and(|before| !before.is_ascii()) {
                at += prefix_len(bytes.get(at..).unwrap_or_default(), |byte| *byte == b'\\');
                if bytes.get(at) == Some(&quote) {
                    return End::Unknown;
                }
            } else {
                at += 2;
            }
        } else if *byte == b'\\' && escapes == Escapes::Maybe && next == Some(&quote) {
            return End::Unknown;
        } else {
            at += 1;
        }
    }
    End::Unknown
}
