//! Requests and replies.
use super::{
    End, MAX_UNANSWERED,
    asked::asked,
    head::{Begin, Encoding, Fault, Fields, Length, RequestLine, begin_of_status, status},
    pairing::{Method, Pairing, Sent},
    stream::{Began, Body, Next, Speaker},
};
use crate::{
    decode::UnparsedReason,
    l7::dialogue::{Exchange, Hearer, Status},
};

const CONTINUE: std::ops::RangeInclusive<u16> = 100..=199;
const SWITCHING: u16 = 101;
const SUCCESS: std::ops::RangeInclusive<u16> = 200..=299;
const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;

pub(super) struct Requests<'a> {
    pub(super) pairing: &'a mut Pairing,
    pub(super) last: &'a mut Method,
    pub(super) hearer: &'a mut dyn Hearer,
}

impl Requests<'_> {
    fn ask(&mut self, line: &RequestLine<'_>, began: Began) -> Result<(), End> {
        let method = match line.method {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        let left_out = self.hearer.leaves_out(line.target);
        let watched = !left_out && self.hearer.watches();
        let sent = Sent {
            method,
            left_out,
            asked: watched.then(|| Box::new(asked(line, self.hearer.watches_text()))),
        };
        *self.last = method;
        self.pairing.ask(began.time_ns, sent, began.leads, self.hearer);
        if self.pairing.entries() > MAX_UNANSWERED {
            return Err(End::Crowded);
        }
        Ok(())
    }
}

impl Speaker for Requests<'_> {
    fn begin(&self, bytes: &[u8], sure: bool) -> Begin {
        RequestLine::begin(bytes, sure)
    }

    fn first_line(&mut self, line: &[u8], began: Began) -> Result<(), Fault> {
        let line = RequestLine::parse(line)?;
        self.ask(&line, began).map_err(Fault::End)
    }

    fn cut_line(&mut self, line: &[u8], began: Began) -> Result<bool, End> {
        let Some(line) = RequestLine::parse_cut(line) else {
            return Ok(false);
        };
        self.ask(&line, began)?;
        Ok(true)
    }

    fn after_head(&mut self, fields: &Fields) -> Result<Next, End> {
        let body = match (fields.encoding, fields.length) {
            (Encoding::Chunked, _) => Body::Chunks,
            (Encoding::None, Length::Unsaid) => Body::Bytes(0),
            (Encoding::None, Length::Said(bytes)) => Body::Bytes(bytes),
            (Encoding::Other, _) | (Encoding::None, Length::Nonsense) => return Err(End::Malformed),
        };
        Ok(Next {
            body,
            // Another protocol may be heard of before the reply that allows it; who expects leave to send a body keeps it
            // back without.
            loose: fields.upgrades || fields.expects || *self.last == Method::Connect || self.pairing.is_shaken(),
        })
    }

    fn has_turn(&self) -> bool {
        self.pairing.is_empty()
    }
}

/// What frames the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    code: u16,
    method: Method,
}

impl Reply {
    pub(super) const NONE: Self = Self {
        code: NO_CONTENT,
        method: Method::Unknown,
    };
}

pub(super) struct Replies<'a> {
    pub(super) pairing: &'a mut Pairing,
    pub(super) reply: &'a mut Reply,
    pub(super) hearer: &'a mut dyn Hearer,
}

impl Replies<'_> {
    fn answer(&mut self, code: u16, began: Began) -> Result<(), End> {
        let mut method = Method::Other;
        if !CONTINUE.contains(&code) || code == SWITCHING {
            method = self.pair(code, began.time_ns);
        }
        *self.reply = Reply { code, method };
        if code == SWITCHING || method == Method::Connect && SUCCESS.contains(&code) {
            return Err(End::Switched);
        }
        Ok(())
    }

    /// What it was that was asked.
    fn pair(&mut self, code: u16, replied_ns: u64) -> Method {
        let Some((asked_ns, sent)) = self.pairing.answer(replied_ns) else {
            self.hearer.unparsed(UnparsedReason::Unasked, 1);
            return Method::Unknown;
        };
        if !sent.left_out {
            self.hearer.exchanged(Exchange {
                asked_ns,
                replied_ns,
                status: Status::Code(code),
                asked: sent.asked.map(|asked| *asked),
            });
        }
        sent.method
    }
}

impl Speaker for Replies<'_> {
    fn begin(&self, bytes: &[u8], _sure: bool) -> Begin {
        begin_of_status(bytes)
    }

    fn first_line(&mut self, line: &[u8], began: Began) -> Result<(), Fault> {
        let code = status(line).ok_or(Fault::Nonsense)?;
        self.answer(code, began).map_err(Fault::End)
    }

    fn cut_line(&mut self, line: &[u8], began: Began) -> Result<bool, End> {
        let Some(code) = status(line) else {
            return Ok(false);
        };
        self.answer(code, began)?;
        Ok(true)
    }

    fn after_head(&mut self, fields: &Fields) -> Result<Next, End> {
        let Reply { code, method } = *self.reply;
        let empty = method == Method::Head || CONTINUE.contains(&code) || matches!(code, NO_CONTENT | NOT_MODIFIED);
        let body = match (fields.encoding, fields.length) {
            _ if empty => Body::Bytes(0),
            (Encoding::Chunked, _) => Body::Chunks,
            (Encoding::Other, _) | (Encoding::None, Length::Unsaid) => Body::Endless,
            (Encoding::None, Length::Said(bytes)) => Body::Bytes(bytes),
            (Encoding::None, Length::Nonsense) => return Err(End::Malformed),
        };
        Ok(Next {
            body,
            // Some servers forget to say that there is no body.
            loose: method == Method::Unknown || body == Body::Endless || self.pairing.is_shaken(),
        })
    }

    fn has_turn(&self) -> bool {
        !self.pairing.is_empty()
    }
}
