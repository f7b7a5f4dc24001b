//! The dual-write contract in one side's own database: the counter, the fence, the intents and the tombstones.
//!
//! Invariant: every client write takes its version from the row that also holds the fence and the dual-write
//! switch, as the first statement of its transaction. That row serialises the writers of a context (in SQLite there is one
//! anyway), so versions commit in their order, a write that committed saw all three as they were, and nobody needs to be
//! asked whether he has noticed a change.

mod log;
mod next_version;
mod replica;
mod tables;

use contracts::{Clock, SystemClock};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl};
use serde_json::Value;

use crate::schema::SchemaSource;
use crate::{Conn, DbError, for_update, on_each};
use next_version::NextVersion;
use tables::{banyan_contexts, banyan_intents, banyan_tombstones};

pub use log::ContextLog;
pub use replica::{ReplicaTable, Rival, apply};

/// The three tables that every side has.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: "replication",
    migrations: &[crate::migration!("0001_replication")],
    tables: &["banyan_contexts", "banyan_intents", "banyan_tombstones"],
};

/// Gives a context its row, if it has none yet. A side that owns the context from its first start begins with an
/// open fence, the other one with a closed one.
pub fn ensure_context(conn: &mut Conn, context: &str, fence_open: bool) -> QueryResult<()> {
    let row = (
        banyan_contexts::context.eq(context),
        banyan_contexts::fence.eq(if fence_open { tables::OPEN } else { tables::CLOSED }),
    );
    on_each!(conn, |conn| {
        diesel::insert_into(banyan_contexts::table).values(row).on_conflict_do_nothing().execute(conn)?
    });
    Ok(())
}

/// Refuses unless the fence is open, without taking a version. For a write that may turn out to change nothing.
pub fn check_open(conn: &mut Conn, context: &str) -> Result<(), ChangeError> {
    match held_fence(conn, context)? {
        (state, _) if state == tables::OPEN => Ok(()),
        _ => Err(ChangeError::Fenced),
    }
}

/// One client write in progress: its version, and whether the other side must hear of it.
#[derive(Debug)]
pub struct Change {
    /// The context's counter after this change: the version of the row that it writes.
    pub version: i64,
    /// Whether [`Change::record`] keeps an image for the other side.
    pub dual_write: bool,
    context: &'static str,
}

/// Why a client write was refused.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The fence is closed: this side does not own the context now.
    #[error("the fence is closed")]
    Fenced,
    /// The database failed.
    #[error("the fence could not be read")]
    Database(#[from] DbError),
}

impl From<diesel::result::Error> for ChangeError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(DbError::Statement(error))
    }
}

impl Change {
    /// Takes the next version if the fence is open. Must come before any statement that reads or writes the
    /// context's tables.
    pub fn begin(conn: &mut Conn, context: &'static str) -> Result<Self, ChangeError> {
        let taken: Option<(i64, bool)> = NextVersion { context }.get_result(conn).optional()?;
        if let Some((version, dual_write)) = taken {
            return Ok(Self { version, dual_write, context });
        }
        // Told apart only here, so that the common case is one statement.
        fence(conn, context)?;
        Err(ChangeError::Fenced)
    }

    /// Keeps the image of this change for the other side, if there is one to keep it for. `None` is a removal.
    pub fn record(&self, conn: &mut Conn, id: &str, state: Option<&Value>) -> QueryResult<()> {
        if !self.dual_write {
            return Ok(());
        }
        diesel::insert_into(banyan_intents::table)
            .values((
                banyan_intents::context.eq(self.context),
                banyan_intents::version.eq(self.version),
                banyan_intents::id.eq(id),
                banyan_intents::state.eq(state.map(Value::to_string)),
                banyan_intents::created_at_ms.eq(SystemClock.now().as_millis()),
            ))
            .execute(conn)?;
        Ok(())
    }

    /// Remembers that the id was removed at this version, so that a late image cannot bring it back.
    pub fn tombstone(&self, conn: &mut Conn, id: &str) -> QueryResult<()> {
        bury(conn, self.context, id, self.version)
    }
}

/// The fence and the token under which it was last moved.
fn fence(conn: &mut Conn, context: &str) -> Result<(String, i64), DbError> {
    let row = banyan_contexts::table
        .find(context)
        .select((banyan_contexts::fence, banyan_contexts::fence_token))
        .get_result(conn)
        .optional()?;
    row.ok_or_else(|| DbError::NoCounter { context: context.to_owned() })
}

/// [`fence`], which stays as it is until this transaction ends. Taken before anything is read that it must hold for.
fn held_fence(conn: &mut Conn, context: &str) -> Result<(String, i64), DbError> {
    let row = banyan_contexts::table.find(context);
    let row = row.select((banyan_contexts::fence, banyan_contexts::fence_token));
    let held = for_update!(conn, row, get_result).optional()?;
    held.ok_or_else(|| DbError::NoCounter { context: context.to_owned() })
}

fn bury(conn: &mut Conn, context: &str, id: &str, version: i64) -> QueryResult<()> {
    let row = (
        banyan_tombstones::context.eq(context),
        banyan_tombstones::id.eq(id),
        banyan_tombstones::version.eq(version),
    );
    on_each!(conn, |conn| {
        diesel::insert_into(banyan_tombstones::table)
            .values(row)
            .on_conflict((banyan_tombstones::context, banyan_tombstones::id))
            .do_update()
            .set(banyan_tombstones::version.eq(version))
            .execute(conn)?
    });
    Ok(())
}

#[cfg(test)]
mod tests;
