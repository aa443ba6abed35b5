//! The agent as a container image: the binary where the Dockerfile has it, on the libraries that it needs.
use crate::binary;
use std::{fs, path::Path, process::Command};

/// A file of the repository.
pub fn shipped(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let path = path.join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the Dockerfile says after `instruction`, e.g. `ENTRYPOINT`.
pub fn of_dockerfile(instruction: &str) -> Vec<String> {
    let file = shipped("Dockerfile");
    let mut lines = file.lines().filter_map(|line| line.strip_prefix(instruction));
    let words = lines
        .next()
        .unwrap_or_else(|| panic!("the Dockerfile has no {instruction}"));
    serde_json::from_str(words.trim()).unwrap_or_else(|error| panic!("{instruction}{words}: {error}"))
}

/// Writes the archive. The root below `scratch` is made once for all runs.
pub fn agent_image(archive: &Path, reference: &str, scratch: &Path) {
    let root = scratch.join("image-root");
    if !root.join(".made").exists() {
        if root.exists() {
            fs::remove_dir_all(&root).expect("it is ours");
        }
        let release = fs::read_to_string("/etc/os-release").expect("a Debian");
        let mut names = release
            .lines()
            .filter_map(|line| line.strip_prefix("VERSION_CODENAME="));
        // Unpacked and not configured: as in an image without a distribution there is nothing to run.
        let include = ["-q", "--variant=extract", "--include=libc6,libgcc-s1"];
        let mut make = Command::new("mmdebstrap");
        make.args(include).arg(names.next().expect("a Debian")).arg(&root);
        succeed(make);
        fs::write(root.join(".made"), "").expect("it is ours");
    }
    let program = of_dockerfile("ENTRYPOINT")
        .into_iter()
        .next()
        .expect("it starts something");
    let inside = root.join(program.trim_start_matches('/'));
    fs::create_dir_all(inside.parent().unwrap_or(&root)).expect("it is ours");
    fs::copy(binary(), &inside).expect("the agent is built");
    let mut make = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes/mkimage.sh"));
    make.arg(archive).arg(reference).env("ROOTFS", &root);
    succeed(make);
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}
