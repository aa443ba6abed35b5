//! What walks through heads, one by one.
use super::{Head, Reason, http, memcached, postgres, protocol, redis};

pub(super) struct Requests {
    pub count: u32,
    pub rest: u32,
}

/// What walks through a head. Each is a function of its own in the kernel, which the verifier then looks at once and not
/// wherever it may be called from: their results are numbers.
pub mod what {
    /// To the protocol of a request, or 0.
    pub const RECOGNISE: u32 = 0;
    pub const HTTP_REQUEST: u32 = 1;
    pub const REDIS_REQUESTS: u32 = 2;
    pub const REDIS_REPLIES: u32 = 3;
    pub const POSTGRES_REQUEST: u32 = 4;
    pub const POSTGRES_REPLY: u32 = 5;
}

/// Why it went wrong, and two numbers.
pub(super) struct Walked(pub u64);

impl Walked {
    const FIRST: u32 = 32;
    const REASON: u32 = 56;

    #[inline(always)]
    fn pack(result: Result<(u32, u32), Reason>) -> u64 {
        match result {
            Ok((first, second)) => u64::from(first) << Self::FIRST | u64::from(second),
            Err(reason) => (reason as u64) << Self::REASON,
        }
    }

    #[inline(always)]
    fn reason(&self) -> u8 {
        (self.0 >> Self::REASON) as u8
    }

    #[inline(always)]
    pub(super) fn numbers(&self) -> Result<(u32, u32), u8> {
        match self.reason() {
            0 => Ok(((self.0 >> Self::FIRST) as u32 & 0xff_ffff, self.0 as u32)),
            reason => Err(reason),
        }
    }
}

/// Walks through the head of a segment of `len` bytes. `protocols`: of those that are wanted, as in `Segment`.
#[inline(always)]
pub fn walk(what: u32, head: &Head, len: u32, protocols: u32) -> u64 {
    let requests = |result: Result<Requests, Reason>| result.map(|requests| (requests.count, requests.rest));
    match what {
        what::RECOGNISE => u64::from(recognise(head, len, protocols)),
        what::HTTP_REQUEST => Walked::pack(requests(http::request(head, len))),
        what::REDIS_REQUESTS => Walked::pack(requests(redis::requests(head, len))),
        what::REDIS_REPLIES => {
            let replies = redis::replies(head, len);
            Walked::pack(replies.map(|replies| (replies.ok, replies.failed)))
        }
        what::POSTGRES_REQUEST => Walked::pack(requests(postgres::request(head, len))),
        _ => Walked::pack(postgres::failed(head, len).map(|failed| (u32::from(failed), 0))),
    }
}

/// The protocol of which the segment, of `len` bytes, begins with a request. 0: none of those that are wanted.
#[inline(always)]
fn recognise(head: &Head, len: u32, protocols: u32) -> u8 {
    let wanted = |protocol: u8| protocols & (1 << protocol) != 0;
    if wanted(protocol::HTTP) && http::is_request(head) {
        protocol::HTTP
    } else if wanted(protocol::REDIS) && redis::is_request(head) {
        protocol::REDIS
    } else if wanted(protocol::POSTGRES) && postgres::is_request(head, len) {
        protocol::POSTGRES
    } else if wanted(protocol::MEMCACHED) && memcached::is_request(head, len) {
        protocol::MEMCACHED
    } else {
        0
    }
}
