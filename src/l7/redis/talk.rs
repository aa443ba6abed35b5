//! Which reply is whose.
use super::{
    command::Command,
    verb::{self, Kind, Subscription, Topic, Voice},
};
use crate::{
    decode::UnparsedReason,
    l7::dialogue::{Asked, Exchange, Hearer, Status, Unanswered},
};

/// Entries. A client that asks so much and hears nothing is not one.
pub(super) const MAX_UNANSWERED: usize = 65_536;
/// Of them keep what was asked.
const MAX_SHOWN: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq)]
struct Request {
    kind: Kind,
    asked: Option<Box<Asked>>,
}

/// Channels of a command that the server has not spoken of yet.
struct More {
    subscription: Subscription,
    /// As it spoke of the first one.
    push: bool,
    /// `None`: nobody knows how many, but each is one less than `last`.
    left: Option<u64>,
    last: i64,
}

#[derive(Default)]
pub(super) struct Talk {
    unanswered: Unanswered<Request>,
    voice: Option<Voice>,
    more: Option<More>,
    /// In RESP2, where news look like answers.
    on_channels: bool,
    on_shards: bool,
    /// It was asked for when the server was silent: some say then that it is granted, and some do not.
    may_listen: bool,
    monitors: bool,
    has_asked: bool,
    /// A reply was a command's, and nothing was missing.
    fits: bool,
    /// Something is missing, and who waits for what is not certain since.
    hole: Option<UnparsedReason>,
    had_holes: bool,
    /// After it both sides were understood again.
    settles: bool,
    over: bool,
}

impl Talk {
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn fits(&self) -> bool {
        self.fits
    }

    pub(super) fn is_settled(&self) -> bool {
        self.hole.is_none()
    }

    pub(super) fn has_asked(&self) -> bool {
        self.has_asked
    }

    pub(super) fn monitors(&self) -> bool {
        self.monitors
    }

    pub(super) fn waits(&self) -> bool {
        !self.unanswered.is_empty()
    }

    pub(super) fn syncs(&self) -> bool {
        self.front() == Some(Kind::Sync)
    }

    pub(super) fn buffered(&self) -> usize {
        self.unanswered.entries() * size_of::<(u64, Request, u32)>()
    }

    fn front(&self) -> Option<Kind> {
        self.unanswered.front().map(|(_, request)| request.kind)
    }

    pub(super) fn take_over(&mut self, asked_ns: u64, pending: u32) {
        let kind = Kind::Unknown;
        *self = Self::default();
        self.unanswered
            .push_many(asked_ns, Request { kind, asked: None }, pending);
        self.has_asked = pending > 0;
        self.fits = pending > 0;
    }

    pub(super) fn asks(&mut self, command: &Command<'_>, watched: bool, hearer: &mut dyn Hearer) {
        self.has_asked = true;
        let kind = Kind::of(&command.words);
        if !self.is_answered(kind, command) {
            self.may_listen |= matches!(kind, Kind::Subscription(..));
            return hearer.unparsed(UnparsedReason::Unsupported, 1);
        }
        if self.over || self.unanswered.entries() >= MAX_UNANSWERED {
            self.over = true;
            return hearer.unparsed(UnparsedReason::Crowded, 1);
        }
        let shows = watched && self.unanswered.entries() < MAX_SHOWN;
        let asked = shows.then(|| Box::new(verb::asked(&command.words, hearer.watches_text())));
        self.unanswered.push(command.asked_ns, Request { kind, asked });
    }

    fn is_answered(&mut self, kind: Kind, command: &Command<'_>) -> bool {
        let wanted = Voice::of(&command.words);
        if kind == Kind::Reset || wanted == Some(Voice::On) {
            self.voice = None;
            return true;
        }
        match (self.voice, wanted) {
            (Some(Voice::Off), _) => false,
            (_, Some(Voice::Off | Voice::Skip)) => {
                self.voice = wanted;
                false
            }
            (Some(_), _) => {
                self.voice = None;
                false
            }
            (None, _) => true,
        }
    }

    /// A segment begins with a command. Most clients have all their answers then: after a hole, what is still unanswered
    /// never will be.
    pub(super) fn settle(&mut self, server_lost: bool, hearer: &mut dyn Hearer) {
        let Some(reason) = self.hole.filter(|_| server_lost || self.settles) else {
            return;
        };
        self.drop_unanswered(reason, 0, hearer);
        if !server_lost {
            self.hole = None;
            self.settles = false;
        }
    }

    fn drop_unanswered(&mut self, reason: UnparsedReason, at_least: u64, hearer: &mut dyn Hearer) {
        let count = self.unanswered.clear().max(at_least);
        if count > 0 {
            hearer.unparsed(reason, count);
        }
    }

    pub(super) fn client_missed(&mut self, reason: UnparsedReason) {
        self.hole = Some(reason);
        self.had_holes = true;
        self.settles = false;
    }

    /// `again`: where a reply begins was not known before either.
    pub(super) fn server_missed(&mut self, reason: UnparsedReason, again: bool, hearer: &mut dyn Hearer) {
        // News may be all that is missing.
        let at_least = u64::from(!again && !self.monitors && !self.on_channels && !self.on_shards);
        self.drop_unanswered(reason, at_least, hearer);
        self.client_missed(reason);
        self.more = None;
        self.fits = false;
    }

    /// Replies may be among what makes no sense.
    pub(super) fn astray(&mut self) {
        self.client_missed(self.hole.unwrap_or(UnparsedReason::Gap));
    }

    pub(super) fn answered(&mut self, first: u8, replied_ns: u64, hearer: &mut dyn Hearer) {
        self.answer(first, 0, replied_ns, hearer);
    }

    /// A line, by its first letter.
    pub(super) fn said(&mut self, letter: u8, replied_ns: u64, hearer: &mut dyn Hearer) {
        self.answer(b'+', letter, replied_ns, hearer);
    }

    fn answer(&mut self, first: u8, letter: u8, replied_ns: u64, hearer: &mut dyn Hearer) {
        self.more = None;
        let Some((asked_ns, request)) = self.unanswered.pop() else {
            return self.unasked(hearer);
        };
        self.fits |= self.hole.is_none();
        self.settles = self.hole.is_some();
        let failed = matches!(first, b'-' | b'!');
        hearer.exchanged(Exchange {
            asked_ns,
            replied_ns,
            status: if failed { Status::Failed } else { Status::Ok },
            asked: request.asked.map(|asked| *asked),
        });
        match request.kind {
            Kind::Monitor if letter == b'O' => self.monitors = true,
            Kind::Reset if !failed => {
                self.monitors = false;
                self.on_channels = false;
                self.on_shards = false;
            }
            Kind::Sync if !failed => {
                self.over = true;
                self.end(hearer);
            }
            _ => {}
        }
    }

    fn unasked(&mut self, hearer: &mut dyn Hearer) {
        if self.voice == Some(Voice::Off) {
            // It goes on, so it has refused to be silent.
            self.voice = None;
        } else if self.has_asked && !self.had_holes {
            hearer.unparsed(UnparsedReason::Unasked, 1);
        }
    }

    /// What is lost of the client may be a command that is answered now.
    pub(super) fn hears_of_lost_client(&mut self) {
        self.settles = false;
    }

    /// A line is what another client has said: a time comes first.
    pub(super) fn is_monitored(&mut self, letter: u8) -> bool {
        if !letter.is_ascii_digit() || !(self.monitors || self.unanswered.is_empty()) {
            return false;
        }
        self.monitors = true;
        true
    }

    /// An array or a push may be no answer, or that to a subscription.
    pub(super) fn may_be_news(&self, push: bool) -> bool {
        let subscribes = matches!(self.front(), Some(Kind::Subscription(..) | Kind::Unknown));
        let listens = self.unanswered.is_empty() || self.may_listen || self.on_channels || self.on_shards;
        let goes_on = self.more.as_ref().is_some_and(|more| more.push == push);
        subscribes || goes_on || (listens && !push)
    }

    /// An array is called so. Whether it is one.
    pub(super) fn message(&mut self, shard: bool) -> bool {
        if self.front() == Some(Kind::Unknown) && !self.on_channels && !self.on_shards {
            return false;
        }
        if shard {
            self.on_shards = true;
        } else {
            self.on_channels = true;
        }
        true
    }

    /// `count`: how many channels are left, of all topics but shards.
    pub(super) fn confirmed(
        &mut self,
        subscription: Subscription,
        is_null: bool,
        count: i64,
        (push, replied_ns): (bool, u64),
        hearer: &mut dyn Hearer,
    ) {
        match subscription.topic {
            _ if push => {}
            Topic::Channel | Topic::Pattern => self.on_channels = count > 0,
            Topic::Shard => self.on_shards = count > 0,
        }
        if self.is_of_more(subscription, is_null, count) {
            return;
        }
        let more = match self.front() {
            Some(Kind::Subscription(asked, channels)) if asked == subscription => match channels {
                Some(channels) => (channels > 1).then(|| Some(channels - 1)),
                None => (!is_null && count > 0).then_some(None),
            },
            Some(Kind::Unknown) => None,
            // A server may say so on its own, when a shard goes elsewhere.
            _ => return,
        };
        self.answered(b'*', replied_ns, hearer);
        self.more = more.map(|left| More {
            subscription,
            push,
            left,
            last: count,
        });
    }

    fn is_of_more(&mut self, subscription: Subscription, is_null: bool, count: i64) -> bool {
        let Some(more) = self.more.as_mut().filter(|more| more.subscription == subscription) else {
            return false;
        };
        let ends = match &mut more.left {
            Some(left) => {
                *left -= 1;
                *left == 0
            }
            None if is_null || count >= more.last => return false,
            None => count <= 0,
        };
        more.last = count;
        if ends {
            self.more = None;
        }
        true
    }

    /// Nothing can be made of it.
    pub(super) fn give_up(&mut self, reason: UnparsedReason, hearer: &mut dyn Hearer) {
        self.over = true;
        hearer.unparsed(reason, 1);
        self.end(hearer);
    }

    pub(super) fn end(&mut self, hearer: &mut dyn Hearer) {
        self.drop_unanswered(UnparsedReason::Unanswered, 0, hearer);
    }
}
