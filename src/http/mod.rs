//! What the agent says over HTTP.
pub mod api;
