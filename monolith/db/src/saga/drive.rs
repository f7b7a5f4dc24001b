//! One saga on its way: step after step until it ends, pauses, or is lost to another runner.
//!
//! Invariant: one transaction between two steps. It says that the last one ended, keeps the state, and says that the next
//! one begins.

use std::sync::Arc;
use std::time::Duration;

use contracts::{CallContext, Timestamp};
use diesel::QueryResult;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;

use super::StepError;
use super::erased::{ErasedSaga, Way};
use super::progress::Next;
use super::runner::Shared;
use super::store::{self, Claim, Claimed, Entry, Line};
use crate::backoff::full_jitter;
use crate::fail_point::Passed;
use crate::outage::Outage;
use crate::{Conn, DbError};

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) saga: Arc<dyn ErasedSaga>,
}

/// A step that is about to run.
type Step = (Way, &'static str);

/// Writes down, in the transaction that claims the saga, which step begins; or that none is left.
pub(super) fn begin_step(
    conn: &mut Conn,
    claimed: &mut Claimed,
    steps: &'static [&'static str],
    claim: &Claim,
) -> QueryResult<()> {
    claimed.progress.end_if_over(steps);
    let lines: Vec<_> =
        claimed.progress.step(steps).into_iter().map(|step| line(step, STARTED, None)).collect();
    let written = lines.len();
    store::record(conn, claimed, &entry(lines, claim, claim.now), claim)?;
    claimed.grow_log(written);
    Ok(())
}

impl Driver {
    pub(super) async fn drive(self, claimed: Claimed) {
        let span = tracing::info_span!(
            "saga",
            kind = claimed.kind,
            key = claimed.key,
            saga_id = claimed.id,
            request_id = claimed.origin.request_id,
        );
        self.go(claimed).instrument(span).await;
    }

    async fn go(self, mut claimed: Claimed) {
        let mut step = claimed.progress.step(self.saga.step_names());
        while let Some(present) = step {
            let Some(ended) = self.step(&mut claimed, present).await else { return };
            let next = claimed.progress.advance(&ended, self.shared.settings.max_attempts);
            claimed.progress.end_if_over(self.saga.step_names());
            self.tell(&claimed, present, &ended);
            step = match next {
                Next::GoOn if !*self.shared.stopping.borrow() => {
                    claimed.progress.step(self.saga.step_names())
                }
                Next::GoOn | Next::Pause => None,
            };
            let mut lines = vec![line(present, outcome(&ended), ended.err().map(|error| error.to_string()))];
            lines.extend(step.map(|step| line(step, STARTED, None)));
            let pause = match next {
                Next::GoOn => Duration::ZERO,
                Next::Pause => self.pause(claimed.progress.attempts),
            };
            if !self.record(&mut claimed, lines, pause).await {
                return;
            }
        }
    }

    /// Runs the step in a task of its own, so that one that panics has failed, not the runner. None where a test ends it.
    async fn step(&self, claimed: &mut Claimed, (way, step): Step) -> Option<Result<(), StepError>> {
        self.pass(way, step, "before")?;
        let settings = &self.shared.settings;
        let deadline = settings.step_deadline.min(settings.lease / 2);
        let mut ctx = CallContext::new(claimed.origin.request_id.clone(), deadline);
        ctx.traceparent.clone_from(&claimed.origin.traceparent);
        let (saga, state) = (Arc::clone(&self.saga), claimed.state.clone());
        let run = async move { saga.go(way, step, &ctx, &state).await };
        let mut task = JoinSet::new();
        task.spawn(run.in_current_span());
        let (state, ended) = match timeout(deadline, task.join_next()).await {
            Ok(Some(Ok(ended))) => ended,
            Ok(_) => (None, retry("it panicked".to_owned())),
            Err(_) => (None, retry(format!("it did not end within {} ms", deadline.as_millis()))),
        };
        if let Some(state) = state {
            claimed.state = state;
        }
        self.pass(way, step, "after")?;
        Some(ended)
    }

    fn pass(&self, way: Way, step: &str, side: &str) -> Option<()> {
        let undo = match way {
            Way::Run => "",
            Way::Undo => "undo.",
        };
        let point = || format!("saga.{}.{step}.{undo}{side}", self.saga.kind());
        match self.shared.fail_points.pass(point) {
            Passed::On => Some(()),
            Passed::Stopped => None,
        }
    }

    fn pause(&self, attempts: u32) -> Duration {
        full_jitter(self.shared.settings.backoff_min, self.shared.settings.backoff_max, attempts)
    }

    /// Writes down how far the saga is, for as long as the database is away. False if it is not ours any more.
    async fn record(&self, claimed: &mut Claimed, lines: Vec<Line>, pause: Duration) -> bool {
        let mut outage = Outage::new(format!("saga {}", claimed.id));
        let written = lines.len();
        loop {
            let claim = self.shared.claim();
            let entry = entry(lines.clone(), &claim, later(claim.now, pause));
            let saga = claimed.clone();
            let recorded = self
                .shared
                .db
                .write(move |conn| Ok::<_, DbError>(store::record(conn, &saga, &entry, &claim)?));
            match recorded.await {
                Ok(is_ours) => {
                    outage.is_over();
                    claimed.grow_log(written);
                    return is_ours;
                }
                Err(_) if *self.shared.stopping.borrow() => return false,
                Err(error) => outage.goes_on(&error).await,
            }
        }
    }

    fn tell(&self, claimed: &Claimed, (way, step): Step, ended: &Result<(), StepError>) {
        let Err(error) = ended else { return };
        let (attempts, way, kind) = (claimed.progress.attempts, way.name(), self.saga.kind());
        let error = error.to_string();
        tracing::info!(attempts, way, step, error, "saga {kind} {}: {way} {step} failed", claimed.key);
    }
}

/// With a step begun the saga stays with its runner, else it is anybody's from `due_at` on.
fn entry(lines: Vec<Line>, claim: &Claim, due_at: Timestamp) -> Entry {
    match lines.last() {
        Some(line) if line.outcome == STARTED => {
            Entry { due_at: claim.until, claimed_by: Some(claim.claimant.clone()), lines }
        }
        _ => Entry { due_at, claimed_by: None, lines },
    }
}

/// The instant that long after another.
pub(super) fn later(now: Timestamp, pause: Duration) -> Timestamp {
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_add(pause))
}

const STARTED: &str = "started";

fn line((way, step): Step, outcome: &'static str, note: Option<String>) -> Line {
    Line { step, way, outcome, note }
}

fn outcome(ended: &Result<(), StepError>) -> &'static str {
    match ended {
        Ok(()) => "done",
        Err(StepError::Refused { .. }) => "refused",
        Err(StepError::Retry { .. }) => "retry",
    }
}

fn retry(reason: String) -> Result<(), StepError> {
    Err(StepError::Retry { reason })
}
