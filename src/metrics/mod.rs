//! (6) From samples to what a scraper reads.
pub mod names;

pub mod requests;
mod series;

pub mod families;
pub mod own;
pub mod text;

#[cfg(test)]
pub(crate) mod contract;
