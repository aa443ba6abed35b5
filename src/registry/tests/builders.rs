//! Short ways to say what happens.
use super::*;
use crate::registry::effects::SlotId;

pub(super) const ROOT: CgroupId = CgroupId(1);
pub(super) const HOST: NetnsId = NetnsId(40);
pub(super) const TICK: u64 = 10_000_000;

pub(super) fn settings(standalone: Standalone) -> Settings {
    Settings {
        standalone,
        cgroup_root: "/".into(),
        filter: Filter::default(),
        limits: Limits {
            destinations: 100,
            names: 100,
            listens: 100,
            connections: 1000,
        },
        min_age: Duration::ZERO,
        keep: Duration::from_secs(600),
        max_containers: 100,
        max_pending: 3,
        max_processes: 100,
        max_sockets: 100,
        runtimes: false,
        filters: Arc::default(),
        actors: false,
        first_slot: 0,
    }
}

pub(super) fn node() -> Node {
    Node {
        host_netns: HOST,
        root_cgroup: ROOT,
        cgroup_base: "/".into(),
        legacy_hierarchies: true,
        own_tgid: 999,
    }
}

pub(super) fn registry() -> RegistryState {
    RegistryState::new(settings(Standalone::ByName), node())
}

pub(super) fn with_actors() -> RegistryState {
    let settings = Settings {
        actors: true,
        ..settings(Standalone::ByName)
    };
    RegistryState::new(settings, node())
}

pub(super) fn now(seconds: u64) -> Now {
    let ns = seconds * 1_000_000_000;
    Now {
        monotonic_ns: ns,
        boottime_ns: ns,
        wall_ns: ns,
    }
}

pub(super) fn comm(name: &str) -> Comm {
    let mut comm = Comm::default();
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

pub(super) fn owner(tgid: u32, cgroup: CgroupId, name: &str) -> Owner {
    Owner {
        process: ProcKey {
            tgid,
            start_ns: u64::from(tgid) * TICK,
        },
        cgroup,
        comm: comm(name),
        kernel_thread: false,
    }
}

pub(super) fn process(owner: Owner, parent_tgid: u32) -> ProcessEvent {
    ProcessEvent {
        time_ns: 0,
        owner,
        parent_tgid,
        exit_code: 0,
        legacy_hierarchy: false,
        oom_killed: false,
    }
}

pub(super) fn started(owner: Owner, parent: u32) -> Event {
    Event::ProcessStarted(process(owner, parent))
}

pub(super) fn exec(owner: Owner) -> Event {
    Event::ProcessExec(process(owner, 0))
}

pub(super) fn exited(owner: Owner) -> Event {
    Event::ProcessExited(process(owner, 0))
}

pub(super) fn socket(cookie: u64, owner: Owner) -> SocketEvent {
    SocketEvent {
        socket: SocketId { cookie, generation: 1 },
        owner,
        netns: HOST,
        local: "192.0.2.1:40000".parse().unwrap(),
        remote: "192.0.2.9:80".parse().unwrap(),
        connect_ns: Some(1),
        ..SocketEvent::example()
    }
}

pub(super) fn exchanges(owner: Owner, role: Role) -> Exchanges {
    Exchanges {
        owner,
        netns: HOST,
        ..Exchanges::example(role, Protocol::Http)
    }
}

pub(super) fn ten_connects(cgroup: CgroupId) -> SumEvent {
    SumEvent {
        cgroup,
        process: None,
        netns: HOST,
        role: Role::Client,
        address: "192.0.2.9:80".parse().unwrap(),
        comm: comm("app"),
        connects: 10,
        failures: 1,
        connect_ns: 5,
        sent_bytes: 6,
        received_bytes: 7,
        retransmits: 0,
        closes: [10, 0, 0, 0],
        name: None,
    }
}

pub(super) fn found(tgid: u32, name: &str, path: &str) -> ProcessFound {
    ProcessFound {
        process: ProcKey {
            tgid,
            start_ns: u64::from(tgid) * TICK,
        },
        comm: comm(name),
        kernel_thread: false,
        path: path.into(),
    }
}

pub(super) fn inventory(processes: impl IntoIterator<Item = ProcessFound>) -> Inventory {
    Inventory {
        taken_boottime_ns: u64::MAX,
        processes: processes.into_iter().collect(),
        complete: true,
        sockets: None,
    }
}

/// Container, processes, connects, active.
pub(super) fn shown(registry: &mut RegistryState) -> Vec<(String, u32, u64, i64)> {
    let samples = registry.samples(now(100));
    let row = |sample: &crate::container::samples::Samples| {
        let connects = sample.destinations.iter().map(|destination| destination.connects).sum();
        let active = sample.destinations.iter().map(|destination| destination.active).sum();
        (sample.id.to_string(), sample.processes, connects, active)
    };
    let mut rows: Vec<_> = samples.iter().map(row).collect();
    rows.sort();
    rows
}

pub(super) fn row(id: &str, processes: u32, connects: u64, active: i64) -> (String, u32, u64, i64) {
    (id.to_owned(), processes, connects, active)
}

/// An actor has started for the slot.
pub(super) fn runs(registry: &mut RegistryState, slot: SlotId) -> (bool, Effects) {
    registry.container_runs(slot, &"/anything".into())
}
