//! What becomes of a daemon, and what the agent says of it.
use crate::scene::Member;
use tarsier_integration::Manner;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Failure {
    /// Its socket is not there when the agent starts.
    Late,
    Killed,
    /// By SIGSTOP.
    Stopped,
    Garbage,
    Closes,
    Silent,
}

impl Failure {
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Whether it cannot start a container meanwhile.
    pub(crate) fn takes_daemon(self) -> bool {
        matches!(self, Self::Killed | Self::Stopped)
    }

    pub(crate) fn begin(self, member: &Member) {
        match self {
            Self::Late => member.front.vanish(),
            Self::Killed => member.daemon.kill(),
            Self::Stopped => member.daemon.halt(),
            Self::Garbage => member.front.behave(Manner::Garbage),
            Self::Closes => member.front.behave(Manner::ClosesAtOnce),
            Self::Silent => member.front.behave(Manner::NeverAnswers),
        }
    }

    pub(crate) fn end(self, member: &Member) {
        match self {
            Self::Killed => member.daemon.start_again(),
            Self::Stopped => member.daemon.go_on(),
            Self::Late | Self::Garbage | Self::Closes | Self::Silent => {
                member.front.behave(Manner::Relay(member.daemon.socket()));
            }
        }
    }

    /// By which the connection that there was is counted as lost.
    pub(crate) fn cause(self, runtime: &str) -> Option<&'static str> {
        // Each question to CRI-O has a connection of its own: what is wrong is seen with the next.
        match (self, runtime) {
            (Self::Late, _) => None,
            (Self::Stopped, _) | (Self::Silent, "crio") => Some("timeout"),
            (Self::Killed, "crio") => Some("unreachable"),
            _ => Some("connection"),
        }
    }

    /// Of its row in the feature table while it lasts: what came of the last attempt to connect.
    pub(crate) fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::Late => &["absent"],
            Self::Killed => &["unreachable"],
            Self::Stopped | Self::Silent => &["timeout"],
            Self::Garbage => &["nonsense", "connection", "unreachable"],
            Self::Closes => &["connection", "unreachable"],
        }
    }
}
