//! Whoever starts a container writes what he likes into its labels, its environment and its cgroups. The agent goes on, its
//! answers stay valid, and everybody has the name that is his.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use serde_json::{Map, Value, json};
use std::{
    ffi::OsStr,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
    process::{Command, Stdio},
    time::Duration,
};
use tarsier_integration::{
    Agent, Cgroup, Netns, Place, Running, Script, Traffic, free_port, require_root, require_tool,
};

const MANY: usize = 10_000;
const HUGE: usize = 1 << 20;
/// The kernel takes no longer word of an environment.
const LONG: usize = 100 << 10;
/// Stands for bytes that are not UTF-8.
const RAW: &str = "RAW-BYTES";
const CONNECTS: u64 = 5;

/// Everybody connects to a server of his own.
struct Scene {
    docker: Script,
    containerd: Script,
    group: Cgroup,
    netns: Netns,
    /// Who it is to be, by where he connects to.
    expected: Vec<(SocketAddr, String)>,
    servers: Vec<Running>,
}

impl Scene {
    fn new() -> Self {
        let docker = Script::new("dockerd.sh");
        docker.run(&["start", "--bridge=none", "--iptables=false"]);
        let containerd = Script::new("containerd.sh");
        containerd.run(&["start"]);
        Self {
            docker,
            containerd,
            // Where containerd puts those of a namespace.
            group: Cgroup::at(&format!("/tarsier-it-{}", std::process::id())),
            netns: Netns::new(),
            expected: vec![],
            servers: vec![],
        }
    }

    fn agent(&self) -> Agent {
        let mut builder = Agent::builder()
            .set("RUNTIMES__DOCKER__SOCKETS", &self.docker.run(&["sock"]))
            .set("RUNTIMES__CONTAINERD__SOCKETS", &self.containerd.run(&["sock"]));
        for other in ["PODMAN", "CRIO", "SYSTEMD"] {
            builder = builder.set(&format!("RUNTIMES__{other}__ENABLED"), "false");
        }
        builder.start()
    }

    /// For him who is to be seen under this id.
    fn server(&mut self, id: &str) -> SocketAddr {
        let address = self.netns.inside(free_port())[0];
        let server = Place::new().netns(&self.netns).start(&["serve", &address.to_string()]);
        self.servers.push(server);
        self.expected.push((address, id.to_owned()));
        address
    }

    /// By dockerd's API: its command line takes less.
    fn docker(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        more: Map<String, Value>,
        environment: &[String],
        id: &str,
    ) {
        let address = self.server(id);
        let mut all = more;
        all.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        let body = json!({
            "Image": "busybox:test", "Cmd": command(address), "Labels": all, "Env": environment,
            "HostConfig": { "NetworkMode": "host" },
        });
        let body = replaced(body.to_string().as_bytes());
        let socket = self.docker.run(&["sock"]);
        let mut stream = UnixStream::connect(socket).unwrap();
        let head = format!(
            "POST /containers/create?name={name} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{name}: {answer}");
        self.docker.run(&["docker", "start", name]);
    }

    fn containerd(&mut self, name: &str, flags: &[String], id: &str) {
        let namespace = self.group.id().trim_start_matches('/').to_owned();
        let address = self.server(id);
        let mut run = self.containerd.command(&["run", &namespace, name, "--net-host"]);
        run.args(
            flags
                .iter()
                .map(|flag| OsStr::from_bytes(&replaced(flag.as_bytes())).to_owned()),
        );
        let output = run.arg("--").args(command(address)).output().unwrap();
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn check(&self, agent: &Agent) {
        let traffic = Traffic {
            successful: CONNECTS,
            ..Traffic::default()
        };
        for (address, id) in &self.expected {
            traffic.expect_of(agent, id, &address.to_string());
        }
    }
}

fn replaced(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    while let Some(at) = bytes.windows(RAW.len()).position(|window| window == RAW.as_bytes()) {
        bytes.splice(at..at + RAW.len(), *b"\xff\xc3(\xfe");
    }
    bytes
}

fn command(address: SocketAddr) -> Vec<String> {
    let (ip, port) = (address.ip(), address.port());
    let script = format!(
        "i=0; while [ $i -lt {CONNECTS} ]; do nc {ip} {port} </dev/null >/dev/null; i=$((i+1)); done; sleep 600"
    );
    ["/bin/sh".to_owned(), "-c".to_owned(), script].into()
}

fn many() -> Map<String, Value> {
    (0..MANY).map(|at| (format!("a{at}"), json!("\"\\\n/"))).collect()
}

/// Labels by which a pod would be named.
fn pod(name: &str) -> [(&str, &str); 3] {
    [
        ("io.kubernetes.pod.name", name),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.container.name", "app"),
    ]
}

/// What no parser of metrics may stumble over.
fn is_valid(metrics: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // 3: it parses, and promtool would name things otherwise.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}: {said}", output.status);
}

#[test]
fn words_of_any_size_and_content() {
    if !(require_root()
        && require_tool(&[
            "dockerd",
            "docker",
            "containerd",
            "ctr",
            "runc",
            "busybox",
            "ip",
            "nsenter",
            "promtool",
        ]))
    {
        return;
    }
    let mut scene = Scene::new();
    let agent = scene.agent();
    let namespace = scene.group.id().to_owned();
    let none = Map::new;
    scene.docker("before", &[], none(), &[], "/docker/before");

    scene.docker("many", &pod("many-0"), many(), &[], "/k8s/shop/many-0/app");
    let huge = "x".repeat(HUGE);
    // Without it there is no pod, and so the container's name is the best there is.
    scene.docker("huge", &pod(&huge), none(), &[], "/docker/huge");
    let strange = "../..//a\"b\n\\{}=,#";
    scene.docker(
        "strange",
        &pod(strange),
        none(),
        &[],
        "/k8s/shop/.._..__a\"b_\\{}=,#/app",
    );
    // The daemon itself makes text of it.
    let raw = "/k8s/shop/\u{fffd}\u{fffd}(\u{fffd}-0/app";
    scene.docker("raw", &pod(&format!("{RAW}-0")), none(), &[], raw);
    let swarm = [
        ("com.docker.swarm.task.name", "a/b.\"1\".x"),
        ("com.docker.swarm.service.name", "a/b"),
    ];
    scene.docker("swarm", &swarm, none(), &[], "/swarm/_/a_b/\"1\"");
    let nomad = ["NAMESPACE", "JOB_NAME", "GROUP_NAME", "ALLOC_ID", "TASK_NAME"];
    let long = nomad.map(|name| format!("NOMAD_{name}={}", "é".repeat(LONG / 2)));
    scene.docker("long", &[], none(), &long, "/docker/long");

    let labels: Vec<_> = (0..MANY)
        .flat_map(|at| ["--label".to_owned(), format!("a{at}=\"/")])
        .collect();
    scene.containerd("many", &labels, &format!("/containerd{namespace}/many"));
    let words = (0..10).flat_map(|at| {
        let word = format!("NOMAD_{at}={}", "\"".repeat(LONG));
        ["--env".to_owned(), word.clone(), "--annotation".to_owned(), word]
    });
    scene.containerd(
        "large",
        &words.collect::<Vec<_>>(),
        &format!("/containerd{namespace}/large"),
    );
    let raw = ["--label".to_owned(), format!("io.kubernetes.pod.name={RAW}")];
    // An answer with that is none, and without one nobody says that it is a container.
    scene.containerd("raw", &raw, "/standalone/nc");

    scene.docker("after", &[], none(), &[], "/docker/after");
    scene.check(&agent);
    is_valid(&agent.metrics_text());
    assert_eq!(agent.get("/healthz").unwrap().status, 200);
}

/// Nearly as long as the kernel prints one; with the mount before it and a file behind it, it is as long as can be opened.
fn deep(below: &str) -> String {
    const LONGEST: usize = 4040;
    const LONGEST_NAME: usize = 254;
    let mut path = below.to_owned();
    while path.len() + 2 < LONGEST {
        let room = (LONGEST - path.len() - 1).min(LONGEST_NAME);
        path.push('/');
        path.push_str(&"\u{e9}".repeat(room / 2));
    }
    path
}

#[test]
fn the_longest_path_that_a_cgroup_can_have() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let service = format!("/system.slice/tarsier-it-{}-deep.service", std::process::id());
    let bare = format!("/user.slice/tarsier-it-{}.scope", std::process::id());
    let paths = [
        (deep(&service), service.as_str()),
        (deep(&bare), "/standalone/workload"),
    ];
    let traffic = Traffic {
        successful: CONNECTS,
        ..Traffic::default()
    };
    for (path, id) in paths {
        assert!(path.len() > 4000, "{}", path.len());
        let group = Cgroup::at(&path);
        let address = format!("127.0.0.1:{}", free_port());
        let _server = Place::new().start(&["serve", &address]);
        let count = CONNECTS.to_string();
        Place::new()
            .cgroup(&group)
            .run(&["connect", &address, "--count", &count]);
        traffic.expect_of(&agent, id, &address);
    }
    agent.metrics_when("it goes on", Duration::from_secs(5), |metrics| {
        !metrics.samples().is_empty()
    });
}
