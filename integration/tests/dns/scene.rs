//! A name server, a client in another network namespace, and an agent.
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tarsier_integration::{Agent, AgentBuilder, Cgroup, Metrics, Netns, Place, admin_post, eventually, ledger};

const HOSTS: &str = "192.0.2.10 one.example\n192.0.2.11 two.example\n2001:db8::1 two.example\n\
    192.0.2.77 shop.example\n192.0.2.78 shop.example\n198.51.100.1 reverse.example\n";

/// Name, type and status of a question, with how many there were.
pub(crate) type Rows = BTreeMap<[String; 3], u64>;

pub(crate) fn asked(name: &str, kind: &str, status: &str) -> [String; 3] {
    [name, kind, status].map(str::to_owned)
}

/// What a container has asked.
pub(crate) fn rows(metrics: &Metrics, container: &str) -> Rows {
    let rows = metrics.all("container_dns_requests_total", &[]);
    let of = rows.filter(|row| row.label("container_id") == container);
    of.map(|row| {
        (
            ["domain", "request_type", "status"].map(|label| row.label(label).to_owned()),
            row.value as u64,
        )
    })
    .collect()
}

pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/dns/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn ask(place: Place<'_>, way: &str, server: &str, name: &str, count: u64) -> serde_json::Value {
    place
        .program(&script("ask.py"))
        .run(&[way, server, name, &count.to_string()])
}

/// Sent and completed, as it says.
pub(crate) fn dnsperf(mut command: Command) -> (u64, u64) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |what: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(what));
        let word = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        word.unwrap_or_else(|| panic!("dnsperf: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
    };
    (number("Queries sent:"), number("Queries completed:"))
}

/// A scene without its agent.
pub(crate) struct Older {
    // Ends before the places where it runs.
    server: Server,
    netns: Netns,
    client_group: Cgroup,
    server_group: Cgroup,
    pub(crate) ask_py: String,
}

pub(crate) struct Scene {
    pub(crate) agent: Agent,
    server: Server,
    pub(crate) netns: Netns,
    pub(crate) client_group: Cgroup,
    pub(crate) server_group: Cgroup,
    pub(crate) ask_py: String,
}

struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Older {
    pub(crate) fn client(&self) -> Place<'_> {
        Place::new().cgroup(&self.client_group).netns(&self.netns)
    }

    pub(crate) fn server_addresses(&self) -> [String; 2] {
        self.netns.outside(53).map(|address| address.ip().to_string())
    }

    pub(crate) fn with_agent(self, agent: AgentBuilder) -> Scene {
        Scene {
            agent: agent.start(),
            netns: self.netns,
            client_group: self.client_group,
            server_group: self.server_group,
            server: self.server,
            ask_py: self.ask_py,
        }
    }
}

impl Scene {
    pub(crate) fn without_agent() -> Older {
        let (netns, server_group) = (Netns::new(), Cgroup::service("server"));
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        fs::write(&hosts, HOSTS).unwrap();
        let listen = netns.outside(53).map(|address| address.ip().to_string()).join(",");
        let mut command = Place::new().cgroup(&server_group).command("dnsmasq");
        command
            .args([
                "--no-daemon",
                "--bind-interfaces",
                "--no-resolv",
                "--no-hosts",
                "--user=root",
            ])
            .args(["--local=/example/", "--cname=alias.example,one.example", "--pid-file="])
            .arg(format!("--addn-hosts={}", hosts.display()))
            .arg(format!("--listen-address={listen}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let older = Older {
            client_group: Cgroup::service("client"),
            netns,
            server_group,
            server: Server { child, folder },
            ask_py: script("ask.py"),
        };
        // Asked by somebody else: an agent that comes later does not see it, and one that is there counts it apart.
        let [v4, _] = older.server_addresses();
        eventually(Duration::from_secs(10), "the name server answers", || {
            let mut dig = Place::new().netns(&older.netns).command("dig");
            let output = dig
                .args(["+tries=1", "+time=1", &format!("@{v4}"), "one.example"])
                .output();
            output.unwrap().status.success()
        });
        older
    }

    pub(crate) fn new(agent: AgentBuilder) -> Self {
        Self::without_agent().with_agent(agent)
    }

    pub(crate) fn client(&self) -> Place<'_> {
        Place::new().cgroup(&self.client_group).netns(&self.netns)
    }

    /// IPv4 and IPv6.
    pub(crate) fn server_addresses(&self) -> [String; 2] {
        self.netns.outside(53).map(|address| address.ip().to_string())
    }

    pub(crate) fn dig(&self, server: &str, question: &[&str]) {
        let mut dig = self.client().command("dig");
        let status = dig
            .arg(format!("@{server}"))
            .args(question)
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{question:?}");
    }

    /// With the name server in the client's `/etc/resolv.conf`.
    pub(crate) fn with_resolver(&self, command: &[&str]) {
        let [v4, _] = self.server_addresses();
        self.with_resolv_conf(&v4, "", command);
    }

    pub(crate) fn with_resolv_conf(&self, server: &str, options: &str, command: &[&str]) {
        const MOUNT: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let conf = self.server.folder.path().join("resolv.conf");
        fs::write(&conf, format!("nameserver {server}\noptions {options}\n")).unwrap();
        let mut unshare = self.client().command("unshare");
        unshare.args(["--mount", "sh", "-c", MOUNT]).arg(&conf).args(command);
        let output = unshare.output().unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(crate) fn build_go(&self, source: &str) -> String {
        let program = self.server.folder.path().join("go-program");
        let mut go = Command::new("go");
        go.arg("build")
            .arg("-o")
            .arg(&program)
            .arg(script(source))
            .env("CGO_ENABLED", "0");
        assert!(go.status().unwrap().success());
        program.to_str().unwrap().to_owned()
    }

    /// It is nowhere but inside.
    pub(crate) fn add_address(&self, address: &str) {
        let path: PathBuf = self.netns.path().into();
        let name = path.file_name().unwrap().to_str().unwrap();
        let arguments = ["-n", name, "addr", "add", &format!("{address}/32"), "dev", "lo"];
        assert!(Command::new("ip").args(arguments).status().unwrap().success());
    }

    /// Messages, by the agent's own books.
    pub(crate) fn lost(&self) -> u64 {
        let books = self.agent.admin("/api/v1/ledger");
        let row = ledger::row(&books, "dns_message");
        ledger::dropped(row, |drop| drop["class"] == "loss") as u64
    }

    pub(crate) fn is_balanced(&self) {
        eventually(Duration::from_secs(10), "the books balance", || {
            ledger::balance(&self.agent.admin("/api/v1/ledger")).is_ok()
        });
    }

    /// Takes another configuration: all of it but what the tests set themselves.
    pub(crate) fn reload(&self, yaml: &str) {
        fs::write(self.agent.folder().join("tarsier.yaml"), yaml).unwrap();
        let answer = admin_post(&self.agent.admin_socket(), "/api/v1/reload").unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// The agent ends as it is asked to.
    pub(crate) fn end(mut self) {
        self.agent.signal(rustix::process::Signal::TERM);
        assert!(self.agent.wait_for_end(Duration::from_secs(10)).success());
    }
}
