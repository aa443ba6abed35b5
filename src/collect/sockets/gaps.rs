use crate::base::ids::NetnsId;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    error::Error,
    fmt::{self, Display},
};

/// In the order of how much is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Processes whose namespace is unknown.
    NamespacesHidden,
    /// Namespaces that neither source could look into.
    NamespacesUnseen,
    /// Sockets beyond the limits.
    LeftOut,
    /// Processes whose descriptors cannot be read, in part or at all: their sockets have no owner.
    OwnersHidden,
    /// Lines and messages that are not as the kernel writes them.
    Malformed,
    /// Namespaces that may not be entered: no cookies and counters of their sockets.
    NotEntered,
    /// Namespaces in which INET_DIAG did not answer: no cookies and counters of their sockets.
    NoDiag,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NamespacesHidden => "namespaces_hidden",
            Self::NamespacesUnseen => "namespaces_unseen",
            Self::LeftOut => "left_out",
            Self::OwnersHidden => "owners_hidden",
            Self::Malformed => "malformed",
            Self::NotEntered => "not_entered",
            Self::NoDiag => "no_diag",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gap {
    pub count: u64,
    /// What happened to the first of them.
    pub example: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Gaps(BTreeMap<Reason, Gap>);

impl Gaps {
    /// The worst first.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, &Gap)> {
        self.0.iter().map(|(&reason, gap)| (reason, gap))
    }

    pub fn count(&self, reason: Reason) -> u64 {
        self.0.get(&reason).map_or(0, |gap| gap.count)
    }

    pub(super) fn add(&mut self, reason: Reason, count: u64, example: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        self.0
            .entry(reason)
            .or_insert_with(|| Gap {
                count: 0,
                example: example(),
            })
            .count += count;
    }

    pub(super) fn failed(&mut self, reason: Reason, of: impl Display, error: &dyn Error) {
        self.add(reason, 1, || match error.source() {
            Some(source) => format!("{of}: {error}: {source}"),
            None => format!("{of}: {error}"),
        });
    }
}

impl Display for Gap {
    /// For whoever knows the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{}", self.example),
            count => write!(f, "{count}, of which the first: {}", self.example),
        }
    }
}

pub(super) fn of(netns: NetnsId) -> impl Display {
    format!("net:[{}]", netns.0)
}
