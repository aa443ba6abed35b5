//! Memcached, as text, with its meta commands, and binary.
//!
//! A command and the first line of its reply, or its header, are an exchange, in their order.
//!
//! | what is said | what it counts as |
//! | --- | --- |
//! | a line, with the data that belong to it; a binary message | a command |
//! | `ERROR`, `CLIENT_ERROR`, `SERVER_ERROR` | a reply that has failed |
//! | any other line: `END`, `EN`, `NOT_FOUND`, `EXISTS` and `NOT_STORED` too | a reply |
//! | a binary answer | a reply. It has failed, unless its status is one of those, or a log-in goes on |
//! | values, statistics and whatever else goes on up to an `END` | one reply; an error may end it |
//! | a command with `noreply` | unsupported, each: it has no reply |
//! | `quit`, `Quit` and its answer, `QuitQ` | nothing |
//! | a command with the flag `q`, or whose binary opcode is quiet | a command, if it has a reply, else unsupported |
//! | `watch` | a command. When it is granted, what follows is a log, and nothing |
//! | a reply before any command | nothing |
//! | a reply when none is due | unasked, on a connection without holes |
//! | no command, no reply | malformed, and the end |
//!
//! That a quiet command has no reply shows when there is one that cannot be its own. A binary one is told by what it
//! repeats, a meta command by its sort: of several, the first is taken for it. Only when one behind them must have a reply
//! of the same sort can that be wrong, and then the client's next segment that begins with a command ends it.
//!
//! Connections are older than the agent, and bytes are missing. Where a side is not understood, a message is looked for at
//! each begin of a segment, and not to find one there is no error. What claims more than 1 MiB of data there is none. A hole
//! within data of known length is none. Another one counts once; and of the pairing, so that it is not shifted for ever:
//!
//! | missing | what comes of those that are unanswered |
//! | --- | --- |
//! | some of what the client said | they are answered in their order; replies to what is missing find nobody, and are nothing |
//! | some of what the server said | they are lost, each: who had a reply nobody knows. The next one is looked for when a segment has begun with a command |
//! | either, when both sides are understood and a reply was heard again | the next segment that begins with a command ends it: whoever is unanswered then is lost |
mod binary;
mod command;
mod line;
mod reply;
mod talk;
mod verb;

use super::dialogue::{Dialogue, Handover, Hearer, Piece, Side};
use crate::decode::UnparsedReason;
use command::Commands;
use reply::Replies;
use talk::Talk;

pub struct Memcached {
    commands: Commands,
    replies: Replies,
    talk: Talk,
}

impl Memcached {
    pub fn new() -> Self {
        Self {
            commands: Commands::new(),
            replies: Replies::new(),
            talk: Talk::default(),
        }
    }

    fn client(&mut self, piece: &Piece<'_>, hearer: &mut dyn Hearer) {
        let (replies, talk) = (&mut self.replies, &mut self.talk);
        let how = (talk.is_settled(), hearer.watches());
        let read = self.commands.read(piece, how, &mut |said| {
            if !talk.has_asked() && replies.is_within() {
                replies.start();
            }
            if said.starts {
                talk.settle(replies.is_lost(), hearer);
                replies.expect();
            }
            talk.asks(said, hearer);
        });
        if read.is_err() {
            self.talk.give_up(UnparsedReason::Malformed, hearer);
        }
    }

    fn server(&mut self, piece: &Piece<'_>, hearer: &mut dyn Hearer) {
        if self.replies.read(piece, &mut self.talk, hearer).is_err() {
            self.talk.give_up(UnparsedReason::Malformed, hearer);
        }
        if self.commands.is_lost() {
            self.talk.hears_of_lost_client();
        }
    }

    fn leave(&mut self, hearer: &mut dyn Hearer) {
        if self.is_over() {
            self.talk.end(hearer);
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        self.commands = Commands::new();
        self.replies = Replies::new();
    }
}

impl Default for Memcached {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialogue for Memcached {
    fn hear(&mut self, side: Side, piece: &Piece<'_>, hearer: &mut dyn Hearer) {
        if self.is_over() || piece.bytes.is_empty() {
            return;
        }
        match side {
            Side::Client => self.client(piece, hearer),
            Side::Server => self.server(piece, hearer),
        }
        self.leave(hearer);
    }

    fn miss(&mut self, side: Side, bytes: u64, reason: UnparsedReason, hearer: &mut dyn Hearer) {
        if self.is_over() || bytes == 0 {
            return;
        }
        let (commands, replies, talk) = (&mut self.commands, &mut self.replies, &mut self.talk);
        match side {
            Side::Client => {
                if commands.miss(bytes, &mut |said| talk.asks(said, hearer)) {
                    talk.client_missed(reason);
                    hearer.unparsed(reason, 1);
                }
            }
            Side::Server => {
                let again = replies.is_lost();
                if replies.miss(bytes) {
                    talk.server_missed(reason, again, hearer);
                }
            }
        }
        self.leave(hearer);
    }

    fn expects_reply(&self) -> bool {
        self.talk.waits() || self.replies.is_within()
    }

    fn is_over(&self) -> bool {
        self.talk.is_over()
    }

    fn take_over(&mut self, from: Handover) {
        self.commands.take_over(from.rest);
        self.replies.take_over(from.pending == 0);
        self.talk.take_over(from.asked_ns, from.pending);
    }

    fn end(&mut self, hearer: &mut dyn Hearer) {
        if !self.is_over() && self.commands.is_nonsense() {
            hearer.unparsed(UnparsedReason::Malformed, 1);
        }
        self.talk.end(hearer);
        self.let_go();
    }

    fn buffered(&self) -> usize {
        self.commands.buffered() + self.replies.buffered() + self.talk.buffered()
    }
}

#[cfg(test)]
mod tests;
