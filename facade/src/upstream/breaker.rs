//! The circuit breaker of one upstream: closed, open for a while, then half open for a few probes.
//!
//! Invariant: a request that succeeds while it is closed writes nothing; only failures count the window.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::settings::BreakerSettings;
use crate::upstream::chance::{jitter, now_ms};

/// A breaker, shared by all workers.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    /// 0: closed.
    open_until_ms: AtomicU64,
    probing: AtomicU32,
    succeeded: AtomicU32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    since_ms: u64,
    /// Requests in all when it began.
    before: u64,
    failures: u64,
}

/// Leave to send one request.
#[derive(Debug)]
pub(crate) enum Leave {
    Closed,
    Probe {
        /// Kept for its drop.
        _probe: Probe,
    },
}

/// A probe under way; one that comes to nothing makes room for another.
#[derive(Debug)]
pub(crate) struct Probe(Arc<Breaker>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probing.fetch_sub(1, Relaxed);
    }
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            open_until_ms: AtomicU64::new(0),
            probing: AtomicU32::new(0),
            succeeded: AtomicU32::new(0),
            window: Mutex::default(),
        }
    }

    /// Leave to send, or the milliseconds until asking again may help.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Leave, u64> {
        let until = self.open_until_ms.load(Relaxed);
        if until == 0 {
            return Ok(Leave::Closed);
        }
        let left = until.saturating_sub(now_ms());
        if left > 0 {
            return Err(left);
        }
        if self.probing.fetch_add(1, Relaxed) >= self.settings.probes {
            self.probing.fetch_sub(1, Relaxed);
            return Err(1);
        }
        Ok(Leave::Probe { _probe: Probe(Arc::clone(self)) })
    }

    pub(crate) fn succeeded(&self, leave: &Leave) {
        if matches!(leave, Leave::Closed) {
            return;
        }
        if self.succeeded.fetch_add(1, Relaxed).saturating_add(1) >= self.settings.probes {
            *self.window.lock().unwrap_or_else(PoisonError::into_inner) = Window::default();
            self.open_until_ms.store(0, Relaxed);
        }
    }

    /// `requests` is the number of requests in all; the window counts from where it began.
    pub(crate) fn failed(&self, leave: &Leave, requests: impl Fn() -> u64) {
        if self.settings.failure_percent == 0 {
            return;
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(leave, Leave::Probe { .. }) {
            return self.open();
        }
        let (now, requests) = (now_ms(), requests());
        if window.since_ms == 0 || now.saturating_sub(window.since_ms) > self.settings.window_ms {
            *window = Window { since_ms: now, before: requests.saturating_sub(1), failures: 0 };
        }
        window.failures += 1;
        let seen = requests.saturating_sub(window.before).max(window.failures);
        let is_most = window.failures.saturating_mul(100) >= seen * u64::from(self.settings.failure_percent);
        if is_most && seen >= self.settings.least_requests && self.open_until_ms.load(Relaxed) == 0 {
            *window = Window::default();
            self.open();
        }
    }

    fn open(&self) {
        self.succeeded.store(0, Relaxed);
        let length = self.settings.open_ms.saturating_add(jitter(self.settings.open_ms / 5));
        self.open_until_ms.store(now_ms().saturating_add(length), Relaxed);
    }

    pub(crate) fn state(&self) -> &'static str {
        match self.open_until_ms.load(Relaxed) {
            0 => "closed",
            until if until > now_ms() => "open",
            _ => "half_open",
        }
    }
}
