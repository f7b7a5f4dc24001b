//! Pauses between attempts: they double up to a cap, and each is drawn at random from nothing to its step.
//!
//! Invariant: facades that lost one server together do not come back to it together. "Full jitter" as in Brooker,
//! "Exponential Backoff And Jitter" (2015).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// The pause before the attempt that follows `failures` failed ones.
pub(super) fn jittered(shortest: Duration, longest: Duration, failures: u32) -> Duration {
    let step = shortest.saturating_mul(1 << failures.saturating_sub(1).min(31)).min(longest);
    // The standard library's hasher is keyed at random: enough for spreading attempts, and no dependency.
    let share = RandomState::new().hash_one(failures) % 1001;
    step.mul_f64(f64::from(u32::try_from(share).unwrap_or(1000)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_is_longer_than_its_step() {
        let (shortest, longest) = (Duration::from_millis(50), Duration::from_secs(1));
        for (failures, millis) in [(1, 50), (2, 100), (5, 800), (6, 1_000), (u32::MAX, 1_000)] {
            assert!(jittered(shortest, longest, failures) <= Duration::from_millis(millis), "{failures}");
        }
    }
}
