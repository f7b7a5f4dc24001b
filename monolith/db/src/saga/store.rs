//! The sagas' two tables: how one begins, who has it, and how far it is.
//!
//! Invariant: only the runner that has a saga's claim writes its progress, and the log tells each change in the transaction
//! of that change.

use contracts::Timestamp;
use diesel::dsl::sql;
use diesel::sql_types::Bool;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable, RunQueryDsl, Selectable};
use serde::Serialize;

use super::erased::Way;
use super::progress::{Phase, Progress};
use crate::events::Origin;
use crate::wake::{self, Work};
use crate::{Conn, DbError, on_each};

diesel::table! {
    banyan_sagas (id) {
        id -> BigInt,
        kind -> Text,
        key -> Text,
        phase -> Text,
        position -> Integer,
        state -> Text,
        attempts -> Integer,
        due_at_ms -> BigInt,
        claimed_by -> Nullable<Text>,
        last_error -> Nullable<Text>,
        reason -> Nullable<Text>,
        log_length -> Integer,
        request_id -> Text,
        traceparent -> Nullable<Text>,
        created_at_ms -> BigInt,
        updated_at_ms -> BigInt,
    }
}

diesel::table! {
    banyan_saga_log (saga_id, sequence) {
        saga_id -> BigInt,
        sequence -> Integer,
        step -> Text,
        way -> Text,
        outcome -> Text,
        at_ms -> BigInt,
        note -> Nullable<Text>,
    }
}

/// One saga.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = banyan_sagas)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) phase: String,
    pub(super) position: i32,
    pub(super) state: String,
    pub(super) attempts: i32,
    pub(super) due_at_ms: i64,
    pub(super) claimed_by: Option<String>,
    pub(super) last_error: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) log_length: i32,
    pub(super) request_id: String,
    pub(super) traceparent: Option<String>,
    pub(super) created_at_ms: i64,
    pub(super) updated_at_ms: i64,
}

/// One line of the log.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = banyan_saga_log)]
pub(super) struct LogRow {
    pub(super) sequence: i32,
    pub(super) step: String,
    pub(super) way: String,
    pub(super) outcome: String,
    pub(super) at_ms: i64,
    pub(super) note: Option<String>,
}

/// One line of the log to be.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) step: &'static str,
    pub(super) way: Way,
    pub(super) outcome: &'static str,
    pub(super) note: Option<String>,
}

/// A saga in the hands of one runner.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) id: i64,
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) state: String,
    pub(super) progress: Progress,
    pub(super) log_length: i32,
}

/// Who works on it, from when and until when.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) claimant: String,
    pub(super) now: Timestamp,
    pub(super) until: Timestamp,
}

/// What is written after a step.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) lines: Vec<Line>,
    /// When the saga may be claimed by anybody: the end of the lease, or of a pause.
    pub(super) due_at: Timestamp,
    /// Who has it from now on.
    pub(super) claimed_by: Option<String>,
}

/// Begins a saga in the transaction of the business change that it belongs to. Its first `done_steps` steps are done by that
/// change itself. A kind has each key once: a second begin fails as a unique violation. After the commit the saga runner of
/// this process wakes up.
pub fn begin<S: Serialize>(
    conn: &mut Conn,
    kind: &'static str,
    key: &str,
    state: &S,
    done_steps: usize,
    origin: &Origin,
    now: Timestamp,
) -> Result<(), DbError> {
    let state = serde_json::to_string(state)
        .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?;
    let row = (
        banyan_sagas::kind.eq(kind),
        banyan_sagas::key.eq(key),
        banyan_sagas::phase.eq(Phase::Running.name()),
        banyan_sagas::position.eq(i32::try_from(done_steps).unwrap_or(i32::MAX)),
        banyan_sagas::state.eq(state),
        banyan_sagas::due_at_ms.eq(now.as_millis()),
        banyan_sagas::request_id.eq(&origin.request_id),
        banyan_sagas::traceparent.eq(&origin.traceparent),
        banyan_sagas::created_at_ms.eq(now.as_millis()),
        banyan_sagas::updated_at_ms.eq(now.as_millis()),
    );
    on_each!(conn, |conn| diesel::insert_into(banyan_sagas::table).values(row).execute(conn)?);
    wake::after_commit(Work::Sagas);
    Ok(())
}

/// Claims sagas of these kinds that are due, the longest due first.
pub(super) fn claim(
    conn: &mut Conn,
    kinds: &[&'static str],
    claim: &Claim,
    limit: i64,
) -> Result<Vec<Claimed>, DbError> {
    let due = banyan_sagas::table
        // As the index says it: SQLite takes a partial index for no bound values.
        .filter(sql::<Bool>("phase IN ('running', 'compensating')"))
        .filter(banyan_sagas::due_at_ms.le(claim.now.as_millis()))
        .filter(banyan_sagas::kind.eq_any(kinds))
        .order(banyan_sagas::due_at_ms)
        .limit(limit)
        .select(banyan_sagas::all_columns);
    let rows: Vec<Row> = match conn {
        Conn::Sqlite(conn) => due.load(conn)?,
        Conn::Postgres(conn) => due.for_update().skip_locked().load(conn)?,
    };
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let claimed = banyan_sagas::table.filter(banyan_sagas::id.eq_any(rows.iter().map(|row| row.id)));
    diesel::update(claimed)
        .set((
            banyan_sagas::claimed_by.eq(&claim.claimant),
            banyan_sagas::due_at_ms.eq(claim.until.as_millis()),
        ))
        .execute(conn)?;
    rows.into_iter().map(Claimed::try_from).collect()
}

/// Writes down how far a saga is, with its log. False if the claimant has lost it: somebody else goes on with it. May be
/// repeated when nobody knows whether it was done.
pub(super) fn record(conn: &mut Conn, saga: &Claimed, entry: &Entry, claim: &Claim) -> QueryResult<bool> {
    let mine = banyan_sagas::table.find(saga.id).filter(banyan_sagas::claimed_by.eq(&claim.claimant));
    let length = saga.log_length.saturating_add(i32::try_from(entry.lines.len()).unwrap_or(i32::MAX));
    let now = claim.now;
    let progress = &saga.progress;
    let written = diesel::update(mine.filter(banyan_sagas::log_length.eq(saga.log_length)))
        .set((
            banyan_sagas::phase.eq(progress.phase.name()),
            banyan_sagas::position.eq(i32::try_from(progress.position).unwrap_or(i32::MAX)),
            banyan_sagas::state.eq(&saga.state),
            banyan_sagas::attempts.eq(i32::try_from(progress.attempts).unwrap_or(i32::MAX)),
            banyan_sagas::last_error.eq(&progress.last_error),
            banyan_sagas::reason.eq(&progress.reason),
            banyan_sagas::due_at_ms.eq(entry.due_at.as_millis()),
            banyan_sagas::claimed_by.eq(&entry.claimed_by),
            banyan_sagas::log_length.eq(length),
            banyan_sagas::updated_at_ms.eq(now.as_millis()),
        ))
        .execute(conn)?;
    if written == 0 {
        let done_before = mine.filter(banyan_sagas::log_length.eq(length)).count().get_result::<i64>(conn)?;
        return Ok(done_before == 1);
    }
    for (sequence, line) in (saga.log_length..).zip(&entry.lines) {
        diesel::insert_into(banyan_saga_log::table)
            .values((
                banyan_saga_log::saga_id.eq(saga.id),
                banyan_saga_log::sequence.eq(sequence),
                banyan_saga_log::step.eq(line.step),
                banyan_saga_log::way.eq(line.way.name()),
                banyan_saga_log::outcome.eq(line.outcome),
                banyan_saga_log::at_ms.eq(now.as_millis()),
                banyan_saga_log::note.eq(&line.note),
            ))
            .execute(conn)?;
    }
    Ok(true)
}

impl Claimed {
    pub(super) fn grow_log(&mut self, lines: usize) {
        self.log_length = self.log_length.saturating_add(i32::try_from(lines).unwrap_or(i32::MAX));
    }
}

impl TryFrom<Row> for Claimed {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let progress = Progress {
            phase: row.phase()?,
            position: usize::try_from(row.position).unwrap_or_default(),
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
            last_error: row.last_error,
            reason: row.reason,
        };
        Ok(Self {
            id: row.id,
            kind: row.kind,
            key: row.key,
            origin: Origin { request_id: row.request_id, traceparent: row.traceparent },
            state: row.state,
            progress,
            log_length: row.log_length,
        })
    }
}

impl Row {
    pub(super) fn phase(&self) -> Result<Phase, DbError> {
        Phase::parse(&self.phase)
            .ok_or_else(|| DbError::Corrupt { what: format!("saga {} in phase {}", self.id, self.phase) })
    }
}
