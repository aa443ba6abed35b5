//! Everything that enters the registry, written down, so that `tarsier replay` can do it all again without a kernel.
//!
//! A file is a line of magic, then frames: tag, length, payload. Batches are kept as the kernel wrote them, so that
//! a replay decodes them too; all else is JSON.
mod read;
mod write;

pub use read::Reader;
pub use write::Recorder;

use crate::{
    base::{ids::SocketId, now::Now},
    decode::{DnsAnswered, Event},
    registry::{
        effects::Answer,
        state::{Inventory, Node},
    },
    tracer::kernel::RawBatch,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

pub const MAGIC: &[u8] = b"tarsier recording 2\n";
/// A frame larger than this is no frame.
const MAX_FRAME: u32 = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("{path}: {op}")]
    Io {
        path: String,
        op: &'static str,
        source: io::Error,
    },
    #[error("not a recording of tarsier, or of another version")]
    NotARecording,
    #[error("the recording is cut short or damaged at byte {at}")]
    Damaged { at: u64 },
    #[error("frame at byte {at}")]
    Json { at: u64, source: serde_json::Error },
}

/// What was true throughout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Preamble {
    pub node: Node,
    pub config: crate::config::Config,
    pub machine_id: String,
    pub system_uuid: String,
    /// The answers of runtimes are in it. Absent: it was made before they were asked.
    #[serde(default)]
    pub runtimes: bool,
}

#[derive(Debug)]
pub enum Frame {
    Preamble(Box<Preamble>),
    /// Where connections of the batch that follows go, if not where they were sent.
    Routes(Vec<(SocketId, SocketAddr)>),
    Batch(Now, RawBatch),
    Answer(Now, Answer),
    Inventory(Now, Inventory),
    /// A reload has brought others.
    Filters(Now, Box<crate::config::Filters>),
    /// Ends of sockets were lost before this moment.
    Sweep(Now, u64),
    /// Of a name server: from here on.
    DnsAnswered(Now, DnsAnswered),
    /// What was said by the end of the batch before: payload is in no recording.
    Said(Now, Vec<Event>),
    /// Addresses whose names nobody refers to any more.
    NamesForgotten(Vec<IpAddr>),
    Tick(Now),
    Garbage(Now),
    /// When the recording ended: what a scrape at that moment would have shown.
    End(Now),
}

/// First byte of a frame.
mod tag {
    pub(super) const PREAMBLE: u8 = 1;
    pub(super) const BATCH: u8 = 2;
    pub(super) const ANSWER: u8 = 3;
    pub(super) const INVENTORY: u8 = 4;
    pub(super) const TICK: u8 = 5;
    pub(super) const GARBAGE: u8 = 6;
    pub(super) const END: u8 = 7;
    pub(super) const SWEEP: u8 = 8;
    pub(super) const ROUTES: u8 = 9;
    pub(super) const DNS_ANSWERED: u8 = 10;
    pub(super) const NAMES_FORGOTTEN: u8 = 11;
    pub(super) const FILTERS: u8 = 12;
    pub(super) const SAID: u8 = 13;
}

#[cfg(test)]
mod tests;
