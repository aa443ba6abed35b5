//! As fast as servers and clients can.
use super::{
    is_ready, lane,
    scene::{Make, PATIENCE, Scene, Statuses, Way, total, unparsed},
};
use std::process::Command;
use tarsier_integration::{Cgroup, End, require_tool, seconds};

const CONNECTIONS: u64 = 16;

/// The number behind, or before, a word in what a program prints.
fn number(mut command: Command, find: impl Fn(&str) -> Option<&str>) -> u64 {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.lines().find_map(find).and_then(|word| word.trim().parse().ok());
    word.unwrap_or_else(|| panic!("{command:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

impl Scene {
    /// What both ends have counted.
    fn both(&self, group: &Cgroup) -> [u64; 2] {
        let metrics = self.agent.metrics();
        let server = self.older.server(Make::Nginx).group.id();
        let of = |id: &str, end| total(&metrics.requests_of(id, "http", end));
        [of(group.id(), End::Client), of(server, End::Server)]
    }

    fn nothing_is_unparsed(&self, group: &Cgroup) {
        let metrics = self.agent.metrics();
        for group in [group, &self.older.server(Make::Nginx).group] {
            assert_eq!(unparsed(&metrics, group), Statuses::new(), "{}", group.id());
        }
    }
}

#[test]
fn at_the_maximum_all_are_counted() {
    if !(is_ready() && require_tool(&["ab", "wrk"])) {
        return;
    }
    for kernel_lane in [true, false] {
        // Where the kernel counts, the usual room is enough.
        let config = if kernel_lane { String::new() } else { lane(false) };
        let scene = Scene::new(&[Make::Nginx], &config);
        let port = scene.older.server(Make::Nginx).port;
        let mut before = 0;
        for (way, count, keep) in [
            (Way::Loopback4, 20_000, true),
            (Way::Link6, 20_000, true),
            (Way::Loopback6, 2_000, false),
            (Way::Link4, 2_000, false),
        ] {
            let group = Cgroup::service("ab");
            let mut ab = scene.older.client(&group, way).command("ab");
            ab.args(["-q", "-n", &count.to_string(), "-c", &CONNECTIONS.to_string()]);
            ab.args(keep.then_some("-k"));
            ab.arg(format!("http://{}/", scene.older.address(port, way)));
            assert_eq!(number(ab, |line| line.strip_prefix("Complete requests:")), count);
            let expected = [count, before + count];
            scene.settled(PATIENCE, |_| scene.both(&group) == expected);
            let lane = if kernel_lane { "kernel" } else { "records" };
            assert_eq!(scene.both(&group), expected, "{way:?} {lane}: {}", scene.losses());
            scene.nothing_is_unparsed(&group);
            before += count;
        }
        for way in [Way::Loopback4, Way::Link4] {
            let group = Cgroup::service("wrk");
            let mut wrk = scene.older.client(&group, way).command("wrk");
            wrk.args(["-t1", "-c", &CONNECTIONS.to_string(), "-d", &seconds().to_string()]);
            wrk.arg(format!("http://{}/", scene.older.address(port, way)));
            let sent = number(wrk, |line| Some(line.split_once(" requests in ")?.0));
            let is_near = |counted: u64| (sent..=sent + CONNECTIONS).contains(&counted);
            let is_right = |[asked, answered]: [u64; 2]| is_near(asked) && is_near(answered - before);
            scene.settled(PATIENCE, |_| is_right(scene.both(&group)));
            let both = scene.both(&group);
            println!("{sent} requests of wrk, {} and {} counted", both[0], both[1] - before);
            assert!(is_right(both), "{way:?} {sent} {both:?} {before}: {}", scene.losses());
            before = both[1];
        }
        scene.is_balanced();
    }
}
