//! One consumer's part of the relay: claim, deliver, settle, and rest when nothing is due.
//!
//! Invariant: what became of a delivery is written down before anything else is claimed. If that fails it is kept and
//! tried again, for as long as the database is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contracts::events::{EventBus, HandleError};
use contracts::{CallContext, Clock, Timestamp, Unavailable};
use platform::error::chain;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, interval_at, timeout};
use tracing::Instrument;

use super::claims::{self, Outcome};
use super::{Counts, RelaySettings};
use crate::backoff::full_jitter;
use crate::events::tables::Row;
use crate::fail_point::{FailPoints, Passed};
use crate::outage::Outage;
use crate::{Db, DbError};

/// Longest text of an error that is kept with its row.
const ERROR_MAX: usize = 1000;

pub(super) struct Lane {
    pub(super) db: Db,
    pub(super) bus: Arc<dyn EventBus>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: RelaySettings,
    pub(super) consumer: &'static str,
    pub(super) claimant: String,
    pub(super) fail_points: Arc<FailPoints>,
    pub(super) counts: Arc<Counts>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) wake: watch::Receiver<()>,
    /// The last aggregate that was claimed. The next claim goes on behind it, so a flood of events of some aggregates
    /// does not keep others waiting for ever.
    pub(super) after: String,
}

impl Lane {
    pub(super) async fn run(mut self) {
        let mut outcomes = Arc::new(Vec::new());
        let mut outage = Outage::new(format!("the relay for {}", self.consumer));
        loop {
            match self.turn(Arc::clone(&outcomes)).await {
                Ok(claimed) => {
                    outage.is_over();
                    if self.fail_points.pass(|| "relay.settled".to_owned()) == Passed::Stopped {
                        return;
                    }
                    outcomes = Arc::new(self.deliver(claimed).await);
                }
                Err(_) if self.is_stopping() => return,
                Err(error) => {
                    outage.goes_on(&error).await;
                    continue;
                }
            }
            if !outcomes.is_empty() {
                continue;
            }
            if self.is_stopping() {
                return;
            }
            self.rest().await;
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Settles what was delivered and claims what is next, in one transaction.
    async fn turn(&mut self, outcomes: Arc<Vec<Outcome>>) -> Result<Vec<Row>, DbError> {
        let (consumer, claimant, now) = (self.consumer, self.claimant.clone(), self.clock.now());
        let limit = if self.is_stopping() { 0 } else { self.settings.batch };
        let (after, until) = (self.after.clone(), self.lease_end());
        let (rows, after) = self
            .db
            .write(move |conn| {
                claims::settle(conn, &outcomes, &claimant, now)?;
                let mut heads = claims::heads(conn, consumer, &after, now, limit)?;
                if heads.is_empty() && !after.is_empty() {
                    heads = claims::heads(conn, consumer, "", now, limit)?;
                }
                let rows = claims::claim(conn, &heads, &claimant, now, until)?;
                let is_full = u32::try_from(heads.len()).is_ok_and(|found| found == limit);
                let last = heads.pop().filter(|_| is_full).map(|head| head.aggregate);
                Ok::<_, DbError>((rows, last.unwrap_or_default()))
            })
            .await?;
        self.after = after;
        Ok(rows)
    }

    fn lease_end(&self) -> Timestamp {
        let lease = i64::try_from(self.settings.lease.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.clock.now().as_millis().saturating_add(lease))
    }

    /// Returns when something may be due. Looks with a reader, since each event wakes every consumer's lane and most
    /// of them for nothing.
    async fn rest(&mut self) {
        loop {
            tokio::select! {
                _ = self.wake.changed() => {}
                _ = self.stopping.changed() => return,
                () = tokio::time::sleep(self.settings.poll) => {}
            }
            let (consumer, now) = (self.consumer, self.clock.now());
            let heads =
                self.db.read_one(move |conn| Ok::<_, DbError>(claims::heads(conn, consumer, "", now, 1)?));
            match heads.await {
                Ok(heads) if heads.is_empty() => {}
                _ => return,
            }
        }
    }

    /// Delivers a batch, some at a time, and keeps the lease of all of it until the last one has ended.
    async fn deliver(&self, claimed: Vec<Row>) -> Vec<Outcome> {
        let ids: Arc<[i64]> = claimed.iter().map(|row| row.id).collect();
        let (mut outcomes, mut waiting) = (Vec::with_capacity(claimed.len()), claimed.into_iter());
        let (mut deliveries, mut under_way) = (JoinSet::new(), HashMap::new());
        let period = self.settings.lease / 3;
        let mut renewal = interval_at(Instant::now() + period, period);
        loop {
            while deliveries.len() < self.settings.concurrency.max(1) && !self.is_stopping() {
                let Some(row) = waiting.next() else { break };
                let (id, attempts) = (row.id, row.attempts);
                under_way.insert(deliveries.spawn(self.delivery(row)).id(), (id, attempts));
            }
            tokio::select! {
                ended = deliveries.join_next_with_id() => {
                    let Some(ended) = ended else { break };
                    outcomes.extend(self.outcome(ended, &mut under_way));
                }
                _ = renewal.tick() => self.renew(Arc::clone(&ids)).await,
            }
        }
        outcomes.extend(waiting.map(|row| Outcome::Untouched(row.id)));
        outcomes
    }

    /// One delivery, in a task of its own: a handler that panics fails alone.
    fn delivery(&self, row: Row) -> impl Future<Output = Result<(), HandleError>> + Send + 'static {
        let (bus, consumer, deadline) = (Arc::clone(&self.bus), self.consumer, self.settings.deadline);
        let fail_points = Arc::clone(&self.fail_points);
        let event = row.envelope();
        let span = tracing::info_span!(
            "event",
            consumer,
            kind = event.kind,
            event_id = event.id,
            aggregate = event.aggregate,
            request_id = event.request_id,
            attempt = row.attempts,
        );
        let handled = async move {
            let _ = fail_points.pass(|| "relay.before_handle".to_owned());
            let mut ctx = CallContext::new(event.request_id.clone(), deadline);
            ctx.traceparent.clone_from(&event.traceparent);
            let taken = timeout(deadline, bus.deliver(&ctx, consumer, &event)).await.unwrap_or_else(|_| {
                let reason = format!("it did not take the event within {} ms", deadline.as_millis());
                Err(Unavailable { context: consumer.to_owned(), reason, maybe_done: true }.into())
            });
            let _ = fail_points.pass(|| "relay.after_handle".to_owned());
            taken
        };
        handled.instrument(span)
    }

    fn outcome(
        &self,
        ended: Result<(Id, Result<(), HandleError>), JoinError>,
        under_way: &mut HashMap<Id, (i64, i32)>,
    ) -> Option<Outcome> {
        let (task, taken) = match ended {
            Ok((task, taken)) => (task, taken),
            Err(stopped) => {
                let reason = "its handler panicked".to_owned();
                let context = self.consumer.to_owned();
                (stopped.id(), Err(Unavailable { context, reason, maybe_done: true }.into()))
            }
        };
        let (id, attempts) = under_way.remove(&task)?;
        let Err(error) = taken else {
            self.counts.delivered.fetch_add(1, Ordering::Relaxed);
            return Some(Outcome::Handled(id));
        };
        let attempts = u32::try_from(attempts).unwrap_or_default().saturating_add(1);
        Some(self.failure(id, attempts, &error))
    }

    fn failure(&self, id: i64, attempts: u32, error: &HandleError) -> Outcome {
        let consumer = self.consumer;
        let is_final =
            matches!(error, HandleError::Rejected { .. }) || attempts >= self.settings.max_attempts;
        let mut error = chain(error);
        error.truncate(error.floor_char_boundary(ERROR_MAX));
        if is_final {
            self.counts.dead.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                id,
                consumer,
                attempts,
                error,
                "event {id} is given up; see `monolith events show {id}`"
            );
            return Outcome::Dead { id, error };
        }
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(id, consumer, attempts, error, "event {id} was not taken and is tried again");
        let pause = full_jitter(self.settings.backoff_min, self.settings.backoff_max, attempts);
        Outcome::Failed { id, error, pause }
    }

    async fn renew(&self, ids: Arc<[i64]>) {
        let (claimant, until) = (self.claimant.clone(), self.lease_end());
        let renewed =
            self.db.write(move |conn| Ok::<_, DbError>(claims::renew(conn, &ids, &claimant, until)?));
        // Where the database is away the next renewal or the settling will say so; a lease that ends costs a repeat.
        let renewed = tokio::time::timeout(Duration::from_secs(1), renewed).await;
        if !matches!(renewed, Ok(Ok(()))) {
            tracing::debug!(consumer = self.consumer, "a lease could not be renewed");
        }
    }
}
