//! Starts, restarts, ends.
#[cfg(feature = "test-hooks")]
pub mod hooks;
pub mod messages;
