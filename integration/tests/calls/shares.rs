//! What the agent says of each row, and whether it is that.
use crate::{Role, Row, Scene};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};
use tarsier_integration::{Agent, Metrics, Stopwatch, Traffic, pause};

/// What each container has of one address, if it has anything; of a server also how many connections were closed.
type Shares = BTreeMap<String, (Traffic, u64)>;

fn shares(some: impl IntoIterator<Item = (String, Traffic, u64)>) -> Shares {
    some.into_iter()
        .filter(|(_, traffic, closes)| *traffic != Traffic::default() || *closes > 0)
        .map(|(id, traffic, closes)| (id, (traffic, closes)))
        .collect()
}

fn of_clients(metrics: &Metrics, address: &str) -> Shares {
    let samples = metrics.samples().iter();
    let samples = samples.filter(|sample| sample.label("destination") == address);
    let containers: BTreeSet<_> = samples.map(|sample| sample.label("container_id")).collect();
    shares(containers.into_iter().map(|id| {
        let labels = [("container_id", id), ("destination", address)];
        (id.to_owned(), Traffic::of(metrics, &labels), 0)
    }))
}

/// Accepting is the server's connecting.
fn of_servers(containers: &[(String, Value)], address: &str) -> Shares {
    shares(containers.iter().map(|(id, container)| {
        let listens = container["listens"].as_array();
        let listen = listens.and_then(|listens| listens.iter().find(|listen| listen["address"] == address));
        let number = |key: &str| listen.and_then(|listen| listen[key].as_u64()).unwrap_or(0);
        let closes = listen.and_then(|listen| listen["closes"].as_object());
        let traffic = Traffic {
            successful: number("accepted"),
            failed: 0,
            active: number("active"),
            sent: number("sent_bytes"),
            received: number("received_bytes"),
        };
        let closes = closes.into_iter().flatten();
        (
            id.clone(),
            traffic,
            closes.filter_map(|(_, count)| count.as_u64()).sum(),
        )
    }))
}

/// By address, which no two rows share, what the first disagreement was.
pub(crate) type Wrong = BTreeMap<SocketAddr, String>;

/// The rows of which the agent says something else, with both.
fn disagreements(scene: &Scene, agent: &Agent, rows: &[Row<'_>]) -> Wrong {
    let metrics = agent.metrics();
    let containers = scene.groups().map(|group| {
        let one = agent.ask(&format!("/api/v1/containers{}", group.id()));
        (group.id().to_owned(), one.unwrap_or_default())
    });
    let differs = |row: &Row<'_>| {
        let address = row.address.to_string();
        let found = match scene.role {
            Role::Client => of_clients(&metrics, &address),
            Role::Server => of_servers(&containers, &address),
        };
        let (traffic, closes) = row.expected(scene);
        let expected = shares([(row.owner.id().to_owned(), traffic, closes)]);
        (found != expected).then(|| {
            let [expected, found] = [expected, found].map(|shares| words(&shares));
            (
                row.address,
                format!("{row}: {expected} is right, the agent has {found}"),
            )
        })
    };
    rows.iter().filter_map(differs).collect()
}

fn words(shares: &Shares) -> String {
    let one = |(id, (traffic, closes)): (&String, &(Traffic, u64))| {
        let Traffic {
            successful,
            failed,
            active,
            sent,
            received,
        } = traffic;
        // `tarsier-it-<process>-<number>-<name>.service`, of which the name says which it is.
        let name = id.rsplit('-').next().unwrap_or_default();
        format!(
            "{name}: {successful} made, {failed} failed, {active} active, {closes} closed, {sent} out, {received} in"
        )
    };
    if shares.is_empty() {
        return "nothing".to_owned();
    }
    shares.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// Adds to `wrong` the rows that still are when they should long be right.
pub(crate) fn compare(scene: &Scene, agent: &Agent, rows: &[Row<'_>], when: &str, wrong: &mut Wrong) {
    let watch = Stopwatch::start();
    loop {
        let mut now = disagreements(scene, agent, rows);
        now.retain(|address, _| !wrong.contains_key(address));
        if now.is_empty() {
            return;
        }
        if watch.elapsed() > Duration::from_secs(15) {
            wrong.extend(
                now.into_iter()
                    .map(|(address, line)| (address, format!("{when}: {line}"))),
            );
            return;
        }
        pause(Duration::from_millis(200));
    }
}
