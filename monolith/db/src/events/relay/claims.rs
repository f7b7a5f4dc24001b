//! The relay's statements: which rows are next, whose they are, and what became of them.
//!
//! Invariant: a row is claimed only while no older row of its consumer and aggregate exists. Once that is so it stays so,
//! which is why it may be found in one statement and claimed in the next; that nobody else has claimed it meanwhile is
//! looked at again under the row's lock.

use std::time::Duration;

use contracts::Timestamp;
use diesel::sql_types::{BigInt, Text};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query,
};

use crate::Conn;
use crate::events::tables::{Row, banyan_outbox};

/// What became of one claimed row.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// The consumer has taken it.
    Handled(i64),
    /// It was not delivered.
    Untouched(i64),
    /// To be tried again after the pause.
    Failed { id: i64, error: String, pause: Duration },
    /// Given up.
    Dead { id: i64, error: String },
}

/// The oldest row of an aggregate, if it is due.
#[derive(Debug, QueryableByName)]
pub(super) struct Head {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    pub(super) aggregate: String,
}

/// One step along the index for each aggregate, not for each row: a hundred thousand rows behind a dead one cost nothing.
/// SQLite has no LATERAL, PostgreSQL plans it best.
const SQLITE_HEADS: &str = "
WITH RECURSIVE heads (id, aggregate, due) AS (
    SELECT * FROM (SELECT id, aggregate, dead_at_ms IS NULL AND available_at_ms <= ?3 AND coalesce(claimed_until_ms, 0) <= ?3
        FROM banyan_outbox WHERE consumer = ?1 AND aggregate > ?2 ORDER BY aggregate, id LIMIT 1)
    UNION ALL
    SELECT next.id, next.aggregate,
        next.dead_at_ms IS NULL AND next.available_at_ms <= ?3 AND coalesce(next.claimed_until_ms, 0) <= ?3
    FROM heads JOIN banyan_outbox next ON next.id = (
        SELECT id FROM banyan_outbox WHERE consumer = ?1 AND aggregate > heads.aggregate ORDER BY aggregate, id LIMIT 1)
)
SELECT id, aggregate FROM heads WHERE due LIMIT ?4";

const POSTGRES_HEADS: &str = "
WITH RECURSIVE heads (id, aggregate, due) AS (
    (SELECT id, aggregate, dead_at_ms IS NULL AND available_at_ms <= $3 AND coalesce(claimed_until_ms, 0) <= $3
        FROM banyan_outbox WHERE consumer = $1 AND aggregate > $2 ORDER BY aggregate, id LIMIT 1)
    UNION ALL
    SELECT next.* FROM heads CROSS JOIN LATERAL (
        SELECT id, aggregate, dead_at_ms IS NULL AND available_at_ms <= $3 AND coalesce(claimed_until_ms, 0) <= $3
        FROM banyan_outbox WHERE consumer = $1 AND aggregate > heads.aggregate ORDER BY aggregate, id LIMIT 1) next
)
SELECT id, aggregate FROM heads WHERE due LIMIT $4";

/// The oldest rows of the aggregates after `after` that are due, in order of aggregate.
pub(super) fn heads(
    conn: &mut Conn,
    consumer: &str,
    after: &str,
    now: Timestamp,
    limit: u32,
) -> QueryResult<Vec<Head>> {
    let statement = match conn {
        Conn::Sqlite(_) => SQLITE_HEADS,
        Conn::Postgres(_) => POSTGRES_HEADS,
    };
    sql_query(statement)
        .bind::<Text, _>(consumer)
        .bind::<Text, _>(after)
        .bind::<BigInt, _>(now.as_millis())
        .bind::<BigInt, _>(i64::from(limit))
        .load(conn)
}

/// Claims those of the heads that are still there and still nobody's.
pub(super) fn claim(
    conn: &mut Conn,
    heads: &[Head],
    claimant: &str,
    now: Timestamp,
    until: Timestamp,
) -> QueryResult<Vec<Row>> {
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let now = now.as_millis();
    let free = banyan_outbox::table
        .filter(banyan_outbox::id.eq_any(heads.iter().map(|head| head.id)))
        .filter(banyan_outbox::dead_at_ms.is_null())
        .filter(banyan_outbox::available_at_ms.le(now))
        .filter(banyan_outbox::claimed_until_ms.is_null().or(banyan_outbox::claimed_until_ms.le(now)))
        .order(banyan_outbox::id)
        .select(banyan_outbox::all_columns);
    let rows: Vec<Row> = match conn {
        Conn::Sqlite(conn) => free.load(conn)?,
        Conn::Postgres(conn) => free.for_update().skip_locked().load(conn)?,
    };
    let ids = rows.iter().map(|row| row.id);
    diesel::update(banyan_outbox::table.filter(banyan_outbox::id.eq_any(ids)))
        .set((banyan_outbox::claimed_by.eq(claimant), banyan_outbox::claimed_until_ms.eq(until.as_millis())))
        .execute(conn)?;
    Ok(rows)
}

/// Keeps the claimant's rows for longer.
pub(super) fn renew(conn: &mut Conn, ids: &[i64], claimant: &str, until: Timestamp) -> QueryResult<()> {
    let mine = banyan_outbox::table
        .filter(banyan_outbox::id.eq_any(ids))
        .filter(banyan_outbox::claimed_by.eq(claimant));
    diesel::update(mine).set(banyan_outbox::claimed_until_ms.eq(until.as_millis())).execute(conn)?;
    Ok(())
}

/// Writes down what became of the claimant's rows. One that he no longer has is left alone.
pub(super) fn settle(
    conn: &mut Conn,
    outcomes: &[Outcome],
    claimant: &str,
    now: Timestamp,
) -> QueryResult<()> {
    let handled: Vec<i64> = outcomes.iter().filter_map(Outcome::handled).collect();
    if !handled.is_empty() {
        let taken = banyan_outbox::table
            .filter(banyan_outbox::id.eq_any(handled))
            .filter(banyan_outbox::claimed_by.eq(claimant));
        diesel::delete(taken).execute(conn)?;
    }
    for outcome in outcomes {
        keep(conn, outcome, claimant, now)?;
    }
    Ok(())
}

impl Outcome {
    fn handled(&self) -> Option<i64> {
        match self {
            Self::Handled(id) => Some(*id),
            _ => None,
        }
    }
}

fn keep(conn: &mut Conn, outcome: &Outcome, claimant: &str, now: Timestamp) -> QueryResult<()> {
    let (id, failure) = match outcome {
        Outcome::Handled(_) => return Ok(()),
        Outcome::Untouched(id) => (*id, None),
        Outcome::Failed { id, error, pause } => {
            let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            (*id, Some((error, now.as_millis().saturating_add(pause), None)))
        }
        Outcome::Dead { id, error } => (*id, Some((error, now.as_millis(), Some(now.as_millis())))),
    };
    let mine = banyan_outbox::table.find(id).filter(banyan_outbox::claimed_by.eq(claimant));
    let free =
        (banyan_outbox::claimed_by.eq(None::<String>), banyan_outbox::claimed_until_ms.eq(None::<i64>));
    let Some((error, available_at, dead_at)) = failure else {
        diesel::update(mine).set(free).execute(conn)?;
        return Ok(());
    };
    let failed = (
        banyan_outbox::attempts.eq(banyan_outbox::attempts + 1),
        banyan_outbox::last_error.eq(error),
        banyan_outbox::available_at_ms.eq(available_at),
        banyan_outbox::dead_at_ms.eq(dead_at),
    );
    diesel::update(mine).set((free, failed)).execute(conn)?;
    Ok(())
}
