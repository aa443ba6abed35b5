//! What an id says piece by piece.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use super::app_id;
use crate::base::ids::ContainerId;

/// Empty where the id does not tell. Of the id alone: what a container is besides may differ from one of its lives to the
/// next, or be known later, and a label that changes makes another series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub namespace: String,
    pub workload: String,
    pub pod: String,
    pub container: String,
    pub process: String,
    pub pid: String,
}

/// Total.
pub fn parts(id: &ContainerId) -> Parts {
    let segments: Vec<&str> = id.as_str().split('/').skip(1).collect();
    // What its runtime had no name for.
    let text = |segment: &str| {
        if segment == "_" {
            String::new()
        } else {
            segment.to_owned()
        }
    };
    let mut parts = Parts::default();
    match *segments.as_slice() {
        ["k8s", namespace, pod, container] => {
            parts.namespace = text(namespace);
            parts.pod = text(pod);
            parts.container = text(container);
            let workload = app_id(id);
            parts.workload = workload.rsplit('/').next().unwrap_or_default().to_owned();
        }
        // All its pods are one.
        ["k8s-cronjob", namespace, job, container] => {
            (parts.namespace, parts.workload) = (text(namespace), text(job));
            parts.container = text(container);
        }
        ["swarm", stack, service, task] => {
            (parts.namespace, parts.workload) = (text(stack), text(service));
            parts.container = text(task);
        }
        ["nomad", namespace, job, _, _, task] => {
            (parts.namespace, parts.workload) = (text(namespace), text(job));
            parts.container = text(task);
        }
        ["containerd", namespace, container] => {
            (parts.namespace, parts.container) = (text(namespace), text(container));
        }
        ["docker" | "lxc" | "talos", container] => parts.container = text(container),
        ["standalone", process] => parts.process = text(process),
        ["standalone", process, pid] => (parts.process, parts.pid) = (text(process), text(pid)),
        [slice, .., unit] if slice.ends_with(".slice") => parts.workload = text(unit),
        _ => {}
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_every_kind() {
        for (id, [namespace, workload, pod, container, process, pid]) in [
            (
                "/k8s/shop/web-64cd4f9686-mvtnb/app",
                ["shop", "web", "web-64cd4f9686-mvtnb", "app", "", ""],
            ),
            ("/k8s/shop/web/app", ["shop", "", "web", "app", "", ""]),
            ("/k8s/_/db-0/app", ["", "", "db-0", "app", "", ""]),
            ("/k8s-cronjob/shop/hello/app", ["shop", "hello", "", "app", "", ""]),
            ("/pod/7eca1cd7/0123456789ab", [""; 6]),
            ("/swarm/shop/web/2", ["shop", "web", "", "2", "", ""]),
            ("/swarm/_/web/2", ["", "web", "", "2", "", ""]),
            (
                "/nomad/default/shop/front/5f0e/web",
                ["default", "shop", "", "web", "", ""],
            ),
            ("/containerd/default/c1", ["default", "", "", "c1", "", ""]),
            ("/docker/web", ["", "", "", "web", "", ""]),
            ("/lxc/web", ["", "", "", "web", "", ""]),
            ("/system.slice/nginx.service", ["", "nginx.service", "", "", "", ""]),
            ("/standalone/nginx", ["", "", "", "", "nginx", ""]),
            ("/standalone/nginx/7", ["", "", "", "", "nginx", "7"]),
            ("/standalone/tmux: server", ["", "", "", "", "tmux: server", ""]),
            ("/system.slice", [""; 6]),
            ("/k8s/shop", [""; 6]),
            ("docker", [""; 6]),
            ("", [""; 6]),
        ] {
            let expected = Parts {
                namespace: namespace.to_owned(),
                workload: workload.to_owned(),
                pod: pod.to_owned(),
                container: container.to_owned(),
                process: process.to_owned(),
                pid: pid.to_owned(),
            };
            assert_eq!(parts(&id.into()), expected, "{id}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_a_part_of_the_id(id in "(/(k8s|k8s-cronjob|swarm|nomad|docker|standalone|a.slice|_|.{0,9})){0,6}") {
            let Parts { namespace, workload, pod, container, process, pid } = parts(&id.as_str().into());
            for part in [namespace, workload, pod, container, process, pid] {
                prop_assert!(id.contains(&part), "{part:?} of {id:?}");
            }
        }
    }
}
