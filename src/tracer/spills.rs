//! What did not go through the ring: ends of sockets that found it full, and sums of what nobody waits for.
use super::error::KernelError;
use aya::maps::{Array, HashMap, Map, MapData};
use tarsier_common::{SocketRecord, SpillKey, Sum, SumKey, map};
use zerocopy::IntoBytes;

/// Entries that each of the maps has room for.
const CAPACITY: u64 = 65_536;
/// Beyond that, ends stay in the kernel, where their number is bounded and what finds no room is counted.
const MAX_HELD_BYTES: usize = 8 << 20;

pub(super) struct Spills {
    socket_map: HashMap<MapData, SpillKey, SocketRecord>,
    sum_map: HashMap<MapData, SumKey, Sum>,
    epoch_map: Array<MapData, u32>,
    epoch: u32,
    /// Taken from the maps, to be handed on.
    pub sockets: Vec<u8>,
    pub sums: Vec<u8>,
}

impl Spills {
    pub(super) fn new(take: &mut impl FnMut(&'static str) -> Result<Map, KernelError>) -> Result<Self, KernelError> {
        let typed = |name| move |source| KernelError::Map { name, source };
        Ok(Self {
            socket_map: HashMap::try_from(take(map::SPILLED_SOCKETS)?).map_err(typed(map::SPILLED_SOCKETS))?,
            sum_map: HashMap::try_from(take(map::SPILLED_SUMS)?).map_err(typed(map::SPILLED_SUMS))?,
            epoch_map: Array::try_from(take(map::EPOCH)?).map_err(typed(map::EPOCH))?,
            epoch: 0,
            sockets: Vec::new(),
            sums: Vec::new(),
        })
    }

    /// Empties the maps.
    pub(super) fn read(&mut self) {
        let full = self.sockets.len() >= MAX_HELD_BYTES;
        let keys: Vec<SpillKey> = self.socket_map.keys().filter_map(Result::ok).collect();
        for key in keys.into_iter().filter(|_| !full) {
            if let Ok(record) = self.socket_map.get(&key, 0)
                && self.socket_map.remove(&key).is_ok()
            {
                self.sockets.extend_from_slice(record.as_bytes());
            }
        }
        let keys: Vec<SumKey> = self.sum_map.keys().filter_map(Result::ok).collect();
        // Programs may still be adding to the present epoch; the older ones have been left alone for a drain interval.
        for key in keys.iter().filter(|key| key.epoch != self.epoch) {
            if let Ok(sum) = self.sum_map.get(key, 0)
                && self.sum_map.remove(key).is_ok()
            {
                self.sums.extend_from_slice(key.as_bytes());
                self.sums.extend_from_slice(sum.as_bytes());
            }
        }
        if keys.iter().any(|key| key.epoch == self.epoch) {
            let next = self.epoch.wrapping_add(1);
            if self.epoch_map.set(0, next, 0).is_ok() {
                self.epoch = next;
            }
        }
    }

    /// Maps with their entries and limits.
    pub(super) fn fill(&self) -> [(&'static str, u64, u64); 2] {
        let [sockets, sums] = Self::nothing();
        [
            (sockets.0, self.socket_map.keys().count() as u64, CAPACITY),
            (sums.0, self.sum_map.keys().count() as u64, CAPACITY),
        ]
    }

    pub(super) fn nothing() -> [(&'static str, u64, u64); 2] {
        [(map::SPILLED_SOCKETS, 0, CAPACITY), (map::SPILLED_SUMS, 0, CAPACITY)]
    }
}
