//! What a scrape says of the containers.
use super::{names, series::Series};
use crate::{
    container::samples::{Destination, Samples},
    registry::identity::app_id,
};
use prometheus::proto::MetricFamily;

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

/// Of those that are exposed. Two samples of one container are added up.
pub fn containers(samples: &[Samples], node: &NodeLabels) -> Vec<MetricFamily> {
    let mut series = Series::new(node);
    for container in Samples::merge(samples).iter().filter(|container| container.exposed) {
        let (id, app_id) = (container.id.as_str(), app_id(&container.id));
        series.add(&names::CONTAINER_INFO, [id, &app_id, "", "", ""], 1.0);
        for destination in &container.destinations {
            connections(&mut series, [id, &app_id], destination);
        }
        for listen in &container.listens {
            let open = if listen.sockets > 0 { 1.0 } else { 0.0 };
            let address = listen.address.to_string();
            series.add(&names::LISTEN_INFO, [id, &app_id, &address, ""], open);
        }
    }
    series.finish()
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
    if of.failures > 0 {
        series.add(&names::FAILED_CONNECTS, [id, app_id, &destination], of.failures as f64);
    }
}

/// `destination` and `actual_destination`.
pub fn destination_labels(of: &Destination) -> (String, String) {
    match of.remote {
        Some(remote) => (remote.to_string(), remote.to_string()),
        None => (OTHER.to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        container::samples::Listen,
        metrics::{contract, text},
    };
    use std::collections::BTreeMap;

    fn node() -> NodeLabels {
        NodeLabels {
            machine_id: "m".to_owned(),
            system_uuid: "u".to_owned(),
            ..NodeLabels::default()
        }
    }

    fn container(id: &str) -> Samples {
        Samples {
            id: id.into(),
            exposed: true,
            since_wall_ns: 7,
            processes: 1,
            destinations: Vec::new(),
            listens: Vec::new(),
            rejected: 0,
        }
    }

    fn destination(remote: Option<&str>) -> Destination {
        Destination {
            remote: remote.map(|remote| remote.parse().unwrap()),
            connects: 3,
            failures: 0,
            failures_by_errno: BTreeMap::new(),
            active: 0,
            connect_ns: 1_500_000,
            sent_bytes: 10,
            received_bytes: 1 << 40,
            has_connected: true,
        }
    }

    fn failed(remote: &str) -> Destination {
        Destination {
            failures: 2,
            has_connected: false,
            ..destination(Some(remote))
        }
    }

    fn listen(address: &str, sockets: usize) -> Listen {
        Listen {
            address: address.parse().unwrap(),
            sockets,
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
            listens: vec![listen("10.0.0.2:80", 2), listen("[::1]:443", 0)],
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
        let families = containers(&[web, young, odd], &node());
        contract::check(&families);
        assert_eq!(text::encode(families), include_str!("testdata/containers.prom"));
    }

    #[test]
    fn two_samples_of_a_container_are_one() {
        let running = Samples {
            destinations: vec![destination(Some("10.0.0.1:80")), failed("10.0.0.3:1")],
            listens: vec![listen("10.0.0.2:80", 0)],
            ..container("/a")
        };
        let held = Samples {
            exposed: false,
            destinations: vec![destination(Some("10.0.0.1:80")), destination(Some("10.0.0.2:80"))],
            listens: vec![listen("10.0.0.2:80", 1), listen("10.0.0.9:1", 1)],
            ..container("/a")
        };
        let together = containers(&[running.clone(), held.clone()], &node());
        assert_eq!(together, containers(&[held, running], &node()), "in whatever order");
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
        assert_eq!(value(names::CONNECTS.name, "\"10.0.0.1:80\""), 6.0);
        assert_eq!(value(names::CONNECTION_TIME.name, "\"10.0.0.1:80\""), 0.003);
        assert_eq!(value(names::CONNECTS.name, "\"10.0.0.2:80\""), 3.0);
        assert_eq!(value(names::FAILED_CONNECTS.name, "\"10.0.0.3:1\""), 2.0);
        assert_eq!(value(names::LISTEN_INFO.name, "10.0.0.2:80"), 1.0);
        assert_eq!(value(names::LISTEN_INFO.name, "10.0.0.9:1"), 1.0);
    }

    #[test]
    fn nothing_says_nothing() {
        assert!(containers(&[], &node()).is_empty());
        let young = Samples {
            exposed: false,
            ..container("/a")
        };
        assert!(containers(&[young], &node()).is_empty());
    }
}
