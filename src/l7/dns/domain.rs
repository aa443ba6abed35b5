//! What the label `domain` says: the name that was asked for, in small letters, without what would make a series of every
//! address or of every search path.
use super::name;
use crate::base::fqdn::Fqdn;

const PTR: u16 = 12;
/// Of a name without the dot at its end.
const MAX_LEN: usize = 253;
pub(super) const OTHER: &str = "~other";

/// As the Go agent writes it, but for names that no host is called by: anybody may ask for anything.
pub(super) fn domain(wire: &[u8], question_type: u16) -> Box<str> {
    // Of any name: questions about addresses of IPv6 and about services end here too.
    if question_type == PTR {
        return "IP.in-addr.arpa".into();
    }
    if name::is_root(wire) {
        return ".".into();
    }
    match name::text(wire).map(|text| Fqdn::new(&text)) {
        Some(Ok(name)) => normalised(name.as_str()),
        _ => OTHER.into(),
    }
}

fn normalised(name: &str) -> Box<str> {
    if let Some((first, rest)) = name.split_once('.')
        && first.starts_with("ip-")
        && rest.starts_with("ec2")
    {
        return format!("IP.{rest}").into();
    }
    match before_search_path(name) {
        // Longer than any name: the suffix stands for less than it takes.
        Some(begin) if begin.len() + SEARCH_PATH.len() > MAX_LEN => OTHER.into(),
        Some(begin) => format!("{begin}{SEARCH_PATH}").into(),
        None => name.into(),
    }
}

const SEARCH_PATH: &str = ".search_path_suffix";

/// Up to the first label in the middle that looks like the end of a name.
fn before_search_path(name: &str) -> Option<&str> {
    let (first, _) = name.split_once('.')?;
    let mut end = first.len();
    loop {
        let (_, rest) = name.split_at_checked(end + 1)?;
        let (label, _) = rest.split_once('.')?;
        end += 1 + label.len();
        if matches!(label, "com" | "net" | "org" | "io") {
            return name.get(..end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(name: &str) -> Vec<u8> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        let mut wire: Vec<u8> = labels
            .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
            .collect();
        wire.push(0);
        wire
    }

    #[test]
    fn as_the_reference_writes_them() {
        for (asked, is) in [
            ("example.com", "example.com"),
            ("", "."),
            ("localhost", "localhost"),
            ("example.com.cluster.local", "example.com.search_path_suffix"),
            ("a.io.b.net.c", "a.io.search_path_suffix"),
            ("com.example.local", "com.example.local"),
            ("example.org.com", "example.org.search_path_suffix"),
            ("com.com.com", "com.com.search_path_suffix"),
            ("ip-10-0-0-1.ec2.internal", "IP.ec2.internal"),
            ("ip-10-0-0-1.ec2.internal.com.local", "IP.ec2.internal.com.local"),
            ("ip-10-0-0-1.eu.ec2.internal", "ip-10-0-0-1.eu.ec2.internal"),
            ("ip-10-0-0-1", "ip-10-0-0-1"),
            ("_sip._tcp.example.com", "_sip._tcp.example.com"),
            ("a b.example.com", "~other"),
            ("10.0.0.1", "~other"),
            ("~other", "~other"),
        ] {
            assert_eq!(&*domain(&wire(asked), 1), is, "{asked}");
        }
        assert_eq!(&*domain(&wire("4.3.2.1.in-addr.arpa"), PTR), "IP.in-addr.arpa");
        assert_eq!(&*domain(&wire("1.0.ip6.arpa"), PTR), "IP.in-addr.arpa");
        assert_eq!(&*domain(b"\x0bexample.com\0", 1), "~other");
    }

    #[test]
    fn no_longer_than_a_name() {
        let begin = "abcdefg.".repeat(29) + "ab";
        for (end, fits) in [(".com.b", false), ("c.com.b", false), (".net.b", false)] {
            let name = format!("{begin}{end}");
            assert!(name.len() <= MAX_LEN);
            assert_eq!(&*domain(&wire(&name), 1) != OTHER, fits, "{name}");
        }
        let name = "abcdefg.".repeat(28) + "com.b";
        assert_eq!(domain(&wire(&name), 1).len(), name.len() - 1 + SEARCH_PATH.len() - 1);
    }
}
