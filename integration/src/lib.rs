//! Runs the real agent on the real kernel, gives it counted work to watch, and compares.
//!
//! Everything a test makes (cgroups, network namespaces, processes, daemons) hangs on a guard that removes it when it is
//! dropped, carries the test's process id in its name, and can be made again while an older one is still there.
//! What a machine lacks makes a test say so and pass, unless `TARSIER_IT_REQUIRE` names it (`require`).
#![expect(clippy::panic, reason = "a test harness: a failed guard is a failed test")]

mod agent;
mod cgroup;
mod foreign;
mod front;
mod http;
mod image;
pub mod kernel;
pub mod ledger;
mod machine;
mod metrics;
mod netns;
mod place;
mod postgres;
mod require;
mod script;
mod service;
mod share;
mod stage;
mod statistics;
mod tally;
mod wait;
mod watcher;

pub use agent::{Agent, AgentBuilder, Feature, binary};
pub use cgroup::Cgroup;
pub use foreign::{go_module, node_module};
pub use front::{Answers, Front, Manner};
pub use http::{Response, admin_post, http_get};
pub use image::{agent_image, of_dockerfile, shipped};
pub use machine::Machine;
pub use metrics::{End, Metrics, Requests, Sample, Statuses};
pub use netns::Netns;
pub use place::{Place, Running, built};
pub use postgres::{NOBODY, Postgres};
pub use require::{demand, find_tool, has_tool, realtime_is_rationed, require_root, require_tool};
pub use script::Script;
pub use service::{Door, Service};
pub use share::{Share, strangers};
pub use stage::{Stage, Traffic};
pub use statistics::Statistics;
pub use tally::{Case, Client, Seen, Tally, each_lane, lane, seconds, statuses};
pub use wait::{Stopwatch, eventually, eventually_some, free_port, pause};
pub use watcher::Watcher;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A name that no other guard and no other test process has.
fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "tarsier-it-{}-{}-{what}",
        std::process::id(),
        NEXT.fetch_add(1, Relaxed)
    )
}
