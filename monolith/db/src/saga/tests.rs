//! The runner, on both databases, with a saga over a table of its own: each step puts a twig into a nest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use contracts::{Clock, SystemClock, Timestamp};
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use serde::Deserialize;

use super::testing::{
    Fresh, failing_every_step_ends_with_a_clean_slate, running_every_step_twice_is_the_same_as_once,
    stopping_after_every_step_resumes,
};
use super::*;
use crate::events::{OperatorError, Origin};
use crate::testing::{Scratch, scratch};
use crate::{Backend, Db, DbError, on_both};

on_both!(fixture => [
    failing_every_step_in_turn_leaves_a_clean_slate,
    every_step_may_run_twice,
    a_runner_that_dies_anywhere_is_resumed,
    a_step_that_fails_too_often_turns_the_saga_back,
    undoing_is_tried_for_ever,
    a_step_that_panics_or_hangs_has_failed,
    a_saga_begun_wakes_the_runner,
    a_key_begins_one_saga,
    two_runners_never_have_the_same_saga,
    a_stopped_runner_gives_its_sagas_back,
    an_operator_shortens_the_pause_and_is_refused_what_ended,
    only_old_sagas_that_ended_are_purged,
]);

const STEPS: &[&str] = &["find_tree", "gather", "weave"];

fn fixture(backend: Backend) -> World {
    let db = scratch(backend, &[SCHEMA]);
    db.write_blocking(|conn| {
        conn.batch_execute("CREATE TABLE twigs (step TEXT PRIMARY KEY)")?;
        Ok::<_, DbError>(())
    })
    .unwrap();
    World { db, backend }
}

struct World {
    db: Scratch,
    backend: Backend,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    gathered: u32,
}

type Mood = dyn Fn(&str) -> Result<(), StepError> + Send + Sync;

/// Builds a nest; `fails` answers for a step before it does anything.
struct Nest {
    db: Db,
    fails: Box<Mood>,
    hangs_at: Option<&'static str>,
}

impl Nest {
    fn new(db: &Db) -> Self {
        Self { db: db.clone(), fails: Box::new(|_| Ok(())), hangs_at: None }
    }

    fn failing(db: &Db, fails: impl Fn(&str) -> Result<(), StepError> + Send + Sync + 'static) -> Self {
        Self { db: db.clone(), fails: Box::new(fails), hangs_at: None }
    }

    async fn sql(&self, statement: &'static str, step: &str) -> Result<(), StepError> {
        let step = step.to_owned();
        let done = self.db.write(move |conn| {
            sql_query(statement).bind::<Text, _>(step).execute(conn)?;
            Ok::<_, DbError>(())
        });
        Ok(done.await.map_err(|error| error.unavailable("nests"))?)
    }
}

#[async_trait]
impl Saga for Nest {
    const KIND: &'static str = "nest";
    type State = State;

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    async fn run(&self, step: &str, _: &CallContext, state: &mut State) -> Result<(), StepError> {
        (self.fails)(step)?;
        if self.hangs_at == Some(step) {
            std::future::pending::<()>().await;
        }
        state.gathered += 1;
        self.sql("INSERT INTO twigs (step) VALUES ($1) ON CONFLICT DO NOTHING", step).await
    }

    async fn undo(&self, step: &str, _: &CallContext, _: &mut State) -> Result<(), StepError> {
        (self.fails)(&format!("undo {step}"))?;
        self.sql("DELETE FROM twigs WHERE step = $1", step).await
    }
}

impl World {
    async fn begin(&self, key: &'static str) -> Result<(), DbError> {
        begin_one(&self.db, key).await
    }

    fn start(&self, nest: Nest) -> SagaHandle {
        self.start_with(nest, settings())
    }

    fn start_with(&self, nest: Nest, settings: SagaSettings) -> SagaHandle {
        SagaRunner::spawn(self.db.clone(), vec![Arc::new(nest)], Arc::new(SystemClock), settings)
    }

    async fn saga(&self, key: &'static str) -> SagaView {
        self.db.read(move |conn| find(conn, "nest", key)).await.unwrap().unwrap()
    }

    async fn ended(&self, key: &'static str) -> SagaView {
        self.until(async || Some(self.saga(key).await).filter(|saga| saga.phase.is_end())).await
    }

    async fn until<T>(&self, ask: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited for 30 s");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn begin_one(db: &Db, key: &'static str) -> Result<(), DbError> {
    let origin = Origin { request_id: "r".to_owned(), traceparent: None };
    db.write(move |conn| begin(conn, "nest", key, &State::default(), 0, &origin, SystemClock.now())).await
}

fn settings() -> SagaSettings {
    SagaSettings {
        poll: Duration::from_millis(5),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        max_attempts: 3,
        ..SagaSettings::default()
    }
}

fn no(reason: &str) -> Result<(), StepError> {
    Err(StepError::Retry { reason: reason.to_owned() })
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

async fn twigs(db: &Db) -> i64 {
    let counted = db.read(|conn| {
        Ok::<_, DbError>(sql_query("SELECT count(*) AS count FROM twigs").get_result::<Count>(conn)?)
    });
    counted.await.unwrap().count
}

async fn fresh(backend: Backend) -> Fresh<Nest, Scratch> {
    let World { db, .. } = fixture(backend);
    begin_one(&db, "1").await.unwrap();
    Fresh { db: db.clone(), saga: Nest::new(&db), world: db }
}

async fn is_done(db: &Scratch) {
    assert_eq!(twigs(db).await, 3);
}

async fn is_clean(db: &Scratch) {
    assert_eq!(twigs(db).await, 0);
}

async fn failing_every_step_in_turn_leaves_a_clean_slate(world: World) {
    failing_every_step_ends_with_a_clean_slate(async || fresh(world.backend).await, is_clean).await;
}

async fn every_step_may_run_twice(world: World) {
    running_every_step_twice_is_the_same_as_once(async || fresh(world.backend).await, is_done, is_clean)
        .await;
}

async fn a_runner_that_dies_anywhere_is_resumed(world: World) {
    stopping_after_every_step_resumes(async || fresh(world.backend).await, is_done, is_clean).await;
}

async fn a_step_that_fails_too_often_turns_the_saga_back(world: World) {
    world.begin("1").await.unwrap();
    let _runner = world.start(Nest::failing(&world.db, |step| match step {
        "weave" => no("it rains"),
        _ => Ok(()),
    }));
    let saga = world.ended("1").await;
    assert_eq!((saga.phase, twigs(&world.db).await), (Phase::Undone, 0));
    assert_eq!(saga.reason.as_deref(), Some("given up after 3 attempts: it rains"));
    assert_eq!(saga.state, serde_json::json!({ "gathered": 2 }));
    let log = world.db.read(move |conn| show(conn, saga.id)).await.unwrap().1;
    let told: Vec<_> =
        log.iter().map(|line| format!("{} {} {}", line.way, line.step, line.outcome)).collect();
    assert_eq!(
        told,
        [
            "run find_tree started",
            "run find_tree done",
            "run gather started",
            "run gather done",
            "run weave started",
            "run weave retry",
            "run weave started",
            "run weave retry",
            "run weave started",
            "run weave retry",
            "undo weave started",
            "undo weave done",
            "undo gather started",
            "undo gather done",
            "undo find_tree started",
            "undo find_tree done",
        ]
    );
}

async fn undoing_is_tried_for_ever(world: World) {
    world.begin("1").await.unwrap();
    let attempts = AtomicU32::new(0);
    let _runner = world.start(Nest::failing(&world.db, move |step| match step {
        "weave" => Err(StepError::Refused { reason: "no".to_owned() }),
        "undo gather" if attempts.fetch_add(1, Ordering::Relaxed) < 20 => no("stuck"),
        _ => Ok(()),
    }));
    assert_eq!(world.ended("1").await.phase, Phase::Undone);
    assert_eq!(twigs(&world.db).await, 0);
}

async fn a_step_that_panics_or_hangs_has_failed(world: World) {
    world.begin("1").await.unwrap();
    let attempts = AtomicU32::new(0);
    let nest = Nest::failing(&world.db, move |_| match attempts.fetch_add(1, Ordering::Relaxed) {
        0 => panic!("the test panics here"),
        _ => Ok(()),
    });
    let runner = world.start(nest);
    assert_eq!(world.ended("1").await.phase, Phase::Done);
    runner.stop().await;

    world.begin("2").await.unwrap();
    let hasty = SagaSettings { step_deadline: Duration::from_millis(100), ..settings() };
    let _runner = world.start_with(Nest { hangs_at: Some("gather"), ..Nest::new(&world.db) }, hasty);
    let reason = world.ended("2").await.reason.unwrap();
    assert_eq!(reason, "given up after 3 attempts: it did not end within 100 ms");
}

async fn a_saga_begun_wakes_the_runner(world: World) {
    let _runner = world
        .start_with(Nest::new(&world.db), SagaSettings { poll: Duration::from_secs(3600), ..settings() });
    world.begin("1").await.unwrap();
    assert_eq!(world.ended("1").await.phase, Phase::Done);
}

async fn a_key_begins_one_saga(world: World) {
    world.begin("1").await.unwrap();
    assert!(world.begin("1").await.is_err());
}

async fn two_runners_never_have_the_same_saga(world: World) {
    const KEYS: [&str; 20] = [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17",
        "18", "19",
    ];
    let other = Db::open(world.db.settings()).unwrap();
    for key in KEYS {
        world.begin(key).await.unwrap();
    }
    let runs = Arc::new(AtomicU32::new(0));
    let counting = || {
        let runs = Arc::clone(&runs);
        Nest::failing(&world.db, move |_| {
            runs.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    };
    let _one = world.start(counting());
    let _two = SagaRunner::spawn(other, vec![Arc::new(counting())], Arc::new(SystemClock), settings());
    for key in KEYS {
        assert_eq!(world.ended(key).await.phase, Phase::Done);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 60);
}

async fn a_stopped_runner_gives_its_sagas_back(world: World) {
    world.begin("1").await.unwrap();
    let runner = world.start(Nest::failing(&world.db, |step| match step {
        "gather" => no("later"),
        _ => Ok(()),
    }));
    world.until(async || world.saga("1").await.last_error).await;
    runner.stop().await;
    assert_eq!(world.saga("1").await.claimed_by, None);
    let _runner = world.start(Nest::new(&world.db));
    assert!(world.ended("1").await.phase.is_end());
}

async fn an_operator_shortens_the_pause_and_is_refused_what_ended(world: World) {
    let now = SystemClock.now();
    world.begin("1").await.unwrap();
    let slow = SagaSettings {
        backoff_min: Duration::from_secs(3600),
        backoff_max: Duration::from_secs(3600),
        ..settings()
    };
    let attempts = AtomicU32::new(0);
    let nest = Nest::failing(&world.db, move |_| match attempts.fetch_add(1, Ordering::Relaxed) {
        0 => no("later"),
        _ => Ok(()),
    });
    let _runner = world.start_with(nest, slow);
    let id = world.until(async || Some(world.saga("1").await).filter(|saga| saga.attempts == 1)).await.id;
    let retried = world.db.write(move |conn| retry(conn, id, now)).await.unwrap();
    assert_eq!(retried.attempts, 0);
    assert_eq!(world.ended("1").await.phase, Phase::Done);
    let refused = world.db.write(move |conn| retry(conn, id, now)).await;
    assert!(matches!(refused, Err(OperatorError::Ended { state: "done", .. })));
    let unknown = world.db.write(move |conn| retry(conn, id + 1, now)).await;
    assert!(matches!(unknown, Err(OperatorError::Unknown { .. })));
    let listed = SagaFilter { phase: Some(Phase::Done), limit: 10, ..SagaFilter::default() };
    assert_eq!(world.db.read(move |conn| list(conn, &listed)).await.unwrap().len(), 1);
    assert_eq!(world.db.read(counts).await.unwrap(), [], "what has ended is not counted");
    world.begin("2").await.unwrap();
    let counted = world.db.read(counts).await.unwrap();
    assert_eq!(counted, [SagaCount { kind: "nest".to_owned(), phase: Phase::Running, count: 1 }]);
}

async fn only_old_sagas_that_ended_are_purged(world: World) {
    world.begin("1").await.unwrap();
    let runner = world.start(Nest::new(&world.db));
    world.ended("1").await;
    runner.stop().await;
    world.begin("2").await.unwrap();
    assert_eq!(purge(&world.db, Timestamp::from_millis(0)).await.unwrap(), 0);
    assert_eq!(purge(&world.db, Timestamp::from_millis(i64::MAX)).await.unwrap(), 1);
    assert_eq!(world.saga("2").await.phase, Phase::Running);
}
