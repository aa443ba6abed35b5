//! What a request asks for, without its literals.
use super::head::RequestLine;
use crate::l7::dialogue::Asked;

const ELLIPSIS: &str = "...";

pub(super) fn asked(line: &RequestLine<'_>, wants_text: bool) -> Asked {
    Asked {
        verb: String::from_utf8_lossy(line.method).into(),
        text: if wants_text { text(line).into() } else { Box::default() },
    }
}

fn text(line: &RequestLine<'_>) -> String {
    let target = line.target;
    let query = target.iter().position(|byte| *byte == b'?');
    let path = query.and_then(|at| target.get(..at)).unwrap_or(target);
    let mut text = String::new();
    let (scheme, user, rest) = split_user(path);
    push(&mut text, scheme);
    text.push_str(if user { "?@" } else { "" });
    push(&mut text, rest);
    text.push_str(if query.is_some() { "?" } else { "" });
    if text.len() > Asked::MAX_TEXT || line.cut && query.is_none() {
        let limit = text.len().min(Asked::MAX_TEXT - ELLIPSIS.len());
        text.truncate(text.floor_char_boundary(limit));
        text.push_str(ELLIPSIS);
    }
    text
}

/// A URI may have a password before its host.
fn split_user(path: &[u8]) -> (&[u8], bool, &[u8]) {
    let whole = (&[][..], false, path);
    if path.starts_with(b"/") {
        return whole;
    }
    let authority = path.windows(3).position(|bytes| bytes == b"://").map_or(0, |at| at + 3);
    let Some((scheme, rest)) = path.split_at_checked(authority) else {
        return whole;
    };
    let host = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
    let at = host.iter().rposition(|byte| *byte == b'@');
    match at.and_then(|at| rest.get(at + 1..)) {
        Some(rest) => (scheme, true, rest),
        None => whole,
    }
}

/// No more than decides whether it is too long.
fn push(text: &mut String, bytes: &[u8]) {
    let bytes = bytes.get(..=Asked::MAX_TEXT).unwrap_or(bytes);
    let replaced = |char: char| {
        if char.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            char
        }
    };
    text.extend(String::from_utf8_lossy(bytes).chars().map(replaced));
}
