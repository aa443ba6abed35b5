//! The addresses of a network namespace, read from outside through a process in it.
//!
//! IPv4: the local routes, of which the kernel keeps one for each address. IPv6: the addresses themselves. Both are as
//! long as a container's owner likes, hence the limits. Unlike the Go agent, which enters the namespace and asks by
//! netlink, this cannot leave out the IPv4 addresses of interfaces without a carrier; these answer, but only locally.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use super::{CollectError, files::Dir};
use crate::container::destination::is_link_local;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// Some 100 000 routes, each of which stands there twice.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Far longer than any line of either file.
const MAX_LINE_BYTES: u64 = 1024;

/// Of an address of `if_inet6`: another host has it (`IFA_F_DADFAILED`), or that is still being found out
/// (`IFA_F_TENTATIVE`, which is also how addresses stay while the cable is out), unless it may be used meanwhile
/// (`IFA_F_OPTIMISTIC`).
const DAD_FAILED: u8 = 0x08;
const TENTATIVE: u8 = 0x40;
const OPTIMISTIC: u8 = 0x04;

/// The addresses that a listen on all addresses is reached at, in order, loopback included, without link-local and
/// multicast ones.
pub fn addresses(proc_root: &Path, pid: u32) -> Result<Vec<IpAddr>, CollectError> {
    let dir = Dir::open(proc_root.join(pid.to_string()).join("net"))?;
    let mut found = BTreeSet::new();
    let mut ipv4 = FibTrie::default();
    lines(&dir, "fib_trie", |line| found.extend(ipv4.line(line).map(IpAddr::V4)))?;
    let ipv6 = lines(&dir, "if_inet6", |line| found.extend(if_inet6(line).map(IpAddr::V6)));
    match ipv6 {
        // A kernel without IPv6.
        Err(error) if error.is_gone() => {}
        other => other?,
    }
    Ok(found
        .into_iter()
        .filter(|&ip| !is_link_local(ip) && !ip.is_multicast())
        .collect())
}

fn lines(dir: &Dir, name: &str, mut each: impl FnMut(&[u8])) -> Result<(), CollectError> {
    let path = || dir.path().join(name);
    let mut reader = BufReader::new(dir.open_file(name)?);
    let (mut line, mut bytes) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
        match read.map_err(|source| CollectError::io("read", &path(), source))? {
            0 => return Ok(()),
            read => bytes += read,
        }
        if bytes > MAX_BYTES {
            return Err(CollectError::TooLarge {
                path: path(),
                limit: MAX_BYTES,
            });
        }
        each(line.trim_ascii());
    }
}

/// The kernel prints a prefix on one line and its routes below, each with length, scope and type. An address of this
/// host is a local route of full length; a shorter one is a whole network that the host answers for.
#[derive(Default)]
struct FibTrie {
    prefix: Option<Ipv4Addr>,
}

impl FibTrie {
    fn line(&mut self, line: &[u8]) -> Option<Ipv4Addr> {
        if let Some(prefix) = line.strip_prefix(b"|-- ") {
            self.prefix = std::str::from_utf8(prefix).ok().and_then(|text| text.parse().ok());
            return None;
        }
        (line == b"/32 host LOCAL").then_some(self.prefix).flatten()
    }
}

/// Address, interface number, prefix length, scope, flags (all hexadecimal), interface name.
fn if_inet6(line: &[u8]) -> Option<Ipv6Addr> {
    let mut fields = line.split(|&b| b == b' ').filter(|field| !field.is_empty());
    let address = hex(fields.next().filter(|field| field.len() == 32)?)?;
    // Flags beyond the first byte are printed too, but concern only how long an address lives.
    let flags = u8::try_from(hex(fields.nth(3)?)? & 0xff).ok()?;
    fields.next()?;
    let unusable = flags & DAD_FAILED != 0 || flags & (TENTATIVE | OPTIMISTIC) == TENTATIVE;
    (!unusable).then(|| Ipv6Addr::from_bits(address))
}

fn hex(digits: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{fs, path::PathBuf};

    fn fake(fib_trie: &[u8], if_inet6: Option<&[u8]>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let net: PathBuf = root.path().join("7/net");
        fs::create_dir_all(&net).unwrap();
        fs::write(net.join("fib_trie"), fib_trie).unwrap();
        if let Some(bytes) = if_inet6 {
            fs::write(net.join("if_inet6"), bytes).unwrap();
        }
        root
    }

    fn read(fib_trie: &[u8], if_inet6: Option<&[u8]>) -> Result<Vec<String>, CollectError> {
        let root = fake(fib_trie, if_inet6);
        Ok(addresses(root.path(), 7)?.iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn as_the_kernel_prints_them() {
        let got = read(
            include_bytes!("testdata/fib_trie"),
            Some(include_bytes!("testdata/if_inet6")),
        )
        .unwrap();
        // 10.55.0.1 and 10.66.0.1 are on interfaces without a carrier, 10.88.0.0/16 is a local network.
        let ipv4 = [
            "10.55.0.1",
            "10.66.0.1",
            "10.77.0.1",
            "10.77.1.5",
            "127.0.0.1",
            "192.168.7.9",
        ];
        assert_eq!(got, [&ipv4[..], &["::1", "2001:db8:77::1", "fd77::2"]].concat());
    }

    #[test]
    fn no_ipv6() {
        let got = read(b"Local:\n     |-- 127.0.0.1\n        /32 host LOCAL\n", None).unwrap();
        assert_eq!(got, ["127.0.0.1"]);
    }

    #[test]
    fn no_process() {
        assert!(addresses(fake(b"", None).path(), 8).unwrap_err().is_gone());
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("7/net")).unwrap();
        assert!(
            addresses(root.path(), 7).unwrap_err().is_gone(),
            "no IPv4 table is no answer"
        );
    }

    #[test]
    fn only_addresses() {
        let trie =
            b"|-- 10.0.0.0\n/8 host LOCAL\n/32 link BROADCAST\n|-- 10.0.0.7\n/32 universe UNICAST\n/32 host LOCAL\n\
            |-- nonsense\n/32 host LOCAL\n|-- 169.254.3.4\n/32 host LOCAL\n|-- \xff\n/32 host LOCAL\n";
        assert_eq!(read(trie, Some(b"")).unwrap(), ["10.0.0.7"]);
    }

    #[test]
    fn addresses_in_use() {
        let line = |flags| format!("fd000000000000000000000000000001 04 40 00 {flags}     eth0\n");
        for (flags, usable) in [
            ("80", true),
            ("00", true),
            ("20", true),
            ("c0", false),
            ("88", false),
            ("c4", true),
            ("180", true),
            ("48", false),
        ] {
            assert_eq!(if_inet6(line(flags).trim().as_bytes()).is_some(), usable, "{flags}");
        }
        for bad in [
            "fd00 04 40 00 80 eth0",
            "fd000000000000000000000000000001 04 40 00 80",
            "+d000000000000000000000000000001 04 40 00 80 e",
            "",
        ] {
            assert_eq!(if_inet6(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn too_large() {
        let root = fake(b"", Some(b""));
        let file = fs::File::create(root.path().join("7/net/fib_trie")).unwrap();
        file.set_len(MAX_BYTES as u64 + 1).unwrap();
        assert!(matches!(addresses(root.path(), 7), Err(CollectError::TooLarge { .. })));
    }

    #[test]
    fn of_this_process() {
        let got = addresses(Path::new("/proc"), std::process::id()).unwrap();
        assert!(got.is_sorted());
        assert!(got.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{got:?}");
    }

    proptest! {
        #[test]
        fn total(
            any: Vec<Vec<u8>>,
            likely in "(\\|-- [0-9.]{0,9}|/32 host LOCAL|[0-9a-f]{32} 0 0 0 [0-9a-f]{2} e|\n){0,20}",
        ) {
            let mut trie = FibTrie::default();
            for line in any.iter().map(Vec::as_slice).chain(likely.as_bytes().split(|&b| b == b'\n')) {
                trie.line(line);
                if_inet6(line);
            }
        }
    }
}
