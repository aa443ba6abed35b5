//! A message, as far as it was taken.
use super::{answers, name, name::Name};
use crate::decode::DnsStatus;
use std::net::IpAddr;

pub(super) const HEADER_LEN: usize = 12;
pub(super) const CLASS_IN: u16 = 1;
/// Kind and class behind the name.
const QUESTION_REST: usize = 4;
/// Of a message with a question about the root.
pub(super) const MIN_LEN: usize = HEADER_LEN + 1 + QUESTION_REST;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    /// The bytes end in the middle of it.
    Short,
    Malformed,
    /// Right, but no single question, nor an answer to one.
    Unsupported,
}

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn moved(self, at: usize) -> Self {
        Self { at, ..self }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], ParseError> {
        let end = self.at.checked_add(len).ok_or(ParseError::Short)?;
        let bytes = self.message.get(self.at..end).ok_or(ParseError::Short)?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ParseError> {
        let byte = self.message.get(self.at).ok_or(ParseError::Short)?;
        self.at += 1;
        Ok(*byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ParseError> {
        Ok(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
}

impl Header {
    const ANSWER: u16 = 0x8000;
    const OPCODE: u16 = 0x7800;
    const TRUNCATED: u16 = 0x0200;
    /// Always zero.
    const RESERVED: u16 = 0x0040;

    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let header = Self {
            id: reader.u16()?,
            flags: reader.u16()?,
            questions: reader.u16()?,
            answers: reader.u16()?,
        };
        // How many records of the other two kinds there are is not of interest.
        reader.bytes(4)?;
        Ok(header)
    }

    fn is_answer(&self) -> bool {
        self.flags & Self::ANSWER != 0
    }

    fn status(&self) -> DnsStatus {
        DnsStatus::from((self.flags & 0x0f) as u8)
    }

    /// An operation that exists: question, status, notification, update, session.
    fn has_known_opcode(&self) -> bool {
        matches!((self.flags & Self::OPCODE) >> 11, 0 | 2 | 4 | 5 | 6)
    }
}

/// Whether a message of that length may begin with these bytes: where a stream is entered in its middle.
pub(super) fn is_plausible(len: usize, begin: &[u8]) -> bool {
    let Ok(header) = Header::read(&mut Reader::new(begin)) else {
        return false;
    };
    let counts = match (header.questions, header.is_answer()) {
        // A question has neither a status nor, unless it is an update, an answer.
        (1, false) => {
            let asks = header.flags & Header::OPCODE == 0;
            len >= MIN_LEN && header.status() == DnsStatus::OK && (header.answers == 0 || !asks)
        }
        (1, true) => len >= MIN_LEN,
        // Errors, and all but the first part of a transfer.
        (0, true) => len >= HEADER_LEN,
        _ => false,
    };
    counts && header.has_known_opcode() && header.flags & Header::RESERVED == 0
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
}

impl Question {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            name: name::read(reader)?,
            kind: reader.u16()?,
            class: reader.u16()?,
        })
    }
}

pub(super) struct Answer {
    pub(super) status: DnsStatus,
    /// Left out by some servers where they would not even look at it.
    pub(super) question: Option<Question>,
    /// Of the name that was asked for. None where nobody is to learn from it.
    pub(super) addresses: Vec<IpAddr>,
}

pub(super) enum Body {
    Question(Question),
    Answer(Answer),
}

/// What counts of a message.
pub(super) struct Message {
    pub(super) id: u16,
    pub(super) body: Body,
}

/// `cut`: there was more of it. `learn`: whether its addresses are wanted.
pub(super) fn parse(bytes: &[u8], cut: bool, learn: bool) -> Result<Message, ParseError> {
    let mut reader = Reader::new(bytes);
    let header = Header::read(&mut reader)?;
    if header.flags & Header::OPCODE != 0 {
        return Err(if header.has_known_opcode() {
            ParseError::Unsupported
        } else {
            ParseError::Malformed
        });
    }
    let status = header.status();
    let question = match header.questions {
        1 => Some(Question::read(&mut reader)?),
        0 if header.is_answer() && status != DnsStatus::OK => None,
        _ => return Err(ParseError::Unsupported),
    };
    let body = match question {
        Some(question) if !header.is_answer() => Body::Question(question),
        question => {
            // What is truncated is asked for again by other means.
            let whole = status == DnsStatus::OK && header.flags & Header::TRUNCATED == 0;
            let addresses = match &question {
                Some(question) if learn && whole && question.class == CLASS_IN => {
                    answers::addresses(reader, header.answers, &question.name, cut)?
                }
                _ => Vec::new(),
            };
            Body::Answer(Answer {
                status,
                question,
                addresses,
            })
        }
    };
    Ok(Message { id: header.id, body })
}
