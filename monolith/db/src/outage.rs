//! A database that is away, as background work sees it.
//!
//! Invariant: an outage is logged once when it begins and once when it ends, and its end is noticed within a second.

use std::time::Duration;

use platform::error::chain;

use crate::DbError;
use crate::backoff::full_jitter;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One worker's view of its database.
pub(crate) struct Outage {
    who: String,
    failures: u32,
}

impl Outage {
    pub(crate) fn new(who: String) -> Self {
        Self { who, failures: 0 }
    }

    /// The database answered.
    pub(crate) fn is_over(&mut self) {
        if self.failures > 0 {
            tracing::info!(who = self.who, "{} has its database again", self.who);
            self.failures = 0;
        }
    }

    /// It did not; returns when it is time to try again.
    pub(crate) async fn goes_on(&mut self, error: &DbError) {
        if self.failures == 0 {
            let error = chain(error);
            tracing::warn!(who = self.who, error, "{} waits for its database", self.who);
        }
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(full_jitter(PAUSE_MIN, PAUSE_MAX, self.failures)).await;
    }
}
