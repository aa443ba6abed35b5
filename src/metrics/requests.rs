//! What a scrape says of requests.
use super::{
    families::{OTHER, destination_labels},
    names::{self, Family},
    series::Series,
};
use crate::{
    container::{requests::Requests, samples::Destination},
    decode::{Latency, Role, question_type_name},
};
use std::borrow::Cow;

/// What it has asked name servers for, all that it has answered, and what was not understood.
pub(super) fn add(series: &mut Series<'_>, [id, app_id]: [&str; 2], of: &Requests) {
    let dns = &of.dns;
    for ((question, status), count) in &dns.asked {
        let (domain, request_type) = question_labels(question.as_ref());
        let labels = [id, app_id, &request_type, domain, status.as_str()];
        series.add(&names::DNS_REQUESTS, labels, *count as f64);
    }
    for (status, count) in &dns.answered {
        series.add(
            &names::DNS_INBOUND_REQUESTS,
            [id, app_id, status.as_str()],
            *count as f64,
        );
    }
    for (family, latency) in [
        (&names::DNS_LATENCY, &dns.asked_latency),
        (&names::DNS_INBOUND_LATENCY, &dns.answered_latency),
    ] {
        took(series, family, [id, app_id], latency);
    }
    for role in Role::ALL {
        let count = dns.unanswered[role as usize];
        if count > 0 {
            series.add(&names::DNS_UNANSWERED, [id, app_id, role.as_str()], count as f64);
        }
    }
    for (protocol, outcomes) in of.inbound.iter() {
        let Some(families) = names::requests(protocol) else {
            continue;
        };
        for (status, count) in outcomes.by_status(protocol) {
            series.add(&families.inbound, [id, app_id, status], count as f64);
        }
        took(series, &families.inbound_latency, [id, app_id], &outcomes.latency);
    }
    for ((protocol, reason), count) in &of.unparsed {
        let labels = [id, app_id, protocol.as_str(), reason.as_str()];
        series.add(&names::UNPARSED, labels, *count as f64);
    }
}

/// What it has asked for there.
pub(super) fn outbound(series: &mut Series<'_>, [id, app_id]: [&str; 2], of: &Destination) {
    if of.exchanges.is_empty() {
        return;
    }
    let (destination, actual) = destination_labels(of);
    for (protocol, outcomes) in of.exchanges.iter() {
        let Some(families) = names::requests(protocol) else {
            continue;
        };
        for (status, count) in outcomes.by_status(protocol) {
            let labels = [id, app_id, &destination, &actual, status];
            series.add(&families.outbound, labels, count as f64);
        }
        let labels = [id, app_id, &destination, &actual];
        took(series, &families.outbound_latency, labels, &outcomes.latency);
    }
}

fn took<const N: usize>(series: &mut Series<'_>, family: &Family, labels: [&str; N], latency: &Latency) {
    if latency.count() > 0 {
        let bounds = Latency::BOUNDS_NS.map(|ns| ns as f64 / 1e9);
        let buckets = (&bounds[..], &latency.counts[..]);
        series.add_histogram(family, labels, buckets, latency.sum_ns as f64 / 1e9);
    }
}

/// `domain` and `request_type`.
pub fn question_labels(question: Option<&(u16, Box<str>)>) -> (&str, Cow<'static, str>) {
    match question {
        Some((request_type, domain)) => (domain, question_type_name(*request_type)),
        None => (OTHER, OTHER.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        container::{exchanges::ByProtocol, samples::Samples},
        decode::{Exchanges, Protocol, UnparsedReason},
        metrics::{
            contract,
            families::{
                containers,
                tests::{container, destination, node},
            },
            text,
        },
    };

    #[test]
    fn what_was_asked_and_answered() {
        let resolver = Samples {
            requests: Requests::example(),
            ..container("/a")
        };
        let families = containers(&[resolver], &node(), &[]);
        contract::check(&families);
        let text = text::encode(families);
        let has = |name: &str, labels: &[&str], value: &str| {
            let is = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
            let line = text.lines().filter(|line| !line.starts_with('#')).find(is);
            assert_eq!(
                line.and_then(|line| line.rsplit_once(' ')).map(|(_, is)| is),
                Some(value),
                "{name}\n{text}"
            );
        };
        let example = [r#"domain="a.example""#, r#"request_type="TypeAAAA""#, r#"status="ok""#];
        has(names::DNS_REQUESTS.name, &example, "1");
        let other = [r#"domain="~other""#, r#"request_type="~other""#, r#"status="servfail""#];
        has(names::DNS_REQUESTS.name, &other, "1");
        has(names::DNS_INBOUND_REQUESTS.name, &[r#"status="nxdomain""#], "1");
        for (family, count) in [(names::DNS_LATENCY, "2"), (names::DNS_INBOUND_LATENCY, "1")] {
            has(&format!("{}_bucket", family.name), &[r#"le="0.005""#], count);
            has(&format!("{}_count", family.name), &[], count);
        }
        has(names::DNS_UNANSWERED.name, &[r#"role="client""#], "4");
        has(names::UNPARSED.name, &[r#"protocol="dns""#, r#"reason="cut""#], "5");
    }

    fn lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    /// Without those that every container has.
    fn said(container: Samples) -> Vec<String> {
        let families = containers(&[container], &node(), &[]);
        contract::check(&families);
        let text = text::encode(families);
        let own = |line: &&str| !line.starts_with("container_info") && !line.starts_with("container_restarts");
        let one_of_them = |line: &&str| !line.contains("_bucket{") || line.starts_with("container_http_requests");
        let short = |line: &str| {
            line.replace(r#"app_id="",container_id="/a","#, "")
                .replace(r#"machine_id="m","#, "")
        };
        lines(&text)
            .into_iter()
            .filter(own)
            .filter(one_of_them)
            .map(short)
            .collect()
    }

    #[test]
    fn every_protocol_by_destination_and_as_answered() {
        let mut web = container("/a");
        for protocol in Protocol::ALL {
            let example = ByProtocol::example(protocol);
            web.requests.inbound.absorb(&example);
            let to = crate::container::samples::Destination {
                connects: 0,
                retransmits: 0,
                has_connected: false,
                exchanges: example,
                ..destination(Some(&format!("10.0.0.{}:80", protocol as u8)))
            };
            web.destinations.push(to);
        }
        web.destinations.rotate_left(1);
        let exchanges = web.destinations[0].exchanges.clone();
        web.destinations.push(crate::container::samples::Destination {
            exchanges,
            ..destination(None)
        });
        insta::assert_snapshot!(said(web).join("\n"));
    }

    #[test]
    fn every_protocol_and_reason_of_what_was_not_understood() {
        let mut web = container("/a");
        let all = Protocol::ALL
            .into_iter()
            .flat_map(|protocol| UnparsedReason::ALL.map(|reason| (protocol, reason)));
        web.requests.unparsed.extend(all.zip(1..));
        let lines = said(web);
        assert_eq!(lines.len(), Protocol::ALL.len() * UnparsedReason::ALL.len());
        let expected =
            r#"tarsier_container_l7_unparsed_total{protocol="memcached",reason="unanswered",system_uuid="u"} 40"#;
        assert!(lines.iter().any(|line| line == expected), "{lines:?}");
    }

    #[test]
    fn counts_that_a_recording_may_claim() {
        let mut web = container("/a");
        let full = Exchanges {
            classes: [u64::MAX; 6],
            latency: Latency {
                counts: [u64::MAX; 12],
                sum_ns: u64::MAX,
            },
            ..Exchanges::example(Role::Server, Protocol::Redis)
        };
        web.requests.answered(&full);
        let lines = said(web);
        let count = lines
            .iter()
            .find(|line| line.starts_with("container_redis_inbound_queries_duration_seconds_total_count"));
        assert_eq!(
            count.unwrap().rsplit_once(' ').unwrap().1,
            (u64::MAX as f64).to_string()
        );
    }
}
