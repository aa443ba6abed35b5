//! Loads the object program by program, attaches what loads, and says of the rest why not. What is missing is tried again.
//!
//! Outlives the tracer actor: a restarted one finds programs and maps as they were.
mod hook;
mod inventory;
mod lanes;
mod registers;
mod routes;

use super::{
    btf::Btf,
    error::{KernelError, hint},
    iter::Iterator as KernelIterator,
    spills::Spills,
    units::{Attach, HOOKS, UNITS, Unit, attach},
};
use crate::{
    base::{
        features::{Features, State, feature},
        ledger::{KINDS, KernelCounters},
    },
    config::{L7, SocketHook},
};
use aya::{
    EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::Program,
};
use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};
use tarsier_common::{
    AddressKey, DIRECT_ENTRIES, FIELDS, FIELDS_LEN, FIRST_OPTIONAL, FilesPass, HOLDERS, Listener, MPTCP_FIELDS, Owner,
    Row, SocketRecord, YOUNG_SLOTS, map, program,
};

/// What the loader needs to know of the node.
#[derive(Clone, Debug)]
pub struct Setup {
    pub ring_bytes: u32,
    pub payload_ring_bytes: u32,
    /// Where the unified hierarchy is mounted.
    pub cgroup2: Option<PathBuf>,
    pub root_cgroup: u64,
    pub own_tgid: u32,
    /// Connections to destinations that `set_direct` has not named are told of one by one.
    pub asks_for_routes: bool,
    pub proc: PathBuf,
    pub off: Vec<String>,
    pub socket_hook: SocketHook,
    /// What of it changes while the agent runs comes by `set_l7`; the rest is that of the begin.
    pub l7: L7,
    pub btf: PathBuf,
}

pub struct Kernel {
    setup: Setup,
    object: Option<&'static [u8]>,
    loaded: Option<Loaded>,
    /// Processes whose requests somebody wants to see.
    watched: Arc<BTreeSet<u32>>,
}

struct Loaded {
    ebpf: aya::Ebpf,
    attached: [bool; UNITS.len()],
    hook: Option<hook::Attached>,
    iterators: Vec<(&'static str, KernelIterator)>,
    news: RingBuf<MapData>,
    payload: RingBuf<MapData>,
    listeners: HashMap<MapData, AddressKey, Listener>,
    parents: HashMap<MapData, u64, Owner>,
    direct: HashMap<MapData, AddressKey, u8>,
    files_pass: Array<MapData, FilesPass>,
    /// Slots of `YOUNG` that the last totals pass showed.
    young: u64,
    spills: Spills,
    lanes: lanes::Lanes,
    counters: Arc<Counters>,
}

impl Loaded {
    fn iterator(&self, program: &str) -> Option<&KernelIterator> {
        let mut iterators = self.iterators.iter();
        iterators
            .find(|(name, _)| *name == program)
            .map(|(_, iterator)| iterator)
    }
}

impl Loaded {
    /// Before the first connection is accepted that the programs see: its owner is who listens, and where it ends before the
    /// inventory there is nobody else to ask. That it cannot be read is for the inventory to say.
    fn look_for_listeners(&self) {
        if let Some(listeners) = self.iterator(program::INVENTORY_LISTENERS) {
            drop(listeners.read(&mut Vec::new()));
        }
    }
}

struct Counters(PerCpuArray<MapData, Row>);

impl KernelCounters for Counters {
    fn rows(&self) -> io::Result<[Row; KINDS]> {
        let mut rows = [Row::default(); KINDS];
        for (kind, row) in rows.iter_mut().enumerate() {
            let per_cpu = self.0.get(&(kind as u32), 0).map_err(io::Error::other)?;
            for cpu in per_cpu.iter() {
                row.iter_mut().zip(cpu).for_each(|(sum, cell)| *sum += cell);
            }
        }
        Ok(rows)
    }
}

/// How one program has done so far.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct ProgramStats {
    pub program: &'static str,
    /// Counted only while `kernel.bpf_stats_enabled` is 1.
    pub runs: u64,
    pub run_ns: u64,
    pub recursion_misses: u64,
    pub verified_instructions: u64,
}

/// Records of one reading, as the kernel wrote them.
#[derive(Clone, Debug, Default)]
pub struct RawBatch {
    /// Records of the ring, each with its length in its header.
    pub news: Vec<u8>,
    /// Rows of a totals pass.
    pub seen: Vec<u8>,
    pub spilled_sockets: Vec<u8>,
    pub spilled_sums: Vec<u8>,
    /// Rows of a pass over the open files.
    pub files: Vec<u8>,
}

impl RawBatch {
    pub fn clear(&mut self) {
        self.news.clear();
        self.seen.clear();
        self.spilled_sockets.clear();
        self.spilled_sums.clear();
        // Megabytes where many are open, and not needed again soon.
        self.files = Vec::new();
    }

    pub fn is_empty(&self) -> bool {
        let parts = [
            &self.news,
            &self.seen,
            &self.spilled_sockets,
            &self.spilled_sums,
            &self.files,
        ];
        parts.iter().all(|part| part.is_empty())
    }
}

impl Kernel {
    pub fn new(setup: Setup, object: Option<&'static [u8]>) -> Self {
        Self {
            setup,
            object,
            loaded: None,
            watched: Arc::default(),
        }
    }

    pub fn set_cgroup2(&mut self, cgroup2: Option<PathBuf>) {
        self.setup.cgroup2 = cgroup2;
    }

    /// Whether anything is observed at all.
    pub fn collects(&self) -> bool {
        let loaded = self.loaded.as_ref();
        loaded.is_some_and(|loaded| {
            let tracepoint = |unit: &Unit| matches!(unit.attach, Attach::Tracepoint(_));
            UNITS
                .iter()
                .zip(loaded.attached)
                .any(|(unit, attached)| attached && tracepoint(unit))
        })
    }

    /// Whether something is missing that a later try may bring.
    pub fn complete(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| {
            UNITS
                .iter()
                .zip(loaded.attached)
                .all(|(unit, attached)| attached || self.is_off(unit.feature))
                && self.hook_is_complete(loaded)
        })
    }

    fn is_off(&self, feature: &str) -> bool {
        self.setup.off.iter().any(|off| off == feature)
    }

    pub fn counters(&self) -> Option<Arc<dyn KernelCounters>> {
        let loaded = self.loaded.as_ref()?;
        Some(Arc::clone(&loaded.counters) as Arc<dyn KernelCounters>)
    }

    /// Loads and attaches what is not yet. `alive` is called between programs: the verifier may take its time.
    pub fn ensure(&mut self, features: &Features, alive: &dyn Fn()) {
        if self.loaded.is_none() {
            match load(&self.setup, self.object) {
                Ok(mut loaded) => {
                    if let Err(error) = loaded.lanes.watch(&self.watched) {
                        return self.all_degraded(features, &error);
                    }
                    features.ok(feature::BTF);
                    features.ok(feature::NEWS_RING);
                    self.loaded = Some(loaded);
                }
                Err(error) => return self.all_degraded(features, &error),
            }
        }
        let Some(loaded) = &mut self.loaded else { return };
        let btf = match aya::Btf::from_sys_fs() {
            Ok(btf) => btf,
            // Loaded before, hidden since: what is attached goes on.
            Err(error) => {
                let error = KernelError::Btf(error);
                features.degraded(feature::BTF, "no_btf", hint(&error));
                return;
            }
        };
        features.ok(feature::BTF);
        let (mut failed, mut attached) = (Vec::new(), Vec::new());
        for (index, unit) in UNITS.iter().enumerate() {
            if self.setup.off.iter().any(|off| off == unit.feature) {
                features.set(unit.feature, State::Off, "configured", "kernel.features_off names it");
                continue;
            }
            if loaded.attached[index] {
                continue;
            }
            alive();
            if unit.feature == feature::TCP_STATE {
                loaded.look_for_listeners();
            }
            match attach(&mut loaded.ebpf, unit, &btf, &self.setup) {
                Ok(iterator) => {
                    loaded.attached[index] = true;
                    attached.push(unit.feature);
                    loaded
                        .iterators
                        .extend(iterator.map(|iterator| (unit.program, iterator)));
                }
                Err(error) => {
                    failed.push(unit.feature);
                    features.degraded(unit.feature, error.reason(), hint(&error));
                }
            }
        }
        // The others are as they were, or as somebody has said since.
        for feature in attached {
            if !failed.contains(&feature) {
                features.ok(feature);
            }
        }
        self.ensure_hook(&btf, features);
    }

    fn all_degraded(&self, features: &Features, error: &KernelError) {
        let (reason, hint) = (error.reason(), hint(error));
        match error {
            KernelError::Offsets(_) | KernelError::Btf(_) | KernelError::NoObject => {
                features.degraded(feature::BTF, reason, hint.clone());
            }
            // Further than the BTF nothing comes that does not have it.
            _ => {
                features.ok(feature::BTF);
            }
        }
        features.degraded(feature::NEWS_RING, reason, hint.clone());
        for unit in UNITS.iter().chain(HOOKS[0].units) {
            features.degraded(unit.feature, reason, hint.clone());
        }
        for (row, wanted) in self.wish().rows() {
            if wanted {
                features.degraded(row, reason, hint.clone());
            }
        }
    }

    /// Reads at most `limit` records of the ring, and the ends that had found no room there. `true`: there is more.
    ///
    /// What spilled is taken before the ring is read and handed on once the ring has been read to its end: by then the
    /// beginnings of those sockets have been told. `spilled`: since the last time.
    pub fn read(&mut self, batch: &mut RawBatch, limit: usize, spilled: bool) -> bool {
        let Some(loaded) = &mut self.loaded else { return false };
        loaded.spills.read_sockets(spilled);
        for _ in 0..limit {
            let Some(record) = loaded.news.next() else {
                batch.spilled_sockets.append(&mut loaded.spills.sockets);
                return false;
            };
            batch.news.extend_from_slice(&record);
        }
        true
    }

    /// Reads at most `limit` records of what was said. After the news: the answer of a name server then comes with the
    /// connections it has led to, or before. `true`: there is more.
    pub fn read_payload(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> bool {
        let Some(loaded) = &mut self.loaded else { return false };
        for _ in 0..limit {
            let Some(record) = loaded.payload.next() else {
                return false;
            };
            each(&record);
        }
        true
    }

    /// It is readable when it fills up.
    pub fn payload_ring(&self) -> Option<OwnedFd> {
        let loaded = self.loaded.as_ref()?;
        // Readable for as long as it is ours.
        loaded.payload.as_fd().try_clone_to_owned().ok()
    }

    /// Connections that were added up. Of them nobody has heard before, so nothing has to come first.
    /// `exchanges`: what was counted on those that have ended. `begin`: from now on others are added up.
    pub fn read_sums(&mut self, begin: bool, batch: &mut RawBatch, exchanges: &mut Vec<u8>) {
        if let Some(loaded) = &mut self.loaded {
            loaded.spills.read_sums(begin);
            batch.spilled_sums.append(&mut loaded.spills.sums);
            exchanges.append(&mut loaded.spills.exchanges);
        }
    }

    /// The totals of all open sockets. Before the ring is read: what the ring then tells came later.
    /// `false`: there is nothing to read them with.
    pub fn read_totals(&mut self, batch: &mut RawBatch) -> Result<bool, KernelError> {
        let Some(loaded) = &mut self.loaded else {
            return Ok(false);
        };
        let programs = [program::TOTALS_OF_YOUNG, program::TOTALS];
        let [Some(of_young), Some(totals)] = programs.map(|program| loaded.iterator(program)) else {
            return Ok(false);
        };
        let unreadable = |source| KernelError::Io {
            op: "cannot read the totals of the sockets",
            source,
        };
        of_young.read(&mut batch.seen).map_err(unreadable)?;
        let young = batch.seen.len() / size_of::<SocketRecord>();
        totals.read(&mut batch.seen).map_err(unreadable)?;
        loaded.young = young as u64;
        Ok(true)
    }

    /// The files that are open for writing. After a whole pass the last row says so. `false`: there is nothing to read
    /// them with.
    pub fn read_files(&mut self, batch: &mut RawBatch) -> Result<bool, KernelError> {
        let Some(loaded) = &mut self.loaded else {
            return Ok(false);
        };
        let begun = loaded.files_pass.set(0, FilesPass::default(), 0);
        begun.map_err(|source| KernelError::Map {
            name: map::FILES_PASS,
            source,
        })?;
        let Some(files) = loaded.iterator(program::OPEN_FILES) else {
            return Ok(false);
        };
        let read = files.read(&mut batch.files).map(|()| true);
        read.map_err(|source| KernelError::Io {
            op: "cannot go through the open files",
            source,
        })
    }

    pub fn program_stats(&self) -> Vec<ProgramStats> {
        let Some(loaded) = &self.loaded else { return Vec::new() };
        let attached = UNITS.iter().zip(loaded.attached).filter(|(_, attached)| *attached);
        let hook = loaded.hook.into_iter().flat_map(hook::Attached::units);
        attached
            .map(|(unit, _)| unit)
            .chain(hook)
            .filter_map(|unit| stats_of(loaded, unit.program))
            .collect()
    }

    /// Maps with their entries and limits.
    pub fn fill(&self) -> Vec<(&'static str, u64, u64)> {
        let Some(loaded) = &self.loaded else { return Vec::new() };
        let mut fill = Vec::from(loaded.spills.fill());
        fill.extend(loaded.lanes.fill());
        fill.push((map::YOUNG, loaded.young, u64::from(YOUNG_SLOTS)));
        fill.push((
            map::LISTENERS,
            loaded.listeners.keys().count() as u64,
            u64::from(HOLDERS),
        ));
        let direct = loaded.direct.keys().count() as u64;
        fill.push((map::DIRECT, direct, u64::from(DIRECT_ENTRIES)));
        fill.push((map::PARENTS, loaded.parents.keys().count() as u64, u64::from(HOLDERS)));
        fill
    }
}

fn load(setup: &Setup, object: Option<&'static [u8]>) -> Result<Loaded, KernelError> {
    let object = object.ok_or(KernelError::NoObject)?;
    let kernel = Btf::from_file(&setup.btf)?;
    let mut offsets = [0u32; FIELDS_LEN];
    for (index, (offset, (structure, field))) in offsets.iter_mut().zip(FIELDS).enumerate() {
        *offset = match kernel.offset(structure, field) {
            // The verifier refuses the program that would read there, and that one alone.
            Err(_) if index >= FIRST_OPTIONAL => u32::MAX,
            found => found?,
        };
    }
    let group_dead = u32::from(kernel.tracepoint_args("sched_process_exit") == Some(2));
    let kernel_socket = kernel.bit("sock", "sk_kern_sock")?;
    let registers = registers::offsets(&kernel);
    // Older kernels, and those that are built without it, lack some or all.
    let mptcp = MPTCP_FIELDS.map(|(structure, field)| kernel.offset(structure, field).unwrap_or(u32::MAX));
    drop(kernel);
    let mut ebpf = EbpfLoader::new()
        .override_global("OFFSETS", &offsets[..], true)
        .override_global("HAS_GROUP_DEAD", &group_dead, true)
        .override_global("ROOT_CGROUP", &setup.root_cgroup, true)
        .override_global("OWN_TGID", &setup.own_tgid, true)
        .override_global("ASKS_FOR_ROUTES", &u32::from(setup.asks_for_routes), true)
        .override_global("KERNEL_SOCKET_BIT", &kernel_socket, true)
        .override_global("MPTCP", &mptcp[..], true)
        .override_global("REGISTERS", &registers[..], true)
        .override_global("CALLS", &registers::CALLS[..], true)
        .override_global("DNS", &setup.l7.ports()[..], true)
        .map_max_entries(map::NEWS, setup.ring_bytes)
        .map_max_entries(map::PAYLOAD, setup.payload_ring_bytes)
        .load(object)?;
    let mut take = |name| ebpf.take_map(name).ok_or(KernelError::NoMap { name });
    let typed = |name| move |source| KernelError::Map { name, source };
    Ok(Loaded {
        news: RingBuf::try_from(take(map::NEWS)?).map_err(typed(map::NEWS))?,
        payload: RingBuf::try_from(take(map::PAYLOAD)?).map_err(typed(map::PAYLOAD))?,
        listeners: HashMap::try_from(take(map::LISTENERS)?).map_err(typed(map::LISTENERS))?,
        parents: HashMap::try_from(take(map::PARENTS)?).map_err(typed(map::PARENTS))?,
        direct: HashMap::try_from(take(map::DIRECT)?).map_err(typed(map::DIRECT))?,
        files_pass: Array::try_from(take(map::FILES_PASS)?).map_err(typed(map::FILES_PASS))?,
        spills: Spills::new(&mut take)?,
        lanes: lanes::Lanes::new(&mut take)?,
        counters: Arc::new(Counters(
            PerCpuArray::try_from(take(map::COUNTERS)?).map_err(typed(map::COUNTERS))?,
        )),
        young: 0,
        iterators: Vec::new(),
        attached: [false; UNITS.len()],
        hook: None,
        ebpf,
    })
}

fn stats_of(loaded: &Loaded, name: &'static str) -> Option<ProgramStats> {
    let program: &Program = loaded.ebpf.program(name)?;
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    // aya's ProgramInfo leaves out the misses.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let field = |key: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    Some(ProgramStats {
        program: name,
        runs: field("run_cnt:"),
        run_ns: field("run_time_ns:"),
        recursion_misses: field("recursion_misses:"),
        verified_instructions: field("verified_insns:"),
    })
}
