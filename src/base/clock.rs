//! The only place that reads a clock. Everything else is handed a [`Clock`], so that a test can turn its hands.
use rustix::time::{ClockId, clock_gettime};
use std::{
    fmt::Debug,
    panic::RefUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Unwind safe because loggers, which hold one, have to be.
pub trait Clock: Debug + Send + Sync + RefUnwindSafe {
    /// For deadlines and elapsed time. Stands still while the machine sleeps.
    fn monotonic_ns(&self) -> u64;
    /// What the kernel stamps its records with, and what process start times are counted in.
    fn boottime_ns(&self) -> u64;
    /// Since the Unix epoch; may jump. For people and for metrics that are dates.
    fn wall_ns(&self) -> u64;
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // A wall clock set before 1970 reads as the epoch.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        read(ClockId::Monotonic)
    }

    fn boottime_ns(&self) -> u64 {
        read(ClockId::Boottime)
    }

    fn wall_ns(&self) -> u64 {
        read(ClockId::Realtime)
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    monotonic_ns: AtomicU64,
    boottime_ns: AtomicU64,
    wall_ns: AtomicU64,
}

impl ManualClock {
    pub fn new(monotonic_ns: u64, boottime_ns: u64, wall_ns: u64) -> Self {
        Self {
            monotonic_ns: monotonic_ns.into(),
            boottime_ns: boottime_ns.into(),
            wall_ns: wall_ns.into(),
        }
    }

    /// Time passes, on all three.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        for hand in [&self.monotonic_ns, &self.boottime_ns, &self.wall_ns] {
            hand.fetch_add(by, Ordering::SeqCst);
        }
    }

    /// A replay sets this to the stamp of the record it is about to deliver.
    pub fn set_boottime_ns(&self, ns: u64) {
        self.boottime_ns.store(ns, Ordering::SeqCst);
    }

    pub fn set_monotonic_ns(&self, ns: u64) {
        self.monotonic_ns.store(ns, Ordering::SeqCst);
    }

    pub fn set_wall_ns(&self, ns: u64) {
        self.wall_ns.store(ns, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Ordering::SeqCst)
    }

    fn boottime_ns(&self) -> u64 {
        self.boottime_ns.load(Ordering::SeqCst)
    }

    fn wall_ns(&self) -> u64 {
        self.wall_ns.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_reads_the_clocks_the_kernel_uses() {
        let clock = SystemClock;
        let (before, again) = (clock.monotonic_ns(), clock.monotonic_ns());
        assert!(before <= again);
        // /proc/uptime is the boot time clock, cut to hundredths.
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let boottime = clock.boottime_ns() as f64 / 1e9;
        assert!(
            (0.0..5.0).contains(&(boottime - uptime + 0.01)),
            "{boottime} against {uptime}"
        );
        // 2024-01-01, long past on any machine that builds this.
        assert!(clock.wall_ns() > 1_704_067_200_000_000_000);
    }

    #[test]
    fn manual_clock_moves_when_told() {
        let clock = ManualClock::new(1, 2, 3);
        clock.advance(Duration::from_nanos(10));
        assert_eq!(
            (clock.monotonic_ns(), clock.boottime_ns(), clock.wall_ns()),
            (11, 12, 13)
        );
        clock.set_monotonic_ns(5);
        clock.set_boottime_ns(6);
        clock.set_wall_ns(7);
        assert_eq!((clock.monotonic_ns(), clock.boottime_ns(), clock.wall_ns()), (5, 6, 7));
    }
}
