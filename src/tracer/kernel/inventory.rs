//! Looks for what the programs have not seen begin.
use super::{Kernel, KernelError};
use crate::{
    base::features::{Features, State, feature},
    tracer::namespaces::read_in,
};
use std::collections::{BTreeMap, BTreeSet};
use tarsier_common::{AddressKey, YOUNG_SLOTS, program};

impl Kernel {
    /// Looks at every socket that there is, so that none is unknown for being older than the programs or for having
    /// slipped past them. What it finds the next totals pass shows. `false`: there is nothing to look with.
    /// `waiting`: also those without a descriptor, for which every network namespace has to be entered.
    pub fn inventory(&mut self, waiting: bool, now_ns: u64, features: &Features) -> Result<bool, KernelError> {
        const PASSES: [&str; 2] = [program::INVENTORY_LISTENERS, program::INVENTORY_CONNECTIONS];
        let Some(loaded) = &mut self.loaded else {
            return Ok(false);
        };
        if PASSES.iter().any(|program| loaded.iterator(program).is_none()) {
            return Ok(false);
        }
        let keys: Vec<u64> = loaded.parents.keys().filter_map(Result::ok).collect();
        for key in keys {
            // Gone already is as good.
            drop(loaded.parents.remove(&key));
        }
        for iterator in PASSES.iter().filter_map(|program| loaded.iterator(program)) {
            let read = iterator.read(&mut Vec::new());
            read.map_err(|source| KernelError::Io {
                op: "cannot go through the sockets",
                source,
            })?;
        }
        if waiting {
            let visited = self.inventory_of_waiting(features);
            self.forget_listeners(&visited, now_ns);
        }
        Ok(true)
    }

    /// Connections that nobody has accepted yet have no descriptor. Says in which namespaces it has looked for them.
    fn inventory_of_waiting(&self, features: &Features) -> BTreeSet<u32> {
        let Some(loaded) = &self.loaded else {
            return BTreeSet::new();
        };
        let Some(iterator) = loaded.iterator(program::INVENTORY_WAITING) else {
            return BTreeSet::new();
        };
        let mut processes = BTreeMap::<u32, BTreeSet<u32>>::new();
        for (key, listener) in loaded.listeners.iter().filter_map(Result::ok) {
            processes.entry(key.netns).or_default().insert(listener.owner.tgid);
        }
        let looks = read_in(iterator, &processes, &self.setup.proc);
        if looks.not_permitted {
            // Nothing that is worth so much power: once somebody uses such a connection it is known.
            let hint =
                "not seen in other network namespaces until they are used; CAP_SYS_ADMIN would show them at once";
            features.set(feature::INVENTORY_WAITING, State::Off, "no_permission", hint);
        }
        looks.visited
    }

    /// Those of which the kernel skipped the programs at their end.
    fn forget_listeners(&mut self, visited: &BTreeSet<u32>, before_ns: u64) {
        let Some(loaded) = &mut self.loaded else { return };
        let all = loaded.listeners.iter().filter_map(Result::ok);
        let stale: Vec<AddressKey> = all
            .filter(|(key, listener)| visited.contains(&key.netns) && listener.seen_ns < before_ns)
            .map(|(key, _)| key)
            .collect();
        for key in stale {
            drop(loaded.listeners.remove(&key));
        }
    }

    /// Whether many connections are where only young ones should be: an inventory moves those that a pass has shown and a
    /// descriptor leads to.
    pub fn is_crowded(&self) -> bool {
        let young = self.loaded.as_ref().map_or(0, |loaded| loaded.young);
        young > u64::from(YOUNG_SLOTS / 2)
    }
}
