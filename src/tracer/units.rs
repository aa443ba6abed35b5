//! The programs: which feature each belongs to, where it is attached, and how.
use super::{error::KernelError, iter::Iterator, kernel::Setup};
use crate::{base::features::feature, config::SocketHook};
use aya::{
    Ebpf,
    maps::Map,
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSockAddr, FExit, Iter, Program, ProgramError},
};
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tarsier_common::{map, program};

pub(super) enum Attach {
    Tracepoint(&'static str),
    /// Where a function of the kernel returns.
    Exit(&'static str),
    Connect,
    /// Over what the map of that name has in store for sockets.
    Stored(&'static str),
    /// Over the slots of that array.
    Slots(&'static str),
    /// Over the descriptors of all processes.
    Descriptors,
    /// Over the connections of the network namespace it is read from.
    Connections,
}

pub(super) struct Unit {
    pub program: &'static str,
    pub feature: &'static str,
    pub attach: Attach,
}

const fn unit(program: &'static str, feature: &'static str, attach: Attach) -> Unit {
    Unit {
        program,
        feature,
        attach,
    }
}

/// In the order of attaching: what ends things before what begins them, so that nothing is seen to begin only.
pub(super) const UNITS: [Unit; 16 + cfg!(feature = "test-hooks") as usize] = [
    #[cfg(feature = "test-hooks")]
    unit(
        program::EMPTY,
        feature::SOCKET_IO,
        Attach::Tracepoint("tcp_rcv_space_adjust"),
    ),
    unit(program::TOTALS, feature::TOTALS, Attach::Stored(map::SOCKETS)),
    unit(program::TOTALS_OF_YOUNG, feature::TOTALS, Attach::Slots(map::YOUNG)),
    unit(program::INVENTORY_LISTENERS, feature::INVENTORY, Attach::Descriptors),
    unit(program::INVENTORY_CONNECTIONS, feature::INVENTORY, Attach::Descriptors),
    unit(
        program::INVENTORY_WAITING,
        feature::INVENTORY_WAITING,
        Attach::Connections,
    ),
    unit(program::OPEN_FILES, feature::FILES, Attach::Descriptors),
    unit(
        program::TCP_DESTROY,
        feature::TCP_STATE,
        Attach::Tracepoint("tcp_destroy_sock"),
    ),
    unit(
        program::EXIT,
        feature::PROCESS_EXIT,
        Attach::Tracepoint("sched_process_exit"),
    ),
    unit(
        program::CGROUP_RMDIR,
        feature::CGROUP_PATHS,
        Attach::Tracepoint("cgroup_rmdir"),
    ),
    unit(
        program::CGROUP_MKDIR,
        feature::CGROUP_PATHS,
        Attach::Tracepoint("cgroup_mkdir"),
    ),
    unit(
        program::CGROUP_ATTACH,
        feature::CGROUP_MOVES,
        Attach::Tracepoint("cgroup_attach_task"),
    ),
    unit(
        program::EXEC,
        feature::PROCESS_EXEC,
        Attach::Tracepoint("sched_process_exec"),
    ),
    unit(
        program::FORK,
        feature::PROCESS_START,
        Attach::Tracepoint("task_newtask"),
    ),
    unit(
        program::TCP_STATE,
        feature::TCP_STATE,
        Attach::Tracepoint("inet_sock_set_state"),
    ),
    unit(program::CONNECT4, feature::CONNECT_ATTEMPTS, Attach::Connect),
    unit(program::CONNECT6, feature::CONNECT_ATTEMPTS, Attach::Connect),
];

/// One of the ways to learn who sends and receives. Both programs of a hook, or none.
pub(super) struct Hook {
    pub kind: SocketHook,
    pub units: &'static [Unit],
    /// In their place, where what is said is read too. Empty: it cannot be.
    pub reading: &'static [Unit],
    /// What it does not see. Empty: nothing.
    pub lacks: &'static str,
}

/// With any hook that reads, where requests on connections are counted. The first only where the kernel has that function,
/// which is until 6.4: what it sends no hook sees.
pub(super) const COUNTING: [Unit; 4] = [
    unit(program::L7_SENT_PAGE_EXIT, feature::L7, Attach::Exit("tcp_sendpage")),
    unit(program::L7_TOTALS, feature::L7, Attach::Stored(map::CONVERSATIONS)),
    unit(program::L7_TOTALS_OF_SLOTS, feature::L7, Attach::Slots(map::TALKERS)),
    unit(program::L7_DESTROY, feature::L7, Attach::Tracepoint("tcp_destroy_sock")),
];

/// The first that loads is taken.
pub(super) const HOOKS: [Hook; 3] = [
    Hook {
        kind: SocketHook::Tracepoint,
        units: &[
            unit(
                program::IO_SENT,
                feature::SOCKET_IO,
                Attach::Tracepoint("sock_send_length"),
            ),
            unit(
                program::IO_RECEIVED,
                feature::SOCKET_IO,
                Attach::Tracepoint("sock_recv_length"),
            ),
        ],
        reading: &[
            unit(program::L7_SENT, feature::DNS, Attach::Tracepoint("sock_send_length")),
            unit(
                program::L7_RECEIVED,
                feature::DNS,
                Attach::Tracepoint("sock_recv_length"),
            ),
        ],
        lacks: "",
    },
    Hook {
        kind: SocketHook::Fexit,
        units: &[
            unit(program::IO_SENT_EXIT, feature::SOCKET_IO, Attach::Exit("tcp_sendmsg")),
            unit(
                program::IO_RECEIVED_EXIT,
                feature::SOCKET_IO,
                Attach::Exit("tcp_recvmsg"),
            ),
        ],
        reading: &[
            unit(program::L7_SENT_EXIT, feature::DNS, Attach::Exit("tcp_sendmsg")),
            unit(program::L7_RECEIVED_EXIT, feature::DNS, Attach::Exit("tcp_recvmsg")),
            unit(program::L7_UDP_SENT_EXIT, feature::DNS, Attach::Exit("udp_sendmsg")),
            unit(program::L7_UDP_RECEIVED_EXIT, feature::DNS, Attach::Exit("udp_recvmsg")),
            unit(program::L7_UDP6_SENT_EXIT, feature::DNS, Attach::Exit("udpv6_sendmsg")),
            unit(
                program::L7_UDP6_RECEIVED_EXIT,
                feature::DNS,
                Attach::Exit("udpv6_recvmsg"),
            ),
        ],
        lacks: "",
    },
    Hook {
        kind: SocketHook::Receive,
        units: &[unit(
            program::IO_CONSUMED,
            feature::SOCKET_IO,
            Attach::Tracepoint("tcp_rcv_space_adjust"),
        )],
        reading: &[],
        lacks: "a passed socket that its new owner only sends on stays with the listener's owner until an inventory",
    },
];

/// Loads and attaches one program. An iterator is to be kept by the caller: it is read, not run by events.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    unit: &Unit,
    btf: &aya::Btf,
    setup: &Setup,
) -> Result<Option<Iterator>, KernelError> {
    let name = unit.program;
    let failed = |source| KernelError::Program { name, source };
    let program = ebpf.program_mut(name).ok_or(KernelError::NoProgram { name })?;
    let loaded_before = program.fd().is_ok();
    match &unit.attach {
        Attach::Tracepoint(tracepoint) => {
            let program: &mut BtfTracePoint = program.try_into().map_err(failed)?;
            if !loaded_before {
                program.load(tracepoint, btf).map_err(failed)?;
            }
            program.attach().map_err(failed)?;
        }
        Attach::Exit(function) => {
            let program: &mut FExit = program.try_into().map_err(failed)?;
            if !loaded_before {
                program.load(function, btf).map_err(failed)?;
            }
            program.attach().map_err(failed)?;
        }
        Attach::Connect => {
            let root = setup.cgroup2.as_ref().ok_or(KernelError::NoCgroup2)?;
            let root = File::open(root).map_err(|source| KernelError::Io {
                op: "cannot open the cgroup2 root",
                source,
            })?;
            let program: &mut CgroupSockAddr = program.try_into().map_err(failed)?;
            if !loaded_before {
                program.load().map_err(failed)?;
            }
            // A link always lets other programs be; its flags must be empty, which is what this mode's name stands for.
            program.attach(root, CgroupAttachMode::Single).map_err(failed)?;
        }
        Attach::Stored(name) => {
            let program = iterator(program, "bpf_sk_storage_map", btf).map_err(failed)?;
            let Some(Map::SkStorage(sockets)) = ebpf.map(name) else {
                return Err(KernelError::NoMap { name });
            };
            return attach_iterator(program, Some(sockets.fd().as_fd())).map(Some);
        }
        Attach::Slots(name) => {
            let program = iterator(program, "bpf_map_elem", btf).map_err(failed)?;
            let Some(Map::Array(slots)) = ebpf.map(name) else {
                return Err(KernelError::NoMap { name });
            };
            return attach_iterator(program, Some(slots.fd().as_fd())).map(Some);
        }
        Attach::Descriptors => {
            let program = iterator(program, "task_file", btf).map_err(failed)?;
            return attach_iterator(program, None).map(Some);
        }
        Attach::Connections => {
            let program = iterator(program, "tcp", btf).map_err(failed)?;
            return attach_iterator(program, None).map(Some);
        }
    }
    Ok(None)
}

/// Takes back what was attached: of a hook of which the other half does not load.
pub(super) fn detach(ebpf: &mut Ebpf, unit: &Unit) {
    let unloaded = match ebpf.program_mut(unit.program) {
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::FExit(program)) => program.unload(),
        Some(Program::Iter(program)) => program.unload(),
        _ => Ok(()),
    };
    // Not loaded: nothing to take back.
    drop(unloaded);
}

/// A descriptor of its own, so that the object is free for its maps.
fn iterator(program: &mut Program, over: &str, btf: &aya::Btf) -> Result<OwnedFd, ProgramError> {
    let program: &mut Iter = program.try_into()?;
    if program.fd().is_err() {
        program.load(over, btf)?;
    }
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}

fn attach_iterator(program: OwnedFd, map: Option<BorrowedFd<'_>>) -> Result<Iterator, KernelError> {
    Iterator::attach(program.as_fd(), map).map_err(|source| KernelError::Io {
        op: "cannot attach an iterator",
        source,
    })
}
