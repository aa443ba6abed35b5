//! The programs: which feature each belongs to, where it is attached, and how.
use super::{error::KernelError, iter::MapIterator, kernel::Setup};
use crate::base::features::feature;
use aya::{
    Ebpf,
    maps::Map,
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSockAddr, Iter},
};
use std::{fs::File, os::fd::AsFd};
use tarsier_common::{map, program};

pub(super) enum Attach {
    Tracepoint(&'static str),
    Connect,
    Totals,
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
pub(super) const UNITS: [Unit; 11] = [
    unit(program::TOTALS, feature::TOTALS, Attach::Totals),
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

/// Loads and attaches one program. The totals' iterator is to be kept by the caller: it is read, not run by events.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    unit: &Unit,
    btf: &aya::Btf,
    setup: &Setup,
) -> Result<Option<MapIterator>, KernelError> {
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
        Attach::Totals => {
            let program: &mut Iter = program.try_into().map_err(failed)?;
            if !loaded_before {
                program.load("bpf_sk_storage_map", btf).map_err(failed)?;
            }
            let program = program.fd().map_err(failed)?.as_fd().try_clone_to_owned();
            let io = |op| move |source| KernelError::Io { op, source };
            let program = program.map_err(io("cannot keep the totals program"))?;
            let Some(Map::SkStorage(sockets)) = ebpf.map(map::SOCKETS) else {
                return Err(KernelError::NoMap { name: map::SOCKETS });
            };
            let iterator = MapIterator::attach(program.as_fd(), sockets.fd().as_fd());
            return iterator.map(Some).map_err(io("cannot attach the totals iterator"));
        }
    }
    Ok(None)
}
