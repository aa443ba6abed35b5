//! Tells how the decisions were made. Decides nothing itself.
use super::{
    RegistryState,
    names::{Hidden, Judged, Naming},
};
use crate::{
    base::{ids::ContainerId, ledger::Reason},
    decode::{Role, Route},
    registry::{
        explain::{AddressExplained, Belongs, FilterExplained, NameExplained, NameState, ProcessExplained},
        filters::Verdict,
        identity::{self, Owner},
    },
    runtimes::metadata::Metadata,
};
use std::{collections::BTreeSet, net::SocketAddr};

impl RegistryState {
    pub fn explain(&self, tgid: u32) -> Option<ProcessExplained> {
        let process = self.processes.get(&tgid)?;
        let cgroup = self.unified(process);
        let path = match cgroup {
            Some(cgroup) => {
                let entry = self.cgroups.get(&cgroup).filter(|entry| entry.owner.is_some());
                entry.and_then(|entry| entry.path.clone())
            }
            None => process.path.clone(),
        };
        let owner = path.as_deref().map(identity::explain_owner);
        let path_id = owner.as_ref().and_then(|owner| match &owner.owner {
            Owner::Container(id) | Owner::Perhaps(id) => Some(id.clone()),
            Owner::Standalone | Owner::Ignored(_) => None,
        });
        let name = path_id.as_ref().and_then(|id| self.explain_name(id));
        let decided = match owner.as_ref().map(|owner| &owner.owner) {
            None => Belongs::WaitsForPath,
            Some(Owner::Ignored(_)) => Belongs::Nowhere(Reason::Ignored),
            Some(Owner::Standalone) => self.bare(process),
            Some(Owner::Container(id) | Owner::Perhaps(id)) => match self.judge(id) {
                Judged::Hidden => Belongs::Nowhere(Reason::Filtered),
                Judged::Waits => Belongs::WaitsForRuntime,
                Judged::Bare => self.bare(process),
                Judged::Container { id, veiled, .. } => Belongs::To { id, shown: !veiled },
            },
        };
        let metadata = name.as_ref().and_then(|name| name.metadata.as_deref());
        let filter = self.candidate(path_id.as_ref(), &decided);
        let filter = filter.map(|id| self.explain_filter(id, metadata));
        let hidden = filter.as_ref().is_some_and(|filter| filter.verdict != Verdict::Shown);
        let is = process.slot.and_then(|slot| self.slots.get(slot));
        let belongs = match (is, decided) {
            (Some(slot), decided) => match &slot.id {
                Some(id) => Belongs::To {
                    id: id.clone(),
                    shown: !slot.veiled,
                },
                None => decided,
            },
            // It is with none although it should be: it is hidden, or there was no room.
            (None, Belongs::To { .. }) if hidden => Belongs::Nowhere(Reason::Filtered),
            (None, Belongs::To { .. }) if process.exited_ns.is_none() => Belongs::Nowhere(Reason::TableFull),
            (None, decided) => decided,
        };
        Some(ProcessExplained {
            process: process.key,
            comm: process.comm,
            exited: process.exited_ns.is_some(),
            cgroup,
            path,
            owner,
            name,
            filter,
            belongs,
        })
    }

    /// Those that have not ended. Only who watches one container asks: the index is by process.
    pub fn members(&self, id: &ContainerId) -> Option<BTreeSet<u32>> {
        let slot = self.slots.of_id(id)?;
        let here = |process: &super::Process| process.slot == Some(slot) && process.exited_ns.is_none();
        let members = self.processes.iter().filter(|(_, process)| here(process));
        Some(members.map(|(tgid, _)| *tgid).collect())
    }

    fn bare(&self, process: &super::Process) -> Belongs {
        match self.standalone_id(&process.comm, process.key.tgid) {
            Some(id) => Belongs::To { id, shown: true },
            None => Belongs::Nowhere(Reason::StandaloneOff),
        }
    }

    /// The name that the filter has judged.
    fn candidate(&self, path_id: Option<&ContainerId>, decided: &Belongs) -> Option<ContainerId> {
        match decided {
            Belongs::To { id, .. } => Some(id.clone()),
            Belongs::Nowhere(Reason::Filtered) => match self.names.get(path_id?).map(|entry| &entry.naming) {
                Some(Naming::Hidden(Hidden::Filtered { id, .. })) => Some(id.clone()),
                Some(_) => None,
                None => path_id.cloned(),
            },
            _ => None,
        }
    }

    fn explain_name(&self, path_id: &ContainerId) -> Option<NameExplained> {
        let entry = self.names.get(path_id)?;
        let state = match &entry.naming {
            Naming::Unasked => NameState::NotAsked,
            Naming::Asked(_) => NameState::Waits,
            Naming::Late => NameState::Late,
            Naming::Path if entry.lookup.is_none() || !self.settings.runtimes => NameState::NotAsked,
            Naming::Path => NameState::Path,
            Naming::Name(_) => NameState::Named,
            Naming::Hidden(Hidden::Ignored(reason)) => NameState::Ignored(*reason),
            Naming::Hidden(Hidden::Filtered { .. }) => NameState::Filtered,
        };
        Some(NameExplained {
            lookup: entry.lookup.clone(),
            state,
            rule: entry.rule,
            metadata: entry.metadata.clone(),
        })
    }

    fn explain_filter(&self, id: ContainerId, metadata: Option<&Metadata>) -> FilterExplained {
        let (verdict, pattern) = self.settings.filters.decide(&id, metadata);
        FilterExplained {
            verdict,
            pattern: pattern.map(|pattern| pattern.as_str().to_owned()),
            id,
        }
    }

    pub fn explain_address(&self, address: SocketAddr) -> AddressExplained {
        let refuses =
            |listening, role, in_host| self.refuses_address(listening, role, address, Route::direct(address), in_host);
        AddressExplained {
            connects: [true, false].map(|in_host| refuses(false, Role::Client, in_host)),
            accepts: [true, false].map(|in_host| refuses(false, Role::Server, in_host)),
            listens: refuses(true, Role::Server, true),
        }
    }
}
