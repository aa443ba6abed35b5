//! HTTP/1.0 and 1.1, from what both ends say.
//!
//! A request is known by its first line, and has its reply with the status line of one that is not interim. Nothing of a body
//! is kept, and of a head only what the next piece may continue.
//!
//! Where a connection was there before anybody looked, the first words of either side may be of the middle of a message: they
//! are passed over. Once both have said something of that kind, it is no HTTP.
mod asked;
mod chunks;
mod head;
mod pairing;
mod sides;
mod stream;

use super::dialogue::{Dialogue, Handover, Hearer, Piece, Side};
use crate::decode::UnparsedReason;
use pairing::{Method, Pairing, Sent, unparsed};
use sides::{Replies, Reply, Requests};
use stream::{Missed, Stream};

/// Entries of requests without a reply. No client sends as many ahead.
const MAX_UNANSWERED: usize = 4096;

/// Pieces of a side in none of which a message was found: a body of gigabytes has fewer.
const MAX_STRANGE: u32 = 1 << 16;

/// Why nothing follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The connection goes on, with another protocol.
    Switched,
    Malformed,
    Unsupported,
    Crowded,
}

pub struct Http {
    client: Stream,
    server: Stream,
    pairing: Pairing,
    last: Method,
    reply: Reply,
    over: bool,
}

impl Http {
    #[expect(clippy::new_without_default, reason = "as other protocols' connections")]
    pub fn new() -> Self {
        Self {
            client: Stream::new(),
            server: Stream::new(),
            pairing: Pairing::default(),
            last: Method::Other,
            reply: Reply::NONE,
            over: false,
        }
    }

    fn requests<'a>(&'a mut self, hearer: &'a mut dyn Hearer) -> (&'a mut Stream, Requests<'a>) {
        let requests = Requests {
            pairing: &mut self.pairing,
            last: &mut self.last,
            hearer,
        };
        (&mut self.client, requests)
    }

    fn replies<'a>(&'a mut self, hearer: &'a mut dyn Hearer) -> (&'a mut Stream, Replies<'a>) {
        let replies = Replies {
            pairing: &mut self.pairing,
            reply: &mut self.reply,
            hearer,
        };
        (&mut self.server, replies)
    }

    fn is_known(&self) -> bool {
        self.client.is_confirmed() || self.server.is_confirmed()
    }

    /// It is not HTTP that is spoken here.
    fn is_foreign(&self) -> bool {
        let endless = |side: &Stream| !side.is_confirmed() && side.strange() > MAX_STRANGE;
        let both = self.client.strange() > 0 && self.server.strange() > 0;
        both && !self.is_known() && !self.pairing.is_shaken() || endless(&self.client) || endless(&self.server)
    }

    /// The side's words end the dialogue.
    fn finish(&mut self, side: Side, end: End, hearer: &mut dyn Hearer) {
        let begun = side == Side::Client && self.client.is_past_first_line();
        let left = self.pairing.clear();
        match end {
            End::Switched => unparsed(hearer, UnparsedReason::Unanswered, left),
            End::Crowded => unparsed(hearer, UnparsedReason::Crowded, left),
            End::Malformed | End::Unsupported => {
                let unsupported = end == End::Unsupported;
                let reason = if unsupported {
                    UnparsedReason::Unsupported
                } else {
                    UnparsedReason::Malformed
                };
                hearer.unparsed(reason, 1);
                // The request that it is of has been counted with that.
                unparsed(
                    hearer,
                    UnparsedReason::Unanswered,
                    left.saturating_sub(u64::from(begun)),
                );
            }
        }
        *self = Self {
            over: true,
            ..Self::new()
        };
    }
}

impl Dialogue for Http {
    fn hear(&mut self, side: Side, piece: &Piece<'_>, hearer: &mut dyn Hearer) {
        if self.over {
            return;
        }
        let heard = match side {
            Side::Client => {
                let (stream, mut requests) = self.requests(hearer);
                stream.hear(piece, &mut requests)
            }
            Side::Server => {
                let (stream, mut replies) = self.replies(hearer);
                stream.hear(piece, &mut replies)
            }
        };
        if let Err(end) = heard {
            return self.finish(side, end, hearer);
        }
        if side == Side::Server && self.server.is_lost() {
            self.pairing.doubt(UnparsedReason::Gap);
        }
        if self.is_foreign() {
            self.finish(side, End::Malformed, hearer);
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
        let missed = match side {
            Side::Client => {
                let (stream, mut requests) = self.requests(hearer);
                stream.miss(bytes, &mut requests)
            }
            Side::Server => {
                let (stream, mut replies) = self.replies(hearer);
                stream.miss(bytes, &mut replies)
            }
        };
        let hides = match (missed, side) {
            (Err(end), _) => return self.finish(side, end, hearer),
            (Ok(Missed::Nothing), _) => return,
            (Ok(Missed::Messages), _) => true,
            // Nobody has anything else to say as long as that is not answered, or not asked.
            (Ok(Missed::Rest), Side::Client) => self.is_known() && !self.pairing.waits(),
            (Ok(Missed::Rest), Side::Server) => self.is_known() && !self.pairing.is_empty(),
        };
        if hides {
            hearer.unparsed(reason, 1);
        }
        // The end of a reply that nothing waits behind is no loss.
        if hides || side == Side::Client {
            self.pairing.shake();
        }
        if hides || side == Side::Server {
            self.pairing.doubt(reason);
        }
    }

    fn expects_reply(&self) -> bool {
        self.server.is_amid() || self.server.is_trailing() || self.pairing.expects()
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn take_over(&mut self, from: Handover) {
        self.client = Stream::amid(Some(from.rest));
        self.server = Stream::amid(None);
        self.server.trails(from.unasked);
        let sent = Sent {
            method: if from.head { Method::Head } else { Method::Other },
            ..Sent::default()
        };
        // Its lane is for those that come one by one.
        let pending = from.pending.min(MAX_UNANSWERED as u32);
        self.pairing.push(from.asked_ns, sent, pending);
    }

    fn end(&mut self, hearer: &mut dyn Hearer) {
        if self.over {
            return;
        }
        let foreign = !self.is_known() && self.client.strange().max(self.server.strange()) > 0;
        let begun = self.client.is_amid() && !self.client.is_past_first_line();
        let (client, mut requests) = self.requests(hearer);
        let asked = client.cut(&mut requests).unwrap_or(true);
        let (server, mut replies) = self.replies(hearer);
        // There is nothing left that it could end.
        let _answered = server.cut(&mut replies);
        unparsed(hearer, UnparsedReason::Malformed, u64::from(foreign || begun && !asked));
        unparsed(hearer, UnparsedReason::Unanswered, self.pairing.clear());
        self.over = true;
    }

    fn buffered(&self) -> usize {
        self.client.buffered() + self.server.buffered() + self.pairing.kept()
    }
}

#[cfg(test)]
mod tests;
