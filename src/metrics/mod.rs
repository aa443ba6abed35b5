//! (6) From samples to what a scraper reads.
pub mod families;
pub mod names;
