//! Redis, RESP2 and RESP3.
//!
//! A command and the first line of its reply are an exchange, in their order.
//!
//! | what is said | what it counts as |
//! | --- | --- |
//! | an array of strings, a line | a command |
//! | an empty array, an empty line | nothing |
//! | `-` and `!` | a reply that has failed; within another value it is a part of that |
//! | any other value, `+QUEUED` and `EXEC`'s too | a reply |
//! | a push | nothing, unless it answers a subscription |
//! | an attribute | nothing: the reply follows |
//! | `SUBSCRIBE` and its kin | a command. The first channel's answer is its reply, the others' nothing |
//! | news of a channel, in RESP2 an array called `message` and the like | nothing |
//! | `MONITOR` | a command, answered by its `+OK`. The lines that follow are nothing: they begin with a digit |
//! | `CLIENT REPLY OFF` and `SKIP`, and whatever is not answered because of them | unsupported, each |
//! | `SYNC`, `PSYNC` | a command. When it is granted, what follows is a replica's, and nothing |
//! | a reply before any command | nothing |
//! | a reply when none is due | unasked, on a connection without holes |
//! | no value, no command | malformed, and the end |
//! | streamed values, more than 32 levels of them | unsupported, and the end |
//!
//! Connections are older than the agent, and bytes are missing. Where a side is not understood, a message is looked for at
//! each begin of a segment, and not to find one there is no error. A hole within a string of known length is none. Another
//! one counts once; and of the pairing, so that it is not shifted for ever:
//!
//! | missing | what comes of those that are unanswered |
//! | --- | --- |
//! | some of what the client said | they are answered in their order; replies to what is missing find nobody, and are nothing |
//! | some of what the server said | they are lost, each: who had a reply nobody knows. The next one is looked for when a segment has begun with a command |
//! | either, when both sides are understood and a reply was heard again | the next segment that begins with a command ends it: whoever is unanswered then is lost |
//!
//! Clients that wait for all replies before they go on are right again at once. With others more replies may be due than
//! are waited for, never fewer: that ends when nothing is due.
mod command;
mod number;
mod reply;
mod talk;
mod verb;

use super::dialogue::{Dialogue, Handover, Hearer, Piece, Side};
use crate::decode::UnparsedReason;
use command::{Command, Commands};
use reply::Replies;
use talk::Talk;

pub struct Redis {
    commands: Commands,
    replies: Replies,
    talk: Talk,
}

impl Redis {
    pub fn new() -> Self {
        Self {
            commands: Commands::new(),
            replies: Replies::new(),
            talk: Talk::default(),
        }
    }

    fn client(&mut self, piece: &Piece<'_>, hearer: &mut dyn Hearer) {
        let watched = hearer.watches();
        let (replies, talk) = (&mut self.replies, &mut self.talk);
        let settled = talk.is_settled();
        let read = self.commands.read(piece, settled, &mut |command| {
            ask(&command, watched, replies, talk, hearer);
        });
        if let Err(trouble) = read {
            self.talk.give_up(trouble.into(), hearer);
        }
    }

    fn server(&mut self, piece: &Piece<'_>, hearer: &mut dyn Hearer) {
        if let Err(trouble) = self.replies.read(piece, &mut self.talk, hearer) {
            self.talk.give_up(trouble.into(), hearer);
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

fn ask(command: &Command<'_>, watched: bool, replies: &mut Replies, talk: &mut Talk, hearer: &mut dyn Hearer) {
    if !talk.has_asked() && replies.is_within() {
        replies.start();
    }
    if command.starts {
        talk.settle(replies.is_lost(), hearer);
        replies.expect();
    }
    talk.asks(command, watched, hearer);
}

impl Default for Redis {
    fn default() -> Self {
        Self::new()
    }
}

impl Dialogue for Redis {
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

    fn immaterial(&self, side: Side) -> u64 {
        match side {
            _ if self.is_over() => 0,
            Side::Client => self.commands.immaterial(),
            // Those that may be replies of something else are looked at.
            Side::Server if self.talk.fits() => self.replies.immaterial(),
            Side::Server => 0,
        }
    }

    fn miss(&mut self, side: Side, bytes: u64, reason: UnparsedReason, hearer: &mut dyn Hearer) {
        if self.is_over() || bytes == 0 {
            return;
        }
        let (commands, replies, talk) = (&mut self.commands, &mut self.replies, &mut self.talk);
        match side {
            Side::Client => {
                let watched = hearer.watches();
                let told = commands.miss(bytes, &mut |command| ask(&command, watched, replies, talk, hearer));
                if told {
                    talk.client_missed(reason);
                    hearer.unparsed(reason, 1);
                }
            }
            Side::Server => {
                let again = replies.is_lost();
                if replies.miss(bytes, talk, hearer) {
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
