//! The state of a keyed rate limit: one instant per client, shared by all workers, and never more than so many.
//!
//! Invariant: when it is full, those are forgotten that lose the least by it, so memory is bounded whatever comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use governor::nanos::Nanos;
use governor::state::StateStore;

/// Parts with a lock each, so that workers rarely meet.
const SHARDS: usize = 64;

type Shard = HashMap<u64, Nanos>;

/// Keys, and when each will have its full allowance back, counted from the start.
/// Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct BoundedKeys {
    shards: Arc<[Mutex<Shard>]>,
    most: usize,
    started: Instant,
}

impl BoundedKeys {
    pub(crate) fn new(max_keys: usize) -> Self {
        let shards = SHARDS.min(max_keys.max(1));
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            most: (max_keys / shards).max(1),
            started: Instant::now(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Forgets the clients that have their full allowance: to be forgotten changes nothing for them.
    pub(crate) fn sweep(&self) {
        let now = self.now();
        for shard in self.shards.iter() {
            let mut shard = lock(shard);
            shard.retain(|_, full_at| *full_at > now);
            shard.shrink_to(self.most / 4);
        }
    }

    fn now(&self) -> Nanos {
        Nanos::from(self.started.elapsed())
    }

    /// Makes room for many at once, so that a flood of new keys does not look through all of them for each.
    fn make_room(&self, shard: &mut Shard) {
        let now = self.now();
        shard.retain(|_, full_at| *full_at > now);
        let spare = self.most / 4;
        if shard.len() + spare < self.most {
            return;
        }
        let mut instants: Vec<Nanos> = shard.values().copied().collect();
        let place = spare.min(instants.len().saturating_sub(1));
        let (_, limit, _) = instants.select_nth_unstable(place);
        let limit = *limit;
        shard.retain(|_, full_at| *full_at > limit);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateStore for BoundedKeys {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let count = u64::try_from(self.shards.len()).unwrap_or(1);
        let place = usize::try_from(key % count).unwrap_or(0);
        let Some(shard) = self.shards.get(place) else { return decide(None).map(|(verdict, _)| verdict) };
        let mut shard = lock(shard);
        let known = shard.get(key).copied();
        let (verdict, full_at) = decide(known)?;
        if known.is_none() && shard.len() >= self.most {
            self.make_room(&mut shard);
        }
        shard.insert(*key, full_at);
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn put(keys: &BoundedKeys, key: u64, full_at: Duration) -> Option<Nanos> {
        keys.measure_and_replace(&key, |known| Ok::<_, ()>((known, Nanos::from(full_at)))).unwrap()
    }

    #[test]
    fn there_are_never_more_keys_than_allowed() {
        let keys = BoundedKeys::new(640);
        for key in 0..10_000 {
            put(&keys, key, Duration::from_secs(60 + key));
            assert!(keys.len() <= 640);
        }
        assert!(keys.len() > 400, "not more is forgotten than needed: {}", keys.len());
        assert!(put(&keys, 9_999, Duration::from_secs(60)).is_some(), "the newest is still there");
    }

    #[test]
    fn those_that_lose_the_least_are_forgotten() {
        let keys = BoundedKeys::new(64 * 8);
        for round in 0..8 {
            put(&keys, 64 * round, Duration::from_secs(1_000 - round));
        }
        put(&keys, 64 * 100, Duration::from_secs(2_000));
        assert!(put(&keys, 0, Duration::from_secs(1)).is_some(), "it had the most to lose");
        assert!(put(&keys, 64 * 7, Duration::from_secs(1)).is_none());
    }

    #[test]
    fn a_sweep_forgets_who_has_everything_back() {
        let keys = BoundedKeys::new(1_000);
        put(&keys, 1, Duration::ZERO);
        put(&keys, 2, Duration::from_secs(1_000));
        keys.sweep();
        assert_eq!(keys.len(), 1);
    }
}
