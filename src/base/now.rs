//! One moment on all three clocks, read once per message and handed to the logic.
use super::clock::Clock;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// What the kernel stamps its records with.
    pub monotonic_ns: u64,
    /// What process start times are counted in.
    pub boottime_ns: u64,
    pub wall_ns: u64,
}

impl Now {
    pub fn read(clock: &dyn Clock) -> Self {
        Self {
            monotonic_ns: clock.monotonic_ns(),
            boottime_ns: clock.boottime_ns(),
            wall_ns: clock.wall_ns(),
        }
    }

    /// A moment of the boot clock as a date.
    pub fn date_of_boottime(&self, boottime_ns: u64) -> u64 {
        self.wall_ns
            .saturating_sub(self.boottime_ns.saturating_sub(boottime_ns))
    }
}
