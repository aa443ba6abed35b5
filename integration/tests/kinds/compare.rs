//! What the agent says of all rows, and where it is something else than what they are and did.
use crate::{scene::Row, table::RENAMED};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tarsier_integration::{Agent, Metrics, Sample, Stopwatch, pause};

const SOON: Duration = Duration::from_secs(30);
/// Longer than two passes over the totals: what would be counted twice, would be by now.
const TWO_PASSES: Duration = Duration::from_millis(2500);

/// What is to be seen.
pub(crate) struct Expected<'a> {
    /// Words that are in nobody's id.
    pub(crate) unwanted: &'a [String],
    pub(crate) rows: &'a [Row],
    /// How often each has connected since the agent came.
    pub(crate) connects: Vec<u64>,
    pub(crate) renamed: bool,
}

impl Expected<'_> {
    fn id(&self, row: &Row) -> &'static str {
        match self.renamed && row.kind.name == RENAMED.0 {
            true => RENAMED.1,
            false => row.kind.id,
        }
    }

    /// Waits until the agent says exactly that, and goes on to.
    #[track_caller]
    pub(crate) fn wait_for(&self, agent: &Agent, when: &str) {
        let watch = Stopwatch::start();
        loop {
            let wrong = self.wrong(agent);
            if wrong.is_empty() {
                break;
            }
            assert!(watch.elapsed() < SOON, "{when}:\n{}", wrong.join("\n"));
            pause(Duration::from_millis(300));
        }
        pause(TWO_PASSES);
        let wrong = self.wrong(agent);
        assert!(wrong.is_empty(), "{when}, a little later:\n{}", wrong.join("\n"));
    }

    fn wrong(&self, agent: &Agent) -> Vec<String> {
        let mut wrong = self.wrong_in(&agent.metrics());
        for (at, row) in self.rows.iter().enumerate() {
            let id = self.id(row);
            let previous = self.connects[(at + self.rows.len() - 1) % self.rows.len()];
            let (found, expected) = (accepted(agent, id, row), shown(id, previous.to_string()));
            wrong.extend(differs(row, "accepted", &found, &expected));
        }
        wrong
    }

    /// What metrics alone tell.
    pub(crate) fn wrong_in(&self, metrics: &Metrics) -> Vec<String> {
        let mut wrong = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            let mut is = |what: &str, found: BTreeSet<String>, expected: &[String]| {
                wrong.extend(differs(row, what, &found, expected));
            };
            let (id, app, next) = (self.id(row), row.kind.app, row.next.to_string());
            let connects = self.connects[at];
            let all = shown(id, format!("{id} {app} {next} {connects}"));
            is(
                "connects",
                connects_to(metrics, &next),
                if connects > 0 { &all } else { &[] },
            );
            is("listens", listens(metrics, row), &shown(id, format!("{id} {app}")));
            let (label, value) = row.kind.told;
            if !label.is_empty() {
                is("info", told(metrics, id, label), &[value.to_owned()]);
            }
        }
        wrong.extend(self.strangers(metrics));
        wrong
    }

    /// Ids of whoever has another, or none.
    fn strangers(&self, metrics: &Metrics) -> BTreeSet<String> {
        let former = self.rows.iter().map(|row| row.kind.id);
        let former = former.filter(|id| self.renamed && self.rows.iter().all(|row| self.id(row) != *id));
        let unwanted: Vec<_> = self.unwanted.iter().map(String::as_str).chain(former).collect();
        let ids = metrics.samples().iter().map(|sample| sample.label("container_id"));
        ids.filter(|id| unwanted.iter().any(|word| id.contains(word)))
            .map(|id| format!("there is {id}"))
            .collect()
    }
}

/// Nothing, of one that nobody wants to see.
fn shown(id: &str, text: String) -> Vec<String> {
    if id.is_empty() { vec![] } else { vec![text] }
}

fn differs(row: &Row, what: &str, found: &BTreeSet<String>, expected: &[String]) -> Option<String> {
    let same = found.iter().eq(expected);
    (!same).then(|| format!("{}: {what}: {found:?} instead of {expected:?}", row.kind.name))
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

/// Whoever listens on its port, at whatever address. (The test itself has looked whether it was free.)
fn listens(metrics: &Metrics, row: &Row) -> BTreeSet<String> {
    let port = format!(":{}", row.address.port());
    let all = metrics.all("container_net_tcp_listen_info", &[]);
    all.filter(|listen| listen.label("listen_addr").ends_with(&port) && listen.value == 1.0)
        .map(owner)
        .collect()
}

/// How many came where it listens.
fn accepted(agent: &Agent, id: &str, row: &Row) -> BTreeSet<String> {
    let container = agent.ask(&format!("/api/v1/containers{id}")).unwrap_or_default();
    let listens = container["listens"].as_array().cloned().unwrap_or_default();
    let port = format!(":{}", row.address.port());
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

fn told(metrics: &Metrics, id: &str, label: &str) -> BTreeSet<String> {
    let labels = [("container_id", id)];
    let infos = metrics.all("container_info", &labels);
    infos.map(|info| info.label(label).to_owned()).collect()
}
