//! What one reading adds up to.
use super::{Output, watch::Telling};
use crate::{
    base::ids::ProcKey,
    decode::{
        DnsAnswered, DnsRequests, DnsStatus, DnsUnanswered, Exchanges, Latency, Owner, Protocol, Role, Unparsed,
        UnparsedReason,
    },
};
use std::collections::{BTreeMap, btree_map::Entry};

/// Kinds of questions in one reading, and answers for the table of names: a ring holds fewer messages than that unless
/// somebody makes them up.
const MAX_ROWS: usize = 16_384;

type Kind = (ProcKey, Role, u16, Box<str>, DnsStatus);

#[derive(Default)]
pub(super) struct Sums {
    answers: Vec<DnsAnswered>,
    requests: BTreeMap<Kind, (Owner, Latency)>,
    unanswered: BTreeMap<(ProcKey, Role), (Owner, u64)>,
    unparsed: BTreeMap<(ProcKey, Protocol, UnparsedReason), (Owner, u64)>,
    /// Of servers: who has asked is not told.
    served: BTreeMap<(ProcKey, Protocol), Exchanges>,
    exchanges: Vec<Exchanges>,
    pub(super) telling: Telling,
}

/// What a request counts under.
pub(super) struct Request {
    pub(super) owner: Owner,
    pub(super) role: Role,
    pub(super) question_type: u16,
    pub(super) domain: Box<str>,
    pub(super) status: DnsStatus,
}

impl Sums {
    pub(super) fn request(&mut self, request: Request, latency_ns: u64) {
        let owner = request.owner;
        let kind = (
            owner.process,
            request.role,
            request.question_type,
            request.domain,
            request.status,
        );
        if self.requests.len() >= MAX_ROWS && !self.requests.contains_key(&kind) {
            return self.unparsed(&owner, Protocol::Dns, UnparsedReason::Crowded);
        }
        let (_, latency) = self.requests.entry(kind).or_insert((owner, Latency::default()));
        latency.observe(latency_ns);
    }

    /// Too many of them are no loss of a count: the names are then shown as addresses.
    pub(super) fn answer(&mut self, answer: DnsAnswered) {
        if self.answers.len() < MAX_ROWS {
            self.answers.push(answer);
        }
    }

    pub(super) fn unanswered(&mut self, owner: &Owner, role: Role) {
        self.unanswered.entry((owner.process, role)).or_insert((*owner, 0)).1 += 1;
    }

    pub(super) fn unparsed(&mut self, owner: &Owner, protocol: Protocol, reason: UnparsedReason) {
        self.unparsed_many(owner, protocol, reason, 1);
    }

    pub(super) fn unparsed_many(&mut self, owner: &Owner, protocol: Protocol, reason: UnparsedReason, count: u64) {
        if count > 0 {
            let key = (owner.process, protocol, reason);
            self.unparsed.entry(key).or_insert((*owner, 0)).1 += count;
        }
    }

    pub(super) fn exchanges(&mut self, exchanges: Option<Exchanges>) {
        let Some(exchanges) = exchanges else { return };
        match exchanges.role {
            Role::Client => self.exchanges.push(exchanges),
            Role::Server => match self.served.entry((exchanges.owner.process, exchanges.protocol)) {
                Entry::Occupied(mut sum) => sum.get_mut().add(&exchanges),
                Entry::Vacant(place) => drop(place.insert(exchanges)),
            },
        }
    }

    pub(super) fn take(&mut self) -> Output {
        let Self {
            answers,
            requests,
            unanswered,
            unparsed,
            served,
            mut exchanges,
            telling,
        } = std::mem::take(self);
        exchanges.extend(served.into_values());
        let request = |((_, role, question_type, domain, status), (owner, latency))| DnsRequests {
            owner,
            role,
            question_type,
            domain,
            status,
            latency,
        };
        let unparsed_row = |((_, protocol, reason), (owner, count))| Unparsed {
            owner,
            protocol,
            reason,
            count,
        };
        let unanswered_row = |((_, role), (owner, count))| DnsUnanswered { owner, role, count };
        Output {
            answers,
            requests: requests.into_iter().map(request).collect(),
            unanswered: unanswered.into_iter().map(unanswered_row).collect(),
            unparsed: unparsed.into_iter().map(unparsed_row).collect(),
            exchanges,
            told: telling.told,
            untold: telling.left_out,
            ..Output::default()
        }
    }
}
