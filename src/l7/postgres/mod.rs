//! PostgreSQL, protocol 3.
//!
//! What counts, and what answers it:
//!
//! | asked | counts as | told of at | fails with |
//! | --- | --- | --- | --- |
//! | `Q`uery, of any number of statements, `COPY` too | one | `Z` | an `E` before it |
//! | `F`unctionCall | one | `Z` | the same |
//! | `E`xecute | one | the next answer after its `C`, `s` or `I`, for the commit at `Sync` may fail | its `E`, an earlier one of its batch, or one at its `Sync` |
//! | `P`arse, `B`ind, `D`escribe up to a `S`ync without any `E`xecute | one | `Z` | an `E` before it |
//! | `C`lose, Flush, `S`ync alone; Copy…, Terminate, passwords | none | | |
//! | an opening packet, a login | none | | |
//!
//! A request begins with its first byte; for an `E`xecute that is the first `P`, `B`, `D` or `C` before it that was not yet
//! answered (those in front of a Flush may be). Its reply begins with the first message that answers any of that. `N`, `S`
//! and `A` answer nothing, and an `E` while nothing is asked is the server's goodbye. While the server takes the data of a
//! `COPY`, a `Sync` has no answer, so it counts as never said.
//!
//! Every `Q`, `F` and `Sync` has one `Z`, in their order. What was missed makes that doubtful:
//!
//! | missing | so |
//! | --- | --- |
//! | a part of a message whose length is known | nothing but that part |
//! | anything else of the client | requests, nobody knows how many, are one `unparsed`; the batch at hand is what is heard of it |
//! | anything else of the server | who waits may have been answered. A result that is heard answers the first that waits; a `Z` without a result that was heard makes it unparsed |
//! | | When the client asks again after the server was heard of, and the last of that was a `Z` or was missed, then the client is taken to have waited, and everything older is unparsed. They agree again at the `Z` after which nothing waits |
//! | the place where a message begins | it is looked for at the begins of segments: the first one that holds messages and nothing else, as far as it goes. Until four are seen in a row, nonsense means that they were none, and so does a segment of whole ones amid one of them |
//!
//! A client that never waits may so be told of a neighbour's result, until it does wait once. It is never told more than it
//! has asked.
mod message;
mod pairs;
pub mod sql;
mod stream;
mod texts;

use super::dialogue::{Dialogue, Handover, Hearer, Piece, Side};
use crate::decode::UnparsedReason;
use message::{CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST};
use pairs::{Crowded, Pairs};
use stream::{Event, Missed, Stream};
use texts::{Capture, Texts};

pub struct Postgres {
    client: Stream,
    server: Stream,
    /// The server's next byte says whether what follows is encrypted.
    negotiates: bool,
    /// Of the client, with its time.
    message: Option<(u8, u64)>,
    capture: Capture,
    texts: Option<Box<Texts>>,
    pairs: Pairs,
    over: bool,
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

impl Postgres {
    pub fn new() -> Self {
        Self {
            client: Stream::new(Side::Client),
            server: Stream::new(Side::Server),
            negotiates: false,
            message: None,
            capture: Capture::default(),
            texts: None,
            pairs: Pairs::new(),
            over: false,
        }
    }

    fn client(&mut self, event: Event<'_>, hearer: &mut dyn Hearer) {
        match event {
            Event::Opening { code, time_ns } => {
                self.message = None;
                self.server.is_begun();
                match code {
                    CANCEL_REQUEST => self.over = true,
                    SSL_REQUEST | GSSENC_REQUEST => self.negotiates = true,
                    _ => self.pairs.log_in(time_ns),
                }
            }
            Event::Message { kind, time_ns } => {
                self.message = Some((kind, time_ns));
                if hearer.watches() {
                    self.capture.begin(kind);
                    let wants_text = hearer.watches_text();
                    // What was kept when more was wanted goes.
                    if self.texts.as_ref().is_none_or(|texts| texts.wants_text() != wants_text) {
                        self.texts = Some(Box::new(Texts::new(wants_text)));
                    }
                } else if self.texts.take().is_some() {
                    self.capture.forget();
                }
            }
            Event::Body(body) => self.capture.add(body),
            Event::End => self.ask(hearer),
            // What was missed before that is told of.
            Event::Passed => self.lose(Side::Client, UnparsedReason::Gap, true, hearer),
            Event::Mistaken => self.lose(Side::Client, UnparsedReason::Gap, false, hearer),
            Event::Nonsense => self.fall_silent(hearer),
        }
    }

    fn ask(&mut self, hearer: &mut dyn Hearer) {
        let Some((kind, time_ns)) = self.message.take() else {
            return;
        };
        let text = self
            .texts
            .as_mut()
            .and_then(|texts| texts.of(kind, self.capture.bytes()));
        if let Err(Crowded) = self.pairs.ask(kind, time_ns, text, hearer) {
            self.finish();
        }
    }

    fn server(&mut self, event: &Event<'_>, hearer: &mut dyn Hearer) {
        match *event {
            Event::Message { kind, time_ns } => self.pairs.reply(kind, time_ns, hearer),
            Event::Opening { .. } | Event::Body(_) | Event::End => {}
            Event::Passed | Event::Mistaken => self.lose(Side::Server, UnparsedReason::Gap, true, hearer),
            Event::Nonsense => self.fall_silent(hearer),
        }
        if !self.over && !self.server.is_sure() {
            self.pairs.murmurs();
        }
    }

    /// Its answer to who asks for encryption is no message.
    fn negotiate(&mut self, rest: &mut &[u8], hearer: &mut dyn Hearer) {
        let Some((answer, after)) = rest.split_first() else {
            return;
        };
        self.negotiates = false;
        match answer {
            b'N' => *rest = after,
            b'S' | b'G' => self.finish(),
            // An old server does not know the question, or a full one does not listen.
            b'E' => {}
            _ => self.fall_silent(hearer),
        }
    }

    fn lose(&mut self, side: Side, reason: UnparsedReason, more: bool, hearer: &mut dyn Hearer) {
        match side {
            Side::Client => self.message = None,
            Side::Server => self.negotiates = false,
        }
        self.pairs.missed(side, reason, more, hearer);
    }

    /// This is not what it was taken for.
    fn fall_silent(&mut self, hearer: &mut dyn Hearer) {
        self.pairs.give_up(UnparsedReason::Unanswered, 0, hearer);
        hearer.unparsed(UnparsedReason::Malformed, 1);
        self.finish();
    }

    fn finish(&mut self) {
        *self = Self {
            over: true,
            ..Self::new()
        };
    }
}

impl Dialogue for Postgres {
    fn hear(&mut self, side: Side, piece: &Piece<'_>, hearer: &mut dyn Hearer) {
        let mut rest = piece.bytes;
        if self.negotiates && side == Side::Server {
            self.negotiate(&mut rest, hearer);
        }
        while !self.over {
            match side {
                Side::Client => match self.client.next(&mut rest, piece) {
                    Some(event) => self.client(event, hearer),
                    None => return,
                },
                Side::Server => match self.server.next(&mut rest, piece) {
                    Some(event) => self.server(&event, hearer),
                    None => return,
                },
            }
        }
    }

    fn immaterial(&self, side: Side) -> u64 {
        match side {
            _ if self.over => 0,
            Side::Client => self.client.immaterial(),
            Side::Server => self.server.immaterial(),
        }
    }

    fn miss(&mut self, side: Side, bytes: u64, reason: UnparsedReason, hearer: &mut dyn Hearer) {
        if self.over || bytes == 0 {
            return;
        }
        let stream = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let missed = stream.miss(bytes);
        let nothing = Piece {
            time_ns: 0,
            bytes: &[],
            starts: false,
        };
        if side == Side::Client {
            self.capture.stop();
        }
        // The end of a message may have been in it.
        self.hear(side, &nothing, hearer);
        if missed != Missed::Nothing && !self.over {
            self.lose(side, reason, missed == Missed::Again, hearer);
        }
    }

    fn expects_reply(&self) -> bool {
        !self.over && (self.negotiates || self.pairs.expects_reply() || self.server.has_begun_message())
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn take_over(&mut self, from: Handover) {
        self.client.stand(from.rest);
        self.pairs.take_over(from.pending, from.asked_ns);
        if from.pending > 0 {
            self.server.stand(0);
        } else {
            // Clients that the kernel could count wait for the end of a reply.
            self.server.align();
        }
    }

    fn end(&mut self, hearer: &mut dyn Hearer) {
        self.pairs.give_up(UnparsedReason::Unanswered, 0, hearer);
        self.finish();
    }

    fn buffered(&self) -> usize {
        let texts = self.texts.as_ref().map_or(0, |texts| texts.buffered());
        self.client.buffered() + self.server.buffered() + self.capture.buffered() + texts + self.pairs.buffered()
    }
}

#[cfg(test)]
mod tests;
