//! What an operator sees of the outbox, and what he may do to it.
//!
//! Invariant: a row that a relay is delivering right now is not touched, so no decision here races a delivery.

use contracts::Timestamp;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, RunQueryDsl, SelectableHelper, sql_query,
};
use serde::Serialize;
use serde_json::Value;

use super::tables::{Row, banyan_outbox};
use crate::wake::{self, Work};
use crate::{Conn, DbError, for_update};

/// How far one consumer is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerLag {
    /// The consumer.
    pub consumer: String,
    /// Events that will be delivered.
    pub pending: u64,
    /// Events that were given up.
    pub dead: u64,
    /// Age of the oldest event that will be delivered, in milliseconds; zero where there is none.
    pub oldest_ms: u64,
}

/// Which events to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All that wait.
    All,
    /// Those that were given up.
    Dead,
}

/// Which events to list, and from where on.
#[derive(Debug, Clone)]
pub struct EventFilter {
    /// Only of this consumer.
    pub consumer: Option<String>,
    /// Only those that were given up, or all.
    pub which: Which,
    /// Only rows after this one.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// One event that one consumer has not taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WaitingEvent {
    /// Its number in the outbox; by it an operator names it.
    pub id: i64,
    /// The event's own identifier, the same for every consumer.
    pub event_id: String,
    /// Who is to take it.
    pub consumer: String,
    /// What it happened to.
    pub aggregate: String,
    /// What kind of event it is.
    pub kind: String,
    /// The event itself.
    pub payload: Value,
    /// The request that led to it.
    pub request_id: String,
    /// The trace of that request.
    pub traceparent: Option<String>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it is tried next at the earliest.
    pub available_at: Timestamp,
    /// How often it failed.
    pub attempts: i32,
    /// The relay that has it.
    pub claimed_by: Option<String>,
    /// Until when it has it.
    pub claimed_until: Option<Timestamp>,
    /// Why it failed the last time.
    pub last_error: Option<String>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is none with this number.
    #[error("there is no {what} {id}; it may have ended meanwhile")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its number.
        id: i64,
    },
    /// It is being worked on.
    #[error("{what} {id} is being worked on until {until} at the latest; try again then")]
    InFlight {
        /// What it is.
        what: &'static str,
        /// Its number.
        id: i64,
        /// The end of the claim.
        until: Timestamp,
    },
    /// It has come to its end.
    #[error("{what} {id} is {state}; there is nothing to try again")]
    Ended {
        /// What it is.
        what: &'static str,
        /// Its number.
        id: i64,
        /// How it ended.
        state: &'static str,
    },
    /// The database failed.
    #[error("the database could not be used")]
    Database(#[from] DbError),
}

impl From<diesel::result::Error> for OperatorError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(DbError::Statement(error))
    }
}

/// How far each consumer is behind, in order of name; one without any row is not listed. Reads the whole index.
pub fn lag(conn: &mut Conn, now: Timestamp) -> Result<Vec<ConsumerLag>, DbError> {
    let counted = sql_query(
        "SELECT consumer, count(*) AS total, count(dead_at_ms) AS dead,
                min(CASE WHEN dead_at_ms IS NULL THEN occurred_at_ms END) AS oldest_ms
         FROM banyan_outbox GROUP BY consumer ORDER BY consumer",
    )
    .load::<Counted>(conn)?;
    let lag = |row: Counted| ConsumerLag {
        pending: row.total.saturating_sub(row.dead).unsigned_abs(),
        dead: row.dead.unsigned_abs(),
        oldest_ms: row.oldest_ms.map_or(0, |at| now.as_millis().saturating_sub(at).max(0).unsigned_abs()),
        consumer: row.consumer,
    };
    Ok(counted.into_iter().map(lag).collect())
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    consumer: String,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = BigInt)]
    dead: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    oldest_ms: Option<i64>,
}

/// What waits, the oldest first.
pub fn list(conn: &mut Conn, filter: &EventFilter) -> Result<Vec<WaitingEvent>, DbError> {
    let mut rows = banyan_outbox::table
        .filter(banyan_outbox::id.gt(filter.after.unwrap_or(i64::MIN)))
        .order(banyan_outbox::id)
        .limit(i64::from(filter.limit))
        .select(Row::as_select())
        .into_boxed();
    if let Some(consumer) = &filter.consumer {
        rows = rows.filter(banyan_outbox::consumer.eq(consumer));
    }
    if filter.which == Which::Dead {
        rows = rows.filter(banyan_outbox::dead_at_ms.is_not_null());
    }
    Ok(rows.load(conn)?.into_iter().map(WaitingEvent::from).collect())
}

/// One event with all that is known of it.
pub fn show(conn: &mut Conn, id: i64) -> Result<WaitingEvent, OperatorError> {
    let row = banyan_outbox::table.find(id).select(Row::as_select()).get_result(conn).optional()?;
    row.map(WaitingEvent::from).ok_or(OperatorError::Unknown { what: EVENT, id })
}

/// Has an event tried again now, as if it had never failed, and returns it as it is then.
pub fn retry(conn: &mut Conn, id: i64, now: Timestamp) -> Result<WaitingEvent, OperatorError> {
    at_rest(conn, id, now)?;
    diesel::update(banyan_outbox::table.find(id))
        .set((
            banyan_outbox::attempts.eq(0),
            banyan_outbox::available_at_ms.eq(now.as_millis()),
            banyan_outbox::dead_at_ms.eq(None::<i64>),
        ))
        .execute(conn)?;
    wake::after_commit(Work::Events);
    show(conn, id)
}

/// Gives an event up for good, so that the next one of its aggregate goes on, and returns what it was.
pub fn discard(conn: &mut Conn, id: i64, now: Timestamp) -> Result<WaitingEvent, OperatorError> {
    let row = at_rest(conn, id, now)?;
    diesel::delete(banyan_outbox::table.find(id)).execute(conn)?;
    wake::after_commit(Work::Events);
    Ok(row.into())
}

const EVENT: &str = "event";

/// The row, locked, unless a relay has it.
fn at_rest(conn: &mut Conn, id: i64, now: Timestamp) -> Result<Row, OperatorError> {
    let row = for_update!(conn, banyan_outbox::table.find(id).select(Row::as_select()), get_result);
    let row: Row = row.optional()?.ok_or(OperatorError::Unknown { what: EVENT, id })?;
    match row.claimed_until_ms {
        Some(until) if until > now.as_millis() => {
            Err(OperatorError::InFlight { what: EVENT, id, until: Timestamp::from_millis(until) })
        }
        _ => Ok(row),
    }
}

impl From<Row> for WaitingEvent {
    fn from(row: Row) -> Self {
        Self {
            payload: row.payload(),
            id: row.id,
            event_id: row.event_id,
            consumer: row.consumer,
            aggregate: row.aggregate,
            kind: row.kind,
            request_id: row.request_id,
            traceparent: row.traceparent,
            occurred_at: Timestamp::from_millis(row.occurred_at_ms),
            available_at: Timestamp::from_millis(row.available_at_ms),
            attempts: row.attempts,
            claimed_by: row.claimed_by,
            claimed_until: row.claimed_until_ms.map(Timestamp::from_millis),
            last_error: row.last_error,
            dead_at: row.dead_at_ms.map(Timestamp::from_millis),
        }
    }
}
