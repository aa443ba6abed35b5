//! How long to wait before the next try.
use std::{collections::BTreeMap, time::Duration};

/// Doubles with each failure, with jitter; forgets failures that were followed by a quiet time.
#[derive(Debug)]
pub struct Backoffs {
    min: Duration,
    max: Duration,
    failures: BTreeMap<String, (u32, u64)>,
}

/// Names whose failures are remembered.
const MAX_NAMES: usize = 10_000;

impl Backoffs {
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            failures: BTreeMap::new(),
        }
    }

    /// Another failure, now: how long to wait.
    pub fn next(&mut self, name: &str, now_ns: u64) -> Duration {
        if self.failures.len() >= MAX_NAMES {
            self.failures.clear();
        }
        let quiet_ns = u64::try_from(self.max.as_nanos()).unwrap_or(u64::MAX).saturating_mul(2);
        let entry = self.failures.entry(name.to_owned()).or_insert((0, now_ns));
        if now_ns.saturating_sub(entry.1) > quiet_ns {
            entry.0 = 0;
        }
        let wait = self.min.saturating_mul(1 << entry.0.min(20)).min(self.max);
        *entry = (entry.0 + 1, now_ns);
        // A quarter either way, from the clock's lower digits: enough that not all come back at once.
        let jitter = wait / 4 * (now_ns % 1000) as u32 / 500;
        wait - wait / 4 + jitter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_and_forgets() {
        let mut backoffs = Backoffs::new(Duration::from_millis(100), Duration::from_secs(1));
        // 500 is the middle of the jitter.
        let at = |seconds: u64| seconds * 1_000_000_000 + 500;
        let waits: Vec<u128> = (0..6).map(|i| backoffs.next("a", at(i)).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoffs.next("b", at(0)).as_millis(), 100);
        assert_eq!(backoffs.next("a", at(60)).as_millis(), 100);
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        for ns in 0..1000 {
            let mut backoffs = Backoffs::new(Duration::from_millis(100), Duration::from_secs(1));
            let wait = backoffs.next("a", ns).as_millis();
            assert!((75..=125).contains(&wait), "{wait}");
        }
    }
}
