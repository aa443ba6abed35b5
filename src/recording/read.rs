#![deny(clippy::indexing_slicing, clippy::string_slice)]
use super::{Frame, MAGIC, MAX_FRAME, RecordingError, tag};
use crate::{base::now::Now, tracer::kernel::RawBatch};
use serde::de::DeserializeOwned;
use std::io::{self, Read};

/// Frames of a recording, one after the other. Whatever the file holds, it ends with a frame or an error.
pub struct Reader<R> {
    from: R,
    at: u64,
}

impl<R: Read> Reader<R> {
    pub fn new(mut from: R) -> Result<Self, RecordingError> {
        let mut magic = vec![0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => Ok(Self {
                from,
                at: MAGIC.len() as u64,
            }),
            _ => Err(RecordingError::NotARecording),
        }
    }

    /// `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, RecordingError> {
        let at = self.at;
        let damaged = |_: io::Error| RecordingError::Damaged { at };
        let mut tag = [0];
        if self.from.read(&mut tag).map_err(damaged)? == 0 {
            return Ok(None);
        }
        let mut len = [0; 4];
        self.from.read_exact(&mut len).map_err(damaged)?;
        let len = u32::from_le_bytes(len);
        if len > MAX_FRAME {
            return Err(RecordingError::Damaged { at });
        }
        // Grows with what is there, not with what the length claims.
        let mut payload = Vec::new();
        let read = self
            .from
            .by_ref()
            .take(u64::from(len))
            .read_to_end(&mut payload)
            .map_err(damaged)?;
        if read as u64 != u64::from(len) {
            return Err(RecordingError::Damaged { at });
        }
        self.at += 5 + u64::from(len);
        let [tag] = tag;
        frame(tag, &payload, at).map(Some)
    }
}

fn frame(tag: u8, payload: &[u8], at: u64) -> Result<Frame, RecordingError> {
    Ok(match tag {
        tag::PREAMBLE => Frame::Preamble(json(payload, at)?),
        tag::BATCH => batch(payload).ok_or(RecordingError::Damaged { at })?,
        tag::ANSWER => {
            let (now, answer) = json(payload, at)?;
            Frame::Answer(now, answer)
        }
        tag::INVENTORY => {
            let (now, inventory) = json(payload, at)?;
            Frame::Inventory(now, inventory)
        }
        tag::SWEEP => {
            let (now, before_ns) = json(payload, at)?;
            Frame::Sweep(now, before_ns)
        }
        tag::DNS_ANSWERED => {
            let (now, answer) = json(payload, at)?;
            Frame::DnsAnswered(now, answer)
        }
        tag::SAID => {
            let (now, events) = json(payload, at)?;
            Frame::Said(now, events)
        }
        tag::NAMES_FORGOTTEN => Frame::NamesForgotten(json(payload, at)?),
        tag::ROUTES => Frame::Routes(json(payload, at)?),
        tag::FILTERS => {
            let (now, filters) = json(payload, at)?;
            Frame::Filters(now, filters)
        }
        tag::TICK => Frame::Tick(json(payload, at)?),
        tag::GARBAGE => Frame::Garbage(json(payload, at)?),
        tag::END => Frame::End(json(payload, at)?),
        _ => return Err(RecordingError::Damaged { at }),
    })
}

fn json<T: DeserializeOwned>(payload: &[u8], at: u64) -> Result<T, RecordingError> {
    serde_json::from_slice(payload).map_err(|source| RecordingError::Json { at, source })
}

fn batch(mut payload: &[u8]) -> Option<Frame> {
    let mut clock = || {
        let (head, rest) = payload.split_first_chunk::<8>()?;
        payload = rest;
        Some(u64::from_le_bytes(*head))
    };
    let now = Now {
        monotonic_ns: clock()?,
        boottime_ns: clock()?,
        wall_ns: clock()?,
    };
    let mut raw = RawBatch {
        news: part(&mut payload)?,
        seen: part(&mut payload)?,
        spilled_sockets: part(&mut payload)?,
        spilled_sums: part(&mut payload)?,
        files: Vec::new(),
    };
    // Older recordings end here.
    if !payload.is_empty() {
        raw.files = part(&mut payload)?;
    }
    payload.is_empty().then_some(Frame::Batch(now, raw))
}

fn part(payload: &mut &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = payload.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *payload = rest;
    Some(part.to_vec())
}
