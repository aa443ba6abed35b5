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
