//! The runtimes as one: ask here, whichever knows it.
pub mod actor;
pub mod state;

#[cfg(test)]
mod tests;

pub use super::Found;

use super::Lookup;
use actix::Message;

/// Who is it? Every question is answered with a [`Resolved`], sooner or later, and with another when the answer changes.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Resolve {
    pub lookup: Lookup,
}

/// Nobody needs to know of it any more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Forget {
    pub lookup: Lookup,
}

#[derive(Clone, Debug, PartialEq, Message)]
#[rtype(result = "()")]
pub struct Resolved {
    pub lookup: Lookup,
    pub found: Found,
}

/// What became of a question to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Known,
    Nobody,
    Unanswered,
    /// There is no such runtime here.
    Absent,
    /// It was not connected, and so not asked.
    NotConnected,
}

impl Said {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Nobody => "nobody",
            Self::Unanswered => "unanswered",
            Self::Absent => "absent",
            Self::NotConnected => "not_connected",
        }
    }
}
