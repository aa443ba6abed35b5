//! Every metric family there is: name, type, help and labels. Nothing else in the agent spells one.
//!
//! Families of watched things have the names, types, help texts and labels of the Go agent, so that its dashboards and
//! alerts go on working. Where it is wrong about a value, the note beside the family says what is different here.

use crate::decode::Protocol;
use prometheus::proto::MetricType;

/// On every series, before the family's own labels: the node.
pub const NODE_LABELS: &[&str] = &["machine_id", "system_uuid"];
/// On every series about a container.
pub const CONTAINER_LABELS: &[&str] = &["machine_id", "system_uuid", "container_id", "app_id"];

/// A metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: MetricType,
    pub help: &'static str,
    /// What the family is about decides these.
    pub common_labels: &'static [&'static str],
    pub own_labels: &'static [&'static str],
}

impl Family {
    /// In the order in which series give their values.
    pub fn labels(&self) -> impl Iterator<Item = &'static str> {
        self.common_labels.iter().chain(self.own_labels).copied()
    }
}

macro_rules! families {
    ($(
        $(#[$note:meta])*
        $id:ident = $kind:ident $name:literal $common:ident + [$($label:literal),*] $help:literal;
    )*) => {
        $(
            $(#[$note])*
            pub const $id: Family = Family {
                name: $name,
                kind: MetricType::$kind,
                help: $help,
                common_labels: $common,
                own_labels: &[$($label),*],
            };
        )*
        const ALONE: &[Family] = &[$($id),*];
    };
}

/// Of a protocol: what a container has asked for, by destination, and what it has answered.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    pub outbound: Family,
    pub outbound_latency: Family,
    pub inbound: Family,
    pub inbound_latency: Family,
}

/// One line for each protocol: what the label says, what a help text says, and what its requests are called.
macro_rules! protocols {
    ($($protocol:ident = $name:literal $title:literal $noun:ident;)*) => {
        /// Those of name servers are not by destination.
        pub fn requests(protocol: Protocol) -> Option<&'static Requests> {
            match protocol {
                Protocol::Dns => None,
                $(Protocol::$protocol => Some(&const { protocols!(@ $noun $name $title) }),)*
            }
        }
    };
    (@ requests $name:literal $title:literal) => {
        protocols!(@@ $name $title "requests" "request" "response")
    };
    (@ queries $name:literal $title:literal) => {
        protocols!(@@ $name $title "queries" "query" "execution")
    };
    (@@ $name:literal $title:literal $many:literal $one:literal $time:literal) => {
        Requests {
            outbound: Family {
                name: concat!("container_", $name, "_", $many, "_total"),
                kind: MetricType::COUNTER,
                help: concat!("Total number of outbound ", $title, " ", $many),
                common_labels: CONTAINER_LABELS,
                own_labels: &["destination", "actual_destination", "status"],
            },
            outbound_latency: Family {
                name: concat!("container_", $name, "_", $many, "_duration_seconds_total"),
                kind: MetricType::HISTOGRAM,
                help: concat!("Histogram of the ", $time, " time for each outbound ", $title, " ", $one),
                common_labels: CONTAINER_LABELS,
                own_labels: &["destination", "actual_destination"],
            },
            inbound: Family {
                name: concat!("container_", $name, "_inbound_", $many, "_total"),
                kind: MetricType::COUNTER,
                help: concat!("Total number of inbound ", $title, " ", $many),
                common_labels: CONTAINER_LABELS,
                own_labels: &["status"],
            },
            inbound_latency: Family {
                name: concat!("container_", $name, "_inbound_", $many, "_duration_seconds_total"),
                kind: MetricType::HISTOGRAM,
                help: concat!("Histogram of the ", $time, " time for each inbound ", $title, " ", $one),
                common_labels: CONTAINER_LABELS,
                own_labels: &[],
            },
        }
    };
}

// Each request that was answered counts, also where several went before the first answer; the time is from its first byte to
// the first byte of the answer. The Go agent loses some, and takes others for one.
protocols! {
    Http = "http" "HTTP" requests;
    Redis = "redis" "Redis" queries;
    Postgres = "postgres" "Postgres" queries;
    Memcached = "memcached" "Memcached" queries;
}

/// Every family that there is.
pub fn all() -> impl Iterator<Item = &'static Family> {
    let of_protocol = |of: &'static Requests| [&of.outbound, &of.outbound_latency, &of.inbound, &of.inbound_latency];
    let of_protocols = Protocol::ALL.into_iter().filter_map(requests).flat_map(of_protocol);
    ALONE.iter().chain(of_protocols)
}

families! {
    CONTAINER_INFO = GAUGE "container_info" CONTAINER_LABELS + ["image", "systemd_triggered_by", "systemd_type"]
        "Meta information about the container";
    /// Of its living processes, one series for each.
    APPLICATION_TYPE = GAUGE "container_application_type" CONTAINER_LABELS + ["application_type"]
        "Type of the application running in the container (e.g. memcached, postgres, mysql)";
    /// By the table in `registry/restarts.rs`, which also says where the Go agent counts otherwise.
    RESTARTS = COUNTER "container_restarts_total" CONTAINER_LABELS + []
        "Number of times the container was restarted";
    /// Processes that the kernel picked, be it for a limit of the cgroup or of the whole host. Others that shared the memory of
    /// one die with it and are not counted, as in the kernel's own books. As in the Go agent, there is no series before the
    /// first.
    OOM_KILLS = COUNTER "container_oom_kills_total" CONTAINER_LABELS + []
        "Total number of times the container was terminated by the OOM killer";

    CONNECTS = COUNTER "container_net_tcp_successful_connects_total" CONTAINER_LABELS
        + ["destination", "actual_destination"]
        "Total number of successful TCP connects";
    /// Every way in which a connect fails: refused, timed out, given up by its caller, and refused by the host itself
    /// before a SYN was sent (no route, a firewall). The Go agent does not see the last.
    FAILED_CONNECTS = COUNTER "container_net_tcp_failed_connects_total" CONTAINER_LABELS + ["destination"]
        "Total number of failed TCP connects";
    /// 0 is a value. In the Go agent a destination without connections has no series, which reads like an agent that
    /// stopped looking, and leaves the zeros out of every average.
    ACTIVE_CONNECTIONS = GAUGE "container_net_tcp_active_connections" CONTAINER_LABELS
        + ["destination", "actual_destination"]
        "Number of active outbound connections used by the container";
    /// The time it took to connect, from the SYN to the handshake's end. Not how long connections lived, whatever the
    /// help text seems to say.
    CONNECTION_TIME = COUNTER "container_net_tcp_connection_time_seconds_total" CONTAINER_LABELS
        + ["destination", "actual_destination"]
        "Time spent on TCP connections";
    /// Bytes that went over the connection, each counted once however often it was sent. The Go agent adds up what
    /// applications asked read and write for: too much where a call did less, nothing for sendfile, splice,
    /// io_uring, and the TLS calls that it watches.
    BYTES_SENT = COUNTER "container_net_tcp_bytes_sent_total" CONTAINER_LABELS
        + ["destination", "actual_destination"]
        "Total number of bytes sent to the peer";
    /// As for the bytes sent.
    BYTES_RECEIVED = COUNTER "container_net_tcp_bytes_received_total" CONTAINER_LABELS
        + ["destination", "actual_destination"]
        "Total number of bytes received from the peer";
    /// Segments that this side sent again, those of connects that failed among them. Taken from the socket, not from
    /// addresses: the Go agent mistakes connections of different network namespaces for each other.
    RETRANSMITS = COUNTER "container_net_tcp_retransmits_total" CONTAINER_LABELS
        + ["destination", "actual_destination"]
        "Total number of retransmitted TCP segments";
    /// 1 while it is open, 0 for some time after. `proxy` names who publishes the port for the container, if anybody.
    LISTEN_INFO = GAUGE "container_net_tcp_listen_info" CONTAINER_LABELS + ["listen_addr", "proxy"]
        "Listen address of the container";

    /// Of connections that the container began (role client) or accepted (role server). `local`: its own side closed
    /// first; `peer`: the other side did; `reset`: a reset came; `timeout`: the other side did not answer any more.
    TCP_CLOSES = COUNTER "tarsier_container_tcp_closes_total" CONTAINER_LABELS + ["role", "reason"]
        "TCP connections of the container that have ended by what ended them";
    /// Each open connection adds one value per totals pass.
    TCP_RTT = HISTOGRAM "tarsier_container_tcp_rtt_seconds" CONTAINER_LABELS + ["role"]
        "Smoothed round-trip times of the container's TCP connections";

    /// By what the container has asked, and how that was answered. The Go agent leaves out answers that it cannot read as a
    /// whole, and those for AAAA that have no address; here each answered question counts.
    DNS_REQUESTS = COUNTER "container_dns_requests_total" CONTAINER_LABELS + ["request_type", "domain", "status"]
        "Total number of outbound DNS requests";
    DNS_LATENCY = HISTOGRAM "container_dns_requests_duration_seconds_total" CONTAINER_LABELS + []
        "Histogram of the response time for each outbound DNS request";
    /// In the Go agent success is `unknown` here.
    DNS_INBOUND_REQUESTS = COUNTER "container_dns_inbound_requests_total" CONTAINER_LABELS + ["status"]
        "Total number of inbound DNS requests";
    DNS_INBOUND_LATENCY = HISTOGRAM "container_dns_inbound_requests_duration_seconds_total" CONTAINER_LABELS + []
        "Histogram of the response time for each inbound DNS request";
    /// Asked again, with no answer within ten seconds, or whose answer was not seen. Role client: it has asked; server: it was asked.
    DNS_UNANSWERED = COUNTER "tarsier_container_dns_unanswered_total" CONTAINER_LABELS + ["role"]
        "DNS requests of the container, or to it, that nobody answered";
    /// Messages, or pieces of a stream. unasked: an answer to no question that was seen; cut, unreadable: the kernel's side got
    /// too little of it, or nothing; gap: a part of the stream is missing; unsupported: nothing that is answered; crowded: a
    /// table was full; unanswered: the connection ended before an answer came (name servers have a metric of their own).
    UNPARSED = COUNTER "tarsier_container_l7_unparsed_total" CONTAINER_LABELS + ["protocol", "reason"]
        "What the container has said or heard and is in no other count";

    /// Only where the destination is the address; where it is the name, no address is shown. In the Go agent, names that
    /// nothing has been connected to by address go after ten minutes; here what containers still show keeps its name.
    IP_TO_FQDN = GAUGE "ip_to_fqdn" NODE_LABELS + ["ip", "fqdn"]
        "Mapping IP addresses to FQDNs based on DNS requests initiated by containers";

    NODE_INFO = GAUGE "node_info" NODE_LABELS + ["hostname", "kernel_version"]
        "Meta information about the node";
    /// The Go agent gives it no help text.
    NODE_AGENT_INFO = GAUGE "node_agent_info" NODE_LABELS + ["version"]
        "";

    BUILD_INFO = GAUGE "tarsier_build_info" NODE_LABELS + ["version", "revision"]
        "The running build of the agent, always 1";

    EVENTS_OBSERVED = COUNTER "tarsier_events_observed_total" NODE_LABELS + ["kind"]
        "Events that the kernel has counted, before anything could fail";
    EVENTS_DELIVERED = COUNTER "tarsier_events_delivered_total" NODE_LABELS + ["kind"]
        "Events that have reached the state of their owner";
    EVENTS_DROPPED = COUNTER "tarsier_events_dropped_total" NODE_LABELS + ["kind", "reason", "class"]
        "Events that were left out on purpose (class policy) or lost (class loss)";
    EVENTS_IN_FLIGHT = GAUGE "tarsier_events_in_flight" NODE_LABELS + ["kind"]
        "Events between the kernel and their owner, counted where they wait";

    FEATURE_STATE = GAUGE "tarsier_feature_state" NODE_LABELS + ["feature", "state", "reason"]
        "The state that each feature is in (ok, degraded or off) and why, always 1";

    MAILBOX_DROPPED = COUNTER "tarsier_mailbox_dropped_total" NODE_LABELS + ["actor", "message"]
        "Copies of messages for observers that found no room in a mailbox";
    MAILBOX_DEPTH = GAUGE "tarsier_mailbox_depth" NODE_LABELS + ["actor"]
        "Messages that wait in the mailbox of an actor";

    BPF_PROGRAM_RUN_SECONDS = COUNTER "tarsier_bpf_program_run_seconds_total" NODE_LABELS + ["program"]
        "Time the kernel has spent in an eBPF program, while it keeps such statistics";
    BPF_PROGRAM_RUNS = COUNTER "tarsier_bpf_program_runs_total" NODE_LABELS + ["program"]
        "Runs of an eBPF program, while the kernel keeps such statistics";
    BPF_PROGRAM_RECURSION_MISSES = COUNTER "tarsier_bpf_program_recursion_misses_total" NODE_LABELS + ["program"]
        "Runs of an eBPF program that the kernel skipped because it was running already";
    BPF_MAP_ENTRIES = GAUGE "tarsier_bpf_map_entries" NODE_LABELS + ["map"]
        "Entries of an eBPF map, bytes of a ring";
    BPF_MAP_CAPACITY = GAUGE "tarsier_bpf_map_capacity" NODE_LABELS + ["map"]
        "Room in an eBPF map, in the unit of its entries";

    TABLE_ENTRIES = GAUGE "tarsier_table_entries" NODE_LABELS + ["table"]
        "Entries of a table of the agent";
    TABLE_CAPACITY = GAUGE "tarsier_table_capacity" NODE_LABELS + ["table"]
        "Most entries that a table of the agent may have";
    TABLE_REJECTED = COUNTER "tarsier_table_rejected_total" NODE_LABELS + ["table"]
        "Entries that found a table of the agent full";

    /// unknown: the runtime has no such container; rejected: it was not asked, for too many questions waited or the
    /// connection broke.
    RUNTIME_CALLS = COUNTER "tarsier_runtime_calls_total" NODE_LABELS + ["runtime", "outcome"]
        "Questions to a container runtime or service manager by what came of them";
    RUNTIME_CONNECTED = GAUGE "tarsier_runtime_connected" NODE_LABELS + ["runtime"]
        "1 while there is a connection to the runtime, otherwise 0";

    /// translated: to another address; direct: to where it was sent; unknown: nothing tracks it; too_late: its network
    /// namespace was gone, or nobody was left in it.
    CONNTRACK_LOOKUPS = COUNTER "tarsier_conntrack_lookups_total" NODE_LABELS + ["outcome"]
        "Questions to the kernel's connection tracking by what came of them";
    /// translated: to a backend; unknown: to no service of Cilium's; no_backend: to one, and which of its backends is not to
    /// be found out.
    CILIUM_LOOKUPS = COUNTER "tarsier_cilium_lookups_total" NODE_LABELS + ["outcome"]
        "Questions to the connection tables of Cilium by what came of them";

    CONFIG_RELOADS = COUNTER "tarsier_config_reloads_total" NODE_LABELS + ["result"]
        "How often the running agent has read its configuration again, and taken (ok) or refused it";
    CONFIG_LAST_RELOAD = GAUGE "tarsier_config_last_reload_successful" NODE_LABELS + []
        "0 while the configuration that was read last has been refused, otherwise 1";
    /// cut: with more addresses than are remembered of one answer; no_address: with none that anybody could connect to;
    /// no_name: to a question for something that no host is called.
    FQDN_ANSWERS = COUNTER "tarsier_fqdn_answers_total" NODE_LABELS + ["outcome"]
        "Answers of name servers by what was learnt from them";

    ACTOR_RESTARTS = COUNTER "tarsier_actor_restarts_total" NODE_LABELS + ["actor", "cause"]
        "Restarts of an actor by what ended it";
    BLIND_SECONDS = COUNTER "tarsier_blind_seconds_total" NODE_LABELS + []
        "Time during which no eBPF program was attached";
    RESIDENT_MEMORY_BYTES = GAUGE "tarsier_process_resident_memory_bytes" NODE_LABELS + []
        "Resident memory of the agent";
    CPU_SECONDS = COUNTER "tarsier_process_cpu_seconds_total" NODE_LABELS + []
        "CPU time of the agent, user and system";

    SCRAPE_DURATION_SECONDS = GAUGE "tarsier_scrape_duration_seconds" NODE_LABELS + []
        "How long the last scrape took to collect";
    SCRAPE_LATE_CONTAINERS = GAUGE "tarsier_scrape_late_containers" NODE_LABELS + []
        "Containers that did not answer the last scrape in time and are missing from it";

    CONTAINERS = GAUGE "tarsier_containers" NODE_LABELS + ["state"]
        "Containers that the agent knows by state";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// The words after the keyword and the name, by both.
    fn go_agent() -> BTreeMap<(&'static str, &'static str), &'static str> {
        let lines = include_str!("testdata/go-agent.prom").lines().skip(1);
        let facts = lines.map(|line| {
            let mut words = line.splitn(4, ' ').skip(1);
            (
                (words.next().unwrap(), words.next().unwrap()),
                words.next().unwrap_or_default(),
            )
        });
        facts.collect()
    }

    #[test]
    fn as_in_the_go_agent() {
        let facts = go_agent();
        let mut compared = 0;
        for family in all().filter(|family| !family.name.starts_with("tarsier_")) {
            let fact = |keyword| {
                *facts
                    .get(&(keyword, family.name))
                    .unwrap_or_else(|| panic!("{}", family.name))
            };
            let kind = match family.kind {
                MetricType::COUNTER => "counter",
                MetricType::GAUGE => "gauge",
                MetricType::HISTOGRAM => "histogram",
                other => panic!("{other:?}"),
            };
            assert_eq!(fact("TYPE"), kind, "{}", family.name);
            assert_eq!(fact("HELP"), family.help, "{}", family.name);
            let labels: BTreeSet<_> = family.labels().collect();
            assert_eq!(
                fact("LABELS").split(' ').collect::<BTreeSet<_>>(),
                labels,
                "{}",
                family.name
            );
            compared += 1;
        }
        assert_eq!(
            compared,
            facts.keys().filter(|(keyword, _)| *keyword == "TYPE").count(),
            "one has left us"
        );
    }

    #[test]
    fn one_meaning_for_each_name() {
        let word = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                && !text.starts_with('_')
        };
        let names: BTreeSet<_> = all().map(|family| family.name).collect();
        assert_eq!(names.len(), all().count());
        for family in all() {
            let labels: Vec<_> = family.labels().collect();
            assert!(
                word(family.name) && labels.iter().all(|label| word(label)),
                "{family:?}"
            );
            assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len(), "{family:?}");
            assert_eq!(
                family.name.starts_with("container_") || family.name.starts_with("tarsier_container_"),
                family.common_labels == CONTAINER_LABELS,
                "{family:?}"
            );
            assert!(
                !family.help.is_empty() || family.name == NODE_AGENT_INFO.name,
                "{family:?}"
            );
        }
    }

    #[test]
    fn counters_say_so() {
        for family in all() {
            // The Go agent calls its histograms so, too.
            let may = family.kind == MetricType::HISTOGRAM && family.name.starts_with("container_");
            assert_eq!(
                family.kind == MetricType::COUNTER || may,
                family.name.ends_with("_total"),
                "{}",
                family.name
            );
        }
    }

    #[test]
    fn protocols_have_the_names_that_their_label_has() {
        for protocol in Protocol::ALL {
            let Some(of) = requests(protocol) else {
                assert_eq!(protocol, Protocol::Dns);
                continue;
            };
            for family in [of.outbound, of.outbound_latency, of.inbound, of.inbound_latency] {
                let prefix = format!("container_{}_", protocol.as_str());
                assert!(family.name.starts_with(&prefix), "{}", family.name);
            }
        }
    }
}
