//! A network namespace with one pair of virtual links to the machine.
use crate::unique;
use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::Command,
};

pub struct Netns {
    name: String,
    link: String,
    subnet: u8,
}

impl Netns {
    pub fn new() -> Self {
        let name = unique("ns");
        let pid = std::process::id();
        // Another test process may have the same number: its link has the name, and making ours fails.
        let subnet = (0..200_u32)
            .map(|step| 1 + ((pid + step) % 250) as u8)
            .find(|subnet| {
                try_ip(&[
                    "link",
                    "add",
                    &link(*subnet),
                    "type",
                    "veth",
                    "peer",
                    "name",
                    &peer(*subnet),
                ])
            })
            .expect("ip link add works, and one of 200 names is free");
        let netns = Self {
            name,
            link: link(subnet),
            subnet,
        };
        netns.set_up();
        netns
    }

    fn set_up(&self) {
        let peer = peer(self.subnet);
        ip(&["netns", "add", &self.name]);
        ip(&["link", "set", &peer, "netns", &self.name]);
        // `nodad`: an address that is still being checked for duplicates cannot be bound.
        for (netns, link, number) in [(None, &self.link, 1), (Some(&self.name), &peer, 2)] {
            let inside = |arguments: &[&str]| match netns {
                Some(name) => ip(&[&["-n", name], arguments].concat()),
                None => ip(arguments),
            };
            inside(&["addr", "add", &format!("{}/24", self.v4(number)), "dev", link]);
            inside(&["addr", "add", &format!("{}/64", self.v6(number)), "dev", link, "nodad"]);
            inside(&["link", "set", link, "up"]);
        }
        ip(&["-n", &self.name, "link", "set", "lo", "up"]);
        for hole in [self.v4(BLACK_HOLE), self.v6(BLACK_HOLE)] {
            // An address whose link-layer owner is nobody: what is sent there leaves and is never answered.
            ip(&[
                "-n",
                &self.name,
                "neigh",
                "add",
                &hole.to_string(),
                "lladdr",
                "02:00:00:00:00:99",
                "dev",
                &peer,
                "nud",
                "permanent",
            ]);
        }
    }

    fn v4(&self, host: u8) -> IpAddr {
        Ipv4Addr::new(10, 213, self.subnet, host).into()
    }

    fn v6(&self, host: u8) -> IpAddr {
        Ipv6Addr::new(0xfd00, 0x7a, 0, u16::from(self.subnet), 0, 0, 0, u16::from(host)).into()
    }

    /// The machine's ends of the link: IPv4, IPv6.
    pub fn outside(&self, port: u16) -> [SocketAddr; 2] {
        [self.v4(1), self.v6(1)].map(|address| SocketAddr::new(address, port))
    }

    /// The namespace's ends of the link: IPv4, IPv6.
    pub fn inside(&self, port: u16) -> [SocketAddr; 2] {
        [self.v4(2), self.v6(2)].map(|address| SocketAddr::new(address, port))
    }

    /// Seen from inside, a packet to these is lost without a word.
    pub fn black_hole(&self, port: u16) -> [SocketAddr; 2] {
        [self.v4(BLACK_HOLE), self.v6(BLACK_HOLE)].map(|address| SocketAddr::new(address, port))
    }

    /// Inside there is no route to these.
    pub fn unreachable(&self, port: u16) -> [SocketAddr; 2] {
        [
            Ipv4Addr::new(203, 0, 113, 7).into(),
            Ipv6Addr::new(0xfd00, 0x7b, 0, 0, 0, 0, 0, 7).into(),
        ]
        .map(|address: IpAddr| SocketAddr::new(address, port))
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    pub(crate) fn open(&self) -> File {
        File::open(self.path()).unwrap_or_else(|error| panic!("opening {}: {error}", self.path()))
    }

    /// A counter of the namespace's `/proc/net/snmp`, e.g. `("Tcp", "ActiveOpens")`.
    pub fn snmp(&self, protocol: &str, counter: &str) -> u64 {
        let output = Command::new("nsenter")
            .args([&format!("--net={}", self.path()), "cat", "/proc/net/snmp"])
            .output();
        let output = output.expect("nsenter runs");
        let text = String::from_utf8(output.stdout).expect("counters are text");
        let head = format!("{protocol}:");
        let mut rows = text
            .lines()
            .filter(|line| line.starts_with(&head))
            .map(|line| line.split_whitespace());
        let (names, values) = (
            rows.next().expect("a row of names"),
            rows.next().expect("a row of values"),
        );
        let value = names
            .zip(values)
            .find(|(name, _)| *name == counter)
            .map(|(_, value)| value.parse());
        value
            .unwrap_or_else(|| panic!("no counter {protocol} {counter}"))
            .expect("a number")
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A namespace lives on while a socket does; the link then would too.
        let link_gone = try_ip(&["link", "del", &self.link]);
        let name_gone = try_ip(&["netns", "del", &self.name]);
        assert!(
            std::thread::panicking() || (link_gone && name_gone),
            "{} is left behind",
            self.name
        );
    }
}

const BLACK_HOLE: u8 = 99;

fn link(subnet: u8) -> String {
    format!("tsr-it{subnet}")
}

fn peer(subnet: u8) -> String {
    format!("tsr-it{subnet}p")
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
}

fn try_ip(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Place, require_root, require_tool};

    #[test]
    fn two_stand_beside_each_other_and_both_go() {
        if !(require_root() && require_tool(&["ip", "nsenter"])) {
            return;
        }
        let (first, second) = (Netns::new(), Netns::new());
        let addresses = Place::new()
            .netns(&first)
            .command("ip")
            .args(["-br", "addr"])
            .output()
            .unwrap();
        let addresses = String::from_utf8(addresses.stdout).unwrap();
        let [v4, v6] = first.inside(1).map(|address| address.ip().to_string());
        assert!(addresses.contains(&v4) && addresses.contains(&v6), "{addresses}");
        assert_ne!(first.subnet, second.subnet);
        assert_eq!(first.snmp("Tcp", "ActiveOpens"), 0);
        let paths = [first.path(), second.path()];
        drop((first, second));
        assert!(!paths.iter().any(|path| std::path::Path::new(path).exists()));
    }
}
