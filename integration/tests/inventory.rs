//! The inventory that needs no BPF, by both of its sources, against `ss` in each namespace.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt as _,
    process::Command,
    time::Duration,
};
use tarsier_integration::{Cgroup, Netns, Place, binary, eventually, free_port, require_root, require_tool};

fn ask(wrapper: &[&str], source: &str) -> Value {
    let binary = binary();
    let words = [
        wrapper,
        &[binary.to_str().unwrap(), "sockets", "--json", "--source", source],
    ]
    .concat();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What every source knows of a socket: pid, local, remote, state.
type Known = (Option<u64>, SocketAddr, SocketAddr, String);

/// The sockets of one namespace, with what the agent alone says of each: role, and whether it waits to be accepted.
fn sockets(answer: &Value, netns: u64) -> BTreeMap<Known, (String, bool)> {
    let rows = answer["sockets"].as_array().unwrap();
    let of = |row: &Value| {
        let side = |name: &str| row[name].as_str().unwrap().parse().unwrap();
        let known = (
            row["owner"]["tgid"].as_u64(),
            side("local"),
            side("remote"),
            row["state"].as_str().unwrap().to_owned(),
        );
        (
            known,
            (
                row["role"].as_str().unwrap().to_owned(),
                row["backlog"].as_bool().unwrap(),
            ),
        )
    };
    let found: Vec<_> = rows.iter().filter(|row| row["netns"] == netns).map(of).collect();
    let count = found.len();
    let found = BTreeMap::from_iter(found);
    assert_eq!(found.len(), count, "a socket is there twice");
    found
}

/// By cookie, which only one source tells.
fn cookies(answer: &Value, netns: u64) -> BTreeSet<u64> {
    let rows = answer["sockets"].as_array().unwrap().iter();
    rows.filter(|row| row["netns"] == netns)
        .filter_map(|row| row["cookie"].as_u64())
        .collect()
}

/// The same, told by another program: sockets without a descriptor have no process there. And the cookies.
fn ss(netns: &Netns) -> (BTreeSet<Known>, BTreeSet<u64>) {
    let net = format!("--net={}", netns.path());
    let output = Command::new("nsenter").args([&net, "ss", "-tanpeHO"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut known, mut cookies) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let state = match words[0] {
            "LISTEN" => "listen",
            "ESTAB" => "established",
            "CLOSE-WAIT" => "close_wait",
            "FIN-WAIT-2" => "fin_wait2",
            other => panic!("{other}: {line}"),
        };
        let side = |word: &str| {
            let word = if word.starts_with("*:") {
                word.replacen('*', "[::]", 1)
            } else {
                word.to_owned()
            };
            let address: SocketAddr = word
                .replace(":*", ":0")
                .parse()
                .unwrap_or_else(|_| panic!("{word}: {line}"));
            SocketAddr::new(address.ip().to_canonical(), address.port())
        };
        let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest);
        let pid = after("pid=").map(|rest| rest.split(',').next().unwrap().parse().unwrap());
        known.insert((pid, side(words[3]), side(words[4]), state.to_owned()));
        let cookie = after(" sk:").unwrap().split(' ').next().unwrap();
        cookies.insert(u64::from_str_radix(cookie, 16).unwrap());
    }
    (known, cookies)
}

fn number(netns: &str) -> u64 {
    fs::metadata(netns).unwrap().ino()
}

#[test]
fn every_namespace_by_both_sources_and_as_ss_sees_it() {
    if !(require_root() && require_tool(&["ip", "nsenter", "ss", "setpriv"])) {
        return;
    }
    let (first, second) = (Netns::new(), Netns::new());
    let (group, other) = (Cgroup::service("first"), Cgroup::service("second"));
    let (port, wildcard, backlog) = (free_port(), free_port(), free_port());
    let [v4, v6] = first.inside(port).map(|address| address.to_string());
    let any = format!("[::]:{wildcard}");
    let exchange = ["--read", "1000", "--answer", "300", "--keep"];
    let server = Place::new()
        .cgroup(&group)
        .netns(&first)
        .start(&[&["serve", &v4, &v6, &any], &exchange[..]].concat());
    // An IPv4 connection of an IPv6 listener, inside one namespace; and connections from one namespace to another.
    let mapped = SocketAddr::new(first.inside(wildcard)[0].ip(), wildcard).to_string();
    let hold = |place: Place<'_>, address: &str| place.start(&["hold", address, "--count", "3", "--send", "1000"]);
    let inner = hold(Place::new().cgroup(&group).netns(&first), &mapped);
    let clients = [&v4, &v6].map(|address| hold(Place::new(), address));
    // Nobody accepts these.
    let _listener = TcpListener::bind(("::", backlog)).unwrap();
    let waiting = hold(
        Place::new().cgroup(&other).netns(&second),
        &second.outside(backlog)[0].to_string(),
    );

    let (a, b, own) = (
        number(&first.path()),
        number(&second.path()),
        number("/proc/self/ns/net"),
    );
    let answered = |answer: &Value| {
        let received = |row: &&Value| row["traffic"]["received_bytes"] == 300 && row["role"] == "client";
        answer["sockets"].as_array().unwrap().iter().filter(received).count() >= 9
    };
    eventually(Duration::from_secs(10), "every answer has come", || {
        answered(&ask(&[], "diag"))
    });
    let (by_diag, by_proc, by_auto) = (ask(&[], "diag"), ask(&[], "proc"), ask(&[], "auto"));
    for (netns, number) in [(&first, a), (&second, b)] {
        let found = sockets(&by_diag, number);
        assert_eq!(found, sockets(&by_proc, number));
        assert_eq!(found, sockets(&by_auto, number));
        let (known, ids) = ss(netns);
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), known);
        assert_eq!(cookies(&by_diag, number), ids);
        assert_eq!(cookies(&by_auto, number), ids);
        assert_eq!(cookies(&by_proc, number).len(), 0);
    }

    // What ss does not tell.
    let count = |answer: &Value, netns, role: &str, pid: u32, waits| {
        let expected = (role.to_owned(), waits);
        let found = sockets(answer, netns).into_iter();
        found
            .filter(|((owner, ..), how)| *owner == Some(pid.into()) && *how == expected)
            .count()
    };
    let me = std::process::id();
    for answer in [&by_diag, &by_proc] {
        assert_eq!(count(answer, a, "listener", server.pid(), false), 3);
        assert_eq!(count(answer, a, "server", server.pid(), false), 9);
        assert_eq!(count(answer, a, "client", inner.pid(), false), 3);
        assert_eq!(count(answer, b, "client", waiting.pid(), false), 3);
        assert_eq!(count(answer, own, "server", me, true), 3);
        for client in &clients {
            assert_eq!(count(answer, own, "client", client.pid(), false), 3);
        }
    }
    let traffic = |role: &str, netns| {
        let rows = by_diag["sockets"].as_array().unwrap().iter();
        let of = rows.filter(|row| row["netns"] == netns && row["role"] == role && row["backlog"] == false);
        of.map(|row| {
            (
                row["traffic"]["sent_bytes"].as_u64().unwrap(),
                row["traffic"]["received_bytes"].as_u64().unwrap(),
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(traffic("server", a), [(300, 1000); 9]);
    assert_eq!(traffic("client", a), [(1000, 300); 3]);
    assert_eq!(traffic("client", b), [(1000, 0); 3]);

    // Who may not enter sees the same sockets, with cookies only at home.
    let confined = ask(&["setpriv", "--bounding-set=-sys_admin"], "auto");
    for number in [a, b] {
        assert_eq!(sockets(&confined, number), sockets(&by_diag, number));
        assert_eq!(cookies(&confined, number).len(), 0);
    }
    assert!(
        confined["gaps"]["not_entered"]["count"].as_u64().unwrap() >= 2,
        "{}",
        confined["gaps"]
    );
    assert!(!cookies(&confined, own).is_empty());

    // Half closed, and its end is no byte.
    let quiet = first.inside(free_port())[0].to_string();
    let server = Place::new()
        .netns(&first)
        .start(&["serve", &quiet, "--read", "1000", "--keep"]);
    hold(Place::new(), &quiet).finish();
    let closed = |answer: &Value| {
        let rows = answer["sockets"].as_array().unwrap().iter();
        let closed = rows.filter(|row| row["netns"] == a && row["state"] == "close_wait");
        closed
            .map(|row| (row["owner"]["tgid"].as_u64(), row["traffic"]["received_bytes"].as_u64()))
            .collect::<Vec<_>>()
    };
    let pid = Some(u64::from(server.pid()));
    eventually(Duration::from_secs(10), "the clients' ends have come", || {
        closed(&ask(&[], "diag")).len() == 3
    });
    let (by_diag, by_proc) = (ask(&[], "diag"), ask(&[], "proc"));
    assert_eq!(closed(&by_diag), [(pid, Some(1000)); 3]);
    assert_eq!(closed(&by_proc), [(pid, None); 3]);
    assert_eq!(sockets(&by_diag, a), sockets(&by_proc, a));
    assert_eq!(sockets(&by_diag, a).into_keys().collect::<BTreeSet<_>>(), ss(&first).0);
}
