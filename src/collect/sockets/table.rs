//! `/proc/PID/net/tcp` and `tcp6`: a line for each socket, in hexadecimal, listening ones first.

use super::{
    State,
    seen::{Seen, address},
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Socket(Seen),
    /// The head of the table, or a socket that is not asked for.
    Other,
    Malformed,
}

/// Number, local and remote address, state, queues, timer, retransmits, user, probes, inode.
pub fn line(line: &[u8], v6: bool) -> Line {
    let text = str::from_utf8(line).unwrap_or_default();
    let mut fields = text.split_ascii_whitespace();
    match fields.next() {
        None | Some("sl") => return Line::Other,
        Some(_) => {}
    }
    let mut read = || {
        let (local, remote) = (side(fields.next()?, v6)?, side(fields.next()?, v6)?);
        let state = u8::try_from(hex(fields.next()?, 2)?).ok()?;
        let inode = fields.nth(5)?.parse().ok()?;
        Some(State::from_kernel(state).map(|state| Seen {
            v6,
            local,
            remote,
            state,
            inode,
            cookie: None,
            counters: None,
        }))
    };
    match read() {
        Some(Some(seen)) => Line::Socket(seen),
        Some(None) => Line::Other,
        None => Line::Malformed,
    }
}

/// Each word of an address is printed as the machine reads it; the port as people do.
fn side(text: &str, v6: bool) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::try_from(hex(port, 4)?).ok()?;
    if !v6 {
        return Some(address(Ipv4Addr::from(hex(ip, 8)?.to_ne_bytes()), port));
    }
    let mut bytes = [0; 16];
    let mut rest = ip;
    for word in bytes.chunks_exact_mut(4) {
        let (digits, after) = rest.split_at_checked(8)?;
        word.copy_from_slice(&hex(digits, 8)?.to_ne_bytes());
        rest = after;
    }
    rest.is_empty().then(|| address(Ipv6Addr::from(bytes), port))
}

fn hex(digits: &str, length: usize) -> Option<u32> {
    let right = digits.len() == length && !digits.starts_with('+');
    right.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: &str = "   2: 0100007F:1F90 0100007F:138C 08 00000000:00000003 00:00000000 00000000     0        0 4825253 1 \
        000000009f5fae3f 20 4 28 10 -1\n";

    fn socket(text: &str, v6: bool) -> Seen {
        match line(text.as_bytes(), v6) {
            Line::Socket(seen) => seen,
            other => panic!("{other:?}: {text}"),
        }
    }

    #[test]
    fn as_the_kernel_prints_them() {
        let expected = Seen {
            v6: false,
            local: "127.0.0.1:8080".parse().unwrap(),
            remote: "127.0.0.1:5004".parse().unwrap(),
            state: State::CloseWait,
            inode: 4825253,
            cookie: None,
            counters: None,
        };
        assert_eq!(socket(V4, false), expected);
        let lines = include_str!("../testdata/tcp6").lines().skip(1);
        let sides: Vec<_> = lines
            .map(|text| socket(text, true))
            .map(|seen| format!("{} {} {} {}", seen.local, seen.remote, seen.state.as_str(), seen.inode))
            .collect();
        let expected = [
            "[::]:8081 [::]:0 listen 4825245",
            "[::1]:5003 [::1]:8081 established 4825251",
            "[::1]:8081 [::1]:5003 established 0",
            "127.0.0.1:8081 127.0.0.1:5002 established 4825250",
        ];
        assert_eq!(sides, expected);
    }

    #[test]
    fn other_lines() {
        for text in [
            "",
            " \n",
            "  sl  local_address rem_address   st",
            &V4.replace(" 08 ", " 06 "),
            &V4.replace(" 08 ", " 03 "),
        ] {
            assert_eq!(line(text.as_bytes(), false), Line::Other, "{text}");
        }
        let (cut, _) = V4.split_once("4825253").unwrap();
        let wrong = [
            cut,
            "2:",
            &V4.replace("0100007F:1F90", "0100007F1F90"),
            &V4.replace("0100007F:1F90", "0100007:1F90"),
            &V4.replace("0100007F:1F90", "+100007F:1F90"),
            &V4.replace("0100007F:1F90", "0100007F:01F90"),
            &V4.replace(" 08 ", " 8 "),
            &V4.replace("4825253", "-1"),
            "\u{e4}\u{e4}\u{e4}",
        ];
        for text in wrong {
            assert_eq!(line(text.as_bytes(), false), Line::Malformed, "{text}");
        }
        assert_eq!(line(V4.as_bytes(), true), Line::Malformed);
        assert_eq!(line(b"\xff\xff", false), Line::Other);
        // Thirty-two bytes, but not of digits.
        let split = V4.replace("0100007F:1F90", &format!("{}:1F90", "\u{e4}".repeat(16)));
        assert_eq!(line(split.as_bytes(), true), Line::Malformed);
    }

    proptest! {
        #[test]
        fn total(bytes: Vec<u8>, likely in " [0-9]{1,3}:( [0-9A-F]{0,33}:[0-9A-F]{4}){2} [0-9A-F]{2}( [0-9:]{1,9}){0,7}", v6: bool) {
            line(&bytes, v6);
            line(likely.as_bytes(), v6);
        }
    }
}
