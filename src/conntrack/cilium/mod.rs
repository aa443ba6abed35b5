//! Cilium's own tables: where it has led connections to services that the kernel's connection tracking never saw.
//!
//! They are pinned in the BPF file system of the host, and asked for one connection at a time. They come, go and are replaced
//! as Cilium does, so the folder is looked at again and again.
//!
//! | there | the row says |
//! | --- | --- |
//! | nothing | off, `absent` |
//! | connections and backends, of IPv4, IPv6 or both | ok |
//! | one without the other | degraded, `incomplete` |
//! | a table with keys or values of another size, or something else at its name | degraded, `layout` |
//! | a table that may not be opened | degraded, `no_permission` |
//! | a folder that may not be looked into | off, `no_permission` |
mod layout;
mod pinned;

use crate::base::features::{Features, State, feature};
use layout::{ENTRY, NUMBER, V4_KEY, V6_KEY};
use pinned::Pinned;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// Why a table is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    state: State,
    reason: &'static str,
    hint: String,
}

impl Failure {
    fn new(reason: &'static str, hint: String) -> Self {
        Self {
            state: State::Degraded,
            reason,
            hint,
        }
    }

    fn layout(hint: String) -> Self {
        Self::new("layout", hint)
    }
}

/// What the tables say of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    To(SocketAddr),
    /// It is to no service.
    Unknown,
    /// To a service, and its backend is gone from its table or makes no sense.
    NoBackend,
}

/// Those of IPv4 or of IPv6. `A`: bytes of an address, `K`: of a key of connections; `OLD` and `NEW`: of a backend, as the
/// second and the third release of that table have it.
#[derive(Debug)]
struct Tables<const A: usize, const K: usize, const OLD: usize, const NEW: usize> {
    connections: Pinned<K, ENTRY>,
    /// Cilium moves its backends from the old to the new and lets go of the old: with both there, the new is true.
    new: Pinned<NUMBER, NEW>,
    old: Pinned<NUMBER, OLD>,
}

impl<const A: usize, const K: usize, const OLD: usize, const NEW: usize> Tables<A, K, OLD, NEW>
where
    IpAddr: From<[u8; A]>,
{
    fn new([connections, new, old]: [&'static str; 3]) -> Self {
        Self {
            connections: Pinned::new(connections),
            new: Pinned::new(new),
            old: Pinned::new(old),
        }
    }

    fn look(&mut self, folder: &Path) -> Look {
        let mut look = Look::default();
        look.at(self.connections.look(folder));
        let new = self.new.look(folder);
        // What is there and cannot be read is not made good by what came before it.
        if self.new.is_open() || new.is_err() {
            self.old.close();
        } else {
            look.at(self.old.look(folder));
        }
        look.at(new);
        let backends = self.new.is_open() || self.old.is_open();
        look.whole = self.connections.is_open() && backends;
        if self.connections.is_open() != backends && look.failure.is_none() {
            let names = [self.connections.name(), self.new.name(), self.old.name()];
            let hint = format!("of {}, or {}, one is missing", names[..2].join(" and "), names[2]);
            look.failure = Some(Failure::new("incomplete", hint));
        }
        look
    }

    fn ask(&self, key: &[u8; K]) -> Result<Told, Failure> {
        let Some(entry) = self.connections.get(key)? else {
            return Ok(Told::Unknown);
        };
        let Some(number) = layout::number(&entry) else {
            return Ok(Told::NoBackend);
        };
        let new = self.new.get(&number)?.and_then(|value| layout::backend::<A>(&value));
        let old = || Ok(self.old.get(&number)?.and_then(|value| layout::backend::<A>(&value)));
        let backend = if self.new.is_open() { new } else { old()? };
        Ok(backend.map_or(Told::NoBackend, Told::To))
    }
}

/// What came of looking at some tables.
#[derive(Debug, Default)]
struct Look {
    /// One is another than before.
    news: bool,
    whole: bool,
    failure: Option<Failure>,
}

impl Look {
    fn at(&mut self, table: Result<bool, Failure>) {
        match table {
            Ok(news) => self.news |= news,
            Err(failure) => self.failure = self.failure.take().or(Some(failure)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Cilium {
    folder: PathBuf,
    v4: Tables<4, V4_KEY, 8, 12>,
    v6: Tables<16, V6_KEY, 20, 24>,
    /// One of both has all that it needs.
    whole: bool,
    failure: Option<Failure>,
    /// Of the last question.
    unanswered: Option<Failure>,
}

impl Cilium {
    pub(super) fn new(folder: PathBuf) -> Self {
        const V4: [&str; 3] = ["cilium_ct4_global", "cilium_lb4_backends_v3", "cilium_lb4_backends_v2"];
        const V6: [&str; 3] = ["cilium_ct6_global", "cilium_lb6_backends_v3", "cilium_lb6_backends_v2"];
        Self {
            folder,
            v4: Tables::new(V4),
            v6: Tables::new(V6),
            whole: false,
            failure: None,
            unanswered: None,
        }
    }

    /// `true`: there is one that nobody has asked yet.
    pub(super) fn look(&mut self) -> bool {
        let looks = [self.v4.look(&self.folder), self.v6.look(&self.folder)];
        let news = looks.iter().any(|look| look.news);
        self.whole = looks.iter().any(|look| look.whole);
        self.failure = looks.into_iter().find_map(|look| look.failure);
        self.unanswered = None;
        news
    }

    /// Somebody to ask.
    pub(super) fn is_there(&self) -> bool {
        self.whole
    }

    pub(super) fn ask(&mut self, client: SocketAddr, service: SocketAddr) -> Result<Told, Failure> {
        let told = match (client, service) {
            // Nobody balances what stays inside.
            (_, to) if to.ip().is_loopback() => Ok(Told::Unknown),
            (SocketAddr::V4(client), SocketAddr::V4(service)) => self.v4.ask(&layout::v4_key(client, service)),
            (SocketAddr::V6(client), SocketAddr::V6(service)) => self.v6.ask(&layout::v6_key(client, service)),
            _ => Ok(Told::Unknown),
        };
        self.unanswered = told.as_ref().err().cloned();
        told
    }

    pub(super) fn say(&self, features: &Features) {
        match self.failure.as_ref().or(self.unanswered.as_ref()) {
            Some(Failure { state, reason, hint }) => features.set(feature::CILIUM, *state, reason, hint.clone()),
            None if self.whole => features.ok(feature::CILIUM),
            None => {
                let hint = format!("no tables of Cilium in {}", self.folder.display());
                features.set(feature::CILIUM, State::Off, "absent", hint)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn row(cilium: &Cilium) -> (State, &'static str, String) {
        let features = Features::default();
        cilium.say(&features);
        let row = features.rows().remove(0);
        assert_eq!(row.feature, feature::CILIUM);
        (row.state, row.reason, row.hint)
    }

    #[test]
    fn a_node_without_cilium() {
        let folder = tempfile::tempdir().unwrap();
        for place in [folder.path().to_owned(), folder.path().join("tc/globals")] {
            let mut cilium = Cilium::new(place.clone());
            assert!(!cilium.look() && !cilium.is_there());
            let (state, reason, hint) = row(&cilium);
            assert_eq!((state, reason), (State::Off, "absent"));
            assert!(hint.contains(place.to_str().unwrap()), "{hint}");
            let told = cilium.ask("10.0.0.5:40000".parse().unwrap(), "10.96.0.10:53".parse().unwrap());
            assert_eq!(told, Ok(Told::Unknown));
        }
    }

    #[test]
    fn what_is_no_map_is_said_and_gone_when_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cilium_lb6_backends_v2");
        fs::write(&file, [0; 4096]).unwrap();
        let mut cilium = Cilium::new(folder.path().to_owned());
        assert!(!cilium.look() && !cilium.is_there());
        let (state, reason, hint) = row(&cilium);
        assert_eq!((state, reason), (State::Degraded, "layout"));
        assert!(hint.contains("cilium_lb6_backends_v2"), "{hint}");
        fs::remove_file(file).unwrap();
        cilium.look();
        assert_eq!(row(&cilium).1, "absent");
    }

    #[test]
    fn two_families_at_once_are_no_connection() {
        let mut cilium = Cilium::new(PathBuf::new());
        for (client, service) in [("10.0.0.5:1", "[fd00::1]:2"), ("127.0.0.1:1", "127.0.0.1:2")] {
            let told = cilium.ask(client.parse().unwrap(), service.parse().unwrap());
            assert_eq!(told, Ok(Told::Unknown));
        }
    }
}
