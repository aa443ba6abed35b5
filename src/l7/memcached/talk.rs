//! Which reply is whose.
use super::{
    command,
    reply::Said,
    verb::{Command, Kind},
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
    command: Command,
    asked: Option<Box<Asked>>,
}

#[derive(Default)]
pub(super) struct Talk {
    unanswered: Unanswered<Request>,
    /// Of them those that must have one; of these those that make quiet ones speak, and never fail; and the other meta
    /// commands.
    loud: u64,
    noops: u64,
    metas: u64,
    /// A quiet one had an answer that may have been a later one's.
    blurred: bool,
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

    pub(super) fn waits(&self) -> bool {
        !self.unanswered.is_empty()
    }

    pub(super) fn buffered(&self) -> usize {
        self.unanswered.entries() * size_of::<(u64, Request, u32)>()
    }

    pub(super) fn take_over(&mut self, asked_ns: u64, pending: u32) {
        *self = Self::default();
        self.unanswered.push_many(asked_ns, Request::default(), pending);
        self.loud = u64::from(pending);
        self.has_asked = pending > 0;
        self.fits = pending > 0;
    }

    pub(super) fn asks(&mut self, said: command::Said, hearer: &mut dyn Hearer) {
        self.has_asked = true;
        let command = said.command;
        if command.kind == Kind::Quit {
            return;
        }
        if command.silent {
            return hearer.unparsed(UnparsedReason::Unsupported, 1);
        }
        while self.unanswered.entries() >= MAX_UNANSWERED && self.front().is_some_and(|front| front.quiet) {
            self.pop_quiet(hearer);
        }
        if self.over || self.unanswered.entries() >= MAX_UNANSWERED {
            self.over = true;
            return hearer.unparsed(UnparsedReason::Crowded, 1);
        }
        let asked = said.asked.filter(|_| self.unanswered.entries() < MAX_SHOWN);
        if !command.quiet {
            self.loud += 1;
            self.noops += u64::from(command.kind == Kind::MetaOther);
            self.metas += u64::from(is_meta(&command));
        }
        self.unanswered.push(said.asked_ns, Request { command, asked });
    }

    fn front(&self) -> Option<Command> {
        self.unanswered.front().map(|(_, request)| request.command)
    }

    fn pop(&mut self) -> Option<(u64, Request)> {
        let popped = self.unanswered.pop();
        if let Some((_, request)) = &popped
            && !request.command.quiet
        {
            self.loud -= 1;
            self.noops -= u64::from(request.command.kind == Kind::MetaOther);
            self.metas -= u64::from(is_meta(&request.command));
        }
        popped
    }

    /// It went well, and nothing was said about it.
    fn pop_quiet(&mut self, hearer: &mut dyn Hearer) {
        self.pop();
        hearer.unparsed(UnparsedReason::Unsupported, 1);
    }

    /// A segment begins with a command. Most clients have all their answers then: where it is not certain whose they were,
    /// what is still unanswered never will be.
    pub(super) fn settle(&mut self, server_lost: bool, hearer: &mut dyn Hearer) {
        if std::mem::take(&mut self.blurred) {
            self.drop_unanswered(UnparsedReason::Unsupported, 0, hearer);
        }
        let Some(reason) = self.hole.filter(|_| server_lost || self.settles) else {
            return;
        };
        self.drop_unanswered(reason, 0, hearer);
        if !server_lost {
            self.hole = None;
            self.settles = false;
        }
    }

    /// Quiet ones may have had no answer to lose.
    fn drop_unanswered(&mut self, reason: UnparsedReason, at_least: u64, hearer: &mut dyn Hearer) {
        let mut lost = 0;
        let mut quiet = 0;
        while let Some((_, request)) = self.pop() {
            if request.command.quiet {
                quiet += 1;
            } else {
                lost += 1;
            }
        }
        for (reason, count) in [(reason, at_least.max(lost)), (UnparsedReason::Unsupported, quiet)] {
            if count > 0 {
                hearer.unparsed(reason, count);
            }
        }
    }

    pub(super) fn client_missed(&mut self, reason: UnparsedReason) {
        self.hole = Some(reason);
        self.had_holes = true;
        self.settles = false;
    }

    /// `again`: where a reply begins was not known before either.
    pub(super) fn server_missed(&mut self, reason: UnparsedReason, again: bool, hearer: &mut dyn Hearer) {
        self.drop_unanswered(reason, u64::from(!again), hearer);
        self.client_missed(reason);
        self.fits = false;
    }

    /// Replies may be among what makes no sense.
    pub(super) fn astray(&mut self) {
        self.client_missed(self.hole.unwrap_or(UnparsedReason::Gap));
    }

    /// What is lost of the client may be a command that is answered now.
    pub(super) fn hears_of_lost_client(&mut self) {
        self.settles = false;
    }

    pub(super) fn answered(&mut self, said: Said, replied_ns: u64, hearer: &mut dyn Hearer) {
        if matches!(said, Said::Binary(header) if header.says_goodbye()) {
            return;
        }
        // What fails is rather one that must have a reply.
        let is_loud = said == Said::Failed && self.loud > self.noops;
        while let Some(front) = self.front()
            && front.quiet
            && (is_loud || !may_answer(&front, said))
        {
            self.pop_quiet(hearer);
        }
        let is_its = self.front().is_some_and(|front| {
            let is_binary = front.kind == Kind::Binary && matches!(said, Said::Binary(_));
            !is_binary || may_answer(&front, said)
        });
        let Some((asked_ns, request)) = is_its.then(|| self.pop()).flatten() else {
            if self.has_asked && !self.had_holes {
                hearer.unparsed(UnparsedReason::Unasked, 1);
            }
            return;
        };
        let command = request.command;
        self.fits |= self.hole.is_none();
        self.settles = self.hole.is_some();
        self.blurred = self.metas > 0 && (self.blurred || command.quiet && command.kind != Kind::Binary);
        let failed = match said {
            Said::Failed => true,
            Said::Binary(header) => header.failed(),
            _ => false,
        };
        hearer.exchanged(Exchange {
            asked_ns,
            replied_ns,
            status: if failed { Status::Failed } else { Status::Ok },
            asked: request.asked.map(|asked| *asked),
        });
        if command.kind == Kind::Watch && !failed {
            self.over = true;
            self.end(hearer);
        }
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

fn is_meta(command: &Command) -> bool {
    matches!(
        command.kind,
        Kind::MetaGet | Kind::MetaSet | Kind::MetaDelete | Kind::MetaArithmetic
    )
}

/// Of a quiet command, or a binary one.
fn may_answer(command: &Command, said: Said) -> bool {
    match (command.kind, said) {
        (Kind::Binary, Said::Binary(header)) => (header.opcode, header.opaque) == (command.opcode, command.opaque),
        (_, Said::Failed) => true,
        (Kind::Binary, _) => false,
        (Kind::MetaGet, _) => matches!(said, Said::Value | Said::Done | Said::Miss),
        (Kind::MetaSet | Kind::MetaDelete, _) => {
            matches!(said, Said::Done | Said::NotFound | Said::NotStored | Said::Exists)
        }
        (Kind::MetaArithmetic, _) => matches!(
            said,
            Said::Done | Said::Value | Said::NotFound | Said::NotStored | Said::Exists
        ),
        _ => true,
    }
}
