//! The runner: finds sagas that are due and drives each in a task of its own.
//!
//! Invariant: a saga is one runner's at a time. A runner that dies leaves its sagas where they were; another takes them
//! when the lease ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contracts::Clock;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use super::drive::{Driver, begin_step, later};
use super::erased::ErasedSaga;
use super::store::{self, Claim, Claimed};
use crate::fail_point::FailPoints;
use crate::outage::Outage;
use crate::wake::Work;
use crate::{Db, DbError};

/// How a runner works.
#[derive(Debug, Clone, Copy)]
pub struct SagaSettings {
    /// Sagas at once.
    pub concurrency: usize,
    /// How often sagas are looked for without being woken.
    pub poll: Duration,
    /// How long a saga stays with a runner that died. Each step renews it. Far above what the clocks of two machines
    /// differ by.
    pub lease: Duration,
    /// How long one step may take; at most half of the lease counts.
    pub step_deadline: Duration,
    /// Pause after the first failure of a step, at most; doubles with each one.
    pub backoff_min: Duration,
    /// Longest pause between two attempts.
    pub backoff_max: Duration,
    /// Failures of one step after which the saga turns back.
    pub max_attempts: u32,
}

impl Default for SagaSettings {
    fn default() -> Self {
        Self {
            concurrency: 16,
            poll: Duration::from_millis(500),
            lease: Duration::from_secs(30),
            step_deadline: Duration::from_secs(10),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(60),
            max_attempts: 8,
        }
    }
}

/// Starts runners.
#[derive(Debug)]
pub struct SagaRunner;

impl SagaRunner {
    /// Starts a runner for these kinds of saga on the present runtime; others are left to other processes.
    pub fn spawn(
        db: Db,
        sagas: Vec<Arc<dyn ErasedSaga>>,
        clock: Arc<dyn Clock>,
        settings: SagaSettings,
    ) -> SagaHandle {
        Self::spawn_with(db, sagas, clock, settings, Arc::new(FailPoints::from_env()))
    }

    pub(super) fn spawn_with(
        db: Db,
        sagas: Vec<Arc<dyn ErasedSaga>>,
        clock: Arc<dyn Clock>,
        settings: SagaSettings,
        fail_points: Arc<FailPoints>,
    ) -> SagaHandle {
        let (stop, stopping) = watch::channel(false);
        let shared = Shared {
            claimant: format!("{}-{}", std::process::id(), Uuid::new_v4().simple()),
            db: db.clone(),
            clock,
            settings,
            fail_points,
            stopping: stopping.clone(),
        };
        let wake = db.wakes().subscribe(Work::Sagas);
        let runner = Runner { shared: Arc::new(shared), sagas, wake, stopping, drives: JoinSet::new() };
        SagaHandle { task: tokio::spawn(runner.run()), stop }
    }
}

/// A running runner; dropped, it ends as if its process had died.
pub struct SagaHandle {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl SagaHandle {
    /// Finishes the steps under way, writes them down, gives the sagas back, and ends.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for SagaHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the drives of one runner share.
pub(super) struct Shared {
    pub(super) claimant: String,
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: SagaSettings,
    pub(super) fail_points: Arc<FailPoints>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Shared {
    /// A claim from now on.
    pub(super) fn claim(&self) -> Claim {
        let now = self.clock.now();
        Claim { claimant: self.claimant.clone(), now, until: later(now, self.settings.lease) }
    }
}

struct Runner {
    shared: Arc<Shared>,
    sagas: Vec<Arc<dyn ErasedSaga>>,
    wake: watch::Receiver<()>,
    stopping: watch::Receiver<bool>,
    drives: JoinSet<()>,
}

impl Runner {
    async fn run(mut self) {
        let mut outage = Outage::new("the saga runner".to_owned());
        while !*self.stopping.borrow() {
            match self.claim().await {
                Ok(claimed) => {
                    outage.is_over();
                    let is_idle = claimed.is_empty();
                    claimed.into_iter().for_each(|saga| self.start(saga));
                    if is_idle {
                        self.rest().await;
                    }
                }
                Err(error) => outage.goes_on(&error).await,
            }
        }
        while self.drives.join_next().await.is_some() {}
    }

    async fn claim(&mut self) -> Result<Vec<Claimed>, DbError> {
        while self.drives.try_join_next().is_some() {}
        let free = self.shared.settings.concurrency.max(1).saturating_sub(self.drives.len());
        let Some(limit) = i64::try_from(free).ok().filter(|free| *free > 0) else { return Ok(Vec::new()) };
        let steps: BTreeMap<_, _> = self.sagas.iter().map(|saga| (saga.kind(), saga.step_names())).collect();
        let claim = self.shared.claim();
        let claimed = self.shared.db.write(move |conn| {
            let kinds: Vec<_> = steps.keys().copied().collect();
            let mut claimed = store::claim(conn, &kinds, &claim, limit)?;
            for saga in &mut claimed {
                let steps = steps.get(saga.kind.as_str()).copied().unwrap_or_default();
                begin_step(conn, saga, steps, &claim)?;
            }
            Ok::<_, DbError>(claimed)
        });
        claimed.await
    }

    fn start(&mut self, claimed: Claimed) {
        let Some(saga) = self.sagas.iter().find(|saga| saga.kind() == claimed.kind) else { return };
        let driver = Driver { shared: Arc::clone(&self.shared), saga: Arc::clone(saga) };
        self.drives.spawn(driver.drive(claimed));
    }

    /// Returns when there may be something to claim, and somebody to drive it.
    async fn rest(&mut self) {
        let is_full = self.drives.len() >= self.shared.settings.concurrency.max(1);
        tokio::select! {
            Some(_) = self.drives.join_next(), if is_full => {}
            _ = self.wake.changed(), if !is_full => {}
            _ = self.stopping.changed() => {}
            () = tokio::time::sleep(self.shared.settings.poll), if !is_full => {}
        }
    }
}
