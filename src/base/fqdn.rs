//! The name of a host.
#![deny(clippy::indexing_slicing, clippy::string_slice)]
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{fmt, sync::Arc};

/// Of a name without the dot at its end.
const MAX_LEN: usize = 253;
const MAX_LABEL_LEN: usize = 63;

/// A fully qualified domain name in the one way to write it: small letters, no dot at the end. Copies share the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Fqdn(Arc<str>);

/// Not what a host is called. Whoever answers questions about names may write what he likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a host")]
pub struct NotAName;

impl Fqdn {
    /// Labels of letters, digits, `-` and `_`: no spaces, control characters, escapes or non-ASCII bytes come this far.
    /// International names are written with `xn--`. What ends in a number would be taken for an address where it is shown.
    pub fn new(name: &[u8]) -> Result<Self, NotAName> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        let mut labels = name.rsplit(|byte| *byte == b'.').peekable();
        let is_number = labels.peek().is_some_and(|last| last.iter().all(u8::is_ascii_digit));
        if name.len() > MAX_LEN || is_number || !labels.all(is_label) {
            return Err(NotAName);
        }
        let text = std::str::from_utf8(name).map_err(|_not_ascii| NotAName)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(label: &[u8]) -> bool {
    let written = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL_LEN).contains(&label.len()) && label.iter().all(written)
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Fqdn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(name.as_bytes()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(bytes: impl AsRef<[u8]>) -> Option<String> {
        Fqdn::new(bytes.as_ref()).ok().map(|name| name.to_string())
    }

    #[test]
    fn one_way_to_write_a_name() {
        for (written, is) in [
            ("example.com", "example.com"),
            ("Example.COM.", "example.com"),
            ("localhost", "localhost"),
            ("_sip._tcp.example.com", "_sip._tcp.example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
        ] {
            assert_eq!(name(written).as_deref(), Some(is), "{written}");
        }
    }

    #[test]
    fn what_no_host_is_called() {
        let long = format!("{}.com", "a".repeat(64));
        let longer = "abcdefg.".repeat(32);
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.b..",
            "a b",
            "a\n.b",
            "a\0.b",
            "a\".b",
            r"a\046b",
            "a:80",
            "*.a",
            "~other",
            "10.0.0.1",
            "a.1",
            "::1",
            "bücher.example",
            &long,
            &longer,
        ] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
        assert_eq!(name(b"a\xff.b"), None);
        let fits = "abcdefg.".repeat(31) + "abcde";
        assert_eq!(fits.len(), 253);
        assert!(name(&fits).is_some() && name(fits.clone() + ".").is_some() && name(fits + "f").is_none());
        assert!(name("a".repeat(63)).is_some());
    }

    #[test]
    fn a_recording_is_not_trusted() {
        assert_eq!(serde_json::from_str::<Fqdn>("\"A.b.\"").unwrap().as_str(), "a.b");
        assert!(serde_json::from_str::<Fqdn>("\"a b\"").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_name_or_refused(bytes: Vec<u8>) {
            if let Ok(name) = Fqdn::new(&bytes) {
                prop_assert_eq!(Fqdn::new(name.as_str().as_bytes()), Ok(name));
            }
        }

        #[test]
        fn a_name_stays_what_it_is(text in "([A-Za-z0-9_-]{1,20}\\.){0,5}[A-Za-z0-9_-]{0,20}[a-z]\\.?") {
            let name = Fqdn::new(text.as_bytes()).unwrap();
            prop_assert_eq!(name.as_str(), text.trim_end_matches('.').to_ascii_lowercase());
            prop_assert_eq!(Fqdn::new(name.as_str().as_bytes()), Ok(name));
        }
    }
}
