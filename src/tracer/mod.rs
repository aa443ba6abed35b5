//! (1) The kernel side's other half: loads the programs, drains the rings, reads the totals.
pub mod actor;
pub mod btf;
pub mod error;
pub mod iter;
pub mod kernel;
pub mod object;
pub mod stats;
mod units;
