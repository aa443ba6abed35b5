//! Requests of a protocol, added up per process and reading. What becomes of them is counted, their payload is gone.
use super::{DestinationKey, Owner, Role, Route};
use crate::base::{fqdn::Fqdn, ids::NetnsId};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, net::SocketAddr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Dns,
    Http,
    Redis,
    Postgres,
    Memcached,
}

impl Protocol {
    pub const ALL: [Self; 5] = [Self::Dns, Self::Http, Self::Redis, Self::Postgres, Self::Memcached];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Http => "http",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Memcached => "memcached",
        }
    }
}

/// Questions that were answered, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRequests {
    /// Who asked, or was asked.
    pub owner: Owner,
    pub role: Role,
    pub question_type: u16,
    /// In small letters, without what varies too much: see `l7::dns::domain`.
    pub domain: Box<str>,
    pub status: DnsStatus,
    /// And how many there were.
    pub latency: Latency,
}

/// Questions that nobody has answered in time, or to which no answer was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsUnanswered {
    pub owner: Owner,
    pub role: Role,
    pub count: u64,
}

/// Requests and their replies on one connection, or on several of one owner between the same two addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanges {
    pub owner: Owner,
    pub netns: NetnsId,
    /// Who asks is the client, whoever has connected.
    pub role: Role,
    pub protocol: Protocol,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Where the packets go, if something on the way gives them another destination (NAT).
    pub actual: Option<SocketAddr>,
    /// What the destination is shown under, if not its address.
    pub name: Option<Fqdn>,
    pub classes: Classes,
    /// Of all of them, whatever became of them.
    pub latency: Latency,
}

impl Exchanges {
    pub fn route(&self) -> Route {
        Route {
            destination: self.remote,
            actual: self.actual.unwrap_or(self.remote),
        }
    }

    /// What it counts under, a client's.
    pub fn destination(&self) -> DestinationKey {
        DestinationKey::new(self.name.clone(), self.route())
    }

    /// Takes over what others come to, between whomever.
    pub fn add(&mut self, others: &Self) {
        for (count, more) in self.classes.iter_mut().zip(others.classes) {
            *count = count.saturating_add(more);
        }
        self.latency.add(&others.latency);
    }
}

#[cfg(test)]
impl Exchanges {
    /// One success of two milliseconds and two failures of seven, from 192.0.2.1:40000 to 192.0.2.9:80.
    pub fn example(role: Role, protocol: Protocol) -> Self {
        let mut latency = Latency::default();
        for ns in [2_000_000, 7_000_000, 7_000_000] {
            latency.observe(ns);
        }
        let socket = super::SocketEvent::example();
        let (client, server) = (
            SocketAddr::from(([192, 0, 2, 1], 40000)),
            SocketAddr::from(([192, 0, 2, 9], 80)),
        );
        let (local, remote) = match role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        Self {
            owner: socket.owner,
            netns: socket.netns,
            role,
            protocol,
            local,
            remote,
            actual: None,
            name: None,
            classes: [0, 0, 1, 0, 0, 2],
            latency,
        }
    }
}

/// Requests by what became of them: HTTP's by the first digit of the status, of other protocols 2 is success and 5 failure;
/// 0 is neither.
pub type Classes = [u64; 6];

/// As the label `status` shows it.
pub fn class_name(protocol: Protocol, class: usize) -> &'static str {
    match (protocol, class) {
        (Protocol::Http, 1) => "1xx",
        (Protocol::Http, 2) => "2xx",
        (Protocol::Http, 3) => "3xx",
        (Protocol::Http, 4) => "4xx",
        (Protocol::Http, 5) => "5xx",
        (_, 2) => "ok",
        (_, 5) => "failed",
        _ => "unknown",
    }
}

/// Messages, or pieces of a stream, that count nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unparsed {
    pub owner: Owner,
    pub protocol: Protocol,
    pub reason: UnparsedReason,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnparsedReason {
    /// An answer to no question that was seen.
    Unasked,
    /// The kernel took too little of it.
    Cut,
    /// The kernel could not read it.
    Unreadable,
    Malformed,
    /// A part of the stream is missing, and where the next message begins is not known.
    Gap,
    /// Right, but not one question or its answer: a transfer's later parts, a notification, an update.
    Unsupported,
    /// A table is full.
    Crowded,
    /// Requests to which no reply was seen when their connection ended.
    Unanswered,
}

impl UnparsedReason {
    pub const ALL: [Self; 8] = [
        Self::Unasked,
        Self::Cut,
        Self::Unreadable,
        Self::Malformed,
        Self::Gap,
        Self::Unsupported,
        Self::Crowded,
        Self::Unanswered,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Cut => "cut",
            Self::Unreadable => "unreadable",
            Self::Malformed => "malformed",
            Self::Gap => "gap",
            Self::Unsupported => "unsupported",
            Self::Crowded => "crowded",
            Self::Unanswered => "unanswered",
        }
    }
}

/// The four bits of the header. What EDNS puts above them is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u8")]
pub struct DnsStatus(u8);

impl From<u8> for DnsStatus {
    fn from(code: u8) -> Self {
        Self(code & 0x0f)
    }
}

impl DnsStatus {
    pub const OK: Self = Self(0);

    /// A number where the code has no name.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            0 => "ok",
            1 => "format_error",
            2 => "servfail",
            3 => "nxdomain",
            4 => "not_implemented",
            5 => "refused",
            6 => "6",
            7 => "7",
            8 => "8",
            9 => "9",
            10 => "10",
            11 => "11",
            12 => "12",
            13 => "13",
            14 => "14",
            _ => "15",
        }
    }
}

/// As the label shows it: those that the Go agent has a name for, of others the number.
pub fn question_type_name(question_type: u16) -> Cow<'static, str> {
    Cow::Borrowed(match question_type {
        1 => "TypeA",
        2 => "TypeNS",
        5 => "TypeCNAME",
        6 => "TypeSOA",
        11 => "TypeWKS",
        12 => "TypePTR",
        13 => "TypeHINFO",
        14 => "TypeMINFO",
        15 => "TypeMX",
        16 => "TypeTXT",
        28 => "TypeAAAA",
        33 => "TypeSRV",
        41 => "TypeOPT",
        252 => "TypeAXFR",
        255 => "TypeALL",
        other => return Cow::Owned(other.to_string()),
    })
}

/// How long requests took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Not cumulative: each request is in one of them. The last has no bound.
    pub counts: [u64; 12],
    pub sum_ns: u64,
}

impl Latency {
    /// The largest that a bucket takes, of all but the last: from 5 ms to 10 s.
    pub const BOUNDS_NS: [u64; 11] = [
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
    ];

    pub fn observe(&mut self, ns: u64) {
        let bucket = Self::BOUNDS_NS.partition_point(|bound| *bound < ns);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// A recording may say anything: nothing overflows.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// How many requests.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut latency = Latency::default();
        for ns in [0, 5_000_000, 5_000_001, 10_000_000_000, 10_000_000_001, u64::MAX] {
            latency.observe(ns);
        }
        assert_eq!(latency.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!((latency.count(), latency.sum_ns), (6, u64::MAX));
    }

    #[test]
    fn histograms_add_up() {
        let (mut one, mut other) = (Latency::default(), Latency::default());
        one.observe(7_000_000);
        other.observe(8_000_000);
        other.observe(1);
        one.add(&other);
        assert_eq!((one.counts[0], one.counts[1], one.sum_ns), (1, 2, 15_000_001));
        let full = Latency {
            counts: [u64::MAX; 12],
            sum_ns: u64::MAX,
        };
        one.add(&full);
        assert_eq!((one, one.count()), (full, u64::MAX));
    }

    #[test]
    fn labels() {
        let names = |protocol| [0, 1, 2, 3, 4, 5, 6].map(|class| class_name(protocol, class));
        assert_eq!(
            names(Protocol::Http),
            ["unknown", "1xx", "2xx", "3xx", "4xx", "5xx", "unknown"]
        );
        assert_eq!(names(Protocol::Redis)[..4], ["unknown", "unknown", "ok", "unknown"]);
        assert_eq!(names(Protocol::Postgres)[5], "failed");
        let statuses: Vec<_> = (0..=17).map(|code| DnsStatus::from(code).as_str()).collect();
        assert_eq!(
            statuses.join(" "),
            "ok format_error servfail nxdomain not_implemented refused 6 7 8 9 10 11 12 13 14 15 ok format_error"
        );
        for (question_type, name) in [
            (1, "TypeA"),
            (28, "TypeAAAA"),
            (12, "TypePTR"),
            (33, "TypeSRV"),
            (65, "65"),
        ] {
            assert_eq!(question_type_name(question_type), name);
        }
    }

    #[test]
    fn a_recording_is_not_trusted() {
        let status: DnsStatus = serde_json::from_str("19").unwrap();
        assert_eq!(
            (status.as_str(), serde_json::to_string(&status).unwrap().as_str()),
            ("nxdomain", "3")
        );
        for reason in UnparsedReason::ALL {
            assert_eq!(
                serde_json::to_string(&reason).unwrap(),
                format!("\"{}\"", reason.as_str())
            );
        }
        assert_eq!(
            serde_json::to_string(&Protocol::Dns).unwrap(),
            format!("\"{}\"", Protocol::Dns.as_str())
        );
    }
}
