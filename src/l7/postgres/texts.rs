//! What is asked for, where somebody watches: statements by their names, and what of a message is needed to know them.
use super::{message::text_len, sql};
use crate::l7::dialogue::Asked;
use std::{collections::VecDeque, sync::Arc};

pub(super) type Text = Option<Arc<Asked>>;

/// Of SQL as it was sent: literals in it make it longer than what is told.
const MAX_SQL: usize = 2 * Asked::MAX_TEXT;
/// Statements and portals with longer names are not known again.
const MAX_NAME: usize = 128;
const MAX_STATEMENTS: usize = 256;
const MAX_PORTALS: usize = 64;

/// The begin of a message's body.
#[derive(Default)]
pub(super) struct Capture {
    bytes: Vec<u8>,
    limit: usize,
}

impl Capture {
    pub(super) fn begin(&mut self, kind: u8) {
        self.bytes.clear();
        self.limit = match kind {
            b'Q' => MAX_SQL,
            b'P' => MAX_NAME + 1 + MAX_SQL,
            b'B' => 2 * (MAX_NAME + 1),
            b'C' | b'E' => 1 + MAX_NAME + 1,
            _ => 0,
        };
    }

    pub(super) fn add(&mut self, body: &[u8]) {
        let left = self.limit.saturating_sub(self.bytes.len());
        if left > 0 {
            self.bytes.extend_from_slice(body.get(..left).unwrap_or(body));
        }
    }

    /// The rest does not follow on what there is.
    pub(super) fn stop(&mut self) {
        self.limit = 0;
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn buffered(&self) -> usize {
        self.bytes.len()
    }
}

/// In the order in which they were named. The oldest make room.
struct Names {
    known: VecDeque<(Box<[u8]>, Arc<Asked>)>,
    limit: usize,
    bytes: usize,
}

impl Names {
    fn new(limit: usize) -> Self {
        Self {
            known: VecDeque::new(),
            limit,
            bytes: 0,
        }
    }

    fn get(&self, name: &[u8]) -> Text {
        let of = |(known, asked): &(Box<[u8]>, Arc<Asked>)| (**known == *name).then(|| asked.clone());
        self.known.iter().rev().find_map(of)
    }

    fn insert(&mut self, name: &[u8], asked: Arc<Asked>) {
        self.remove(name);
        if self.known.len() >= self.limit
            && let Some((name, asked)) = self.known.pop_front()
        {
            self.bytes -= size(&name, &asked);
        }
        self.bytes += size(name, &asked);
        self.known.push_back((name.into(), asked));
    }

    fn remove(&mut self, name: &[u8]) {
        let at = self.known.iter().rposition(|(known, _)| **known == *name);
        if let Some((name, asked)) = at.and_then(|at| self.known.remove(at)) {
            self.bytes -= size(&name, &asked);
        }
    }
}

fn size(name: &[u8], asked: &Asked) -> usize {
    name.len() + asked.verb.len() + asked.text.len()
}

pub(super) struct Texts {
    statements: Names,
    portals: Names,
    /// Of the batch at hand, and what it is called.
    prepared: Option<(Box<str>, Arc<Asked>)>,
    /// Otherwise no more than verbs is kept.
    wants_text: bool,
}

impl Texts {
    pub(super) fn new(wants_text: bool) -> Self {
        Self {
            wants_text,
            statements: Names::new(MAX_STATEMENTS),
            portals: Names::new(MAX_PORTALS),
            prepared: None,
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.statements.bytes + self.portals.bytes
    }

    pub(super) fn wants_text(&self) -> bool {
        self.wants_text
    }

    /// `body`: the begin of what the client says.
    pub(super) fn of(&mut self, kind: u8, body: &[u8]) -> Text {
        let text = self.whole(kind, body)?;
        Some(self.wanted(text))
    }

    fn wanted(&self, whole: Arc<Asked>) -> Arc<Asked> {
        if self.wants_text || whole.text.is_empty() {
            return whole;
        }
        Arc::new(asked(&whole.verb, ""))
    }

    fn whole(&mut self, kind: u8, body: &[u8]) -> Text {
        match kind {
            b'Q' => Some(Arc::new(statement(body))),
            b'F' => Some(Arc::new(asked("CALL", "CALL ?"))),
            b'P' => {
                self.parse(body);
                None
            }
            b'B' => {
                self.bind(body);
                None
            }
            b'C' => {
                self.close(body);
                None
            }
            b'E' => Some(
                name(body)
                    .and_then(|(portal, _)| self.portals.get(portal))
                    .unwrap_or_else(|| unknown(&[])),
            ),
            b'S' => Some(Arc::new(match self.prepared.take() {
                Some((name, what)) => asked("PREPARE", &sql::cut(format!("PREPARE {name} AS {}", what.text), false)),
                None => asked("DESCRIBE", "DESCRIBE ?"),
            })),
            _ => None,
        }
    }

    fn parse(&mut self, body: &[u8]) {
        let Some((name, rest)) = name(body) else {
            self.prepared = None;
            return;
        };
        let what = self.wanted(Arc::new(statement(rest)));
        self.prepared = Some((shown(name).into(), what.clone()));
        self.statements.insert(name, what);
    }

    fn bind(&mut self, body: &[u8]) {
        let Some((portal, rest)) = name(body) else {
            return;
        };
        let what = match name(rest) {
            Some((name, _)) => self.statements.get(name).unwrap_or_else(|| unknown(name)),
            None => unknown(&[]),
        };
        self.portals.insert(portal, what);
    }

    fn close(&mut self, body: &[u8]) {
        let Some((kind, rest)) = body.split_first() else {
            return;
        };
        if let Some((name, _)) = name(rest) {
            match kind {
                b'S' => self.statements.remove(name),
                _ => self.portals.remove(name),
            }
        }
    }
}

/// A whole one, and what follows it.
fn name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = bytes.split_at_checked(text_len(bytes))?;
    (name.len() <= MAX_NAME).then_some((name, rest.split_first()?.1))
}

/// Up to the zero byte that ends it. Without one there is more of it.
fn statement(bytes: &[u8]) -> Asked {
    let len = text_len(bytes);
    sql::obfuscate(bytes.get(..len).unwrap_or(bytes), len == bytes.len())
}

fn unknown(name: &[u8]) -> Arc<Asked> {
    Arc::new(asked("EXECUTE", &format!("EXECUTE {} /* unknown */", shown(name))))
}

/// Whoever makes up names may put into them what they like.
fn shown(name: &[u8]) -> &str {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_identifier =
        name.len() <= 63 && name.iter().all(is_plain) && name.first().is_some_and(|first| !first.is_ascii_digit());
    match std::str::from_utf8(name) {
        Ok(name) if is_identifier => name,
        _ => "?",
    }
}

fn asked(verb: &str, text: &str) -> Asked {
    Asked {
        verb: verb.into(),
        text: text.into(),
    }
}
