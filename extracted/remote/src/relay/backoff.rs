//! Pauses between attempts: doubling, with jitter.
//!
//! Invariant: a pause lies between half of its step and the whole, so relays that failed together do not come back
//! together.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
    random: RandomState,
    drawn: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, step: min, random: RandomState::new(), drawn: 0 }
    }

    pub(super) fn reset(&mut self) {
        self.step = self.min;
    }

    pub(super) fn next(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.max);
        self.drawn += 1;
        // The standard library's hasher is keyed at random: enough for spreading attempts, and no dependency.
        let share = self.random.hash_one(self.drawn) % 1000;
        step / 2 + (step / 2) * u32::try_from(share).unwrap_or(0) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        for step in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let pause = backoff.next().as_millis();
            assert!((step / 2..=step).contains(&pause), "{pause} for a step of {step}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(50));
    }
}
