//! (1) The kernel side's other half: loads the programs, drains the rings, reads the totals.
pub mod actor;
mod barrier;
pub mod batch;
pub mod btf;
pub mod crowding;
pub mod error;
mod files;
pub mod iter;
pub mod kernel;
pub mod messages;
pub mod namespaces;
pub mod object;
mod said;
mod spills;
pub mod stats;
pub mod tap;
mod units;
mod wake;
