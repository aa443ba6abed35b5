//! Starts, restarts, ends: the actors, and at the end the process.
pub mod actor;
pub mod backoff;
mod filters;
#[cfg(feature = "test-hooks")]
pub mod hooks;
pub mod messages;
pub mod names;
pub mod runtimes;
mod taps;
