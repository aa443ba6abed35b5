//! The kinds, where systemd puts each of them, and who each is.

/// A row. Each connects to the next one.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// How `node.sh` starts it: `start_` and this.
    pub(crate) start: &'static str,
    /// Its cgroup; `X` for what a runtime draws by lot.
    pub(crate) path: &'static str,
    /// Empty: nobody wants to see it.
    pub(crate) id: &'static str,
    pub(crate) app: &'static str,
    /// A label of `container_info` that only the runtime can have told.
    pub(crate) told: (&'static str, &'static str),
    /// In a network namespace of its own, on the bridge.
    pub(crate) is_bridged: bool,
}

impl Kind {
    const fn with(self, label: &'static str, value: &'static str) -> Self {
        Self {
            told: (label, value),
            ..self
        }
    }
}

const fn kind(name: &'static str, start: &'static str, path: &'static str, id: &'static str) -> Kind {
    Kind {
        name,
        start,
        path,
        id,
        app: "",
        told: ("", ""),
        is_bridged: false,
    }
}

const IMAGE: &str = "localhost/pause:test";
const POD: &str = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod5c5ba5ba_a5ba_45ba_85ba_c5ba5ba5ba5b.slice/cri-containerd-X.scope";

pub(crate) const KINDS: &[Kind] = &[
    kind(
        "service",
        "service",
        "/system.slice/it-service.service",
        "/system.slice/it-service.service",
    )
    .with("systemd_type", "simple"),
    Kind {
        app: "/k8s/shop/web",
        is_bridged: true,
        ..kind("pod", "pod", POD, "/k8s/shop/web-64cd4f9686-mvtnb/app").with("image", IMAGE)
    },
    kind("pause", "pause", POD, ""),
    kind("docker", "docker", "/system.slice/docker-X.scope", "/docker/it-docker").with("image", IMAGE),
    kind(
        "podman",
        "podman",
        "/machine.slice/libpod-X.scope/container",
        "/docker/it-podman",
    )
    .with("image", IMAGE),
    kind("monitor", "podman_monitor", "/machine.slice/libpod-conmon-X.scope", ""),
    kind(
        "podman-pod",
        "podman_pod",
        "/machine.slice/machine-libpod_pod_X.slice/libpod-X.scope/container",
        "/docker/it-podman-pod",
    )
    .with("image", IMAGE),
    kind(
        "podman-pause",
        "podman_pause",
        "/machine.slice/machine-libpod_pod_X.slice/libpod-X.scope/container",
        "",
    ),
    kind(
        "nerdctl",
        "nerdctl",
        "/system.slice/nerdctl-X.scope",
        "/containerd/tarsier-it/web",
    )
    .with("image", IMAGE),
    kind(
        "template-1",
        "template",
        "/system.slice/system-it.slice/it@template-1.service",
        "/system.slice/system-it.slice",
    ),
    kind(
        "template-2",
        "template",
        "/system.slice/system-it.slice/it@template-2.service",
        "/system.slice/system-it.slice",
    ),
    kind(
        "scope",
        "scope",
        "/system.slice/it-scope.scope",
        "/standalone/workload-scope",
    ),
    kind(
        "user",
        "user",
        "/user.slice/user-1000.slice/it-user.service",
        "/standalone/workload-user",
    ),
    kind("bare", "bare", "/", "/standalone/workload-bare"),
];

/// What is not to be part of any id: that of a pod whose runtime has not been heard.
pub(crate) const POD_UID: &str = "5c5ba5ba-a5ba-45ba-85ba-c5ba5ba5ba5b";
