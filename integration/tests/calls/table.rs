//! The calls, and what the processes of `calls` are told to make them.

/// How the measured side comes by its sockets, or ends them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Twist {
    None,
    /// This side ends its direction, the other goes on.
    HalfClosed,
    /// Made in another network namespace than its process lives in.
    Elsewhere,
    /// Handed to a process of another container by `SCM_RIGHTS`.
    Passed,
    /// Accepted by a forked child in another container.
    Forked,
    /// Accepted by a program in another container that inherits the listening socket.
    Inherited,
    /// The server listens on every address of both families with one socket.
    Wildcard,
}

/// What the kernel says of how a connection came to be; asked so that a test of TFO or MPTCP is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Proof {
    None,
    Fast,
    Multipath,
}

/// A row of the table: what the measured side and its peer are told.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) measured: &'static [&'static str],
    pub(crate) peer: &'static [&'static str],
    pub(crate) twist: Twist,
    pub(crate) proof: Proof,
}

/// A call that the measured side alone makes; the peer reads and writes.
const fn by(measured: &'static [&'static str]) -> Call {
    twisted(measured, Twist::None)
}

const fn twisted(measured: &'static [&'static str], twist: Twist) -> Call {
    let name = measured[measured.len() - 1];
    Call {
        name,
        measured,
        peer: &[],
        twist,
        proof: Proof::None,
    }
}

/// A kind of socket that both sides have.
const fn via(both: &'static [&'static str], proof: Proof) -> Call {
    Call {
        peer: both,
        proof,
        ..by(both)
    }
}

pub(crate) const CALLS: &[Call] = &[
    by(&["--by", "write"]),
    by(&["--by", "writev"]),
    by(&["--by", "send"]),
    by(&["--by", "sendto"]),
    by(&["--by", "sendmsg"]),
    by(&["--by", "sendmmsg"]),
    by(&["--by", "sendfile"]),
    by(&["--by", "splice"]),
    by(&["--by", "zerocopy"]),
    by(&["--by", "uring-send"]),
    by(&["--by", "uring-async"]),
    by(&["--by", "uring-write"]),
    by(&["--by", "uring-zerocopy"]),
    by(&["--by", "uring-poll"]),
    via(&["--via", "tfo"], Proof::Fast),
    via(&["--via", "tfo-connect"], Proof::Fast),
    via(&["--via", "mptcp"], Proof::Multipath),
    Call {
        name: "mptcp, the peer not",
        ..by(&["--via", "mptcp"])
    },
    Call {
        name: "made by uring",
        ..by(&["--via", "uring"])
    },
    by(&["--dup"]),
    Call {
        name: "half closed",
        ..twisted(&["--by", "write"], Twist::HalfClosed)
    },
    Call {
        name: "another namespace's",
        ..twisted(&["--by", "write"], Twist::Elsewhere)
    },
    Call {
        name: "passed",
        ..twisted(&["--by", "write"], Twist::Passed)
    },
    Call {
        name: "forked",
        ..twisted(&["--by", "write"], Twist::Forked)
    },
    Call {
        name: "inherited",
        ..twisted(&["--by", "write"], Twist::Inherited)
    },
    Call {
        name: "wildcard",
        ..twisted(&["--by", "write"], Twist::Wildcard)
    },
];
