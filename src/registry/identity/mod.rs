//! Who a process belongs to, told from its cgroup path, its name, and what a runtime says.
//!
//! The flow: [`CgroupFile`] (what `/proc/PID/cgroup` says) → [`placement`] (the one path that counts) → [`owner`] (the
//! container, if any) → [`app_id`]; a process of no container gets a [`standalone_id`]. [`lookup`] says which runtime may
//! know more of a path, and [`named`] what its answer makes of the id.

mod cgroup_file;
mod gvisor;
mod owner;

mod naming;

mod names;
mod parts;

pub use cgroup_file::{CgroupFile, CgroupPath, CgroupRoot, MAX_FILE_BYTES, PathRule, placement, placement_by};
pub use gvisor::{pod_of as gvisor_pod, sandbox_id};
pub use names::{app_id, is_standalone, standalone_id};
pub use naming::{Named, named, named_by};
pub use owner::{IgnoredReason, Owner, OwnerExplained, explain_owner, lookup, owner};
pub use parts::{Parts, parts};
