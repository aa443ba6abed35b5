//! Recordings of the real run, without anything that is not the workloads': neither who else was on the machine, nor what the
//! machine is called or where it has its files.
use crate::compare::Expected;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    env, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tarsier::{
    base::ids::SocketId,
    config::Config,
    decode,
    recording::{Frame, Preamble, Reader, Recorder},
    registry::{effects::Answer, state::Inventory},
    runtimes::{Found, Lookup},
    tracer::kernel::RawBatch,
};
use tarsier_common::{CgroupRecord, Header, Owner, ProcessRecord, SocketRecord, Sum, SumKey, kind};
use tarsier_integration::AgentBuilder;
use zerocopy::FromBytes;

/// As all workloads are called, and whatever they start.
const WORKLOAD: &[u8] = b"busybox";
/// Where that is all the cgroup a process has, the cgroup does not tell whose it is.
const ROOT: u64 = 1;

pub(crate) fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/kinds")
}

/// What is not in the table: it is another in each run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) rows: Vec<Where>,
    pub(crate) unwanted: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Where {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) next: SocketAddr,
    pub(crate) connects: u64,
}

/// Those that are made while the test runs, if `TARSIER_IT_RECORD` asks for them.
pub(crate) struct Records {
    wanted: bool,
    file: Option<tempfile::NamedTempFile>,
}

impl Records {
    pub(crate) fn new() -> Self {
        Self {
            wanted: env::var_os("TARSIER_IT_RECORD").is_some(),
            file: None,
        }
    }

    pub(crate) fn begin(&mut self, agent: AgentBuilder) -> AgentBuilder {
        if !self.wanted {
            return agent;
        }
        let file = self.file.insert(tempfile::NamedTempFile::new().unwrap());
        agent.argument("--record").argument(file.path())
    }

    /// The agent has ended.
    pub(crate) fn end(&mut self, name: &str, expected: &Expected<'_>) {
        let Some(file) = self.file.take() else { return };
        let rows = expected.rows.iter().zip(&expected.connects);
        let run = Run {
            rows: rows
                .map(|(row, connects)| Where {
                    name: row.kind.name.to_owned(),
                    address: row.address,
                    next: row.next,
                    connects: *connects,
                })
                .collect(),
            unwanted: expected.unwanted.to_vec(),
        };
        let to = recordings().join(name);
        fs::create_dir_all(recordings()).unwrap();
        fs::write(
            to.with_extension("json"),
            serde_json::to_string_pretty(&run).unwrap() + "\n",
        )
        .unwrap();
        let addresses = run.rows.iter().map(|row| row.address.ip()).collect();
        distil(file.path(), &to.with_extension("rec"), addresses);
    }
}

fn frames(path: &Path) -> impl Iterator<Item = Frame> {
    let mut reader = Reader::new(std::io::BufReader::new(fs::File::open(path).unwrap())).unwrap();
    std::iter::from_fn(move || reader.next_frame().unwrap())
}

fn distil(from: &Path, to: &Path, addresses: HashSet<IpAddr>) {
    let mut kept = Kept {
        addresses,
        ..Kept::default()
    };
    // A process has its workload's name a while after it began, and its parent's place from the beginning on.
    for _ in 0..3 {
        frames(from).for_each(|frame| kept.learn(&frame));
    }
    let mut frames = frames(from);
    let Some(Frame::Preamble(preamble)) = frames.next() else {
        panic!("no beginning")
    };
    let recorder = Recorder::create(to, &general(&preamble)).unwrap();
    let mut routes = Vec::new();
    for frame in frames {
        match frame {
            Frame::Routes(of) => routes = of,
            Frame::Batch(now, raw) => {
                let raw = kept.batch(&raw);
                let sockets = sockets(&raw);
                routes.retain(|(socket, _)| sockets.contains(socket));
                recorder.routes(&std::mem::take(&mut routes));
                if !raw.is_empty() {
                    recorder.batch(now, &raw);
                }
            }
            Frame::Answer(now, answer) => {
                if let Some(answer) = kept.answer(answer) {
                    recorder.answer(now, &answer);
                }
            }
            Frame::Inventory(now, inventory) => recorder.inventory(now, &kept.inventory(inventory)),
            Frame::Sweep(now, before_ns) => recorder.sweep(now, before_ns),
            Frame::Tick(now) => recorder.tick(now),
            Frame::Garbage(now) => recorder.garbage(now),
            Frame::End(now) => recorder.finish(now).unwrap(),
            // Others on the machine may ask name servers meanwhile.
            Frame::Said(..) | Frame::DnsAnswered(..) | Frame::NamesForgotten(_) => {}
            Frame::Preamble(_) | Frame::Filters(..) => {
                panic!("nothing of the kind was to happen: {frame:?}")
            }
        }
    }
    let bytes = fs::read(to).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for particular in ["/tmp/", "/home/", "/root", &preamble.machine_id] {
        assert!(
            particular.is_empty() || !text.contains(particular),
            "{particular:?} is in {}",
            to.display()
        );
    }
}

fn general(preamble: &Preamble) -> Preamble {
    let mut config = Config::default();
    config.containers.min_age = preamble.config.containers.min_age;
    config.identity = preamble.config.identity.clone();
    Preamble {
        config,
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        system_uuid: String::new(),
        ..preamble.clone()
    }
}

fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (header, _) = Header::read_from_prefix(bytes).ok()?;
        let (record, rest) = bytes.split_at(header.len as usize);
        bytes = rest;
        Some(record)
    })
}

fn read<T: FromBytes>(bytes: &[u8]) -> T {
    T::read_from_prefix(bytes).map_or_else(|_| panic!("cut short"), |(value, _)| value)
}

/// What a record of the ring is about.
enum About {
    Process(ProcessRecord),
    Cgroup(CgroupRecord),
    Socket(SocketRecord),
}

fn about(record: &[u8]) -> About {
    match read::<Header>(record).kind {
        kind::FORK | kind::EXEC | kind::EXIT | kind::CGROUP_MOVE => About::Process(read(record)),
        kind::CGROUP_MADE | kind::CGROUP_GONE => About::Cgroup(read(record)),
        _ => About::Socket(read(record)),
    }
}

fn sockets(raw: &RawBatch) -> HashSet<SocketId> {
    let rows = [&raw.seen, &raw.spilled_sockets].map(|rows| decode::sockets(rows).flatten());
    let rows = rows.into_iter().flatten().map(|event| event.socket);
    let news = records(&raw.news).filter_map(|record| match about(record) {
        About::Socket(socket) => Some(SocketId {
            cookie: socket.cookie,
            generation: socket.generation,
        }),
        _ => None,
    });
    rows.chain(news).collect()
}

#[derive(Default)]
struct Kept {
    processes: HashSet<u32>,
    /// From whom they have their place, of which nothing else is of interest.
    parents: HashSet<u32>,
    cgroups: HashSet<u64>,
    paths: HashSet<Arc<str>>,
    netns: HashSet<u32>,
    addresses: HashSet<IpAddr>,
}

impl Kept {
    fn owns(&self, owner: &Owner) -> bool {
        self.processes.contains(&owner.tgid) || self.cgroups.contains(&owner.cgroup_id)
    }

    fn learn_owner(&mut self, owner: &Owner) {
        if owner.comm.starts_with(WORKLOAD) || self.owns(owner) {
            self.processes.insert(owner.tgid);
        }
        // Only as long as it is called so: before that it was where its runtime is.
        if owner.comm.starts_with(WORKLOAD) && owner.cgroup_id != ROOT {
            self.cgroups.insert(owner.cgroup_id);
        }
    }

    fn learn_socket(&mut self, socket: &SocketRecord) {
        self.learn_owner(&socket.owner);
        if self.owns(&socket.owner) {
            self.netns.insert(socket.netns);
        }
    }

    fn learn(&mut self, frame: &Frame) {
        match frame {
            Frame::Batch(_, raw) => {
                for record in records(&raw.news) {
                    match about(record) {
                        About::Process(process) => {
                            self.learn_owner(&process.owner);
                            let forked = process.header.kind == kind::FORK;
                            if forked && self.processes.contains(&process.owner.tgid) {
                                self.parents.insert(process.parent_tgid);
                            }
                        }
                        About::Socket(socket) => self.learn_socket(&socket),
                        About::Cgroup(_) => {}
                    }
                }
                for row in [&raw.seen, &raw.spilled_sockets] {
                    let rows = row.chunks_exact(size_of::<SocketRecord>());
                    rows.for_each(|row| self.learn_socket(&read(row)));
                }
            }
            Frame::Inventory(_, inventory) => {
                for found in &inventory.processes {
                    if found.comm.starts_with(WORKLOAD) {
                        self.processes.insert(found.process.tgid);
                        self.learn_path(&found.path);
                    } else if self.paths.contains(&found.path) {
                        self.processes.insert(found.process.tgid);
                    }
                }
            }
            Frame::Answer(_, Answer::Cgroup { cgroup, path }) if self.cgroups.contains(&cgroup.0) => {
                path.iter().for_each(|path| self.learn_path(path));
            }
            Frame::Answer(_, Answer::Process { process, path }) if self.processes.contains(&process.tgid) => {
                path.iter().for_each(|path| self.learn_path(path));
            }
            _ => {}
        }
    }

    /// At the root are all that nobody has placed.
    fn learn_path(&mut self, path: &Arc<str>) {
        if &**path != "/" {
            self.paths.insert(Arc::clone(path));
        }
    }

    fn batch(&self, raw: &RawBatch) -> RawBatch {
        let mut kept = RawBatch::default();
        for record in records(&raw.news) {
            let wanted = match about(record) {
                About::Process(process) => self.owns(&process.owner) || self.parents.contains(&process.owner.tgid),
                About::Cgroup(cgroup) => self.cgroups.contains(&cgroup.cgroup_id),
                About::Socket(socket) => self.owns(&socket.owner),
            };
            if wanted {
                kept.news.extend_from_slice(record);
            }
        }
        let of_rows = |rows: &[u8], kept: &mut Vec<u8>| {
            for row in rows.chunks_exact(size_of::<SocketRecord>()) {
                if self.owns(&read::<SocketRecord>(row).owner) {
                    kept.extend_from_slice(row);
                }
            }
        };
        of_rows(&raw.seen, &mut kept.seen);
        of_rows(&raw.spilled_sockets, &mut kept.spilled_sockets);
        for row in raw.spilled_sums.chunks_exact(size_of::<SumKey>() + size_of::<Sum>()) {
            let key: SumKey = read(row);
            if self.cgroups.contains(&key.cgroup_id) || self.processes.contains(&key.tgid) {
                kept.spilled_sums.extend_from_slice(row);
            }
        }
        kept
    }

    fn inventory(&self, mut inventory: Inventory) -> Inventory {
        let wanted = |tgid| self.processes.contains(&tgid) || self.parents.contains(&tgid) || tgid == 1;
        inventory.processes.retain(|found| wanted(found.process.tgid));
        for found in &mut inventory.processes {
            if !self.processes.contains(&found.process.tgid) {
                found.comm = *b"other\0\0\0\0\0\0\0\0\0\0\0";
                found.path = "/".into();
            }
        }
        inventory.sockets = None;
        inventory
    }

    fn answer(&self, answer: Answer) -> Option<Answer> {
        match answer {
            Answer::Cgroup { cgroup, .. } => self.cgroups.contains(&cgroup.0).then_some(answer),
            Answer::Process { process, .. } | Answer::Application { process, .. } => {
                self.processes.contains(&process.tgid).then_some(answer)
            }
            Answer::Addresses { netns, ips } => {
                let ours = |ips: Arc<[IpAddr]>| {
                    let wanted = |ip: &&IpAddr| ip.is_loopback() || self.addresses.contains(*ip);
                    ips.iter().filter(wanted).copied().collect()
                };
                let ips = ips.map(ours);
                self.netns
                    .contains(&netns.0)
                    .then_some(Answer::Addresses { netns, ips })
            }
            Answer::Sandbox { .. } => Some(answer),
            Answer::Runtime { lookup, found } => self.asks(&lookup).then(|| Answer::Runtime {
                lookup,
                found: general_metadata(found),
            }),
        }
    }

    fn asks(&self, lookup: &Lookup) -> bool {
        let in_a_path = |word: &str| self.paths.iter().any(|path| path.contains(word));
        match lookup {
            // gVisor's is in no path.
            Lookup::Engine { .. } => true,
            Lookup::Named { name, .. } => in_a_path(name),
            Lookup::Unit { unit } => in_a_path(unit),
        }
    }
}

/// Without what is another on each machine.
fn general_metadata(found: Found) -> Found {
    let Found::Known(metadata) = found else { return found };
    let mut metadata = (*metadata).clone();
    metadata.mounts.clear();
    metadata.published.clear();
    metadata.log = None;
    Found::Known(Arc::new(metadata))
}
