//! From samples to the bodies of the admin API.
use super::api::{
    Container, ContainerSummary, Described, Destination, Dns, DnsQuestion, Listen, OpenFile, Requests, Unit,
};
use crate::{
    container::{
        exchanges::Outcomes,
        files::FileInUse,
        requests,
        samples::{self, Samples},
    },
    decode::{Closes, Protocol, Role},
    metrics::{
        families::{OTHER, destination_labels},
        requests::question_labels,
    },
    registry::identity::app_id,
    runtimes::metadata::Metadata,
};
use std::collections::BTreeMap;
use tarsier_common::CLOSE_REASON_NAMES;

pub(super) fn summary(of: &Samples) -> ContainerSummary {
    ContainerSummary {
        id: of.id.to_string(),
        app_id: app_id(&of.id),
        processes: of.processes,
        since_unix: unix(of.since_wall_ns),
        exposed: of.exposed,
        destinations: connected(of).count(),
        listens: of.listens.len(),
    }
}

pub(super) fn container(of: &Samples) -> Container {
    Container {
        id: of.id.to_string(),
        app_id: app_id(&of.id),
        exposed: of.exposed,
        since_unix: unix(of.since_wall_ns),
        processes: of.processes,
        application_types: of.applications.iter().map(|is| is.as_str().to_owned()).collect(),
        restarts: of.restarts,
        oom_kills: of.oom_kills,
        runtime: of.metadata.as_deref().map(described),
        destinations: connected(of).map(destination).collect(),
        listens: of.listens.iter().map(listen).collect(),
        files: of.files.iter().map(open_file).collect(),
        files_left_out: of.files_left_out,
        requests: requests(of),
        dns: dns(&of.requests.dns),
        unparsed: unparsed(&of.requests),
    }
}

fn connected(of: &Samples) -> impl Iterator<Item = &samples::Destination> {
    of.destinations
        .iter()
        .filter(|destination| destination.has_connections())
}

/// By destination, then what was answered.
fn requests(of: &Samples) -> Vec<Requests> {
    let row = |(protocol, of): (Protocol, &Outcomes), role: Role, labels: Option<(String, String)>| {
        let (destination, actual_destination) = labels.unzip();
        let counts = of.by_status(protocol).into_iter();
        Requests {
            protocol: protocol.as_str().to_owned(),
            role: role.as_str().to_owned(),
            destination,
            actual_destination,
            counts: counts.map(|(status, count)| (status.to_owned(), count)).collect(),
            seconds: of.latency.sum_ns as f64 / 1e9,
        }
    };
    let outbound = of.destinations.iter().flat_map(|destination| {
        let of = destination.exchanges.iter();
        of.map(move |of| row(of, Role::Client, Some(destination_labels(destination))))
    });
    let inbound = of.requests.inbound.iter().map(|of| row(of, Role::Server, None));
    outbound.chain(inbound).collect()
}

fn dns(of: &requests::Dns) -> Dns {
    let asked = of.asked.iter().map(|((question, status), count)| {
        let (domain, request_type) = question_labels(question.as_ref());
        DnsQuestion {
            domain: domain.to_owned(),
            request_type: request_type.into_owned(),
            status: status.as_str().to_owned(),
            count: *count,
        }
    });
    let answered = of.answered.iter();
    let [asked_in_vain, left_unanswered] = of.unanswered;
    Dns {
        asked: asked.collect(),
        asked_seconds: of.asked_latency.sum_ns as f64 / 1e9,
        asked_in_vain,
        answered: answered
            .map(|(status, count)| (status.as_str().to_owned(), *count))
            .collect(),
        answered_seconds: of.answered_latency.sum_ns as f64 / 1e9,
        left_unanswered,
    }
}

fn unparsed(of: &requests::Requests) -> BTreeMap<String, u64> {
    let rows = of.unparsed.iter();
    rows.map(|((protocol, reason), count)| (format!("{} {}", protocol.as_str(), reason.as_str()), *count))
        .collect()
}

fn described(of: &Metadata) -> Described {
    Described {
        runtime: of.runtime.as_str().to_owned(),
        name: of.name.clone(),
        image: of.image.clone(),
        labels: of.labels.clone(),
        published: of
            .published
            .iter()
            .map(|port| format!("{} -> {}", port.host, port.port))
            .collect(),
        mounts: of.mounts.clone(),
        unit: of.unit.as_ref().map(|unit| Unit {
            kind: unit.kind.clone(),
            triggered_by: unit.triggered_by.clone(),
            description: unit.description.clone(),
        }),
    }
}

fn open_file(of: &FileInUse) -> OpenFile {
    let (major, minor) = of.file.device;
    OpenFile {
        path: text(&of.file.path),
        truncated: of.file.truncated,
        mount_id: of.file.mount_id,
        device: format!("{major}:{minor}"),
        inode: of.file.inode,
        deleted: of.file.deleted,
        append: of.append,
        processes: of.processes,
    }
}

/// A path is bytes.
fn text(path: &[u8]) -> String {
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn destination(of: &samples::Destination) -> Destination {
    let (destination, actual_destination) = destination_labels(of);
    Destination {
        destination,
        actual_destination,
        successful_connects: of.connects,
        failed_connects: of.failures,
        active: of.active,
        connect_seconds: of.connect_ns as f64 / 1e9,
        sent_bytes: of.sent_bytes,
        received_bytes: of.received_bytes,
        retransmits: of.retransmits,
        failures: failures(of),
        closes: closes(&of.closes),
    }
}

fn closes(of: &Closes) -> BTreeMap<String, u64> {
    let names = CLOSE_REASON_NAMES.iter().map(|name| (*name).to_owned());
    names.zip(of.iter().copied()).collect()
}

fn listen(of: &samples::Listen) -> Listen {
    Listen {
        address: of.address.map_or(OTHER.to_owned(), |address| address.to_string()),
        open: of.open,
        sockets: of.sockets,
        accepted: of.accepted,
        active: of.active,
        sent_bytes: of.sent_bytes,
        received_bytes: of.received_bytes,
        retransmits: of.retransmits,
        closes: closes(&of.closes),
    }
}

fn unix(wall_ns: u64) -> f64 {
    wall_ns as f64 / 1e9
}

/// By what became of them. Those that only a sum tells of are `unknown`.
fn failures(of: &samples::Destination) -> BTreeMap<String, u64> {
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for (errno, count) in &of.failures_by_errno {
        *words.entry(word(*errno)).or_default() += count;
    }
    let told: u64 = words.values().sum();
    if of.failures > told {
        words.insert("unknown".to_owned(), of.failures - told);
    }
    words
}

fn word(errno: i32) -> String {
    let word = match errno {
        // No error came: its caller gave up, or the host let no SYN out.
        0 => "abandoned_or_unrouted",
        libc::ECONNREFUSED => "refused",
        libc::ETIMEDOUT => "timed_out",
        libc::ENETUNREACH | libc::EHOSTUNREACH => "unreachable",
        libc::ECONNRESET => "reset",
        _ => return format!("errno_{errno}"),
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        container::exchanges::ByProtocol,
        decode::DestinationKey,
        runtimes::{
            Runtime,
            metadata::{self, Published},
        },
    };

    fn failed(failures: u64, by_errno: &[(i32, u64)]) -> samples::Destination {
        samples::Destination {
            key: Some(DestinationKey::direct("10.0.0.1:80".parse().unwrap())),
            connects: 0,
            failures,
            failures_by_errno: by_errno.iter().copied().collect(),
            active: 0,
            connect_ns: 0,
            sent_bytes: 0,
            received_bytes: 0,
            retransmits: 0,
            closes: Closes::default(),
            exchanges: ByProtocol::default(),
            has_connected: false,
        }
    }

    #[test]
    fn a_path_that_is_no_text() {
        assert_eq!(text(b"/a/\xc3\xa4"), "/a/ä");
        assert_eq!(text(b"/a\xff\xc3"), r"/a\xff\xc3");
        assert_eq!(text(b""), "");
    }

    #[test]
    fn failures_in_words() {
        let errnos = [(0, 1), (101, 2), (113, 3), (111, 4), (110, 5), (104, 6), (13, 7)];
        let words: Vec<_> = failures(&failed(30, &errnos)).into_iter().collect();
        let expected = [
            ("abandoned_or_unrouted", 1),
            ("errno_13", 7),
            ("refused", 4),
            ("reset", 6),
            ("timed_out", 5),
            ("unknown", 2),
            ("unreachable", 5),
        ];
        assert_eq!(words, expected.map(|(word, count)| (word.to_owned(), count)));
        assert!(failures(&failed(0, &[])).is_empty());
    }

    #[test]
    fn what_a_runtime_knows() {
        let mut metadata = Metadata::new(Runtime::Docker);
        metadata.set_name("/web");
        metadata.image = "nginx:1".to_owned();
        metadata.set_labels([("team", "shop")]);
        metadata.published = vec![Published {
            host: "[::1]:8080".parse().unwrap(),
            port: 80,
        }];
        metadata.unit = Some(metadata::Unit {
            kind: "oneshot".to_owned(),
            triggered_by: "a.timer".to_owned(),
            description: "A".to_owned(),
        });
        let expected = serde_json::json!({"runtime": "docker", "name": "web", "image": "nginx:1", "labels": {"team": "shop"},
            "published": ["[::1]:8080 -> 80"], "mounts": {},
            "unit": {"type": "oneshot", "triggered_by": "a.timer", "description": "A"}});
        assert_eq!(serde_json::to_value(described(&metadata)).unwrap(), expected);
    }
}
