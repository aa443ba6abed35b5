//! Commands to Redis, against what the clients have counted: a real server, real clients, and a table of ways to ask.
#![expect(clippy::print_stdout, reason = "helpers of tests")]
mod scene;
mod table;

use rustix::process::Signal;
use std::{collections::BTreeMap, path::Path};
use table::{BY_NODE, CASES, NODE, benchmark, node, script, talk};
use tarsier_integration::{
    Agent, Case, Cgroup, Client, Seen, Statuses, Stopwatch, Tally, demand, each_lane, require_root, require_tool,
    seconds, statuses,
};

const PROTOCOL: &str = "redis";
const LIBRARY: &str = "/usr/lib/python3/dist-packages/redis";

fn is_ready() -> bool {
    require_root()
        && require_tool(&[
            "ip",
            "nsenter",
            "setpriv",
            "python3",
            "redis-server",
            "redis-cli",
            "redis-benchmark",
        ])
        && demand("python3-redis", Path::new(LIBRARY).is_dir())
}

fn unparsed(rows: &[(&str, &[(&str, u64)])]) -> BTreeMap<String, Statuses> {
    rows.iter()
        .map(|(name, reasons)| ((*name).to_owned(), statuses(reasons)))
        .collect()
}

fn count_all(cases: &[Case]) {
    let service = scene::serve();
    let mut seen: Vec<Seen> = Vec::new();
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        tally.run_all(cases);
        let found = tally.expect();
        assert_eq!(found.unparsed, BTreeMap::new());
        seen.push(found);
    });
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn each_command_counts_once_at_both_ends_in_both_lanes() {
    if is_ready() {
        count_all(CASES);
    }
}

fn has_node() -> bool {
    require_tool(&["node", "npm"]) && NODE.is_some()
}

#[test]
fn what_node_redis_sends_counts_once_at_both_ends_in_both_lanes() {
    if is_ready() && has_node() {
        count_all(BY_NODE);
    }
}

/// The server writes megabytes at once, and where one value ends and the next begins may be in the middle of what nobody has. The
/// client reads it in pieces, and lacks none.
#[test]
fn large_values_in_one_reply_count_or_are_said_to_be_missing() {
    if !(is_ready() && has_node()) {
        return;
    }
    let service = scene::serve();
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        let door = &service.doors()[2];
        tally.run(door, "heap", |client| node(client, "heap", 5));
        let seen = tally.expect_or_said();
        // By both protocols four for each, and HELLO.
        let all = statuses(&[("ok", 2 * 4 * 5 + 1)]);
        assert_eq!(seen.clients["heap, namespaces v4"], (all, 41));
        println!("{seen:?}");
    });
}

#[test]
fn connections_that_are_older_than_the_agent() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    for kernel_lane in [true, false] {
        let doors = service.doors();
        let held: Vec<_> = doors
            .iter()
            .map(|door| {
                let group = Cgroup::service("client");
                let (ip, port) = (door.address.ip().to_string(), door.address.port().to_string());
                let talk = script("talk.py");
                let place = door.place(&group).program(&talk);
                let running = place.start(&[&ip, &port, "held", "300"]);
                (group, running)
            })
            .collect();
        let agent = tarsier_integration::lane(kernel_lane).start();
        let mut tally = Tally::new(&agent, &service, PROTOCOL);
        for (door, (group, mut running)) in doors.iter().zip(held) {
            running.give("");
            let report: Vec<(String, u64)> = serde_json::from_value(running.finish()).unwrap();
            tally.add(door, "held", group, statuses(&report));
        }
        assert_eq!(tally.sent(), statuses(&[("ok", 4 * 900)]));
        assert_eq!(tally.expect().unparsed, BTreeMap::new());
    }
}

#[test]
fn at_the_maximum() {
    if !is_ready() {
        return;
    }
    for (name, pipeline) in [("alone", 1), ("-P 16", 16), ("-P 256", 256)] {
        each_lane(|agent, kernel| {
            let service = scene::serve();
            let door = &service.doors()[2];
            let mut tally = Tally::new(agent, &service, PROTOCOL);
            // It stops by a count only: a first run tells how many there are in a second.
            let first = 10_240 * pipeline.min(64);
            let mut per_second = 0;
            tally.run(door, "first", |client| {
                let watch = Stopwatch::start();
                let sent = benchmark(client, "get", pipeline, first);
                per_second = (first as f64 / watch.elapsed().as_secs_f64()) as u64;
                sent
            });
            let count = (seconds() * per_second).next_multiple_of(pipeline);
            tally.run(door, name, |client| benchmark(client, "get", pipeline, count));
            // What the kernel counts cannot be lost. What the agent has to read can: megabytes in each millisecond.
            let seen = if kernel && pipeline <= 16 {
                tally.expect()
            } else {
                tally.expect_unless_lost()
            };
            if tally.lost() == 0 {
                assert_eq!(seen.unparsed, BTreeMap::new());
            }
            println!(
                "kernel lane {kernel}, {name}: {per_second} a second, {} segments lost of {}",
                tally.lost(),
                tally.segments()
            );
        });
    }
}

#[test]
fn the_lanes_are_what_they_are_called() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    each_lane(|agent, kernel_lane| {
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        let before = tally.segments();
        let door = &service.doors()[2];
        tally.run(door, "redis-benchmark", |client| benchmark(client, "get", 1, 20_000));
        tally.run(door, "redis-benchmark -P 16", |client| {
            benchmark(client, "get", 16, 32_000)
        });
        let seen = tally.expect();
        assert_eq!(seen.server, (statuses(&[("ok", 52_004)]), 52_004));
        let segments = tally.segments() - before;
        if kernel_lane {
            assert!(
                segments < 1000,
                "{segments} segments of simple commands went to the agent"
            );
        } else {
            assert!(segments > 80_000, "only {segments} segments went to the agent");
        }
    });
}

#[test]
fn who_wants_no_answers_is_said_to() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        tally.run(&service.doors()[0], "silence", |client| talk(client, "silence", 30));
        tally.expect();
        // REPLY OFF and what came after it, REPLY SKIP and one.
        let silent: &[_] = &[("unsupported", 33)];
        tally.expect_unparsed(&unparsed(&[("silence, loopback v4", silent), ("server", silent)]));
    });
}

#[test]
fn more_in_one_call_than_is_looked_at() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        let sent = 10_000;
        let mut answered = Statuses::new();
        tally.run(&service.doors()[0], "one write", |client| {
            answered = talk(client, "one_write", sent);
            answered.clone()
        });
        assert_eq!(answered, statuses(&[("ok", sent + 1)]));
        // The server reads it in pieces. Of the client's the begin is known, and that there was more.
        tarsier_integration::eventually(
            std::time::Duration::from_secs(20),
            "the server has counted them",
            || tally.seen().server == (answered.clone(), sent + 1),
        );
        tally.expect_unparsed(&unparsed(&[("one write, loopback v4", &[("cut", 1)])]));
        let counted = tally.seen().clients["one write, loopback v4"].1;
        // And the PING before it.
        assert_eq!(counted, 1 + (64 << 10) / 65);
    });
}

#[test]
fn what_is_lost_is_said_of_everybody_who_has_lost_something() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    let agent = Agent::builder().config("l7: {kernel_lane: false}\n").start();
    let mut tally = Tally::new(&agent, &service, PROTOCOL);
    tally.run(&service.doors()[2], "before", |client| talk(client, "errors", 5));
    tally.expect();
    // The ring fills up with the first of them. Of one connection the begin is in it, of others nothing is, and no end.
    agent.signal(Signal::STOP);
    for door in service.doors() {
        for (way, count) in [("large", 1), ("errors", 20), ("first", 3)] {
            tally.run(&door, way, |client| talk(client, way, count));
        }
    }
    agent.signal(Signal::CONT);
    let seen = tally.expect_unless_lost();
    assert!(tally.lost() > 0);
    // More than one row is missing something.
    assert!(seen.unparsed.len() > 5, "{seen:?}");
}

#[test]
fn what_is_no_redis_and_what_is_no_more() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        let door = &service.doors()[2];
        tally.run(door, "garbage", |client| talk(client, "garbage", 7));
        tally.run(door, "noise", |client| talk(client, "noise", 12));
        let group = Cgroup::service("client");
        let (port, changeling) = scene::changeling(&service, &door.address.ip().to_string());
        let mut address = door.address;
        address.set_port(port);
        let client = Client {
            place: door.place(&group),
            address,
            service: &service,
        };
        let sent = talk(&client, "changes", 9);
        changeling.finish();
        tally.add_elsewhere(address, "changes", door, group, sent);
        tally.expect();
        let once: &[_] = &[("malformed", 1)];
        tally.expect_unparsed(&unparsed(&[
            ("garbage, namespaces v4", once),
            ("changes, namespaces v4", once),
            ("server", &[("malformed", 2)]),
        ]));
    });
}
