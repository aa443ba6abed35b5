//! What did not go through a ring: ends of sockets that found it full, and sums of what nobody waits for.
use super::{barrier::programs_have_ended, error::KernelError};
use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData},
};
use std::thread::JoinHandle;
use tarsier_common::{ENDED_EXCHANGES, EndedKey, ExchangesRecord, SocketRecord, SpillKey, Sum, SumKey, map};
use zerocopy::IntoBytes;

/// Entries that each of the maps has room for.
const CAPACITY: u64 = 65_536;
/// Beyond that, ends stay in the kernel, where their number is bounded and what finds no room is counted.
const MAX_HELD_BYTES: usize = 8 << 20;

pub(super) struct Spills {
    socket_map: HashMap<MapData, SpillKey, SocketRecord>,
    sum_map: HashMap<MapData, SumKey, Sum>,
    exchange_map: HashMap<MapData, EndedKey, ExchangesRecord>,
    epoch_map: Array<MapData, u32>,
    epoch: u32,
    /// Waits until nobody adds to the sums of the epoch before.
    settling: Option<JoinHandle<bool>>,
    /// There may be ends in the map. To look costs as much as the rest of a drain, for its buckets are many.
    spilled: bool,
    /// Taken from the maps, to be handed on.
    pub sockets: Vec<u8>,
    pub sums: Vec<u8>,
    /// What was counted on connections that have ended.
    pub exchanges: Vec<u8>,
}

/// A key that says of which time its sum is.
trait Epoch {
    fn epoch(&self) -> u32;
}

impl Epoch for SumKey {
    fn epoch(&self) -> u32 {
        self.epoch
    }
}

impl Epoch for EndedKey {
    fn epoch(&self) -> u32 {
        self.epoch
    }
}

impl Spills {
    pub(super) fn new(take: &mut impl FnMut(&'static str) -> Result<Map, KernelError>) -> Result<Self, KernelError> {
        let typed = |name| move |source| KernelError::Map { name, source };
        Ok(Self {
            socket_map: HashMap::try_from(take(map::SPILLED_SOCKETS)?).map_err(typed(map::SPILLED_SOCKETS))?,
            sum_map: HashMap::try_from(take(map::SPILLED_SUMS)?).map_err(typed(map::SPILLED_SUMS))?,
            exchange_map: HashMap::try_from(take(map::ENDED_EXCHANGES)?).map_err(typed(map::ENDED_EXCHANGES))?,
            epoch_map: Array::try_from(take(map::EPOCH)?).map_err(typed(map::EPOCH))?,
            epoch: 0,
            settling: None,
            spilled: true,
            sockets: Vec::new(),
            sums: Vec::new(),
            exchanges: Vec::new(),
        })
    }

    /// Ends of sockets, one by one. `spilled`: some found the ring full since the last time.
    pub(super) fn read_sockets(&mut self, spilled: bool) {
        self.spilled |= spilled;
        if !self.spilled || self.sockets.len() >= MAX_HELD_BYTES {
            return;
        }
        self.spilled = false;
        let keys: Vec<SpillKey> = self.socket_map.keys().filter_map(Result::ok).collect();
        for key in keys {
            if let Ok(record) = self.socket_map.get(&key, 0)
                && self.socket_map.remove(&key).is_ok()
            {
                self.sockets.extend_from_slice(record.as_bytes());
            }
        }
    }

    /// From now on programs add to new sums; the old ones are taken once nobody adds to them any more. `begin`: it is time for
    /// that. On a busy node the wait is a second and more: others do it.
    pub(super) fn read_sums(&mut self, begin: bool) {
        if let Some(thread) = self.settling.take_if(|thread| thread.is_finished()) {
            // Without the barrier, what was added to until now is left for the next time.
            self.take_old(thread.join().unwrap_or(false));
        }
        if !begin || self.settling.is_some() {
            return;
        }
        if self.sum_map.keys().next().is_none() && self.exchange_map.keys().next().is_none() {
            return;
        }
        let next = self.epoch.wrapping_add(1);
        if self.epoch_map.set(0, next, 0).is_err() {
            return;
        }
        self.epoch = next;
        let name = "barrier".to_owned();
        match std::thread::Builder::new().name(name).spawn(programs_have_ended) {
            Ok(thread) => self.settling = Some(thread),
            Err(_) => self.take_old(programs_have_ended()),
        }
    }

    fn take_old(&mut self, settled: bool) {
        let (now, before) = (self.epoch, self.epoch.wrapping_sub(1));
        let is_old = |epoch: u32| epoch != now && (epoch != before || settled);
        let sums = &mut self.sums;
        take_old(&mut self.sum_map, is_old, |key, sum| {
            sums.extend_from_slice(key.as_bytes());
            sums.extend_from_slice(sum.as_bytes());
        });
        let exchanges = &mut self.exchanges;
        take_old(&mut self.exchange_map, is_old, |_, sum| {
            exchanges.extend_from_slice(sum.as_bytes());
        });
    }

    /// Maps with their entries and limits.
    pub(super) fn fill(&self) -> [(&'static str, u64, u64); 3] {
        [
            (map::SPILLED_SOCKETS, self.socket_map.keys().count() as u64, CAPACITY),
            (map::SPILLED_SUMS, self.sum_map.keys().count() as u64, CAPACITY),
            (
                map::ENDED_EXCHANGES,
                self.exchange_map.keys().count() as u64,
                u64::from(ENDED_EXCHANGES),
            ),
        ]
    }
}

fn take_old<K: Pod + Epoch, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    is_old: impl Fn(u32) -> bool,
    mut took: impl FnMut(&K, &V),
) {
    let keys: Vec<K> = map.keys().filter_map(Result::ok).collect();
    for key in keys.into_iter().filter(|key| is_old(key.epoch())) {
        if let Ok(sum) = map.get(&key, 0)
            && map.remove(&key).is_ok()
        {
            took(&key, &sum);
        }
    }
}
