//! One instance of an upstream, as all workers see it.
//!
//! Invariant: an instance in good health is only read in the hot path; each worker counts in cells of its own.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use http::uri::Authority;

use crate::settings::EjectionSettings;
use crate::upstream::chance::{jitter, now_ms};

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
    pub(crate) authority: Authority,
    /// Failures since the last success.
    in_a_row: AtomicU32,
    /// 0: not ejected.
    ejected_until_ms: AtomicU64,
    ejections: AtomicU32,
    /// By the answers to what the facade itself asks.
    is_down: AtomicBool,
    cells: Mutex<Vec<Arc<Cells>>>,
    last_failure: Mutex<Option<String>>,
}

impl Instance {
    pub(crate) fn new(authority: Authority) -> Self {
        Self {
            authority,
            in_a_row: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            is_down: AtomicBool::new(false),
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
        let until = self.ejected_until_ms.load(Relaxed);
        (until == 0 || until <= now_ms()) && !self.is_down.load(Relaxed)
    }

    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Relaxed)
    }

    pub(crate) fn set_down(&self, is_down: IsDown) {
        self.is_down.store(is_down == IsDown::Yes, Relaxed);
    }

    /// Milliseconds until it is asked again.
    pub(crate) fn away_ms(&self) -> u64 {
        self.ejected_until_ms.load(Relaxed).saturating_sub(now_ms())
    }

    pub(crate) fn succeeded(&self) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
            self.ejected_until_ms.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
        }
    }

    /// Whether this failure is one too many; the one who is told so ejects it.
    pub(crate) fn failed(&self, cells: &Cells, kind: Kind, why: &str, most: u32) -> bool {
        if let Some(counter) =
            Kind::ALL.iter().position(|one| *one == kind).and_then(|at| cells.failures.get(at))
        {
            add(counter);
        }
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
        let in_a_row = self.in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        most > 0 && in_a_row >= most && self.is_usable()
    }

    pub(crate) fn eject(&self, settings: &EjectionSettings) {
        let times = u64::from(self.ejections.fetch_add(1, Relaxed)).saturating_add(1);
        let length = settings.base_ms.saturating_mul(times).min(settings.most_ms);
        let until = now_ms().saturating_add(length).saturating_add(jitter(length / 5));
        self.ejected_until_ms.store(until, Relaxed);
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

    pub(crate) fn requests(&self) -> u64 {
        self.sum(|cells| cells.begun.load(Relaxed))
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.requests().saturating_sub(self.sum(|cells| cells.ended.load(Relaxed)))
    }
}
