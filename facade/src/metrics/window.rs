//! The last seconds, for rates and latencies as they are now.
//!
//! Invariant: nobody on a request's way looks here; one reading a second is kept.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::totals::Totals;

/// How far rates look back.
const WINDOW: Duration = Duration::from_secs(10);

/// Readings of the last seconds, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Window(Mutex<VecDeque<(Instant, Totals)>>);

impl Window {
    /// Remembers a reading, and forgets those that no rate needs any more.
    pub(crate) fn remember(&self, now: Instant, totals: Totals) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One reading stays beyond the window: it is where the window begins.
        while readings.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            readings.pop_front();
        }
        readings.push_back((now, totals));
    }

    /// What has been added within the window, and how long that is; less than the window soon after the start.
    pub(crate) fn recent(&self, now: Instant, totals: &Totals) -> (Totals, Duration) {
        let readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match readings.front() {
            Some((at, then)) => (totals.since(then), now.duration_since(*at)),
            None => (totals.clone(), Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_within_the_window_counts() {
        let (window, start) = (Window::default(), Instant::now());
        let reading = |count| {
            let mut totals = Totals::default();
            totals.sides.resize_with(1, Default::default);
            totals.sides[0].requests[0][1] = count;
            totals
        };
        for second in 0..=20 {
            window.remember(start + Duration::from_secs(second), reading(second * 5));
        }
        let (recent, span) = window.recent(start + Duration::from_secs(21), &reading(105));
        assert_eq!(span, Duration::from_secs(11));
        assert_eq!(recent.sides[0].count(), 55);
    }
}
