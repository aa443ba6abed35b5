//! What the clients and the servers of `requests.sh` say of each other, against what was counted at both ends.
use tarsier_integration::{End, Metrics, Sample, Statuses, kernel::Boot};

struct Protocol {
    name: &'static str,
    /// Its metrics count requests or queries.
    noun: &'static str,
    port: u16,
    /// What the clients are told to ask for, at least, and what of it is wrong.
    told: [(&'static str, u64); 2],
}

const fn queries(name: &'static str, port: u16) -> Protocol {
    Protocol {
        name,
        noun: "queries",
        port,
        told: [("ok", 1000), ("failed", 100)],
    }
}

const PROTOCOLS: [Protocol; 3] = [
    Protocol {
        name: "http",
        noun: "requests",
        port: 8000,
        told: [("2xx", 1000), ("4xx", 100)],
    },
    queries("redis", 6379),
    queries("postgres", 5432),
];

/// One of the two rounds.
struct Lane<'a> {
    boot: &'a Boot,
    name: &'static str,
    before: Metrics,
    after: Metrics,
}

impl<'a> Lane<'a> {
    #[track_caller]
    fn new(boot: &'a Boot, name: &'static str) -> Self {
        let metrics = |when: &str| Metrics::parse(boot.section(&format!("metrics {when} {name}")));
        Self {
            boot,
            name,
            before: metrics("before"),
            after: metrics("after"),
        }
    }

    /// How many of each status somebody has counted who is not the agent.
    #[track_caller]
    fn said(&self, section: &str) -> Statuses {
        let rows = self.boot.section(section).lines().map(|line| {
            let row = line
                .split_once(' ')
                .and_then(|(status, count)| Some((status.to_owned(), count.parse().ok()?)));
            row.unwrap_or_else(|| panic!("{self}: {section}: {line:?}"))
        });
        rows.collect()
    }

    #[track_caller]
    fn check(&self, protocol: &Protocol) {
        let name = protocol.name;
        let sent = self.said(&format!("{name}-{}", self.name));
        for (status, least) in protocol.told {
            // A client may ask something for itself, too.
            let count = sent.get(status).copied().unwrap_or_default();
            assert!(
                (least..least + 20).contains(&count),
                "{self}: {name}: {status}: {count}"
            );
        }
        let client = format!("/system.slice/{name}-{}.service", self.name);
        self.check_end(protocol, &client, End::Client, &sent);
        // Since it was started, with both rounds in the second.
        let served = self.said(&format!("{name}-server {}", self.name));
        self.check_end(
            protocol,
            &format!("/system.slice/{name}-server.service"),
            End::Server,
            &served,
        );

        let counter = format!("container_{name}_{}_total", protocol.noun);
        let half = sent.values().sum::<u64>() as f64 / 2.0;
        for ip in ["127.0.0.1", "[::1]"] {
            let destination = format!("{ip}:{}", protocol.port);
            let labels = [("container_id", client.as_str()), ("destination", &destination)];
            assert_eq!(
                self.after.sum(&counter, &labels),
                half,
                "{self}: {counter} of {destination}"
            );
        }
    }

    /// What a container has asked or answered, and that each has a time and none is of the other end.
    #[track_caller]
    fn check_end(&self, protocol: &Protocol, container: &str, end: End, expected: &Statuses) {
        let other = match end {
            End::Client => End::Server,
            End::Server => End::Client,
        };
        let counted = |end| self.after.requests_of(container, protocol.name, end);
        assert_eq!(counted(end), *expected, "{self}: {container}");
        assert_eq!(counted(other), Statuses::new(), "{self}: {container} is no {other:?}");
        let timed = self.after.requests_within(container, protocol.name, end, "+Inf");
        assert_eq!(
            timed,
            expected.values().sum::<u64>(),
            "{self}: {container}: with a time"
        );
    }

    /// That it is the lane that it is called, and that nothing is missing.
    #[track_caller]
    fn check_all(&self) {
        let all: u64 = PROTOCOLS
            .iter()
            .flat_map(|protocol| protocol.told)
            .map(|(_, count)| count)
            .sum();
        let observed = |metrics: &Metrics| metrics.sum("tarsier_events_observed_total", &[("kind", "l7_segment")]);
        let segments = observed(&self.after) - observed(&self.before);
        match self.name {
            // PostgreSQL tells of an error in a segment and of its end in the next: such a connection goes to the agent.
            "kernel" => assert!(segments < all as f64, "{self}: {segments} segments went to the agent"),
            // The request and the reply, each at both ends.
            _ => assert!(
                segments >= 4.0 * all as f64,
                "{self}: only {segments} segments went to the agent"
            ),
        }
        for (name, labels) in [
            ("tarsier_container_l7_unparsed_total", &[][..]),
            ("tarsier_events_dropped_total", &[("class", "loss")]),
        ] {
            let missing: Vec<&Sample> = self.after.all(name, labels).filter(|row| row.value != 0.0).collect();
            assert!(missing.is_empty(), "{self}: {missing:#?}");
        }
    }
}

impl std::fmt::Display for Lane<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}, {} lane", self.boot.release, self.name)
    }
}

#[track_caller]
pub(crate) fn exact(boot: &Boot) {
    let reloaded = boot.section("reload");
    assert_eq!(
        reloaded.split_whitespace().collect::<Vec<_>>(),
        ["changed", "l7.kernel_lane"],
        "{}",
        boot.release
    );
    for name in ["kernel", "agent"] {
        let lane = Lane::new(boot, name);
        for protocol in &PROTOCOLS {
            lane.check(protocol);
        }
        lane.check_all();
    }
}
