//! The tests that every saga has, over the real runner.
//!
//! Invariant: each case has a world of its own, made by the test's own closure, with one saga waiting in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use contracts::{CallContext, SystemClock};
use diesel::{ExpressionMethods, QueryDsl, RunQueryDsl};

use super::operator::{self, SagaFilter, SagaView};
use super::runner::{SagaHandle, SagaRunner, SagaSettings};
use super::store::banyan_sagas;
use super::{Phase, Saga, StepError};
use crate::fail_point::FailPoints;
use crate::{Db, DbError};

/// A world in which exactly one saga of kind `S` waits, begun by the business command that begins it or by
/// [`begin`](super::begin).
pub struct Fresh<S, W> {
    /// Where the saga waits.
    pub db: Db,
    /// What runs it.
    pub saga: S,
    /// What the checks look at, and what must live as long as the saga.
    pub world: W,
}

/// Refuses every step in turn, once before it does anything and once after it has done everything, and sees the saga undone
/// and `is_clean` (which panics where it is not).
pub async fn failing_every_step_ends_with_a_clean_slate<S: Saga, W>(
    make: impl AsyncFn() -> Fresh<S, W>,
    is_clean: impl AsyncFn(&W),
) {
    for step in steps_to_run(&make).await {
        for twist in [Twist::FailBefore(step), Twist::FailAfter(step)] {
            let world = ends(make().await, twist, Phase::Undone).await;
            is_clean(&world).await;
        }
    }
}

/// Does every step twice, then undoes every step twice; both must end as if once.
pub async fn running_every_step_twice_is_the_same_as_once<S: Saga, W>(
    make: impl AsyncFn() -> Fresh<S, W>,
    is_done: impl AsyncFn(&W),
    is_clean: impl AsyncFn(&W),
) {
    let world = ends(make().await, Twist::Twice { fail_after: None }, Phase::Done).await;
    is_done(&world).await;
    let last = steps_to_run(&make).await.last().copied();
    let world = ends(make().await, Twist::Twice { fail_after: last }, Phase::Undone).await;
    is_clean(&world).await;
}

/// Ends the runner, as a crash would, before and after every step and every undoing of one; another runner must bring the
/// saga to the same end.
pub async fn stopping_after_every_step_resumes<S: Saga, W>(
    make: impl AsyncFn() -> Fresh<S, W>,
    is_done: impl AsyncFn(&W),
    is_clean: impl AsyncFn(&W),
) {
    let steps = steps_to_run(&make).await;
    let Some(last) = steps.last().copied() else { return };
    for step in &steps {
        for side in ["before", "after"] {
            let point = format!("saga.{}.{step}.{side}", S::KIND);
            let world = resumes(make().await, Twist::None, &point, Phase::Done).await;
            is_done(&world).await;
            let point = format!("saga.{}.{step}.undo.{side}", S::KIND);
            let world = resumes(make().await, Twist::FailAfter(last), &point, Phase::Undone).await;
            is_clean(&world).await;
        }
    }
}

/// The steps that are left to do when the saga has just begun.
async fn steps_to_run<S: Saga, W>(make: &impl AsyncFn() -> Fresh<S, W>) -> Vec<&'static str> {
    let fresh = make().await;
    let done = usize::try_from(view::<S>(&fresh.db).await.position).unwrap_or_default();
    fresh.saga.steps().iter().skip(done).copied().collect()
}

async fn ends<S: Saga, W>(fresh: Fresh<S, W>, twist: Twist, end: Phase) -> W {
    let saga = Arc::new(Twisted { saga: fresh.saga, twist });
    let runner = start(&fresh.db, &saga, Arc::new(FailPoints::none()));
    wait_for_end::<S>(&fresh.db, end, twist).await;
    runner.stop().await;
    fresh.world
}

async fn resumes<S: Saga, W>(fresh: Fresh<S, W>, twist: Twist, point: &str, end: Phase) -> W {
    let saga = Arc::new(Twisted { saga: fresh.saga, twist });
    let points = Arc::new(FailPoints::stop_at(point));
    let runner = start(&fresh.db, &saga, Arc::clone(&points));
    until(point, async || points.is_reached().then_some(())).await;
    let dead = view::<S>(&fresh.db).await.claimed_by;
    drop(runner);
    let runner = start(&fresh.db, &saga, Arc::new(FailPoints::none()));
    // Again and again: a claim that the dead runner had sent to its database may come through after its end.
    let what = format!("the lease of {dead:?} to end");
    until(&what, async || {
        end_leases(&fresh.db, dead.clone()).await;
        let now = view::<S>(&fresh.db).await;
        (now.phase.is_end() || now.claimed_by.is_some_and(|claimant| Some(claimant) != dead)).then_some(())
    })
    .await;
    wait_for_end::<S>(&fresh.db, end, twist).await;
    runner.stop().await;
    fresh.world
}

fn start<S: Saga>(db: &Db, saga: &Arc<Twisted<S>>, fail_points: Arc<FailPoints>) -> SagaHandle {
    let settings = SagaSettings {
        poll: Duration::from_millis(5),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        ..SagaSettings::default()
    };
    let saga: Arc<dyn super::ErasedSaga> = Arc::<Twisted<S>>::clone(saga);
    SagaRunner::spawn_with(db.clone(), vec![saga], Arc::new(SystemClock), settings, fail_points)
}

async fn wait_for_end<S: Saga>(db: &Db, end: Phase, twist: Twist) {
    let what = format!("{} with {twist:?} to end", S::KIND);
    let phase = until(&what, async || Some(view::<S>(db).await.phase).filter(|phase| phase.is_end())).await;
    assert_eq!(phase, end, "{} with {twist:?}: {:?}", S::KIND, view::<S>(db).await);
}

async fn view<S: Saga>(db: &Db) -> SagaView {
    let filter = SagaFilter { kind: Some(S::KIND.to_owned()), limit: 2, ..SagaFilter::default() };
    let found = db.read(move |conn| operator::list(conn, &filter)).await;
    let mut found = match found {
        Ok(found) => found,
        Err(error) => panic!("the sagas cannot be read: {error}"),
    };
    assert_eq!(found.len(), 1, "a fresh world holds exactly one saga of kind {}", S::KIND);
    found.remove(0)
}

/// As if the leases of a runner that died had ended.
async fn end_leases(db: &Db, dead: Option<String>) {
    let ended = db.write(move |conn| {
        let its = banyan_sagas::table.filter(banyan_sagas::claimed_by.eq(dead));
        Ok::<_, DbError>(diesel::update(its).set(banyan_sagas::due_at_ms.eq(0)).execute(conn)?)
    });
    if let Err(error) = ended.await {
        panic!("the leases cannot be ended: {error}");
    }
}

async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How a case differs from the saga as it is.
#[derive(Debug, Clone, Copy)]
enum Twist {
    None,
    FailBefore(&'static str),
    FailAfter(&'static str),
    Twice { fail_after: Option<&'static str> },
}

struct Twisted<S> {
    saga: S,
    twist: Twist,
}

fn refuse() -> Result<(), StepError> {
    Err(StepError::Refused { reason: "the test refuses this step".to_owned() })
}

#[async_trait]
impl<S: Saga> Saga for Twisted<S> {
    const KIND: &'static str = S::KIND;
    type State = S::State;

    fn steps(&self) -> &'static [&'static str] {
        self.saga.steps()
    }

    async fn run(&self, step: &str, ctx: &CallContext, state: &mut S::State) -> Result<(), StepError> {
        if matches!(self.twist, Twist::FailBefore(chosen) if chosen == step) {
            return refuse();
        }
        self.saga.run(step, ctx, state).await?;
        match self.twist {
            Twist::FailAfter(chosen) if chosen == step => refuse(),
            Twist::Twice { fail_after } => {
                self.saga.run(step, ctx, state).await?;
                if fail_after == Some(step) { refuse() } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    async fn undo(&self, step: &str, ctx: &CallContext, state: &mut S::State) -> Result<(), StepError> {
        self.saga.undo(step, ctx, state).await?;
        match self.twist {
            Twist::Twice { .. } => self.saga.undo(step, ctx, state).await,
            _ => Ok(()),
        }
    }
}
