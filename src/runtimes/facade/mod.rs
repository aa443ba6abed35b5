//! The runtimes as one: ask here, whichever knows it.
pub mod actor;
pub mod state;

#[cfg(test)]
mod tests;

use super::{Lookup, metadata::Metadata};
use actix::Message;
use std::sync::Arc;

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

#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Known(Arc<Metadata>),
    /// Every runtime that could know it is connected or absent, and none knows it.
    Nobody,
    /// Somebody could not be asked. It is tried again: another answer will follow.
    Unanswered,
}
