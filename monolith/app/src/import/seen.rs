//! A map that forgets: two generations, of which the older is dropped when the younger is full.
//!
//! Invariant: holds at most twice its capacity, and at least the `capacity` keys that were used last.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

#[derive(Debug)]
pub(super) struct Seen<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq + Clone, V: Copy> Seen<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(*value);
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value);
        Some(value)
    }

    pub(super) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bounds_and_keeps_what_is_used() {
        let mut seen = Seen::new(10);
        for key in 0..1_000 {
            seen.put(key, key * 2);
            assert_eq!(seen.get(&0), Some(0));
            assert!(seen.young.len() + seen.old.len() <= 20);
        }
        assert_eq!(seen.get(&999), Some(1998));
        assert_eq!(seen.get(&500), None);
    }
}
