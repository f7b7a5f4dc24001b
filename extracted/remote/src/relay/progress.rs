//! How far a relay has come, and who waits for it.
//!
//! Invariant: a write counts as delivered once an image of its version or a later one was taken, or once the log was
//! found empty by a look that began after the write had committed. The second rule is what ends the wait when the
//! write left no image (dual-write off) or another relay took it away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

/// What became of a write by the time its answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The other side has it.
    Passed,
    /// The other side did not answer in time; the relay goes on.
    Late,
    /// Delivery is failing or far behind, so there was no waiting; the relay goes on.
    Failing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Whether the other side answered and refused, so that waiting alone may not help.
    pub(super) stuck: bool,
    pub(super) what: String,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Highest version that was delivered here.
    passed: i64,
    /// Pokes that were answered by an empty log.
    drained: u64,
    pub(super) failing: Option<(SystemTime, Trouble)>,
    /// More waits in the log than the writes in flight can have put there: a write that waited for its turn would
    /// wait for its whole deadline.
    is_behind: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) pokes: AtomicU64,
    pub(super) wake: Notify,
    pub(super) delivered: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) healed: AtomicU64,
    progress: watch::Sender<Progress>,
    /// Versions whose writers stopped waiting, each with its poke; they become healed once delivered.
    waited_for: Mutex<BTreeMap<i64, u64>>,
}

impl Progress {
    fn holds(&self, version: i64, poke: u64) -> bool {
        self.passed >= version || self.drained >= poke
    }
}

impl Shared {
    pub(super) fn poke(&self) -> u64 {
        let poke = self.pokes.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake.notify_one();
        poke
    }

    pub(super) async fn wait_passed(&self, version: i64, deadline: Instant) -> Delivery {
        let poke = self.poke();
        let mut progress = self.progress.subscribe();
        let decided = |progress: &Progress| {
            progress.failing.is_some() || progress.is_behind || progress.holds(version, poke)
        };
        let waited = timeout_at(deadline, progress.wait_for(|progress| decided(progress))).await.is_ok();
        // Looked at again under the lock that `settle` takes, so that a delivery just now is not missed.
        let mut late = self.lock();
        let progress = self.progress.borrow();
        if progress.holds(version, poke) {
            return Delivery::Passed;
        }
        late.insert(version, poke);
        self.late.fetch_add(1, Ordering::Relaxed);
        if waited { Delivery::Failing } else { Delivery::Late }
    }

    pub(super) fn passed(&self, version: i64) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.recovered();
        self.progress.send_modify(|progress| progress.passed = progress.passed.max(version));
        self.settle();
    }

    /// Takes note that a backlog has built up; it ends when the log is next found empty.
    pub(super) fn fell_behind(&self) {
        self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.is_behind, true));
    }

    pub(super) fn drained(&self, pokes: u64) {
        self.recovered();
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.is_behind, false));
        let is_news = self.progress.borrow().drained < pokes;
        if is_news {
            self.progress.send_modify(|progress| progress.drained = pokes);
            self.settle();
        }
    }

    /// Takes note of a failure; logged once per change, since an outage may last.
    pub(super) fn failed(&self, trouble: Trouble) {
        let since = match &self.progress.borrow().failing {
            Some((_, known)) if *known == trouble => return,
            Some((since, _)) => *since,
            None => SystemTime::now(),
        };
        if trouble.stuck {
            tracing::error!(
                "delivery to the other side is stuck: {}; it stays in the log and is retried",
                trouble.what
            );
        } else {
            tracing::warn!(
                "delivery to the other side is failing: {}; it stays in the log and is retried",
                trouble.what
            );
        }
        self.progress.send_modify(|progress| {
            progress.failing = Some((since, trouble));
            progress.is_behind = true;
        });
    }

    pub(super) fn trouble(&self) -> Option<(SystemTime, Trouble)> {
        self.progress.borrow().failing.clone()
    }

    fn recovered(&self) {
        let Some((since, _)) = self.trouble() else {
            return;
        };
        let failing_ms = since.elapsed().unwrap_or_default().as_millis();
        tracing::info!(failing_ms, "delivery to the other side works again");
        self.progress.send_modify(|progress| progress.failing = None);
    }

    /// Counts those late writes that are delivered now.
    fn settle(&self) {
        let mut late = self.lock();
        let progress = self.progress.borrow();
        let before = late.len();
        late.retain(|version, poke| !progress.holds(*version, *poke));
        let healed = u64::try_from(before - late.len()).unwrap_or(0);
        self.healed.fetch_add(healed, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, u64>> {
        self.waited_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
