//! When the files that are open for writing are looked at.
use super::{
    actor::nanos,
    error::hint,
    kernel::{Kernel, RawBatch},
};
use crate::{
    base::{context::Ctx, features::feature, now::Now},
    decode::Event,
};
use std::time::Duration;

/// Between the first two passes. At first most processes have no container yet: their files are seen by the next pass,
/// so that one comes soon, and those after it take twice as long each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct FilesPasses {
    interval: Duration,
    pause: Duration,
    next_ns: u64,
    pub seen: u64,
    pub left_out: u64,
}

impl FilesPasses {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            pause: FIRST_PAUSE.min(interval),
            next_ns: 0,
            seen: 0,
            left_out: 0,
        }
    }

    /// For a registry that knows nothing.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::new(self.interval);
    }

    fn is_due(&mut self, now: Now) -> bool {
        if now.monotonic_ns < self.next_ns {
            return false;
        }
        self.next_ns = now.monotonic_ns + nanos(self.pause);
        self.pause = self.interval.min(self.pause * 2);
        true
    }

    pub(super) fn read(&mut self, kernel: &mut Kernel, batch: &mut RawBatch, now: Now, ctx: &Ctx) {
        if !self.is_due(now) {
            return;
        }
        match kernel.read_files(batch) {
            Ok(true) => {
                ctx.features.ok(feature::FILES);
            }
            Ok(false) => {}
            Err(error) => {
                // Half of them would be taken for all.
                batch.files.clear();
                if ctx.features.degraded(feature::FILES, error.reason(), hint(&error)) {
                    slog::warn!(ctx.log, "no look at the open files"; "error" => #&error);
                }
            }
        }
    }

    pub(super) fn count(&mut self, events: &[Event]) {
        if let Some(Event::FilesPassed { left_out }) = events.last() {
            let files = events.iter().filter(|event| matches!(event, Event::FileSeen(_)));
            (self.seen, self.left_out) = (files.count() as u64, *left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_to_the_interval() {
        let passes_until = |interval, end: u64| {
            let mut passes = FilesPasses::new(interval);
            let at = |second: &u64| Now {
                monotonic_ns: second * 1_000_000_000,
                ..Now::default()
            };
            (0..end).filter(|second| passes.is_due(at(second))).collect::<Vec<_>>()
        };
        assert_eq!(passes_until(Duration::from_secs(5), 18), [0, 1, 3, 7, 12, 17]);
        assert_eq!(passes_until(Duration::from_secs(1), 5), [0, 1, 2, 3, 4]);
    }
}
