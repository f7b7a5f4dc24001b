//! Random bits for identifiers and samples: no lock, no system call after the first.
//!
//! Invariant: for what has to be unique or fair; never for anything that has to be secret.

use uuid::Uuid;

/// SplitMix64 (Steele, Lea, Flood 2014), for one thread.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by the system.
    pub(crate) fn new() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        // The version's bits of the one half are the same in every UUID, so both halves count.
        Self(high.rotate_left(32) ^ low)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True for that share of calls, in 2⁻³²: 0 is never, 2³² always.
    pub(crate) fn hits(&mut self, share: u64) -> bool {
        (self.bits() >> 32) < share
    }
}
