//! Every way to move bytes through a TCP socket, and every way to come by the socket, counts the same: exactly what the
//! calls returned, for the container that holds the socket, on either side, older than the agent or not.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
mod scene;
mod shares;
mod table;

use scene::{Row, Scene};
use shares::{Wrong, compare};
use std::{fs, time::Duration};
use table::Twist;
use tarsier_integration::{Agent, Cgroup, Metrics, Place, demand, pause, require_root, require_tool};

/// What one round moves, through each of `COUNT` connections. The server's part differs, so that no direction can be
/// taken for the other.
const ASKED: u64 = 70_001;
const ANSWERED: u64 = 50_021;
const COUNT: u64 = 2;

/// Rounds that the agent sees.
const ROUNDS: u64 = 2;

/// Longer than two passes over the totals: what would be counted twice, would be by now.
const TWO_PASSES: Duration = Duration::from_millis(2500);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Age {
    /// Opened, and used for a round, before the agent starts.
    Older,
    Newer,
}

fn exact(role: Role, age: Age) {
    exact_with("auto", role, age);
}

/// `hook`: what tells who uses an accepted connection.
fn exact_with(hook: &str, role: Role, age: Age) {
    if !ready() {
        return;
    }
    let start = || Agent::builder().set("KERNEL__SOCKET_HOOK", hook).start();
    let scene = Scene::new(role, age);
    let (agent, mut rows) = match age {
        Age::Newer => {
            let agent = start();
            (agent, scene.rows())
        }
        Age::Older => {
            let mut rows = scene.rows();
            for row in &mut rows {
                row.round("round");
                row.before = row.did;
            }
            (start(), rows)
        }
    };
    for _ in 0..ROUNDS {
        rows.iter_mut().for_each(|row| row.round("round"));
    }
    if role == Role::Server {
        let half_closed = |row: &&mut Row<'_>| row.call.twist == Twist::HalfClosed;
        rows.iter_mut().filter(half_closed).for_each(|row| row.round("more"));
    }
    // To the end in any case: a row that is wrong shall not hide another.
    let mut wrong = Wrong::new();
    compare(&scene, &agent, &rows, "open", &mut wrong);
    pause(TWO_PASSES);
    compare(&scene, &agent, &rows, "open for long", &mut wrong);
    rows.iter_mut().for_each(Row::close);
    compare(&scene, &agent, &rows, "closed", &mut wrong);
    pause(TWO_PASSES);
    compare(&scene, &agent, &rows, "closed for long", &mut wrong);
    let lines: Vec<_> = wrong.into_values().collect();
    assert!(
        lines.is_empty(),
        "{} of {} rows are wrong:\n{}",
        lines.len(),
        rows.len(),
        lines.join("\n")
    );
}

fn ready() -> bool {
    let word = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    require_root()
        && require_tool(&["ip", "nsenter"])
        && demand("mptcp", word("/proc/sys/net/mptcp/enabled").is_ok_and(|word| word == "1"))
        // Absent where it cannot be switched off.
        && demand("io_uring", word("/proc/sys/kernel/io_uring_disabled").map_or(true, |word| word != "2"))
}

#[test]
fn clients_of_new_connections() {
    exact(Role::Client, Age::Newer);
}

#[test]
fn servers_of_new_connections() {
    exact(Role::Server, Age::Newer);
}

#[test]
fn clients_of_connections_older_than_the_agent() {
    exact(Role::Client, Age::Older);
}

#[test]
fn servers_of_connections_older_than_the_agent() {
    exact(Role::Server, Age::Older);
}

/// Where neither the tracepoints nor the returns of functions are to be had.
#[test]
fn servers_of_new_connections_by_the_last_hook() {
    exact_with("receive", Role::Server, Age::Newer);
}

#[test]
fn what_is_no_tcp_appears_nowhere() {
    if !require_root() {
        return;
    }
    let (agent, group) = (Agent::start(), Cgroup::service("outside"));
    let mut outside = Place::new()
        .program("calls")
        .cgroup(&group)
        .start(&["outside", "--send", "5000"]);
    for round in 1..=3 {
        let report = outside.tell("round");
        let bytes = round * 5 * 5000;
        assert_eq!((&report["sent"], &report["received"]), (&bytes.into(), &bytes.into()));
    }
    let labels = [("container_id", group.id())];
    let seen = |metrics: &Metrics| metrics.all("container_info", &labels).count() == 1;
    agent.metrics_when(group.id(), Duration::from_secs(10), seen);
    pause(TWO_PASSES);
    let metrics = agent.metrics();
    let mut samples = metrics
        .samples()
        .iter()
        .filter(|sample| sample.label("container_id") == group.id() && sample.name.starts_with("container_net_"));
    assert_eq!(samples.next(), None);
    let container = agent.admin(&format!("/api/v1/containers{}", group.id()));
    for list in ["destinations", "listens"] {
        assert_eq!(container[list].as_array().map(Vec::len), Some(0), "{container}");
    }
}
