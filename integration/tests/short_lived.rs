//! Processes that live for two milliseconds and connect once: whose were they?
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests; a share is there to be read"
)]
use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};
use tarsier_integration::{Agent, Cgroup, Place, Running, Stopwatch, demand, free_port, pause, require_root};

const GROUPS: usize = 100;

/// How the processes come into their cgroups.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// They begin there, as systemd and runc do it.
    Into,
    /// They move themselves.
    Move,
    /// Whoever forks them is there.
    Stay,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    way: Way,
    unified: bool,
    /// Processes for each cgroup.
    each: usize,
    /// Cgroups go as soon as their processes have.
    removed: bool,
    /// Their parents have been there for a while.
    settled: bool,
}

struct Outcome {
    processes: u64,
    /// On the container that they were in.
    right: u64,
    /// On the name of the process.
    own_name: u64,
    by_id: BTreeMap<String, u64>,
}

/// One hierarchy of v1: moving takes the kernel milliseconds.
fn folder(group: &Cgroup, unified: bool) -> &Path {
    if unified {
        return group.unified();
    }
    group
        .legacy()
        .find(|folder| folder.starts_with("/sys/fs/cgroup/cpu"))
        .unwrap()
}

fn launch(plan: Plan, groups: &[Cgroup], address: &str) {
    let place = Place::new().program("pressure");
    let begin = |count: usize, paths: &[String]| -> Running {
        let (count, way) = (count.to_string(), format!("{:?}", plan.way).to_lowercase());
        let options = ["brief", address, "--count", &count, "--way", &way];
        let paths = paths.iter().map(String::as_str);
        place.start(&options.into_iter().chain(paths).collect::<Vec<_>>())
    };
    let end = |mut launcher: Running, count: usize| assert_eq!(launcher.tell("go")["connected"], count);
    if plan.way != Way::Stay {
        let path = |group: &Cgroup| match plan.way {
            Way::Move => folder(group, plan.unified).join("cgroup.procs"),
            _ => folder(group, plan.unified).to_owned(),
        };
        let paths: Vec<String> = groups.iter().map(|group| path(group).display().to_string()).collect();
        let count = plan.each * groups.len();
        end(begin(count, &paths), count);
    }
    let parent = |group: &Cgroup| {
        let launcher = begin(plan.each, &[]);
        let door = folder(group, plan.unified).join("cgroup.procs");
        fs::write(door, launcher.pid().to_string()).unwrap();
        launcher
    };
    let mut parents: Vec<Running> = if plan.settled {
        groups.iter().map(parent).collect()
    } else {
        Vec::new()
    };
    if plan.settled {
        pause(Duration::from_secs(1));
    }
    for group in groups.iter().rev() {
        if plan.way == Way::Stay {
            end(parents.pop().unwrap_or_else(|| parent(group)), plan.each);
        }
        if plan.removed {
            fs::remove_dir(folder(group, plan.unified)).unwrap();
        }
    }
}

fn run(agent: &Agent, plan: Plan) -> Outcome {
    let address = format!("127.0.0.1:{}", free_port());
    let server = Place::new().start(&["serve", &address, "--read", "16", "--answer", "32"]);
    let groups: Vec<Cgroup> = (0..GROUPS).map(|_| Cgroup::service("brief")).collect();
    let watch = Stopwatch::start();
    // Two at a time, as there are no fewer CPUs.
    thread::scope(|scope| {
        for half in groups.chunks(GROUPS / 2) {
            scope.spawn(|| launch(plan, half, &address));
        }
    });
    let took = watch.elapsed();
    let expected = (GROUPS * plan.each) as u64;
    assert_eq!(server.finish()["connected"], expected);
    let labels = [("destination", &*address)];
    let name = "container_net_tcp_successful_connects_total";
    let metrics = agent.metrics_when(&address, Duration::from_secs(20), |metrics| {
        metrics.sum(name, &labels) as u64 >= expected
    });
    let by_id: BTreeMap<String, u64> = metrics
        .all(name, &labels)
        .map(|sample| (sample.label("container_id").to_owned(), sample.value as u64))
        .collect();
    let of = |id: &str| by_id.get(id).copied().unwrap_or_default();
    let right = groups.iter().map(|group| of(group.id()).min(plan.each as u64)).sum();
    let outcome = Outcome {
        processes: expected,
        right,
        own_name: of("/standalone/pressure") + of("/standalone/exe"),
        by_id,
    };
    assert_eq!(
        outcome.by_id.values().sum::<u64>(),
        expected,
        "{plan:?}: nothing is lost or counted twice"
    );
    let share = right as f64 * 100.0 / expected as f64;
    println!(
        "{plan:?}: {right} of {expected} ({share:.2} %) on the right container, {} under their own name, in {took:?}",
        outcome.own_name
    );
    outcome
}

fn ready() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    require_root() && demand("cgroup2", mounts.contains(" - cgroup2 "))
}

/// Where the cgroup's number comes with the event, no file needs to be read in time.
#[test]
fn in_cgroups_of_the_unified_hierarchy() {
    if !ready() {
        return;
    }
    let agent = Agent::start();
    for (way, each, removed) in [(Way::Into, 100, false), (Way::Into, 20, true), (Way::Stay, 40, true)] {
        let plan = Plan {
            way,
            unified: true,
            each,
            removed,
            settled: false,
        };
        let outcome = run(&agent, plan);
        assert!(
            outcome.right * 1000 >= outcome.processes * 999,
            "{plan:?}: {:?}",
            outcome.by_id
        );
    }
}

/// All that the kernel tells of these is that they are in the root: their parent's place, or a look at /proc in time.
#[test]
fn in_cgroups_of_old_hierarchies() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    if !(ready() && demand("cgroup1", mounts.contains("/sys/fs/cgroup/cpu"))) {
        return;
    }
    let agent = Agent::start();
    for (way, each, settled) in [(Way::Stay, 40, true), (Way::Stay, 40, false), (Way::Move, 10, false)] {
        let plan = Plan {
            way,
            unified: false,
            each,
            removed: false,
            settled,
        };
        let outcome = run(&agent, plan);
        assert_eq!(
            outcome.right + outcome.own_name,
            outcome.processes,
            "on nobody else's: {:?}",
            outcome.by_id
        );
        if settled {
            assert_eq!(outcome.right, outcome.processes, "the place of a parent is inherited");
        }
    }
}
