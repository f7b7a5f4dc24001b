//! What all workers share of one upstream.
//!
//! Invariant: admission takes no lock; the bulkhead's semaphore is touched only where a limit is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answer::Refusal;
use crate::settings::{BulkheadSettings, EjectionSettings};
use crate::upstream::balance::Chosen;
use crate::upstream::breaker::{Breaker, Leave};
use crate::upstream::instance::Kind;
use crate::upstream::members::Members;
use crate::upstream::plan::Policy;

/// Health, breaker and bulkhead of one upstream.
#[derive(Debug)]
pub(crate) struct Shared {
    members: ArcSwap<Members>,
    pub(crate) breaker: Arc<Breaker>,
    ejection: EjectionSettings,
    bulkhead: BulkheadSettings,
    places: Option<Arc<Semaphore>>,
    queued: AtomicU32,
    pub(crate) refused_by_breaker: AtomicU64,
    pub(crate) refused_by_bulkhead: AtomicU64,
    pub(crate) none_healthy: AtomicU64,
    pub(crate) budget_exhausted: AtomicU64,
}

/// Why an upstream is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Breaker {
        left_ms: u64,
    },
    Full,
    NoneHealthy {
        left_ms: u64,
    },
    /// There is no instance, because no name has an address.
    Nowhere,
}

impl Closed {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Breaker { .. } => "is not asked for a moment, because it keeps failing",
            Self::Full => "has as many requests in flight as it may",
            Self::NoneHealthy { .. } => "has no healthy instance",
            Self::Nowhere => "has no known address; its name cannot be resolved",
        }
    }

    /// What the client is told; nothing is logged, because with an upstream gone every request would be.
    pub(crate) fn refusal(self, upstream: &str) -> Refusal {
        let left_ms = match self {
            Self::Breaker { left_ms } | Self::NoneHealthy { left_ms } => left_ms,
            Self::Full | Self::Nowhere => 0,
        };
        let seconds = u16::try_from(left_ms.div_ceil(1000).max(1)).unwrap_or(u16::MAX);
        let detail = format!("the upstream {upstream} {}", self.reason());
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(seconds)
    }
}

/// A place in the bulkhead, where there is one.
pub(crate) type Place = Option<OwnedSemaphorePermit>;

/// Gives its place in the queue back.
struct Queued<'a>(&'a AtomicU32);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(members: Members, policy: &Policy) -> Self {
        let most = usize::try_from(policy.bulkhead.most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            members: ArcSwap::from_pointee(members),
            breaker: Arc::new(Breaker::new(policy.breaker.clone())),
            ejection: policy.ejection.clone(),
            bulkhead: policy.bulkhead.clone(),
            places: (most > 0).then(|| Arc::new(Semaphore::new(most))),
            queued: AtomicU32::new(0),
            refused_by_breaker: AtomicU64::new(0),
            refused_by_bulkhead: AtomicU64::new(0),
            none_healthy: AtomicU64::new(0),
            budget_exhausted: AtomicU64::new(0),
        }
    }

    /// Leave by the breaker.
    pub(crate) fn enter(&self) -> Result<Leave, Closed> {
        self.breaker.enter().map_err(|left_ms| {
            self.refused_by_breaker.fetch_add(1, Relaxed);
            Closed::Breaker { left_ms }
        })
    }

    pub(crate) fn has_bulkhead(&self) -> bool {
        self.places.is_some()
    }

    /// A place in the bulkhead, at once or after a short wait.
    pub(crate) async fn place(&self) -> Result<Place, Closed> {
        let Some(places) = &self.places else { return Ok(None) };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Some(place));
        }
        let before = self.queued.fetch_add(1, Relaxed);
        let _queued = Queued(&self.queued);
        if before < self.bulkhead.queue {
            let wait = Duration::from_millis(self.bulkhead.wait_ms);
            if let Ok(Ok(place)) = timeout(wait, Arc::clone(places).acquire_owned()).await {
                return Ok(Some(place));
            }
        }
        self.refused_by_bulkhead.fetch_add(1, Relaxed);
        Err(Closed::Full)
    }

    /// Its instances as they are now.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Each worker has to be told.
    pub(crate) fn set_members(&self, members: Members) {
        self.members.store(Arc::new(members));
    }

    pub(crate) fn none_healthy(&self) -> Closed {
        self.none_healthy.fetch_add(1, Relaxed);
        let left_ms = self.members().instances().map(|instance| instance.away_ms()).min();
        left_ms.map_or(Closed::Nowhere, |left_ms| Closed::NoneHealthy { left_ms })
    }

    /// One instance failed; it is put aside if it does so often, and if enough others are left.
    pub(crate) fn failed(&self, chosen: &Chosen, kind: Kind, why: &str) {
        let (instance, cells) = (&chosen.pool.instance, &chosen.pool.cells);
        if !instance.failed(chosen.era, cells, kind, why, self.ejection.failures) {
            return;
        }
        let members = self.members();
        let others = members.instances().filter(|other| !Arc::ptr_eq(other, instance));
        let away = others.filter(|other| !other.is_usable()).count();
        let most = usize::try_from(self.ejection.most_percent).unwrap_or(0) * members.present.len() / 100;
        if away < most && instance.eject(chosen.era, &self.ejection) {
            tracing::warn!(instance = %instance.address, "put aside after failures: {}: {why}", instance.address);
        }
    }

    pub(crate) fn counts(&self, status: u16) -> bool {
        status >= 500 && self.ejection.statuses.contains(&status)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.members().requests()
    }
}
