//! (5) One actor per container, and what it knows.
pub mod actor;
pub mod connections;
pub mod destination;
pub mod exchanges;
pub mod files;
pub mod health;
pub mod lifecycle;
pub mod listens;
mod names;
pub mod requests;
pub mod samples;
pub mod signals;
pub mod state;

#[cfg(test)]
mod tests;
