//! How many keys the next transaction takes: as many as a time and an amount of memory allow.
//!
//! Invariant: never more than was asked for at most; and only a transaction as large as it was meant to be lets the next one
//! be larger, so that many small ones do not end in one that lasts.

use std::time::Duration;

/// Where it begins.
const FIRST: u32 = 1_000;
/// How long one may take: others wait for its locks, and the position stands still meanwhile.
const TIME: Duration = Duration::from_millis(250);
/// How many bytes of rows one is meant to hold.
const BYTES: u64 = 6 << 20;
/// How many it may hold; a single key's rows may be more.
pub(super) const MOST_BYTES: u64 = BYTES + BYTES / 3;
/// How much larger the next one may be.
const GROWTH: f64 = 4.0;

/// Keys per transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    size: u32,
    most: u32,
}

/// What one transaction was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// It took all keys that it may take.
    Wholly,
    /// There were fewer.
    Partly,
}

impl Pace {
    /// Begins small; up to FIRST, at that size at once.
    pub(super) fn up_to(most: u32) -> Self {
        Self { size: most.clamp(1, FIRST), most: most.max(1) }
    }

    /// Keys of the next one.
    pub(super) fn size(self) -> u32 {
        self.size
    }

    /// How many bytes the next one may hold.
    pub(super) fn most_bytes(self) -> u64 {
        if self.size == 1 { u64::MAX } else { MOST_BYTES }
    }

    /// Learns that of the keys asked for only so many rows held no more than [`MOST_BYTES`].
    pub(super) fn too_much(&mut self, fitting: u64) {
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        self.size = (fitting.min(self.size) / 2).max(1);
    }

    /// Learns from one. Few wide rows may fill the memory; no time makes it smaller than it began.
    pub(super) fn took(&mut self, filled: Filled, bytes: u64, time: Duration) {
        let by_time = TIME.as_secs_f64() / time.as_secs_f64().max(1e-6);
        let by_bytes = BYTES as f64 / bytes.max(1) as f64;
        let most = match filled {
            Filled::Wholly => GROWTH,
            Filled::Partly => 1.0,
        };
        let size = f64::from(self.size);
        let least = f64::from(self.most.min(FIRST)).min(size * by_bytes);
        let next = (size * by_time.min(by_bytes).min(most)).max(least);
        self.size = (next as u32).clamp(1, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(1);

    #[test]
    fn it_grows_while_transactions_are_short_and_full() {
        let mut pace = Pace::up_to(50_000);
        pace.took(Filled::Partly, 1_000, QUICK);
        assert_eq!(pace.size(), 1_000);
        pace.took(Filled::Wholly, 1_000, QUICK);
        assert_eq!(pace.size(), 4_000);
        (0..9).for_each(|_| pace.took(Filled::Wholly, 1_000, QUICK));
        assert_eq!(pace.size(), 50_000);
        pace.took(Filled::Partly, 1_000, TIME * 10);
        assert_eq!(pace.size(), 5_000);
        pace.took(Filled::Wholly, 1_000, TIME * 1_000);
        assert_eq!(pace.size(), 1_000);
    }

    #[test]
    fn wide_rows_make_it_smaller_than_it_began() {
        let mut pace = Pace::up_to(50_000);
        pace.took(Filled::Wholly, BYTES * 500, TIME);
        assert_eq!(pace.size(), 2);
    }

    #[test]
    fn what_held_too_many_bytes_is_tried_again_with_fewer_keys_down_to_one_of_any_size() {
        let mut pace = Pace::up_to(50_000);
        pace.too_much(40);
        assert_eq!((pace.size(), pace.most_bytes()), (20, MOST_BYTES));
        pace.too_much(1_000);
        assert_eq!(pace.size(), 10, "keys of many rows");
        pace.too_much(0);
        assert_eq!((pace.size(), pace.most_bytes()), (1, u64::MAX));
    }

    #[test]
    fn a_small_size_asked_for_is_kept() {
        let mut pace = Pace::up_to(7);
        pace.took(Filled::Wholly, 1_000, QUICK);
        assert_eq!(pace.size(), 7);
        pace.took(Filled::Wholly, 1_000, TIME * 1_000);
        assert_eq!(pace.size(), 7);
    }
}
