//! Answers the registry's questions, on the blocking pool.
use super::{
    CollectError, addresses, applications,
    cgroups::CgroupTree,
    processes,
    sockets::{self, Source},
};
use crate::{
    base::{
        clock::Clock,
        features::{Features, feature},
        ids::CgroupId,
    },
    decode::{Comm, Role},
    registry::{
        effects::{Answer, Ask},
        identity::{CgroupFile, CgroupPath, CgroupRoot, PathRule, placement, placement_by},
        state::{Inventory, Node, ProcessFound, SocketFound},
    },
};
use parking_lot::Mutex;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub struct Worker {
    proc: PathBuf,
    /// For paths as /proc prints them: relative to the agent's cgroup namespace.
    shown: CgroupRoot,
    /// For paths of the host's tree.
    host: CgroupRoot,
    legacy_hierarchies: bool,
    tree: Mutex<Option<CgroupTree>>,
    features: Arc<Features>,
    clock: Arc<dyn Clock>,
    batches: AtomicU64,
}

/// A process, and how its place was read from its file.
#[derive(Debug)]
pub struct Placed {
    pub process: processes::Process,
    pub file: Vec<u8>,
    pub path: CgroupPath,
    pub rule: PathRule,
}

#[derive(Debug)]
pub struct Work {
    pub asks: Vec<Ask>,
    pub inventory: bool,
}

#[derive(Debug, Default)]
pub struct Done {
    pub answers: Vec<Answer>,
    pub inventory: Option<Inventory>,
}

impl Worker {
    pub fn new(
        proc: PathBuf,
        cgroup_root: &str,
        node: &Node,
        tree: Option<CgroupTree>,
        features: Arc<Features>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            proc,
            shown: CgroupRoot::new(&node.cgroup_base, cgroup_root),
            host: CgroupRoot::new("/", cgroup_root),
            legacy_hierarchies: node.legacy_hierarchies,
            tree: Mutex::new(tree),
            features,
            clock,
            batches: AtomicU64::new(0),
        }
    }

    pub fn work(&self, work: Work) -> Done {
        // An unknown cgroup costs a walk of the tree, all those of one batch the same one.
        let batch = self.batches.fetch_add(1, Relaxed);
        Done {
            answers: work.asks.into_iter().map(|ask| self.answer(ask, batch)).collect(),
            inventory: if work.inventory { self.inventory() } else { None },
        }
    }

    /// Where /proc says that a process is placed; `None`: there is no such process.
    pub fn placed(&self, tgid: u32) -> Result<Option<Placed>, CollectError> {
        let found = processes::process_with_file(&self.proc, tgid)?;
        Ok(found.map(|(process, file)| {
            let (path, rule) = placement_by(&process.cgroups, &self.shown);
            Placed {
                process,
                file,
                path,
                rule,
            }
        }))
    }

    fn answer(&self, ask: Ask, batch: u64) -> Answer {
        match ask {
            Ask::Cgroup { cgroup, tgid } => Answer::Cgroup {
                cgroup,
                path: self.cgroup_path(cgroup, tgid, batch),
            },
            Ask::Process { process } => {
                let found = processes::process(&self.proc, process.tgid).ok().flatten();
                // The pid may be another's by now.
                let same = |found: &processes::Process| {
                    processes::cut_to_tick(process.start_ns) == processes::cut_to_tick(found.key.start_ns)
                };
                let found = found.filter(same);
                Answer::Process {
                    process,
                    path: found.map(|found| placement(&found.cgroups, &self.shown).path),
                }
            }
            Ask::Addresses { netns, tgid } => {
                let process = processes::process(&self.proc, tgid).ok().flatten();
                // The pid may be another's by now, or the process elsewhere.
                let there = process.is_some_and(|process| process.netns.is_none_or(|is| is == netns));
                let ips = there.then(|| addresses::addresses(&self.proc, tgid).ok()).flatten();
                Answer::Addresses {
                    netns,
                    ips: ips.map(Arc::from),
                }
            }
            Ask::Application { process } => Answer::Application {
                process,
                application: applications::application(&self.proc, process),
            },
            Ask::Sandbox { process, container } => Answer::Sandbox {
                container,
                id: applications::sandbox(&self.proc, process),
            },
        }
    }

    fn cgroup_path(&self, cgroup: CgroupId, tgid: u32, batch: u64) -> Option<Arc<str>> {
        let in_tree = self.tree.lock().as_mut().and_then(|tree| tree.path_of(cgroup, batch));
        let in_tree = in_tree.map(|path| {
            let file = CgroupFile {
                unified: Some(path),
                ..CgroupFile::default()
            };
            placement(&file, &self.host).path
        });
        if in_tree.is_some() && !self.legacy_hierarchies {
            return in_tree;
        }
        let process = processes::process(&self.proc, tgid).ok().flatten();
        let Some(process) = process else { return in_tree };
        let unified = CgroupFile {
            unified: process.cgroups.unified.clone(),
            ..CgroupFile::default()
        };
        let unified = placement(&unified, &self.shown).path;
        // It may have moved on since: then its v1 placement is of no use either.
        match in_tree {
            Some(path) if path != unified => Some(path),
            _ => Some(placement(&process.cgroups, &self.shown).path),
        }
    }

    fn inventory(&self) -> Option<Inventory> {
        let taken_boottime_ns = self.clock.boottime_ns();
        let found = match processes::processes(&self.proc) {
            Ok(found) => found,
            Err(error) => {
                self.features.degraded(feature::PROC, "unreadable", error.to_string());
                return None;
            }
        };
        let hidden = processes::hidepid(&self.proc) && !may_look_into_others();
        self.say(&found, hidden);
        let sockets = self.features.needs_other_inventory().then(|| self.sockets(&found));
        let processes = found.processes.into_iter().map(|process| ProcessFound {
            process: process.key,
            comm: comm(&process.comm),
            kernel_thread: process.kernel_thread,
            path: placement(&process.cgroups, &self.shown).path,
        });
        Some(Inventory {
            taken_boottime_ns,
            processes: processes.collect(),
            // What cannot be seen may live.
            complete: found.unreadable == 0 && !hidden,
            sockets,
        })
    }

    /// Without their bytes: see the registry's `found`.
    fn sockets(&self, processes: &processes::Inventory) -> Vec<SocketFound> {
        let found = sockets::sockets(&self.proc, processes, Source::Auto, sockets::Limits::default());
        let row = |socket: sockets::Socket| {
            // No cookie is that high.
            let cookie = socket.cookie.unwrap_or(socket.inode | 1 << 63);
            Some(SocketFound {
                cookie,
                owner: socket.owner?,
                netns: socket.netns,
                local: socket.local,
                remote: socket.remote,
                role: match socket.role {
                    sockets::Role::Client => Role::Client,
                    sockets::Role::Server | sockets::Role::Listener => Role::Server,
                },
                listening: socket.role == sockets::Role::Listener,
            })
        };
        found.sockets.into_iter().filter_map(row).collect()
    }

    fn say(&self, found: &processes::Inventory, hidden: bool) {
        if hidden {
            let hint = "/proc is mounted with hidepid: give the agent CAP_SYS_PTRACE, or gid= of the mount";
            self.features.degraded(feature::PROC, "hidepid", hint);
        } else if !processes::of_the_host(&self.proc) {
            let hint = "the processes of one PID namespace, numbered as nobody else does: start the agent in the host's \
                        (--pid host, hostPID), or mount the host's /proc and name it in host.proc";
            self.features.degraded(feature::PROC, "not_the_hosts", hint);
        } else if found.unreadable > 0 {
            let hint = format!(
                "{} processes cannot be read: CAP_SYS_PTRACE may be missing",
                found.unreadable
            );
            self.features.degraded(feature::PROC, "partly_unreadable", hint);
        } else {
            self.features.ok(feature::PROC);
        }
    }
}

/// CAP_SYS_PTRACE sees through hidepid.
fn may_look_into_others() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

fn comm(name: &[u8]) -> Comm {
    let mut comm = Comm::default();
    // The last byte stays zero, as in the kernel.
    comm.iter_mut()
        .zip(name)
        .take(name.len().min(15))
        .for_each(|(to, from)| *to = *from);
    comm
}

/// The tree of the unified hierarchy, and what the feature table says of it.
pub fn cgroup_tree(root: &std::path::Path, features: &Features) -> Option<CgroupTree> {
    match CgroupTree::new(root) {
        Ok(tree) => {
            features.ok(feature::CGROUPFS);
            Some(tree)
        }
        Err(error @ CollectError::NoUnifiedHierarchy { .. }) => {
            features.degraded(feature::CGROUPFS, "no_cgroup2", error.to_string());
            None
        }
        Err(error) => {
            features.degraded(feature::CGROUPFS, "unreadable", error.to_string());
            None
        }
    }
}
