//! Commands to Memcached, against what the clients have counted: a real server, real clients, and a table of ways to ask.
#![expect(clippy::print_stdout, reason = "helpers of tests")]
mod scene;
mod table;

use std::{collections::BTreeMap, path::Path};
use table::{CASES, script, talk};
use tarsier_integration::{
    Cgroup, Client, Seen, Statuses, Tally, demand, each_lane, lane, require_root, require_tool, statuses,
};

const PROTOCOL: &str = "memcached";
const PACKAGES: &str = "/usr/lib/python3/dist-packages";

fn is_ready() -> bool {
    let has = |file: &str| Path::new(PACKAGES).join(file).exists();
    require_root()
        && require_tool(&["ip", "nsenter", "setpriv", "python3", "memcached", "memcslap"])
        && demand("python3-pymemcache", has("pymemcache"))
        && demand("python3-memcache", has("memcache.py"))
}

fn unparsed(rows: &[(&str, &[(&str, u64)])]) -> BTreeMap<String, Statuses> {
    rows.iter()
        .map(|(name, reasons)| ((*name).to_owned(), statuses(reasons)))
        .collect()
}

#[test]
fn each_command_counts_once_at_both_ends_in_both_lanes() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    let mut seen: Vec<Seen> = Vec::new();
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        tally.run_all(CASES);
        let found = tally.expect();
        assert_eq!(found.unparsed, BTreeMap::new());
        seen.push(found);
    });
    assert_eq!(seen[0], seen[1]);
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
        tally.run(&service.doors()[0], "silent", |client| talk(client, "silent", 30));
        tally.expect();
        // Four that ask for none, and a quiet one that has none.
        let silent: &[_] = &[("unsupported", 30 * 5)];
        tally.expect_unparsed(&unparsed(&[("silent, loopback v4", silent), ("server", silent)]));
    });
}

#[test]
fn connections_that_are_older_than_the_agent() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    for kernel in [true, false] {
        let doors = service.doors();
        let held: Vec<_> = doors
            .iter()
            .map(|door| {
                let group = Cgroup::service("client");
                let (ip, port) = (door.address.ip().to_string(), door.address.port().to_string());
                let talk = script("talk.py");
                let running = door.place(&group).program(&talk).start(&[&ip, &port, "held", "100"]);
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
        assert_eq!(tally.sent(), statuses(&[("ok", 4 * 300), ("failed", 4 * 100)]));
        assert_eq!(tally.expect().unparsed, BTreeMap::new());
    }
}

#[test]
fn what_is_no_memcached_and_what_is_no_more() {
    if !is_ready() {
        return;
    }
    let service = scene::serve();
    each_lane(|agent, kernel| {
        println!("kernel lane {kernel}");
        let mut tally = Tally::new(agent, &service, PROTOCOL);
        let door = &service.doors()[2];
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
        tally.expect_unparsed(&unparsed(&[("changes, namespaces v4", once), ("server", once)]));
    });
}
