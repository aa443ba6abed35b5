//! Which destinations the programs need not tell of one by one.
use super::Kernel;
use std::net::{IpAddr, SocketAddr};
use tarsier_common::{AF_INET, AF_INET6, AddressKey};

impl Kernel {
    /// Where there is no room, its connections go on being told of.
    pub fn set_direct(&mut self, netns: u32, address: SocketAddr) {
        let Some(loaded) = &mut self.loaded else { return };
        for key in keys(netns, address).into_iter().flatten() {
            drop(loaded.direct.insert(key, 0, 0));
        }
    }

    pub fn unset_direct(&mut self, netns: u32, address: SocketAddr) {
        let Some(loaded) = &mut self.loaded else { return };
        for key in keys(netns, address).into_iter().flatten() {
            drop(loaded.direct.remove(&key));
        }
    }

    pub fn forget_direct(&mut self) {
        let Some(loaded) = &mut self.loaded else { return };
        let keys: Vec<AddressKey> = loaded.direct.keys().filter_map(Result::ok).collect();
        for key in keys {
            drop(loaded.direct.remove(&key));
        }
    }
}

/// As the kernel has it: an IPv4 address may be that of an IPv6 socket.
fn keys(netns: u32, address: SocketAddr) -> [Option<AddressKey>; 2] {
    let key = |family, bytes| AddressKey {
        netns,
        port: address.port(),
        family,
        address: bytes,
    };
    match address.ip() {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            [
                Some(key(AF_INET, bytes)),
                Some(key(AF_INET6, ip.to_ipv6_mapped().octets())),
            ]
        }
        IpAddr::V6(ip) => [Some(key(AF_INET6, ip.octets())), None],
    }
}
