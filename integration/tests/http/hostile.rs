//! What is no HTTP, or no longer, or never whole.
use super::{
    is_ready, lane,
    scene::{Make, PATIENCE, Scene, Statuses, unparsed},
};
use std::collections::BTreeMap;
use tarsier_integration::{Cgroup, End, Metrics};

fn row(name: &str, count: u64) -> Statuses {
    Statuses::from([(name.to_owned(), count)])
}

struct Odd {
    way: &'static str,
    /// To the port where nobody answers.
    silent: bool,
    count: u64,
    counted: Statuses,
    unparsed: Statuses,
}

fn table() -> Vec<Odd> {
    let odd = |way, silent, count, counted, unparsed| Odd {
        way,
        silent,
        count,
        counted,
        unparsed,
    };
    vec![
        odd("nonsense", true, 5, Statuses::new(), Statuses::new()),
        odd("changed", false, 6, row("2xx", 6), row("malformed", 1)),
        // What is said in the other protocol is no request, whatever it looks like.
        odd("upgraded", false, 4, row("1xx", 4), Statuses::new()),
        odd("endless", true, 3, Statuses::new(), row("malformed", 3)),
        odd("unanswered", true, 4, Statuses::new(), row("unanswered", 4)),
    ]
}

type Seen = BTreeMap<(&'static str, &'static str), (Statuses, Statuses)>;

fn seen(metrics: &Metrics, who: &'static str, group: &Cgroup) -> Seen {
    let ends = [("asks", End::Client), ("answers", End::Server)];
    let seen = ends.map(|(name, end)| {
        let unparsed = unparsed(metrics, group);
        ((who, name), (metrics.requests_of(group.id(), "http", end), unparsed))
    });
    Seen::from(seen)
}

#[test]
fn what_is_no_http_is_not_counted_as_such_and_what_was_is_told_of() {
    if !is_ready() {
        return;
    }
    for kernel_lane in [true, false] {
        let scene = Scene::new(&[Make::Python], &lane(kernel_lane));
        let server = scene.older.server(Make::Python);
        let (mut expected, mut groups) = (Seen::new(), Vec::new());
        let (mut answered, mut lost) = (Statuses::new(), Statuses::new());
        for odd in table() {
            let group = Cgroup::service(odd.way);
            let port = if odd.silent {
                scene.older.silent_port
            } else {
                server.port
            };
            scene.ask(&group, odd.way, port, odd.count, &["/"]);
            for (sum, part) in [(&mut answered, &odd.counted), (&mut lost, &odd.unparsed)] {
                for (name, count) in part {
                    *sum.entry(name.clone()).or_default() += count;
                }
            }
            expected.insert((odd.way, "answers"), (Statuses::new(), odd.unparsed.clone()));
            expected.insert((odd.way, "asks"), (odd.counted, odd.unparsed));
            groups.push((odd.way, group));
        }
        expected.insert(("server", "asks"), (Statuses::new(), lost.clone()));
        expected.insert(("server", "answers"), (answered, lost));
        let all = |metrics: &Metrics| {
            let mut all = seen(metrics, "server", &server.group);
            for (way, group) in &groups {
                all.extend(seen(metrics, way, group));
            }
            all
        };
        let metrics = scene.settled(PATIENCE, |metrics| all(metrics) == expected);
        assert_eq!(all(&metrics), expected, "kernel lane: {kernel_lane}");
        scene.is_balanced();
    }
}
