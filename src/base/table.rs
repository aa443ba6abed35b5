//! A map with a limit: nothing in the agent grows because something outside it does.
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

/// The table holds as many entries as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table is full")]
pub struct Full;

/// What is refused is counted; what is removed gives its memory back, so that a storm leaves no mark on the RSS.
#[derive(Clone, Debug)]
pub struct Table<K, V> {
    map: HashMap<K, V>,
    capacity: usize,
    rejected: u64,
    /// The most entries since the storage was last cut. `HashMap::capacity` would not do: it leaves out the slots that
    /// removals have marked, and a table emptied entry by entry would look small while it is large.
    peak: usize,
}

/// Storage below this is not worth a rehash.
const SMALL: usize = 64;

impl<K: Eq + Hash, V> Table<K, V> {
    /// Takes no memory until something is in it.
    pub fn new(capacity: usize) -> Self {
        Self {
            map: HashMap::new(),
            capacity,
            rejected: 0,
            peak: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The limit, not the storage at hand.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How often an entry was refused.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Replaces the value of a key that is there, full or not.
    pub fn insert(&mut self, key: K, value: V) -> Result<Option<V>, Full> {
        let len = self.map.len();
        match self.map.entry(key) {
            Entry::Occupied(mut entry) => Ok(Some(entry.insert(value))),
            Entry::Vacant(_) if len >= self.capacity => {
                self.rejected += 1;
                Err(Full)
            }
            Entry::Vacant(entry) => {
                entry.insert(value);
                self.peak = self.peak.max(len + 1);
                Ok(None)
            }
        }
    }

    /// `None` when the key is new and the table is full; `make` is not called then.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> Option<&mut V> {
        let len = self.map.len();
        match self.map.entry(key) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(_) if len >= self.capacity => {
                self.rejected += 1;
                None
            }
            Entry::Vacant(entry) => {
                self.peak = self.peak.max(len + 1);
                Some(entry.insert(make()))
            }
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key)
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.map.contains_key(key)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let removed = self.map.remove(key);
        if removed.is_some() {
            self.shrink();
        }
        removed
    }

    pub fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.map.retain(keep);
        self.shrink();
    }

    /// Empties the table; what was refused stays counted.
    pub fn drain(&mut self) -> impl Iterator<Item = (K, V)> + use<K, V> {
        self.peak = 0;
        std::mem::take(&mut self.map).into_iter()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.map.iter_mut()
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.map.keys()
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.map.values()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.map.values_mut()
    }

    /// At an eighth of the peak, down to twice what is needed: each rehash is paid for by several times as many
    /// removals, and a table that swings around a size is left alone.
    fn shrink(&mut self) {
        let len = self.map.len();
        if self.peak > SMALL && len < self.peak / 8 {
            self.peak = (len * 2).max(SMALL);
            self.map.shrink_to(self.peak);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_and_counts_at_its_limit() {
        let mut table = Table::new(2);
        assert_eq!(table.insert("a", 1), Ok(None));
        assert_eq!(table.get_or_insert_with("b", || 2), Some(&mut 2));
        assert_eq!(table.insert("c", 3), Err(Full));
        assert_eq!(table.get_or_insert_with("c", || panic!("must not be made")), None);
        assert_eq!(table.insert("a", 10), Ok(Some(1)));
        assert_eq!(table.get_or_insert_with("b", || panic!("is there")), Some(&mut 2));
        assert_eq!((table.len(), table.capacity(), table.rejected()), (2, 2, 2));
        assert_eq!(table.remove(&"a"), Some(10));
        assert_eq!(table.insert("c", 3), Ok(None));
        assert_eq!(table.rejected(), 2);
    }

    /// How many entries the memory at hand could hold, removed ones not in the way.
    fn storage(table: &Table<u32, u64>) -> usize {
        let mut map = table.map.clone();
        map.clear();
        map.capacity()
    }

    /// As full as it gets before it grows, so that every removal leaves its mark.
    fn filled(entries: u32) -> Table<u32, u64> {
        let mut table = Table::new(1_000_000);
        table.map.reserve(entries as usize);
        let entries = table.map.capacity() as u32;
        for key in 0..entries {
            table.insert(key, 0).unwrap();
        }
        assert_eq!(storage(&table), entries as usize);
        table
    }

    #[test]
    fn storage_follows_the_contents_down() {
        let mut table = filled(100_000);
        table.retain(|key, _| *key < 100);
        assert!(storage(&table) < 1000, "{} after retain", storage(&table));

        let mut table = filled(100_000);
        for key in 100..table.len() as u32 {
            table.remove(&key).unwrap();
        }
        assert!(storage(&table) < 1000, "{} after removals", storage(&table));

        assert_eq!(table.drain().count(), 100);
        assert_eq!((table.len(), storage(&table)), (0, 0));
    }

    #[test]
    fn storage_is_kept_where_the_contents_swing() {
        let mut table = filled(1000);
        let before = storage(&table);
        for _ in 0..100 {
            table.retain(|key, _| *key < 500);
            for key in 500..1000 {
                table.insert(key, 0).unwrap();
            }
            assert_eq!(storage(&table), before);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u16),
        Add(u8, u16),
        Remove(u8),
        Retain(u8),
        Drain,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (any::<u8>(), any::<u16>()).prop_map(|(k, v)| Step::Insert(k, v)),
            8 => (any::<u8>(), any::<u16>()).prop_map(|(k, v)| Step::Add(k, v)),
            6 => any::<u8>().prop_map(Step::Remove),
            1 => (1u8..8).prop_map(Step::Retain),
            1 => Just(Step::Drain),
        ]
    }

    /// The same in the plainest way: a list, searched from the front.
    struct Model {
        entries: Vec<(u8, u16)>,
        capacity: usize,
        rejected: u64,
    }

    impl Model {
        fn position(&self, key: u8) -> Option<usize> {
            self.entries.iter().position(|(k, _)| *k == key)
        }

        fn may_add(&mut self) -> bool {
            let may = self.entries.len() < self.capacity;
            self.rejected += u64::from(!may);
            may
        }

        fn insert(&mut self, key: u8, value: u16) -> Result<Option<u16>, Full> {
            if let Some(at) = self.position(key) {
                Ok(Some(std::mem::replace(&mut self.entries[at].1, value)))
            } else if self.may_add() {
                self.entries.push((key, value));
                Ok(None)
            } else {
                Err(Full)
            }
        }

        /// Adds to the value of a key, from 0.
        fn add(&mut self, key: u8, value: u16) -> Option<u16> {
            let at = match self.position(key) {
                Some(at) => at,
                None if self.may_add() => {
                    self.entries.push((key, 0));
                    self.entries.len() - 1
                }
                None => return None,
            };
            self.entries[at].1 = self.entries[at].1.wrapping_add(value);
            Some(self.entries[at].1)
        }

        fn sorted(&self) -> Vec<(u8, u16)> {
            let mut entries = self.entries.clone();
            entries.sort_unstable();
            entries
        }
    }

    fn sorted(entries: impl Iterator<Item = (u8, u16)>) -> Vec<(u8, u16)> {
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable();
        entries
    }

    proptest! {
        #[test]
        fn behaves_like_a_list(capacity in 0usize..200, steps in prop::collection::vec(step(), 0..600)) {
            let mut table = Table::new(capacity);
            let mut model = Model { entries: Vec::new(), capacity, rejected: 0 };
            for step in steps {
                match step {
                    Step::Insert(key, value) => prop_assert_eq!(table.insert(key, value), model.insert(key, value)),
                    Step::Add(key, value) => {
                        let sum = table.get_or_insert_with(key, || 0).map(|old| {
                            *old = old.wrapping_add(value);
                            *old
                        });
                        prop_assert_eq!(sum, model.add(key, value));
                    }
                    Step::Remove(key) => {
                        let expected = model.position(key).map(|at| model.entries.remove(at).1);
                        prop_assert_eq!(table.remove(&key), expected);
                    }
                    Step::Retain(divisor) => {
                        table.retain(|key, _| key % divisor == 0);
                        model.entries.retain(|(key, _)| key % divisor == 0);
                    }
                    Step::Drain => {
                        prop_assert_eq!(sorted(table.drain()), model.sorted());
                        model.entries.clear();
                    }
                }
                prop_assert_eq!(sorted(table.iter().map(|(k, v)| (*k, *v))), model.sorted());
                prop_assert_eq!(table.len(), model.entries.len());
                prop_assert_eq!(table.is_empty(), model.entries.is_empty());
                prop_assert_eq!(table.rejected(), model.rejected);
                prop_assert!(table.len() <= table.capacity());
                for key in 0..=u8::MAX {
                    let expected = model.position(key).map(|at| model.entries[at].1);
                    prop_assert_eq!(table.get(&key).copied(), expected);
                    prop_assert_eq!(table.get_mut(&key).copied(), expected);
                    prop_assert_eq!(table.contains_key(&key), expected.is_some());
                }
            }
        }
    }
}
