//! What a test needs and a machine may lack.
use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    thread,
};

/// True if `present`. Otherwise the test shall return: this says why it is skipped, and fails if `TARSIER_IT_REQUIRE`
/// (names separated by commas, or `all`) names what is missing.
#[must_use]
#[track_caller]
pub fn demand(name: &str, present: bool) -> bool {
    if present {
        return true;
    }
    let required = env::var("TARSIER_IT_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|word| word == name || word == "all"),
        "{name} is missing, and TARSIER_IT_REQUIRE={required} asks for it"
    );
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // Not eprintln: the test runner would swallow it.
    writeln!(io::stderr(), "SKIPPED {test}: {name} is missing").expect("stderr is open");
    false
}

#[must_use]
#[track_caller]
pub fn require_root() -> bool {
    demand("root", rustix::process::geteuid().is_root())
}

/// Of real-time priority a cgroup of v1 has only what it was given, and a container is given none.
pub fn realtime_is_rationed() -> bool {
    ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"]
        .iter()
        .any(|hierarchy| std::path::Path::new(hierarchy).join("cpu.rt_runtime_us").exists())
}

/// True if every one of `tools` is in `PATH`.
#[must_use]
#[track_caller]
pub fn require_tool(tools: &[&str]) -> bool {
    tools.iter().all(|tool| demand(tool, has_tool(tool)))
}

pub fn has_tool(tool: &str) -> bool {
    find_tool(tool).is_some()
}

/// Where it is in `PATH`.
pub fn find_tool(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&path).map(|folder| folder.join(tool));
    files.find(|file| file.is_file())
}
