//! Sees every container, service and process of a Linux node.
//!
//! ```text
//!  kernel    bpf-programs/: hooks, totals per socket, the news ring
//!  (1) tracer/     drains the ring, reads the totals
//!  (2) decode/     record to event
//!  (3) l7/         what is said: framing, pairing, protocols
//!      conntrack/  where connections go whose destination is changed on the way
//!      fqdn/       what hosts on the internet are called by those who connect to them
//!  (4) registry/   process to cgroup to container; the only router
//!  (5) container/  one actor per container: connections, destinations, listens
//!      runtimes/   who is this container: Docker, Podman, containerd, CRI-O, systemd
//!      collect/    blocking looks at /proc and cgroupfs for the registry
//!  (6) metrics/    samples to families to text
//!  (7) http/ cli/  what a scraper and a person see
//! ```
pub mod base;
pub mod config;

pub mod tracer;

pub mod decode;
pub mod l7;
pub mod recording;

pub mod registry;
pub mod runtimes;

pub mod conntrack;
pub mod container;
pub mod fqdn;

pub mod collect;

pub mod metrics;

pub mod http;

pub mod cli;

pub mod supervisor;

pub mod run;
