//! Whole exchanges, through the front door.
mod encoder;
mod exchanges;
mod hostile;
mod limits;
mod properties;
mod streams;
mod vectors;

use crate::{
    base::ids::{CgroupId, ProcKey},
    decode::{Comm, Owner, Role, question_type_name},
    l7::{
        Direction::{self, Received, Sent},
        Limits, Output, Segment, Sessions, Transport,
    },
};
use std::collections::{BTreeMap, HashMap};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

const LIMITS: Limits = Limits {
    sockets: 64,
    questions_per_socket: 256,
    questions: 1024,
    stream_bytes: 4096,
    connections: 64,
    body_bytes: u64::MAX,
};

fn owner(tgid: u32) -> Owner {
    Owner {
        process: ProcKey { tgid, start_ns: 1 },
        cgroup: CgroupId(9),
        comm: Comm::default(),
        kernel_thread: false,
    }
}

/// Sockets of a node, and a clock.
struct Node {
    sessions: Sessions,
    now_ns: u64,
    positions: HashMap<(u64, Direction), u64>,
}

impl Node {
    fn new() -> Self {
        Self::with(LIMITS)
    }

    fn with(limits: Limits) -> Self {
        Self {
            sessions: Sessions::new(limits),
            now_ns: 1000 * SECOND,
            positions: HashMap::new(),
        }
    }

    fn wait(&mut self, ns: u64) -> &mut Self {
        self.now_ns += ns;
        self
    }

    fn datagram(&mut self, socket: u64, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.cut_datagram(socket, direction, bytes, bytes.len())
    }

    /// Of which the kernel takes no more than `taken`.
    fn cut_datagram(&mut self, socket: u64, direction: Direction, bytes: &[u8], taken: usize) -> &mut Self {
        self.segment(Transport::Datagram, socket, direction, 0, bytes, taken)
    }

    fn piece(&mut self, socket: u64, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.cut_piece(socket, direction, bytes, bytes.len())
    }

    fn cut_piece(&mut self, socket: u64, direction: Direction, bytes: &[u8], taken: usize) -> &mut Self {
        let position = self.missed(socket, direction, bytes.len() as u64);
        self.segment(Transport::Stream, socket, direction, position, bytes, taken)
    }

    /// Bytes that go this way unseen. Gives back where they begin.
    fn missed(&mut self, socket: u64, direction: Direction, len: u64) -> u64 {
        let position = self.positions.entry((socket, direction)).or_default();
        *position += len;
        *position - len
    }

    fn segment(
        &mut self,
        transport: Transport,
        socket: u64,
        direction: Direction,
        position: u64,
        bytes: &[u8],
        taken: usize,
    ) -> &mut Self {
        self.sessions.apply(&Segment {
            time_ns: self.now_ns,
            socket,
            owner: owner(7),
            transport,
            direction,
            position,
            len: bytes.len() as u32,
            payload: &bytes[..taken],
        });
        self
    }

    fn take(&mut self) -> Output {
        self.sessions.take(self.now_ns)
    }

    /// Everything that there is to say, until nobody waits for anything.
    fn told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for wait in [0, 200, 200, 200] {
            all.extend(lines(&self.wait(wait * SECOND).take()));
        }
        let fill = self.sessions.fill();
        assert_eq!((fill.questions, fill.early_answers, fill.streams), (0, 0, 0));
        summed(all)
    }
}

/// What was told in several readings. Names stay in their order.
fn summed(lines: Vec<String>) -> Vec<String> {
    let mut names = Vec::new();
    let mut counts = BTreeMap::new();
    for line in lines {
        match line.split_once(' ').map(|(count, what)| (count.parse::<u64>(), what)) {
            Some((Ok(count), what)) => {
                let order = usize::from(!what.contains("Type")) + usize::from(!what.ends_with("answered"));
                *counts.entry((order, what.to_owned())).or_default() += count;
            }
            _ => names.push(line),
        }
    }
    let count = |((_, what), count): (_, u64)| format!("{count} {what}");
    names.extend(counts.into_iter().map(count));
    names
}

/// As people would say it.
fn lines(output: &Output) -> Vec<String> {
    let mut lines = Vec::new();
    for answer in &output.answers {
        let addresses: Vec<_> = answer.addresses.iter().map(ToString::to_string).collect();
        let name = String::from_utf8_lossy(&answer.name);
        lines.push(format!("{name} is {}", addresses.join(" ")));
    }
    for of in &output.requests {
        let kind = question_type_name(of.question_type);
        let (role, status, count) = (of.role.as_str(), of.status.as_str(), of.latency.count());
        lines.push(format!("{count} {role} {kind} {} {status}", of.domain));
    }
    for of in &output.unanswered {
        let what = match of.role {
            Role::Client => "unanswered",
            Role::Server => "not answered",
        };
        lines.push(format!("{} {what}", of.count));
    }
    for of in &output.unparsed {
        assert_eq!(of.protocol.as_str(), "dns");
        lines.push(format!("{} {}", of.count, of.reason.as_str()));
    }
    lines
}

/// The way of questions and that of answers.
fn ways(role: Role) -> (Direction, Direction) {
    match role {
        Role::Client => (Sent, Received),
        Role::Server => (Received, Sent),
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}
