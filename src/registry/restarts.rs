//! When a container has been restarted: its oldest process is younger than the oldest used to be.
//!
//! | its processes | one more comes | a restart |
//! | --- | --- | --- |
//! | there never were any | | no |
//! | have all ended | at least a second younger than the oldest ever was | yes |
//! | have all ended | less than that: it prepared what follows, or several start together | no |
//! | live, the oldest among them | | no: a worker, or somebody who looks in |
//! | live, the oldest has ended | from outside, and those that live are a second younger | yes |
//! | live, the oldest has ended | forked by one of them | no: it put itself into the background |
//!
//! The Go agent knows seconds only, too, but cuts them, so that its answer depends on where a second began; and it counts the
//! last row. What starts again and again within a second counts once a second; a preparation that takes longer, and has ended
//! when the service itself begins, counts as a run. A unit that a timer starts is restarted each time. Bare processes are never restarted: those of one name have nothing to do with each other.
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// How many living processes began in each tick: starts from /proc are cut to those.
    living: BTreeMap<u64, u32>,
    /// When the oldest began that the next is measured by.
    oldest: Option<u64>,
}

const TICK_NS: u64 = super::state::TICK_NS;
const SECOND: u64 = 1_000_000_000 / TICK_NS;

impl Restarts {
    /// These processes came too, perhaps those of a later life, which may have ended as well. `true`: that was a restart.
    pub(super) fn follow(&mut self, later: &Self) -> bool {
        let mut restarted = false;
        for (tick, count) in &later.living {
            for _ in 0..*count {
                // Those that came with the first are of the same life.
                restarted |= self.join(tick * TICK_NS, restarted);
            }
        }
        if let (true, Some(oldest)) = (later.living.is_empty(), later.oldest) {
            restarted = self.join(oldest * TICK_NS, false);
            self.leave(oldest * TICK_NS);
        }
        restarted
    }

    /// A process came that began then. `true`: that was a restart.
    pub(super) fn join(&mut self, start_ns: u64, forked_inside: bool) -> bool {
        let start = start_ns / TICK_NS;
        *self.living.entry(start).or_default() += 1;
        let oldest = self.living.keys().next().copied().unwrap_or(start);
        let before = *self.oldest.get_or_insert(oldest);
        if oldest < before + SECOND && oldest >= before {
            return false;
        }
        self.oldest = Some(oldest);
        oldest > before && !forked_inside
    }

    pub(super) fn leave(&mut self, start_ns: u64) {
        let start = start_ns / TICK_NS;
        if let Some(processes) = self.living.get_mut(&start) {
            *processes -= 1;
            if *processes == 0 {
                self.living.remove(&start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    enum Step {
        /// From outside.
        Comes(u64),
        /// Forked by one that is there.
        Forked(u64),
        Ends(u64),
    }
    use Step::{Comes, Ends, Forked};

    fn count(steps: &[Step]) -> usize {
        let mut restarts = Restarts::default();
        let restarted = |step: &&Step| match step {
            Comes(at) => restarts.join(*at, false),
            Forked(at) => restarts.join(*at, true),
            Ends(at) => {
                restarts.leave(*at);
                false
            }
        };
        steps.iter().filter(restarted).count()
    }

    #[test]
    fn every_row() {
        assert_eq!(count(&[Comes(S)]), 0);
        assert_eq!(count(&[Comes(S), Ends(S), Comes(2 * S)]), 1);
        assert_eq!(count(&[Comes(S), Ends(S), Comes(2 * S - TICK_NS)]), 0, "it prepares");
        assert_eq!(count(&[Comes(S), Comes(50 * S), Ends(50 * S), Comes(60 * S)]), 0);
        assert_eq!(count(&[Comes(S), Forked(9 * S), Ends(S), Comes(10 * S)]), 1);
        assert_eq!(
            count(&[Comes(S), Forked(9 * S), Ends(S), Forked(10 * S), Comes(11 * S)]),
            0
        );
        assert_eq!(
            count(&[Comes(S), Forked(2 * S), Forked(3 * S), Ends(2 * S), Forked(4 * S)]),
            0
        );
    }

    #[test]
    fn each_restart_counts_once() {
        let mut steps = Vec::new();
        for start in 1..=10 {
            steps.extend([
                Comes(start * S),
                Forked(start * S + 5),
                Ends(start * S + 5),
                Ends(start * S),
            ]);
        }
        assert_eq!(count(&steps), 9);
        let fast: Vec<_> = (0..40)
            .flat_map(|i| [Comes(S + i * S / 10), Ends(S + i * S / 10)])
            .collect();
        assert_eq!(count(&fast), 3, "ten a second for four seconds");
    }

    #[test]
    fn a_later_life_counts_once_whether_it_has_ended_or_not() {
        let life = |steps: &[(u64, bool)]| {
            let mut restarts = Restarts::default();
            for (at, ended) in steps {
                restarts.join(*at, false);
                if *ended {
                    restarts.leave(*at);
                }
            }
            restarts
        };
        let follows = |first: &[(u64, bool)], then: &[(u64, bool)]| life(first).follow(&life(then));
        assert!(follows(&[(S, true)], &[(9 * S, false), (10 * S, false)]));
        assert!(follows(&[(S, true)], &[(9 * S, true)]));
        assert!(!follows(&[(S, true)], &[(S + 5, true)]));
        assert!(!follows(&[(S, false)], &[(9 * S, true)]), "both are there: a worker");
        assert!(!follows(&[(S, true)], &[]));
    }

    #[test]
    fn older_ones_that_are_found_later_are_no_restart() {
        assert_eq!(count(&[Comes(50 * S), Comes(20 * S), Comes(30 * S)]), 0);
        // And are what the next is measured by.
        assert_eq!(count(&[Comes(50 * S), Comes(20 * S), Ends(20 * S), Comes(60 * S)]), 1);
    }

    #[test]
    fn a_start_that_was_cut_is_the_same_start() {
        let exact = 7 * S + 1_234_567;
        let mut restarts = Restarts::default();
        restarts.join(exact / TICK_NS * TICK_NS, false);
        restarts.leave(exact);
        assert!(restarts.living.is_empty());
    }
}
