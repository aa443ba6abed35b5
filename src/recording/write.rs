use super::{MAGIC, Preamble, RecordingError, tag};
use crate::{
    base::{ids::SocketId, now::Now},
    config::Filters,
    decode::{DnsAnswered, Event},
    registry::{effects::Answer, state::Inventory},
    tracer::kernel::RawBatch,
};
use parking_lot::Mutex;
use serde::Serialize;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::mpsc,
    thread::JoinHandle,
};

/// Hands frames to a thread of its own: the registry waits for no disk.
pub struct Recorder {
    frames: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    thread: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    pub fn create(path: &Path, preamble: &Preamble) -> Result<Self, RecordingError> {
        let failed = |op| {
            move |source| RecordingError::Io {
                path: path.display().to_string(),
                op,
                source,
            }
        };
        let mut file = BufWriter::new(File::create(path).map_err(failed("cannot create"))?);
        file.write_all(MAGIC).map_err(failed("cannot write"))?;
        let (frames, received) = mpsc::channel::<Vec<u8>>();
        let write = move || {
            for frame in received {
                file.write_all(&frame)?;
            }
            file.flush()
        };
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(write);
        let recorder = Self {
            frames: Mutex::new(Some(frames)),
            thread: Mutex::new(Some(thread.map_err(failed("cannot start a thread to write"))?)),
        };
        recorder.json(tag::PREAMBLE, preamble);
        Ok(recorder)
    }

    pub fn batch(&self, now: Now, raw: &RawBatch) {
        let parts = [
            &raw.news,
            &raw.seen,
            &raw.spilled_sockets,
            &raw.spilled_sums,
            &raw.files,
        ];
        let mut payload = Vec::with_capacity(64 + parts.iter().map(|part| part.len()).sum::<usize>());
        for clock in [now.monotonic_ns, now.boottime_ns, now.wall_ns] {
            payload.extend(clock.to_le_bytes());
        }
        for part in parts {
            payload.extend((part.len() as u32).to_le_bytes());
            payload.extend_from_slice(part);
        }
        self.frame(tag::BATCH, &payload);
    }

    /// Where connections of the batch that follows go.
    pub fn routes(&self, routes: &[(SocketId, SocketAddr)]) {
        if !routes.is_empty() {
            self.json(tag::ROUTES, &routes);
        }
    }

    pub fn answer(&self, now: Now, answer: &Answer) {
        self.json(tag::ANSWER, &(now, answer));
    }

    pub fn inventory(&self, now: Now, inventory: &Inventory) {
        self.json(tag::INVENTORY, &(now, inventory));
    }

    pub fn sweep(&self, now: Now, before_ns: u64) {
        self.json(tag::SWEEP, &(now, before_ns));
    }

    pub fn filters(&self, now: Now, filters: &Filters) {
        self.json(tag::FILTERS, &(now, filters));
    }

    pub fn dns_answered(&self, now: Now, answer: &DnsAnswered) {
        self.json(tag::DNS_ANSWERED, &(now, answer));
    }

    pub fn said(&self, now: Now, events: &[&Event]) {
        if !events.is_empty() {
            self.json(tag::SAID, &(now, events));
        }
    }

    pub fn names_forgotten(&self, addresses: &[IpAddr]) {
        self.json(tag::NAMES_FORGOTTEN, &addresses);
    }

    pub fn tick(&self, now: Now) {
        self.json(tag::TICK, &now);
    }

    pub fn garbage(&self, now: Now) {
        self.json(tag::GARBAGE, &now);
    }

    fn json(&self, tag: u8, value: &impl Serialize) {
        if let Ok(payload) = serde_json::to_vec(value) {
            self.frame(tag, &payload);
        }
    }

    fn frame(&self, tag: u8, payload: &[u8]) {
        let mut frame = Vec::with_capacity(payload.len() + 5);
        frame.push(tag);
        frame.extend((payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(payload);
        if let Some(frames) = self.frames.lock().as_ref() {
            // The thread ends early only when the disk refuses; `finish` says so.
            frames.send(frame).ok();
        }
    }

    /// Writes the end and waits for the disk.
    pub fn finish(&self, now: Now) -> io::Result<()> {
        self.json(tag::END, &now);
        // Without a sender the thread writes what it has and ends.
        drop(self.frames.lock().take());
        let thread = self.thread.lock().take();
        thread.map_or(Ok(()), |thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
        })
    }
}
