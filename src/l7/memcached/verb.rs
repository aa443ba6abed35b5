//! Commands, as far as they are answered in different ways.
use super::binary::Header;
use crate::l7::dialogue::Asked;

/// Arguments that `Asked` shows.
const MAX_SHOWN: u64 = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// One line, or several up to an end: the answer tells.
    #[default]
    Plain,
    /// Whose last word is a key.
    Get,
    MetaGet,
    MetaSet,
    MetaDelete,
    MetaArithmetic,
    MetaOther,
    /// Goodbye. Whether that is answered, nobody waits to hear.
    Quit,
    /// What follows is a log.
    Watch,
    Binary,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) kind: Kind,
    /// It may have no answer.
    pub(super) quiet: bool,
    /// It has none.
    pub(super) silent: bool,
    /// Binary: its answer repeats them.
    pub(super) opcode: u8,
    pub(super) opaque: u32,
}

/// Name, kind, and which argument is the length of its data.
const KNOWN: [(&str, Kind, Option<usize>); 36] = [
    ("get", Kind::Get, None),
    ("set", Kind::Plain, Some(3)),
    ("gets", Kind::Get, None),
    ("mg", Kind::MetaGet, None),
    ("ms", Kind::MetaSet, Some(1)),
    ("md", Kind::MetaDelete, None),
    ("ma", Kind::MetaArithmetic, None),
    ("mn", Kind::MetaOther, None),
    ("me", Kind::MetaOther, None),
    ("add", Kind::Plain, Some(3)),
    ("cas", Kind::Plain, Some(3)),
    ("replace", Kind::Plain, Some(3)),
    ("append", Kind::Plain, Some(3)),
    ("prepend", Kind::Plain, Some(3)),
    ("delete", Kind::Plain, None),
    ("incr", Kind::Plain, None),
    ("decr", Kind::Plain, None),
    ("touch", Kind::Plain, None),
    ("gat", Kind::Get, None),
    ("gats", Kind::Get, None),
    ("flush_all", Kind::Plain, None),
    ("version", Kind::Plain, None),
    ("stats", Kind::Plain, None),
    ("verbosity", Kind::Plain, None),
    ("quit", Kind::Quit, None),
    ("cache_memlimit", Kind::Plain, None),
    ("slabs", Kind::Plain, None),
    ("lru", Kind::Plain, None),
    ("lru_crawler", Kind::Plain, None),
    ("shutdown", Kind::Plain, None),
    ("misbehave", Kind::Plain, None),
    ("refresh_certs", Kind::Plain, None),
    ("extstore", Kind::Plain, None),
    ("debugtime", Kind::Plain, None),
    ("bget", Kind::Get, None),
    ("watch", Kind::Watch, None),
];

pub(super) fn known(name: &[u8]) -> Option<(&'static str, Kind, Option<usize>)> {
    KNOWN.iter().find(|(known, ..)| known.as_bytes() == name).copied()
}

/// Arguments.
pub(super) fn least(kind: Kind) -> usize {
    match kind {
        Kind::Get | Kind::MetaGet | Kind::MetaSet | Kind::MetaDelete | Kind::MetaArithmetic => 1,
        Kind::Plain | Kind::MetaOther | Kind::Quit | Kind::Watch | Kind::Binary => 0,
    }
}

pub(super) fn binary(header: &Header) -> Command {
    Command {
        kind: if header.says_goodbye() {
            Kind::Quit
        } else {
            Kind::Binary
        },
        quiet: header.is_quiet(),
        silent: false,
        opcode: header.opcode,
        opaque: header.opaque,
    }
}

pub(super) fn asked(verb: &str, arguments: u64) -> Asked {
    let mut text = verb.to_owned();
    for _ in 0..arguments.min(MAX_SHOWN) {
        text.push_str(" ?");
    }
    if arguments > MAX_SHOWN {
        text.push_str(" ...");
    }
    Asked {
        verb: verb.into(),
        text: text.into(),
    }
}
