//! The logger: caller → level → [`RateLimit`] → [`Queue`] → (own thread) terminal, JSON or journald.
//!
//! Whoever logs never waits: a record that finds the queue full is counted, and said once there is room.
pub mod limiter;
// Where callers and the writing thread part.
mod queue;
// What the writing thread writes.
mod journald;
mod text;

use crate::base::clock::{Clock, SystemClock};
use journald::Journald;
use limiter::{Limit, RateLimit};
use queue::Queue;
use serde::{Deserialize, Serialize};
use slog::{Drain, Level, Logger, OwnedKVList, Record, o};
use slog_async::AsyncGuard;
use std::{
    fmt,
    io::{self, IsTerminal},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// journald where stderr leads there, else a terminal if stderr is one, else JSON.
    #[default]
    Auto,
    Term,
    Json,
    Journald,
}

impl LogFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Term => "term",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }

    fn resolve(self, journal: bool, terminal: bool) -> Self {
        match self {
            Self::Auto if journal => Self::Journald,
            Self::Auto if terminal => Self::Term,
            Self::Auto => Self::Json,
            chosen => chosen,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("no socket to journald can be made")]
    Socket { source: io::Error },
}

/// Records that wait for the writing thread; about 300 bytes each.
const QUEUED: usize = 1024;
/// A reader of stderr that has stopped must not keep the process from ending.
const FLUSH_DEADLINE: Duration = Duration::from_millis(500);
const JOURNALD_SOCKET: &str = "/run/systemd/journal/socket";

/// Keep the guard until the end of `main`: dropping it writes what is still queued.
pub fn logger(format: LogFormat, level: Level) -> Result<(Logger, Guard), LogError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let journal = libsystemd::logging::connected_to_journal();
    let sink: Sink = match format.resolve(journal, io::stderr().is_terminal()) {
        LogFormat::Term => Box::new(text::term(Arc::clone(&clock))),
        LogFormat::Auto | LogFormat::Json => Box::new(text::json(io::stderr(), Arc::clone(&clock))),
        LogFormat::Journald => Box::new(journald::OrElse::new(
            Journald::new(Path::new(JOURNALD_SOCKET)).map_err(|source| LogError::Socket { source })?,
            text::json(io::stderr(), Arc::clone(&clock)),
        )),
    };
    Ok(assemble(sink, level, clock, Limit::default(), QUEUED))
}

type Sink = Box<dyn Drain<Ok = (), Err = io::Error> + Send>;

fn assemble(sink: Sink, level: Level, clock: Arc<dyn Clock>, limit: Limit, queued: usize) -> (Logger, Guard) {
    let dropped = Arc::new(AtomicU64::new(0));
    let (queue, flush) = Queue::new(sink, queued, Arc::clone(&dropped));
    let limited = Arc::new(RateLimit::new(queue, clock, limit));
    let verbosity = Verbosity::new(level);
    let guard = Guard {
        dropped,
        verbosity: verbosity.clone(),
        limited: Arc::clone(&limited),
        flush: Some(flush),
        flush_deadline: FLUSH_DEADLINE,
    };
    (Logger::root(Threshold(limited, verbosity).fuse(), o!()), guard)
}

/// What is less severe than this is not written. Changes while the agent runs.
#[derive(Clone, Debug)]
pub struct Verbosity(Arc<AtomicUsize>);

impl Verbosity {
    pub fn new(level: Level) -> Self {
        Self(Arc::new(AtomicUsize::new(level.as_usize())))
    }

    pub fn set(&self, level: Level) {
        self.0.store(level.as_usize(), Ordering::Relaxed);
    }

    fn takes(&self, level: Level) -> bool {
        level.as_usize() <= self.0.load(Ordering::Relaxed)
    }
}

struct Threshold<D>(D, Verbosity);

impl<D: Drain> Drain for Threshold<D> {
    type Ok = Option<D::Ok>;
    type Err = D::Err;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<Self::Ok, D::Err> {
        self.1
            .takes(record.level())
            .then(|| self.0.log(record, values))
            .transpose()
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.1.takes(level) && self.0.is_enabled(level)
    }
}

pub struct Guard {
    /// Records that were not written: the queue was full, or the write failed.
    pub dropped: Arc<AtomicU64>,
    pub verbosity: Verbosity,
    limited: Arc<RateLimit<Queue>>,
    flush: Option<AsyncGuard>,
    flush_deadline: Duration,
}

impl Guard {
    /// Says what was suppressed in periods that have ended, and what was dropped. Logging does so by itself; a timer
    /// that calls this keeps the count from waiting for the next record.
    pub fn report(&self) {
        self.limited.report();
        self.limited.inner().report();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("dropped", &self.dropped.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(flush) = self.flush.take() else { return };
        let limited = Arc::clone(&self.limited);
        let (done, finished) = mpsc::channel::<()>();
        let flusher = thread::Builder::new().name("log-flush".to_owned()).spawn(move || {
            let queue = limited.inner();
            for suppressed in limited.take_all() {
                insist(|| suppressed.say_to(queue.core()).is_ok());
            }
            insist(|| queue.report());
            drop(flush);
            drop(done);
        });
        if flusher.is_ok() {
            // Either way ends the wait: the sender is gone, or the deadline is.
            finished.recv_timeout(self.flush_deadline).ok();
        }
    }
}

/// Until there is room in the queue.
fn insist(said: impl Fn() -> bool) {
    while !said() {
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;
    use slog::{debug, error, info, warn};
    use std::{
        io::Write,
        sync::{Mutex, MutexGuard, atomic::AtomicBool},
    };

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn lines(&self) -> Vec<serde_json::Value> {
            self.text()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// 2025-01-02T03:04:05.678Z
    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(0, 0, 1_735_787_045_678_000_000))
    }

    /// A busy machine must not fail a test that wants to read everything.
    fn assemble_patient(
        sink: Sink,
        level: Level,
        clock: Arc<ManualClock>,
        limit: Limit,
        queued: usize,
    ) -> (Logger, Guard) {
        let (log, mut guard) = assemble(sink, level, clock, limit, queued);
        guard.flush_deadline = Duration::from_secs(30);
        (log, guard)
    }

    fn json_logger(level: Level, limit: Limit, clock: Arc<ManualClock>) -> (Logger, Guard, Buffer) {
        let buffer = Buffer::default();
        let sink = Box::new(text::json(buffer.clone(), Arc::clone(&clock) as Arc<dyn Clock>));
        let (log, guard) = assemble_patient(sink, level, clock, limit, 1024);
        (log, guard, buffer)
    }

    #[test]
    fn the_level_changes_while_it_logs() {
        let (log, guard, buffer) = json_logger(Level::Info, Limit::default(), clock());
        debug!(log, "one");
        guard.verbosity.set(Level::Debug);
        debug!(log.new(o!("component" => "registry")), "two");
        guard.verbosity.set(Level::Error);
        warn!(log, "three");
        error!(log, "four");
        drop(guard);
        let said: Vec<_> = buffer.lines().iter().map(|line| line["msg"].clone()).collect();
        assert_eq!(said, ["two", "four"]);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot load")]
    struct Outer(#[source] io::Error);

    #[test]
    fn json_is_one_object_per_line_with_the_whole_error_chain() {
        let (log, guard, buffer) = json_logger(Level::Info, Limit::default(), clock());
        let log = log.new(o!("component" => "registry"));
        let err = Outer(io::Error::other("no\nspace"));
        warn!(log, "runtime call failed"; "pid" => 7, "runtime" => "docker", "error" => #&err);
        info!(log, "started");
        drop(guard);
        let expected = serde_json::json!([
            {"ts": "2025-01-02T03:04:05.678Z", "level": "warn", "msg": "runtime call failed",
             "component": "registry", "pid": 7, "runtime": "docker", "error": "cannot load: no\nspace"},
            {"ts": "2025-01-02T03:04:05.678Z", "level": "info", "msg": "started", "component": "registry"},
        ]);
        assert_eq!(serde_json::Value::from(buffer.lines()), expected);
        assert!(
            buffer
                .text()
                .starts_with(r#"{"ts":"2025-01-02T03:04:05.678Z","level":"warn","msg":"#)
        );
    }

    #[test]
    fn the_level_filters() {
        for (level, expected) in [
            (Level::Error, vec!["d"]),
            (Level::Warning, vec!["c", "d"]),
            (Level::Info, vec!["b", "c", "d"]),
            (Level::Debug, vec!["a", "b", "c", "d"]),
        ] {
            let (log, guard, buffer) = json_logger(level, Limit::default(), clock());
            debug!(log, "a");
            info!(log, "b");
            warn!(log, "c");
            error!(log, "d");
            drop(guard);
            let said: Vec<_> = buffer.lines().iter().map(|line| line["msg"].clone()).collect();
            assert_eq!(said, expected, "{level}");
        }
    }

    #[test]
    fn a_flood_of_warnings_is_cut_and_what_was_cut_is_said_at_the_end() {
        let limit = Limit {
            burst: 3,
            period: Duration::from_secs(10),
        };
        let (log, guard, buffer) = json_logger(Level::Info, limit, clock());
        for pid in 0..50 {
            warn!(log, "probe will not attach"; "pid" => pid);
        }
        guard.report();
        drop(guard);
        let lines = buffer.lines();
        let pids: Vec<_> = lines[..3].iter().map(|line| line["pid"].clone()).collect();
        assert_eq!(pids, [0, 1, 2]);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[3]["msg"], "messages suppressed");
        assert_eq!(lines[3]["repeated"], "probe will not attach");
        assert_eq!(lines[3]["suppressed"], 47);
    }

    /// Writes nothing while the test holds the gate.
    #[derive(Clone, Default)]
    struct Stuck {
        gate: Arc<Mutex<()>>,
        waits: Arc<AtomicBool>,
        out: Buffer,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.waits.store(true, Ordering::SeqCst);
            drop::<MutexGuard<'_, ()>>(self.gate.lock().unwrap());
            self.out.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stuck {
        fn sink(&self) -> Sink {
            Box::new(text::json(self.clone(), clock()))
        }

        /// One record is on its way out, so that the queue is empty and stays as it is filled.
        fn wait(&self, log: &Logger) {
            info!(log, "first");
            while !self.waits.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_full_queue_drops_counts_and_says_so() {
        let stuck = Stuck::default();
        let (log, guard) = assemble_patient(stuck.sink(), Level::Info, clock(), Limit::default(), 8);
        let held = stuck.gate.lock().unwrap();
        stuck.wait(&log);
        for number in 0..100 {
            info!(log, "busy"; "number" => number);
        }
        assert_eq!(guard.dropped.load(Ordering::Relaxed), 92);
        drop(held);
        while stuck.out.text().lines().count() < 9 {
            thread::yield_now();
        }
        info!(log, "calm");
        drop(guard);
        let lines = stuck.out.lines();
        assert_eq!(lines.len(), 11);
        assert_eq!(lines[9]["msg"], "log records dropped");
        assert_eq!(lines[9]["dropped"], 92);
        assert_eq!(lines[10]["msg"], "calm");
    }

    #[test]
    fn what_was_cut_is_said_even_if_the_end_finds_the_queue_full() {
        let stuck = Stuck::default();
        let limit = Limit {
            burst: 0,
            period: Duration::from_secs(10),
        };
        let (log, guard) = assemble_patient(stuck.sink(), Level::Info, clock(), limit, 8);
        let held = stuck.gate.lock().unwrap();
        stuck.wait(&log);
        for number in 0..100 {
            info!(log, "busy"; "number" => number);
            warn!(log, "unheard");
        }
        drop(held);
        drop(guard);
        let lines = stuck.out.lines();
        assert_eq!(lines.len(), 11);
        assert_eq!(lines[9]["suppressed"], 100);
        assert_eq!(lines[10]["dropped"], 92);
    }

    #[test]
    fn an_output_that_never_takes_anything_does_not_hold_up_the_end() {
        let stuck = Stuck::default();
        let (log, guard) = assemble(stuck.sink(), Level::Info, clock(), Limit::default(), 1);
        let held = stuck.gate.lock().unwrap();
        stuck.wait(&log);
        for _ in 0..10 {
            info!(log, "busy");
        }
        let before = SystemClock.monotonic_ns();
        drop(guard);
        let waited = Duration::from_nanos(SystemClock.monotonic_ns() - before);
        assert!(waited >= FLUSH_DEADLINE && waited < 10 * FLUSH_DEADLINE, "{waited:?}");
        drop(held);
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn failed_writes_are_counted() {
        let clock = clock();
        let sink = Box::new(text::json(Broken, Arc::clone(&clock) as Arc<dyn Clock>));
        let (log, guard) = assemble_patient(sink, Level::Info, clock, Limit::default(), 8);
        let dropped = Arc::clone(&guard.dropped);
        info!(log, "one");
        info!(log, "two");
        drop(guard);
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        info!(log, "after the end");
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn auto_goes_where_stderr_leads() {
        use LogFormat::{Auto, Journald, Json, Term};
        assert_eq!(Auto.resolve(true, false), Journald);
        assert_eq!(Auto.resolve(true, true), Journald);
        assert_eq!(Auto.resolve(false, true), Term);
        assert_eq!(Auto.resolve(false, false), Json);
        assert_eq!(Json.resolve(true, true), Json);
        assert_eq!(Term.resolve(true, false), Term);
        assert_eq!(Journald.resolve(false, true), Journald);
    }

    #[test]
    fn names_are_the_same_everywhere() {
        use clap::ValueEnum;
        for format in LogFormat::value_variants() {
            assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
            assert_eq!(format.to_possible_value().unwrap().get_name(), format.as_str());
        }
    }
}
