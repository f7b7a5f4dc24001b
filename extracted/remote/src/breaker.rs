//! A breaker: after several failures in a row it spares a process that is down, and its callers the waiting.
//!
//! Invariant: while open it lets one call through per pause, so it closes by itself once the other side answers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open it.
const THRESHOLD: u32 = 5;
/// How long it stays open between two trials.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    shut_until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made at `now`.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.shut_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.shut_until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    /// Takes note of how a call went.
    pub(crate) fn note(&self, now: Instant, failed: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= THRESHOLD {
            state.shut_until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_a_good_trial() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..THRESHOLD {
            assert!(breaker.admits(start));
            breaker.note(start, true);
        }
        assert!(!breaker.admits(start));
        let later = start + PAUSE;
        assert!(breaker.admits(later) && !breaker.admits(later), "one trial per pause");
        breaker.note(later, false);
        assert!(breaker.admits(later) && breaker.admits(later));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for attempt in 0..THRESHOLD * 3 {
            breaker.note(now, attempt % 3 != 0);
        }
        assert!(breaker.admits(now));
    }
}
