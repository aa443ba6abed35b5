//! Servers of many makes, their clients, two networks between them, and an agent.
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, End, Metrics, Netns, Place, Running, Stopwatch, admin_post, eventually, free_port,
    has_tool, ledger, pause,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Debian's name, and Fedora's.
const APACHES: [&str; 2] = ["apache2", "httpd"];
const APACHE_MODULES: [&str; 3] = ["/usr/lib/apache2", "/usr/lib64/httpd", "/etc/httpd"];
const BIG: usize = 1 << 20;

/// How many, by class of status.
pub(crate) type Statuses = BTreeMap<String, u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Make {
    Nginx,
    Apache,
    Node,
    Go,
    Python,
}

impl Make {
    pub(crate) const ALL: [Self; 5] = [Self::Nginx, Self::Apache, Self::Node, Self::Go, Self::Python];
}

/// Where a server is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Loopback4,
    Loopback6,
    /// From another network namespace.
    Link4,
    Link6,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Loopback4, Self::Loopback6, Self::Link4, Self::Link6];
}

pub(crate) struct Server {
    // Ends before the place where it runs.
    process: Process,
    pub(crate) group: Cgroup,
    pub(crate) port: u16,
}

enum Process {
    /// Ends with its input.
    Told(Option<Running>),
    /// Ends when it is asked to, and takes its workers along.
    Daemon(Child),
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.process {
            Process::Told(running) => drop(running.take()),
            Process::Daemon(child) => {
                kill_process(Pid::from_child(child), Signal::TERM).ok();
                let ended = (0..100).any(|_| {
                    pause(Duration::from_millis(50));
                    child.try_wait().is_ok_and(|status| status.is_some())
                });
                if !ended {
                    child.kill().ok();
                    child.wait().ok();
                }
                // Workers that their master has left behind.
                for pid in self.group.processes() {
                    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                    pid.map(|pid| kill_process(pid, Signal::KILL));
                }
            }
        }
    }
}

/// A scene without its agent.
pub(crate) struct Older {
    servers: BTreeMap<Make, Server>,
    pub(crate) netns: Netns,
    /// Connections to it are accepted, and that is all.
    pub(crate) silent_port: u16,
    folder: tempfile::TempDir,
}

pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) older: Older,
}

pub(crate) fn apache() -> Option<&'static str> {
    APACHES.into_iter().find(|name| has_tool(name))
}

pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/http/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl Older {
    pub(crate) fn new(makes: &[Make]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Apache's workers are nobody.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("index.html"), "hello\n").unwrap();
        fs::write(files.join("big"), vec![b'x'; BIG]).unwrap();
        fs::write(folder.path().join("body-of-a-request"), vec![b'b'; BIG + 5]).unwrap();
        let included = "y\n".repeat(3000) + "<!--#echo var=\"DATE_LOCAL\" -->\n";
        fs::write(files.join("chunked.shtml"), included).unwrap();
        let mut older = Self {
            servers: BTreeMap::new(),
            netns: Netns::new(),
            silent_port: free_port(),
            folder,
        };
        for make in makes.iter().rev() {
            let server = older.serve(*make);
            older.servers.insert(*make, server);
        }
        older
    }

    fn serve(&self, make: Make) -> Server {
        let (group, port) = (Cgroup::service(&format!("{make:?}")), free_port());
        let place = Place::new().cgroup(&group);
        let (port_text, silent) = (port.to_string(), self.silent_port.to_string());
        let process = match make {
            Make::Nginx => {
                let conf = self.written("nginx.conf", port);
                let mut command = place.command("nginx");
                command.arg("-c").arg(conf).arg("-p").arg(self.folder.path());
                Process::Daemon(started(command))
            }
            Make::Apache => {
                let conf = self.written("apache.conf", port);
                let mut command = place.command(apache().expect("looked for before"));
                command.arg("-f").arg(conf).arg("-DFOREGROUND");
                Process::Daemon(started(command))
            }
            Make::Node => Process::Told(Some(place.program(&script("server.js")).start(&[&port_text]))),
            Make::Go => Process::Told(Some(place.program(&self.go("server.go")).start(&[&port_text]))),
            Make::Python => {
                let server = script("server.py");
                Process::Told(Some(place.program(&server).start(&[&port_text, &silent])))
            }
        };
        eventually(PATIENCE, "the server listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Server { process, group, port }
    }

    fn written(&self, name: &str, port: u16) -> PathBuf {
        let modules = APACHE_MODULES
            .iter()
            .find(|path| Path::new(path).join("modules").exists());
        let upstream = self.servers.get(&Make::Go).map_or(9, |server| server.port);
        let text = fs::read_to_string(script(name)).unwrap();
        let text = text
            .replace("@FOLDER@", self.folder.path().to_str().unwrap())
            .replace("@MODULES@", modules.unwrap_or(&""))
            .replace("@UPSTREAM@", &upstream.to_string())
            .replace("@PORT@", &port.to_string());
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A program of Go's, built once.
    pub(crate) fn go(&self, source: &str) -> String {
        let program = self.folder.path().join(source.replace('.', "-"));
        if !program.exists() {
            let mut go = Command::new("go");
            go.args(["build", "-o"]).arg(&program).arg(script(source));
            assert!(go.status().unwrap().success(), "{source}");
        }
        program.to_str().unwrap().to_owned()
    }

    /// Of more than a mebibyte.
    pub(crate) fn body(&self) -> String {
        self.folder
            .path()
            .join("body-of-a-request")
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn server(&self, make: Make) -> &Server {
        &self.servers[&make]
    }

    pub(crate) fn address(&self, port: u16, way: Way) -> SocketAddr {
        let [v4, v6] = self.netns.outside(port);
        let loopback = |ip: IpAddr| SocketAddr::new(ip, port);
        match way {
            Way::Loopback4 => loopback(Ipv4Addr::LOCALHOST.into()),
            Way::Loopback6 => loopback(Ipv6Addr::LOCALHOST.into()),
            Way::Link4 => v4,
            Way::Link6 => v6,
        }
    }

    pub(crate) fn client<'a>(&'a self, group: &'a Cgroup, way: Way) -> Place<'a> {
        let place = Place::new().cgroup(group);
        match way {
            Way::Loopback4 | Way::Loopback6 => place,
            Way::Link4 | Way::Link6 => place.netns(&self.netns),
        }
    }

    pub(crate) fn with_agent(self, agent: AgentBuilder) -> Scene {
        Scene {
            agent: agent.start(),
            older: self,
        }
    }
}

impl Scene {
    pub(crate) fn new(makes: &[Make], config: &str) -> Self {
        Older::new(makes).with_agent(Agent::builder().config(config))
    }

    /// `client.py` in a way of its own, to its end. What it says of its answers.
    pub(crate) fn ask(&self, group: &Cgroup, way: &str, port: u16, count: u64, paths: &[&str]) -> Statuses {
        let address = self.older.address(port, Way::Link4);
        let words = words(way, address, count, paths);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let place = self.older.client(group, Way::Link4);
        serde_json::from_value(place.program(&script("client.py")).run(&words)).unwrap()
    }

    pub(crate) fn is_balanced(&self) {
        eventually(Duration::from_secs(20), "the books balance", || {
            ledger::balance(&self.agent.admin("/api/v1/ledger")).is_ok()
        });
    }

    /// The first scrape of which that is true, or the last one.
    pub(crate) fn settled(&self, limit: Duration, is_right: impl Fn(&Metrics) -> bool) -> Metrics {
        let watch = Stopwatch::start();
        loop {
            let metrics = self.agent.metrics();
            if is_right(&metrics) || watch.elapsed() > limit {
                return metrics;
            }
            pause(Duration::from_millis(200));
        }
    }

    /// By the agent's own books.
    pub(crate) fn losses(&self) -> String {
        let books = self.agent.admin("/api/v1/ledger");
        let rows = books["kinds"].as_array().unwrap();
        let lost = rows
            .iter()
            .map(|row| (&row["kind"], ledger::dropped(row, |drop| drop["class"] == "loss")));
        let lost: Vec<_> = lost.filter(|(_, count)| *count > 0).collect();
        format!("lost: {lost:?}")
    }

    /// Takes another configuration: all of it but what the tests set themselves.
    pub(crate) fn reload(&self, yaml: &str) {
        fs::write(self.agent.folder().join("tarsier.yaml"), yaml).unwrap();
        let answer = admin_post(&self.agent.admin_socket(), "/api/v1/reload").unwrap();
        // 504: it was taken, but to load programs takes longer than an answer may.
        assert!([200, 504].contains(&answer.status), "{}", answer.text());
    }
}

/// The arguments of every client.
pub(crate) fn words(way: &str, address: SocketAddr, count: u64, paths: &[&str]) -> Vec<String> {
    let first = [
        way.to_owned(),
        address.ip().to_string(),
        address.port().to_string(),
        count.to_string(),
    ];
    first
        .into_iter()
        .chain(paths.iter().map(|path| (*path).to_owned()))
        .collect()
}

/// What a container has asked one destination.
pub(crate) fn asked(metrics: &Metrics, group: &Cgroup, destination: &str) -> Statuses {
    let labels = [("container_id", group.id()), ("destination", destination)];
    let rows = metrics.all("container_http_requests_total", &labels);
    rows.map(|row| (row.label("status").to_owned(), row.value as u64))
        .collect()
}

/// Of a container, by reason.
pub(crate) fn unparsed(metrics: &Metrics, group: &Cgroup) -> Statuses {
    let labels = [("container_id", group.id()), ("protocol", "http")];
    let rows = metrics.all("tarsier_container_l7_unparsed_total", &labels);
    let rows = rows.map(|row| (row.label("reason").to_owned(), row.value as u64));
    rows.filter(|(_, count)| *count > 0).collect()
}

pub(crate) fn total(statuses: &Statuses) -> u64 {
    statuses.values().sum()
}

/// All that took up to that long, of one end of a container.
pub(crate) fn within(metrics: &Metrics, group: &Cgroup, end: End, seconds: &str) -> u64 {
    metrics.requests_within(group.id(), "http", end, seconds)
}

fn started(mut command: Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}
