//! What a host has that an agent looks for: a first process, and files where hosts have them.
use crate::MACHINE_ID;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tarsier_integration::{Script, pause};
use tempfile::TempDir;

/// The process that a container is shown as the first, in the root of this host.
struct First(Child);

impl Drop for First {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Fields in the order in which they are to go.
pub(crate) struct Host {
    /// `/proc` with another first process.
    pub(crate) proc: Mounted,
    first: First,
    pub(crate) root: TempDir,
}

/// With all that is mounted below.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The engines may be at its mounts for a moment.
        let gone = (0..50).any(|_| {
            let unmounted = Command::new("umount").arg("-R").arg(&self.0).status();
            let gone = unmounted.is_ok_and(|status| status.success());
            if !gone {
                pause(std::time::Duration::from_millis(100));
            }
            gone
        });
        assert!(
            std::thread::panicking() || gone,
            "{} is still mounted",
            self.0.display()
        );
    }
}

fn mount(words: &[&str], paths: &[&Path]) {
    let status = Command::new("mount").args(words).args(paths).status().unwrap();
    assert!(status.success(), "mount {words:?} {paths:?}");
}

impl Host {
    /// The sockets of the runtimes are where those of a host are.
    pub(crate) fn new(docker: &Script, podman: &Script, containerd: &Script) -> Self {
        let root = tempfile::Builder::new().prefix("tarsier-it-host-").tempdir().unwrap();
        for folder in ["run/containerd", "run/podman", "etc", "bin", "proc"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for (script, place) in [
            (docker, "run/docker.sock"),
            (podman, "run/podman/podman.sock"),
            (containerd, "run/containerd/containerd.sock"),
        ] {
            fs::hard_link(script.run(&["sock"]), root.path().join(place)).unwrap();
        }
        fs::write(root.path().join("etc/machine-id"), format!("{MACHINE_ID}\n")).unwrap();
        fs::write(root.path().join("etc/hostname"), "node-7\n").unwrap();
        fs::copy(crate::scene::busybox(), root.path().join("bin/busybox")).unwrap();
        let mut first = Command::new("chroot");
        first
            .arg(root.path())
            .args(["/bin/busybox", "sleep", "100000"])
            .stdin(Stdio::null());
        let first = First(first.spawn().unwrap());
        let proc = Mounted(root.path().join("proc"));
        mount(&["--bind"], &[Path::new("/proc"), &proc.0]);
        mount(&["--make-private"], &[&proc.0]);
        let own = PathBuf::from(format!("/proc/{}", first.0.id()));
        mount(&["--bind"], &[&own, &proc.0.join("1")]);
        Self { proc, first, root }
    }

    /// Its number where processes are not renamed.
    pub(crate) fn first(&self) -> u32 {
        self.first.0.id()
    }
}
