//! All of them, and who makes room for whom.
use super::{Connection, End, Part, PassOver, Words};
use crate::{
    base::table::Table,
    config::Pattern,
    decode::{Owner, Protocol, UnparsedReason},
    l7::{
        Limits,
        connection::Between,
        sums::Sums,
        watch::{Watch, Wishes},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Of all connections together. For more of it the longest idle ones make room.
pub(super) const MAX_BUFFERED: usize = 16 << 20;

/// What there is to be told of sockets since the last time.
#[derive(Debug, Default)]
pub(in crate::l7) struct News {
    /// Nothing more is wanted of them.
    pub(in crate::l7) given_up: Vec<u64>,
    /// By socket.
    pub(in crate::l7) passed_over: BTreeMap<u64, PassOver>,
    pub(in crate::l7) ended: Vec<u64>,
}

pub(in crate::l7) struct Connections {
    known: Table<u64, Connection>,
    /// On which something waits for what comes before it.
    waiting: BTreeSet<u64>,
    /// On which something was counted since the last reading.
    counted: BTreeSet<u64>,
    news: News,
    buffered: usize,
    evicted: u64,
    wishes: Wishes,
}

impl Connections {
    pub(in crate::l7) fn new(limits: Limits) -> Self {
        Self {
            known: Table::new(limits.connections),
            waiting: BTreeSet::new(),
            counted: BTreeSet::new(),
            news: News::default(),
            buffered: 0,
            evicted: 0,
            wishes: Wishes {
                body_bytes: limits.body_bytes,
                ..Wishes::default()
            },
        }
    }

    pub(in crate::l7) fn leave_out(&mut self, patterns: &[Pattern]) {
        patterns.clone_into(&mut self.wishes.leave_out);
    }

    pub(in crate::l7) fn watch(&mut self, watch: Watch) {
        self.wishes.watch = watch;
    }

    pub(in crate::l7) fn apply(&mut self, part: &Part<'_>, sums: &mut Sums) {
        let socket = part.socket;
        if self.known.len() >= self.known.capacity() && !self.known.contains_key(&socket) {
            self.make_room(sums);
        }
        let Some(connection) = self.known.get_or_insert_with(socket, || Connection::new(part)) else {
            let Between { owner, protocol, .. } = &part.between;
            return sums.unparsed(owner, *protocol, UnparsedReason::Crowded);
        };
        if connection.dialogue.is_none() {
            return;
        }
        connection.last_ns = connection.last_ns.max(part.time_ns);
        self.buffered -= connection.buffered();
        if let Some(begin) = &part.begin {
            connection.begin(part.side, begin, sums, &self.wishes);
        }
        let words = Words {
            time_ns: part.time_ns,
            position: part.position,
            len: part.len,
            starts: part.starts,
            payload: part.payload,
        };
        connection.apply(part.side, &words, sums, &self.wishes);
        self.buffered += connection.buffered();
        if connection.is_waiting() {
            self.waiting.insert(socket);
        }
        if connection.counts.latency.count() > 0 {
            self.counted.insert(socket);
        }
        self.news
            .passed_over
            .extend(connection.passes_over(socket).map(|body| (socket, body)));
        if connection.dialogue.is_none() {
            self.news.given_up.push(socket);
        }
        while self.buffered > MAX_BUFFERED && !self.known.is_empty() {
            self.make_room(sums);
        }
    }

    pub(in crate::l7) fn ended(&mut self, end: &End, (owner, protocol): (&Owner, Protocol), sums: &mut Sums) {
        self.news.ended.push(end.socket);
        if self.known.contains_key(&end.socket) {
            self.part_with(end.socket, end.words, sums);
        } else if end.lost {
            // All of it was, or all since it had to make room.
            sums.unparsed(owner, protocol, UnparsedReason::Gap);
        }
    }

    fn part_with(&mut self, socket: u64, up_to: Option<[u64; 2]>, sums: &mut Sums) {
        let Some(mut connection) = self.known.remove(&socket) else {
            return;
        };
        self.waiting.remove(&socket);
        self.counted.remove(&socket);
        self.buffered -= connection.buffered();
        connection.end(up_to, sums, &self.wishes);
        sums.exchanges(connection.take());
    }

    /// Once per reading.
    pub(in crate::l7) fn take(&mut self, now_ns: u64, sums: &mut Sums) {
        let waiting = std::mem::take(&mut self.waiting);
        for socket in waiting {
            let Some(connection) = self.known.get_mut(&socket) else {
                continue;
            };
            self.buffered -= connection.buffered();
            // Both have to be asked.
            let old = [connection.client.grows_old(now_ns), connection.server.grows_old(now_ns)];
            if old.contains(&true) {
                connection.release(None, sums, &self.wishes);
                self.counted.insert(socket);
                self.news
                    .passed_over
                    .extend(connection.passes_over(socket).map(|body| (socket, body)));
                if connection.dialogue.is_none() {
                    self.news.given_up.push(socket);
                }
            }
            self.buffered += connection.buffered();
            if connection.is_waiting() {
                self.waiting.insert(socket);
            }
        }
        for socket in std::mem::take(&mut self.counted) {
            if let Some(connection) = self.known.get_mut(&socket) {
                sums.exchanges(connection.take());
            }
        }
    }

    pub(in crate::l7) fn news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Several at a time: all have to be looked at.
    fn make_room(&mut self, sums: &mut Sums) {
        let last = self.known.iter();
        let mut last: Vec<_> = last.map(|(socket, connection)| (connection.last_ns, *socket)).collect();
        last.sort_unstable();
        last.truncate(last.len().div_ceil(16));
        for (_, socket) in last {
            self.part_with(socket, None, sums);
            self.evicted += 1;
        }
    }

    /// Connections, bytes they keep, and how many had to make room.
    pub(in crate::l7) fn fill(&self) -> (usize, usize, u64) {
        (self.known.len(), self.buffered, self.evicted)
    }
}
