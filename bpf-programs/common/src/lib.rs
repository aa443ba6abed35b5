//! What the eBPF programs and the agent agree on: record layouts, counters, map names and the kernel fields to resolve.
//!
//! Only integers and byte arrays, padding written out: zerocopy refuses to compile anything else.
#![cfg_attr(not(test), no_std)]

pub mod exchange;
mod fields;
mod files;
mod ledger;
mod record;
mod segment;

pub use fields::*;
pub use files::*;
pub use ledger::*;
pub use record::*;
pub use segment::*;
