//! Loads the object program by program, attaches what loads, and says of the rest why not. What is missing is tried again.
//!
//! Outlives the tracer actor: a restarted one finds programs and maps as they were.
use super::{
    btf::Btf,
    error::{KernelError, hint},
    iter::MapIterator,
    units::{Attach, UNITS, Unit, attach},
};
use crate::base::{
    features::{Features, State, feature},
    ledger::{KINDS, KernelCounters},
};
use aya::{
    EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::Program,
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
    sync::Arc,
};
use tarsier_common::{FIELDS, FIELDS_LEN, Row, SocketRecord, SpillKey, Sum, SumKey, map};
use zerocopy::IntoBytes;

/// What the loader needs to know of the node.
#[derive(Clone, Debug)]
pub struct Setup {
    pub ring_bytes: u32,
    /// Where the unified hierarchy is mounted.
    pub cgroup2: Option<PathBuf>,
    pub root_cgroup: u64,
    pub off: Vec<String>,
    pub btf: PathBuf,
}

pub struct Kernel {
    setup: Setup,
    object: Option<&'static [u8]>,
    loaded: Option<Loaded>,
}

struct Loaded {
    ebpf: aya::Ebpf,
    attached: [bool; UNITS.len()],
    news: RingBuf<MapData>,
    totals: Option<MapIterator>,
    spilled_sockets: HashMap<MapData, SpillKey, SocketRecord>,
    spilled_sums: HashMap<MapData, SumKey, Sum>,
    epoch_map: Array<MapData, u32>,
    epoch: u32,
    /// Taken from the spill maps, to be handed on.
    held: RawBatch,
    counters: Arc<Counters>,
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
}

impl RawBatch {
    pub fn clear(&mut self) {
        self.news.clear();
        self.seen.clear();
        self.spilled_sockets.clear();
        self.spilled_sums.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.news.is_empty() && self.seen.is_empty() && self.spilled_sockets.is_empty() && self.spilled_sums.is_empty()
    }
}

impl Kernel {
    pub fn new(setup: Setup, object: Option<&'static [u8]>) -> Self {
        Self {
            setup,
            object,
            loaded: None,
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
        })
    }

    fn is_off(&self, feature: &str) -> bool {
        self.setup.off.iter().any(|off| off == feature)
    }

    pub fn counters(&self) -> Option<Arc<dyn KernelCounters>> {
        let loaded = self.loaded.as_ref()?;
        Some(Arc::clone(&loaded.counters) as Arc<dyn KernelCounters>)
    }

    /// Loads and attaches what is not yet.
    pub fn ensure(&mut self, features: &Features) {
        if self.loaded.is_none() {
            match load(&self.setup, self.object) {
                Ok(loaded) => {
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
        let mut failed: Vec<&str> = Vec::new();
        for (index, unit) in UNITS.iter().enumerate() {
            if self.setup.off.iter().any(|off| off == unit.feature) {
                features.set(unit.feature, State::Off, "configured", "kernel.features_off names it");
                continue;
            }
            if loaded.attached[index] {
                continue;
            }
            match attach(&mut loaded.ebpf, unit, &btf, &self.setup) {
                Ok(iterator) => {
                    loaded.attached[index] = true;
                    loaded.totals = loaded.totals.take().or(iterator);
                }
                Err(error) => {
                    failed.push(unit.feature);
                    features.degraded(unit.feature, error.reason(), hint(&error));
                }
            }
        }
        for unit in &UNITS {
            if !failed.contains(&unit.feature) && !self.setup.off.iter().any(|off| off == unit.feature) {
                features.ok(unit.feature);
            }
        }
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
        for unit in &UNITS {
            features.degraded(unit.feature, reason, hint.clone());
        }
    }

    /// Reads at most `limit` records of the ring, and the ends that had found no room there. `true`: there is more.
    ///
    /// What spilled is taken before the ring is read and handed on once the ring has been read to its end: by then the
    /// beginnings of those sockets have been told.
    pub fn read(&mut self, batch: &mut RawBatch, limit: usize) -> bool {
        let Some(loaded) = &mut self.loaded else { return false };
        read_spilled(loaded);
        // Of these nobody has heard before, so nothing has to come first.
        batch.spilled_sums.append(&mut loaded.held.spilled_sums);
        for _ in 0..limit {
            let Some(record) = loaded.news.next() else {
                batch.spilled_sockets.append(&mut loaded.held.spilled_sockets);
                return false;
            };
            batch.news.extend_from_slice(&record);
        }
        true
    }

    /// The totals of all open sockets. Before the ring is read: what the ring then tells came later.
    /// `false`: there is nothing to read them with.
    pub fn read_totals(&mut self, batch: &mut RawBatch) -> Result<bool, KernelError> {
        let Some(totals) = self.loaded.as_ref().and_then(|loaded| loaded.totals.as_ref()) else {
            return Ok(false);
        };
        totals
            .read(&mut batch.seen)
            .map(|()| true)
            .map_err(|source| KernelError::Io {
                op: "cannot read the totals of the sockets",
                source,
            })
    }

    pub fn program_stats(&self) -> Vec<ProgramStats> {
        let Some(loaded) = &self.loaded else { return Vec::new() };
        let attached = UNITS.iter().zip(loaded.attached).filter(|(_, attached)| *attached);
        attached
            .filter_map(|(unit, _)| stats_of(loaded, unit.program))
            .collect()
    }

    /// Maps with their entries and limits.
    pub fn fill(&self) -> [(&'static str, u64, u64); 2] {
        const CAPACITY: u64 = 65_536;
        let counts = self.loaded.as_ref().map_or((0, 0), |loaded| {
            (
                loaded.spilled_sockets.keys().count() as u64,
                loaded.spilled_sums.keys().count() as u64,
            )
        });
        [
            (map::SPILLED_SOCKETS, counts.0, CAPACITY),
            (map::SPILLED_SUMS, counts.1, CAPACITY),
        ]
    }
}

/// Empties the spill maps.
fn read_spilled(loaded: &mut Loaded) {
    // Beyond that they stay where their number is bounded and what finds no room is counted.
    const MAX_HELD_BYTES: usize = 8 << 20;
    let held = &mut loaded.held;
    let full = held.spilled_sockets.len() >= MAX_HELD_BYTES;
    let keys: Vec<SpillKey> = loaded.spilled_sockets.keys().filter_map(Result::ok).collect();
    for key in keys.into_iter().filter(|_| !full) {
        if let Ok(record) = loaded.spilled_sockets.get(&key, 0)
            && loaded.spilled_sockets.remove(&key).is_ok()
        {
            held.spilled_sockets.extend_from_slice(record.as_bytes());
        }
    }
    let keys: Vec<SumKey> = loaded.spilled_sums.keys().filter_map(Result::ok).collect();
    // Programs may still be adding to the present epoch; the older ones have been left alone for a drain interval.
    for key in keys.iter().filter(|key| key.epoch != loaded.epoch) {
        if let Ok(sum) = loaded.spilled_sums.get(key, 0)
            && loaded.spilled_sums.remove(key).is_ok()
        {
            held.spilled_sums.extend_from_slice(key.as_bytes());
            held.spilled_sums.extend_from_slice(sum.as_bytes());
        }
    }
    if keys.iter().any(|key| key.epoch == loaded.epoch) {
        let next = loaded.epoch.wrapping_add(1);
        if loaded.epoch_map.set(0, next, 0).is_ok() {
            loaded.epoch = next;
        }
    }
}

fn load(setup: &Setup, object: Option<&'static [u8]>) -> Result<Loaded, KernelError> {
    let object = object.ok_or(KernelError::NoObject)?;
    let kernel = Btf::from_file(&setup.btf)?;
    let mut offsets = [0u32; FIELDS_LEN];
    for (offset, (structure, field)) in offsets.iter_mut().zip(FIELDS) {
        *offset = kernel.offset(structure, field)?;
    }
    let group_dead = u32::from(kernel.tracepoint_args("sched_process_exit") == Some(2));
    drop(kernel);
    let mut ebpf = EbpfLoader::new()
        .override_global("OFFSETS", &offsets[..], true)
        .override_global("HAS_GROUP_DEAD", &group_dead, true)
        .override_global("ROOT_CGROUP", &setup.root_cgroup, true)
        .map_max_entries(map::NEWS, setup.ring_bytes)
        .load(object)?;
    let mut take = |name| ebpf.take_map(name).ok_or(KernelError::NoMap { name });
    let typed = |name| move |source| KernelError::Map { name, source };
    Ok(Loaded {
        news: RingBuf::try_from(take(map::NEWS)?).map_err(typed(map::NEWS))?,
        spilled_sockets: HashMap::try_from(take(map::SPILLED_SOCKETS)?).map_err(typed(map::SPILLED_SOCKETS))?,
        spilled_sums: HashMap::try_from(take(map::SPILLED_SUMS)?).map_err(typed(map::SPILLED_SUMS))?,
        epoch_map: Array::try_from(take(map::EPOCH)?).map_err(typed(map::EPOCH))?,
        epoch: 0,
        held: RawBatch::default(),
        counters: Arc::new(Counters(
            PerCpuArray::try_from(take(map::COUNTERS)?).map_err(typed(map::COUNTERS))?,
        )),
        totals: None,
        attached: [false; UNITS.len()],
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
