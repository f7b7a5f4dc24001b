//! Connections and transactions on both databases, and the ways in which a file can be unusable.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, QueryableByName};

use super::*;
use crate::on_both;
use crate::testing::{Scratch, scratch};

on_both!(with_table => [
    a_read_cannot_write,
    a_read_of_one_statement_cannot_write,
    failed_work_leaves_nothing_behind,
    a_panic_leaves_nothing_behind_and_its_connection_is_replaced,
    a_read_sees_one_snapshot,
    a_swallowed_violation_is_never_reported_as_committed,
    a_nested_transaction_fails_alone,
    more_callers_than_connections_all_get_their_turn,
    what_the_caller_stops_waiting_for_is_still_done,
    two_writers_of_one_row_lose_no_update,
    rows_are_found_by_a_list_of_keys,
    the_database_is_found_healthy,
]);

fn with_table(backend: Backend) -> Scratch {
    let db = scratch(backend, &[]);
    db.write_blocking(|conn| {
        conn.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)")?;
        add(conn, 1)
    })
    .unwrap();
    db
}

diesel::table! {
    t (id) {
        id -> BigInt,
        n -> BigInt,
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

fn add(conn: &mut Conn, id: i64) -> Result<(), DbError> {
    sql_query("INSERT INTO t VALUES ($1, 0)").bind::<BigInt, _>(id).execute(conn)?;
    Ok(())
}

fn count(conn: &mut Conn) -> Result<i64, DbError> {
    let rows: Number = sql_query("SELECT count(*) AS n FROM t").get_result(conn)?;
    Ok(rows.n)
}

async fn a_read_cannot_write(db: Scratch) {
    let written = db.read(|conn| add(conn, 2)).await;
    assert!(matches!(written, Err(DbError::Statement(_))), "{written:?}");
}

async fn a_read_of_one_statement_cannot_write(db: Scratch) {
    let written = db.read_one(|conn| add(conn, 2)).await;
    assert!(matches!(written, Err(DbError::Statement(_))), "{written:?}");
    assert_eq!(db.read_one(count).await.unwrap(), 1);
}

async fn failed_work_leaves_nothing_behind(db: Scratch) {
    let failed = db.write(|conn| {
        add(conn, 2)?;
        Err::<(), _>(DbError::Stopping)
    });
    assert!(matches!(failed.await, Err(DbError::Stopping)));
    assert_eq!(db.read(count).await.unwrap(), 1);
}

async fn a_panic_leaves_nothing_behind_and_its_connection_is_replaced(db: Scratch) {
    for _ in 0..8 {
        let inner = db.clone();
        let work = async move { inner.write(|conn| add(conn, 2).map(|()| panic!("on purpose"))).await };
        let panicked: Result<Result<(), DbError>, _> = tokio::spawn(work).await;
        assert!(panicked.unwrap_err().is_panic());
    }
    db.write(|conn| add(conn, 2)).await.unwrap();
}

async fn a_read_sees_one_snapshot(db: Scratch) {
    let other = db.clone();
    let counts = db.read(move |conn| {
        let before = count(conn)?;
        other.write_blocking(|conn| add(conn, 2))?;
        Ok::<_, DbError>((before, count(conn)?))
    });
    assert_eq!(counts.await.unwrap(), (1, 1));
    assert_eq!(db.read(count).await.unwrap(), 2);
}

/// PostgreSQL rolls such a transaction back and answers its COMMIT without an error; SQLite goes on.
async fn a_swallowed_violation_is_never_reported_as_committed(db: Scratch) {
    let written = db.write(|conn| {
        add(conn, 2)?;
        Ok::<_, DbError>(add(conn, 1).is_err())
    });
    let written = written.await;
    let rows = db.read(count).await.unwrap();
    match db.backend() {
        Backend::Sqlite => assert_eq!((written.unwrap(), rows), (true, 2)),
        Backend::Postgres => {
            assert!(matches!(written, Err(DbError::Statement(_))), "{written:?}");
            assert_eq!(rows, 1);
        }
    }
}

async fn a_nested_transaction_fails_alone(db: Scratch) {
    let written = db.write(|conn| {
        add(conn, 2)?;
        let nested = conn.transaction(|conn| add(conn, 1));
        assert!(nested.is_err());
        add(conn, 3)
    });
    written.await.unwrap();
    assert_eq!(db.read(count).await.unwrap(), 3);
}

async fn more_callers_than_connections_all_get_their_turn(db: Scratch) {
    let calls: Vec<_> = (2..102)
        .map(|id| {
            let db = db.clone();
            tokio::spawn(async move { db.write(move |conn| add(conn, id)).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(db.read(count).await.unwrap(), 101);
    assert!(db.usage().iter().all(|usage| usage.open <= usage.limit));
}

async fn what_the_caller_stops_waiting_for_is_still_done(db: Scratch) {
    let (began, begun) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel();
    let inner = db.clone();
    let call = tokio::spawn(async move {
        let work = move |conn: &mut Conn| {
            began.send(()).unwrap();
            gone.recv().unwrap();
            add(conn, 2)
        };
        inner.write(work).await
    });
    tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    go.send(()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while db.read(count).await.unwrap() == 1 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

async fn two_writers_of_one_row_lose_no_update(db: Scratch) {
    use diesel::{ExpressionMethods, QueryDsl};
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let work = |conn: &mut Conn| {
                    let n: i64 = crate::for_update!(conn, t::table.find(1).select(t::n), get_result)?;
                    diesel::update(t::table.find(1)).set(t::n.eq(n + 1)).execute(conn)?;
                    Ok::<_, DbError>(())
                };
                db.write(work).await
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let read = db.read_one(|conn| Ok::<i64, DbError>(t::table.find(1).select(t::n).get_result(conn)?));
    assert_eq!(read.await.unwrap(), 20);
}

async fn rows_are_found_by_a_list_of_keys(db: Scratch) {
    use diesel::{ExpressionMethods, QueryDsl};
    let found = db.read_one(|conn| Ok::<_, DbError>(t::table.filter(t::id.eq_any([1, 9])).load(conn)?));
    let found: Vec<(i64, i64)> = found.await.unwrap();
    assert_eq!(found, [(1, 0)]);
    let none = db.read_one(|conn| {
        let keys: [i64; 0] = [];
        Ok::<_, DbError>(t::table.filter(t::id.eq_any(keys)).select(t::id).load(conn)?)
    });
    let none: Vec<i64> = none.await.unwrap();
    assert!(none.is_empty());
}

async fn the_database_is_found_healthy(db: Scratch) {
    assert_eq!(db.check(), Ok(()));
    db.answers().await.unwrap();
}

fn refusal(path: &Path) -> String {
    let settings = DatabaseSettings { path: path.to_owned(), ..DatabaseSettings::default() };
    Db::open(&settings).err().unwrap().to_string()
}

#[test]
fn a_folder_that_is_not_there_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let text = refusal(&folder.path().join("none/x.db"));
    assert!(text.ends_with("its folder does not exist; create the folder or set database.path"), "{text}");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "not a database, but long enough to have a header of sixteen bytes").unwrap();
    let text = refusal(&path);
    assert!(text.contains("file is not a database") && text.contains("database.path"), "{text}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
}
