//! One instance of an upstream, as all workers see it.
//!
//! Invariant: an instance in good health is only read in the hot path; each worker counts in cells of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use http::uri::Authority;

use crate::settings::EjectionSettings;
use crate::upstream::chance::{jitter, now_ms};
use crate::upstream::era::{Closure, Era};

/// How an exchange with an instance failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Connect,
    Timeout,
    Broken,
    Status,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Connect, Self::Timeout, Self::Broken, Self::Status];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Status => "status",
        }
    }
}

/// What health checks say of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsDown {
    Yes,
    No,
}

/// What one worker counts of an instance; a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Cells {
    pub(crate) begun: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) idle: AtomicU64,
    failures: [AtomicU64; Kind::ALL.len()],
}

/// Adds to a counter that only this thread writes.
pub(crate) fn add(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

/// An instance by address.
#[derive(Debug)]
pub(crate) struct Instance {
    /// As the settings name it.
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
    /// Failures since the last success.
    in_a_row: AtomicU32,
    ejected: Closure,
    ejections: AtomicU32,
    /// By the answers to what the facade itself asks.
    is_down: AtomicBool,
    /// Answers in a row of those, good and bad.
    well: AtomicU32,
    ill: AtomicU32,
    cells: Mutex<Vec<Arc<Cells>>>,
    last_failure: Mutex<Option<String>>,
}

impl Instance {
    pub(crate) fn new(authority: Authority, address: SocketAddr) -> Self {
        Self {
            authority,
            address,
            in_a_row: AtomicU32::new(0),
            ejected: Closure::default(),
            ejections: AtomicU32::new(0),
            is_down: AtomicBool::new(false),
            well: AtomicU32::new(0),
            ill: AtomicU32::new(0),
            cells: Mutex::default(),
            last_failure: Mutex::default(),
        }
    }

    /// Cells for one worker.
    pub(crate) fn cells(&self) -> Arc<Cells> {
        let cells = Arc::new(Cells::default());
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&cells));
        cells
    }

    pub(crate) fn is_usable(&self) -> bool {
        let (_, until) = self.ejected.read();
        (until == 0 || until <= now_ms()) && !self.is_down.load(Relaxed)
    }

    /// The era in which a request may be sent to it. One whose time aside is over gets a single request, and the next one
    /// after `pause_ms`, until one succeeds: a frozen instance shall not catch all that come until the first fails.
    pub(crate) fn admit(&self, pause_ms: u64) -> Option<Era> {
        let (era, until) = self.ejected.read();
        if self.is_down.load(Relaxed) {
            return None;
        }
        if until == 0 {
            return Some(era);
        }
        let now = now_ms();
        let is_mine = until <= now && self.ejected.postpone(era, until, now.saturating_add(pause_ms));
        is_mine.then_some(era)
    }

    /// The era, whether it may be asked or not.
    pub(crate) fn era(&self) -> Era {
        self.ejected.read().0
    }

    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Relaxed)
    }

    pub(crate) fn set_down(&self, is_down: IsDown) {
        self.is_down.store(is_down == IsDown::Yes, Relaxed);
    }

    /// Good answers in a row, and bad ones, with this one.
    pub(crate) fn asked(&self, is_down: IsDown) -> (u32, u32) {
        let (count, other) = match is_down {
            IsDown::No => (&self.well, &self.ill),
            IsDown::Yes => (&self.ill, &self.well),
        };
        other.store(0, Relaxed);
        count.fetch_add(1, Relaxed);
        (self.well.load(Relaxed), self.ill.load(Relaxed))
    }

    /// Milliseconds until it is asked again.
    pub(crate) fn away_ms(&self) -> u64 {
        self.ejected.read().1.saturating_sub(now_ms())
    }

    /// A request that was sent to it before it was put aside proves nothing of it now.
    pub(crate) fn succeeded(&self, era: Era) {
        if self.in_a_row.load(Relaxed) != 0 && self.ejected.set(era, 0) {
            self.in_a_row.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
        }
    }

    /// Whether this failure is one too many.
    pub(crate) fn failed(&self, era: Era, cells: &Cells, kind: Kind, why: &str, most: u32) -> bool {
        if let Some(counter) =
            Kind::ALL.iter().position(|one| *one == kind).and_then(|at| cells.failures.get(at))
        {
            add(counter);
        }
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
        if !self.ejected.is_in(era) {
            return false;
        }
        let in_a_row = self.in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        most > 0 && in_a_row >= most
    }

    /// Puts it aside, unless that has just been done; whether it was.
    pub(crate) fn eject(&self, era: Era, settings: &EjectionSettings) -> bool {
        let times = u64::from(self.ejections.load(Relaxed)).saturating_add(1);
        let length = settings.base_ms.saturating_mul(times).min(settings.most_ms);
        let until = now_ms().saturating_add(length).saturating_add(jitter(length / 5));
        let is_mine = self.ejected.advance(era, until);
        if is_mine {
            self.ejections.fetch_add(1, Relaxed);
        }
        is_mine
    }

    pub(crate) fn ejections(&self) -> u32 {
        self.ejections.load(Relaxed)
    }

    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sum over all workers.
    pub(crate) fn sum(&self, pick: impl Fn(&Cells) -> u64) -> u64 {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|cells| pick(cells)).sum()
    }

    pub(crate) fn failures(&self, kind: Kind) -> u64 {
        let at = Kind::ALL.iter().position(|one| *one == kind).unwrap_or(0);
        self.sum(|cells| cells.failures.get(at).map_or(0, |counter| counter.load(Relaxed)))
    }

    /// Attempts to have a request answered.
    pub(crate) fn attempts(&self) -> u64 {
        self.sum(|cells| cells.begun.load(Relaxed))
    }

    /// The same without those that were sent again.
    pub(crate) fn requests(&self) -> u64 {
        self.attempts().saturating_sub(self.sum(|cells| cells.retries.load(Relaxed)))
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.attempts().saturating_sub(self.sum(|cells| cells.ended.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Instance, Kind};
    use crate::settings::EjectionSettings;
    use crate::upstream::era::Era;

    const SETTINGS: EjectionSettings =
        EjectionSettings { failures: 2, statuses: Vec::new(), base_ms: 1, most_ms: 1, most_percent: 50 };

    fn instance() -> Instance {
        Instance::new("svc:80".parse().unwrap(), "127.0.0.1:80".parse().unwrap())
    }

    fn fail(instance: &Instance, era: Era) -> bool {
        let is_too_many =
            instance.failed(era, &instance.cells(), Kind::Broken, "it broke", SETTINGS.failures);
        is_too_many && instance.eject(era, &SETTINGS)
    }

    fn trial(instance: &Instance) -> Era {
        loop {
            if let Some(era) = instance.admit(60_000) {
                return era;
            }
        }
    }

    #[test]
    fn an_answer_to_a_request_from_before_it_was_put_aside_does_not_bring_it_back() {
        let (instance, early) = (instance(), instance().era());
        assert!(!fail(&instance, early) && fail(&instance, early));
        instance.succeeded(early);
        assert_eq!(instance.ejections(), 1);
        instance.succeeded(trial(&instance));
        assert!(instance.is_usable() && instance.ejections() == 0 && instance.away_ms() == 0);
    }

    #[test]
    fn a_failure_of_a_request_from_before_it_was_put_aside_does_not_put_it_aside_again() {
        let (instance, early) = (instance(), instance().era());
        assert!(!fail(&instance, early) && fail(&instance, early));
        assert!(!fail(&instance, early) && instance.ejections() == 1);
        assert!(fail(&instance, trial(&instance)) && instance.ejections() == 2);
    }

    #[test]
    fn one_request_at_a_time_tries_whether_it_is_back() {
        let (instance, early) = (instance(), instance().era());
        assert!(!fail(&instance, early) && fail(&instance, early));
        let era = trial(&instance);
        assert!(instance.admit(60_000).is_none());
        instance.succeeded(era);
        assert!(instance.admit(60_000).is_some() && instance.admit(60_000).is_some());
    }
}
