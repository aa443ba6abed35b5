//! What every room uses.
pub mod clock;
pub mod context;
pub mod features;
pub mod fqdn;
pub mod ids;
pub mod ledger;
pub mod logging;
pub mod mailbox;
pub mod memory;
pub mod now;
pub mod realtime;
pub mod table;
