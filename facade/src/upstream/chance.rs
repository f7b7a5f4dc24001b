//! Chance and time, as cheap as balancing needs them.
//!
//! Invariant: nothing here is fit for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the first call, and never 0, which stands for "not at all".
pub(crate) fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Anything from 0 to `most`.
pub(crate) fn jitter(most: u64) -> u64 {
    RandomState::new().build_hasher().finish() % most.saturating_add(1)
}

/// Numbers at random (xorshift, Marsaglia 2003), for one thread.
#[derive(Debug)]
pub(crate) struct Chance(Cell<u64>);

impl Chance {
    pub(crate) fn new() -> Self {
        Self(Cell::new(RandomState::new().build_hasher().finish() | 1))
    }

    /// Below `end`, and 0 where there is nothing below.
    pub(crate) fn below(&self, end: usize) -> usize {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from((state >> 16) % end).unwrap_or(0)
    }
}
