//! (7) What the agent says over HTTP: [`public`] to a scraper and to whoever keeps the agent running, [`admin`] to a
//! person at the node.
pub mod api;
pub mod event;
pub mod explained;
pub mod overheard;

mod flight;
pub mod reload;
pub mod scrape;
mod views;

pub mod admin;
pub mod public;

#[cfg(test)]
mod fakes;
