//! Load shedding: when a worker has too much to do, what matters least is refused first.
//!
//! Invariant: a request of critical priority is never refused for load, and low goes before normal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::answer::Refusal;
use crate::protect::stats::ShedReason;
use crate::settings::{Priority, SheddingSettings};

/// How often the event loop's lag is measured.
const TICK: Duration = Duration::from_millis(10);

/// The settings, checked.
#[derive(Debug)]
pub(crate) struct SheddingPlan {
    low: Threshold,
    normal: Threshold,
    retry_after_s: u16,
    pub(crate) is_on: bool,
}

/// From where on requests are refused.
#[derive(Debug, Clone, Copy)]
struct Threshold {
    in_flight: u64,
    lag: Duration,
}

/// How late a worker's event loop is, in microseconds; metrics read it too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lag(Arc<AtomicU64>);

/// The measuring of a worker's lag, on the worker's thread; its drop ends it.
#[derive(Debug)]
pub(crate) struct Measuring {
    lag: Lag,
    task: JoinHandle<()>,
}

impl Measuring {
    pub(crate) fn start(lag: &Lag) -> Self {
        Self { lag: lag.clone(), task: tokio::task::spawn_local(lag.clone().measure()) }
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.task.abort();
        self.lag.set(Duration::ZERO);
    }
}

impl SheddingPlan {
    pub(crate) fn new(settings: &SheddingSettings, errors: &mut Vec<String>) -> Self {
        let SheddingSettings { low_in_flight, normal_in_flight, low_lag_ms, normal_lag_ms, .. } = *settings;
        for (name, low, normal) in
            [("in_flight", low_in_flight, normal_in_flight), ("lag_ms", low_lag_ms, normal_lag_ms)]
        {
            if low > 0 && normal > 0 && normal < low {
                errors.push(format!(
                    "setting `shedding.normal_{name}` is {normal}, below `low_{name}` with {low}; low priority goes first"
                ));
            }
        }
        let threshold = |in_flight: u64, lag_ms: u64| Threshold {
            in_flight: if in_flight == 0 { u64::MAX } else { in_flight },
            lag: if lag_ms == 0 { Duration::MAX } else { Duration::from_millis(lag_ms) },
        };
        Self {
            low: threshold(low_in_flight, low_lag_ms),
            normal: threshold(normal_in_flight, normal_lag_ms),
            retry_after_s: settings.retry_after_s,
            is_on: low_in_flight + normal_in_flight + low_lag_ms + normal_lag_ms > 0,
        }
    }

    /// Whether a request of this priority is one too many; `in_flight` does not count it.
    pub(crate) fn check(&self, priority: Priority, in_flight: u64, lag: &Lag) -> Option<ShedReason> {
        let threshold = match priority {
            Priority::Critical => return None,
            Priority::Normal => self.normal,
            Priority::Low => self.low,
        };
        if in_flight >= threshold.in_flight {
            return Some(ShedReason::InFlight);
        }
        (lag.get() >= threshold.lag).then_some(ShedReason::Lag)
    }

    pub(crate) fn refusal(&self) -> Refusal {
        let detail = "there is too much to do at the moment";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(self.retry_after_s)
    }
}

impl Lag {
    pub(crate) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed))
    }

    fn set(&self, lag: Duration) {
        self.0.store(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Measures for ever. What the timer is late is what every request waits before it is looked at; half of the last
    /// measure stays, so that one hiccup is not the end of shedding and not all of it.
    async fn measure(self) {
        loop {
            let due = Instant::now() + TICK;
            sleep_until(due).await;
            self.set((self.get() + due.elapsed()) / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(settings: &SheddingSettings) -> SheddingPlan {
        SheddingPlan::new(settings, &mut Vec::new())
    }

    #[test]
    fn low_goes_before_normal_and_critical_never() {
        let plan = plan(&SheddingSettings {
            low_in_flight: 10,
            normal_in_flight: 20,
            ..SheddingSettings::default()
        });
        let refused = |in_flight| {
            [Priority::Low, Priority::Normal, Priority::Critical]
                .map(|priority| plan.check(priority, in_flight, &Lag::default()).is_some())
        };
        assert_eq!(refused(9), [false, false, false]);
        assert_eq!(refused(10), [true, false, false]);
        assert_eq!(refused(20), [true, true, false]);
        assert_eq!(refused(u64::MAX), [true, true, false]);
    }

    #[test]
    fn a_late_event_loop_refuses_too() {
        let plan = plan(&SheddingSettings { low_lag_ms: 50, ..SheddingSettings::default() });
        let lag = Lag::default();
        assert_eq!(plan.check(Priority::Low, 1_000_000, &lag), None);
        lag.set(Duration::from_millis(50));
        assert_eq!(plan.check(Priority::Low, 0, &lag), Some(ShedReason::Lag));
        assert_eq!(plan.check(Priority::Normal, 0, &lag), None);
    }

    #[tokio::test(flavor = "local")]
    async fn a_loop_that_is_kept_busy_lags() {
        let lag = Lag::default();
        tokio::task::spawn_local(lag.clone().measure());
        tokio::time::sleep(TICK * 2).await;
        let before = lag.get();
        // Blocking the loop is what is tested.
        std::thread::sleep(Duration::from_millis(200));
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(lag.get() > before + Duration::from_millis(50), "{:?}", lag.get());
    }

    #[test]
    fn thresholds_the_wrong_way_round_are_told() {
        let mut errors = Vec::new();
        let wrong =
            SheddingSettings { low_in_flight: 20, normal_in_flight: 10, ..SheddingSettings::default() };
        SheddingPlan::new(&wrong, &mut errors);
        assert!(errors[0].contains("normal_in_flight"), "{errors:?}");
    }
}
