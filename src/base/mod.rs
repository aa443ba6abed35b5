//! What every room uses.
pub mod features;
pub mod ids;
pub mod ledger;
pub mod mailbox;
