use super::Sink;
use slog::{Drain, Level, Never, OwnedKVList, Record, b, o, record};
use slog_async::{AsyncCore, AsyncGuard};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Hands records to the writing thread. Never blocks, never fails: what finds no room is counted.
pub(super) struct Queue {
    core: AsyncCore,
    dropped: Arc<AtomicU64>,
    /// Of `dropped`, how many no record has mentioned yet.
    unsaid: AtomicU64,
}

impl Queue {
    pub(super) fn new(sink: Sink, records: usize, dropped: Arc<AtomicU64>) -> (Self, AsyncGuard) {
        let writer = Writer {
            sink,
            dropped: Arc::clone(&dropped),
        };
        let (core, guard) = AsyncCore::custom(writer)
            .chan_size(records)
            .thread_name("log".to_owned())
            .build_with_guard();
        let unsaid = AtomicU64::new(0);
        (Self { core, dropped, unsaid }, guard)
    }

    /// For who would rather try again than be dropped and counted.
    pub(super) fn core(&self) -> &AsyncCore {
        &self.core
    }

    /// Says what was dropped; false if there was no room to.
    pub(super) fn report(&self) -> bool {
        let unsaid = self.unsaid.swap(0, Ordering::Relaxed);
        if unsaid == 0 {
            return true;
        }
        let kv = b!("dropped" => unsaid);
        let text = format_args!("log records dropped");
        let said = self
            .core
            .log(&record!(Level::Warning, "", &text, kv), &OwnedKVList::from(o!()));
        if said.is_err() {
            self.unsaid.fetch_add(unsaid, Ordering::Relaxed);
        }
        said.is_ok()
    }
}

impl Drain for Queue {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        self.report();
        if self.core.log(record, values).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.unsaid.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The end of the line: there is nobody left to tell about an error, so it is counted.
struct Writer {
    sink: Sink,
    dropped: Arc<AtomicU64>,
}

impl Drain for Writer {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.sink.log(record, values).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
