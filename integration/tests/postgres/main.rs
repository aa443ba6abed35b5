//! Queries to PostgreSQL, against what the clients have counted: a real server, real clients, and a table of ways to ask.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]
mod scene;
mod table;

use std::{collections::BTreeMap, path::Path, time::Duration};
use table::{CASES, DRIVEN, DRIVER, LOOKS, drive, large_rows, pgbench, script, speak};
use tarsier_integration::{
    Case, Cgroup, Client, Postgres, Seen, Tally, demand, each_lane, eventually, lane, require_root, require_tool,
    seconds, statuses,
};

const PROTOCOL: &str = "postgres";
const LIBRARY: &str = "/usr/lib/python3/dist-packages/psycopg2";

fn programs() -> Option<Postgres> {
    let ready = require_root()
        && require_tool(&["ip", "nsenter", "setpriv", "python3"])
        && demand("python3-psycopg2", Path::new(LIBRARY).is_dir());
    ready.then(Postgres::find).flatten()
}

fn count_all(programs: &Postgres, cases: &[Case]) {
    let service = scene::serve(programs);
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
fn each_query_counts_once_at_both_ends_in_both_lanes() {
    let Some(programs) = programs() else { return };
    count_all(&programs, CASES);
}

#[test]
fn what_gos_drivers_send_counts_once_at_both_ends_in_both_lanes() {
    let Some(programs) = programs() else { return };
    if require_tool(&["go"]) && DRIVER.is_some() {
        count_all(&programs, DRIVEN);
    }
}

/// A client may read a megabyte at once, and of its middle the agent has nothing: a row that ends there takes its query with it.
/// That is said.
#[test]
fn large_rows_count_or_are_said_to_be_missing() {
    let Some(programs) = programs() else { return };
    let service = scene::serve(&programs);
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        for door in service.doors() {
            tally.run(&door, "psql", large_rows);
        }
        tally.expect_or_said();
    });
}

/// Of several large values in one write nobody has the middle, where requests begin. The server reads them in pieces, and lacks none.
#[test]
fn large_values_in_one_write_count_or_are_said_to_be_missing() {
    let Some(programs) = programs() else { return };
    if !(require_tool(&["go"]) && DRIVER.is_some()) {
        return;
    }
    let service = scene::serve(&programs);
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let count = 5;
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        tally.run(&service.doors()[2], "heap", |client| drive(client, "pgx-heap", count));
        let sent = statuses(&[("ok", 5 * count)]);
        assert_eq!(tally.sent(), sent);
        eventually(Duration::from_secs(20), "the server has counted them", || {
            tally.seen().server == (sent.clone(), 5 * count)
        });
        println!("{:?}", tally.seen());
        // One for each write: how many requests began there nobody knows.
        tally.expect_unparsed(&[("heap, namespaces v4".to_owned(), statuses(&[("cut", count)]))].into());
    });
}

#[test]
fn connections_that_are_older_than_the_agent() {
    let Some(programs) = programs() else { return };
    let service = scene::serve(&programs);
    for kernel in [true, false] {
        let doors = service.doors();
        let held: Vec<_> = doors
            .iter()
            .map(|door| {
                let group = Cgroup::service("client");
                let (ip, port) = (door.address.ip().to_string(), door.address.port().to_string());
                let speak = script("speak.py");
                let running = door.place(&group).program(&speak).start(&[&ip, &port, "held", "100"]);
                (group, running)
            })
            .collect();
        let agent = lane(kernel).start();
        let mut tally = Tally::new(&agent, &service, PROTOCOL);
        for (door, (group, mut running)) in doors.iter().zip(held) {
            running.give("");
            let report: Vec<(String, u64)> = serde_json::from_value(running.finish()).unwrap();
            tally.add(door, "held", group, statuses(&report));
        }
        assert_eq!(tally.sent(), statuses(&[("ok", 4 * 201), ("failed", 4 * 100)]));
        assert_eq!(tally.expect().unparsed, BTreeMap::new());
    }
}

#[test]
fn at_the_maximum() {
    const CONNECTIONS: u64 = 8;
    let Some(programs) = programs() else { return };
    for (name, arguments, prepares) in [
        ("simple", &["-M", "simple"][..], 0),
        ("extended", &["-M", "extended"], 0),
        ("prepared", &["-M", "prepared"], CONNECTIONS),
        ("a connection for each", &["-C"], 0),
    ] {
        // Before the agent: what makes its tables is not to be counted.
        let service = scene::serve(&programs);
        each_lane(|agent, kernel| {
            let mut tally = Tally::new(agent, &service, PROTOCOL);
            let mut transactions = 0;
            let clients = CONNECTIONS.to_string();
            let time = seconds().to_string();
            let arguments = [arguments, &["-S", "-T", &time, "-c", &clients]].concat();
            tally.run(&service.doors()[2], name, |client| {
                transactions = pgbench(client, &arguments);
                statuses(&[("ok", transactions + prepares + LOOKS)])
            });
            println!("kernel lane {kernel}, {name}: {transactions} transactions");
            // What the kernel counts cannot be lost. What the agent has to read can where it has to wait for a processor, and
            // says so.
            let read = !kernel || matches!(name, "extended" | "prepared");
            let waits = !agent.feature("realtime").ok();
            // It stops by a time: what is under way then may be answered.
            tally.expect_up_to(CONNECTIONS, read && waits);
            println!("{} of {} segments lost", tally.lost(), tally.segments());
        });
    }
}

#[test]
fn the_lanes_are_what_they_are_called() {
    let Some(programs) = programs() else { return };
    let service = scene::serve(&programs);
    each_lane(|agent, kernel| {
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        let before = tally.segments();
        tally.run(&service.doors()[2], "pgbench -S", |client| {
            let transactions = pgbench(client, &["-S", "-c", "4", "-t", "2500"]);
            assert_eq!(transactions, 10_000);
            statuses(&[("ok", transactions + LOOKS)])
        });
        tally.expect();
        let segments = tally.segments() - before;
        if kernel {
            assert!(
                segments < 500,
                "{segments} segments of simple queries went to the agent"
            );
        } else {
            assert!(segments >= 40_000, "only {segments} segments went to the agent");
        }
    });
}

#[test]
fn what_is_no_postgres_and_what_is_no_more() {
    let Some(programs) = programs() else { return };
    let service = scene::serve(&programs);
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        let door = &service.doors()[2];
        tally.run(door, "garbage", |client| speak(client, "garbage", 7));
        tally.run(door, "noise", |client| speak(client, "noise", 12));
        let group = Cgroup::service("client");
        let (port, changeling) = scene::changeling(&service, &door.address.ip().to_string());
        let mut address = door.address;
        address.set_port(port);
        let client = Client {
            place: door.place(&group),
            address,
            service: &service,
        };
        let sent = speak(&client, "changes", 9);
        changeling.finish();
        tally.add_elsewhere(address, "changes", door, group, sent);
        tally.expect();
        let once = || statuses(&[("malformed", 1)]);
        let wanted = [
            ("garbage, namespaces v4".to_owned(), once()),
            ("changes, namespaces v4".to_owned(), once()),
            ("server".to_owned(), statuses(&[("malformed", 2)])),
        ];
        tally.expect_unparsed(&wanted.into());
    });
}
