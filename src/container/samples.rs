//! What a scrape and the API are told of a container: plain values, taken in one short handler.
use super::state::ContainerState;
use crate::base::{
    ids::{ContainerId, NetnsId},
    now::Now,
};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

#[derive(Clone, Debug)]
pub struct Destination {
    /// `None`: those beyond the limit, together.
    pub remote: Option<SocketAddr>,
    pub connects: u64,
    pub failures: u64,
    pub failures_by_errno: BTreeMap<i32, u64>,
    pub active: i64,
    pub connect_ns: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub has_connected: bool,
}

#[derive(Clone, Debug)]
pub struct Samples {
    pub id: ContainerId,
    pub exposed: bool,
    pub since_wall_ns: u64,
    pub processes: u32,
    pub destinations: Vec<Destination>,
    pub listens: Vec<(SocketAddr, bool)>,
    pub rejected: u64,
}

impl ContainerState {
    pub fn samples(&self, id: &ContainerId, now: Now, min_age: Duration, host: NetnsId) -> Samples {
        let mut destinations: Vec<Destination> = self.destinations.iter().map(destination).collect();
        destinations.sort_by_key(|destination| destination.remote);
        Samples {
            id: id.clone(),
            exposed: self.is_exposed(now, min_age),
            since_wall_ns: now.date_of_boottime(self.since_ns.unwrap_or(now.boottime_ns)),
            processes: self.processes,
            destinations,
            listens: self.listens.rows(host).into_iter().collect(),
            rejected: self.rejected(),
        }
    }
}

fn destination((remote, stats): (Option<SocketAddr>, &super::connections::Stats)) -> Destination {
    Destination {
        remote,
        connects: stats.connects,
        failures: stats.failures,
        failures_by_errno: stats.failures_by_errno.clone(),
        active: stats.active.max(0),
        connect_ns: stats.connect_ns,
        sent_bytes: stats.sent_bytes,
        received_bytes: stats.received_bytes,
        has_connected: stats.has_connected(),
    }
}
