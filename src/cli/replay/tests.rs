//! From the kernel's bytes to the text of `/metrics`: recorded, and played back.
use super::*;
use crate::{
    base::{
        fqdn::Fqdn,
        ids::{Application, CgroupId, NetnsId, ProcKey},
    },
    config::Config,
    decode::{self, DnsAnswered, Event, Exchanges, Latency, Protocol, Role, Unparsed, UnparsedReason},
    recording::Recorder,
    registry::{
        effects::Answer,
        state::{Inventory, Node, ProcessFound},
    },
    tracer::kernel::RawBatch,
};
use std::time::Duration;
use tarsier_common::{
    AF_INET, AF_INET6, Header, Owner, ProcessRecord, SocketRecord, Sum, SumKey, kind, process_flag, socket_flag, stage,
};
use zerocopy::IntoBytes;

const SECOND: u64 = 1_000_000_000;

fn now(seconds: u64) -> Now {
    Now {
        monotonic_ns: seconds * SECOND,
        boottime_ns: seconds * SECOND,
        wall_ns: (1_800_000_000 + seconds) * SECOND,
    }
}

fn header<T>(kind: u16) -> Header {
    Header {
        time_ns: SECOND,
        kind,
        flags: 0,
        len: size_of::<T>() as u32,
    }
}

fn owner(tgid: u32, cgroup_id: u64, name: &[u8]) -> Owner {
    let mut owner = Owner {
        start_ns: u64::from(tgid) * SECOND,
        cgroup_id,
        tgid,
        ..Owner::default()
    };
    owner.comm[..name.len()].copy_from_slice(name);
    owner
}

fn process(kind: u16, owner: Owner, parent_tgid: u32) -> ProcessRecord {
    ProcessRecord {
        header: header::<ProcessRecord>(kind),
        owner,
        parent_tgid,
        exit_code: 0,
    }
}

fn socket(kind: u16, cookie: u64, owner: Owner) -> SocketRecord {
    let mut record = SocketRecord {
        header: header::<SocketRecord>(kind),
        cookie,
        owner,
        generation: 1,
        netns: 1,
        connect_ns: 2_000_000,
        local_port: 41_000,
        remote_port: 5432,
        family: AF_INET,
        stage: stage::ESTABLISHED,
        flags: socket_flag::SETTLED,
        ..Default::default()
    };
    record.remote[..4].copy_from_slice(&[192, 0, 2, 9]);
    record
}

fn preamble() -> Preamble {
    let mut config = Config::default();
    config.containers.min_age = Duration::ZERO;
    Preamble {
        node: Node {
            host_netns: NetnsId(1),
            root_cgroup: CgroupId(1),
            cgroup_base: "/".into(),
            legacy_hierarchies: true,
            own_tgid: 999,
        },
        config,
        machine_id: "0123".into(),
        system_uuid: "4567".into(),
        runtimes: false,
    }
}

/// The first process, of which others inherit their place.
fn init() -> Inventory {
    Inventory {
        taken_boottime_ns: SECOND,
        processes: vec![ProcessFound {
            process: ProcKey {
                tgid: 1,
                start_ns: SECOND,
            },
            comm: *b"init\0\0\0\0\0\0\0\0\0\0\0\0",
            kernel_thread: false,
            path: "/".into(),
        }],
        complete: true,
        sockets: None,
    }
}

/// A service in a cgroup that is asked for, a bare process found in /proc, and a ring that was full for a while.
fn record(path: &std::path::Path) {
    let recorder = Recorder::create(path, &preamble()).unwrap();
    recorder.inventory(now(1), &init());
    let app = owner(20, 77, b"app");
    let curl = owner(30, 1, b"curl");
    let mut raw = RawBatch::default();
    let mut news = |record: &[u8]| raw.news.extend_from_slice(record);
    news(process(kind::FORK, app, 1).as_bytes());
    news(process(kind::FORK, owner(30, 1, b"sh"), 1).as_bytes());
    news(process(kind::EXEC, curl, 1).as_bytes());
    let mut listening = socket(kind::LISTEN, 6, app);
    listening.stage = stage::LISTENING;
    listening.family = AF_INET6;
    listening.local[15] = 1;
    listening.local_port = 8080;
    news(listening.as_bytes());
    let mut refused = socket(kind::CONNECT_FAILED, 7, curl);
    refused.errno = 111;
    news(refused.as_bytes());
    recorder.batch(now(2), &raw);
    recorder.answer(
        now(3),
        &Answer::Cgroup {
            cgroup: CgroupId(77),
            path: Some("/system.slice/app.service".into()),
        },
    );
    recorder.answer(
        now(3),
        &Answer::Application {
            process: ProcKey {
                tgid: 20,
                start_ns: 20 * SECOND,
            },
            application: Some(Application::from("postgres")),
        },
    );
    // A worker killed, a pass, an end that spilled, and one that was only added up.
    let mut raw = RawBatch::default();
    raw.news
        .extend_from_slice(process(kind::FORK, owner(21, 77, b"app"), 20).as_bytes());
    let mut killed = process(kind::EXIT, owner(21, 77, b"app"), 20);
    (killed.header.flags, killed.exit_code) = (process_flag::OOM_KILLED, 9);
    raw.news.extend_from_slice(killed.as_bytes());
    let mut seen = socket(kind::COUNT, 5, app);
    (seen.sent_bytes, seen.received_bytes) = (100, 1_000);
    raw.seen.extend_from_slice(seen.as_bytes());
    let mut spilled = socket(kind::CLOSE, 8, app);
    spilled.flags = 0;
    spilled.sent_bytes = 7;
    raw.spilled_sockets.extend_from_slice(spilled.as_bytes());
    let key = SumKey {
        cgroup_id: 77,
        netns: 1,
        address: seen.remote,
        port: 5432,
        family: AF_INET as u8,
        ..SumKey::default()
    };
    let sum = Sum {
        connects: 10,
        failures: 1,
        connect_ns: 20_000_000,
        sent_bytes: 30,
        received_bytes: 40,
        ..Sum::default()
    };
    raw.spilled_sums.extend_from_slice(key.as_bytes());
    raw.spilled_sums.extend_from_slice(sum.as_bytes());
    recorder.batch(now(4), &raw);
    recorder.tick(now(5));
    recorder.finish(now(6)).unwrap();
}

#[test]
fn a_recording_ends_in_the_metrics_it_was_made_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording");
    record(&path);
    let text = replay(File::open(path).unwrap()).unwrap();
    let text = String::from_utf8(text).unwrap();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    insta::assert_snapshot!(samples.join("\n"));
}

#[test]
fn what_is_no_recording_is_an_error() {
    let error = replay(&b"# HELP something else\n"[..]).unwrap_err();
    assert_eq!(error.to_string(), "not a recording of tarsier, or of another version");
}

/// Of a bare process.
fn to(kind: u16, cookie: u64, remote: [u8; 4]) -> SocketRecord {
    let mut record = socket(kind, cookie, owner(30, 1, b"curl"));
    record.remote[..4].copy_from_slice(&remote);
    record.remote_port = 443;
    record
}

fn seen(records: &[SocketRecord]) -> RawBatch {
    RawBatch {
        seen: records.iter().flat_map(|record| record.as_bytes().to_vec()).collect(),
        ..RawBatch::default()
    }
}

/// Lines of a family: what stands after it, without the node's and the container's labels.
fn lines(text: &str, family: &str) -> Vec<String> {
    let of = |line: &&str| line.starts_with(&format!("{family}{{"));
    let own = |label: &&str| {
        let common = ["app_id", "container_id", "machine_id", "system_uuid"];
        !common.iter().any(|name| label.starts_with(name))
    };
    let line = |line: &str| {
        let (labels, value) = line.split_once('{').unwrap().1.split_once("} ").unwrap();
        format!(
            "{} {value}",
            labels.split(',').filter(own).collect::<Vec<_>>().join(",")
        )
    };
    text.lines().filter(of).map(line).collect()
}

#[test]
fn names_are_learnt_and_forgotten_where_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording");
    let recorder = Recorder::create(&path, &preamble()).unwrap();
    let answer = |seconds, name: &str, addresses: &[&str]| {
        let answer = DnsAnswered {
            name: name.as_bytes().into(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        recorder.dns_answered(now(seconds), &answer);
    };
    recorder.inventory(now(1), &init());
    let forked = process(kind::FORK, owner(30, 1, b"curl"), 1);
    recorder.batch(
        now(1),
        &RawBatch {
            news: forked.as_bytes().to_vec(),
            ..RawBatch::default()
        },
    );
    recorder.batch(now(1), &seen(&[to(kind::COUNT, 1, [192, 0, 2, 1])]));
    answer(2, "Shop.example.", &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    answer(2, "db.internal", &["10.0.0.5"]);
    answer(2, "gone.internal", &["10.0.0.6"]);
    answer(2, "led.example", &["198.51.100.1", "198.51.100.2"]);
    let service = to(kind::COUNT, 6, [198, 51, 100, 1]);
    let led = SocketId {
        cookie: 6,
        generation: 1,
    };
    recorder.routes(&[(led, "10.0.0.7:8443".parse().unwrap())]);
    let mut refused = to(kind::CONNECT_FAILED, 7, [192, 0, 2, 3]);
    refused.errno = 111;
    let key = SumKey {
        cgroup_id: 1,
        tgid: 30,
        start_ns: 30 * SECOND,
        netns: 1,
        address: to(kind::COUNT, 0, [192, 0, 2, 2]).remote,
        port: 443,
        family: AF_INET as u8,
        ..SumKey::default()
    };
    let sum = Sum {
        connects: 10,
        ..Sum::default()
    };
    recorder.batch(
        now(3),
        &RawBatch {
            news: refused.as_bytes().to_vec(),
            spilled_sums: [key.as_bytes(), sum.as_bytes()].concat(),
            ..seen(&[
                to(kind::COUNT, 1, [192, 0, 2, 1]),
                to(kind::COUNT, 2, [192, 0, 2, 1]),
                to(kind::COUNT, 3, [192, 0, 2, 2]),
                to(kind::COUNT, 4, [10, 0, 0, 5]),
                service,
            ])
        },
    );
    answer(4, "other.example", &["192.0.2.1", "192.0.2.9"]);
    recorder.names_forgotten(&["10.0.0.6".parse().unwrap(), "192.0.2.3".parse().unwrap()]);
    recorder.batch(
        now(5),
        &seen(&[
            to(kind::COUNT, 1, [192, 0, 2, 1]),
            to(kind::COUNT, 2, [192, 0, 2, 1]),
            to(kind::COUNT, 8, [192, 0, 2, 1]),
            to(kind::COUNT, 9, [192, 0, 2, 3]),
        ]),
    );
    recorder.finish(now(6)).unwrap();

    let text = String::from_utf8(replay(File::open(&path).unwrap()).unwrap()).unwrap();
    assert_eq!(
        lines(&text, "container_net_tcp_active_connections"),
        [
            r#"actual_destination="",destination="other.example:443" 1"#,
            r#"actual_destination="",destination="shop.example:443" 2"#,
            r#"actual_destination="10.0.0.5:443",destination="10.0.0.5:443" 1"#,
            r#"actual_destination="10.0.0.7:8443",destination="198.51.100.1:443" 1"#,
            // It was open before it had a name.
            r#"actual_destination="192.0.2.1:443",destination="192.0.2.1:443" 1"#,
            r#"actual_destination="192.0.2.3:443",destination="192.0.2.3:443" 1"#,
        ]
    );
    let connects = lines(&text, "container_net_tcp_successful_connects_total");
    assert!(
        connects.contains(&r#"actual_destination="",destination="shop.example:443" 12"#.to_owned()),
        "{connects:?}"
    );
    assert_eq!(
        lines(&text, "container_net_tcp_failed_connects_total"),
        [r#"destination="shop.example:443" 1"#]
    );
    assert_eq!(lines(&text, "ip_to_fqdn"), [r#"fqdn="db.internal",ip="10.0.0.5" 1"#]);
    let again = replay(File::open(&path).unwrap()).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), text);
}

/// Of the bare process.
fn said(role: Role, protocol: Protocol) -> Exchanges {
    let process = ProcKey {
        tgid: 30,
        start_ns: 30 * SECOND,
    };
    let owner = decode::Owner {
        process,
        cgroup: CgroupId(1),
        ..decode::SocketEvent::example().owner
    };
    Exchanges {
        owner,
        ..Exchanges::example(role, protocol)
    }
}

#[test]
fn requests_are_counted_where_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording");
    let recorder = Recorder::create(&path, &preamble()).unwrap();
    recorder.inventory(now(1), &init());
    let forked = process(kind::FORK, owner(30, 1, b"curl"), 1);
    recorder.batch(
        now(1),
        &RawBatch {
            news: forked.as_bytes().to_vec(),
            ..RawBatch::default()
        },
    );
    recorder.batch(now(1), &seen(&[to(kind::COUNT, 1, [192, 0, 2, 9])]));
    let record = |seconds, events: Vec<Event>| recorder.said(now(seconds), &events.iter().collect::<Vec<_>>());
    // Forgotten with its destination.
    let quiet = Exchanges {
        remote: "192.0.2.77:80".parse().unwrap(),
        ..said(Role::Client, Protocol::Redis)
    };
    let of_the_connection = Exchanges {
        remote: "192.0.2.9:443".parse().unwrap(),
        ..said(Role::Client, Protocol::Http)
    };
    record(
        2,
        vec![Event::Exchanges(quiet), Event::Exchanges(of_the_connection.clone())],
    );
    recorder.garbage(now(3600));
    let led = Exchanges {
        actual: Some("10.0.0.7:8080".parse().unwrap()),
        ..said(Role::Client, Protocol::Http)
    };
    let named = Exchanges {
        name: Some(Fqdn::new(b"db.example").unwrap()),
        ..said(Role::Client, Protocol::Postgres)
    };
    let skipped = Exchanges {
        remote: "192.0.2.9:40000".parse().unwrap(),
        ..said(Role::Client, Protocol::Http)
    };
    let unanswered = Unparsed {
        owner: led.owner,
        protocol: Protocol::Memcached,
        reason: UnparsedReason::Unanswered,
        count: 3,
    };
    let clients = [of_the_connection, led, named, skipped].map(Event::Exchanges);
    let servers = [Protocol::Http, Protocol::Memcached].map(|protocol| Event::Exchanges(said(Role::Server, protocol)));
    let events = clients.into_iter().chain(servers);
    record(3601, events.chain([Event::Unparsed(unanswered)]).collect());
    recorder.finish(now(3602)).unwrap();

    let text = String::from_utf8(replay(File::open(&path).unwrap()).unwrap()).unwrap();
    let families = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let of_requests =
        |family: &&str| family.contains("requests") || family.contains("queries") || family.contains("_l7_");
    let shown = families.filter(of_requests).flat_map(|family| {
        let rows = [family.to_owned(), format!("{family}_count"), format!("{family}_sum")];
        rows.into_iter().flat_map(|name| {
            lines(&text, &name)
                .into_iter()
                .map(move |line| format!("{name} {line}"))
        })
    });
    insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"));
}

/// Whoever has a recording may have written it.
#[test]
fn no_count_of_a_recording_overflows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording");
    let recorder = Recorder::create(&path, &preamble()).unwrap();
    recorder.inventory(now(1), &init());
    let forked = process(kind::FORK, owner(30, 1, b"curl"), 1);
    recorder.batch(
        now(1),
        &RawBatch {
            news: forked.as_bytes().to_vec(),
            ..RawBatch::default()
        },
    );
    let latency = Latency {
        counts: [u64::MAX; 12],
        sum_ns: u64::MAX,
    };
    let mut events = Vec::new();
    for role in Role::ALL {
        let full = Exchanges {
            classes: [u64::MAX; 6],
            latency,
            ..said(role, Protocol::Redis)
        };
        let owner = full.owner;
        events.push(Event::Exchanges(full));
        events.push(Event::DnsAsked(decode::DnsRequests {
            owner,
            role,
            question_type: 1,
            domain: "a.example".into(),
            status: decode::DnsStatus::OK,
            latency,
        }));
        let count = u64::MAX;
        events.push(Event::DnsUnanswered(decode::DnsUnanswered { owner, role, count }));
        events.push(Event::Unparsed(Unparsed {
            owner,
            protocol: Protocol::Http,
            reason: UnparsedReason::Gap,
            count,
        }));
    }
    for _ in 0..2 {
        recorder.said(now(2), &events.iter().collect::<Vec<_>>());
    }
    recorder.finish(now(3)).unwrap();
    let text = String::from_utf8(replay(File::open(&path).unwrap()).unwrap()).unwrap();
    for family in [
        "container_redis_queries_total",
        "container_redis_inbound_queries_total",
        "container_dns_requests_total",
        "container_dns_inbound_requests_total",
        "tarsier_container_dns_unanswered_total",
        "tarsier_container_l7_unparsed_total",
    ] {
        let lines = lines(&text, family);
        assert!(!lines.is_empty(), "{family}");
        assert!(
            lines.iter().all(|line| line.ends_with(" 18446744073709552000")),
            "{lines:?}"
        );
    }
}
