//! What one reading of the kernel has brought, as events.
use super::kernel::RawBatch;
use crate::{
    base::ledger::Counts,
    decode::{self, Event},
};
use tarsier_common::Header;
use zerocopy::FromBytes;

/// In the order in which things happened: a pass was read before the ring, spilled ends were seen before it and may be
/// told only after it.
pub fn decode_batch(raw: &RawBatch) -> (Vec<Event>, Counts, Counts) {
    let (mut counts, mut malformed) = (Counts::default(), Counts::default());
    // A row that makes no sense is in no kind: its socket will be seen again.
    let seen = decode::sockets(&raw.seen).filter_map(Result::ok).map(Event::SocketSeen);
    let mut events: Vec<Event> = seen.collect();
    for record in records(&raw.news) {
        let Some(kind) = decode::kind_of(record) else { continue };
        counts.add(kind, 1);
        match decode::news(record) {
            Ok(event) => events.push(event),
            Err(_) => malformed.add(kind, 1),
        }
    }
    events.extend(
        decode::sockets(&raw.spilled_sockets)
            .filter_map(Result::ok)
            .map(Event::SocketSpilled),
    );
    for sum in decode::sums(&raw.spilled_sums).filter_map(Result::ok) {
        counts.add(sum.kind(), sum.ended());
        events.push(Event::SumSpilled(sum));
    }
    // Last: by then the processes are known that began before the pass.
    events.extend(decode::files(&raw.files).filter_map(Result::ok));
    (events, counts, malformed)
}

/// Records one behind the other, each as long as its header says.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (header, _) = Header::read_from_prefix(bytes).ok()?;
        // What claims to be shorter than its header would be read for ever.
        let len = Some(header.len as usize).filter(|len| *len >= size_of::<Header>())?;
        let (record, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarsier_common::{ProcessRecord, kind};
    use zerocopy::IntoBytes;

    fn record(kind: u16) -> ProcessRecord {
        ProcessRecord {
            header: Header {
                time_ns: 1,
                kind,
                flags: 0,
                len: size_of::<ProcessRecord>() as u32,
            },
            ..Default::default()
        }
    }

    #[test]
    fn every_record_is_in_the_books() {
        let mut raw = RawBatch::default();
        raw.news.extend_from_slice(record(kind::FORK).as_bytes());
        // Says it is a connection, and is too short for one.
        raw.news.extend_from_slice(record(kind::CLOSE).as_bytes());
        raw.news.extend_from_slice(record(kind::EXIT).as_bytes());
        let (events, counts, malformed) = decode_batch(&raw);
        assert!(matches!(
            events[..],
            [Event::ProcessStarted(_), Event::ProcessExited(_)]
        ));
        assert_eq!(
            (counts.get(kind::FORK), counts.get(kind::CLOSE), counts.get(kind::EXIT)),
            (1, 1, 1)
        );
        assert_eq!((malformed.total(), malformed.get(kind::CLOSE)), (1, 1));
    }

    #[test]
    fn a_lying_length_ends_the_reading() {
        let mut lying = record(kind::FORK);
        lying.header.len = 1_000_000;
        let raw = RawBatch {
            news: lying.as_bytes().to_vec(),
            ..RawBatch::default()
        };
        assert_eq!(decode_batch(&raw).1.total(), 0);
        lying.header.len = 0;
        let raw = RawBatch {
            news: lying.as_bytes().to_vec(),
            ..RawBatch::default()
        };
        assert_eq!(decode_batch(&raw).1.total(), 0);
    }
}
