//! Where connections go whose packets are given another destination on the way: published ports, services of a cluster,
//! redirects to a proxy. The kernel's connection tracking knows, in the network namespace where it happens.
//!
//! Nothing is subscribed to and no table is dumped: that would cost every connection of the node. A question is a look into
//! a hash table of the kernel, so it is asked for the first connection to each destination and, where the answer was
//! another address, for each one after it. What goes where it was sent is said to the kernel's programs, which add such
//! connections up.
//!
//! Cilium leads connections elsewhere before that ever sees them, and has tables of its own for it, in which those are looked up
//! that the kernel does not lead elsewhere.
pub mod actor;
mod cilium;
mod lookups;
mod netlink;
mod routes;
