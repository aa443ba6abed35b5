//! Whom to ask, what was answered, and what is still owed.
//!
//! An entry is one lookup. Its known answer is kept while it is asked again, and when its runtime has forgotten it: whoever
//! ends does not become somebody else.
//!
//! | answer | kept | asked again |
//! | --- | --- | --- |
//! | known | as long as there is room | when it changes, or its runtime comes back; or one that should have been asked first |
//! | nobody | as long as there is room | by a question after some seconds; when a runtime comes back |
//! | unanswered | as long as there is room | after a back-off, and when a runtime comes back or turns out to be absent |
use super::{Found, Resolved, Said};
use crate::runtimes::{Change, Engines, Lookup, Runtime, client::Answer, metadata::Metadata, statistics::Connection};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::Arc,
};

const SECOND_NS: u64 = 1_000_000_000;
const NEGATIVE_NS: u64 = 15 * SECOND_NS;
const RETRY_NS: (u64, u64) = (2 * SECOND_NS, 120 * SECOND_NS);

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: usize,
    /// How many are asked again per second.
    pub again: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 65_536,
            again: 512,
        }
    }
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Effects {
    pub asks: Vec<(Runtime, Lookup)>,
    pub resolved: Vec<Resolved>,
}

#[derive(Debug, Default)]
struct Entry {
    age: u64,
    last: Last,
    known: Option<Arc<Metadata>>,
    told: Option<Found>,
    round: Option<Round>,
    /// Who said what in the last round, or in this one.
    said: Vec<(Runtime, Said)>,
    /// Asked for since the last answer.
    owed: bool,
    /// It changed while it was being asked for.
    stale: bool,
    /// It has ended. Who asked will say when nobody needs it any more.
    gone: bool,
    tries: u32,
    waits: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    None,
    Known {
        /// Somebody who should have been asked first could not be.
        provisional: bool,
    },
    Nobody {
        until_ns: u64,
    },
    Unanswered {
        retry_ns: u64,
    },
}

/// One way through those who may know it.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Place of whom is being asked.
    place: usize,
    unanswered: bool,
}

#[derive(Debug, Default)]
pub struct FacadeState {
    limits: Limits,
    connections: BTreeMap<Runtime, Connection>,
    entries: HashMap<Lookup, Entry>,
    /// The oldest first.
    ages: BTreeMap<u64, Lookup>,
    names: HashMap<Arc<str>, Vec<Lookup>>,
    /// To be asked again, as there is time.
    again: VecDeque<Lookup>,
    next_age: u64,
    evicted: u64,
    effects: Effects,
}

/// Who may know it, and in which order they are asked.
pub fn order(lookup: &Lookup) -> &'static [Runtime] {
    use Runtime::{Containerd, Crio, Docker, Podman, Systemd};
    match lookup {
        Lookup::Engine { engines, .. } => match engines {
            Engines::Docker => &[Docker, Podman, Containerd],
            Engines::Podman => &[Podman, Docker],
            Engines::Containerd => &[Containerd, Docker],
            Engines::Crio => &[Crio, Containerd],
            Engines::Any => &[Docker, Podman, Containerd, Crio],
        },
        Lookup::Named { .. } => &[Containerd],
        Lookup::Unit { .. } => &[Systemd],
    }
}

/// How a runtime that tells of a change calls it.
fn name(lookup: &Lookup) -> &Arc<str> {
    match lookup {
        Lookup::Engine { id, .. } => id,
        Lookup::Named { name, .. } => name,
        Lookup::Unit { unit } => unit,
    }
}

impl FacadeState {
    /// Runtimes that are not among `wanted` are as good as absent.
    pub fn new(limits: Limits, wanted: impl IntoIterator<Item = Runtime>) -> Self {
        Self {
            limits,
            connections: wanted
                .into_iter()
                .map(|runtime| (runtime, Connection::Connecting))
                .collect(),
            ..Self::default()
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.limits.entries
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Whom a question went to, in that order, and what they said when they were last asked.
    pub fn explain(&self, lookup: &Lookup) -> Option<&[(Runtime, Said)]> {
        self.entries.get(lookup).map(|entry| entry.said.as_slice())
    }

    /// What the last calls want done.
    pub fn take_effects(&mut self) -> Effects {
        mem::take(&mut self.effects)
    }

    pub fn resolve(&mut self, lookup: &Lookup, now_ns: u64) {
        self.insert(lookup);
        let Some(entry) = self.entries.get_mut(lookup) else {
            return;
        };
        entry.owed = true;
        let fresh = match entry.last {
            Last::Known { .. } => true,
            Last::Nobody { until_ns } => now_ns < until_ns,
            // It is being tried anyway.
            Last::Unanswered { retry_ns } => now_ns < retry_ns,
            Last::None => false,
        };
        match entry.round {
            Some(_) => {}
            None if fresh => self.settle(lookup),
            None => self.begin(lookup, now_ns),
        }
    }

    pub fn answered(&mut self, runtime: Runtime, lookup: &Lookup, answer: Answer, now_ns: u64) {
        let Some(entry) = self.entries.get_mut(lookup) else {
            return;
        };
        let Some(round) = &mut entry.round else { return };
        // Of a client that has since been replaced.
        if order(lookup).get(round.place) != Some(&runtime) {
            return;
        }
        let said = match answer {
            Answer::Known(_) => Said::Known,
            Answer::Nobody => Said::Nobody,
            Answer::Unanswered => Said::Unanswered,
        };
        entry.said.push((runtime, said));
        match answer {
            Answer::Known(metadata) => {
                entry.known = Some(metadata);
                let provisional = round.unanswered;
                return self.end(lookup, Last::Known { provisional }, now_ns);
            }
            // It is no more. Whoever is asked next may have remains of it, without its name.
            Answer::Nobody if entry.known.as_ref().is_some_and(|known| known.runtime == runtime) => {
                return self.end(lookup, Last::Nobody { until_ns: now_ns }, now_ns);
            }
            Answer::Nobody => {}
            Answer::Unanswered => round.unanswered = true,
        }
        round.place += 1;
        self.advance(lookup, now_ns);
    }

    pub fn connection(&mut self, runtime: Runtime, connection: Connection, now_ns: u64) {
        let before = self.connections.insert(runtime, connection);
        let connected = connection == Connection::Connected;
        // That it is still not there, it says again and again.
        if !connected && (connection != Connection::Absent || before == Some(connection)) {
            return;
        }
        // Those who wait for an answer come before those who have one.
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (age, lookup) in &self.ages {
            let Some(entry) = self.entries.get(lookup) else {
                continue;
            };
            if entry.waits || entry.gone || !order(lookup).contains(&runtime) {
                continue;
            }
            let its_own = entry.known.as_ref().is_some_and(|known| known.runtime == runtime);
            match entry.last {
                Last::Unanswered { .. } => first.push(*age),
                Last::Nobody { .. } | Last::Known { provisional: true } if connected => first.push(*age),
                // Nobody told what has changed meanwhile.
                Last::Known { .. } if connected && its_own => second.push(*age),
                _ => {}
            }
        }
        for age in first.into_iter().chain(second) {
            if let Some(lookup) = self.ages.get(&age).cloned() {
                self.ask_again(lookup);
            }
        }
        self.pump(now_ns);
    }

    /// Its client is no more, and will not answer what it was asked.
    pub fn lost(&mut self, runtime: Runtime, now_ns: u64) {
        self.connections.insert(runtime, Connection::Broken);
        let asked = self.entries.iter().filter(|(lookup, entry)| {
            let place = entry.round.map(|round| round.place);
            place.is_some_and(|place| order(lookup).get(place) == Some(&runtime))
        });
        let asked: Vec<_> = asked.map(|(lookup, _)| lookup.clone()).collect();
        for lookup in asked {
            self.answered(runtime, &lookup, Answer::Unanswered, now_ns);
        }
    }

    pub fn changed(&mut self, runtime: Runtime, change: &Change, now_ns: u64) {
        let (Change::Changed(id) | Change::Gone(id)) = change;
        // Where names are in namespaces, this may be of another one: it is asked for in vain.
        let id = id.rsplit('/').next().unwrap_or(id);
        let Some(lookups) = self.names.get(id) else { return };
        for lookup in lookups.clone() {
            let Some(entry) = self.entries.get_mut(&lookup) else {
                continue;
            };
            if !order(&lookup).contains(&runtime) {
                continue;
            }
            match change {
                Change::Gone(_) => {
                    if entry.known.as_ref().is_none_or(|known| known.runtime == runtime) {
                        entry.gone = true;
                    }
                }
                Change::Changed(_) => {
                    entry.gone = false;
                    entry.tries = 0;
                    match entry.round {
                        Some(_) => entry.stale = true,
                        None => self.begin(&lookup, now_ns),
                    }
                }
            }
        }
    }

    pub fn forget(&mut self, lookup: &Lookup) {
        let Some(entry) = self.entries.remove(lookup) else {
            return;
        };
        self.ages.remove(&entry.age);
        if let Some(lookups) = self.names.get_mut(name(lookup)) {
            lookups.retain(|other| other != lookup);
            if lookups.is_empty() {
                self.names.remove(name(lookup));
            }
        }
    }

    /// All that was told is told again when it is asked for: whoever was told is another.
    pub fn forget_told(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.told = None);
    }

    /// Once a second.
    pub fn tick(&mut self, now_ns: u64) {
        let waits = |entry: &Entry| {
            let due = matches!(entry.last, Last::Unanswered { retry_ns } if retry_ns <= now_ns);
            due && !entry.waits && entry.round.is_none()
        };
        let due = self.entries.iter().filter(|(_, entry)| waits(entry));
        let mut due: Vec<_> = due.map(|(lookup, entry)| (entry.age, lookup.clone())).collect();
        due.sort_unstable_by_key(|(age, _)| *age);
        due.into_iter().for_each(|(_, lookup)| self.ask_again(lookup));
        self.pump(now_ns);
    }

    fn ask_again(&mut self, lookup: Lookup) {
        if let Some(entry) = self.entries.get_mut(&lookup) {
            entry.waits = true;
            self.again.push_back(lookup);
        }
    }

    fn pump(&mut self, now_ns: u64) {
        for _ in 0..self.limits.again {
            let Some(lookup) = self.again.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&lookup) else {
                continue;
            };
            if !mem::take(&mut entry.waits) {
                continue;
            }
            match entry.round {
                Some(_) => entry.stale = true,
                None => self.begin(&lookup, now_ns),
            }
        }
    }

    fn insert(&mut self, lookup: &Lookup) {
        if self.entries.contains_key(lookup) {
            return;
        }
        while self.entries.len() >= self.limits.entries.max(1) {
            // Those who are being asked for are owed an answer.
            let settled = |entry: &Entry| entry.round.is_none();
            let mut oldest = self.ages.values();
            let Some(oldest) = oldest
                .find(|lookup| self.entries.get(*lookup).is_none_or(settled))
                .cloned()
            else {
                break;
            };
            self.forget(&oldest);
            self.evicted += 1;
        }
        let age = self.next_age;
        self.next_age += 1;
        self.ages.insert(age, lookup.clone());
        self.names
            .entry(Arc::clone(name(lookup)))
            .or_default()
            .push(lookup.clone());
        let entry = Entry {
            age,
            ..Entry::default()
        };
        self.entries.insert(lookup.clone(), entry);
    }

    fn begin(&mut self, lookup: &Lookup, now_ns: u64) {
        if let Some(entry) = self.entries.get_mut(lookup) {
            entry.stale = false;
            entry.said.clear();
            entry.round = Some(Round {
                place: 0,
                unanswered: false,
            });
            self.advance(lookup, now_ns);
        }
    }

    /// Asks the next who can be asked.
    fn advance(&mut self, lookup: &Lookup, now_ns: u64) {
        let Some(entry) = self.entries.get_mut(lookup) else {
            return;
        };
        let Some(round) = &mut entry.round else { return };
        while let Some(runtime) = order(lookup).get(round.place) {
            match self.connections.get(runtime) {
                Some(Connection::Connected) => return self.effects.asks.push((*runtime, lookup.clone())),
                None | Some(Connection::Absent | Connection::Off) => entry.said.push((*runtime, Said::Absent)),
                Some(Connection::Connecting | Connection::Broken) => {
                    entry.said.push((*runtime, Said::NotConnected));
                    round.unanswered = true;
                }
            }
            round.place += 1;
        }
        let last = match round.unanswered {
            true => {
                let wait_ns = RETRY_NS.0.saturating_mul(1 << entry.tries.min(16)).min(RETRY_NS.1);
                entry.tries += 1;
                Last::Unanswered {
                    retry_ns: now_ns.saturating_add(wait_ns),
                }
            }
            false => Last::Nobody {
                until_ns: now_ns.saturating_add(NEGATIVE_NS),
            },
        };
        self.end(lookup, last, now_ns);
    }

    fn end(&mut self, lookup: &Lookup, last: Last, now_ns: u64) {
        let Some(entry) = self.entries.get_mut(lookup) else {
            return;
        };
        entry.round = None;
        if !matches!(last, Last::Unanswered { .. }) {
            entry.tries = 0;
        }
        if entry.known.is_some() && matches!(last, Last::Nobody { .. }) {
            // It has ended, and who it was does not change.
            entry.gone = true;
            entry.last = Last::Known { provisional: false };
        } else {
            entry.last = last;
        }
        if entry.stale {
            return self.begin(lookup, now_ns);
        }
        self.settle(lookup);
    }

    /// Tells what is known, if that is news or was asked for.
    fn settle(&mut self, lookup: &Lookup) {
        let Some(entry) = self.entries.get_mut(lookup) else {
            return;
        };
        let found = match (&entry.known, entry.last) {
            (Some(known), _) => Found::Known(Arc::clone(known)),
            (None, Last::Unanswered { .. }) => Found::Unanswered,
            (None, _) => Found::Nobody,
        };
        // Whoever knew that it is nobody's is not helped by a doubt.
        let news = entry.told.as_ref() != Some(&found) && found != Found::Unanswered;
        if mem::take(&mut entry.owed) || news {
            entry.told = Some(found.clone());
            let lookup = lookup.clone();
            self.effects.resolved.push(Resolved { lookup, found });
        }
    }
}
