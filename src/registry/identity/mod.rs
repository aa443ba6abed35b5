//! Who a process belongs to, told from its cgroup path and its name alone.
//!
//! The flow: [`CgroupFile`] (what `/proc/PID/cgroup` says) → [`placement`] (the one path that counts) → [`owner`] (the
//! container, if any) → [`app_id`]; a process of no container gets a [`standalone_id`].

mod cgroup_file;
mod owner;

mod names;

pub use cgroup_file::{CgroupFile, CgroupPath, CgroupRoot, MAX_FILE_BYTES, placement};
pub use names::{app_id, is_standalone, standalone_id};
pub use owner::{IgnoredReason, Owner, owner};
