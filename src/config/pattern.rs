use regex::{Regex, RegexBuilder};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::{fmt, str::FromStr};

/// A regular expression that may match anywhere in a text. Its search takes linear time, whatever it is.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Of one pattern: room for some thousand characters, and for a slip of the finger like `.{1000000}` not.
const MAX_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no regular expression: {what}")]
pub struct PatternError {
    pub pattern: String,
    pub what: String,
}

impl Pattern {
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(pattern: &str) -> Result<Self, PatternError> {
        let built = RegexBuilder::new(pattern)
            .size_limit(MAX_BYTES)
            .dfa_size_limit(MAX_BYTES)
            .build();
        built.map(Self).map_err(|err| {
            let text = err.to_string();
            // A syntax error is drawn over several lines, and the last says it.
            let last = text.lines().last().unwrap_or_default();
            PatternError {
                pattern: pattern.to_owned(),
                what: last.strip_prefix("error: ").unwrap_or(last).to_owned(),
            }
        })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// Fails while the text is read, so that the error is where the text stands.
struct Text;

impl Visitor<'_> for Text {
    type Value = Pattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a regular expression")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Pattern, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (pattern, what) in [
            ("a(b", "unclosed group"),
            ("*", "repetition operator missing expression"),
            (
                "(?:.{1000}){1000}",
                "Compiled regex exceeds size limit of 1048576 bytes.",
            ),
        ] {
            let err = pattern.parse::<Pattern>().unwrap_err();
            assert_eq!((err.pattern.as_str(), err.what.as_str()), (pattern, what));
            assert!(!err.to_string().contains('\n'));
        }
    }

    #[test]
    fn it_matches_anywhere_and_is_read_as_it_is_written() {
        let pattern: Pattern = r"^/k8s/(?i:KUBE)-\w+/".parse().unwrap();
        assert!(pattern.is_match("/k8s/kube-system/dns-x/dns"));
        assert!(!pattern.is_match("/docker/k8s/kube-system/"));
        let json = serde_json::to_string(&pattern).unwrap();
        assert_eq!(serde_json::from_str::<Pattern>(&json).unwrap(), pattern);
    }
}
