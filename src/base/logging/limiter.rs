//! Repeated warnings: the first few of a period pass, the rest become one line with their number.
use crate::base::clock::Clock;
use parking_lot::Mutex;
use slog::{Drain, Level, Never, OwnedKVList, Record, b, o, record};
use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// How many of one message pass in a period.
    pub burst: u32,
    pub period: Duration,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            burst: 5,
            period: Duration::from_secs(60),
        }
    }
}

/// Limits warnings and errors. Less than that an operator asked for; more than that comes once.
pub(super) struct RateLimit<D> {
    inner: D,
    clock: Arc<dyn Clock>,
    limit: Limit,
    /// Every change is whole before the lock is let go.
    windows: AssertUnwindSafe<Mutex<Windows>>,
}

/// Messages are constant, so the place in the source is the message, and the map is bounded by the source.
type Place = (&'static str, u32, u32);

struct Windows {
    by_place: HashMap<Place, Window>,
    /// When the first window ends that has something to say.
    due_ns: u64,
}

struct Window {
    ends_ns: u64,
    passed: u32,
    suppressed: u64,
    /// Empty until something is suppressed.
    message: String,
}

pub(super) struct Suppressed {
    message: String,
    count: u64,
}

impl<D: Drain<Ok = (), Err = Never>> RateLimit<D> {
    pub(super) fn new(inner: D, clock: Arc<dyn Clock>, limit: Limit) -> Self {
        let windows = AssertUnwindSafe(Mutex::new(Windows {
            by_place: HashMap::new(),
            due_ns: u64::MAX,
        }));
        Self {
            inner,
            clock,
            limit,
            windows,
        }
    }

    pub(super) fn inner(&self) -> &D {
        &self.inner
    }

    /// Says what was suppressed in periods that have ended.
    pub(super) fn report(&self) {
        let now_ns = self.clock.monotonic_ns();
        let suppressed = self.windows.lock().take(now_ns);
        self.say(suppressed);
    }

    /// What was suppressed in all periods, for the last words.
    pub(super) fn take_all(&self) -> Vec<Suppressed> {
        self.windows.lock().take(u64::MAX)
    }

    fn say(&self, suppressed: Vec<Suppressed>) {
        for suppressed in suppressed {
            let Ok(()) = suppressed.say_to(&self.inner);
        }
    }
}

impl Suppressed {
    pub(super) fn say_to<D: Drain>(&self, drain: &D) -> Result<D::Ok, D::Err> {
        let kv = b!("repeated" => &self.message, "suppressed" => self.count);
        let text = format_args!("messages suppressed");
        drain.log(&record!(Level::Warning, "", &text, kv), &OwnedKVList::from(o!()))
    }
}

impl<D: Drain<Ok = (), Err = Never>> Drain for RateLimit<D> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let now_ns = self.clock.monotonic_ns();
        let (suppressed, passes) = {
            let mut windows = self.windows.lock();
            let suppressed = windows.take(now_ns);
            let limited = matches!(record.level(), Level::Warning | Level::Error);
            (suppressed, !limited || windows.admit(record, now_ns, self.limit))
        };
        self.say(suppressed);
        if passes {
            self.inner.log(record, values)?;
        }
        Ok(())
    }
}

impl Windows {
    fn admit(&mut self, record: &Record<'_>, now_ns: u64, limit: Limit) -> bool {
        let period_ns = u64::try_from(limit.period.as_nanos()).unwrap_or(u64::MAX);
        let fresh = || Window {
            ends_ns: now_ns.saturating_add(period_ns),
            passed: 0,
            suppressed: 0,
            message: String::new(),
        };
        let place = (record.file(), record.line(), record.column());
        let window = self.by_place.entry(place).or_insert_with(fresh);
        if now_ns >= window.ends_ns {
            *window = fresh();
        }
        if window.passed < limit.burst {
            window.passed += 1;
            return true;
        }
        if window.suppressed == 0 {
            window.message = record.msg().to_string();
        }
        window.suppressed += 1;
        self.due_ns = self.due_ns.min(window.ends_ns);
        false
    }

    /// What was suppressed in windows that end by `now_ns`. Costs nothing unless there is something.
    fn take(&mut self, now_ns: u64) -> Vec<Suppressed> {
        let mut taken = Vec::new();
        if now_ns < self.due_ns || self.due_ns == u64::MAX {
            return taken;
        }
        self.due_ns = u64::MAX;
        for window in self.by_place.values_mut().filter(|window| window.suppressed > 0) {
            if window.ends_ns <= now_ns {
                taken.push(Suppressed {
                    message: std::mem::take(&mut window.message),
                    count: std::mem::take(&mut window.suppressed),
                });
            } else {
                self.due_ns = self.due_ns.min(window.ends_ns);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;
    use slog::{KV, Key, Logger, Serializer, crit, error, info, warn};
    use std::fmt;

    #[derive(Clone)]
    struct Said(Arc<AssertUnwindSafe<Mutex<Vec<String>>>>);

    struct Values(String);

    impl Serializer for Values {
        fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
            self.0 += &format!(" {key}={value}");
            Ok(())
        }
    }

    impl Drain for Said {
        type Ok = ();
        type Err = Never;

        fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
            let mut values = Values(record.msg().to_string());
            record.kv().serialize(record, &mut values).unwrap();
            self.0.lock().push(values.0);
            Ok(())
        }
    }

    impl Said {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock())
        }
    }

    fn limited() -> (Logger, Arc<RateLimit<Said>>, Arc<ManualClock>, Said) {
        let (clock, said) = (
            Arc::new(ManualClock::default()),
            Said(Arc::new(AssertUnwindSafe(Mutex::default()))),
        );
        let limit = Limit {
            burst: 2,
            period: Duration::from_secs(10),
        };
        let drain = Arc::new(RateLimit::new(said.clone(), Arc::clone(&clock) as _, limit));
        let log = Logger::root(Arc::clone(&drain), o!());
        (log, drain, clock, said)
    }

    fn refused(log: &Logger, pid: u32) {
        warn!(log, "refused"; "pid" => pid);
    }

    #[test]
    fn the_first_of_a_period_pass_and_the_rest_are_counted() {
        let (log, _, clock, said) = limited();
        for pid in 1..=5 {
            refused(&log, pid);
        }
        assert_eq!(said.take(), ["refused pid=1", "refused pid=2"]);
        clock.advance(Duration::from_secs(9));
        refused(&log, 6);
        assert_eq!(said.take(), [""; 0]);
        clock.advance(Duration::from_secs(1));
        refused(&log, 7);
        assert_eq!(
            said.take(),
            ["messages suppressed suppressed=4 repeated=refused", "refused pid=7"]
        );
        // Nothing was suppressed in the period that starts here, so nothing is said of it.
        clock.advance(Duration::from_secs(10));
        refused(&log, 8);
        assert_eq!(said.take(), ["refused pid=8"]);
    }

    #[test]
    fn any_record_and_the_timer_bring_the_count_of_an_ended_period() {
        let (log, drain, clock, said) = limited();
        for pid in 1..=3 {
            refused(&log, pid);
        }
        drain.report();
        assert_eq!(said.take().len(), 2);
        clock.advance(Duration::from_secs(10));
        info!(log, "other");
        assert_eq!(
            said.take(),
            ["messages suppressed suppressed=1 repeated=refused", "other"]
        );

        for pid in 1..=4 {
            refused(&log, pid);
        }
        said.take();
        clock.advance(Duration::from_secs(10));
        drain.report();
        drain.report();
        assert_eq!(said.take(), ["messages suppressed suppressed=2 repeated=refused"]);

        for pid in 1..=3 {
            refused(&log, pid);
        }
        said.take();
        let last = drain.take_all();
        for suppressed in &last {
            suppressed.say_to(&said).unwrap();
        }
        assert_eq!(said.take(), ["messages suppressed suppressed=1 repeated=refused"]);
        assert!(drain.take_all().is_empty());
    }

    #[test]
    fn messages_are_limited_each_for_itself_and_by_their_level() {
        let (log, drain, clock, said) = limited();
        for _ in 0..3 {
            error!(log, "one");
            clock.advance(Duration::from_secs(1));
            warn!(log, "two");
            info!(log, "three");
            crit!(log, "four");
        }
        let lines = said.take();
        let count = |message: &str| lines.iter().filter(|line| *line == message).count();
        assert_eq!(
            [count("one"), count("two"), count("three"), count("four")],
            [2, 2, 3, 3]
        );
        // The period of "one" began a second before the one of "two".
        clock.advance(Duration::from_secs(7));
        drain.report();
        assert_eq!(said.take(), ["messages suppressed suppressed=1 repeated=one"]);
        clock.advance(Duration::from_secs(1));
        drain.report();
        assert_eq!(said.take(), ["messages suppressed suppressed=1 repeated=two"]);
    }
}
