//! How Cilium writes connections and backends into its tables. Numbers are in the order of the network or of this machine, as
//! each line says.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | connections (`ct4`, `ct6`) | service address, client address, client port and service port (network), protocol, kind | 56 bytes: at 8 the backend's number (machine, 64 bits) |
//! | backends (`lb4`, `lb6`) | number (machine, 32 bits) | address, port (network), and what differs from release to release |
#![deny(clippy::indexing_slicing, clippy::string_slice)]
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Of a key of connections: two addresses, two ports, two bytes.
pub(super) const V4_KEY: usize = 14;
pub(super) const V6_KEY: usize = 38;
/// Of an entry of connections.
pub(super) const ENTRY: usize = 56;
/// Of a key of backends.
pub(super) const NUMBER: usize = 4;

const TCP: u8 = 6;
/// Entries to and from backends are in the same table: in those the place of the number has something else.
const OF_A_SERVICE: u8 = 4;

pub(super) fn v4_key(client: SocketAddrV4, service: SocketAddrV4) -> [u8; V4_KEY] {
    let ends = [client, service].map(|end| (end.ip().octets(), end.port()));
    key(ends)
}

pub(super) fn v6_key(client: SocketAddrV6, service: SocketAddrV6) -> [u8; V6_KEY] {
    let ends = [client, service].map(|end| (end.ip().octets(), end.port()));
    key(ends)
}

/// The addresses are those of an answer, the ports those of a question.
fn key<const A: usize, const K: usize>([client, service]: [([u8; A], u16); 2]) -> [u8; K] {
    const { assert!(K == 2 * A + 6) };
    let addresses = service.0.into_iter().chain(client.0);
    let ports = client.1.to_be_bytes().into_iter().chain(service.1.to_be_bytes());
    let mut key = [0; K];
    let bytes = addresses.chain(ports).chain([TCP, OF_A_SERVICE]);
    key.iter_mut().zip(bytes).for_each(|(cell, byte)| *cell = byte);
    key
}

/// The key of the backend that an entry names. `None`: it names none.
pub(super) fn number(entry: &[u8; ENTRY]) -> Option<[u8; NUMBER]> {
    let (number, _) = entry.get(8..)?.split_first_chunk()?;
    let number = u32::try_from(u64::from_ne_bytes(*number)).ok()?;
    (number != 0).then(|| number.to_ne_bytes())
}

/// `None`: nobody could connect to that.
pub(super) fn backend<const A: usize>(value: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; A]>,
{
    let (ip, rest) = value.split_first_chunk::<A>()?;
    let (port, _) = rest.split_first_chunk()?;
    let (ip, port) = (IpAddr::from(*ip).to_canonical(), u16::from_be_bytes(*port));
    (port != 0 && !ip.is_unspecified()).then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: u64) -> [u8; ENTRY] {
        let mut entry = [0xee; ENTRY];
        entry[8..16].copy_from_slice(&number.to_ne_bytes());
        entry
    }

    #[test]
    fn a_connection() {
        let key = v4_key("10.0.0.5:40000".parse().unwrap(), "10.96.0.10:53".parse().unwrap());
        assert_eq!(key, [10, 96, 0, 10, 10, 0, 0, 5, 0x9c, 0x40, 0, 53, 6, 4]);
        let key = v6_key("[fd00::5]:40000".parse().unwrap(), "[fd00:96::a]:443".parse().unwrap());
        let service = [0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a];
        let client = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        let rest = [0x9c, 0x40, 0x01, 0xbb, 6, 4];
        assert_eq!(key[..], [&service[..], &client, &rest].concat());
    }

    #[test]
    fn a_number() {
        assert_eq!(number(&entry(7)), Some(7u32.to_ne_bytes()));
        assert_eq!(number(&entry(0)), None);
        // An older release counts bytes there, for what is no service.
        assert_eq!(number(&entry(1 << 32)), None);
        assert_eq!(number(&entry(u64::from(u32::MAX))), Some([0xff; 4]));
    }

    #[test]
    fn a_backend() {
        // As the second and the third release write it.
        for rest in [&[6, 0][..], &[6, 0, 1, 0, 9, 0]] {
            let value = [&[10, 99, 2, 2, 0x1f, 0x90], rest].concat();
            assert_eq!(backend::<4>(&value), Some("10.99.2.2:8080".parse().unwrap()));
            let address = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
            let value = [&address[..], &[0x1f, 0x90], rest].concat();
            assert_eq!(backend::<16>(&value), Some("[fd00::7]:8080".parse().unwrap()));
        }
        assert_eq!(backend::<4>(&[10, 99, 2, 2, 0, 0, 6, 0]), None, "no port");
        assert_eq!(backend::<4>(&[0, 0, 0, 0, 0x1f, 0x90, 6, 0]), None, "no address");
        assert_eq!(backend::<16>(&[0; 24]), None);
    }

    proptest! {
        #[test]
        fn total(value: Vec<u8>, entry in prop::collection::vec(any::<u8>(), ENTRY)) {
            for told in [backend::<4>(&value), backend::<16>(&value)].into_iter().flatten() {
                prop_assert!(told.port() != 0 && !told.ip().is_unspecified());
            }
            let entry: [u8; ENTRY] = entry.try_into().unwrap();
            prop_assert_ne!(number(&entry), Some([0; NUMBER]));
        }

        /// Written as the table of backends has it, and read from there again.
        #[test]
        fn what_is_written_is_read(ip: [u8; 4], port: u16, rest: [u8; 6]) {
            let value = [&ip[..], &port.to_be_bytes(), &rest].concat();
            let written = SocketAddr::from((ip, port));
            let sound = port != 0 && ip != [0; 4];
            prop_assert_eq!(backend::<4>(&value), sound.then_some(written));
        }

        /// No two connections have one key, and each end can be told from it.
        #[test]
        fn a_key_says_both_ends(client: [u8; 16], service: [u8; 16], ports: [u16; 2]) {
            let end = |ip: [u8; 16], port| SocketAddrV6::new(ip.into(), port, 0, 0);
            let key = v6_key(end(client, ports[0]), end(service, ports[1]));
            prop_assert_eq!(&key[..16], &service);
            prop_assert_eq!(&key[16..32], &client);
            prop_assert_eq!([&key[32..34], &key[34..36]], [&ports[0].to_be_bytes(), &ports[1].to_be_bytes()]);
        }
    }
}
