//! What the two ends of a connection say to each other: what a protocol has to be, and whom it tells.
use crate::decode::UnparsedReason;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    Client,
    Server,
}

/// Of what one side says, in the order in which it is said.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// When the segment that it is of was sent or received, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    pub bytes: &'a [u8],
    /// It is the begin of a segment. Where nobody knows what comes, a message is looked for only there.
    pub starts: bool,
}

/// What a request has come to. A class is all that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Of a protocol that knows no more.
    Ok,
    Failed,
    /// HTTP's, three digits.
    Code(u16),
}

/// A request and the begin of its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The segment that the request's first byte was in.
    pub asked_ns: u64,
    /// The same of its reply, interim ones left out.
    pub replied_ns: u64,
    pub status: Status,
    /// What was asked, only where somebody watches.
    pub asked: Option<Asked>,
}

/// Nothing in it is a literal: those are replaced by `?`, and what is too long ends with `...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// HTTP's method, Redis' command, SQL's first word: in capitals.
    pub verb: Box<str>,
    /// Empty where only the verb is wanted.
    pub text: Box<str>,
}

impl Asked {
    /// Bytes of `text`.
    pub const MAX_TEXT: usize = 1024;
}

/// What a dialogue tells of.
pub trait Hearer {
    /// Somebody wants to know what is asked, not only how often.
    fn watches(&self) -> bool;

    /// The same, of the text of what is asked: without it the verb is all that is kept.
    fn watches_text(&self) -> bool {
        self.watches()
    }

    /// Requests for that target are not to be counted, nor told of. HTTP only: path and query, as they were sent.
    fn leaves_out(&self, target: &[u8]) -> bool;

    fn exchanged(&mut self, exchange: Exchange);

    /// That many messages, or holes with an unknown number of them, count nowhere else.
    fn unparsed(&mut self, reason: UnparsedReason, count: u64);
}

/// What the kernel leaves to user space when it gives up a connection that it has counted so far. What follows begins with
/// the segment that it could not make sense of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Requests that are begun and not answered, and when.
    pub pending: u32,
    pub asked_ns: u64,
    /// Bytes of the last of them that are still to come.
    pub rest: u64,
    /// It is HTTP's HEAD.
    pub head: bool,
    /// There is none, and the server says something that looks like a reply. It may be within the body of the last one.
    pub unasked: bool,
}

/// A protocol, on one connection. Total: whatever comes, it goes on, and keeps no more than a bounded number of bytes.
pub trait Dialogue {
    /// Takes all of it.
    fn hear(&mut self, side: Side, piece: &Piece<'_>, hearer: &mut dyn Hearer);

    /// So many bytes come next that nobody will see. What is lost with them is `unparsed`, for that reason; the rest of a
    /// body whose length is known is not.
    fn miss(&mut self, side: Side, bytes: u64, reason: UnparsedReason, hearer: &mut dyn Hearer);

    /// So many bytes that come next on that side do not matter: they are of a body whose length is known. To be missed, if
    /// nobody wants to see them.
    fn immaterial(&self, _side: Side) -> u64 {
        0
    }

    /// Something that the server says now makes sense: a request is unanswered, or a reply has begun. Otherwise its words
    /// are held back for some milliseconds, for of two threads the one that came second may be heard of first; then they
    /// come anyway.
    fn expects_reply(&self) -> bool;

    /// Nothing that follows is of this protocol, or nothing can be made of it any more.
    fn is_over(&self) -> bool;

    /// Instead of a begin.
    fn take_over(&mut self, from: Handover);

    /// The connection has ended. Requests without an answer are `Unanswered`.
    fn end(&mut self, hearer: &mut dyn Hearer);

    /// Bytes it keeps.
    fn buffered(&self) -> usize;
}

/// Requests that wait for their replies, in their order. Those of one segment are one entry.
#[derive(Debug, Default)]
pub struct Unanswered<T> {
    queue: std::collections::VecDeque<(u64, T, u32)>,
    len: u64,
}

impl<T: PartialEq + Clone> Unanswered<T> {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries, which is what takes room.
    pub fn entries(&self) -> usize {
        self.queue.len()
    }

    pub fn push(&mut self, asked_ns: u64, what: T) {
        self.push_many(asked_ns, what, 1);
    }

    pub fn push_many(&mut self, asked_ns: u64, what: T, count: u32) {
        if count == 0 {
            return;
        }
        self.len += u64::from(count);
        if let Some((last_ns, last, same)) = self.queue.back_mut()
            && *last_ns == asked_ns
            && *last == what
            && let Some(sum) = same.checked_add(count)
        {
            *same = sum;
            return;
        }
        self.queue.push_back((asked_ns, what, count));
    }

    pub fn front(&self) -> Option<(u64, &T)> {
        self.queue.front().map(|(asked_ns, what, _)| (*asked_ns, what))
    }

    pub fn pop(&mut self) -> Option<(u64, T)> {
        let (asked_ns, what, count) = self.queue.front_mut()?;
        self.len -= 1;
        if *count > 1 {
            *count -= 1;
            return Some((*asked_ns, what.clone()));
        }
        let (asked_ns, what, _) = self.queue.pop_front()?;
        Some((asked_ns, what))
    }

    /// How many there were.
    pub fn clear(&mut self) -> u64 {
        self.queue.clear();
        std::mem::take(&mut self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_in_their_order() {
        let mut unanswered = Unanswered::default();
        unanswered.push(1, 'a');
        unanswered.push_many(1, 'a', 2);
        unanswered.push_many(2, 'b', 0);
        unanswered.push(2, 'a');
        unanswered.push(2, 'b');
        unanswered.push_many(2, 'b', u32::MAX);
        assert_eq!((unanswered.len(), unanswered.entries()), (5 + u64::from(u32::MAX), 4));
        let first: Vec<_> = std::iter::from_fn(|| unanswered.pop()).take(5).collect();
        assert_eq!(first, [(1, 'a'), (1, 'a'), (1, 'a'), (2, 'a'), (2, 'b')]);
        assert_eq!(unanswered.front(), Some((2, &'b')));
        assert_eq!(unanswered.clear(), u64::from(u32::MAX));
        assert!(unanswered.is_empty() && unanswered.pop().is_none());
    }
}
