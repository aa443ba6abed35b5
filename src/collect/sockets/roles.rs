//! Which side of a connection a socket is, and whose it is before it is accepted.
use super::{Role, Socket, State, owners::Owners, seen::Seen};
use crate::base::ids::{NetnsId, ProcKey};
use std::{collections::HashMap, net::IpAddr};

/// Of one namespace: by kind of socket (an IPv6 listener has only IPv6 children, even of IPv4 connections) and port.
#[derive(Default)]
struct Listeners(HashMap<(bool, u16), Vec<Listener>>);

struct Listener {
    ip: IpAddr,
    owner: Option<ProcKey>,
}

impl Listeners {
    fn of(sockets: &[Seen], owners: &Owners) -> Self {
        let mut listeners = Self::default();
        for seen in sockets.iter().filter(|seen| seen.state == State::Listen) {
            let same_port = listeners.0.entry((seen.v6, seen.local.port())).or_default();
            same_port.push(Listener {
                ip: seen.local.ip(),
                owner: owners.get(&seen.inode).copied(),
            });
        }
        listeners
    }

    /// Several may share an address (SO_REUSEPORT), by and large of one service; the kernel chose by a hash.
    fn parent(&self, child: &Seen) -> Option<&Listener> {
        let same_port = self.0.get(&(child.v6, child.local.port()))?;
        let exact = |listener: &&Listener| listener.ip == child.local.ip();
        same_port
            .iter()
            .find(exact)
            .or_else(|| same_port.iter().find(|listener| listener.ip.is_unspecified()))
    }
}

/// A connection that was opened here may have the port of a listener, and one that was accepted may have outlived its
/// listener: the counters know better, where they tell.
pub(super) fn settle(netns: NetnsId, sockets: Vec<Seen>, owners: &Owners) -> Vec<Socket> {
    let listeners = Listeners::of(&sockets, owners);
    let settle = |seen: Seen| {
        let parent = listeners.parent(&seen);
        let backlog = seen.waits();
        let by_listener = || if parent.is_some() { Role::Server } else { Role::Client };
        let role = match seen.state {
            State::Listen => Role::Listener,
            _ if backlog => Role::Server,
            _ => seen.opened().unwrap_or_else(by_listener),
        };
        Socket {
            netns,
            role,
            state: seen.state,
            local: seen.local,
            remote: seen.remote,
            owner: match backlog {
                true => parent.and_then(|listener| listener.owner),
                false => owners.get(&seen.inode).copied(),
            },
            backlog,
            inode: seen.inode,
            cookie: seen.cookie,
            traffic: seen.traffic(role),
        }
    };
    let mut settled: Vec<_> = sockets.into_iter().map(settle).collect();
    settled.sort_by_key(|socket| (socket.role, socket.local, socket.remote, socket.inode));
    settled
}
