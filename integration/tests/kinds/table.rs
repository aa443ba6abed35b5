//! The kinds, and who each of them is.

/// How a workload comes to where it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// By dockerd, with these flags.
    Docker(&'static [&'static str]),
    Podman(&'static [&'static str]),
    /// By containerd alone, into a namespace of its own, at the cgroup path that it chooses itself.
    Containerd {
        container: &'static str,
        flags: &'static [&'static str],
    },
    /// By containerd's CRI, as a kubelet asks for it.
    Pod {
        pod: &'static str,
        host_network: bool,
    },
    /// A process beside the one that holds the pod of this row.
    Pause {
        of: &'static str,
    },
    /// By containerd, at the path of a pod in a cluster that runs in a container.
    Nested,
    /// By the systemd in nspawn, with these flags of `systemd-run`.
    Unit(&'static [&'static str]),
    Scope,
    /// An instance of a template unit.
    Instance(&'static str),
    /// In a cgroup where CRI-O puts containers; on its socket somebody answers as it does.
    Crio(Crio),
    /// Called as gVisor calls a sandbox, in the cgroup of this pod, which containerd knows; or, with the same words, in that
    /// of another pod.
    Gvisor {
        pod: Option<&'static str>,
    },
    /// In a cgroup of this path.
    Path(&'static str),
    /// At the root of all hierarchies.
    Bare,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Crio {
    Container,
    Sandbox,
    Monitor,
}

/// A row. Each connects to the next one.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    /// Empty: nobody wants to see it.
    pub(crate) id: &'static str,
    pub(crate) app: &'static str,
    /// A label of `container_info` that only the runtime can have told.
    pub(crate) told: (&'static str, &'static str),
}

impl Kind {
    const fn of(self, app: &'static str) -> Self {
        Self { app, ..self }
    }

    const fn with(self, label: &'static str, value: &'static str) -> Self {
        Self {
            told: (label, value),
            ..self
        }
    }

    /// At an address of its own. In the table its neighbours are of the host's network: bridges do not reach each other.
    pub(crate) fn has_own_network(&self) -> bool {
        match self.start {
            Start::Docker(flags) | Start::Podman(flags) => flags.is_empty(),
            Start::Pod { host_network, .. } => !host_network,
            _ => false,
        }
    }
}

const fn kind(name: &'static str, start: Start, id: &'static str) -> Kind {
    Kind {
        name,
        start,
        id,
        app: "",
        told: ("", ""),
    }
}

/// The row that gets another name while it runs, and its id after that.
pub(crate) const RENAMED: (&str, &str) = ("renamed", "/docker/kinds-other");

pub(crate) const NAMESPACE: &str = "tarsier-it";
pub(crate) const DOCKER_IMAGE: &str = "busybox:test";
pub(crate) const PODMAN_IMAGE: &str = "docker.io/library/busybox:test";
pub(crate) const CONTAINERD_IMAGE: &str = "localhost/pause:test";
pub(crate) const CRIO_IMAGE: &str = "localhost/app:1";
const HOST: &str = "--network=host";
/// Of a task, below which its containers are.
pub(crate) const ECS: &str = "/ecs/tarsier-it-task";

const SWARM: &[&str] = &[
    HOST,
    "--label=com.docker.swarm.task.name=shop_web.2.x1y2",
    "--label=com.docker.swarm.service.name=shop_web",
    "--label=com.docker.stack.namespace=shop",
];
const NOMAD: &[&str] = &[
    HOST,
    "--env=NOMAD_NAMESPACE=default",
    "--env=NOMAD_JOB_NAME=shop",
    "--env=NOMAD_GROUP_NAME=front",
    "--env=NOMAD_ALLOC_ID=5f0e",
    "--env=NOMAD_TASK_NAME=web",
];

pub(crate) const KINDS: &[Kind] = &[
    kind("docker", Start::Docker(&[]), "/docker/kinds-docker").with("image", DOCKER_IMAGE),
    kind("service", Start::Unit(&[]), "/system.slice/kinds-service.service").with("systemd_type", "simple"),
    kind(
        "pod",
        Start::Pod {
            pod: "web-64cd4f9686-mvtnb",
            host_network: false,
        },
        "/k8s/shop/web-64cd4f9686-mvtnb/app",
    )
    .of("/k8s/shop/web")
    .with("image", CONTAINERD_IMAGE),
    kind("pause", Start::Pause { of: "pod" }, ""),
    kind("swarm", Start::Docker(SWARM), "/swarm/shop/web/2").with("image", DOCKER_IMAGE),
    kind("podman", Start::Podman(&[]), "/docker/kinds-podman").with("image", PODMAN_IMAGE),
    kind(RENAMED.0, Start::Docker(&[HOST]), "/docker/kinds-renamed").with("image", DOCKER_IMAGE),
    kind(
        "cronjob",
        Start::Pod {
            // A minute of now comes between.
            pod: "hello-NOW-khz2f",
            host_network: true,
        },
        "/k8s-cronjob/shop/hello/app",
    )
    .of("/k8s-cronjob/shop/hello")
    .with("image", CONTAINERD_IMAGE),
    kind(
        "podman-pod",
        Start::Podman(&["--pod=kinds-pod"]),
        "/docker/kinds-podman-pod",
    )
    .with("image", PODMAN_IMAGE),
    kind("podman-pause", Start::Pause { of: "podman-pod" }, ""),
    kind(
        "containerd",
        Start::Containerd {
            container: "kinds-plain",
            flags: &[],
        },
        "/containerd/tarsier-it/kinds-plain",
    )
    .with("image", CONTAINERD_IMAGE),
    kind(
        "nerdctl",
        Start::Containerd {
            container: "0d15ea5e0d15ea5e0d15ea5e0d15ea5e0d15ea5e0d15ea5e0d15ea5e0d15ea5e",
            flags: &["--label", "nerdctl/name=web"],
        },
        "/containerd/tarsier-it/web",
    )
    .with("image", CONTAINERD_IMAGE),
    kind("scope", Start::Scope, "/standalone/busybox-scope"),
    kind("template-1", Start::Instance("1"), "/system.slice/system-kinds.slice"),
    kind("template-2", Start::Instance("2"), "/system.slice/system-kinds.slice"),
    kind(
        "user",
        Start::Unit(&["--slice=user-1000.slice"]),
        "/standalone/busybox-user",
    ),
    kind("bare", Start::Bare, "/standalone/busybox-bare"),
    kind("crio", Start::Crio(Crio::Container), "/k8s/bank/db-0/app")
        .of("/k8s/bank/db")
        .with("image", CRIO_IMAGE),
    kind("crio-pause", Start::Crio(Crio::Sandbox), ""),
    kind("crio-conmon", Start::Crio(Crio::Monitor), ""),
    kind(
        "gvisor",
        Start::Gvisor {
            pod: Some("agent-np9pk"),
        },
        "/k8s/bank/agent-np9pk/sandbox",
    )
    .of("/k8s/bank/agent")
    .with("image", CONTAINERD_IMAGE),
    // Claims to be the sandbox of the pod above, from the cgroup of another.
    kind(
        "gvisor-other",
        Start::Gvisor { pod: None },
        "/pod/00000000-0000-4000-8000-00000000000f/sandbox",
    ),
    kind("nested", Start::Nested, "/k8s/nested/web-0/app")
        .of("/k8s/nested/web")
        .with("image", CONTAINERD_IMAGE),
    kind("nomad", Start::Docker(NOMAD), "/nomad/default/shop/front/5f0e/web").with("image", DOCKER_IMAGE),
    kind(
        "ecs",
        Start::Docker(&[HOST, "--cgroup-parent=/ecs/tarsier-it-task"]),
        "/docker/kinds-ecs",
    )
    .with("image", DOCKER_IMAGE),
    kind(
        "lxc",
        Start::Path("/lxc.payload.kinds/system.slice/a.service"),
        "/lxc/kinds",
    ),
    kind("talos", Start::Path("/podruntime/kinds"), "/talos/kinds"),
];
