//! What did not go through the ring: ends of sockets that found it full, and sums of what nobody waits for.
use super::{barrier::programs_have_ended, error::KernelError};
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

    /// Ends of sockets, one by one.
    pub(super) fn read_sockets(&mut self) {
        if self.sockets.len() >= MAX_HELD_BYTES {
            return;
        }
        let keys: Vec<SpillKey> = self.socket_map.keys().filter_map(Result::ok).collect();
        for key in keys {
            if let Ok(record) = self.socket_map.get(&key, 0)
                && self.socket_map.remove(&key).is_ok()
            {
                self.sockets.extend_from_slice(record.as_bytes());
            }
        }
    }

    /// From now on programs add to new sums; the old ones are taken once nobody adds to them any more.
    pub(super) fn read_sums(&mut self) {
        let keys: Vec<SumKey> = self.sum_map.keys().filter_map(Result::ok).collect();
        if keys.is_empty() {
            return;
        }
        let (before, next) = (self.epoch, self.epoch.wrapping_add(1));
        if self.epoch_map.set(0, next, 0).is_ok() {
            self.epoch = next;
        }
        // Without the barrier, what was added to until now is left for the next time.
        let settled = programs_have_ended();
        for key in keys {
            if key.epoch == self.epoch || (key.epoch == before && !settled) {
                continue;
            }
            if let Ok(sum) = self.sum_map.get(&key, 0)
                && self.sum_map.remove(&key).is_ok()
            {
                self.sums.extend_from_slice(key.as_bytes());
                self.sums.extend_from_slice(sum.as_bytes());
            }
        }
    }

    /// Maps with their entries and limits.
    pub(super) fn fill(&self) -> [(&'static str, u64, u64); 2] {
        [
            (map::SPILLED_SOCKETS, self.socket_map.keys().count() as u64, CAPACITY),
            (map::SPILLED_SUMS, self.sum_map.keys().count() as u64, CAPACITY),
        ]
    }
}
