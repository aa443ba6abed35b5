//! What is collected of a container.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carries {
    /// Connections and listens.
    pub tcp: bool,
    /// Those that are open for writing.
    pub files: bool,
    /// What is said.
    pub l7: bool,
}

impl Carries {
    pub const ALL: Self = Self {
        tcp: true,
        files: true,
        l7: true,
    };
}
