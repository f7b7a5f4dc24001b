//! How many requests may be sent again: a share of those that come, and a few in any second.
//!
//! Invariant: an outage is met with at most that share of requests more.

use std::cell::Cell;

use crate::settings::RetrySettings;
use crate::upstream::chance::now_ms;

/// A retry's price, so that one percent of it is a whole number.
const PRICE: u64 = 100;
/// Retries that can be saved up.
const MOST_SAVED: u64 = 100;

/// One worker's budget for one upstream.
#[derive(Debug)]
pub(crate) struct Budget {
    percent: u64,
    per_second: u64,
    saved: Cell<u64>,
    filled_ms: Cell<u64>,
}

impl Budget {
    pub(crate) fn new(settings: &RetrySettings) -> Self {
        let (percent, per_second) =
            (u64::from(settings.budget_percent), u64::from(settings.budget_per_second));
        Self { percent, per_second, saved: Cell::new(per_second * PRICE), filled_ms: Cell::new(now_ms()) }
    }

    /// A request came.
    pub(crate) fn earn(&self) {
        self.add(self.percent);
    }

    /// Whether one may be sent again.
    pub(crate) fn spend(&self) -> bool {
        let now = now_ms();
        let elapsed = now.saturating_sub(self.filled_ms.replace(now));
        self.add(elapsed.saturating_mul(self.per_second) * PRICE / 1000);
        match self.saved.get().checked_sub(PRICE) {
            Some(left) => {
                self.saved.set(left);
                true
            }
            None => false,
        }
    }

    fn add(&self, amount: u64) {
        let most = MOST_SAVED.max(self.per_second) * PRICE;
        self.saved.set(self.saved.get().saturating_add(amount).min(most));
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;
    use crate::settings::RetrySettings;

    #[test]
    fn a_fifth_of_the_requests_may_be_sent_again() {
        let settings = RetrySettings { budget_percent: 20, budget_per_second: 0, ..RetrySettings::default() };
        let budget = Budget::new(&settings);
        assert!(!budget.spend());
        (0..50).for_each(|_| budget.earn());
        assert_eq!((0..50).filter(|_| budget.spend()).count(), 10);
    }
}
