//! Blocking reads of `/proc`, cgroupfs and the host's files. Whatever is read may be hostile, and is limited in size.
mod files;

pub mod addresses;
pub mod applications;
pub mod cgroups;
pub mod host;
pub mod node;
pub mod processes;
pub mod sockets;
pub mod worker;

pub use files::CollectError;
