//! The relay: sends what waits in a context's intent log to the other side.
//!
//! Invariants: images go strictly in order of version, one after the other, and every one of them goes (sending only
//! the newest of each id never resolves two e-mail addresses that were exchanged); an image leaves the log only
//! after the other side answered for it. So two relays on one log, or a crash between the two steps, only repeat
//! images, which the other side finds stale.

mod backoff;
mod progress;
mod stats;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contracts::Unavailable;
use contracts::replication::{IntentLog, ReplicaError, ReplicaSink};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use backoff::Backoff;
use progress::{Shared, Trouble};

pub use progress::Delivery;
pub use stats::{RelayStats, routes};

/// How a relay works.
#[derive(Debug, Clone, Copy)]
pub struct RelaySettings {
    /// Images read from the log at once.
    pub batch: u32,
    /// How often the log is looked at without being poked: other processes (an import) write intents, too.
    pub poll: Duration,
    /// First pause after a failure; doubles up to `backoff_max`.
    pub backoff_min: Duration,
    /// Longest pause between two attempts, so the longest time a mended side stays unnoticed.
    pub backoff_max: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            batch: 100,
            poll: Duration::from_millis(200),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
        }
    }
}

/// Starts relays.
#[derive(Debug)]
pub struct Relay;

/// A running relay; it ends with its last handle.
#[derive(Clone)]
pub struct RelayHandle(Arc<Running>);

struct Running {
    log: Arc<dyn IntentLog>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Starts a relay from `log` to `sink` on the present runtime.
    pub fn spawn(
        log: Arc<dyn IntentLog>,
        sink: Arc<dyn ReplicaSink>,
        settings: RelaySettings,
    ) -> RelayHandle {
        let shared = Arc::new(Shared::default());
        let worker = Worker { log: Arc::clone(&log), sink, settings, shared: Arc::clone(&shared) };
        RelayHandle(Arc::new(Running { log, shared, task: tokio::spawn(worker.run()) }))
    }
}

impl RelayHandle {
    /// Says that the log has something new. While delivery is failing this does not shorten the pause.
    pub fn poke(&self) {
        self.0.shared.poke();
    }

    /// Pokes the relay and waits until everything up to `version` is delivered, or `deadline`, or delivery is known
    /// to fail or to be far behind, in which case there is no waiting at all.
    pub async fn wait_passed(&self, version: i64, deadline: Instant) -> Delivery {
        self.0.shared.wait_passed(version, deadline).await
    }

    /// Figures for people and tests.
    pub async fn stats(&self) -> Result<RelayStats, Unavailable> {
        let backlog = self.0.log.backlog().await?;
        Ok(self.0.shared.stats(backlog))
    }
}

struct Worker {
    log: Arc<dyn IntentLog>,
    sink: Arc<dyn ReplicaSink>,
    settings: RelaySettings,
    shared: Arc<Shared>,
}

enum Round {
    /// Everything that was in the log when the round began is delivered.
    Drained,
    /// There may be more.
    Full,
}

impl Worker {
    async fn run(self) {
        let mut backoff = Backoff::new(self.settings.backoff_min, self.settings.backoff_max);
        loop {
            // Counted before the log is read: whoever poked up to here had committed by then.
            let pokes = self.shared.pokes.load(Ordering::Acquire);
            match self.round().await {
                Ok(Round::Full) => {
                    backoff.reset();
                    self.shared.fell_behind();
                }
                Ok(Round::Drained) => {
                    backoff.reset();
                    self.shared.drained(pokes);
                    let woken = self.shared.wake.notified();
                    let _ = tokio::time::timeout(self.settings.poll, woken).await;
                }
                Err(trouble) => {
                    self.shared.failed(trouble);
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn round(&self) -> Result<Round, Trouble> {
        let images = self.log.pending(self.settings.batch).await.map_err(Trouble::of_log)?;
        let count = images.len();
        let mut last = None;
        for image in images {
            let version = image.version;
            if let Err(error) = self.sink.apply(image).await {
                self.forget(last).await?;
                return Err(Trouble::of_image(version, &error));
            }
            self.shared.passed(version);
            last = Some(version);
        }
        self.forget(last).await?;
        let limit = usize::try_from(self.settings.batch).unwrap_or(usize::MAX);
        Ok(if count < limit { Round::Drained } else { Round::Full })
    }

    /// Takes what was delivered out of the log: once per round, since each time costs a commit.
    async fn forget(&self, up_to: Option<i64>) -> Result<(), Trouble> {
        match up_to {
            Some(version) => self.log.delivered(version).await.map_err(Trouble::of_log),
            None => Ok(()),
        }
    }
}

impl Trouble {
    fn of_log(error: Unavailable) -> Self {
        Self { stuck: false, what: format!("the intent log cannot be used: {error}") }
    }

    fn of_image(version: i64, error: &ReplicaError) -> Self {
        let stuck = !matches!(error, ReplicaError::Unavailable(_));
        Self { stuck, what: format!("image {version} was not taken: {error}") }
    }
}

#[cfg(test)]
mod tests;
