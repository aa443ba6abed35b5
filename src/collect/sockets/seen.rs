//! A TCP socket as either source tells it, before anything is known of its owner and its role.
use super::{Role, State, Traffic};
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// An IPv6 socket, whatever its addresses: those may be IPv4 ones in disguise, and are shown without it.
    pub v6: bool,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub state: State,
    /// 0: no descriptor refers to it, either not yet or no more.
    pub inode: u64,
    pub cookie: Option<u64>,
    pub counters: Option<Counters>,
}

/// Of the kernel's `tcp_info`, with the flags of the connection still counted as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub unacked_segments: u32,
    pub rtt_us: u32,
    pub retransmits: u32,
    /// With the SYN of a connection that was opened here, and with the FIN once it was answered.
    pub acked_bytes: u64,
    /// With the FIN of the peer.
    pub received_bytes: u64,
    /// Payload, each byte once; unknown to kernels before 4.19.
    pub sent_bytes: Option<u64>,
}

impl Seen {
    /// A child of a listener that nobody has accepted. A socket that was closed has no inode either, but also another
    /// state: the kernel changes that first.
    pub fn waits(&self) -> bool {
        self.inode == 0 && matches!(self.state, State::Established | State::CloseWait)
    }

    /// Which side opened the connection, as its handshake left it in the counters. Only where every segment is acknowledged:
    /// then the SYN of the opening side is the difference of both.
    pub fn opened(&self) -> Option<Role> {
        let counters = self.counters.filter(|counters| counters.unacked_segments == 0)?;
        let fin = match self.state {
            State::Established | State::CloseWait => 0,
            State::FinWait2 => 1,
            State::SynSent => return Some(Role::Client),
            State::Listen | State::FinWait1 | State::LastAck | State::Closing => return None,
        };
        match counters
            .acked_bytes
            .checked_sub(counters.sent_bytes?)?
            .checked_sub(fin)?
        {
            0 => Some(Role::Server),
            1 => Some(Role::Client),
            _ => None,
        }
    }

    pub fn traffic(&self, role: Role) -> Option<Traffic> {
        let counters = self.counters?;
        let syn = u64::from(role == Role::Client && self.state != State::SynSent);
        let fin = u64::from(self.state == State::FinWait2);
        let peers_fin = u64::from(matches!(self.state, State::CloseWait | State::LastAck | State::Closing));
        Some(Traffic {
            sent_bytes: counters
                .sent_bytes
                .unwrap_or_else(|| counters.acked_bytes.saturating_sub(syn + fin)),
            received_bytes: counters.received_bytes.saturating_sub(peers_fin),
            retransmits: counters.retransmits,
            rtt_us: Some(counters.rtt_us).filter(|&rtt| rtt > 0),
        })
    }
}

/// As people know it: an IPv4 address that an IPv6 socket uses is one.
pub(super) fn address(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into().to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: State, acked_bytes: u64, sent_bytes: Option<u64>, unacked_segments: u32) -> Seen {
        Seen {
            v6: false,
            local: "10.0.0.1:80".parse().unwrap(),
            remote: "10.0.0.2:4000".parse().unwrap(),
            state,
            inode: 7,
            cookie: Some(1),
            counters: Some(Counters {
                unacked_segments,
                rtt_us: 120,
                retransmits: 3,
                acked_bytes,
                received_bytes: 51,
                sent_bytes,
            }),
        }
    }

    #[test]
    fn the_handshake_tells_who_opened() {
        use State::*;
        let cases = [
            (Established, 100, Some(100), 0, Some(Role::Server)),
            (Established, 101, Some(100), 0, Some(Role::Client)),
            (CloseWait, 0, Some(0), 0, Some(Role::Server)),
            (FinWait2, 101, Some(100), 0, Some(Role::Server)),
            (FinWait2, 102, Some(100), 0, Some(Role::Client)),
            (SynSent, 0, Some(0), 0, Some(Role::Client)),
            // On the way, unknown, or impossible.
            (Established, 100, Some(100), 1, None),
            (Established, 101, None, 0, None),
            (Established, 99, Some(100), 0, None),
            (Established, 102, Some(100), 0, None),
            (FinWait1, 100, Some(100), 0, None),
            (Listen, 0, Some(0), 0, None),
        ];
        for (state, acked, sent, unacked, expected) in cases {
            assert_eq!(
                seen(state, acked, sent, unacked).opened(),
                expected,
                "{state:?} {acked} {sent:?} {unacked}"
            );
        }
        let uncounted = Seen {
            counters: None,
            ..seen(Established, 0, None, 0)
        };
        assert_eq!((uncounted.opened(), uncounted.traffic(Role::Client)), (None, None));
    }

    #[test]
    fn flags_are_no_bytes() {
        use State::*;
        let bytes = |state, acked, sent, role| {
            let traffic = seen(state, acked, sent, 0).traffic(role).unwrap();
            (traffic.sent_bytes, traffic.received_bytes)
        };
        assert_eq!(bytes(Established, 5, Some(9), Role::Client), (9, 51));
        assert_eq!(bytes(CloseWait, 5, Some(9), Role::Client), (9, 50));
        assert_eq!(bytes(LastAck, 5, Some(9), Role::Server), (9, 50));
        assert_eq!(bytes(Closing, 5, Some(9), Role::Server), (9, 50));
        assert_eq!(bytes(FinWait2, 5, Some(9), Role::Server), (9, 51));
        // Kernels that do not count what they send.
        assert_eq!(bytes(Established, 101, None, Role::Client), (100, 51));
        assert_eq!(bytes(Established, 100, None, Role::Server), (100, 51));
        assert_eq!(bytes(FinWait2, 102, None, Role::Client), (100, 51));
        assert_eq!(bytes(SynSent, 0, None, Role::Client), (0, 51));
        let traffic = seen(Established, 0, Some(0), 0).traffic(Role::Server).unwrap();
        assert_eq!((traffic.retransmits, traffic.rtt_us), (3, Some(120)));
    }

    #[test]
    fn waiting_to_be_accepted() {
        let of = |inode, state| {
            Seen {
                inode,
                ..seen(state, 0, None, 0)
            }
            .waits()
        };
        assert!(of(0, State::Established) && of(0, State::CloseWait));
        assert!(!of(7, State::Established) && !of(0, State::FinWait2) && !of(0, State::LastAck));
    }
}
