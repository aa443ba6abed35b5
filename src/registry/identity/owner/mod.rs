//! Which container a cgroup path stands for.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use crate::base::ids::ContainerId;
use serde::{Deserialize, Serialize};

/// Whom a cgroup path says its processes belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    Container(ContainerId),
    /// No container: the process stands for itself.
    Standalone,
    Ignored(IgnoredReason),
}

/// Why nobody wants to see a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IgnoredReason {
    /// It holds a container's terminal for the runtime: plumbing that would only double the number of containers.
    ContainerMonitor,
}

impl IgnoredReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContainerMonitor => "container_monitor",
        }
    }
}

/// Total. `path` is what [`super::placement`] gives.
///
/// A container that may write cgroups can name itself what it likes below its own cgroup. Nothing here trusts a path
/// with more than a label.
pub fn owner(path: &str) -> Owner {
    let path = Path::new(path);
    ROWS.iter().find_map(|row| row(&path)).unwrap_or(Owner::Standalone)
}

/// The first row that answers decides.
const ROWS: [fn(&Path<'_>) -> Option<Owner>; 9] = [
    talos_init,
    users_and_init,
    container_monitor,
    kubernetes,
    docker,
    talos,
    systemd,
    lxc,
    any_engine,
];

struct Path<'a> {
    whole: &'a str,
    segments: Vec<&'a str>,
}

impl<'a> Path<'a> {
    fn new(whole: &'a str) -> Self {
        Self {
            whole,
            segments: whole.split('/').filter(|segment| !segment.is_empty()).collect(),
        }
    }

    fn first(&self) -> &'a str {
        self.segments.first().copied().unwrap_or_default()
    }

    /// The first segment that is not a slice: what systemd runs there.
    fn unit(&self) -> &'a str {
        self.segments
            .iter()
            .find(|segment| !segment.ends_with(".slice"))
            .copied()
            .unwrap_or_default()
    }
}

fn talos_init(path: &Path<'_>) -> Option<Owner> {
    (path.whole == "/init").then(|| container(&["talos", "init"]))
}

/// Everything below a user's slice is named by that user, containers of rootless engines included: an id taken from
/// there could be that of somebody else's container.
fn users_and_init(path: &Path<'_>) -> Option<Owner> {
    ["user.slice", "init.scope", "systemd"]
        .contains(&path.first())
        .then_some(Owner::Standalone)
}

fn container_monitor(path: &Path<'_>) -> Option<Owner> {
    let monitor = |segment: &&str| segment.starts_with("crio-conmon-") || segment.starts_with("libpod-conmon-");
    path.segments
        .iter()
        .any(monitor)
        .then_some(Owner::Ignored(IgnoredReason::ContainerMonitor))
}

/// Of nested clusters the innermost. (The Go agent looks at a leading `docker` first, and so takes all pods of a
/// cluster that runs in Docker for the one container around them.)
fn kubernetes(path: &Path<'_>) -> Option<Owner> {
    let inside = || {
        path.whole
            .rmatch_indices("kubepods")
            .filter_map(|(at, _)| path.whole.get(at..))
    };
    let with_id = inside().find_map(|text| {
        let id = hex64(text)?;
        let before = text.split_once(id).map(|(before, _)| before).unwrap_or_default();
        Some(match pod_uid(before) {
            Some(uid) => container(&["pod", &uid, short(id)]),
            None => container(&["pod", short(id)]),
        })
    });
    // gVisor keeps its containers inside one sandbox process, which sits in the cgroup of the pod.
    with_id.or_else(|| {
        inside()
            .find_map(pod_uid)
            .map(|uid| container(&["pod", &uid, "sandbox"]))
    })
}

/// `pod<uid>` or `kubepods-<class>-pod<uid>.slice`; systemd's names cannot hold the dashes of the uid.
fn pod_uid(text: &str) -> Option<String> {
    text.split(['/', ':', '.']).rev().find_map(|part| {
        let uid = part
            .strip_prefix("pod")
            .or_else(|| part.rsplit_once("-pod").map(|(_, uid)| uid))?;
        let valid = !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_' || b == b'-');
        valid.then(|| uid.replace('_', "-"))
    })
}

/// Docker, Podman and nerdctl, under either cgroup driver. Where there is no id after the prefix, it is a service that
/// has such a name. (The Go agent gives up on `docker-registry.service`, and does not know Podman and nerdctl.)
fn docker(path: &Path<'_>) -> Option<Owner> {
    let unit = path.unit();
    let id = if path.first() == "docker" {
        hex64(path.whole)
    } else {
        ["docker-", "libpod-", "nerdctl-"]
            .iter()
            .find_map(|prefix| unit.strip_prefix(prefix))
            .and_then(hex64)
    };
    id.map(engine)
}

/// The services of a Talos node, which has no systemd.
fn talos(path: &Path<'_>) -> Option<Owner> {
    let name = path.segments.get(1)?;
    ["system", "podruntime"]
        .contains(&path.first())
        .then(|| container(&["talos", name]))
}

/// Services by slice and name. Deeper segments are the unit's own affair, so the instances of a template fold into
/// their slice. (The Go agent takes a service for a bare process if a cgroup that the service made for itself has a
/// name in `.scope`.)
fn systemd(path: &Path<'_>) -> Option<Owner> {
    const SLICES: [&str; 6] = [
        "system.slice",
        "runtime.slice",
        "reserved.slice",
        "kube.slice",
        "azure.slice",
        "podruntime.slice",
    ];
    let name = path.segments.get(1)?;
    if !SLICES.contains(&path.first()) {
        return None;
    }
    if path.unit().ends_with(".scope") {
        return Some(Owner::Standalone);
    }
    Some(container(&[path.first(), &name.replace("\\x2d", "-")]))
}

fn lxc(path: &Path<'_>) -> Option<Owner> {
    let name = match path.first() {
        "lxc" => path.segments.get(1).copied(),
        first => first.strip_prefix("lxc.payload.").filter(|name| !name.is_empty()),
    };
    name.map(|name| container(&["lxc", name]))
}

/// Engines with a cgroup parent of their own: ECS, Nomad, plain containerd, Podman's cgroupfs driver. (All unknown to
/// the Go agent.) The 64 digits of a Podman pod come before those of its container.
fn any_engine(path: &Path<'_>) -> Option<Owner> {
    let podman = path
        .segments
        .iter()
        .filter_map(|segment| segment.strip_prefix("libpod-"))
        .find_map(hex64);
    podman.or_else(|| hex64(path.whole)).map(engine)
}

/// The first whole word of 64 lower-case hexadecimal digits.
fn hex64(text: &str) -> Option<&str> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 64 && word.bytes().all(digit))
}

/// As engines print ids to people.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn engine(id: &str) -> Owner {
    container(&["docker", short(id)])
}

fn container(segments: &[&str]) -> Owner {
    let id: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
    Owner::Container(id.replace(char::is_control, "_").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const X: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const Y: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
    const UID: &str = "7d3a2b1c-0e4f-4a5b-8c6d-9e0f1a2b3c4d";
    const SYSTEMD_UID: &str = "7d3a2b1c_0e4f_4a5b_8c6d_9e0f1a2b3c4d";
    /// A static pod's.
    const HASH: &str = "7eca1cd7a5dbc7d6b4be0a8a3b1b5d5a";

    fn check(rows: &[(&str, &str)]) {
        for (path, expected) in rows {
            let path = path
                .replace('X', X)
                .replace('Y', Y)
                .replace("UID_", SYSTEMD_UID)
                .replace("UID", UID);
            let got = match owner(&path) {
                Owner::Container(id) => id.to_string(),
                Owner::Standalone => "standalone".to_owned(),
                Owner::Ignored(reason) => reason.as_str().to_owned(),
            };
            assert_eq!(&got, expected, "{path}");
        }
    }

    #[test]
    fn engines() {
        check(&[
            ("/docker/X", "/docker/0123456789ab"),
            ("/docker/X/init", "/docker/0123456789ab"),
            ("/docker/X/docker/Y", "/docker/0123456789ab"),
            ("/system.slice/docker-X.scope", "/docker/0123456789ab"),
            (
                "/system.slice/docker-X.scope/system.slice/a.service",
                "/docker/0123456789ab",
            ),
            (
                "/system.slice/system-docker.slice/docker-X.scope",
                "/docker/0123456789ab",
            ),
            ("/ecs/task1/X", "/docker/0123456789ab"),
            (
                "/ecstasks.slice/ecstasks-7eca1c.slice/docker-X.scope",
                "/docker/0123456789ab",
            ),
            ("/nomad.slice/share.slice/docker-X.scope", "/docker/0123456789ab"),
            ("/default/X", "/docker/0123456789ab"),
            ("/system.slice/nerdctl-X.scope", "/docker/0123456789ab"),
            ("/X", "/docker/0123456789ab"),
            ("/k8s.io/c1", "standalone"),
            ("/docker/buildkit/p5qzjw0gtvb2cmr8hd4kxw3yn", "standalone"),
        ]);
    }

    #[test]
    fn podman() {
        check(&[
            ("/machine.slice/libpod-X.scope", "/docker/0123456789ab"),
            ("/machine.slice/libpod-X.scope/container", "/docker/0123456789ab"),
            (
                "/machine.slice/machine-libpod_pod_Y.slice/libpod-X.scope",
                "/docker/0123456789ab",
            ),
            ("/libpod_parent/libpod-X", "/docker/0123456789ab"),
            ("/libpod_parent/Y/libpod-X", "/docker/0123456789ab"),
            ("/libpod_parent/conmon", "standalone"),
            ("/machine.slice/libpod-conmon-X.scope", "container_monitor"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-X.scope",
                "standalone",
            ),
        ]);
    }

    #[test]
    fn pods() {
        let pod = format!("/pod/{UID}/0123456789ab");
        check(&[
            ("/kubepods/burstable/podUID/X", &pod),
            ("/kubepods/besteffort/podUID/X/kube-proxy", &pod),
            ("/kubepods/podUID/X", &pod),
            ("/kubepods.slice/kubepods-podUID_.slice/docker-X.scope", &pod),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-X",
                &pod,
            ),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-X.scope",
                &pod,
            ),
            (
                "/system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:X",
                &pod,
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/crio-X.scope/container",
                &pod,
            ),
            (
                &format!("/kubepods/burstable/pod{HASH}/X"),
                &format!("/pod/{HASH}/0123456789ab"),
            ),
            ("/kubepods/burstable/X", "/pod/0123456789ab"),
            ("/kubepods/burstable/podUID", &format!("/pod/{UID}/sandbox")),
            (
                "/kubepods.slice/kubepods-podUID_.slice/crio-conmon-X.scope",
                "container_monitor",
            ),
            ("/system.slice/crio-conmon-X.scope", "container_monitor"),
            (
                "/system.slice/kubepods-exporter.service",
                "/system.slice/kubepods-exporter.service",
            ),
            ("/kubepods", "standalone"),
        ]);
    }

    #[test]
    fn nested_clusters() {
        let pod = format!("/pod/{UID}/0123456789ab");
        check(&[
            ("/docker/Y/kubelet/kubepods/besteffort/podUID/X", &pod),
            (
                "/docker/Y/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-X.scope",
                &pod,
            ),
            ("/docker/Y/kubelet.slice/kubelet.service", "/docker/ffeeddccbbaa"),
            ("/kubepods/podaa/Y/docker/Y/kubelet/kubepods/besteffort/podUID/X", &pod),
            // A container that only makes itself a cgroup of that name stays where it is.
            ("/kubepods/podUID/X/kubepods", &pod),
            ("/kubepods/podUID/X/podabc", &pod),
        ]);
    }

    #[test]
    fn systemd_units() {
        check(&[
            ("/system.slice/nginx.service", "/system.slice/nginx.service"),
            ("/system.slice/nginx.service/worker", "/system.slice/nginx.service"),
            (
                "/system.slice/nginx.service/worker.scope",
                "/system.slice/nginx.service",
            ),
            (
                "/system.slice/system-serial\\x2dgetty.slice",
                "/system.slice/system-serial-getty.slice",
            ),
            (
                "/system.slice/system-postgresql.slice/postgresql@9.4-main.service",
                "/system.slice/system-postgresql.slice",
            ),
            ("/kube.slice/kubelet.service", "/kube.slice/kubelet.service"),
            ("/runtime.slice/containerd.service", "/runtime.slice/containerd.service"),
            ("/reserved.slice/kubelet.service", "/reserved.slice/kubelet.service"),
            ("/azure.slice/walinuxagent.service", "/azure.slice/walinuxagent.service"),
            ("/podruntime.slice/kubelet.service", "/podruntime.slice/kubelet.service"),
            ("/system.slice/docker.service", "/system.slice/docker.service"),
            (
                "/system.slice/docker-registry.service",
                "/system.slice/docker-registry.service",
            ),
            ("/system.slice/cri-containerd-X.scope", "standalone"),
            ("/system.slice/run-r1.scope", "standalone"),
            ("/system.slice/system-run.slice/run-r1.scope", "standalone"),
            ("/system.slice", "standalone"),
            ("/init.scope", "standalone"),
            ("/user.slice/user-0.slice/session-1.scope", "standalone"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service",
                "standalone",
            ),
            ("/systemd/system.slice", "standalone"),
            ("/machine.slice/systemd-nspawn@a.service/payload", "standalone"),
            ("/system.slice/a\u{7}b.service", "/system.slice/a_b.service"),
        ]);
    }

    #[test]
    fn talos_and_lxc() {
        check(&[
            ("/init", "/talos/init"),
            ("/init/below", "standalone"),
            ("/podruntime/kubelet", "/talos/kubelet"),
            ("/system/dashboard", "/talos/dashboard"),
            ("/system", "standalone"),
            ("/lxc/db", "/lxc/db"),
            ("/lxc/db/system.slice/a.service", "/lxc/db"),
            ("/lxc.payload.first", "/lxc/first"),
            ("/lxc.payload.first/system.slice/a.service", "/lxc/first"),
            ("/lxc.payload.", "standalone"),
            ("/lxc.monitor.first", "standalone"),
            ("/lxc", "standalone"),
            ("/", "standalone"),
            ("", "standalone"),
        ]);
    }

    #[test]
    fn only_whole_words_are_ids() {
        check(&[
            ("/ecs/aX", "standalone"),
            ("/ecs/Xa", "standalone"),
            ("/ecs/XY", "standalone"),
        ]);
        assert_eq!(owner(&format!("/ecs/{}", X.to_uppercase())), Owner::Standalone);
    }

    proptest! {
        #[test]
        fn total(path in "(/(docker|kubepods|system\\.slice|pod|lxc|libpod-|\\PC{0,8}|[0-9a-f]{64}|.{0,8})){0,6}") {
            if let Owner::Container(id) = owner(&path) {
                prop_assert!(id.as_str().starts_with('/') && id.as_str().len() > 1);
                prop_assert!(!id.as_str().contains(char::is_control));
            }
        }
    }
}
