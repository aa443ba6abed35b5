//! Where in a YAML text a key's value stands. The parser keeps positions to itself except in errors, so this provokes
//! one at the right place.
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// `None` if the key is not there. The text must be one that parses.
pub(super) fn locate(yaml: &str, key: &str) -> Option<Position> {
    let path: Vec<&str> = key.split('.').collect();
    let err = Walk(&path)
        .deserialize(serde_yaml_ng::Deserializer::from_str(yaml))
        .err()?;
    let location = err.location()?;
    Some(Position {
        line: location.line(),
        column: location.column(),
    })
}

/// Follows the path and fails at its end; gets through where the path does.
struct Walk<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.0 {
                [last] if key == *last => return map.next_value_seed(Here),
                [first, rest @ ..] if key == *first => return map.next_value_seed(Walk(rest)),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

struct Here;

impl<'de> DeserializeSeed<'de> for Here {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Takes nothing, so that every value is an error.
impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_in_both_styles() {
        let yaml = "http:\n  listen: a\nkernel: {batch: 1, news: 2}\ngc:\n  other: 1\n  interval:\n    - 1\n";
        let at = |key| locate(yaml, key).map(|at| (at.line, at.column));
        assert_eq!(at("http.listen"), Some((2, 11)));
        assert_eq!(at("kernel.news"), Some((3, 26)));
        assert_eq!(at("gc.interval"), Some((7, 5)));
        assert_eq!(at("gc.other"), Some((5, 10)));
        assert_eq!(at("gc.batch"), None);
        assert_eq!(at("log.level"), None);
        assert_eq!(locate("log:\n", "log.level"), None);
    }
}
