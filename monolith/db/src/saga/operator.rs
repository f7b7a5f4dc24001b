//! What an operator sees of the sagas, and what he may do to one.
//!
//! Invariant: a saga that a runner has right now is not touched.

use contracts::Timestamp;
use diesel::dsl::count_star;
use diesel::sql_types::BigInt;
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper, sql_query,
};
use serde::Serialize;
use serde_json::Value;

use super::progress::Phase;
use super::store::{LogRow, Row, banyan_saga_log, banyan_sagas};
use crate::events::OperatorError;
use crate::wake::{self, Work};
use crate::{Conn, Db, DbError, for_update};

/// Which sagas to list, and from where on.
#[derive(Debug, Clone, Default)]
pub struct SagaFilter {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only in this phase.
    pub phase: Option<Phase>,
    /// Only sagas after this one.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// One saga.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SagaView {
    /// Its number; by it an operator names it.
    pub id: i64,
    /// Its kind.
    pub kind: String,
    /// What it is about, such as the order's id.
    pub key: String,
    /// Where it stands.
    pub phase: Phase,
    /// While running, how many steps are done; while compensating, how many may have left something.
    pub position: i32,
    /// What it knows.
    pub state: Value,
    /// How often its present step has failed.
    pub attempts: i32,
    /// When it goes on at the earliest; while a runner has it, the end of that one's lease.
    pub due_at: Timestamp,
    /// The runner that has it.
    pub claimed_by: Option<String>,
    /// Why its present step failed the last time.
    pub last_error: Option<String>,
    /// Why it turned back.
    pub reason: Option<String>,
    /// The request that began it.
    pub request_id: String,
    /// The trace of that request.
    pub traceparent: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last went on.
    pub updated_at: Timestamp,
}

/// One line of a saga's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// From 0 on.
    pub sequence: i32,
    /// The step.
    pub step: String,
    /// `run` or `undo`.
    pub way: String,
    /// `started`, `done`, `refused` or `retry`.
    pub outcome: String,
    /// When.
    pub at: Timestamp,
    /// Why it was not done.
    pub note: Option<String>,
}

/// How many sagas of a kind are in a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SagaCount {
    /// The kind.
    pub kind: String,
    /// The phase.
    pub phase: Phase,
    /// How many.
    pub count: u64,
}

/// Sagas in the order of their begin.
pub fn list(conn: &mut Conn, filter: &SagaFilter) -> Result<Vec<SagaView>, DbError> {
    let mut rows = banyan_sagas::table
        .filter(banyan_sagas::id.gt(filter.after.unwrap_or(i64::MIN)))
        .order(banyan_sagas::id)
        .limit(i64::from(filter.limit))
        .select(Row::as_select())
        .into_boxed();
    if let Some(kind) = &filter.kind {
        rows = rows.filter(banyan_sagas::kind.eq(kind));
    }
    if let Some(phase) = filter.phase {
        rows = rows.filter(banyan_sagas::phase.eq(phase.name()));
    }
    rows.load(conn)?.into_iter().map(SagaView::try_from).collect()
}

/// One saga and its log.
pub fn show(conn: &mut Conn, id: i64) -> Result<(SagaView, Vec<LogEntry>), OperatorError> {
    let row = banyan_sagas::table.find(id).select(Row::as_select()).get_result(conn).optional()?;
    let saga = row.ok_or(OperatorError::Unknown { what: SAGA, id })?.try_into()?;
    let lines: Vec<LogRow> = banyan_saga_log::table
        .filter(banyan_saga_log::saga_id.eq(id))
        .order(banyan_saga_log::sequence)
        .select(LogRow::as_select())
        .load(conn)?;
    Ok((saga, lines.into_iter().map(LogEntry::from).collect()))
}

/// The saga of that kind and key.
pub fn find(conn: &mut Conn, kind: &str, key: &str) -> Result<Option<SagaView>, DbError> {
    let row: Option<Row> = banyan_sagas::table
        .filter(banyan_sagas::kind.eq(kind))
        .filter(banyan_sagas::key.eq(key))
        .select(Row::as_select())
        .get_result(conn)
        .optional()?;
    row.map(SagaView::try_from).transpose()
}

/// Has the present step tried again now, as if it had never failed, and returns the saga as it is then.
pub fn retry(conn: &mut Conn, id: i64, now: Timestamp) -> Result<SagaView, OperatorError> {
    let row = for_update!(conn, banyan_sagas::table.find(id).select(Row::as_select()), get_result);
    let row: Row = row.optional()?.ok_or(OperatorError::Unknown { what: SAGA, id })?;
    let phase = row.phase()?;
    if phase.is_end() {
        return Err(OperatorError::Ended { what: SAGA, id, state: phase.name() });
    }
    if row.claimed_by.is_some() && row.due_at_ms > now.as_millis() {
        let until = Timestamp::from_millis(row.due_at_ms);
        return Err(OperatorError::InFlight { what: SAGA, id, until });
    }
    diesel::update(banyan_sagas::table.find(id))
        .set((banyan_sagas::attempts.eq(0), banyan_sagas::due_at_ms.eq(now.as_millis())))
        .execute(conn)?;
    wake::after_commit(Work::Sagas);
    Ok(show(conn, id)?.0)
}

/// How many sagas are under way, for metrics. Those that have ended are far more, and counting them would read them all.
pub fn counts(conn: &mut Conn) -> Result<Vec<SagaCount>, DbError> {
    let under_way = [Phase::Running, Phase::Compensating].map(Phase::name);
    let rows: Vec<(String, String, i64)> = banyan_sagas::table
        .filter(banyan_sagas::phase.eq_any(under_way))
        .group_by((banyan_sagas::kind, banyan_sagas::phase))
        .select((banyan_sagas::kind, banyan_sagas::phase, count_star()))
        .order((banyan_sagas::kind, banyan_sagas::phase))
        .load(conn)?;
    let count = |(kind, phase, count): (String, String, i64)| {
        let phase = Phase::parse(&phase)
            .ok_or_else(|| DbError::Corrupt { what: format!("sagas in phase {phase}") })?;
        Ok(SagaCount { kind, phase, count: count.unsigned_abs() })
    };
    rows.into_iter().map(count).collect()
}

/// Forgets the sagas that ended before that instant, with their log, and returns how many.
pub async fn purge(db: &Db, before: Timestamp) -> Result<u64, DbError> {
    crate::purge::in_batches(db, move |conn| purge_some(conn, before)).await
}

fn purge_some(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    sql_query(
        "DELETE FROM banyan_sagas WHERE id IN (SELECT id FROM banyan_sagas
         WHERE phase IN ('done', 'undone') AND updated_at_ms < $1 ORDER BY updated_at_ms LIMIT $2)",
    )
    .bind::<BigInt, _>(before.as_millis())
    .bind::<BigInt, _>(crate::purge::BATCH)
    .execute(conn)
}

const SAGA: &str = "saga";

impl TryFrom<Row> for SagaView {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        Ok(Self {
            phase: row.phase()?,
            state: serde_json::from_str(&row.state).unwrap_or(Value::String(row.state)),
            id: row.id,
            kind: row.kind,
            key: row.key,
            position: row.position,
            attempts: row.attempts,
            due_at: Timestamp::from_millis(row.due_at_ms),
            claimed_by: row.claimed_by,
            last_error: row.last_error,
            reason: row.reason,
            request_id: row.request_id,
            traceparent: row.traceparent,
            created_at: Timestamp::from_millis(row.created_at_ms),
            updated_at: Timestamp::from_millis(row.updated_at_ms),
        })
    }
}

impl From<LogRow> for LogEntry {
    fn from(row: LogRow) -> Self {
        Self {
            sequence: row.sequence,
            step: row.step,
            way: row.way,
            outcome: row.outcome,
            at: Timestamp::from_millis(row.at_ms),
            note: row.note,
        }
    }
}
