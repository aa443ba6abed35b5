//! The usual scene: an agent, a client service inside a network namespace, a server service outside it.
use crate::{Agent, AgentBuilder, Cgroup, Metrics, Netns, Place};
use std::time::Duration;

pub struct Stage {
    pub agent: Agent,
    pub netns: Netns,
    pub client_group: Cgroup,
    pub server_group: Cgroup,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(Agent::builder())
    }

    pub fn with(agent: AgentBuilder) -> Self {
        // Made after the agent has started: what a group looks like that it has not met.
        let agent = agent.start();
        Self {
            agent,
            netns: Netns::new(),
            client_group: Cgroup::service("client"),
            server_group: Cgroup::service("server"),
        }
    }

    pub fn client(&self) -> Place<'_> {
        Place::new().cgroup(&self.client_group).netns(&self.netns)
    }

    pub fn server(&self) -> Place<'_> {
        Place::new().cgroup(&self.server_group)
    }

    /// Waits until the client has exactly `expected` towards `destination`, and nobody else has anything.
    #[track_caller]
    pub fn expect(&self, destination: &str, expected: &Traffic) -> Metrics {
        expected.expect_of(&self.agent, self.client_group.id(), destination)
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

/// What the metrics say of one destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    pub successful: u64,
    pub failed: u64,
    pub active: u64,
    pub sent: u64,
    pub received: u64,
}

impl Traffic {
    /// Of all series that have `labels`.
    pub fn of(metrics: &Metrics, labels: &[(&str, &str)]) -> Self {
        let sum = |name: &str| metrics.sum(&format!("container_net_tcp_{name}"), labels) as u64;
        Self {
            successful: sum("successful_connects_total"),
            failed: sum("failed_connects_total"),
            active: sum("active_connections"),
            sent: sum("bytes_sent_total"),
            received: sum("bytes_received_total"),
        }
    }

    #[track_caller]
    pub fn expect_of(&self, agent: &Agent, container: &str, destination: &str) -> Metrics {
        let labels = [("container_id", container), ("destination", destination)];
        let metrics = agent.metrics_when(destination, Duration::from_secs(20), |metrics| {
            Self::of(metrics, &labels) == *self
        });
        let everybody = Self::of(&metrics, &[("destination", destination)]);
        assert_eq!(
            everybody, *self,
            "others have a share of what {container} did to {destination}"
        );
        metrics
    }
}
