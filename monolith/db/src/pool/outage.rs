//! A PostgreSQL server that stops, freezes and comes back under load.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use diesel::QueryableByName;
use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use pg_harness::{Cluster, Database, Mode};
use platform::settings::Secret;

use super::*;

/// The longest that an answer may take.
const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    db: Db,
    _database: Database,
    cluster: Cluster,
}

fn fixture() -> Fixture {
    let cluster = Cluster::durable().unwrap();
    let database = cluster.create_database().unwrap();
    let url = Secret::new(database.url());
    let settings = DatabaseSettings { url, statement_timeout_ms: 2000, ..DatabaseSettings::default() };
    let db = Db::open(&settings).unwrap();
    let table = "CREATE TABLE t (id BIGINT PRIMARY KEY)";
    db.write_blocking(|conn| Ok::<_, DbError>(conn.batch_execute(table)?)).unwrap();
    Fixture { db, _database: database, cluster }
}

/// What became of one write.
struct Answer {
    id: i64,
    began: Instant,
    took: Duration,
    outcome: Result<(), DbError>,
}

async fn add(db: &Db, id: i64) -> Answer {
    let began = Instant::now();
    let outcome = db.write(move |conn| {
        sql_query("INSERT INTO t VALUES ($1)").bind::<BigInt, _>(id).execute(conn)?;
        Ok(())
    });
    let outcome = outcome.await;
    Answer { id, began, took: began.elapsed(), outcome }
}

/// Clients that write one row after the other until told to stop; a refused one pauses as a client would.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Vec<Answer>>>,
}

impl Load {
    fn start(db: &Db) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |client: i64| {
            let (db, stop) = (db.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let id = client * 1_000_000 + i64::try_from(answers.len()).unwrap();
                    let answer = add(&db, id).await;
                    if answer.outcome.is_err() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    answers.push(answer);
                }
                answers
            })
        };
        Self { clients: (1..=64).map(client).collect(), stop }
    }

    async fn answers(self) -> Vec<Answer> {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for client in self.clients {
            answers.extend(client.await.unwrap());
        }
        answers
    }
}

impl Fixture {
    fn ids(&self) -> BTreeSet<i64> {
        #[derive(QueryableByName)]
        struct Id {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        let ids = self.db.read_blocking(|conn| Ok::<_, DbError>(sql_query("SELECT id FROM t").load(conn)?));
        ids.unwrap().into_iter().map(|row: Id| row.id).collect()
    }

    /// Every write that was acknowledged is there, every one that was not done is not.
    fn assert_books(&self, answers: &[Answer]) {
        let ids = self.ids();
        for answer in answers {
            match &answer.outcome {
                Ok(()) => assert!(ids.contains(&answer.id), "{} was lost", answer.id),
                Err(error) if error.unavailable("t").maybe_done => {}
                Err(error) => assert!(!ids.contains(&answer.id), "{} was done: {error}", answer.id),
            }
        }
    }
}

fn assert_prompt(answers: &[Answer]) {
    let slow = answers.iter().max_by_key(|answer| answer.took).unwrap();
    assert!(slow.took < SECOND, "{:?} for {:?}", slow.took, slow.outcome);
}

/// Half a second after the server was back, calls succeed and none is refused.
fn assert_recovered(answers: &[Answer], back: Instant) {
    let late = answers.iter().filter(|answer| answer.began > back + SECOND / 2);
    let (done, refused): (Vec<_>, Vec<_>) = late.partition(|answer| answer.outcome.is_ok());
    let refused: Vec<_> = refused.iter().map(|answer| &answer.outcome).collect();
    assert!(!done.is_empty() && refused.is_empty(), "{} done, refused: {refused:?}", done.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_costs_prompt_refusals_and_nothing_after_its_return() {
    let fixture = fixture();
    let load = Load::start(&fixture.db);
    tokio::time::sleep(SECOND).await;
    fixture.cluster.stop(Mode::Fast).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    fixture.cluster.start_again().unwrap();
    let back = Instant::now();
    tokio::time::sleep(SECOND).await;
    let answers = load.answers().await;
    assert_prompt(&answers);
    assert_recovered(&answers, back);
    fixture.assert_books(&answers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_costs_prompt_refusals_and_true_answers() {
    let fixture = fixture();
    let load = Load::start(&fixture.db);
    tokio::time::sleep(SECOND).await;
    fixture.cluster.freeze().unwrap();
    tokio::time::sleep(2 * SECOND).await;
    fixture.cluster.thaw().unwrap();
    let back = Instant::now();
    tokio::time::sleep(SECOND).await;
    let answers = load.answers().await;
    let silent =
        answers.iter().filter(|answer| matches!(answer.outcome, Err(DbError::Silent { .. }))).count();
    assert!((1..=16).contains(&silent), "{silent} calls hold a thread");
    assert_prompt(&answers);
    assert_recovered(&answers, back);
    fixture.assert_books(&answers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_two_calls_goes_unnoticed() {
    let fixture = fixture();
    let calls: Vec<_> = (1..=64).map(|id| add(&fixture.db, id)).collect();
    for call in calls {
        call.await.outcome.unwrap();
    }
    fixture.cluster.restart(Mode::Fast).unwrap();
    for id in 100..140 {
        add(&fixture.db, id).await.outcome.unwrap();
        let asked = fixture.db.read_one(|conn| Ok::<_, DbError>(sql_query("SELECT 1").execute(conn)?));
        asked.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_statement_is_waited_for_as_long_as_the_server_lives() {
    let fixture = fixture();
    let slow = |seconds: u32| {
        fixture.db.read(move |conn| {
            sql_query(format!("SELECT pg_sleep({seconds})")).execute(conn)?;
            Ok::<_, DbError>(())
        })
    };
    slow(1).await.unwrap();
    // Its own limit is another matter.
    assert!(matches!(slow(3).await, Err(DbError::Statement(_))));
}
