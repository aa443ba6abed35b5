//! Sees every container, service and process of a Linux node.
pub mod base;

pub mod tracer;

pub mod decode;
