//! Questions on their way to the blocking pool: each waits once, few are asked at a time, and one that hangs does not keep
//! the others waiting for ever.
use super::effects::Ask;
use std::collections::{HashSet, VecDeque};

#[derive(Debug)]
pub(super) struct Questions {
    waiting: VecDeque<Ask>,
    /// The same, to ask nothing twice.
    asked: HashSet<Ask>,
    rejected: u64,
    limits: Limits,
    /// When each load began that has not come back.
    out: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub waiting: usize,
    /// In one go.
    pub load: usize,
    /// Loads out at the same time: each blocks a thread.
    pub loads: usize,
    /// Then the next load is not kept waiting any longer.
    pub patience_ns: u64,
}

impl Questions {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            waiting: VecDeque::new(),
            asked: HashSet::new(),
            rejected: 0,
            limits,
            out: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.limits.waiting
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        if self.asked.contains(&ask) {
            return;
        }
        if self.waiting.len() >= self.limits.waiting {
            self.rejected += 1;
            return;
        }
        self.asked.insert(ask.clone());
        self.waiting.push_back(ask);
    }

    /// The next load, if it is time for one. Even an empty one, for who has something else to do with it.
    pub(super) fn take(&mut self, now_ns: u64, even_empty: bool) -> Option<Vec<Ask>> {
        let Limits {
            load,
            loads,
            patience_ns,
            ..
        } = self.limits;
        let patient = self.out.iter().any(|since| now_ns.saturating_sub(*since) < patience_ns);
        if patient || self.out.len() >= loads || (self.waiting.is_empty() && !even_empty) {
            return None;
        }
        self.out.push(now_ns);
        let asks: Vec<Ask> = self.waiting.drain(..self.waiting.len().min(load)).collect();
        for ask in &asks {
            self.asked.remove(ask);
        }
        Some(asks)
    }

    /// The load that was taken then has come back.
    pub(super) fn returned(&mut self, taken_ns: u64) {
        if let Some(at) = self.out.iter().position(|since| *since == taken_ns) {
            self.out.swap_remove(at);
        }
    }

    /// Some load has been out for longer than that.
    pub(super) fn hang(&self, now_ns: u64, longer_than_ns: u64) -> bool {
        self.out
            .iter()
            .any(|since| now_ns.saturating_sub(*since) > longer_than_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ProcKey;

    fn ask(tgid: u32) -> Ask {
        Ask::Process {
            process: ProcKey { tgid, start_ns: 1 },
        }
    }

    fn questions() -> Questions {
        let mut questions = Questions::new(Limits {
            waiting: 4,
            load: 2,
            loads: 2,
            patience_ns: 10,
        });
        (1..=4).for_each(|tgid| questions.ask(ask(tgid)));
        questions
    }

    #[test]
    fn each_waits_once_and_not_too_many() {
        let mut questions = questions();
        questions.ask(ask(4));
        assert_eq!((questions.len(), questions.rejected()), (4, 0));
        questions.ask(ask(5));
        assert_eq!((questions.len(), questions.rejected()), (4, 1));
        assert_eq!(questions.take(0, false), Some(vec![ask(1), ask(2)]));
        // What is out may have changed meanwhile, and can be asked again.
        questions.ask(ask(1));
        assert_eq!(questions.len(), 3);
    }

    #[test]
    fn a_load_that_hangs_holds_the_others_up_only_so_long() {
        let mut questions = questions();
        assert!(questions.take(100, false).is_some());
        assert_eq!(questions.take(109, false), None);
        assert!(!questions.hang(110, 10) && questions.hang(111, 10));
        assert_eq!(questions.take(110, false), Some(vec![ask(3), ask(4)]));
        questions.ask(ask(9));
        assert_eq!(questions.take(500, false), None, "two threads are enough");
        questions.returned(110);
        assert_eq!(questions.take(500, false), Some(vec![ask(9)]));
    }

    #[test]
    fn nothing_to_ask() {
        let mut questions = questions();
        questions.waiting.clear();
        assert_eq!(questions.take(0, false), None);
        assert_eq!(questions.take(0, true), Some(vec![]));
        assert_eq!(questions.take(5, true), None);
        questions.returned(0);
        assert_eq!(questions.take(5, true), Some(vec![]));
    }
}
