//! What the programs are told of connections on which requests are made, and what they have counted there.
use super::{Kernel, Loaded};
use crate::{config::L7, l7::PassOver, tracer::error::KernelError};
use aya::maps::{Array, HashMap, Map, MapData};
use std::{collections::BTreeSet, sync::Arc};
use tarsier_common::{ExchangesRecord, SPILLED_EXCHANGES, Switches, VERDICTS, Verdict, WATCHED, map, program};
use zerocopy::IntoBytes;

pub(super) struct Lanes {
    switches: Array<MapData, Switches>,
    now: Switches,
    verdicts: HashMap<MapData, u64, Verdict>,
    /// Sockets that have one, or had: to ask the kernel at each end costs as much as the end.
    judged: BTreeSet<u64>,
    spilled: HashMap<MapData, u64, ExchangesRecord>,
    watched: HashMap<MapData, u32, u32>,
    watched_now: Arc<BTreeSet<u32>>,
}

impl Lanes {
    pub(super) fn new(take: &mut impl FnMut(&'static str) -> Result<Map, KernelError>) -> Result<Self, KernelError> {
        let typed = |name| move |source| KernelError::Map { name, source };
        Ok(Self {
            switches: Array::try_from(take(map::SWITCHES)?).map_err(typed(map::SWITCHES))?,
            now: Switches::default(),
            verdicts: HashMap::try_from(take(map::VERDICTS)?).map_err(typed(map::VERDICTS))?,
            judged: BTreeSet::new(),
            spilled: HashMap::try_from(take(map::SPILLED_EXCHANGES)?).map_err(typed(map::SPILLED_EXCHANGES))?,
            watched: HashMap::try_from(take(map::WATCHED)?).map_err(typed(map::WATCHED))?,
            watched_now: Arc::default(),
        })
    }

    fn wanted(&self, l7: &L7, counts: bool) -> Switches {
        Switches {
            protocols: if counts { l7.protocols() } else { 0 },
            countable: if counts { l7.countable() } else { 0 },
            ..self.now
        }
    }

    pub(super) fn is_to_change(&self, l7: &L7, counts: bool) -> bool {
        self.wanted(l7, counts) != self.now
    }

    pub(super) fn switch(&mut self, l7: &L7, counts: bool) -> Result<(), KernelError> {
        let mut wanted = self.wanted(l7, counts);
        if wanted == self.now {
            return Ok(());
        }
        wanted.epoch = self.now.epoch.wrapping_add(1);
        self.set(wanted)
    }

    /// A connection looks by itself whether it is one of those: nothing has to be looked at again.
    pub(super) fn watch(&mut self, tgids: &Arc<BTreeSet<u32>>) -> Result<(), KernelError> {
        for gone in self.watched_now.difference(tgids) {
            drop(self.watched.remove(gone));
        }
        for new in tgids.difference(&self.watched_now) {
            // One for which there is no room is counted in the kernel, unseen.
            drop(self.watched.insert(new, 1, 0));
        }
        self.watched_now = Arc::clone(tgids);
        let watching = u32::from(!tgids.is_empty());
        if watching == self.now.watching {
            return Ok(());
        }
        self.set(Switches { watching, ..self.now })
    }

    fn set(&mut self, wanted: Switches) -> Result<(), KernelError> {
        let set = self.switches.set(0, wanted, 0);
        set.map_err(|source| KernelError::Map {
            name: map::SWITCHES,
            source,
        })?;
        self.now = wanted;
        Ok(())
    }

    /// Maps with their entries and limits.
    pub(super) fn fill(&self) -> [(&'static str, u64, u64); 3] {
        [
            (map::VERDICTS, self.verdicts.keys().count() as u64, u64::from(VERDICTS)),
            (
                map::SPILLED_EXCHANGES,
                self.spilled.keys().count() as u64,
                u64::from(SPILLED_EXCHANGES),
            ),
            (map::WATCHED, self.watched.keys().count() as u64, u64::from(WATCHED)),
        ]
    }
}

impl Kernel {
    /// Requests of those go to user space one by one, and of nobody else for that reason.
    pub fn watch(&mut self, tgids: &Arc<BTreeSet<u32>>) -> Result<(), KernelError> {
        self.watched = Arc::clone(tgids);
        match &mut self.loaded {
            Some(loaded) => loaded.lanes.watch(tgids),
            None => Ok(()),
        }
    }

    /// What was counted on connections since the last time. Before the ring is read.
    pub fn read_exchanges(&mut self, into: &mut Vec<u8>) -> Result<(), KernelError> {
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        loaded.read_spilled(into);
        for program in [program::L7_TOTALS_OF_SLOTS, program::L7_TOTALS] {
            let Some(totals) = loaded.iterator(program) else {
                continue;
            };
            totals.read(into).map_err(|source| KernelError::Io {
                op: "cannot read what was counted on connections",
                source,
            })?;
        }
        Ok(())
    }

    /// Nothing more is wanted of those sockets. Where there is no room for it they go on telling.
    pub fn give_up(&mut self, sockets: &[u64]) {
        let over = Verdict {
            over: 1,
            ..Verdict::default()
        };
        self.judge(sockets.iter().map(|socket| (*socket, over)));
    }

    /// Nor of what is within bodies. The same.
    pub fn pass_over(&mut self, bodies: &[PassOver]) {
        self.judge(bodies.iter().map(|body| {
            let verdict = Verdict {
                sent: body.sent,
                received: body.received,
                ..Verdict::default()
            };
            (body.socket, verdict)
        }));
    }

    fn judge(&mut self, verdicts: impl Iterator<Item = (u64, Verdict)>) {
        let Some(loaded) = &mut self.loaded else { return };
        let lanes = &mut loaded.lanes;
        for (socket, verdict) in verdicts {
            if lanes.judged.len() >= VERDICTS as usize {
                // Ends that were lost, and those that the kernel has dealt with.
                lanes.judged = lanes.verdicts.keys().filter_map(Result::ok).collect();
            }
            if lanes.verdicts.insert(socket, verdict, 0).is_ok() {
                lanes.judged.insert(socket);
            }
        }
    }

    /// They have ended.
    pub fn forget(&mut self, sockets: &[u64]) {
        if let Some(loaded) = &mut self.loaded {
            for socket in sockets {
                if loaded.lanes.judged.remove(socket) {
                    // It may have been dealt with.
                    drop(loaded.lanes.verdicts.remove(socket));
                }
            }
        }
    }
}

impl Loaded {
    fn read_spilled(&mut self, into: &mut Vec<u8>) {
        let spilled = &mut self.lanes.spilled;
        let sockets: Vec<u64> = spilled.keys().filter_map(Result::ok).collect();
        for socket in sockets {
            if let Ok(record) = spilled.get(&socket, 0)
                && spilled.remove(&socket).is_ok()
            {
                into.extend_from_slice(record.as_bytes());
            }
        }
    }
}
