//! Which remote and listen addresses are worth a series: parsed settings and the rules over them.

use crate::decode::Route;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

/// The usual port of gRPC servers. It lies within Linux' ephemeral range, yet whoever has it chose it.
const ALWAYS_KEPT: u16 = 50051;

/// Ports that the kernel hands out to clients, as `from-to`. Written as one text with spaces or commas between, or as a
/// list of such texts; nothing at all switches the rule off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRanges(Vec<RangeInclusive<u16>>);

/// What a range of ports should look like, and did not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    #[error("`{part}` is not a range of ports such as 32768-60999")]
    Malformed { part: String },
    #[error("`{part}` begins after its end")]
    Reversed { part: String },
}

impl PortRanges {
    pub fn contains(&self, port: u16) -> bool {
        port != ALWAYS_KEPT && self.0.iter().any(|range| range.contains(&port))
    }
}

impl Default for PortRanges {
    /// What Linux has in `net.ipv4.ip_local_port_range`.
    fn default() -> Self {
        Self(vec![32768..=60999])
    }
}

impl FromStr for PortRanges {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let parts = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|part| !part.is_empty());
        parts.map(range).collect::<Result<_, _>>().map(Self)
    }
}

fn range(part: &str) -> Result<RangeInclusive<u16>, PortRangeError> {
    let malformed = || PortRangeError::Malformed { part: part.to_owned() };
    // `u16::from_str` would take a sign.
    let port = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
    };
    let (from, to) = part.split_once('-').ok_or_else(malformed)?;
    let (Some(from), Some(to)) = (port(from), port(to)) else {
        return Err(malformed());
    };
    if from > to {
        return Err(PortRangeError::Reversed { part: part.to_owned() });
    }
    Ok(from..=to)
}

impl Serialize for PortRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|range| format!("{}-{}", range.start(), range.end())))
    }
}

impl<'de> Deserialize<'de> for PortRanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PortRanges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ranges of ports such as \"32768-60999\", as a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRanges, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut texts: A) -> Result<PortRanges, A::Error> {
                let mut ranges = Vec::new();
                while let Some(text) = texts.next_element::<String>()? {
                    ranges.extend(text.parse::<PortRanges>().map_err(de::Error::custom)?.0);
                }
                Ok(PortRanges(ranges))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Why an address gets no series. All are `class=policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SkipReason {
    EphemeralPort,
    LoopbackInContainer,
    LinkLocal,
    PublicNetwork,
}

impl SkipReason {
    /// As in the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EphemeralPort => "ephemeral_port",
            Self::LoopbackInContainer => "loopback_in_container",
            Self::LinkLocal => "link_local",
            Self::PublicNetwork => "public_network",
        }
    }
}

/// The rules for destinations and listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub ephemeral: PortRanges,
    /// Public networks to see; private ones always are.
    pub track_public: Vec<IpNet>,
}

impl Default for Filter {
    /// All of IPv4 and of IPv6. (The Go agent has `0.0.0.0/0` alone, and so leaves out public IPv6 unasked.)
    fn default() -> Self {
        let everything = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        Self {
            ephemeral: PortRanges::default(),
            track_public: everything
                .map(|ip| IpNet::new(ip, 0).expect("no address is shorter than 0 bits"))
                .into(),
        }
    }
}

impl Filter {
    /// May a connection to `remote` be shown? A loopback address means nothing outside the network namespace it is in,
    /// except in the host's, where everybody knows which one is meant.
    pub fn decide(&self, remote: SocketAddr, in_host_netns: bool) -> Result<(), SkipReason> {
        if self.ephemeral.contains(remote.port()) {
            return Err(SkipReason::EphemeralPort);
        }
        let ip = remote.ip().to_canonical();
        if is_loopback(ip) {
            return loopback(in_host_netns);
        }
        if is_link_local(ip) {
            return Err(SkipReason::LinkLocal);
        }
        if is_private(ip) || self.track_public.iter().any(|net| net.contains(&ip)) {
            return Ok(());
        }
        Err(SkipReason::PublicNetwork)
    }

    /// The same where something on the way gives the packets another destination.
    pub fn decide_route(&self, route: Route, in_host_netns: bool) -> Result<(), SkipReason> {
        if route.actual == route.destination {
            return self.decide(route.destination, in_host_netns);
        }
        let ip = route.actual.ip().to_canonical();
        if is_loopback(ip) && !in_host_netns {
            // To a proxy beside it, which is seen to connect on.
            return Err(SkipReason::LoopbackInContainer);
        }
        match self.decide(route.destination, in_host_netns) {
            // A public address that leads to a private one is a service of the cluster's.
            Err(SkipReason::PublicNetwork) if is_loopback(ip) || is_private(ip) => Ok(()),
            decision => decision,
        }
    }

    /// May a connection that was accepted on `local` be shown?
    pub fn decide_accepted(&self, local: SocketAddr, in_host_netns: bool) -> Result<(), SkipReason> {
        self.decide_listen(local)?;
        if is_loopback(local.ip().to_canonical()) {
            return loopback(in_host_netns);
        }
        Ok(())
    }

    /// May a listen on `local` be shown? Which of its addresses are shown is decided where the network namespaces of
    /// all processes that share it are known.
    pub fn decide_listen(&self, local: SocketAddr) -> Result<(), SkipReason> {
        if self.ephemeral.contains(local.port()) {
            Err(SkipReason::EphemeralPort)
        } else {
            Ok(())
        }
    }
}

fn loopback(in_host_netns: bool) -> Result<(), SkipReason> {
    if in_host_netns {
        Ok(())
    } else {
        Err(SkipReason::LoopbackInContainer)
    }
}

/// The one way to write an address: an IPv4 address carried by an IPv6 socket as IPv4, no scope, no flow label.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Connecting to the unspecified address reaches the host itself; a connect that fails early still has it.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

pub fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// RFC 1918, the shared space of RFC 6598 (carriers, overlays, clouds), and unique local IPv6.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || matches!(ip.octets(), [100, 64..=127, ..]),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// Somewhere on the internet, by all that an address tells: it means the same wherever it is used.
pub fn is_external(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let reaches_many = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    !(is_loopback(ip) || is_private(ip) || is_link_local(ip) || reaches_many)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SkipReason::*;
    use proptest::prelude::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn port_ranges() {
        let ranges: PortRanges = "32768-60999, 1-2\t7-7".parse().unwrap();
        for (port, inside) in [
            (1, true),
            (2, true),
            (3, false),
            (7, true),
            (32767, false),
            (32768, true),
            (60999, true),
        ] {
            assert_eq!(ranges.contains(port), inside, "{port}");
        }
        assert!(!ranges.contains(61000));
        assert!(!ranges.contains(50051) && ranges.contains(50050) && ranges.contains(50052));
        assert!("0-65535".parse::<PortRanges>().unwrap().contains(65535));
        for off in ["", " , "] {
            let none: PortRanges = off.parse().unwrap();
            assert!((0..=u16::MAX).all(|port| !none.contains(port)));
        }
    }

    #[test]
    fn the_bad_part_is_named() {
        for bad in ["8080", "1-", "-2", "a-b", "1-65536", "1--2", "+1-2", "1-2-3"] {
            let error = format!("10-20 {bad},30-40").parse::<PortRanges>().unwrap_err();
            assert_eq!(error, PortRangeError::Malformed { part: bad.to_owned() });
            assert!(error.to_string().contains(bad));
        }
        let error = "10-20,9-8".parse::<PortRanges>().unwrap_err();
        assert_eq!(error, PortRangeError::Reversed { part: "9-8".to_owned() });
    }

    #[test]
    fn port_ranges_in_a_config() {
        let yaml = |text: &str| serde_yaml_ng::from_str::<PortRanges>(text);
        let default = PortRanges::default();
        assert_eq!(yaml("32768-60999").unwrap(), default);
        assert_eq!(yaml("[\"32768-60999\"]").unwrap(), default);
        assert_eq!(yaml("[1-2, \"3-4 5-6\"]").unwrap(), "1-2 3-4 5-6".parse().unwrap());
        assert_eq!(yaml("\"\"").unwrap(), yaml("[]").unwrap());
        assert_eq!(serde_json::to_string(&default).unwrap(), "[\"32768-60999\"]");
        assert_eq!(yaml(&serde_yaml_ng::to_string(&default).unwrap()).unwrap(), default);
        assert!(yaml("[1-2, 9-8]").unwrap_err().to_string().contains("9-8"));
        assert!(yaml("8080").unwrap_err().to_string().contains("32768-60999"));
    }

    #[test]
    fn destinations() {
        let narrow = Filter {
            track_public: vec!["1.1.0.0/16".parse().unwrap()],
            ..Filter::default()
        };
        for (remote, container, host) in [
            ("10.1.2.3:80", Ok(()), Ok(())),
            ("172.31.0.1:80", Ok(()), Ok(())),
            ("172.32.0.1:80", Err(PublicNetwork), Err(PublicNetwork)),
            ("192.168.1.1:80", Ok(()), Ok(())),
            ("100.64.0.1:80", Ok(()), Ok(())),
            ("100.127.255.255:80", Ok(()), Ok(())),
            ("100.128.0.0:80", Err(PublicNetwork), Err(PublicNetwork)),
            ("1.1.1.1:80", Ok(()), Ok(())),
            ("2.2.2.2:80", Err(PublicNetwork), Err(PublicNetwork)),
            ("[2001:db8::1]:80", Err(PublicNetwork), Err(PublicNetwork)),
            ("[fd00::1]:80", Ok(()), Ok(())),
            ("169.254.169.254:80", Err(LinkLocal), Err(LinkLocal)),
            ("[fe80::1]:80", Err(LinkLocal), Err(LinkLocal)),
            ("127.0.0.53:53", Err(LoopbackInContainer), Ok(())),
            ("[::1]:53", Err(LoopbackInContainer), Ok(())),
            ("0.0.0.0:53", Err(LoopbackInContainer), Ok(())),
            ("10.1.2.3:40000", Err(EphemeralPort), Err(EphemeralPort)),
            ("127.0.0.1:40000", Err(EphemeralPort), Err(EphemeralPort)),
            ("10.1.2.3:50051", Ok(()), Ok(())),
            // The same, through an IPv6 socket.
            ("[::ffff:10.1.2.3]:80", Ok(()), Ok(())),
            ("[::ffff:1.1.1.1]:80", Ok(()), Ok(())),
            ("[::ffff:2.2.2.2]:80", Err(PublicNetwork), Err(PublicNetwork)),
            ("[::ffff:169.254.0.1]:80", Err(LinkLocal), Err(LinkLocal)),
            ("[::ffff:127.0.0.1]:80", Err(LoopbackInContainer), Ok(())),
        ] {
            assert_eq!(
                narrow.decide(address(remote), false),
                container,
                "{remote} from a container"
            );
            assert_eq!(narrow.decide(address(remote), true), host, "{remote} from the host");
        }
    }

    #[test]
    fn routes() {
        let filter = Filter {
            track_public: Vec::new(),
            ..Filter::default()
        };
        for (destination, actual, container, host) in [
            ("10.96.0.1:80", "10.1.0.7:8080", Ok(()), Ok(())),
            ("10.96.0.1:80", "10.1.0.7:40000", Ok(()), Ok(())),
            ("10.96.0.1:40000", "10.1.0.7:80", Err(EphemeralPort), Err(EphemeralPort)),
            ("10.96.0.1:80", "127.0.0.1:15001", Err(LoopbackInContainer), Ok(())),
            ("1.1.1.1:80", "10.1.0.7:8080", Ok(()), Ok(())),
            ("1.1.1.1:80", "2.2.2.2:80", Err(PublicNetwork), Err(PublicNetwork)),
            ("127.0.0.1:80", "10.1.0.7:80", Err(LoopbackInContainer), Ok(())),
            ("10.96.0.1:80", "10.96.0.1:80", Ok(()), Ok(())),
        ] {
            let route = Route {
                destination: address(destination),
                actual: address(actual),
            };
            let decided = [false, true].map(|in_host| filter.decide_route(route, in_host));
            assert_eq!(decided, [container, host], "{destination} {actual}");
        }
    }

    #[test]
    fn all_public_networks_by_default() {
        let filter = Filter::default();
        assert_eq!(filter.decide(address("1.1.1.1:443"), false), Ok(()));
        assert_eq!(filter.decide(address("[2606:4700::1111]:443"), false), Ok(()));
        let none = Filter {
            track_public: Vec::new(),
            ..filter
        };
        assert_eq!(none.decide(address("1.1.1.1:443"), false), Err(PublicNetwork));
    }

    #[test]
    fn external_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for external in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_external(ip(external)), "{external}");
        }
        for other in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
        ] {
            assert!(!is_external(ip(other)), "{other}");
        }
    }

    #[test]
    fn listens() {
        let filter = Filter::default();
        assert_eq!(filter.decide_listen(address("0.0.0.0:80")), Ok(()));
        assert_eq!(filter.decide_listen(address("127.0.0.1:50051")), Ok(()));
        assert_eq!(filter.decide_listen(address("[::]:32768")), Err(EphemeralPort));
    }

    #[test]
    fn one_way_to_write_an_address() {
        let scoped = SocketAddr::V6(std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 7, 3));
        assert_eq!(canonical(scoped).to_string(), "[fe80::1]:80");
        assert_eq!(canonical(address("[::ffff:10.0.0.1]:80")).to_string(), "10.0.0.1:80");
        assert_eq!(canonical(address("[::1]:80")).to_string(), "[::1]:80");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_named(text in ".*") {
            if let Err(PortRangeError::Malformed { part } | PortRangeError::Reversed { part }) = text.parse::<PortRanges>() {
                prop_assert!(text.contains(&part));
            }
        }

        #[test]
        fn what_is_written_is_read(ranges: Vec<(u16, u16)>) {
            let ranges = PortRanges(ranges.into_iter().map(|(a, b)| a.min(b)..=a.max(b)).collect());
            let text = serde_json::to_string(&ranges).unwrap();
            prop_assert_eq!(serde_json::from_str::<PortRanges>(&text).unwrap(), ranges);
        }

        #[test]
        fn how_the_socket_carries_an_address_does_not_matter(ip: Ipv4Addr, port: u16, host: bool) {
            let filter = Filter { track_public: vec!["1.0.0.0/2".parse().unwrap()], ..Filter::default() };
            let mapped = SocketAddr::new(ip.to_ipv6_mapped().into(), port);
            prop_assert_eq!(filter.decide(mapped, host), filter.decide(SocketAddr::new(ip.into(), port), host));
        }
    }
}
