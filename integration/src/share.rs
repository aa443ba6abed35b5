//! Whose it is, what a workload did that listens and connects.
use crate::{Metrics, Sample};
use serde_json::Value;
use std::collections::BTreeSet;

/// What is to be seen of one workload.
pub struct Share<'a> {
    /// What the test calls it.
    pub name: &'a str,
    /// Empty: nobody is to have it.
    pub id: &'a str,
    pub app: &'a str,
    /// A label of `container_info`, and what it says; no label: whatever it says.
    pub told: (&'a str, &'a str),
    /// Where it listens, and nobody else does.
    pub port: u16,
    /// Whom it connects to, and nobody else does.
    pub next: String,
    pub connects: u64,
    pub accepted: u64,
}

impl Share<'_> {
    /// What the metrics say instead.
    pub fn wrong_in(&self, metrics: &Metrics) -> Vec<String> {
        let Self { id, app, connects, .. } = self;
        let all = self.shown(format!("{id} {app} {} {connects}", self.next));
        let connected = if *connects > 0 { &all[..] } else { &[] };
        let (label, value) = self.told;
        let (info, told) = match label {
            "" => (BTreeSet::new(), vec![]),
            _ => (self.info(metrics, label), vec![value.to_owned()]),
        };
        let differences = [
            self.differs("connects", &connects_to(metrics, &self.next), connected),
            self.differs("listens", &self.listens(metrics), &self.shown(format!("{id} {app}"))),
            self.differs("info", &info, &told),
        ];
        differences.into_iter().flatten().collect()
    }

    /// What the API says instead of the container that has its id.
    pub fn wrong_in_container(&self, container: &Value) -> Option<String> {
        let expected = self.shown(self.accepted.to_string());
        self.differs("accepted", &self.accepted(container), &expected)
    }

    /// Nothing, of one that nobody wants to see.
    fn shown(&self, text: String) -> Vec<String> {
        if self.id.is_empty() { vec![] } else { vec![text] }
    }

    fn differs(&self, what: &str, found: &BTreeSet<String>, expected: &[String]) -> Option<String> {
        let same = found.iter().eq(expected);
        (!same).then(|| format!("{}: {what}: {found:?} instead of {expected:?}", self.name))
    }

    /// Whoever listens on its port, at whatever address. (The test itself has looked whether it was free.)
    fn listens(&self, metrics: &Metrics) -> BTreeSet<String> {
        let port = format!(":{}", self.port);
        let all = metrics.all("container_net_tcp_listen_info", &[]);
        all.filter(|listen| listen.label("listen_addr").ends_with(&port) && listen.value == 1.0)
            .map(owner)
            .collect()
    }

    /// How many came where it listens.
    fn accepted(&self, container: &Value) -> BTreeSet<String> {
        let listens = container["listens"].as_array().cloned().unwrap_or_default();
        let port = format!(":{}", self.port);
        let of_port = |listen: &&Value| {
            listen["address"]
                .as_str()
                .is_some_and(|address| address.ends_with(&port))
        };
        let counts: Vec<_> = listens
            .iter()
            .filter(of_port)
            .filter_map(|listen| listen["accepted"].as_u64())
            .collect();
        (!counts.is_empty())
            .then(|| counts.iter().sum::<u64>().to_string())
            .into_iter()
            .collect()
    }

    fn info(&self, metrics: &Metrics, label: &str) -> BTreeSet<String> {
        let labels = [("container_id", self.id)];
        let infos = metrics.all("container_info", &labels);
        infos.map(|info| info.label(label).to_owned()).collect()
    }
}

/// Ids with one of `words` in them: those of somebody whose runtime has not been heard.
pub fn strangers<'a>(metrics: &Metrics, words: impl Iterator<Item = &'a str> + Clone) -> BTreeSet<String> {
    let ids = metrics.samples().iter().map(|sample| sample.label("container_id"));
    ids.filter(|id| words.clone().any(|word| id.contains(word)))
        .map(|id| format!("there is {id}"))
        .collect()
}

fn owner(sample: &Sample) -> String {
    format!("{} {}", sample.label("container_id"), sample.label("app_id"))
}

/// By anybody, failed ones too.
fn connects_to(metrics: &Metrics, address: &str) -> BTreeSet<String> {
    let labels = [("destination", address)];
    let made = metrics.all("container_net_tcp_successful_connects_total", &labels);
    let made = made.map(|one| format!("{} {} {}", owner(one), one.label("actual_destination"), one.value));
    let failed = metrics.all("container_net_tcp_failed_connects_total", &labels);
    made.chain(failed.map(|one| format!("{} failed {}", owner(one), one.value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SEEN: &str = concat!(
        "container_net_tcp_listen_info{container_id=\"/a\",app_id=\"\",listen_addr=\"10.0.0.1:80\"} 1\n",
        "container_net_tcp_successful_connects_total{container_id=\"/a\",app_id=\"\",destination=\"b:1\",actual_destination=\"b:1\"} 3\n",
        "container_info{container_id=\"/a\",image=\"i\"} 1\n",
    );

    fn share() -> Share<'static> {
        Share {
            name: "a",
            id: "/a",
            app: "",
            told: ("image", "i"),
            port: 80,
            next: "b:1".to_owned(),
            connects: 3,
            accepted: 2,
        }
    }

    fn wrong(seen: &str, share: &Share<'_>) -> usize {
        let container = json!({ "listens": [{ "address": "10.0.0.1:80", "accepted": 2 }] });
        let wrong = share.wrong_in(&Metrics::parse(seen)).len();
        wrong + usize::from(share.wrong_in_container(&container).is_some())
    }

    #[test]
    fn all_that_is_not_as_it_was_is_told() {
        assert_eq!(wrong(SEEN, &share()), 0);
        let other = SEEN.replace("/a", "/b");
        assert_eq!(wrong(&other, &share()), 3, "connects, listens and info are another's");
        let both = format!("{SEEN}{other}");
        assert_eq!(wrong(&both, &share()), 2, "another has them too");
        for connects in [0, 4] {
            assert_eq!(wrong(SEEN, &Share { connects, ..share() }), 1);
        }
        let accepted = 3;
        assert_eq!(wrong(SEEN, &Share { accepted, ..share() }), 1);
        let (id, told) = ("", ("", ""));
        assert_eq!(wrong(SEEN, &Share { id, told, ..share() }), 3, "nobody is to have them");
        assert_eq!(strangers(&Metrics::parse(SEEN), ["/x", "a"].into_iter()).len(), 1);
    }
}
