use super::*;
use proptest::prelude::*;

const X: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const Y: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
const UID: &str = "7d3a2b1c-0e4f-4a5b-8c6d-9e0f1a2b3c4d";
const SYSTEMD_UID: &str = "7d3a2b1c_0e4f_4a5b_8c6d_9e0f1a2b3c4d";
/// A static pod's.
const HASH: &str = "7eca1cd7a5dbc7d6b4be0a8a3b1b5d5a";

fn full(path: &str) -> String {
    path.replace('X', X)
        .replace('Y', Y)
        .replace("UID_", SYSTEMD_UID)
        .replace("UID", UID)
}

fn check(rows: &[(&str, &str)]) {
    for (path, expected) in rows {
        let path = full(path);
        let got = match owner(&path) {
            Owner::Container(id) => id.to_string(),
            Owner::Standalone | Owner::Perhaps(_) => "standalone".to_owned(),
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
    check(&[(&format!("/ecs/{}", X.to_uppercase()), "standalone")]);
}

#[test]
fn who_may_be_a_container() {
    let perhaps = |id: &str| Owner::Perhaps(id.into());
    assert_eq!(owner("/default/c1"), perhaps("/containerd/default/c1"));
    assert_eq!(owner("/docker/buildx"), perhaps("/containerd/docker/buildx"));
    assert_eq!(owner("/default/c1/below"), Owner::Standalone);
    assert_eq!(owner("/default"), Owner::Standalone);
}

#[test]
fn whom_to_ask() {
    let ask = |path: &str| match lookup(&full(path)) {
        None => String::new(),
        Some(Lookup::Engine { id, engines }) => {
            let which = if *id == *X { "X" } else { "Y" };
            assert!(*id == *X || *id == *Y, "{path}: {id}");
            format!("{engines:?} {which}")
        }
        Some(Lookup::Named { namespace, name }) => format!("{namespace} {name}"),
        Some(Lookup::Unit { unit }) => format!("unit {unit}"),
    };
    for (path, expected) in [
        ("/docker/X", "Docker X"),
        ("/docker/X/docker/Y", "Docker X"),
        ("/system.slice/docker-X.scope", "Docker X"),
        ("/machine.slice/libpod-X.scope/container", "Podman X"),
        ("/libpod_parent/Y/libpod-X", "Podman X"),
        ("/system.slice/nerdctl-X.scope", "Containerd X"),
        ("/ecs/task1/X", "Any X"),
        ("/default/X", "Any X"),
        ("/kubepods/burstable/podUID/X", "Any X"),
        ("/kubepods.slice/kubepods-podUID_.slice/docker-X.scope", "Docker X"),
        (
            "/kubepods.slice/kubepods-podUID_.slice/cri-containerd-X.scope",
            "Containerd X",
        ),
        (
            "/system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:X",
            "Containerd X",
        ),
        (
            "/kubepods.slice/kubepods-podUID_.slice/crio-X.scope/container",
            "Crio X",
        ),
        ("/docker/Y/kubelet/kubepods/besteffort/podUID/X", "Any X"),
        ("/kubepods/burstable/podUID", ""),
        ("/kubepods.slice/kubepods-podUID_.slice/crio-conmon-X.scope", ""),
        ("/system.slice/nginx.service", "unit nginx.service"),
        ("/system.slice/nginx.service/worker.scope", "unit nginx.service"),
        ("/system.slice/nginx.service/a/b.service", "unit nginx.service"),
        ("/system.slice/system-postgresql.slice/postgresql@9.4-main.service", ""),
        (
            "/system.slice/system-serial\\x2dgetty.slice",
            "unit system-serial\\x2dgetty.slice",
        ),
        ("/system.slice/dbus.socket/a", "unit dbus.socket"),
        ("/kube.slice/kubelet.service", "unit kubelet.service"),
        ("/system.slice/run-r1.scope", ""),
        ("/system.slice", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", ""),
        ("/user.slice/libpod-X.scope", ""),
        ("/k8s.io/c1", "k8s.io c1"),
        ("/default/c1", "default c1"),
        ("/default/c1/below", ""),
        ("/default", ""),
        ("/machine.slice/c1", ""),
        ("/default/.c1", ""),
        ("/default/c 1", ""),
        ("/podruntime/kubelet", ""),
        ("/lxc/db", ""),
        ("/init", ""),
        ("/", ""),
    ] {
        assert_eq!(ask(path), expected, "{path}");
    }
    let long = format!("/default/{}", "a".repeat(77));
    assert_eq!(lookup(&long), None);
}

proptest! {
    #[test]
    fn total(path in "(/(docker|kubepods|system\\.slice|pod|lxc|libpod-|\\PC{0,8}|[0-9a-f]{64}|.{0,8})){0,6}") {
        if let Owner::Container(id) = owner(&path) {
            prop_assert!(id.as_str().starts_with('/') && id.as_str().len() > 1);
            prop_assert!(!id.as_str().contains(char::is_control));
        }
        if let Some(Lookup::Unit { unit }) = lookup(&path) {
            prop_assert!(!unit.is_empty() && path.contains(&*unit));
        }
        if let Owner::Perhaps(id) = owner(&path) {
            prop_assert!(id.as_str().starts_with("/containerd/") && lookup(&path).is_some());
        }
    }
}
