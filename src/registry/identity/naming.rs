//! The name of a container once its runtime has said what it is.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use super::{
    IgnoredReason, gvisor,
    names::{is_name, is_random},
};
use crate::{
    base::ids::ContainerId,
    runtimes::{
        Runtime,
        metadata::{Metadata, limits},
    },
};

/// What becomes of a container that was named by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Container(ContainerId),
    Ignored(IgnoredReason),
    /// The path says it best.
    Unchanged,
}

/// Total. `path_id` is what [`super::owner`] gives; for a bare process, anything.
///
/// Whoever starts a container chooses its labels and its name, so each is one segment of the id and no more.
pub fn named(path_id: &ContainerId, metadata: &Metadata, now_unix_s: u64) -> Named {
    named_by(path_id, metadata, now_unix_s).1
}

/// With the row that says so; `None`: none does.
pub fn named_by(path_id: &ContainerId, metadata: &Metadata, now_unix_s: u64) -> (Option<&'static str>, Named) {
    let subject = Subject {
        path_id,
        metadata,
        now_minutes: now_unix_s / 60,
    };
    let answer = |(rule, row): &(&'static str, Row)| Some((Some(*rule), row(&subject)?));
    ROWS.iter().find_map(answer).unwrap_or((None, Named::Unchanged))
}

type Row = fn(&Subject<'_>) -> Option<Named>;

/// The first row that answers decides.
const ROWS: [(&str, Row); 8] = [
    ("unit", unit),
    ("stranger", stranger),
    ("pod_sandbox", pod_sandbox),
    ("cronjob", cronjob),
    ("pod", pod),
    ("swarm", swarm),
    ("nomad", nomad),
    ("by_name", by_name),
];

struct Subject<'a> {
    path_id: &'a ContainerId,
    metadata: &'a Metadata,
    now_minutes: u64,
}

impl<'a> Subject<'a> {
    fn label(&self, key: &str) -> &'a str {
        self.metadata.labels.get(key).map(String::as_str).unwrap_or_default()
    }

    fn gvisor_pod(&self) -> Option<&'a str> {
        gvisor::pod_of(self.path_id)
    }

    fn pod_name(&self) -> &'a str {
        self.label("io.kubernetes.pod.name")
    }

    fn pod_namespace(&self) -> &'a str {
        or_underscore(self.label("io.kubernetes.pod.namespace"))
    }

    /// gVisor runs all containers of a pod in one process, which has no container's name.
    fn pod_container(&self) -> &'a str {
        if self.gvisor_pod().is_some() {
            "sandbox"
        } else {
            self.label("io.kubernetes.container.name")
        }
    }
}

/// systemd's units are named by their place.
fn unit(subject: &Subject<'_>) -> Option<Named> {
    (subject.metadata.runtime == Runtime::Systemd).then_some(Named::Unchanged)
}

/// The id of a gVisor sandbox comes from a command line, and anybody may write what he likes into his: the pod must be
/// the one that the path names.
fn stranger(subject: &Subject<'_>) -> Option<Named> {
    let uid = subject.gvisor_pod()?;
    (subject.label("io.kubernetes.pod.uid") != uid).then_some(Named::Unchanged)
}

fn pod_sandbox(subject: &Subject<'_>) -> Option<Named> {
    let gvisor = subject.gvisor_pod().is_some();
    let nameless = || !subject.pod_name().is_empty() && matches!(subject.pod_container(), "" | "POD");
    (!gvisor && (subject.metadata.sandbox || nameless())).then_some(Named::Ignored(IgnoredReason::PodSandbox))
}

/// A CronJob's pods carry the minute that they were due in their names, which would make each run a container of its own.
fn cronjob(subject: &Subject<'_>) -> Option<Named> {
    const WEEK_MINUTES: u64 = 7 * 24 * 60;
    let (job, random) = subject.pod_name().rsplit_once('-')?;
    let (name, due) = job.rsplit_once('-')?;
    let digits = due.len() == 8 && due.bytes().all(|b| b.is_ascii_digit());
    let recent = digits && due.parse::<u64>().ok()?.abs_diff(subject.now_minutes) <= WEEK_MINUTES;
    (recent && is_name(name) && is_random(random)).then(|| {
        let (namespace, container) = (subject.pod_namespace(), subject.pod_container());
        container_id(&["k8s-cronjob", namespace, name, container])
    })
}

fn pod(subject: &Subject<'_>) -> Option<Named> {
    let (namespace, name, container) = (subject.pod_namespace(), subject.pod_name(), subject.pod_container());
    (!name.is_empty()).then(|| container_id(&["k8s", namespace, name, container]))
}

/// `<service>.<slot, or node>.<task>`: the last changes with every restart.
fn swarm(subject: &Subject<'_>) -> Option<Named> {
    let parts: Vec<_> = subject.label("com.docker.swarm.task.name").split('.').collect();
    let [of_task, slot, _] = *parts.as_slice() else {
        return None;
    };
    let stack = subject.label("com.docker.stack.namespace");
    let service = subject.label("com.docker.swarm.service.name");
    let service = if service.is_empty() { of_task } else { service };
    let within = service.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_'));
    let service = within.filter(|_| !stack.is_empty()).unwrap_or(service);
    (!service.is_empty() && !slot.is_empty()).then(|| container_id(&["swarm", or_underscore(stack), service, slot]))
}

fn nomad(subject: &Subject<'_>) -> Option<Named> {
    let variable = |name| {
        let value = subject.metadata.environment.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    };
    Some(container_id(&[
        "nomad",
        variable("NOMAD_NAMESPACE")?,
        variable("NOMAD_JOB_NAME")?,
        variable("NOMAD_GROUP_NAME")?,
        variable("NOMAD_ALLOC_ID")?,
        variable("NOMAD_TASK_NAME")?,
    ]))
}

/// Podman's and CRI-O's are called as Docker's are: who moves from one to another keeps the history. Containers of plain
/// containerd are unique within a namespace only. (The Go agent leaves those out.)
fn by_name(subject: &Subject<'_>) -> Option<Named> {
    let Metadata {
        name,
        namespace,
        runtime,
        ..
    } = subject.metadata;
    (!name.is_empty()).then(|| match runtime {
        Runtime::Containerd => container_id(&["containerd", or_underscore(namespace), name]),
        Runtime::Docker | Runtime::Podman | Runtime::Crio | Runtime::Systemd => container_id(&["docker", name]),
    })
}

fn or_underscore(text: &str) -> &str {
    if text.is_empty() { "_" } else { text }
}

fn container_id(segments: &[&str]) -> Named {
    let misleading = |c: char| c == '/' || c.is_control();
    let mut id = String::new();
    for segment in segments {
        let end = segment.floor_char_boundary(limits::NAME_BYTES);
        let segment = segment.get(..end).unwrap_or_default();
        id.push('/');
        id.push_str(&segment.replace(misleading, "_"));
    }
    Named::Container(id.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The minute 28283967, in which the job of the vectors below was due.
    const NOW: u64 = 28_283_967 * 60;
    const DAY: u64 = 24 * 60 * 60;
    const PATH: &str = "/docker/0123456789ab";
    const GVISOR: &str = "/pod/7eca1cd7/sandbox";

    fn text(named: Named) -> String {
        match named {
            Named::Container(id) => id.to_string(),
            Named::Ignored(reason) => reason.as_str().to_owned(),
            Named::Unchanged => "unchanged".to_owned(),
        }
    }

    fn metadata(runtime: Runtime, name: &str, labels: &[(&str, &str)]) -> Metadata {
        let mut metadata = Metadata::new(runtime);
        metadata.set_name(name);
        metadata.set_labels(labels.iter().copied());
        metadata
    }

    fn by_labels(path_id: &str, labels: &[(&str, &str)]) -> String {
        text(named(&path_id.into(), &metadata(Runtime::Docker, "web", labels), NOW))
    }

    fn of_pod(pod: &str, container: &str, now: u64) -> String {
        let labels = [
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.pod.name", pod),
            ("io.kubernetes.container.name", container),
        ];
        text(named(&PATH.into(), &metadata(Runtime::Containerd, "", &labels), now))
    }

    #[test]
    fn pods() {
        assert_eq!(
            of_pod("web-64cd4f9686-mvtnb", "app", NOW),
            "/k8s/shop/web-64cd4f9686-mvtnb/app"
        );
        assert_eq!(of_pod("db-0", "app", NOW), "/k8s/shop/db-0/app");
        assert_eq!(of_pod("db-0", "", NOW), "pod_sandbox");
        assert_eq!(of_pod("db-0", "POD", NOW), "pod_sandbox");
        assert_eq!(of_pod("", "app", NOW), "unchanged");
        let no_namespace = [
            ("io.kubernetes.pod.name", "db-0"),
            ("io.kubernetes.container.name", "app"),
        ];
        assert_eq!(by_labels(PATH, &no_namespace), "/k8s/_/db-0/app");

        let mut pause = metadata(Runtime::Crio, "k8s_POD_db-0", &no_namespace);
        pause.sandbox = true;
        assert_eq!(text(named(&PATH.into(), &pause, NOW)), "pod_sandbox");
    }

    #[test]
    fn cronjobs() {
        let pod = "hello-28283967-khz2f";
        assert_eq!(of_pod(pod, "app", NOW), "/k8s-cronjob/shop/hello/app");
        assert_eq!(
            of_pod("my-job-28283967-khz2f", "app", NOW),
            "/k8s-cronjob/shop/my-job/app"
        );
        assert_eq!(of_pod(pod, "POD", NOW), "pod_sandbox");
        for (now, is_job) in [
            (NOW + 7 * DAY, true),
            (NOW - 7 * DAY, true),
            (NOW + 7 * DAY + 60, false),
            (NOW - 7 * DAY - 60, false),
            (0, false),
        ] {
            assert_eq!(of_pod(pod, "app", now).starts_with("/k8s-cronjob/"), is_job, "{now}");
        }
        for pod in [
            "hello-2828396-khz2f",
            "hello-028283967-khz2f",
            "hello-2828396a-khz2f",
            "hello-+8283967-khz2f",
            "hello-28283967-khz2",
            "hello-28283967-aeiou",
            "Hello-28283967-khz2f",
            "-28283967-khz2f",
            "28283967-khz2f",
        ] {
            assert_eq!(of_pod(pod, "app", NOW), format!("/k8s/shop/{pod}/app"));
        }
    }

    #[test]
    fn gvisor_sandboxes() {
        let labels = |uid| {
            [
                ("io.kubernetes.pod.namespace", "shop"),
                ("io.kubernetes.pod.name", "db-0"),
                ("io.kubernetes.pod.uid", uid),
            ]
        };
        assert_eq!(by_labels(GVISOR, &labels("7eca1cd7")), "/k8s/shop/db-0/sandbox");
        assert_eq!(by_labels(GVISOR, &labels("other")), "unchanged");
        assert_eq!(by_labels(GVISOR, &[]), "unchanged");
        assert_eq!(
            by_labels("/pod/7eca1cd7/0123456789ab", &labels("7eca1cd7")),
            "pod_sandbox"
        );
        let mut sandbox = metadata(Runtime::Containerd, "", &labels("7eca1cd7"));
        sandbox.sandbox = true;
        assert_eq!(text(named(&GVISOR.into(), &sandbox, NOW)), "/k8s/shop/db-0/sandbox");
    }

    #[test]
    fn swarm_tasks() {
        let swarm = |task: &str, service: &str, stack: &str| {
            let labels = [
                ("com.docker.swarm.task.name", task),
                ("com.docker.swarm.service.name", service),
                ("com.docker.stack.namespace", stack),
            ];
            by_labels(PATH, &labels)
        };
        assert_eq!(swarm("shop_web.2.x1y2", "shop_web", "shop"), "/swarm/shop/web/2");
        assert_eq!(swarm("web.2.x1y2", "web", ""), "/swarm/_/web/2");
        assert_eq!(swarm("web.node7.x1y2", "web", ""), "/swarm/_/web/node7");
        assert_eq!(swarm("web.2.x1y2", "", ""), "/swarm/_/web/2");
        assert_eq!(swarm("shopping.2.x1y2", "shopping", "shop"), "/swarm/shop/shopping/2");
        assert_eq!(swarm("_web.2.x1y2", "_web", ""), "/swarm/_/_web/2");
        for task in ["web.2", "web.2.x1.y2", "web..x1y2", "", "web"] {
            assert_eq!(swarm(task, "web", ""), "/docker/web", "{task}");
        }
    }

    #[test]
    fn nomad_tasks() {
        let variables = [
            "NOMAD_NAMESPACE=default",
            "NOMAD_JOB_NAME=shop",
            "NOMAD_GROUP_NAME=front",
            "NOMAD_ALLOC_ID=5f0e",
            "NOMAD_TASK_NAME=web",
        ];
        let with = |variables: &[&str]| {
            let mut metadata = metadata(Runtime::Docker, "web-5f0e", &[]);
            metadata.set_environment(variables.iter().copied());
            text(named(&PATH.into(), &metadata, NOW))
        };
        assert_eq!(with(&variables), "/nomad/default/shop/front/5f0e/web");
        for missing in 0..variables.len() {
            let mut fewer = variables.to_vec();
            let name = fewer.remove(missing).split_once('=').unwrap().0;
            assert_eq!(with(&fewer), "/docker/web-5f0e", "without {name}");
            fewer.push(name);
            let empty = format!("{name}=");
            fewer.push(&empty);
            assert_eq!(with(&fewer), "/docker/web-5f0e", "{empty}");
        }
    }

    #[test]
    fn names() {
        let name = |runtime, name| text(named(&PATH.into(), &metadata(runtime, name, &[]), NOW));
        assert_eq!(name(Runtime::Docker, "/web"), "/docker/web");
        assert_eq!(name(Runtime::Podman, "web"), "/docker/web");
        assert_eq!(name(Runtime::Crio, "web"), "/docker/web");
        assert_eq!(name(Runtime::Docker, ""), "unchanged");
        assert_eq!(name(Runtime::Containerd, "c1"), "/containerd/_/c1");
        let mut c1 = metadata(Runtime::Containerd, "c1", &[]);
        c1.namespace = "default".to_owned();
        assert_eq!(
            text(named(&"/standalone/sh".into(), &c1, NOW)),
            "/containerd/default/c1"
        );

        let nginx = "/system.slice/nginx.service";
        let unit = metadata(
            Runtime::Systemd,
            "nginx.service",
            &[("io.kubernetes.pod.name", "web-0")],
        );
        assert_eq!(text(named(&nginx.into(), &unit, NOW)), "unchanged");
    }

    #[test]
    fn nobody_gets_anothers_id() {
        let name = |name| text(named(&PATH.into(), &metadata(Runtime::Docker, name, &[]), NOW));
        assert_eq!(name("//../k8s/shop/db-0/app"), "/docker/_.._k8s_shop_db-0_app");
        assert_eq!(name("a\nb\u{7f}"), "/docker/a_b_");
        assert_eq!(of_pod("db-0/app", "x\"y", NOW), "/k8s/shop/db-0_app/x\"y");
        let mut c1 = metadata(Runtime::Containerd, "c1", &[]);
        c1.namespace = "default/c0".to_owned();
        assert_eq!(text(named(&PATH.into(), &c1, NOW)), "/containerd/default_c0/c1");
        let long = "x".repeat(limits::VALUE_BYTES);
        assert_eq!(
            of_pod(&long, "app", NOW),
            format!("/k8s/shop/{}/app", "x".repeat(limits::NAME_BYTES))
        );
    }

    proptest! {
        #[test]
        fn total(
            path in "/(pod/[a-f]{0,3}/sandbox|docker/\\PC{0,4})",
            runtime in 0..Runtime::ALL.len(),
            name in ".{0,8}",
            namespace in ".{0,8}",
            sandbox: bool,
            values in prop::collection::vec("(.{0,300}|[a-z_]{1,3}\\.[0-9]\\.x|hello-28283967-khz2f|[a-f]{1,3}|POD)", 7),
            now: u64,
        ) {
            const LABELS: [&str; 7] = [
                "io.kubernetes.pod.name",
                "io.kubernetes.pod.namespace",
                "io.kubernetes.pod.uid",
                "io.kubernetes.container.name",
                "com.docker.swarm.task.name",
                "com.docker.swarm.service.name",
                "com.docker.stack.namespace",
            ];
            let labels = LABELS.iter().zip(&values).filter(|(_, value)| !value.is_empty());
            let mut metadata = Metadata::new(Runtime::ALL[runtime]);
            metadata.set_labels(labels.map(|(key, value)| (*key, value.as_str())));
            metadata.set_name(&name);
            metadata.namespace = namespace;
            metadata.sandbox = sandbox;
            if let Named::Container(id) = named(&path.as_str().into(), &metadata, now) {
                let id = id.as_str();
                prop_assert!(id.starts_with('/') && id.len() <= 6 * (limits::NAME_BYTES + 1));
                prop_assert!(!id.contains(char::is_control));
                let segments: Vec<_> = id.split('/').skip(1).collect();
                let expected = match segments[0] {
                    "docker" => 2,
                    "containerd" => 3,
                    "nomad" => 6,
                    _ => 4,
                };
                prop_assert_eq!(segments.len(), expected, "{}", id);
                prop_assert!(segments.iter().all(|segment| !segment.is_empty()));
            }
        }
    }
}
