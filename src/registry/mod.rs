//! (4) The only router: process to cgroup to container.
pub mod actor;
pub mod effects;
pub mod explain;
pub mod filters;
mod fqdn;
#[cfg(feature = "test-hooks")]
mod hooks;
mod hub;
pub mod identity;
pub mod lifecycle;
pub mod members;
pub mod messages;
mod questions;
mod restarts;
mod slots;
pub mod state;

#[cfg(test)]
mod tests;
