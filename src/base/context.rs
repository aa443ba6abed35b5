//! What every actor is given.
use super::{clock::Clock, features::Features, ledger::Ledger, mailbox::Depths, now::Now};
use slog::Logger;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[derive(Clone)]
pub struct Ctx {
    pub log: Logger,
    pub clock: Arc<dyn Clock>,
    pub ledger: Arc<Ledger>,
    pub features: Arc<Features>,
    pub depths: Arc<Depths>,
    pub pulses: Arc<Pulses>,
    pub restarts: Arc<Restarts>,
}

impl Ctx {
    pub fn now(&self) -> Now {
        Now::read(self.clock.as_ref())
    }

    pub fn component(&self, component: &'static str) -> Self {
        Self {
            log: self.log.new(slog::o!("component" => component)),
            ..self.clone()
        }
    }
}

/// Signs of life of the threads. A thread that stops giving them hangs.
#[derive(Default)]
pub struct Pulses {
    beats: parking_lot::RwLock<BTreeMap<&'static str, Arc<AtomicU64>>>,
}

impl Pulses {
    pub fn beat(&self, thread: &'static str, now_ns: u64) {
        if let Some(beat) = self.beats.read().get(thread) {
            return beat.store(now_ns, Ordering::Relaxed);
        }
        self.beats.write().insert(thread, Arc::new(AtomicU64::new(now_ns)));
    }

    /// Threads that were silent for longer than `limit`, with how long.
    pub fn silent(&self, now_ns: u64, limit: Duration) -> Vec<(&'static str, Duration)> {
        let beats = self.beats.read();
        let ages = beats.iter().map(|(thread, beat)| {
            let age = now_ns.saturating_sub(beat.load(Ordering::Relaxed));
            (*thread, Duration::from_nanos(age))
        });
        ages.filter(|(_, age)| *age > limit).collect()
    }
}

/// How often which actor had to be made anew, by cause.
#[derive(Default)]
pub struct Restarts {
    counts: parking_lot::Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Restarts {
    pub fn count(&self, actor: &'static str, cause: &'static str) {
        *self.counts.lock().entry((actor, cause)).or_default() += 1;
    }

    pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = self.counts.lock();
        counts.iter().map(|((actor, cause), n)| (*actor, *cause, *n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_a_beat_is_silent() {
        let pulses = Pulses::default();
        pulses.beat("core", 1_000_000_000);
        pulses.beat("tracer", 5_000_000_000);
        let silent = pulses.silent(6_000_000_000, Duration::from_secs(2));
        assert_eq!(silent, [("core", Duration::from_secs(5))]);
    }
}
