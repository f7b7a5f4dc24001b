//! The circuit breaker of one upstream: closed, open for a while, then half open for a few probes.
//!
//! Invariant: a request that succeeds while it is closed writes nothing; only failures count the window, and only those
//! of requests that were let in since it last opened or closed.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::settings::BreakerSettings;
use crate::upstream::chance::{jitter, now_ms};
use crate::upstream::era::{Closure, Era};

/// A breaker, shared by all workers.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    open: Closure,
    probing: AtomicU32,
    window: Mutex<Window>,
}

/// What was seen in this era.
#[derive(Debug, Default)]
struct Window {
    since_ms: u64,
    /// Requests in all when it began.
    before: u64,
    failures: u64,
    /// Probes that succeeded.
    succeeded: u32,
}

/// Leave to send one request.
#[derive(Debug)]
pub(crate) struct Leave {
    era: Era,
    probe: Option<Probe>,
}

/// A probe under way; one that comes to nothing makes room for another.
#[derive(Debug)]
struct Probe(Arc<Breaker>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probing.fetch_sub(1, Relaxed);
    }
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        let (open, probing) = (Closure::default(), AtomicU32::new(0));
        Self { settings, open, probing, window: Mutex::default() }
    }

    /// Leave to send, or the milliseconds until asking again may help.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Leave, u64> {
        let (era, until) = self.open.read();
        if until == 0 {
            return Ok(Leave { era, probe: None });
        }
        let left = until.saturating_sub(now_ms());
        if left > 0 {
            return Err(left);
        }
        if self.probing.fetch_add(1, Relaxed) >= self.settings.probes {
            self.probing.fetch_sub(1, Relaxed);
            return Err(1);
        }
        Ok(Leave { era, probe: Some(Probe(Arc::clone(self))) })
    }

    pub(crate) fn succeeded(&self, leave: &Leave) {
        if leave.probe.is_none() {
            return;
        }
        let mut window = self.window();
        if self.open.is_in(leave.era) {
            window.succeeded += 1;
            if window.succeeded >= self.settings.probes {
                self.turn(&mut window, leave.era, 0);
            }
        }
    }

    /// `requests` is the number of requests in all; the window counts from where it began.
    pub(crate) fn failed(&self, leave: &Leave, requests: impl Fn() -> u64) {
        if self.settings.failure_percent == 0 {
            return;
        }
        let mut window = self.window();
        if !self.open.is_in(leave.era) {
            return;
        }
        let (now, requests) = (now_ms(), requests());
        let open_ms = self.settings.open_ms;
        let until = now.saturating_add(open_ms).saturating_add(jitter(open_ms / 5));
        if leave.probe.is_some() {
            return self.turn(&mut window, leave.era, until);
        }
        if window.since_ms == 0 || now.saturating_sub(window.since_ms) > self.settings.window_ms {
            *window = Window { since_ms: now, before: requests.saturating_sub(1), ..Window::default() };
        }
        window.failures += 1;
        let seen = requests.saturating_sub(window.before).max(window.failures);
        let is_most = window.failures.saturating_mul(100) >= seen * u64::from(self.settings.failure_percent);
        if is_most && seen >= self.settings.least_requests {
            self.turn(&mut window, leave.era, until);
        }
    }

    /// Opens, or closes with 0. The lock is held, so that what was seen belongs to one era.
    fn turn(&self, window: &mut Window, from: Era, until_ms: u64) {
        self.open.advance(from, until_ms);
        *window = Window::default();
    }

    pub(crate) fn state(&self) -> &'static str {
        match self.open.read().1 {
            0 => "closed",
            until if until > now_ms() => "open",
            _ => "half_open",
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Breaker, Leave};
    use crate::settings::BreakerSettings;

    fn breaker() -> Arc<Breaker> {
        let settings = BreakerSettings {
            failure_percent: 50,
            least_requests: 2,
            open_ms: 1,
            probes: 1,
            ..BreakerSettings::default()
        };
        Arc::new(Breaker::new(settings))
    }

    fn probe(breaker: &Arc<Breaker>) -> Leave {
        loop {
            if let Ok(leave) = breaker.enter() {
                return leave;
            }
        }
    }

    fn open(breaker: &Arc<Breaker>) {
        (0..2).for_each(|_| breaker.failed(&breaker.enter().unwrap(), || 2));
        assert_ne!(breaker.state(), "closed");
    }

    #[test]
    fn a_failure_of_a_request_from_before_it_opened_does_not_count_after_it_closed() {
        let breaker = breaker();
        let early: Vec<_> = (0..4).map(|_| breaker.enter().unwrap()).collect();
        open(&breaker);
        breaker.succeeded(&probe(&breaker));
        assert_eq!(breaker.state(), "closed");
        early.iter().for_each(|leave| breaker.failed(leave, || 4));
        assert_eq!(breaker.state(), "closed");
        open(&breaker);
    }

    #[test]
    fn a_probe_of_an_earlier_time_neither_closes_nor_opens_it() {
        let breaker = breaker();
        open(&breaker);
        let early = probe(&breaker);
        breaker.failed(&early, || 4);
        breaker.succeeded(&early);
        assert_ne!(breaker.state(), "closed");
        drop(early);
        breaker.succeeded(&probe(&breaker));
        assert_eq!(breaker.state(), "closed");
    }
}
