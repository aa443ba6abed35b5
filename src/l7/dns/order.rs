//! Segments of a stream in the order in which they went. Two threads may write to one connection, and the one that was
//! second may be heard of first; only what stays away for long is missing.
use super::stream::{Piece, Stream};
use crate::{
    decode::Owner,
    l7::{Direction, Segment, Transport},
};
use std::collections::BTreeMap;

/// Of one direction: threads that write at the same time.
const MAX_HELD: usize = 16;
/// As long as an answer waits for its question.
const MAX_READINGS: u8 = 2;
const MIN_NS: u64 = 5_000_000;

struct Held {
    time_ns: u64,
    owner: Owner,
    len: u32,
    payload: Box<[u8]>,
    readings: u8,
}

/// One direction of a connection.
pub(super) struct Way {
    socket: u64,
    direction: Direction,
    stream: Stream,
    /// By position.
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
}

impl Way {
    pub(super) fn new(socket: u64, direction: Direction) -> Self {
        Self {
            socket,
            direction,
            stream: Stream::new(),
            held: BTreeMap::new(),
            held_bytes: 0,
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.stream.buffered() + self.held_bytes
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// `limit`: bytes to keep of one message, and of segments that wait.
    pub(super) fn feed(&mut self, segment: &Segment<'_>, limit: usize, emit: &mut impl FnMut(&Segment<'_>, Piece<'_>)) {
        if self.stream.is_behind(segment.position) {
            let room = self.held.len() < MAX_HELD && self.held_bytes + segment.bytes().len() <= limit;
            if room && !self.held.contains_key(&segment.position) {
                return self.hold(segment);
            }
            self.release(limit, emit);
        }
        self.stream.feed(segment, limit, &mut |piece| emit(segment, piece));
        self.follow(limit, emit);
    }

    fn hold(&mut self, segment: &Segment<'_>) {
        let held = Held {
            time_ns: segment.time_ns,
            owner: segment.owner,
            len: segment.len,
            payload: segment.bytes().into(),
            readings: 0,
        };
        self.held_bytes += held.payload.len();
        self.held.insert(segment.position, held);
    }

    /// Those that nothing is missing before any more.
    fn follow(&mut self, limit: usize, emit: &mut impl FnMut(&Segment<'_>, Piece<'_>)) {
        while let Some(entry) = self.held.first_entry()
            && !self.stream.is_behind(*entry.key())
        {
            let (position, held) = entry.remove_entry();
            self.feed_held(position, &held, limit, emit);
        }
    }

    /// All of them, with what is missing between them.
    fn release(&mut self, limit: usize, emit: &mut impl FnMut(&Segment<'_>, Piece<'_>)) {
        while let Some((position, held)) = self.held.pop_first() {
            self.feed_held(position, &held, limit, emit);
        }
    }

    fn feed_held(&mut self, position: u64, held: &Held, limit: usize, emit: &mut impl FnMut(&Segment<'_>, Piece<'_>)) {
        self.held_bytes = self.held_bytes.saturating_sub(held.payload.len());
        let segment = Segment {
            time_ns: held.time_ns,
            socket: self.socket,
            owner: held.owner,
            transport: Transport::Stream,
            direction: self.direction,
            position,
            len: held.len,
            payload: &held.payload,
        };
        self.stream.feed(&segment, limit, &mut |piece| emit(&segment, piece));
    }

    /// Once per reading.
    pub(super) fn expire(&mut self, now_ns: u64, limit: usize, emit: &mut impl FnMut(&Segment<'_>, Piece<'_>)) {
        let mut due = false;
        for held in self.held.values_mut() {
            held.readings = held.readings.saturating_add(1);
            due |= held.readings >= MAX_READINGS && now_ns.abs_diff(held.time_ns) >= MIN_NS;
        }
        if due {
            self.release(limit, emit);
        }
    }

    /// Nobody will see the rest of it. `last`: whose that would be, and when.
    pub(super) fn end(
        &mut self,
        (owner, time_ns): (Owner, u64),
        limit: usize,
        emit: &mut impl FnMut(&Segment<'_>, Piece<'_>),
    ) {
        self.release(limit, emit);
        let nothing = Segment {
            time_ns,
            socket: self.socket,
            owner,
            transport: Transport::Stream,
            direction: self.direction,
            position: 0,
            len: 0,
            payload: &[],
        };
        self.stream.end(&mut |piece| emit(&nothing, piece));
    }
}
