//! Which request a reply is for: the oldest without one.
//!
//! A hole in what the server says may have swallowed replies, and nobody can tell how many. From then on there is doubt,
//! and until it ends (the last two rows hold for some replies more, as a body may have been measured wrongly):
//!
//! | what is seen | what follows |
//! | --- | --- |
//! | a reply | it is for the oldest, as ever |
//! | no request waits | no doubt is left |
//! | more requests wait than ever did without doubt | the oldest have had their replies, in the hole |
//! | a segment begins with a request, and no more wait than the fewest of late | no doubt is left |
//! | more such segments in a row than ever without doubt find more waiting | those too many have had their replies |
//!
//! So a client that waits for each reply, or for those of all that it has sent at once, is right again with its next request,
//! and one that keeps a number on their way as soon as it has filled up. Where one was taken for answered that was not, all
//! is right again once nothing waits.
use crate::{
    decode::UnparsedReason,
    l7::dialogue::{Asked, Hearer, Unanswered},
};

/// Segments after which a client has shown how many it keeps on their way.
const WINDOW: u64 = 8;
/// Replies after a hole during which another one may be taken for the wrong request's, and swallow others with its body.
const SHAKEN: u32 = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    #[default]
    Other,
    /// Somebody else has seen it.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) method: Method,
    pub(super) left_out: bool,
    pub(super) asked: Option<Box<Asked>>,
}

impl Sent {
    fn kept(&self) -> usize {
        self.asked
            .as_ref()
            .map_or(0, |asked| asked.verb.len() + asked.text.len())
    }
}

#[derive(Debug, Default)]
pub(super) struct Pairing {
    unanswered: Unanswered<Sent>,
    /// Of them, those that are not to be told of.
    left_out: u64,
    last_asked_ns: u64,
    /// What to call those that are given up.
    doubt: Option<UnparsedReason>,
    /// How many have waited at once, without doubt.
    deepest: u64,
    /// The fewest that waited of late when a segment began with a request; and in the part of [`WINDOW`] so far.
    floor: u64,
    low: u64,
    segments: u64,
    /// Of those segments, the ones in a row that found more waiting; and the most of them without doubt.
    run: u64,
    longest: u64,
    /// Replies until all is trusted again.
    shaken: u32,
    /// Bytes.
    kept: usize,
}

impl Pairing {
    pub(super) fn is_empty(&self) -> bool {
        self.unanswered.is_empty()
    }

    pub(super) fn entries(&self) -> usize {
        self.unanswered.entries()
    }

    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// A reply that comes now has its request.
    pub(super) fn expects(&self) -> bool {
        !self.is_empty() && self.doubt.is_none()
    }

    /// The client waits for a reply, and has nothing else to say as long as it does what it has done so far.
    pub(super) fn waits(&self) -> bool {
        !self.is_empty() && self.deepest <= 1
    }

    /// A reply may be for another request than it seems, which decides where it ends.
    pub(super) fn is_shaken(&self) -> bool {
        self.shaken > 0
    }

    /// Messages have been missed.
    pub(super) fn shake(&mut self) {
        self.shaken = SHAKEN;
    }

    /// Replies may have been missed.
    pub(super) fn doubt(&mut self, reason: UnparsedReason) {
        if !self.is_empty() && self.doubt.is_none() {
            self.doubt = Some(reason);
            self.run = 0;
        }
    }

    /// `leads`: its segment begins with it.
    pub(super) fn ask(&mut self, asked_ns: u64, sent: Sent, leads: bool, hearer: &mut dyn Hearer) {
        if leads {
            self.segment(hearer);
        }
        self.push(asked_ns, sent, 1);
        if let Some(reason) = self.suspicion() {
            let surplus = self.unanswered.len().saturating_sub(self.deepest.max(1));
            self.give_up(surplus, reason, hearer);
        }
    }

    pub(super) fn push(&mut self, asked_ns: u64, sent: Sent, count: u32) {
        let many = u64::from(count);
        self.left_out += if sent.left_out { many } else { 0 };
        self.kept += sent.kept();
        self.last_asked_ns = asked_ns;
        self.unanswered.push_many(asked_ns, sent, count);
    }

    fn segment(&mut self, hearer: &mut dyn Hearer) {
        let waiting = self.unanswered.len();
        let suspicion = self.suspicion();
        if suspicion.is_none() {
            self.low = self.low.min(waiting);
            self.segments += 1;
            if self.segments == WINDOW {
                (self.floor, self.low, self.segments) = (self.low, u64::MAX, 0);
            }
            self.floor = self.floor.min(waiting);
        }
        if waiting <= self.floor {
            (self.run, self.doubt) = (0, None);
            return;
        }
        self.run += 1;
        if let Some(reason) = suspicion
            && self.run > self.longest
        {
            (self.run, self.doubt) = (0, None);
            self.give_up(waiting - self.floor, reason, hearer);
        }
    }

    /// Replies may have been missed, or may yet be.
    fn suspicion(&self) -> Option<UnparsedReason> {
        self.doubt.or(self.is_shaken().then_some(UnparsedReason::Gap))
    }

    /// The oldest have been answered unseen.
    fn give_up(&mut self, count: u64, reason: UnparsedReason, hearer: &mut dyn Hearer) {
        let lost = (0..count).map_while(|_| self.pop());
        let told = lost.filter(|(_, sent)| !sent.left_out).count();
        unparsed(hearer, reason, told as u64);
    }

    pub(super) fn answer(&mut self, replied_ns: u64) -> Option<(u64, Sent)> {
        // A reply that is only heard of late says nothing of what was on its way.
        if self.suspicion().is_none() && self.last_asked_ns <= replied_ns {
            self.deepest = self.deepest.max(self.unanswered.len());
            self.longest = self.longest.max(self.run);
        }
        self.shaken = self.shaken.saturating_sub(1);
        let answered = self.pop();
        if self.is_empty() {
            self.doubt = None;
        }
        answered
    }

    fn pop(&mut self) -> Option<(u64, Sent)> {
        let (asked_ns, sent) = self.unanswered.pop()?;
        self.left_out -= u64::from(sent.left_out);
        self.kept = self.kept.saturating_sub(sent.kept());
        Some((asked_ns, sent))
    }

    /// How many there were to tell of.
    pub(super) fn clear(&mut self) -> u64 {
        let told = self.unanswered.clear() - self.left_out;
        (self.left_out, self.kept, self.doubt) = (0, 0, None);
        told
    }
}

pub(super) fn unparsed(hearer: &mut dyn Hearer, reason: UnparsedReason, count: u64) {
    if count > 0 {
        hearer.unparsed(reason, count);
    }
}
