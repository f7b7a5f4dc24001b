//! Seeded randomness.
//!
//! Invariant: the same seed gives the same numbers for ever, on every machine.

/// splitmix64: small, seeded, good enough to vary an order of events.
pub(in crate::tests) struct Random(pub(in crate::tests) u64);

impl Random {
    pub(in crate::tests) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// True once in `times`.
    pub(in crate::tests) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(in crate::tests) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}
