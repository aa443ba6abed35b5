//! The manifest as it is shipped: its image, as a pod of a real containerd, with exactly its rights and mounts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tarsier_integration::{
    Cgroup, Feature, Metrics, Netns, Place, Script, Traffic, agent_image, demand, eventually, free_port, http_get,
    of_dockerfile, realtime_is_rationed, require_root, require_tool, shipped,
};

/// Feature, state, reason.
const EXPECTED: &str = include_str!("../recordings/pod-features.txt");

/// The pod's specification and its only container's.
fn specification() -> (Value, Value) {
    let manifest = shipped("configs/kubernetes/daemonset.yaml");
    let mut documents =
        serde_yaml_ng::Deserializer::from_str(&manifest).map(|document| Value::deserialize(document).unwrap());
    let daemon_set = documents
        .find(|document| document["kind"] == "DaemonSet")
        .expect("there is a DaemonSet");
    let pod = daemon_set["spec"]["template"]["spec"].clone();
    let container = pod["containers"][0].clone();
    assert!(container.is_object(), "a pod has a container");
    (pod, container)
}

/// What the image starts, and the container's arguments.
fn command(container: &Value) -> Vec<String> {
    let mut command = of_dockerfile("ENTRYPOINT");
    if let Some(instead) = container["command"].as_array() {
        command = instead.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    }
    let arguments = container["args"].as_array().cloned().unwrap_or_default();
    command.extend(arguments.iter().map(|word| word.as_str().unwrap().to_owned()));
    command
}

const IMAGE: &str = "localhost/tarsier:it";

/// What a kubelet makes of it; the pod's own volumes are folders under `folder`.
fn pod(specification: &Value, container: &Value, folder: &Path, uid: &str, listen: SocketAddr) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut volumes = BTreeMap::new();
    for volume in list(&specification["volumes"]) {
        let name = volume["name"].as_str().unwrap().to_owned();
        let own = folder.join(&name);
        fs::create_dir_all(&own).unwrap();
        volumes.insert(name, volume["hostPath"]["path"].as_str().map_or(own, PathBuf::from));
    }
    let mounts: Vec<_> = list(&container["volumeMounts"])
        .iter()
        .map(|mount| {
            let host = &volumes[mount["name"].as_str().unwrap()];
            json!({ "container": mount["mountPath"], "host": host, "readonly": mount["readOnly"] == true })
        })
        .collect();
    let environment = list(&container["env"]);
    let mut environment: BTreeMap<_, _> = environment
        .iter()
        .map(|entry| (entry["name"].as_str().unwrap(), entry["value"].clone()))
        .collect();
    environment.insert("TARSIER__HTTP__LISTEN", json!(listen));
    let security = &container["securityContext"];
    let names = |key: &str| list(&security["capabilities"][key]);
    json!({
        "name": "tarsier-it", "namespace": "tarsier", "uid": uid, "image": IMAGE, "command": command(container),
        "cgroup_parent": parent_of(uid), "log_directory": folder, "env": environment, "mounts": mounts,
        "host_pid": specification["hostPID"] == true, "host_network": specification["hostNetwork"] == true,
        "security": {
            "privileged": security["privileged"] == true,
            "readonly_root": security["readOnlyRootFilesystem"] == true,
            "no_new_privs": security["allowPrivilegeEscalation"] == false,
            "run_as_user": security["runAsUser"],
            "add": names("add"), "drop": names("drop"),
            "seccomp": security["seccompProfile"]["type"].as_str().unwrap_or("Unconfined"),
        },
    })
}

fn parent_of(uid: &str) -> String {
    format!("/kubepods/burstable/pod{uid}")
}

fn features(address: SocketAddr) -> Option<Vec<Feature>> {
    let response = http_get(address, "/readyz", &[], Duration::from_secs(2)).ok()?;
    Some(Feature::rows(&response))
}

#[test]
fn the_manifest_gives_what_the_agent_needs() {
    if !(require_root() && require_tool(&["containerd", "runc", "ctr", "mmdebstrap", "busybox", "python3", "ip"])) {
        return;
    }
    let python = Command::new("/usr/bin/python3").args(["-c", "import grpc"]).output();
    let cni = ["bridge", "host-local", "loopback"].map(|plugin| Path::new("/usr/lib/cni").join(plugin).exists());
    if !(demand("python3-grpcio", python.is_ok_and(|output| output.status.success()))
        && demand("cni-plugins", cni == [true; 3]))
    {
        return;
    }
    let (specification, container) = specification();
    let uid = format!("{:08x}-0000-4000-8000-000000000001", std::process::id());
    // Removes what the runtime leaves of the tree.
    let _parent = Cgroup::at(&parent_of(&uid));
    let containerd = Script::new("containerd.sh");
    containerd.run(&["start"]);
    let folder = containerd.folder().join("pod");
    fs::create_dir_all(&folder).unwrap();
    let archive = containerd.folder().join("image.tar");
    agent_image(&archive, IMAGE, Path::new(env!("CARGO_TARGET_TMPDIR")));
    containerd.run(&["import", archive.to_str().unwrap()]);
    let file = folder.join("pod.json");
    // Somebody who listens where the pod may not go.
    let netns = Netns::new();
    let elsewhere = netns.inside(free_port())[0].to_string();
    let _elsewhere = Place::new().netns(&netns).start(&["serve", &elsewhere]);
    // The usual port of the machine may be another's.
    assert_eq!(container["ports"][0]["containerPort"], 10300);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let pod = pod(&specification, &container, &folder, &uid, address);
    assert_eq!(pod["host_network"], true);
    fs::write(&file, pod.to_string()).unwrap();
    containerd.run(&["cri", "run-pod", file.to_str().unwrap()]);
    let log = || fs::read_to_string(folder.join("agent.log")).unwrap_or_default();
    let probe = |name: &str| {
        container[name]["httpGet"]["path"]
            .as_str()
            .expect("it has probes")
            .to_owned()
    };

    eventually(
        Duration::from_secs(30),
        &format!("the probe is content; {}", log()),
        || {
            http_get(address, &probe("readinessProbe"), &[], Duration::from_secs(2))
                .is_ok_and(|response| response.status == 200)
        },
    );
    assert_eq!(
        http_get(address, &probe("livenessProbe"), &[], Duration::from_secs(2))
            .unwrap()
            .status,
        200,
        "{}",
        log()
    );
    // The list is of a node whose first process may be looked at; here it may not be.
    let hidden = fs::read_link("/proc/1/ns/net").is_err();
    let expected: Vec<_> = EXPECTED
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let found = || -> Vec<String> {
        let rows = features(address).unwrap_or_default().into_iter();
        let row = |row: Feature| match row.name.as_str() {
            "host_netns" | "host_files" if hidden && !row.ok() => format!("{} ok", row.name),
            // Somebody on the machine has asked a name server meanwhile.
            "realtime" if realtime_is_rationed() && !row.ok() => "realtime ok".to_owned(),
            "fqdn" if row.ok() => "fqdn off no_answers".to_owned(),
            _ => format!("{} {} {}", row.name, row.state, row.reason)
                .trim_end()
                .to_owned(),
        };
        let mut rows: Vec<_> = rows.map(row).collect();
        rows.sort();
        rows
    };
    eventually(
        Duration::from_secs(20),
        &format!("{expected:?}; {:?}; {}", features(address), log()),
        || found() == expected,
    );

    // It sees the node's services from inside, and shows them after half a minute, as the defaults are.
    let group = Cgroup::service("seen");
    let destination = netns.outside(free_port())[0].to_string();
    let _server = Place::new().start(&["serve", &destination, "--keep"]);
    let _held = Place::new()
        .cgroup(&group)
        .netns(&netns)
        .start(&["hold", &destination, "--count", "9"]);
    let labels = [("container_id", group.id()), ("destination", &destination)];
    let expected = Traffic {
        successful: 9,
        active: 9,
        ..Traffic::default()
    };
    eventually(
        Duration::from_secs(60),
        &format!("nine connects of {}; {}", group.id(), log()),
        || {
            let response = http_get(address, "/metrics", &[], Duration::from_secs(5)).expect("it answers");
            Traffic::of(&Metrics::parse(&response.text()), &labels) == expected
        },
    );
}
