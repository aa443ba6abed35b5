//! What clients say they have asked, each from a container of its own, against what is counted at both ends.
use crate::{
    Agent, AgentBuilder, Cgroup, Door, End, Metrics, Place, Service, eventually, eventually_some, ledger,
    metrics::Statuses, pause, wait::Stopwatch,
};
use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than two passes over the totals: what would be counted twice, would be by now.
const TWO_PASSES: Duration = Duration::from_millis(2500);

/// Who comes in one way to ask.
pub struct Client<'a> {
    pub place: Place<'a>,
    pub address: SocketAddr,
    pub service: &'a Service,
}

impl Client<'_> {
    pub fn ip(&self) -> String {
        self.address.ip().to_string()
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// Runs a program to its end, whatever that is, and returns what it prints.
    #[track_caller]
    pub fn output(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let mut command = self.place.command(program);
        command.args(arguments).stderr(Stdio::null());
        say(command, input)
    }

    /// Runs a script that is given address, port and `arguments`, and reports how many were answered with what.
    #[track_caller]
    pub fn script(&self, script: &str, arguments: &[&str]) -> Statuses {
        let (ip, port) = (self.ip(), self.port());
        let words = [&[ip.as_str(), &port], arguments].concat();
        let report = self.place.program(script).run(&words);
        statuses(&serde_json::from_value::<Vec<(String, u64)>>(report).expect("statuses with their numbers"))
    }
}

#[track_caller]
fn say(mut command: Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("piped above");
    let input = input.to_owned();
    // It may stop reading before it has printed all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("it is our child");
    writer.join().expect("it only writes");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Those that there are any of.
pub fn statuses<S: AsRef<str>>(rows: &[(S, u64)]) -> Statuses {
    let mut statuses = Statuses::new();
    for (status, count) in rows.iter().filter(|(_, count)| *count > 0) {
        *statuses.entry(status.as_ref().to_owned()).or_default() += count;
    }
    statuses
}

/// One way to ask. It returns what it has been answered.
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Client<'_>) -> Statuses,
}

struct Row {
    name: String,
    client: Cgroup,
    address: SocketAddr,
    sent: Statuses,
}

/// All that the agent has said in the end.
#[derive(Debug, PartialEq)]
pub struct Seen {
    /// By case: statuses, and how many of them have a time.
    pub clients: BTreeMap<String, (Statuses, u64)>,
    pub server: (Statuses, u64),
    /// By case, or the server: with their reasons.
    pub unparsed: BTreeMap<String, Statuses>,
}

pub struct Tally<'a> {
    agent: &'a Agent,
    service: &'a Service,
    protocol: &'static str,
    rows: Vec<Row>,
}

impl<'a> Tally<'a> {
    pub fn new(agent: &'a Agent, service: &'a Service, protocol: &'static str) -> Self {
        Self {
            agent,
            service,
            protocol,
            rows: Vec::new(),
        }
    }

    /// Every case through every door.
    pub fn run_all(&mut self, cases: &[Case]) {
        for door in self.service.doors() {
            for case in cases {
                self.run(&door, case.name, case.run);
            }
        }
    }

    pub fn run(&mut self, door: &Door<'_>, name: &str, run: impl FnOnce(&Client<'_>) -> Statuses) {
        let group = Cgroup::service("client");
        let client = Client {
            place: door.place(&group),
            address: door.address,
            service: self.service,
        };
        let sent = run(&client);
        self.add(door, name, group, sent);
    }

    /// A client that has been there before.
    pub fn add(&mut self, door: &Door<'_>, name: &str, client: Cgroup, sent: Statuses) {
        self.add_elsewhere(door.address, name, door, client, sent);
    }

    /// One that has asked another process of the server's container.
    pub fn add_elsewhere(&mut self, address: SocketAddr, name: &str, door: &Door<'_>, client: Cgroup, sent: Statuses) {
        self.rows.push(Row {
            name: format!("{name}, {}", door.name),
            client,
            address,
            sent,
        });
    }

    pub fn sent(&self) -> Statuses {
        let all: Vec<_> = self.rows.iter().flat_map(|row| row.sent.clone()).collect();
        statuses(&all)
    }

    fn of(&self, metrics: &Metrics, container: &str, end: End) -> (Statuses, u64) {
        (
            metrics.requests_of(container, self.protocol, end),
            metrics.requests_within(container, self.protocol, end, "+Inf"),
        )
    }

    fn unparsed(&self, metrics: &Metrics, container: &str) -> Statuses {
        let labels = [("container_id", container), ("protocol", self.protocol)];
        let found = metrics.all("tarsier_container_l7_unparsed_total", &labels);
        let rows: Vec<_> = found.map(|row| (row.label("reason"), row.value as u64)).collect();
        statuses(&rows)
    }

    pub fn seen(&self) -> Seen {
        let metrics = self.agent.metrics();
        let clients = self.rows.iter();
        let mut unparsed: BTreeMap<_, _> = clients
            .clone()
            .map(|row| (row.name.clone(), self.unparsed(&metrics, row.client.id())))
            .collect();
        let server = self.service.group.id();
        unparsed.insert("server".to_owned(), self.unparsed(&metrics, server));
        unparsed.retain(|_, reasons| !reasons.is_empty());
        Seen {
            clients: clients
                .map(|row| (row.name.clone(), self.of(&metrics, row.client.id(), End::Client)))
                .collect(),
            server: self.of(&metrics, server, End::Server),
            unparsed,
        }
    }

    /// What is there that should not be, or the other way round.
    fn differences(&self, seen: &Seen) -> Vec<String> {
        let count = |statuses: &Statuses| statuses.values().sum::<u64>();
        let rows = self.rows.iter().map(|row| (&row.name, &row.sent));
        let (server, sent) = ("server".to_owned(), self.sent());
        let mut differences = Vec::new();
        for (name, sent) in rows.chain([(&server, &sent)]) {
            let (counted, timed) = seen.clients.get(name).unwrap_or(&seen.server);
            if counted != sent || *timed != count(sent) {
                differences.push(format!(
                    "{name}: sent {sent:?}, counted {counted:?}, {timed} with a time"
                ));
            }
        }
        differences
    }

    /// Waits until exactly what was sent is counted at both ends, and then whether it stays so.
    #[track_caller]
    pub fn expect(&self) -> Seen {
        let watch = Stopwatch::start();
        loop {
            let differences = self.differences(&self.seen());
            if differences.is_empty() {
                break;
            }
            assert!(
                watch.elapsed() < PATIENCE,
                "still not after {PATIENCE:?}:\n{}\nunparsed: {:?}, {} of {} segments lost",
                differences.join("\n"),
                self.seen().unparsed,
                self.lost(),
                self.segments()
            );
            pause(Duration::from_millis(100));
        }
        pause(TWO_PASSES);
        let seen = self.seen();
        assert_eq!(self.differences(&seen), [""; 0], "it goes on counting");
        self.check_destinations();
        self.check_books();
        seen
    }

    #[track_caller]
    fn check_books(&self) {
        eventually(PATIENCE, "the books balance", || {
            ledger::balance(&self.agent.admin("/api/v1/ledger")).is_ok()
        });
    }

    /// The same of those who stop at a time. What was under way then, up to so many, may be counted at both ends or at one.
    /// `may_lose`: what is missing may have been lost, if that is said.
    #[track_caller]
    pub fn expect_up_to(&self, more: u64, may_lose: bool) -> Seen {
        let sent = self.sent();
        let is_close = |counted: &(Statuses, u64)| {
            let of = |statuses: &Statuses| statuses.values().sum::<u64>();
            let range = of(&sent)..=of(&sent) + more;
            counted.0.keys().eq(sent.keys()) && range.contains(&of(&counted.0)) && counted.1 == of(&counted.0)
        };
        let mut last = self.seen();
        let watch = Stopwatch::start();
        loop {
            pause(TWO_PASSES);
            let seen = self.seen();
            let all_are_close = seen.clients.values().chain([&seen.server]).all(is_close);
            if seen == last && all_are_close && seen.unparsed.is_empty() {
                break;
            }
            if may_lose && seen == last && self.lost() > 0 {
                let count = |statuses: &Statuses| statuses.values().sum::<u64>();
                for (name, (counted, timed)) in seen.clients.iter().chain([(&"server".to_owned(), &seen.server)]) {
                    let counted = count(counted);
                    let said = counted >= count(&sent) || seen.unparsed.contains_key(name);
                    assert!(
                        counted <= count(&sent) + more && counted == *timed && said,
                        "{name}: sent {sent:?}: {seen:?}"
                    );
                }
                self.check_books();
                return seen;
            }
            assert!(watch.elapsed() < PATIENCE, "sent {sent:?}: {seen:?}");
            last = seen;
        }
        self.check_destinations();
        self.check_books();
        last
    }

    /// The same where a segment may be too long to be read as a whole: what is missing then is said.
    #[track_caller]
    pub fn expect_or_said(&self) -> Seen {
        let count = |statuses: &Statuses| statuses.values().sum::<u64>();
        let mut last = self.seen();
        let watch = Stopwatch::start();
        loop {
            pause(TWO_PASSES);
            let seen = self.seen();
            let clients = self.rows.iter().map(|row| (row.name.clone(), count(&row.sent)));
            let all = clients.chain([("server".to_owned(), count(&self.sent()))]);
            let is_right = |(name, sent): (String, u64)| {
                let (counted, timed) = seen.clients.get(&name).unwrap_or(&seen.server);
                let said = seen.unparsed.get(&name).map_or(0, |said| said.values().sum());
                count(counted) == *timed && count(counted) <= sent && sent <= count(counted) + said
            };
            if seen == last && all.into_iter().all(is_right) {
                break;
            }
            assert!(watch.elapsed() < PATIENCE, "{:?}: {seen:?}", self.differences(&seen));
            last = seen;
        }
        self.check_books();
        last
    }

    /// The same where more may be said than can be read in time: what is missing then was lost, and that is said.
    #[track_caller]
    pub fn expect_unless_lost(&self) -> Seen {
        let mut last = self.seen();
        let watch = Stopwatch::start();
        loop {
            pause(TWO_PASSES);
            let seen = self.seen();
            if self.differences(&seen).is_empty() {
                return self.expect();
            }
            if seen == last && self.lost() > 0 {
                break;
            }
            assert!(watch.elapsed() < PATIENCE, "{:?}", self.differences(&seen));
            last = seen;
        }
        let count = |statuses: &Statuses| statuses.values().sum::<u64>();
        let clients = self.rows.iter().map(|row| (&row.name, count(&row.sent)));
        let server = "server".to_owned();
        for (name, sent) in clients.chain([(&server, count(&self.sent()))]) {
            let (counted, timed) = last.clients.get(name).unwrap_or(&last.server);
            let (counted, unparsed) = (count(counted), last.unparsed.contains_key(name));
            assert!(
                counted == *timed && (counted == sent || counted < sent && unparsed),
                "{name}: sent {sent}: {last:?}"
            );
        }
        self.check_books();
        last
    }

    /// Waits until the numbers of unparsed are what `wanted` says of them.
    #[track_caller]
    pub fn expect_unparsed(&self, wanted: &BTreeMap<String, Statuses>) {
        let mut last = BTreeMap::new();
        let watch = Stopwatch::start();
        while watch.elapsed() < PATIENCE && last != *wanted {
            last = self.seen().unparsed;
            pause(Duration::from_millis(100));
        }
        assert_eq!(last, *wanted);
    }

    /// Each client has asked the server's address, and nobody else. The server has asked nobody.
    #[track_caller]
    fn check_destinations(&self) {
        let metrics = self.agent.metrics();
        let name = format!("container_{}_queries_total", self.protocol);
        for row in &self.rows {
            let of: Vec<_> = metrics.all(&name, &[("container_id", row.client.id())]).collect();
            let address = row.address.to_string();
            for label in ["destination", "actual_destination"] {
                assert!(of.iter().all(|sample| sample.label(label) == address), "{of:?}");
            }
            let inbound = metrics.requests_of(row.client.id(), self.protocol, End::Server);
            assert_eq!(inbound, Statuses::new(), "{}", row.name);
        }
        let asked = metrics.requests_of(self.service.group.id(), self.protocol, End::Client);
        assert_eq!(asked, Statuses::new());
    }

    /// Segments that the kernel has left to the agent so far.
    pub fn segments(&self) -> u64 {
        let row = |books: &serde_json::Value| ledger::row(books, "l7_segment")["observed"].as_u64();
        eventually_some(PATIENCE, "the books have a row of segments", || {
            row(&self.agent.admin("/api/v1/ledger"))
        })
    }

    /// Of them, those that were lost on their way.
    pub fn lost(&self) -> u64 {
        let books = self.agent.admin("/api/v1/ledger");
        ledger::dropped(ledger::row(&books, "l7_segment"), |drop| drop["class"] == "loss") as u64
    }
}

/// How long clients ask as fast as they can: `TARSIER_IT_SECONDS`, or a moment.
pub fn seconds() -> u64 {
    let set = std::env::var("TARSIER_IT_SECONDS").ok();
    set.map_or(3, |text| text.parse().expect("TARSIER_IT_SECONDS is a number"))
}

/// An agent that counts in the kernel what can be counted there, or one that reads everything. With room for what is said in
/// bursts: a full ring is another matter.
pub fn lane(kernel: bool) -> AgentBuilder {
    Agent::builder().config(&format!("l7: {{kernel_lane: {kernel}, ring_bytes: 64MiB}}\n"))
}

/// First the one, then the other.
pub fn each_lane(mut with: impl FnMut(&Agent, bool)) {
    for kernel in [true, false] {
        with(&lane(kernel).start(), kernel);
    }
}
