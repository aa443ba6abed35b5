//! Names derived from other names.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use crate::base::ids::ContainerId;

/// The workload that a container is a part of, e.g. `/k8s/shop/web`; empty when its id does not tell.
///
/// Kubernetes makes names ambiguous: a Deployment's name may end like a hash. The order is the Go agent's. (It forgets
/// `/k8s-cronjob/`, so there a CronJob has no workload.)
pub fn app_id(id: &ContainerId) -> String {
    workload_of(id.as_str()).unwrap_or_default()
}

fn workload_of(id: &str) -> Option<String> {
    let mut parts = id.strip_prefix('/')?.splitn(4, '/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().filter(|container| !container.is_empty())?;
    if !is_name(namespace) || !is_name(name) {
        return None;
    }
    let owner = match kind {
        "k8s" => pod_owner(name)?,
        "k8s-cronjob" => name,
        _ => return None,
    };
    Some(format!("/{kind}/{namespace}/{owner}"))
}

pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn pod_owner(pod: &str) -> Option<&str> {
    let (rest, last) = pod.rsplit_once('-')?;
    if is_random(last) {
        return match rest.rsplit_once('-') {
            // A Deployment's ReplicaSet, or a Job's: a CronJob's Jobs carry their time in digits.
            Some((name, hash)) if !name.is_empty() && is_hash(hash) => Some(name),
            // A DaemonSet or a Job.
            _ => (!rest.is_empty()).then_some(rest),
        };
    }
    // A StatefulSet.
    let ordinal = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    (ordinal && !rest.is_empty()).then_some(rest)
}

fn is_hash(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What Kubernetes appends to a generated name. Its alphabet has no vowels, so that no name reads like a word.
pub(super) fn is_random(text: &str) -> bool {
    text.len() == 5 && text.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
}

const STANDALONE: &str = "/standalone/";

/// Stands for bare processes, which may have nothing but a name in common.
pub fn is_standalone(id: &ContainerId) -> bool {
    id.as_str().starts_with(STANDALONE)
}

/// The id of a process that belongs to no container. `name` is its `comm`, with or without the zero bytes after it.
///
/// Whoever runs a process chooses its name, so whatever could mislead (a slash, a control character) is replaced.
pub fn standalone_id(name: &[u8], tgid: u32, per_process: bool) -> ContainerId {
    let name = name.split(|&b| b == 0).next().unwrap_or_default();
    let misleading = |c: char| c == '/' || c == char::REPLACEMENT_CHARACTER || c.is_control();
    let name = String::from_utf8_lossy(name).replace(misleading, "_");
    let name = match name.trim() {
        "" => "unknown",
        name => name,
    };
    if per_process {
        format!("/standalone/{name}/{tgid}").into()
    } else {
        format!("/standalone/{name}").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn workloads() {
        for (id, expected) in [
            ("/k8s/ns/web-64cd4f9686-mvtnb/app", "/k8s/ns/web"),
            ("/k8s/ns/my-web-64cd4f9686-mvtnb/app", "/k8s/ns/my-web"),
            ("/k8s/ns/agent-np9pk/app", "/k8s/ns/agent"),
            ("/k8s/ns/agent-lllll/app", "/k8s/ns/agent"),
            ("/k8s/ns/my-agent-np9pk/app", "/k8s/ns/my-agent"),
            ("/k8s/ns/db-12/app", "/k8s/ns/db"),
            ("/k8s/ns/hello-28283967-khz2f/app", "/k8s/ns/hello"),
            ("/k8s/ns/64cd4f9686-mvtnb/app", "/k8s/ns/64cd4f9686"),
            ("/k8s-cronjob/ns/hello/app", "/k8s-cronjob/ns/hello"),
            ("/k8s/ns/web/app", ""),
            ("/k8s/ns/web-aaaaa/app", ""),
            ("/k8s/ns/web-/app", ""),
            ("/k8s/ns/-12/app", ""),
            ("/k8s/ns/-mvtnb/app", ""),
            ("/k8s/ns/web-12", ""),
            ("/k8s/ns/web-12/", ""),
            ("/k8s/ns/Web-12/app", ""),
            ("/k8s//web-12/app", ""),
            ("/k8s-cronjob/ns/hello", ""),
            ("/system.slice/k3s.service", ""),
            ("/docker/name", ""),
            ("/pod/7eca1cd7/0123456789ab", ""),
            ("", ""),
        ] {
            assert_eq!(app_id(&id.into()), expected, "{id}");
        }
    }

    #[test]
    fn bare_processes() {
        let id = |name: &[u8]| standalone_id(name, 7, false).to_string();
        assert_eq!(id(b"nginx"), "/standalone/nginx");
        assert_eq!(id(b"nginx\0\0\0garbage"), "/standalone/nginx");
        assert_eq!(id(b"tmux: server"), "/standalone/tmux: server");
        assert_eq!(id(b"../etc"), "/standalone/.._etc");
        assert_eq!(id(b"a\nb\x7f"), "/standalone/a_b_");
        assert_eq!(id(b"a\xffb"), "/standalone/a_b");
        assert_eq!(id("é".as_bytes()), "/standalone/é");
        assert_eq!(id(b""), "/standalone/unknown");
        assert_eq!(id(b" \0"), "/standalone/unknown");
        assert_eq!(standalone_id(b"nginx", 7, true).as_str(), "/standalone/nginx/7");
    }

    proptest! {
        #[test]
        fn a_name_is_one_segment(name: Vec<u8>) {
            let id = standalone_id(&name, 7, true);
            prop_assert_eq!(id.as_str().split('/').count(), 4);
            prop_assert!(!id.as_str().contains(char::is_control));
        }

        #[test]
        fn a_workload_is_a_part_of_the_id(id in "/(k8s|k8s-cronjob|x)/[a-z-]{0,3}/[a-z0-9-]{0,20}/?.{0,3}") {
            let app = app_id(&id.as_str().into());
            prop_assert!(id.starts_with(&app), "{}", app);
        }
    }
}
