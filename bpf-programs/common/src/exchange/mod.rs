//! The exchange matcher: pairs requests and replies of one socket, segment by segment. The same code runs in the kernel's
//! hooks and in user space, so it allocates nothing, never panics and every loop has a constant bound.
//!
//! Clean exchanges are counted. Where there may be more in a segment than it can tell, it says why (`Reason`), changes
//! nothing, and leaves the socket to the record lane. What it cannot tell:
//!
//! - exchanges before the first request that begins a segment, of a connection that is older than the programs;
//! - the end of a reply: a second request that is read while the rest of the first reply is still being written is counted,
//!   with the time of that rest (and, with Redis, perhaps its status);
//! - Redis' inline commands, which look like nothing.
mod head;
mod http;
mod memcached;
mod postgres;
mod reason;
mod redis;
mod walk;

pub use head::{HEAD_BYTES, Head};
pub use reason::{REASON_NAMES, REASONS, Reason};
use walk::Walked;
pub use walk::{walk, what};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Directions of a segment, and roles: a client's requests go out (`SEND`), a server's come in (`RECEIVE`), so a segment
/// belongs to a request when its direction equals the socket's role.
pub const SEND: u8 = 1;
pub const RECEIVE: u8 = 2;

/// What is spoken. 0: not known.
pub mod protocol {
    pub const HTTP: u8 = 1;
    pub const REDIS: u8 = 2;
    pub const POSTGRES: u8 = 3;
    pub const MEMCACHED: u8 = 4;
    pub const COUNT: u8 = 5;
}

/// Bit by `protocol`: those of which the matcher can count requests.
pub const COUNTABLE: u32 = 1 << protocol::HTTP | 1 << protocol::REDIS | 1 << protocol::POSTGRES;

/// Who handles the socket.
pub mod lane {
    /// Nothing recognised yet.
    pub const LOOKING: u8 = 0;
    /// Counted in the kernel.
    pub const KERNEL: u8 = 1;
    /// Left to user space.
    pub const RECORDS: u8 = 2;
    /// Nobody knows what it is, or nobody wants to.
    pub const OPAQUE: u8 = 3;
}

/// Upper bounds of the latency buckets; the last bucket has none.
pub const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// Segments that may pass, then turns, before a socket is given up.
const PATIENCE: u8 = 8;
const TURNS: u8 = 32;

/// Bytes that are kept of a request that begins in small pieces: less than any protocol needs to be known by.
const CARRY: u32 = 7;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Totals {
    pub latency_ns: u64,
    /// By first digit of HTTP's status; of others 2 is success and 5 failure.
    pub classes: [u32; 6],
    pub buckets: [u32; BOUNDS_MS.len() + 1],
}

impl Totals {
    /// Leaves what was added to `before`. Counters may have wrapped in between.
    #[inline(always)]
    pub fn subtract(&mut self, before: &Self) {
        self.latency_ns = self.latency_ns.wrapping_sub(before.latency_ns);
        for (now, was) in self.classes.iter_mut().zip(&before.classes) {
            *now = now.wrapping_sub(*was);
        }
        for (now, was) in self.buckets.iter_mut().zip(&before.buckets) {
            *now = now.wrapping_sub(*was);
        }
    }

    #[inline(always)]
    pub fn is_zero(&self) -> bool {
        // Each request is in one of them.
        self.buckets.iter().all(|count| *count == 0)
    }
}

/// What one socket needs to know between two segments, and all it has counted. Zeroed memory is the start. What every
/// segment needs comes first: see `Conversation` in maps.rs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// When the requests in flight were seen, or what is carried of one.
    pub asked_ns: u64,
    /// Bytes of the last request still to come.
    pub rest: u32,
    /// Requests waiting for a reply.
    pub pending: u32,
    pub protocol: u8,
    /// The direction requests go.
    pub role: u8,
    pub lane: u8,
    /// Of `Reason`.
    pub reason: u8,
    /// The first bytes of a request that came in pieces: how many, and which direction they went.
    pub carried_len: u8,
    pub carried_by: u8,
    misses: u8,
    /// Of the last segment that was looked at.
    turn: u8,
    /// A client of PostgreSQL has asked for encryption.
    asked_for_encryption: u8,
    /// What waits for a reply is HTTP's HEAD: there is no body behind that.
    pub asked_for_head: u8,
    padding: [u8; 6],
    pub carried: [u8; 8],
    pub totals: Totals,
}
const _: () = assert!(size_of::<Exchange>() == 120);

/// One completed send or receive.
pub struct Segment<'a> {
    pub direction: u8,
    pub len: u32,
    pub now_ns: u64,
    /// What `Exchange::begin` put there, then at least the first `Exchange::wanted` bytes, or none if they were not to be
    /// had.
    pub head: &'a Head,
    /// Bit by `protocol`: those that may be counted here.
    pub countable: u32,
}

impl Exchange {
    /// Nothing was found in a while: it is looked at again when the direction turns.
    #[inline(always)]
    pub fn is_tired(&self, direction: u8) -> bool {
        self.lane == lane::LOOKING && self.misses >= PATIENCE && direction == self.turn
    }

    /// How much of the next segment in this direction `advance` will look at.
    #[inline(always)]
    pub fn wanted(&self, direction: u8) -> u32 {
        let is_request = direction == self.role;
        match self.lane {
            lane::LOOKING => HEAD_BYTES as u32,
            lane::KERNEL if is_request && self.rest > 0 => 0,
            lane::KERNEL if is_request => HEAD_BYTES as u32,
            lane::KERNEL if self.protocol == protocol::HTTP => 16,
            lane::KERNEL if self.pending == 0 && self.asked_for_encryption == 0 => 0,
            lane::KERNEL if self.protocol == protocol::REDIS && self.pending == 1 => 16,
            lane::KERNEL => HEAD_BYTES as u32,
            _ => 0,
        }
    }

    /// Puts what was carried in front: the segment's own bytes go behind it. Says how much that is.
    #[inline(always)]
    pub fn begin(&self, head: &mut Head, direction: u8) -> u32 {
        let len = if direction == self.carried_by {
            u32::from(self.carried_len) & CARRY
        } else {
            0
        };
        // Seldom anything.
        if len > 0 {
            for (to, byte) in head.bytes.iter_mut().zip(self.carried) {
                *to = byte;
            }
        }
        head.seen = len;
        len
    }

    /// What was counted stays. Whatever went wrong went wrong with this segment: nothing of it is in the state.
    /// `walk`: the function of that name, with the segment's head and what protocols are wanted.
    #[inline(always)]
    pub fn advance(&mut self, segment: &Segment<'_>, walk: impl Fn(u32, u32) -> u64) {
        if let Err(reason) = self.step(segment, walk) {
            self.lane = lane::RECORDS;
            self.reason = reason;
        }
    }

    /// From here on the socket belongs to the record lane.
    #[inline(always)]
    pub fn leave(&mut self, reason: Reason) {
        self.lane = lane::RECORDS;
        self.reason = reason as u8;
    }

    /// Of a socket that was given up, or of which nobody wanted to know.
    #[inline(always)]
    pub fn look_again(&mut self) {
        self.lane = lane::LOOKING;
        self.rest = 0;
        self.pending = 0;
        self.carried_len = 0;
        self.misses = 0;
        self.asked_for_encryption = 0;
    }

    #[inline(always)]
    fn step(&mut self, segment: &Segment<'_>, walk: impl Fn(u32, u32) -> u64) -> Result<(), u8> {
        if self.lane == lane::LOOKING {
            self.look(segment, &walk);
        }
        if self.lane != lane::KERNEL {
            return Ok(());
        }
        if segment.countable & (1 << self.protocol) == 0 {
            return Err(Reason::Configured as u8);
        }
        if segment.direction == self.role {
            return self.request(segment, walk);
        }
        if self.carried_len > 0 {
            return Err(Reason::Early as u8);
        }
        match self.protocol {
            protocol::HTTP => self.http_reply(segment).map_err(|reason| reason as u8),
            protocol::REDIS => self.redis_reply(segment, walk),
            _ => self.postgres_reply(segment, walk),
        }
    }

    /// Only a request settles protocol and role: a reply can be the middle of anything.
    #[inline(always)]
    fn look(&mut self, segment: &Segment<'_>, walk: impl Fn(u32, u32) -> u64) {
        let known = walk(what::RECOGNISE, self.len_of(segment)) as u8;
        if known != 0 {
            self.protocol = known;
            self.role = segment.direction;
            self.lane = lane::KERNEL;
            if self.carried_by != segment.direction {
                self.carried_len = 0;
            }
            return;
        }
        let was_answered = self.carried_len > 0 && self.carried_by != segment.direction;
        let carries = self.carry(segment);
        // What was answered was no request's begin: so short is all that is said here.
        if carries && !was_answered {
            return;
        }
        if !carries {
            self.carried_len = 0;
        }
        if self.misses < PATIENCE || segment.direction != self.turn {
            self.misses += 1;
        }
        self.turn = segment.direction;
        if self.misses >= PATIENCE + TURNS {
            self.lane = lane::OPAQUE;
        }
    }

    /// With what was carried before it.
    #[inline(always)]
    fn len_of(&self, segment: &Segment<'_>) -> u32 {
        if segment.direction == self.carried_by {
            segment.len.saturating_add(u32::from(self.carried_len))
        } else {
            segment.len
        }
    }

    /// So little has come that it may be the begin of anything. (Go's server waits for the first byte of a request.)
    #[inline(always)]
    fn carry(&mut self, segment: &Segment<'_>) -> bool {
        let len = self.len_of(segment);
        // PostgreSQL has whole messages that are shorter than the rest's begins.
        let limit = if self.protocol == protocol::POSTGRES { 4 } else { CARRY };
        if len > limit || segment.head.seen != len {
            return false;
        }
        if self.carried_len == 0 || self.carried_by != segment.direction {
            self.asked_ns = segment.now_ns;
        }
        for (to, byte) in self.carried.iter_mut().zip(segment.head.bytes) {
            *to = byte;
        }
        self.carried_len = len as u8;
        self.carried_by = segment.direction;
        true
    }

    #[inline(always)]
    fn request(&mut self, segment: &Segment<'_>, walk: impl Fn(u32, u32) -> u64) -> Result<(), u8> {
        if self.rest > 0 {
            self.rest = self.rest.checked_sub(segment.len).ok_or(Reason::Overrun as u8)?;
            return Ok(());
        }
        if self.pending > 0 {
            return Err(Reason::Overlap as u8);
        }
        if segment.head.seen <= u32::from(self.carried_len) {
            return Err(Reason::Blind as u8);
        }
        if self.carry(segment) {
            return Ok(());
        }
        let len = self.len_of(segment);
        let walked = match self.protocol {
            protocol::HTTP => walk(what::HTTP_REQUEST, len),
            protocol::REDIS => walk(what::REDIS_REQUESTS, len),
            _ => walk(what::POSTGRES_REQUEST, len),
        };
        let (count, rest) = Walked(walked).numbers()?;
        if count == postgres::ENCRYPTION {
            self.asked_for_encryption = 1;
        }
        if self.carried_len == 0 {
            self.asked_ns = segment.now_ns;
        }
        self.carried_len = 0;
        self.asked_for_head = u8::from(self.protocol == protocol::HTTP && segment.head.byte(0) == b'H');
        self.pending = if count == postgres::ENCRYPTION { 0 } else { count };
        self.rest = rest;
        Ok(())
    }

    #[inline(always)]
    fn http_reply(&mut self, segment: &Segment<'_>) -> Result<(), Reason> {
        match http::status(segment.head) {
            // Interim: the real one follows, perhaps in the same segment.
            Some(status) if status / 100 == 1 && status != 101 => Err(Reason::Special),
            Some(_) if self.pending == 0 => Err(Reason::Unasked),
            Some(status) => {
                self.pending = 0;
                self.count(1, status / 100, segment.now_ns);
                if status == 101 {
                    self.lane = lane::OPAQUE;
                }
                Ok(())
            }
            None if self.pending == 0 => Ok(()),
            None if segment.head.seen == 0 => Err(Reason::Blind),
            None => Err(Reason::NotAReply),
        }
    }

    #[inline(always)]
    fn redis_reply(&mut self, segment: &Segment<'_>, walk: impl Fn(u32, u32) -> u64) -> Result<(), u8> {
        // More of the last reply, or news of a subscription: neither is an answer.
        if self.pending == 0 {
            return Ok(());
        }
        if self.rest > 0 {
            return Err(Reason::Early as u8);
        }
        if segment.head.seen == 0 {
            return Err(Reason::Blind as u8);
        }
        if self.pending == 1 {
            let failed = redis::failed(segment.head).map_err(|reason| reason as u8)?;
            let class = if failed { 5 } else { 2 };
            self.pending = 0;
            self.count(1, class, segment.now_ns);
            return Ok(());
        }
        let (ok, failed) = Walked(walk(what::REDIS_REPLIES, segment.len)).numbers()?;
        let left = self.pending.checked_sub(ok + failed);
        self.pending = left.ok_or(Reason::Unasked as u8)?;
        self.count(ok, 2, segment.now_ns);
        self.count(failed, 5, segment.now_ns);
        Ok(())
    }

    #[inline(always)]
    fn postgres_reply(&mut self, segment: &Segment<'_>, walk: impl Fn(u32, u32) -> u64) -> Result<(), u8> {
        if self.asked_for_encryption != 0 {
            self.asked_for_encryption = 0;
            // Encrypted from here on.
            if segment.len == 1 && matches!(segment.head.byte(0), b'S' | b'G') {
                self.lane = lane::OPAQUE;
            }
            return Ok(());
        }
        if self.pending == 0 {
            return Ok(());
        }
        if self.rest > 0 {
            return Err(Reason::Early as u8);
        }
        if segment.head.seen == 0 {
            return Err(Reason::Blind as u8);
        }
        let (failed, _) = Walked(walk(what::POSTGRES_REPLY, segment.len)).numbers()?;
        let class = if failed != 0 { 5 } else { 2 };
        self.pending = 0;
        self.count(1, class, segment.now_ns);
        Ok(())
    }

    #[inline(always)]
    fn count(&mut self, n: u32, class: u32, now_ns: u64) {
        let latency_ns = now_ns.saturating_sub(self.asked_ns);
        let bucket = BOUNDS_MS
            .iter()
            .position(|bound_ms| latency_ns <= bound_ms * 1_000_000)
            .unwrap_or(BOUNDS_MS.len());
        if let Some(counter) = self.totals.classes.get_mut(class as usize) {
            *counter = counter.wrapping_add(n);
        }
        if let Some(counter) = self.totals.buckets.get_mut(bucket) {
            *counter = counter.wrapping_add(n);
        }
        self.totals.latency_ns = self.totals.latency_ns.wrapping_add(latency_ns * u64::from(n));
    }
}

#[cfg(test)]
mod tests;
