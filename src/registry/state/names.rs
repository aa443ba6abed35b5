//! What the runtimes call the containers that the cgroup paths only number, and which of them nobody wants to see.
//!
//! | the runtime | the container is shown |
//! | --- | --- |
//! | knows it | under that name, or not at all if nobody wants to see such a one |
//! | knows nothing of it, or there is none | under what its path says |
//! | has not answered yet | not yet |
//! | has not answered for some seconds | under what its path says, until it does: then under its name, with all it has |
//!
//! Where a path may be a container's or anybody's ([`Owner::Perhaps`]), its processes wait for the answer each by itself: if
//! no runtime knows it, they have nothing to do with each other.
use super::{RegistryState, Target};
use crate::{
    base::{
        ids::{ContainerId, ProcKey},
        ledger::Reason,
        now::Now,
    },
    container::state::ContainerEvent,
    registry::{
        effects::{Ask, Effects},
        filters::{Filters, Verdict},
        identity::{self, IgnoredReason, Owner},
        slots::Awaited,
    },
    runtimes::{Engines, Lookup, metadata::Metadata},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Then it is shown under what its path says.
const NAME_DEADLINE_NS: u64 = 5_000_000_000;

#[derive(Clone, Debug)]
pub(super) enum Naming {
    /// Nobody has needed it yet.
    Unasked,
    /// Since then.
    Asked(u64),
    Late,
    Path,
    Name(ContainerId),
    Hidden(Hidden),
}

/// Why nobody wants to see it.
#[derive(Clone, Debug)]
pub(super) enum Hidden {
    Ignored(IgnoredReason),
    /// Under this name, which its path or a runtime has given it.
    Filtered {
        id: ContainerId,
        named: bool,
    },
}

/// `named`: by a runtime.
pub(super) fn filtered(filters: &Filters, id: ContainerId, named: bool, metadata: Option<&Metadata>) -> Naming {
    match filters.allows(&id, metadata) {
        Verdict::Shown if named => Naming::Name(id),
        Verdict::Shown => Naming::Path,
        Verdict::Hidden(_) => Naming::Hidden(Hidden::Filtered { id, named }),
    }
}

/// What is made of a path that says it is a container's, or may be.
#[derive(Debug)]
pub(super) enum Judged {
    Hidden,
    /// For a runtime to say whether it is one.
    Waits,
    /// It is none.
    Bare,
    Container {
        id: ContainerId,
        /// Its name is not known yet.
        veiled: bool,
        metadata: Option<Arc<Metadata>>,
    },
}

#[derive(Debug)]
pub(super) struct Entry {
    /// `None`: no runtime knows such containers, or (gVisor) it is not known which it is.
    pub lookup: Option<Lookup>,
    pub perhaps: bool,
    pub naming: Naming,
    /// The row that made a name of what the runtime has told.
    pub rule: Option<&'static str>,
    pub metadata: Option<Arc<Metadata>>,
}

/// Of everything whose path has been met, by what the path says.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) entries: HashMap<ContainerId, Entry>,
    /// A container that makes cgroups can give one a name that leads to another container.
    by_lookup: HashMap<Lookup, BTreeSet<ContainerId>>,
    /// How many go by each name: those of one after the other, or of two that claim it.
    bearers: HashMap<ContainerId, u32>,
    /// Who waits to learn whether he is in a container.
    waiting: HashMap<Awaited, ContainerId>,
    /// gVisor: whose command lines have been looked at, and for which pod.
    sandboxes: HashMap<ProcKey, ContainerId>,
    rejected: u64,
}

impl Names {
    pub(super) const MAX: usize = 65_536;

    /// A path says that its processes are, or may be, a container's.
    pub(super) fn met(&mut self, owner: &Owner, path: &str) {
        let (id, perhaps) = match owner {
            Owner::Container(id) => (id, false),
            Owner::Perhaps(id) => (id, true),
            Owner::Standalone | Owner::Ignored(_) => return,
        };
        if self.entries.contains_key(id) {
            return;
        }
        if self.entries.len() >= Self::MAX {
            self.rejected += 1;
            return;
        }
        let entry = Entry {
            lookup: identity::lookup(path),
            perhaps,
            naming: Naming::Unasked,
            rule: None,
            metadata: None,
        };
        self.entries.insert(id.clone(), entry);
    }

    pub(super) fn get(&self, path_id: &ContainerId) -> Option<&Entry> {
        self.entries.get(path_id)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected
    }

    pub(super) fn paths_of(&self, lookup: &Lookup) -> Vec<ContainerId> {
        let paths = self.by_lookup.get(lookup).into_iter().flatten();
        paths.cloned().collect()
    }

    /// Of whom that is known, nobody's answer is needed.
    pub(super) fn is_known(&self, path_id: &ContainerId) -> bool {
        let entry = self.entries.get(path_id);
        entry.is_some_and(|entry| entry.metadata.is_some())
    }

    pub(super) fn is_perhaps(&self, path_id: &ContainerId) -> bool {
        self.entries.get(path_id).is_some_and(|entry| entry.perhaps)
    }

    pub(super) fn is_asked(&self, path_id: &ContainerId) -> bool {
        let entry = self.entries.get(path_id);
        entry.is_some_and(|entry| matches!(entry.naming, Naming::Asked(_)))
    }

    /// Which container it is at present: none while nobody wants to see it, or nobody knows whether it is one.
    pub(super) fn current(&self, path_id: &ContainerId) -> Option<ContainerId> {
        let entry = self.entries.get(path_id)?;
        match &entry.naming {
            Naming::Name(name) => Some(name.clone()),
            Naming::Hidden(_) => None,
            _ => (!entry.perhaps).then(|| path_id.clone()),
        }
    }

    /// Whether the container that it is at present is no other path's.
    pub(super) fn is_alone(&self, path_id: &ContainerId) -> bool {
        let Some(current) = self.current(path_id) else {
            return true;
        };
        let bearers = self.bearers.get(&current).copied().unwrap_or(0);
        // One that goes by its path is no bearer.
        let by_path = &current != path_id && self.current(&current).as_ref() == Some(&current);
        let entry = self.entries.get(path_id);
        let named = entry.is_some_and(|entry| matches!(entry.naming, Naming::Name(_)));
        bearers + u32::from(by_path) <= u32::from(named)
    }

    pub(super) fn set(
        &mut self,
        path_id: &ContainerId,
        rule: Option<&'static str>,
        naming: Naming,
        metadata: Option<Arc<Metadata>>,
    ) {
        if let Naming::Name(name) = &naming {
            *self.bearers.entry(name.clone()).or_default() += 1;
        }
        let Some(entry) = self.entries.get_mut(path_id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.naming, naming);
        entry.metadata = metadata;
        entry.rule = rule;
        self.bears_no_longer(&before);
    }

    fn bears_no_longer(&mut self, naming: &Naming) {
        if let Naming::Name(name) = naming
            && let Some(bearers) = self.bearers.get_mut(name)
        {
            *bearers -= 1;
            if *bearers == 0 {
                self.bearers.remove(name);
            }
        }
    }

    /// Of the container of this name, whichever path brought it.
    pub(super) fn metadata(&self, id: &ContainerId) -> Option<Arc<Metadata>> {
        let of = |entry: &Entry| entry.metadata.clone();
        let by_path = self.entries.get(id).filter(|_| self.current(id).as_ref() == Some(id));
        by_path.and_then(of).or_else(|| {
            let named = |entry: &Entry| matches!(&entry.naming, Naming::Name(name) if name == id);
            let named = self.entries.iter().filter(|(_, entry)| named(entry));
            named
                .min_by_key(|(path_id, _)| *path_id)
                .and_then(|(_, entry)| of(entry))
        })
    }

    /// What its command line says now is another's.
    pub(super) fn executed(&mut self, process: ProcKey) {
        self.sandboxes.remove(&process);
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut bearers: HashMap<ContainerId, u32> = HashMap::new();
        for entry in self.entries.values() {
            if let Naming::Name(name) = &entry.naming {
                *bearers.entry(name.clone()).or_default() += 1;
            }
        }
        assert_eq!(bearers, self.bearers);
        for (lookup, paths) in &self.by_lookup {
            let of = |path: &ContainerId| self.entries.get(path).and_then(|entry| entry.lookup.as_ref());
            assert!(
                paths.iter().all(|path| of(path) == Some(lookup)),
                "{lookup:?} of {paths:?}"
            );
        }
    }

    pub(super) fn waits(&self, of: Awaited) -> bool {
        self.waiting.contains_key(&of)
    }

    pub(super) fn take_waiting(&mut self, path_id: &ContainerId) -> Vec<Awaited> {
        let released = self.waiting.extract_if(|_, waits_for| waits_for == path_id);
        released.map(|(of, _)| of).collect()
    }
}

impl RegistryState {
    /// The container of a path that says it is one, or may be. `None`: it is none.
    pub(super) fn target_of_path(
        &mut self,
        path_id: &ContainerId,
        perhaps: bool,
        of: Awaited,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Target> {
        self.ask_for_name(path_id, of.0, now, effects);
        if perhaps && !self.names.entries.contains_key(path_id) {
            // No room for it.
            return None;
        }
        let (id, veiled, metadata) = match self.judge(path_id) {
            Judged::Hidden => return Some(Target::Nowhere(Reason::Filtered)),
            Judged::Waits => {
                self.names.waiting.insert(of, path_id.clone());
                return Some(Target::Unnamed);
            }
            Judged::Bare => return None,
            Judged::Container { id, veiled, metadata } => (id, veiled, metadata),
        };
        let is_new = self.slots.of_id(&id).is_none();
        let slot = match self.slots.of_container(&id, veiled, now, effects) {
            Ok(slot) => slot,
            Err(reason) => return Some(Target::Nowhere(reason)),
        };
        if let (true, Some(metadata)) = (is_new, metadata) {
            let described = ContainerEvent::Described(metadata);
            self.slots.route(slot, described, None, now, effects);
        }
        Some(Target::Slot(slot))
    }

    pub(super) fn judge(&self, path_id: &ContainerId) -> Judged {
        let hidden = |id: &ContainerId| self.settings.filters.allows(id, None) != Verdict::Shown;
        let container = |id: &ContainerId, veiled, metadata: &Option<Arc<Metadata>>| Judged::Container {
            id: id.clone(),
            veiled,
            metadata: metadata.clone(),
        };
        let Some(entry) = self.names.entries.get(path_id) else {
            // No room for it.
            return if hidden(path_id) {
                Judged::Hidden
            } else {
                container(path_id, false, &None)
            };
        };
        match &entry.naming {
            Naming::Hidden(_) => Judged::Hidden,
            Naming::Name(name) => container(name, false, &entry.metadata),
            Naming::Asked(_) if entry.perhaps => Judged::Waits,
            _ if entry.perhaps => Judged::Bare,
            Naming::Asked(_) => container(path_id, true, &None),
            // Under another name it may be wanted.
            Naming::Late => container(path_id, hidden(path_id), &None),
            Naming::Unasked | Naming::Path => container(path_id, false, &entry.metadata),
        }
    }

    fn ask_for_name(&mut self, path_id: &ContainerId, process: ProcKey, now: Now, effects: &mut Effects) {
        let Some(entry) = self.names.entries.get_mut(path_id) else {
            return;
        };
        let gvisor = entry.lookup.is_none() && identity::gvisor_pod(path_id).is_some();
        match (&entry.naming, &entry.lookup) {
            (Naming::Unasked, Some(lookup)) if self.settings.runtimes => {
                let paths = self.names.by_lookup.entry(lookup.clone()).or_default();
                paths.insert(path_id.clone());
                effects.resolves.push(lookup.clone());
                entry.naming = Naming::Asked(now.monotonic_ns);
            }
            (Naming::Unasked, None) if self.settings.runtimes && gvisor => {
                entry.naming = Naming::Asked(now.monotonic_ns);
            }
            (Naming::Unasked, _) if entry.perhaps => entry.naming = Naming::Path,
            (Naming::Unasked, _) => {
                entry.naming = filtered(&self.settings.filters, path_id.clone(), false, None);
            }
            _ => {}
        }
        let waits = gvisor && matches!(entry.naming, Naming::Asked(_)) && process.tgid != 0;
        if waits && self.names.sandboxes.insert(process, path_id.clone()).is_none() {
            let container = path_id.clone();
            effects.asks.push(Ask::Sandbox { process, container });
        }
    }

    /// A process of a pod has been looked at: it is the sandbox, or it is not.
    pub(super) fn sandbox(&mut self, path_id: &ContainerId, id: Option<Arc<str>>, effects: &mut Effects) {
        let Some(entry) = self.names.entries.get_mut(path_id) else {
            return;
        };
        if let (Some(id), None) = (id, &entry.lookup) {
            let lookup = Lookup::Engine {
                id,
                engines: Engines::Any,
            };
            entry.lookup = Some(lookup.clone());
            self.names.sandboxes.retain(|_, of| of != path_id);
            let paths = self.names.by_lookup.entry(lookup.clone()).or_default();
            paths.insert(path_id.clone());
            effects.resolves.push(lookup);
        }
    }

    /// Whoever was asked before has forgotten it.
    pub fn ask_runtimes_again(&self) -> Effects {
        Effects {
            resolves: self.names.by_lookup.keys().cloned().collect(),
            ..Effects::default()
        }
    }

    /// Once a second: who has waited long enough.
    pub(super) fn name_the_late(&mut self, now: Now, effects: &mut Effects) {
        let mut late = Vec::new();
        for (path_id, entry) in &mut self.names.entries {
            if let Naming::Asked(since) = entry.naming
                && now.monotonic_ns.saturating_sub(since) >= NAME_DEADLINE_NS
            {
                entry.naming = Naming::Late;
                late.push(path_id.clone());
            }
        }
        if !late.is_empty() {
            let entries = &self.names.entries;
            let waits = |of: &ContainerId| {
                let entry = entries.get(of);
                entry.is_some_and(|entry| matches!(entry.naming, Naming::Asked(_)))
            };
            self.names.sandboxes.retain(|_, of| waits(of));
        }
        for path_id in late {
            self.release(&path_id, now, effects);
            if self.names.is_perhaps(&path_id) {
                continue;
            }
            if let (Some(slot), Verdict::Shown) =
                (self.slots.of_id(&path_id), self.settings.filters.allows(&path_id, None))
                && self.slots.unveil(slot, effects)
            {
                self.tell_identified(Some(path_id), slot, None, effects);
            }
        }
    }

    /// Names of whom no path can bring back.
    pub(super) fn forget_names(&mut self, effects: &mut Effects) {
        let mut needed = HashSet::new();
        let mut needs = |owner: &Owner| {
            if let Owner::Container(id) | Owner::Perhaps(id) = owner {
                needed.insert(id.clone());
            }
        };
        for cgroup in self.cgroups.values() {
            cgroup.owner.iter().chain(&cgroup.by_path).for_each(&mut needs);
        }
        let paths: HashSet<&Arc<str>> = self
            .processes
            .iter()
            .filter_map(|(_, process)| process.path.as_ref())
            .collect();
        paths.into_iter().for_each(|path| needs(&identity::owner(path)));
        let names = &mut self.names;
        let waits = |entry: &Entry| matches!(entry.naming, Naming::Asked(_));
        let gone: Vec<ContainerId> = names
            .entries
            .iter()
            .filter(|(path_id, entry)| !needed.contains(*path_id) && !waits(entry))
            .map(|(path_id, _)| path_id.clone())
            .collect();
        for path_id in gone {
            let Some(entry) = names.entries.remove(&path_id) else {
                continue;
            };
            names.bears_no_longer(&entry.naming);
            let Some(lookup) = entry.lookup else { continue };
            if let Some(paths) = names.by_lookup.get_mut(&lookup)
                && paths.remove(&path_id)
                && paths.is_empty()
            {
                names.by_lookup.remove(&lookup);
                effects.forgets.push(lookup);
            }
        }
    }
}
