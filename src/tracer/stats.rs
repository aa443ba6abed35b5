//! What the tracer publishes of the kernel side, for whoever shows it.
use super::kernel::ProgramStats;
use arc_swap::ArcSwap;
use serde::Serialize;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

#[derive(Clone, Debug, Default, Serialize)]
pub struct MapFill {
    pub map: &'static str,
    pub entries: u64,
    pub capacity: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelReport {
    /// As of the last totals pass.
    pub programs: Vec<ProgramStats>,
    pub maps: Vec<MapFill>,
    /// Something is attached and observes.
    pub collects: bool,
    pub totals_passes: u64,
    pub sockets_in_last_pass: u64,
    /// Descriptors that are open for writing.
    pub files_in_last_pass: u64,
    /// More of them than a pass shows.
    pub files_left_out: u64,
    /// What is kept of those who talk: entries, limits and how often somebody had to make room.
    #[serde(skip)]
    pub tables: Vec<(&'static str, usize, usize, u64)>,
}

#[derive(Default)]
pub struct KernelStats {
    report: ArcSwap<KernelReport>,
    blind_ns: AtomicU64,
}

impl KernelStats {
    pub fn publish(&self, report: KernelReport) {
        self.report.store(Arc::new(report));
    }

    pub fn report(&self) -> Arc<KernelReport> {
        self.report.load_full()
    }

    pub fn add_blind_ns(&self, ns: u64) {
        self.blind_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Time during which nothing was attached.
    pub fn blind_seconds(&self) -> f64 {
        self.blind_ns.load(Ordering::Relaxed) as f64 / 1e9
    }
}
