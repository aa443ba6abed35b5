//! Where a container listens.
use crate::{
    base::{
        ids::{NetnsId, SocketId},
        table::Table,
    },
    decode::SocketEvent,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

#[derive(Debug, Default)]
struct Listen {
    /// Several with SO_REUSEPORT.
    /// With the time of the last news of each, on the kernel's clock.
    sockets: BTreeMap<SocketId, u64>,
    /// Set when the last of them is gone, on the kernel's clock.
    closed_ns: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Listens {
    known: Table<(NetnsId, SocketAddr), Listen>,
    addresses: HashMap<NetnsId, Arc<[IpAddr]>>,
}

impl Listens {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            known: Table::new(limit),
            addresses: HashMap::new(),
        }
    }

    /// `false`: there is no room for another.
    pub(super) fn opened(&mut self, event: &SocketEvent) -> bool {
        // Without a bind the port comes after the state; the next totals pass shows it.
        if event.local.port() == 0 {
            return true;
        }
        if let Some(listen) = self
            .known
            .get_or_insert_with((event.netns, event.local), Listen::default)
        {
            listen.sockets.insert(event.socket, event.time_ns);
            listen.closed_ns = None;
            return true;
        }
        false
    }

    pub(super) fn closed(&mut self, event: &SocketEvent) {
        for listen in self.known.values_mut() {
            if listen.sockets.remove(&event.socket).is_some() && listen.sockets.is_empty() {
                listen.closed_ns = Some(event.time_ns);
            }
        }
    }

    /// It is another container's.
    pub(super) fn released(&mut self, socket: SocketId) {
        self.known.retain(|_, listen| {
            let was_here = listen.sockets.remove(&socket).is_some();
            !(was_here && listen.sockets.is_empty())
        });
    }

    /// Sockets that nobody has told of since then are gone.
    pub(super) fn sweep(&mut self, before_ns: u64) {
        for listen in self.known.values_mut() {
            let open = !listen.sockets.is_empty();
            listen.sockets.retain(|_, last_ns| *last_ns >= before_ns);
            if open && listen.sockets.is_empty() {
                listen.closed_ns = Some(before_ns);
            }
        }
    }

    pub(super) fn set_addresses(&mut self, netns: NetnsId, ips: Arc<[IpAddr]>) {
        self.addresses.insert(netns, ips);
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = SocketId> + '_ {
        self.known.values().flat_map(|listen| listen.sockets.keys().copied())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn rejected(&self) -> u64 {
        self.known.rejected()
    }

    pub(super) fn absorb(&mut self, mut other: Self) {
        for (key, listen) in other.known.drain() {
            if let Some(mine) = self.known.get_or_insert_with(key, Listen::default) {
                mine.sockets.extend(listen.sockets);
                mine.closed_ns = if mine.sockets.is_empty() {
                    mine.closed_ns.max(listen.closed_ns)
                } else {
                    None
                };
            }
        }
        self.addresses.extend(other.addresses);
    }

    pub(super) fn forget_before(&mut self, before_ns: u64) {
        self.known
            .retain(|_, listen| listen.closed_ns.is_none_or(|closed| closed >= before_ns));
        let used: BTreeSet<NetnsId> = self.known.keys().map(|(netns, _)| *netns).collect();
        self.addresses.retain(|netns, _| used.contains(netns));
    }

    /// One row per address, with its open sockets: a listen on all addresses is one on each of them.
    ///
    /// Loopback ones only in the host's network namespace: elsewhere nobody can tell whose loopback it is.
    pub(super) fn rows(&self, host: NetnsId) -> BTreeMap<SocketAddr, usize> {
        let mut rows = BTreeMap::new();
        for ((netns, local), listen) in self.known.iter() {
            for address in self.expand(*netns, *local) {
                if *netns == host || !address.ip().is_loopback() {
                    *rows.entry(address).or_default() += listen.sockets.len();
                }
            }
        }
        rows
    }

    fn expand(&self, netns: NetnsId, local: SocketAddr) -> Vec<SocketAddr> {
        let known = self.addresses.get(&netns).filter(|ips| !ips.is_empty());
        let Some(ips) = known.filter(|_| local.ip().is_unspecified()) else {
            return vec![local];
        };
        // `::` takes IPv4 as well, unless the socket says otherwise, which the kernel's defaults do not.
        let fits = |ip: &&IpAddr| local.is_ipv6() || ip.is_ipv4();
        ips.iter()
            .filter(fits)
            .map(|ip| SocketAddr::new(*ip, local.port()))
            .collect()
    }
}
