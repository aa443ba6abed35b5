//! What a scrape says of the containers.
use super::{names, requests, series::Series};
use crate::{
    base::{fqdn::Fqdn, ids::ContainerId},
    config::Label,
    container::{
        health::{Health, RTT_BOUNDS},
        samples::{Destination, Samples},
    },
    decode::{DestinationKey, Role},
    registry::identity::{app_id, parts},
};
use prometheus::proto::MetricFamily;
use std::net::IpAddr;
use tarsier_common::CLOSE_REASON_NAMES;

/// Who the node and the agent are: labels of every series, and of the families that say nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLabels {
    pub machine_id: String,
    pub system_uuid: String,
    pub hostname: String,
    pub kernel_version: String,
    pub version: String,
    pub revision: String,
}

/// The destination of all connections beyond the limit of destinations.
pub const OTHER: &str = "~other";

/// Of those that are exposed, with those labels beside their own. Two samples of one container are added up.
pub fn containers(samples: &[Samples], node: &NodeLabels, labels: &[Label]) -> Vec<MetricFamily> {
    let mut series = Series::new(node);
    for container in Samples::merge(samples).iter().filter(|container| container.exposed) {
        let (id, app_id) = (container.id.as_str(), app_id(&container.id));
        let (image, triggered_by, kind) = described(container);
        series.more = optional(&container.id, labels);
        series.add(&names::CONTAINER_INFO, [id, &app_id, image, triggered_by, kind], 1.0);
        series.add(&names::RESTARTS, [id, &app_id], container.restarts as f64);
        if container.oom_kills > 0 {
            series.add(&names::OOM_KILLS, [id, &app_id], container.oom_kills as f64);
        }
        for application in &container.applications {
            series.add(&names::APPLICATION_TYPE, [id, &app_id, application.as_str()], 1.0);
        }
        for destination in &container.destinations {
            connections(&mut series, [id, &app_id], destination);
            requests::outbound(&mut series, [id, &app_id], destination);
        }
        for listen in &container.listens {
            if let Some(address) = listen.address {
                let open = f64::from(u8::from(listen.open));
                series.add(&names::LISTEN_INFO, [id, &app_id, &address.to_string(), ""], open);
            }
        }
        requests::add(&mut series, [id, &app_id], &container.requests);
        for role in Role::ALL {
            health(&mut series, [id, &app_id, role.as_str()], container.health.of(role));
        }
    }
    series.finish()
}

fn optional(id: &ContainerId, labels: &[Label]) -> Vec<(&'static str, String)> {
    if labels.is_empty() {
        return Vec::new();
    }
    let parts = parts(id);
    let value = |label: &Label| match label {
        Label::Namespace => &parts.namespace,
        Label::Workload => &parts.workload,
        Label::Pod => &parts.pod,
        Label::Container => &parts.container,
        Label::Process => &parts.process,
        Label::Pid => &parts.pid,
    };
    labels
        .iter()
        .map(|label| (label.as_str(), value(label).clone()))
        .collect()
}

/// The names of addresses, once for the node.
pub fn names(names: &[(IpAddr, Fqdn)], node: &NodeLabels) -> Vec<MetricFamily> {
    let mut series = Series::new(node);
    for (ip, name) in names {
        series.add(&names::IP_TO_FQDN, [&ip.to_string(), name.as_str()], 1.0);
    }
    series.finish()
}

/// Image, and of a unit what triggers it and its type.
fn described(container: &Samples) -> (&str, &str, &str) {
    let Some(metadata) = &container.metadata else {
        return ("", "", "");
    };
    let unit = metadata.unit.as_ref();
    let unit = unit.map_or(("", ""), |unit| (unit.triggered_by.as_str(), unit.kind.as_str()));
    (&metadata.image, unit.0, unit.1)
}

fn connections(series: &mut Series<'_>, [id, app_id]: [&str; 2], of: &Destination) {
    let (destination, actual) = destination_labels(of);
    if of.has_connected {
        for (family, value) in [
            (&names::CONNECTS, of.connects as f64),
            (&names::ACTIVE_CONNECTIONS, of.active as f64),
            (&names::CONNECTION_TIME, of.connect_ns as f64 / 1e9),
            (&names::BYTES_SENT, of.sent_bytes as f64),
            (&names::BYTES_RECEIVED, of.received_bytes as f64),
        ] {
            series.add(family, [id, app_id, &destination, &actual], value);
        }
    }
    // A connect that failed had segments, too.
    if of.has_connected || of.retransmits > 0 {
        let value = of.retransmits as f64;
        series.add(&names::RETRANSMITS, [id, app_id, &destination, &actual], value);
    }
    if of.failures > 0 {
        series.add(&names::FAILED_CONNECTS, [id, app_id, &destination], of.failures as f64);
    }
}

fn health(series: &mut Series<'_>, [id, app_id, role]: [&str; 3], of: &Health) {
    if of.closes.iter().any(|n| *n > 0) {
        for (reason, n) in CLOSE_REASON_NAMES.iter().zip(of.closes) {
            series.add(&names::TCP_CLOSES, [id, app_id, role, reason], n as f64);
        }
    }
    if of.rtt.count() > 0 {
        let buckets = (&RTT_BOUNDS[..], &of.rtt.buckets[..]);
        series.add_histogram(&names::TCP_RTT, [id, app_id, role], buckets, of.rtt.sum_us as f64 / 1e6);
    }
}

/// `destination` and `actual_destination`.
pub fn destination_labels(of: &Destination) -> (String, String) {
    match &of.key {
        Some(DestinationKey::Address(route)) => (route.destination.to_string(), route.actual.to_string()),
        // Any of its addresses.
        Some(DestinationKey::Name(name, port)) => (format!("{name}:{port}"), String::new()),
        None => (OTHER.to_owned(), String::new()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        base::ids::Application,
        container::{exchanges::ByProtocol, health::HealthByRole, requests::Requests, samples::Listen},
        metrics::{contract, text},
    };
    use std::collections::{BTreeMap, BTreeSet};

    pub(in crate::metrics) fn node() -> NodeLabels {
        NodeLabels {
            machine_id: "m".to_owned(),
            system_uuid: "u".to_owned(),
            ..NodeLabels::default()
        }
    }

    pub(in crate::metrics) fn container(id: &str) -> Samples {
        Samples {
            id: id.into(),
            exposed: true,
            since_wall_ns: 7,
            processes: 1,
            restarts: 0,
            oom_kills: 0,
            applications: BTreeSet::new(),
            destinations: Vec::new(),
            listens: Vec::new(),
            files: [].into(),
            files_left_out: 0,
            health: HealthByRole::default(),
            requests: Requests::default(),
            metadata: None,
            rejected: 0,
        }
    }

    pub(in crate::metrics) fn destination(remote: Option<&str>) -> Destination {
        Destination {
            key: remote.map(|remote| DestinationKey::direct(remote.parse().unwrap())),
            connects: 3,
            failures: 0,
            failures_by_errno: BTreeMap::new(),
            active: 0,
            connect_ns: 1_500_000,
            sent_bytes: 10,
            received_bytes: 1 << 40,
            retransmits: 4,
            closes: [2, 1, 0, 0],
            exchanges: ByProtocol::default(),
            has_connected: true,
        }
    }

    fn failed(remote: &str) -> Destination {
        Destination {
            failures: 2,
            retransmits: 0,
            has_connected: false,
            ..destination(Some(remote))
        }
    }

    fn listen(address: &str, sockets: usize) -> Listen {
        Listen {
            address: Some(address.parse().unwrap()),
            sockets,
            open: sockets > 0,
            ..Listen::default()
        }
    }

    #[test]
    fn every_kind_of_row() {
        let web = Samples {
            destinations: vec![
                destination(None),
                failed("10.0.0.1:1"),
                destination(Some("10.0.0.1:80")),
                destination(Some("[fd00::1]:80")),
            ],
            listens: vec![listen("10.0.0.2:80", 2), listen("[::1]:443", 0), Listen::default()],
            health: HealthByRole::example(),
            restarts: 2,
            oom_kills: 3,
            applications: ["nginx", "php"].map(Application::from).into(),
            ..container("/k8s/shop/web-0/app")
        };
        let young = Samples {
            exposed: false,
            ..web.clone()
        };
        let young = Samples {
            id: "/young".into(),
            ..young
        };
        let odd = container("/a\"b\\c");
        let families = containers(&[web, young, odd], &node(), &[]);
        contract::check(&families);
        assert_eq!(text::encode(families), include_str!("testdata/containers.prom"));
    }

    #[test]
    fn two_samples_of_a_container_are_one() {
        let running = Samples {
            destinations: vec![destination(Some("10.0.0.1:80")), failed("10.0.0.3:1")],
            listens: vec![listen("10.0.0.2:80", 0)],
            restarts: 1,
            applications: ["nginx"].map(Application::from).into(),
            ..container("/a")
        };
        let held = Samples {
            exposed: false,
            destinations: vec![destination(Some("10.0.0.1:80")), destination(Some("10.0.0.2:80"))],
            listens: vec![listen("10.0.0.2:80", 1), listen("10.0.0.9:1", 1)],
            restarts: 1,
            oom_kills: 1,
            applications: ["nginx"].map(Application::from).into(),
            ..container("/a")
        };
        let together = containers(&[running.clone(), held.clone()], &node(), &[]);
        assert_eq!(
            together,
            containers(&[held, running], &node(), &[]),
            "in whatever order"
        );
        contract::check(&together);
        let text = text::encode(together);
        let value = |start: &str, with: &str| {
            let mut lines = text
                .lines()
                .filter(|line| line.starts_with(start) && line.contains(with));
            let line = lines.next().unwrap();
            assert_eq!(lines.next(), None);
            line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
        };
        assert_eq!(value(names::CONTAINER_INFO.name, "/a"), 1.0);
        assert_eq!(value(names::RESTARTS.name, "/a"), 2.0);
        assert_eq!(value(names::OOM_KILLS.name, "/a"), 1.0);
        assert_eq!(value(names::APPLICATION_TYPE.name, "nginx"), 1.0);
        assert_eq!(value(names::CONNECTS.name, "\"10.0.0.1:80\""), 6.0);
        assert_eq!(value(names::CONNECTION_TIME.name, "\"10.0.0.1:80\""), 0.003);
        assert_eq!(value(names::CONNECTS.name, "\"10.0.0.2:80\""), 3.0);
        assert_eq!(value(names::FAILED_CONNECTS.name, "\"10.0.0.3:1\""), 2.0);
        assert_eq!(value(names::LISTEN_INFO.name, "10.0.0.2:80"), 1.0);
        assert_eq!(value(names::LISTEN_INFO.name, "10.0.0.9:1"), 1.0);
    }

    #[test]
    fn names_of_destinations_and_of_addresses() {
        let fqdn = |name: &str| Fqdn::new(name.as_bytes()).unwrap();
        let named = Destination {
            key: Some(DestinationKey::Name(fqdn("a.example"), 443)),
            failures: 1,
            ..destination(None)
        };
        let web = Samples {
            destinations: vec![destination(Some("[fd00::1]:80")), named],
            ..container("/a")
        };
        let mut families = containers(&[web], &node(), &[]);
        contract::check(&families);
        let addresses = [("fd00::1", "b.internal"), ("10.0.0.1", "c.internal")];
        let addresses = addresses.map(|(ip, name)| (ip.parse().unwrap(), fqdn(name)));
        let of_node = names(&addresses, &node());
        contract::check(&of_node);
        families.extend(of_node);
        let text = text::encode(families);
        for line in [
            r#"container_net_tcp_successful_connects_total{actual_destination="",app_id="",container_id="/a",destination="a.example:443",machine_id="m",system_uuid="u"} 3"#,
            r#"container_net_tcp_failed_connects_total{app_id="",container_id="/a",destination="a.example:443",machine_id="m",system_uuid="u"} 1"#,
            r#"ip_to_fqdn{fqdn="b.internal",ip="fd00::1",machine_id="m",system_uuid="u"} 1"#,
            r#"ip_to_fqdn{fqdn="c.internal",ip="10.0.0.1",machine_id="m",system_uuid="u"} 1"#,
        ] {
            assert!(text.lines().any(|is| is == line), "{line}\n{text}");
        }
    }

    #[test]
    fn nothing_says_nothing() {
        assert!(names(&[], &node()).is_empty());
        assert!(containers(&[], &node(), &[]).is_empty());
        let young = Samples {
            exposed: false,
            ..container("/a")
        };
        assert!(containers(&[young], &node(), &[]).is_empty());
    }
    const ALL: [Label; 6] = [
        Label::Namespace,
        Label::Workload,
        Label::Pod,
        Label::Container,
        Label::Process,
        Label::Pid,
    ];

    #[test]
    fn optional_labels_are_on_every_series_of_every_container() {
        let web = Samples {
            destinations: vec![destination(Some("10.0.0.1:80"))],
            listens: vec![listen("10.0.0.2:80", 2)],
            health: HealthByRole::example(),
            oom_kills: 3,
            applications: ["nginx"].map(Application::from).into(),
            ..container("/k8s/shop/web-0/app")
        };
        let all = [web, container("/standalone/sh/7")];
        let plain = containers(&all, &node(), &[]);
        let labelled = containers(&all, &node(), &ALL);
        let count = |families: &[MetricFamily]| families.iter().map(|family| family.get_metric().len()).sum::<usize>();
        assert_eq!(count(&plain), count(&labelled));
        let mut series = 0;
        for metric in labelled.iter().flat_map(MetricFamily::get_metric) {
            let labels = metric.get_label();
            assert!(labels.is_sorted_by(|a, b| a.name() < b.name()), "{labels:?}");
            let value = |name: &str| labels.iter().find(|pair| pair.name() == name).unwrap().value();
            let values = ALL.map(|label| value(label.as_str()));
            let expected = match value("container_id") {
                "/k8s/shop/web-0/app" => ["shop", "web", "web-0", "app", "", ""],
                _ => ["", "", "", "", "sh", "7"],
            };
            assert_eq!(values, expected);
            series += 1;
        }
        assert!(series > 10, "{series}");
        // Only those that were asked for.
        let one = text::encode(containers(&all, &node(), &[Label::Pid]));
        assert!(one.contains(r#"pid="7""#) && !one.contains("namespace="), "{one}");
    }

    #[test]
    fn no_optional_label_is_a_families_own() {
        for family in names::all() {
            for label in ALL {
                assert!(!family.labels().any(|own| own == label.as_str()), "{}", family.name);
            }
        }
    }
}
