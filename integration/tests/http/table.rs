//! Who asks whom, how, and what for.
use super::scene::{Make, Older, Statuses, Way, script, words};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Child, Stdio},
};
use tarsier_integration::{Cgroup, Running};

/// One of each class, the last two with a body that is long and one whose length nobody says.
const PATHS: [&str; 7] = ["/", "/missing", "/moved", "/nothing", "/big", "/chunked", "/?a=b"];
const SMALL: [&str; 4] = ["/", "/missing", "/moved", "/nothing"];
const BROKEN: [&str; 2] = ["/broken", "/"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Python,
    Go,
    Node,
    Curl,
    Ab,
}

/// On a connection that was there before the agent.
const HELD: [&str; 2] = ["held", "silent"];

struct Row {
    by: By,
    way: &'static str,
    count: u64,
    paths: &'static [&'static str],
    only: &'static [Make],
}

const fn row(by: By, way: &'static str, count: u64, paths: &'static [&'static str]) -> Row {
    let only = &Make::ALL;
    Row {
        by,
        way,
        count,
        paths,
        only,
    }
}

const fn only(row: Row, only: &'static [Make]) -> Row {
    Row { only, ..row }
}

const TABLE: [Row; 36] = [
    row(By::Python, "held", 14, &PATHS),
    row(By::Python, "silent", 14, &PATHS),
    row(By::Python, "keep", 21, &PATHS),
    row(By::Python, "keep", 6, &BROKEN),
    row(By::Python, "each", 14, &PATHS),
    row(By::Python, "each", 4, &BROKEN),
    row(By::Python, "head", 14, &PATHS),
    row(By::Python, "post", 12, &["/post"]),
    only(row(By::Python, "post", 12, &["/early"]), &[Make::Nginx]),
    // One after the other, less than fits into what is copied of a message.
    row(By::Python, "pipelined", 14, &PATHS),
    // More than 4 KiB of them.
    row(By::Python, "pipelined", 200, &SMALL),
    // More than 64 KiB of them.
    row(By::Python, "pipelined", 3000, &SMALL),
    row(By::Python, "padded", 80, &SMALL),
    row(By::Python, "waves", 160, &SMALL),
    row(By::Python, "single", 5, &SMALL),
    row(By::Python, "pieces", 60, &["/post"]),
    only(row(By::Python, "single", 4, &["/bytes"]), &[Make::Python]),
    only(row(By::Python, "late", 3, &["/late"]), &[Make::Python]),
    row(By::Go, "keep", 21, &PATHS),
    row(By::Go, "each", 14, &PATHS),
    row(By::Go, "parallel", 42, &PATHS),
    row(By::Go, "expect", 5, &["/post"]),
    row(By::Go, "stream", 5, &["/post"]),
    row(By::Node, "keep", 21, &PATHS),
    row(By::Node, "each", 14, &PATHS),
    row(By::Node, "post", 8, &["/post"]),
    row(By::Node, "parallel", 42, &PATHS),
    row(By::Node, "large", 3, &["/post"]),
    row(By::Curl, "keep", 14, &PATHS),
    row(By::Curl, "head", 7, &PATHS),
    row(By::Curl, "expect", 3, &["/post"]),
    row(By::Curl, "stream", 3, &["/post"]),
    // HTTP/1.0: what is of unknown length ends with its connection. Python's server does not say that it closes, so curl tries again.
    only(
        row(By::Curl, "old", 14, &PATHS),
        &[Make::Nginx, Make::Apache, Make::Node, Make::Go],
    ),
    row(By::Ab, "each", 40, &["/"]),
    row(By::Ab, "each", 8, &["/big"]),
    row(By::Ab, "post", 8, &["/post"]),
];

/// A client, as a container.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) make: Make,
    row: &'static Row,
    // Ends before the place where it runs.
    held: Vec<(SocketAddr, Running)>,
    pub(crate) group: Cgroup,
    /// By destination: what there was to be counted.
    pub(crate) sent: BTreeMap<SocketAddr, Statuses>,
}

impl Case {
    pub(crate) fn total(&self) -> Statuses {
        let mut sum = Statuses::new();
        for (status, count) in self.sent.values().flatten() {
            *sum.entry(status.clone()).or_default() += count;
        }
        sum
    }

    /// Requests of it that nginx hands on.
    pub(crate) fn handed_on(&self) -> u64 {
        let handed_on = |path: &str| self.make == Make::Nginx && matches!(path, "/post" | "/chunked");
        let paths = self.row.paths.iter().cycle().take(self.row.count as usize);
        (paths.filter(|path| handed_on(path)).count() * Way::ALL.len()) as u64
    }

    pub(crate) fn is_late(&self) -> bool {
        self.row.paths == ["/late"]
    }

    /// What is answered, by the table.
    fn expected(&self) -> Statuses {
        let mut statuses = Statuses::new();
        for path in self.row.paths.iter().cycle().take(self.row.count as usize) {
            let class = match *path {
                "/missing" => 4,
                "/moved" => 3,
                "/broken" => 5,
                _ => 2,
            };
            *statuses.entry(format!("{class}xx")).or_default() += 1;
        }
        statuses
    }

    fn words(&self, address: SocketAddr) -> Vec<String> {
        let way = if self.row.way == "late" { "keep" } else { self.row.way };
        words(way, address, self.row.count, self.row.paths)
    }

    /// Those whose connections are older than the agent.
    fn hold(&mut self, older: &Older) {
        for way in Way::ALL {
            let address = older.address(older.server(self.make).port, way);
            let words = self.words(address);
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let place = older.client(&self.group, way);
            let running = place.program(&script("client.py")).start(&words);
            self.held.push((address, running));
        }
    }

    /// On all ways at once.
    pub(crate) fn run(&mut self, older: &Older) {
        let mut done = Vec::new();
        for (address, mut running) in std::mem::take(&mut self.held) {
            running.give("");
            done.push((address, serde_json::from_value(running.finish()).unwrap()));
        }
        if done.is_empty() {
            let spawned = Way::ALL.map(|way| {
                let address = older.address(older.server(self.make).port, way);
                (address, self.spawn(older, address, way))
            });
            done.extend(spawned.map(|(address, child)| (address, self.answered(child))));
        }
        for (address, answered) in done {
            assert_eq!(answered, self.expected(), "{}: {address}", self.name);
            self.sent.insert(address, answered);
        }
    }

    fn spawn(&self, older: &Older, address: SocketAddr, way: Way) -> Child {
        let place = older.client(&self.group, way);
        let program = match self.row.by {
            By::Python => script("client.py"),
            By::Node => script("client.js"),
            By::Go => older.go("client.go"),
            By::Curl => "curl".to_owned(),
            By::Ab => "ab".to_owned(),
        };
        let mut command = place.command(program);
        match self.row.by {
            By::Curl => command.args(self.curl(older, address)),
            By::Ab => command.args(self.ab(older, address)),
            _ => command.args(self.words(address)),
        };
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    fn curl(&self, older: &Older, address: SocketAddr) -> Vec<String> {
        let upload = older.body();
        let mut words: Vec<&str> = vec!["-s", "-g", "-w", "%{http_code}\n"];
        match self.row.way {
            "head" => words.push("-I"),
            "old" => words.push("--http1.0"),
            "expect" => words.extend(["-X", "POST", "-H", "Expect: 100-continue", "--data-binary"]),
            "stream" => words.extend(["-H", "Transfer-Encoding: chunked"]),
            _ => {}
        }
        let body = format!("@{upload}");
        if self.row.way == "expect" {
            words.push(&body);
        }
        let mut words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        for path in self.row.paths.iter().cycle().take(self.row.count as usize) {
            if self.row.way == "stream" {
                words.extend(["-T".to_owned(), upload.clone()]);
            }
            words.extend([
                "-o".to_owned(),
                "/dev/null".to_owned(),
                format!("http://{address}{path}"),
            ]);
        }
        words
    }

    /// HTTP/1.0, a connection for each. One at a time: of several it begins more than it is told to.
    fn ab(&self, older: &Older, address: SocketAddr) -> Vec<String> {
        let (count, path) = (self.row.count.to_string(), self.row.paths[0]);
        let mut words = ["-q", "-n", &count].map(str::to_owned).to_vec();
        if self.row.way == "post" {
            words.extend(["-p".to_owned(), older.body()]);
        }
        words.push(format!("http://{address}{path}"));
        words
    }

    fn answered(&self, child: Child) -> Statuses {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {}", self.name, output.status);
        if !matches!(self.row.by, By::Curl | By::Ab) {
            return serde_json::from_slice(&output.stdout).unwrap();
        }
        let printed = String::from_utf8(output.stdout).unwrap();
        if self.row.by == By::Ab {
            let number = |what: &str| {
                let rest = printed.lines().find_map(|line| line.strip_prefix(what));
                rest.map(|rest| rest.trim().parse::<u64>().unwrap())
            };
            // It says so only where there are any.
            assert_eq!(number("Non-2xx responses:"), None, "{printed}");
            return Statuses::from([("2xx".to_owned(), number("Complete requests:").unwrap())]);
        }
        let mut statuses = Statuses::new();
        for code in printed.lines() {
            *statuses.entry(format!("{}xx", &code[..1])).or_default() += 1;
        }
        statuses
    }
}

/// Every row with every server that it is for. Connections that are to be older than the agent are made.
pub(crate) fn cases(older: &Older, makes: &[Make]) -> Vec<Case> {
    let mut cases = Vec::new();
    for make in makes {
        for row in TABLE.iter().filter(|row| row.only.contains(make)) {
            let by = match row.by {
                By::Python => "python",
                By::Go => "go",
                By::Node => "node",
                By::Curl => "curl",
                By::Ab => "ab",
            };
            let name = format!("{by} {} {:?} to {make:?}", row.way, row.paths);
            let mut case = Case {
                name: format!("{name} x {}", row.count),
                make: *make,
                group: Cgroup::service("client"),
                row,
                held: Vec::new(),
                sent: BTreeMap::new(),
            };
            if HELD.contains(&row.way) {
                case.hold(older);
            }
            cases.push(case);
        }
    }
    cases
}
