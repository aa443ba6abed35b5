//! Questions that wait for their answer, and answers that wait for their question to be seen.
use super::message::Question;
use crate::{
    base::table::Table,
    decode::{DnsStatus, Owner, Role},
    l7::Limits,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

/// Then nobody waits any more.
const TIMEOUT_NS: u64 = 10_000_000_000;
/// One thread may ask and another one read the answer: the first one may be the later to be heard of.
const SKEW_NS: u64 = 5_000_000;
/// Readings that an answer waits for its question.
const EARLY_READINGS: u8 = 2;
const MAX_EARLY: usize = 1024;

/// Which exchange on which socket. A server's socket hears from many clients, and they do not know of each other's ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) socket: u64,
    pub(super) role: Role,
    pub(super) id: u16,
}

pub(super) struct Waiting {
    pub(super) role: Role,
    pub(super) question: Question,
    pub(super) owner: Owner,
    pub(super) time_ns: u64,
}

impl Waiting {
    fn may_have_answer_at(&self, time_ns: u64) -> bool {
        time_ns.saturating_add(SKEW_NS) >= self.time_ns && time_ns.saturating_sub(self.time_ns) < TIMEOUT_NS
    }
}

/// The last is a number that no other question has: the later one has the higher.
type Key = (Role, u16, u64);

#[derive(Default)]
struct Socket {
    questions: BTreeMap<Key, Box<Waiting>>,
    ages: BTreeSet<(u64, Key)>,
}

impl Socket {
    fn remove(&mut self, key: &Key) -> Option<Box<Waiting>> {
        let waiting = self.questions.remove(key)?;
        self.ages.remove(&(waiting.time_ns, *key));
        Some(waiting)
    }

    fn remove_oldest(&mut self) -> Option<Box<Waiting>> {
        let (_, key) = self.ages.pop_first()?;
        self.questions.remove(&key)
    }

    /// The newest first.
    fn with_id(&self, role: Role, id: u16) -> impl Iterator<Item = (Key, &Waiting)> {
        let range = self.questions.range((role, id, 0)..=(role, id, u64::MAX));
        range.rev().map(|(key, waiting)| (*key, &**waiting))
    }

    fn newest_ns(&self) -> u64 {
        self.ages.last().map_or(0, |(time_ns, _)| *time_ns)
    }
}

pub(super) struct Questions {
    sockets: Table<u64, Socket>,
    limits: Limits,
    len: usize,
    number: u64,
    /// Before that nothing times out.
    due_ns: u64,
    evicted: u64,
}

/// There is no room for the question.
pub(super) struct Full;

impl Questions {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            sockets: Table::new(limits.sockets),
            limits,
            len: 0,
            number: 0,
            due_ns: u64::MAX,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What goes for it goes to `unanswered`.
    pub(super) fn ask(
        &mut self,
        line: Line,
        waiting: Waiting,
        unanswered: &mut impl FnMut(&Waiting),
    ) -> Result<(), Full> {
        if !self.sockets.contains_key(&line.socket) && self.sockets.len() >= self.limits.sockets {
            self.make_room(unanswered);
        }
        let full = self.len >= self.limits.questions;
        let Some(socket) = self.sockets.get_or_insert_with(line.socket, Socket::default) else {
            return Err(Full);
        };
        // A client that uses an id again has given up on what it had asked.
        let given_up: Vec<Key> = match line.role {
            Role::Client => socket.with_id(line.role, line.id).map(|(key, _)| key).collect(),
            Role::Server => Vec::new(),
        };
        let mut gone: Vec<_> = given_up.iter().filter_map(|key| socket.remove(key)).collect();
        if gone.is_empty() && (full || socket.questions.len() >= self.limits.questions_per_socket) {
            gone.extend(socket.remove_oldest());
            if gone.is_empty() {
                if socket.questions.is_empty() {
                    self.sockets.remove(&line.socket);
                }
                return Err(Full);
            }
        }
        for waiting in &gone {
            unanswered(waiting);
        }
        self.number += 1;
        let key = (line.role, line.id, self.number);
        self.due_ns = self.due_ns.min(waiting.time_ns.saturating_add(TIMEOUT_NS));
        socket.ages.insert((waiting.time_ns, key));
        socket.questions.insert(key, Box::new(waiting));
        self.len = self.len + 1 - gone.len();
        Ok(())
    }

    /// The question to an answer of that time. Without `question` the id decides.
    pub(super) fn answer(&mut self, line: Line, question: Option<&Question>, time_ns: u64) -> Option<Box<Waiting>> {
        let socket = self.sockets.get_mut(&line.socket)?;
        // Of a server's clients that ask the same under the same id, the one that asks again is the likelier to wait.
        let (key, _) = socket.with_id(line.role, line.id).find(|(_, waiting)| {
            waiting.may_have_answer_at(time_ns) && question.is_none_or(|question| waiting.question == *question)
        })?;
        let waiting = socket.remove(&key)?;
        self.len -= 1;
        if socket.questions.is_empty() {
            self.sockets.remove(&line.socket);
        }
        Some(waiting)
    }

    pub(super) fn expire(&mut self, now_ns: u64, unanswered: &mut impl FnMut(&Waiting)) {
        if now_ns < self.due_ns {
            return;
        }
        let (mut len, mut due_ns) = (self.len, u64::MAX);
        self.sockets.retain(|_, socket| {
            while let Some((time_ns, _)) = socket.ages.first().copied() {
                if now_ns.saturating_sub(time_ns) < TIMEOUT_NS {
                    due_ns = due_ns.min(time_ns.saturating_add(TIMEOUT_NS));
                    break;
                }
                if let Some(waiting) = socket.remove_oldest() {
                    unanswered(&waiting);
                    len -= 1;
                }
            }
            !socket.questions.is_empty()
        });
        (self.len, self.due_ns) = (len, due_ns);
    }

    /// Several at a time: all have to be looked at.
    fn make_room(&mut self, unanswered: &mut impl FnMut(&Waiting)) {
        let mut newest: Vec<_> = self
            .sockets
            .iter()
            .map(|(cookie, socket)| (socket.newest_ns(), *cookie))
            .collect();
        let go = newest.len().div_ceil(16);
        if go == 0 {
            return;
        }
        let last = *newest.select_nth_unstable(go - 1).1;
        let mut len = self.len;
        self.sockets.retain(|cookie, socket| {
            let stays = (socket.newest_ns(), *cookie) > last;
            if !stays {
                len -= socket.questions.len();
                socket.questions.values().for_each(|waiting| unanswered(waiting));
            }
            stays
        });
        self.len = len;
        self.evicted += go as u64;
    }
}

/// An answer whose question nobody has heard yet, if there is one.
pub(super) struct Early {
    pub(super) line: Line,
    pub(super) question: Option<Question>,
    pub(super) status: DnsStatus,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) owner: Owner,
    pub(super) time_ns: u64,
    pub(super) readings: u8,
}

#[derive(Default)]
pub(super) struct EarlyAnswers {
    answers: VecDeque<Early>,
}

impl EarlyAnswers {
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Gives back what has to make room.
    pub(super) fn push(&mut self, answer: Early) -> Option<Early> {
        let oldest = (self.answers.len() >= MAX_EARLY).then(|| self.answers.pop_front());
        self.answers.push_back(answer);
        oldest.flatten()
    }

    /// The answer to a question that is heard of only now.
    pub(super) fn take(&mut self, line: Line, waiting: &Waiting) -> Option<Early> {
        let at = self.answers.iter().position(|answer| {
            answer.line == line
                && waiting.may_have_answer_at(answer.time_ns)
                && answer
                    .question
                    .as_ref()
                    .is_none_or(|question| *question == waiting.question)
        })?;
        self.answers.remove(at)
    }

    pub(super) fn expire(&mut self, now_ns: u64, unasked: &mut impl FnMut(&Early)) {
        self.answers.retain_mut(|answer| {
            answer.readings = answer.readings.saturating_add(1);
            let stays = answer.readings < EARLY_READINGS || now_ns.abs_diff(answer.time_ns) < SKEW_NS;
            if !stays {
                unasked(answer);
            }
            stays
        });
    }
}
