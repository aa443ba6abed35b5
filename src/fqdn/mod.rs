//! Which host a connection goes to, by the name that its client has asked a name server for.
//!
//! An address has the name that was answered with it last. Services on the internet that have several addresses, which come
//! and go, are shown by their names, all others by their addresses: a name of one of those is in `ip_to_fqdn`.
pub mod actor;
pub mod table;

#[cfg(test)]
mod tests;
