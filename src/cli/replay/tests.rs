//! From the kernel's bytes to the text of `/metrics`: recorded, and played back.
use super::*;
use crate::{
    base::ids::{Application, CgroupId, NetnsId, ProcKey},
    config::Config,
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

/// A service in a cgroup that is asked for, a bare process found in /proc, and a ring that was full for a while.
fn record(path: &std::path::Path) {
    let mut config = Config::default();
    config.containers.min_age = Duration::ZERO;
    let preamble = Preamble {
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
    };
    let recorder = Recorder::create(path, &preamble).unwrap();
    recorder.inventory(
        now(1),
        &Inventory {
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
        },
    );
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
