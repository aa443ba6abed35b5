//! What a container has asked, and was asked.
use super::exchanges::ByProtocol;
use crate::decode::{
    DnsRequests, DnsStatus, DnsUnanswered, Exchanges, Latency, Protocol, Role, Unparsed, UnparsedReason,
};
use std::collections::{BTreeMap, BTreeSet};

/// Rows for each domain, on the average: a type of question and a status are one. What asks more kinds of questions than
/// this is not after the answers.
const ROWS_PER_DOMAIN: usize = 16;

/// Kinds of questions to name servers. `None`: those beyond the limit, together.
pub type Question = (Option<(u16, Box<str>)>, DnsStatus);

/// Of name servers, and of those who ask them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// By what it has asked, and been answered.
    pub asked: BTreeMap<Question, u64>,
    pub asked_latency: Latency,
    /// What it has answered.
    pub answered: BTreeMap<DnsStatus, u64>,
    pub answered_latency: Latency,
    /// By role: what it has asked in vain, and what it has left without an answer.
    pub unanswered: [u64; Role::ALL.len()],
    domains: BTreeSet<Box<str>>,
}

/// Those of all protocols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub dns: Dns,
    /// By others. What it has asked for itself is with the destinations.
    pub inbound: ByProtocol,
    pub unparsed: BTreeMap<(Protocol, UnparsedReason), u64>,
}

/// A recording may say anything: nothing overflows.
fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

impl Dns {
    /// `domains`: how many at most.
    fn add(&mut self, requests: &DnsRequests, domains: usize) {
        let count = requests.latency.count();
        match requests.role {
            Role::Client => {
                self.asked_latency.add(&requests.latency);
                let question = (requests.question_type, requests.domain.clone());
                self.asked(&(Some(question), requests.status), count, domains);
            }
            Role::Server => {
                self.answered_latency.add(&requests.latency);
                add(self.answered.entry(requests.status).or_default(), count);
            }
        }
    }

    fn asked(&mut self, row: &Question, count: u64, domains: usize) {
        if let Some(known) = self.asked.get_mut(row) {
            return add(known, count);
        }
        let (question, status) = row;
        let question = question.as_ref().filter(|(_, domain)| {
            let known = self.domains.contains(domain);
            self.asked.len() < domains.saturating_mul(ROWS_PER_DOMAIN) && (known || self.domains.len() < domains)
        });
        if let Some((_, domain)) = question {
            self.domains.insert(domain.clone());
        }
        add(self.asked.entry((question.cloned(), *status)).or_default(), count);
    }

    fn absorb(&mut self, other: &Self, domains: usize) {
        for (row, count) in &other.asked {
            self.asked(row, *count, domains);
        }
        self.asked_latency.add(&other.asked_latency);
        for (status, count) in &other.answered {
            add(self.answered.entry(*status).or_default(), *count);
        }
        self.answered_latency.add(&other.answered_latency);
        for (ours, theirs) in self.unanswered.iter_mut().zip(other.unanswered) {
            add(ours, theirs);
        }
    }
}

impl Requests {
    pub(super) fn dns(&mut self, requests: &DnsRequests, domains: usize) {
        self.dns.add(requests, domains);
    }

    pub(super) fn dns_unanswered(&mut self, of: &DnsUnanswered) {
        if let Some(count) = self.dns.unanswered.get_mut(of.role as usize) {
            add(count, of.count);
        }
    }

    pub fn answered(&mut self, exchanges: &Exchanges) {
        self.inbound.add(exchanges);
    }

    pub(super) fn unparsed(&mut self, of: &Unparsed) {
        add(self.unparsed.entry((of.protocol, of.reason)).or_default(), of.count);
    }

    pub(super) fn absorb(&mut self, other: &Self, domains: usize) {
        self.dns.absorb(&other.dns, domains);
        self.inbound.absorb(&other.inbound);
        for (what, count) in &other.unparsed {
            add(self.unparsed.entry(*what).or_default(), *count);
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// With one of each kind.
    #[cfg(test)]
    pub fn example() -> Self {
        let mut example = Self::default();
        let asked = tests::asked("a.example", 28, 0);
        let answered = DnsRequests {
            role: Role::Server,
            ..tests::asked("a.example", 1, 3)
        };
        for requests in [&asked, &answered, &tests::asked("b.example", 65, 2)] {
            example.dns(requests, 1);
        }
        example.dns_unanswered(&DnsUnanswered {
            owner: asked.owner,
            role: Role::Client,
            count: 4,
        });
        example.unparsed(&Unparsed {
            owner: asked.owner,
            protocol: Protocol::Dns,
            reason: UnparsedReason::Cut,
            count: 5,
        });
        example.inbound = ByProtocol::example(Protocol::Http);
        example
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::SocketEvent;

    pub(super) fn asked(domain: &str, question_type: u16, status: u8) -> DnsRequests {
        let mut latency = Latency::default();
        latency.observe(7);
        DnsRequests {
            owner: SocketEvent::example().owner,
            role: Role::Client,
            question_type,
            domain: domain.into(),
            status: status.into(),
            latency,
        }
    }

    fn rows(of: &Requests) -> Vec<(&str, u16, u64)> {
        let rows = of.dns.asked.iter().map(|((question, _), count)| match question {
            Some((question_type, domain)) => (&**domain, *question_type, *count),
            None => ("~other", 0, *count),
        });
        rows.collect()
    }

    #[test]
    fn further_domains_are_counted_together_and_known_ones_go_on() {
        let mut requests = Requests::default();
        for domain in ["a", "b", "c", "a", "d", "b", "c"] {
            requests.dns(&asked(domain, 1, 0), 2);
        }
        assert_eq!(rows(&requests), [("~other", 0, 3), ("a", 1, 2), ("b", 1, 2)]);
        assert_eq!(requests.dns.asked_latency.count(), 7);
    }

    #[test]
    fn kinds_of_questions_have_a_limit_too() {
        let mut requests = Requests::default();
        for question_type in 0..1000 {
            requests.dns(&asked("a", question_type, 0), 2);
        }
        assert_eq!(requests.dns.asked.len(), 2 * ROWS_PER_DOMAIN + 1);
        assert_eq!(requests.dns.asked.values().sum::<u64>(), 1000);
    }

    #[test]
    fn two_of_one_container_are_added_up() {
        let (mut one, mut other) = (Requests::default(), Requests::default());
        one.dns(&asked("a", 1, 0), 2);
        one.dns(&asked("b", 1, 0), 2);
        for domain in ["b", "c", "d"] {
            other.dns(&asked(domain, 1, 0), 3);
        }
        let answered = DnsRequests {
            role: Role::Server,
            ..asked("a", 1, 3)
        };
        other.dns(&answered, 3);
        one.absorb(&other, 2);
        assert_eq!(rows(&one), [("~other", 0, 2), ("a", 1, 1), ("b", 1, 2)]);
        assert_eq!(one.dns.asked_latency.count(), 5);
        assert_eq!(one.dns.answered.values().copied().collect::<Vec<_>>(), [1]);
        one.absorb(&Requests::example(), 2);
        one.absorb(&Requests::example(), 2);
        assert_eq!(one.dns.unanswered, [8, 0]);
        assert_eq!(one.unparsed.values().copied().collect::<Vec<_>>(), [10]);
        assert!(!one.is_empty() && Requests::default().is_empty());
    }
}
