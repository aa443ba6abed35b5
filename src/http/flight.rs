//! One run for all who ask at the same time.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use tokio::{sync::Mutex, task::yield_now};

/// Whoever asks while a run is under way shares the next one with all who do: what he gets was never made before he
/// asked. A run that its asker gives up is taken over by the next one in the queue.
pub(super) struct Flight<T> {
    started: AtomicU64,
    /// Who has asked and has no answer yet.
    waiting: AtomicUsize,
    /// The last run's number and what came of it, for as long as somebody may want it.
    last: Mutex<Option<(u64, T)>>,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl<T: Clone> Flight<T> {
    pub(super) fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            last: Mutex::new(None),
        }
    }

    pub(super) async fn join<F: Future<Output = T>>(&self, run: impl FnOnce() -> F) -> T {
        self.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(&self.waiting);
        let before = self.started.load(SeqCst);
        let mut last = self.last.lock().await;
        let shared = last.take_if(|(number, _)| *number > before);
        let (number, outcome) = match shared {
            Some(shared) => shared,
            None => {
                *last = None;
                // For those that come at the same moment.
                yield_now().await;
                let number = self.started.fetch_add(1, SeqCst) + 1;
                (number, run().await)
            }
        };
        // A large answer is not kept until the next scrape. Whoever comes from here on wants another run.
        if self.waiting.load(SeqCst) > 1 {
            *last = Some((number, outcome.clone()));
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::{sync::Arc, time::Duration};
    use tokio::time::sleep;

    #[derive(Default)]
    struct Runs(AtomicUsize);

    impl Runs {
        /// Takes 100 ms; the outcome is its number.
        async fn one(&self) -> usize {
            let number = self.0.fetch_add(1, SeqCst) + 1;
            sleep(Duration::from_millis(100)).await;
            number
        }
    }

    async fn at(ms: u64, flight: &Flight<usize>, runs: &Runs) -> usize {
        sleep(Duration::from_millis(ms)).await;
        flight.join(|| runs.one()).await
    }

    #[actix::test]
    async fn who_asks_together_is_answered_together() {
        tokio::time::pause();
        let (flight, runs) = (Flight::new(), Runs::default());
        let outcomes = join_all((0..10).map(|_| flight.join(|| runs.one()))).await;
        assert_eq!(outcomes, [1; 10]);
        assert!(flight.last.lock().await.is_none(), "nobody is left to want it");
    }

    #[actix::test]
    async fn who_comes_too_late_shares_the_next_run() {
        tokio::time::pause();
        let (flight, runs) = (Flight::new(), Runs::default());
        let outcomes = join_all([0, 30, 60, 150, 1000].map(|ms| at(ms, &flight, &runs))).await;
        assert_eq!(outcomes, [1, 2, 2, 3, 4]);
        assert!(flight.last.lock().await.is_none());
    }

    #[actix::test]
    async fn a_run_given_up_is_taken_over() {
        tokio::time::pause();
        let (flight, runs) = (Arc::new(Flight::new()), Arc::new(Runs::default()));
        let (f, r) = (Arc::clone(&flight), Arc::clone(&runs));
        let first = actix_rt::spawn(async move { f.join(|| r.one()).await });
        let others = join_all([30, 60].map(|ms| at(ms, &flight, &runs)));
        let give_up = async {
            sleep(Duration::from_millis(50)).await;
            first.abort();
        };
        let (outcomes, ()) = tokio::join!(others, give_up);
        // The second run was begun by whoever was first in the queue, before the last one came.
        assert_eq!(outcomes, [2, 3]);
        assert_eq!(flight.waiting.load(SeqCst), 0);
    }
}
