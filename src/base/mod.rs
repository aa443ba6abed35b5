//! What every room uses.
pub mod clock;
pub mod features;
pub mod ids;
pub mod ledger;
pub mod logging;
pub mod mailbox;
pub mod table;
// What the agent says about itself.
pub mod logging;
