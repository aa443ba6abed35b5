//! What has become of requests, by their protocol.
use crate::decode::{Classes, Exchanges, Latency, Protocol, class_name};
use std::collections::BTreeMap;

/// Of one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub classes: Classes,
    pub latency: Latency,
}

impl Outcomes {
    /// A recording may say anything: nothing overflows.
    fn add(&mut self, classes: &Classes, latency: &Latency) {
        for (count, more) in self.classes.iter_mut().zip(classes) {
            *count = count.saturating_add(*more);
        }
        self.latency.add(latency);
    }

    /// As the label `status` shows them, without those that there were none of. Several classes may have one name.
    pub fn by_status(&self, protocol: Protocol) -> BTreeMap<&'static str, u64> {
        let mut by_status: BTreeMap<_, u64> = BTreeMap::new();
        for (class, count) in self.classes.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let sum = by_status.entry(class_name(protocol, class)).or_default();
            *sum = sum.saturating_add(count);
        }
        by_status
    }
}

/// In the order of the protocols. Most have one: a map's node would have room for eleven, and every destination one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByProtocol(Vec<(Protocol, Outcomes)>);

impl ByProtocol {
    pub(super) fn add(&mut self, exchanges: &Exchanges) {
        self.of(exchanges.protocol).add(&exchanges.classes, &exchanges.latency);
    }

    pub fn absorb(&mut self, other: &Self) {
        for (protocol, outcomes) in other.iter() {
            self.of(protocol).add(&outcomes.classes, &outcomes.latency);
        }
    }

    fn of(&mut self, protocol: Protocol) -> &mut Outcomes {
        let at = match self.0.binary_search_by_key(&protocol, |(known, _)| *known) {
            Ok(at) => at,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (protocol, Outcomes::default()));
                at
            }
        };
        &mut self.0[at].1
    }

    pub fn iter(&self) -> impl Iterator<Item = (Protocol, &Outcomes)> {
        self.0.iter().map(|(protocol, outcomes)| (*protocol, outcomes))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of one request that took two milliseconds, two that took seven, and one class for each of them.
    #[cfg(test)]
    pub fn example(protocol: Protocol) -> Self {
        let mut example = Self::default();
        example.add(&Exchanges::example(crate::decode::Role::Server, protocol));
        example
    }
}

#[cfg(test)]
mod tests;
