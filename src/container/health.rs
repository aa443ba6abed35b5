//! How the connections of a container fare, whatever they go to.
use super::connections::add;
use crate::decode::{CloseReason, Closes, Role, SumEvent};

/// Upper bounds of the buckets in seconds: from one switch to the other side of the world.
pub const RTT_BOUNDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Smoothed round-trip times: one per open connection and totals pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RttHistogram {
    /// By the first bound that is not below; the last is for what is above all of them.
    pub buckets: [u64; RTT_BOUNDS.len() + 1],
    pub sum_us: u64,
}

impl RttHistogram {
    fn observe(&mut self, rtt_us: u32) {
        let seconds = f64::from(rtt_us) / 1e6;
        let at = RTT_BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[at] += 1;
        self.sum_us += u64::from(rtt_us);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(to, n)| *to += n);
        self.sum_us += other.sum_us;
    }
}

/// Of all connections in one role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    pub closes: Closes,
    pub rtt: RttHistogram,
}

impl Health {
    pub fn add(&mut self, other: &Self) {
        add(&mut self.closes, &other.closes);
        self.rtt.add(&other.rtt);
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthByRole([Health; Role::ALL.len()]);

impl HealthByRole {
    pub fn of(&self, role: Role) -> &Health {
        &self.0[role as usize]
    }

    pub(super) fn ended(&mut self, role: Role, reason: CloseReason) {
        self.0[role as usize].closes[reason.index()] += 1;
    }

    pub(super) fn observe(&mut self, role: Role, rtt_us: Option<u32>) {
        if let Some(rtt_us) = rtt_us {
            self.0[role as usize].rtt.observe(rtt_us);
        }
    }

    pub(super) fn add_sum(&mut self, sum: &SumEvent) {
        add(&mut self.0[sum.role as usize].closes, &sum.closes);
    }

    #[cfg(test)]
    pub fn example() -> Self {
        let mut health = Self::default();
        health.ended(Role::Server, CloseReason::LOCAL);
        health.observe(Role::Client, Some(120));
        health.observe(Role::Client, Some(3_000_000));
        health
    }

    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(to, other)| to.add(other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut rtt = RttHistogram::default();
        for us in [1, 100, 101, 2_500_000, 2_500_001, u32::MAX] {
            rtt.observe(us);
        }
        assert_eq!((rtt.buckets[0], rtt.buckets[1]), (2, 1));
        assert_eq!((rtt.buckets[13], rtt.buckets[14]), (1, 2));
        assert_eq!((rtt.count(), rtt.sum_us), (6, 202 + 5_000_001 + u64::from(u32::MAX)));
    }
}
