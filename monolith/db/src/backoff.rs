//! Pauses between attempts: they double up to a cap, and each is drawn at random from nothing to its step.
//!
//! Invariant: what failed together does not come back together. "Full jitter" as in Brooker, "Exponential Backoff And
//! Jitter" (2015).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// The pause before the attempt that follows `attempts` failed ones.
pub(crate) fn full_jitter(min: Duration, max: Duration, attempts: u32) -> Duration {
    let step = step(min, max, attempts);
    // The standard library's hasher is keyed at random: enough for spreading attempts, and no dependency.
    let share = RandomState::new().hash_one(attempts) % 1001;
    step.mul_f64(f64::from(u32::try_from(share).unwrap_or(1000)) / 1000.0)
}

/// The longest that the pause may be.
pub(crate) fn step(min: Duration, max: Duration, attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    min.saturating_mul(1 << doublings).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_double_up_to_the_cap_and_no_pause_is_longer() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(60));
        for (attempts, millis) in
            [(1, 200), (2, 400), (3, 800), (9, 51_200), (10, 60_000), (u32::MAX, 60_000)]
        {
            assert_eq!(step(min, max, attempts).as_millis(), millis);
            assert!(full_jitter(min, max, attempts) <= step(min, max, attempts));
        }
    }
}
