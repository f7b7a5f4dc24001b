//! The schema runner: applies, lists and reverts the steps of several contexts in one database.
//!
//! Invariant: a step and its record are one transaction, and a database whose tables and records disagree is
//! refused before anything is changed. Written here because diesel's runner cannot revert when several sources
//! share a database.

mod facts;
mod inspect;
mod migration;
mod objects;
mod record;

use contracts::{Clock, SystemClock, Timestamp};
use diesel::connection::SimpleConnection;

use crate::{Conn, Db, DbError};

pub use facts::{Facts, ForeignKey, Table, facts};
pub use inspect::tables_of;
pub use migration::{Migration, Script};

/// The schema of one context.
#[derive(Debug, Clone, Copy)]
pub struct SchemaSource {
    /// The context. In PostgreSQL its objects are in a schema of this name, those of tables that begin with `banyan_` in
    /// the schema `banyan`.
    pub context: &'static str,
    /// Its steps in ascending order.
    pub migrations: &'static [Migration],
    /// All tables that exist once every step is applied, in alphabetical order.
    pub tables: &'static [&'static str],
}

impl SchemaSource {
    /// The PostgreSQL schema of the tables.
    pub fn schema(&self) -> &'static str {
        match self.tables.first() {
            Some(table) if table.starts_with("banyan_") => record::SCHEMA,
            _ => self.context,
        }
    }
}

/// Where one step stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StepStatus {
    /// The context.
    pub context: String,
    /// The step's position.
    pub version: i32,
    /// The step's name.
    pub name: String,
    /// When it was applied; nothing while it is not.
    pub applied_at: Option<Timestamp>,
}

/// What [`revert`] does with rows that a step back would drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Refuses.
    Keep,
    /// Drops them with their table.
    Discard,
}

/// Why the schema could not be applied, listed or reverted. Nothing was changed by the step that is named.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Records and tables disagree.
    #[error("the schema in {path} is half applied: {what}; {remedy}")]
    HalfApplied {
        /// The file or the server.
        path: String,
        /// Which step, and which table or record is missing or too many.
        what: String,
        /// What mends it.
        remedy: String,
    },
    /// A step was applied in another form than this program has it.
    #[error(
        "step {step} in {path} was applied with another text than this program has; put back its script and make \
         the change a new step, or open the database with the program that wrote it"
    )]
    Changed {
        /// The file or the server.
        path: String,
        /// The step.
        step: String,
    },
    /// A newer program has been here.
    #[error(
        "step {step} in {path} is not known to this program; start the version that applied it, or revert it there"
    )]
    Unknown {
        /// The file or the server.
        path: String,
        /// The step.
        step: String,
    },
    /// A statement of the step failed.
    #[error("step {step} failed in {path} and was rolled back")]
    Step {
        /// The file or the server.
        path: String,
        /// The step.
        step: String,
        /// The statement's error.
        #[source]
        source: diesel::result::Error,
    },
    /// Reverting would lose data.
    #[error(
        "reverting step {step} would drop table {table} with its rows; copy them first, then pass --discard-rows"
    )]
    HoldsRows {
        /// The step.
        step: String,
        /// The table.
        table: String,
    },
    /// The database could not be used.
    #[error("cannot read the schema")]
    Database(#[from] DbError),
}

impl From<diesel::result::Error> for SchemaError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(DbError::Statement(error))
    }
}

/// Applies every step that is not applied yet, each in its own transaction, and returns those. Blocking. Two
/// processes may call it at once: each step is applied once.
pub fn apply(db: &Db, sources: &[SchemaSource]) -> Result<Vec<StepStatus>, SchemaError> {
    let mut applied = Vec::new();
    while let Some(step) = db.write_blocking(|conn| apply_next(db, conn, sources))? {
        applied.push(step);
    }
    db.schemas_changed();
    Ok(applied)
}

/// Lists every step in the order in which [`apply`] takes them. Blocking; changes nothing.
pub fn status(db: &Db, sources: &[SchemaSource]) -> Result<Vec<StepStatus>, SchemaError> {
    db.read_blocking(|conn| {
        objects::look_at(conn, record::SCHEMA)?;
        let recorded = inspect::checked(db.path(), conn, sources)?;
        let steps =
            sources.iter().flat_map(|source| source.migrations.iter().map(move |step| (source, step)));
        Ok(steps.map(|(source, step)| report(source, step, recorded.applied_at(source, step))).collect())
    })
}

/// Reverts the last `steps` steps, the newest first, each in its own transaction, and returns those. Blocking.
pub fn revert(
    db: &Db,
    sources: &[SchemaSource],
    steps: usize,
    rows: Rows,
) -> Result<Vec<StepStatus>, SchemaError> {
    let mut reverted = Vec::new();
    while reverted.len() < steps {
        let Some(step) = db.write_blocking(|conn| revert_last(db, conn, sources, rows))? else {
            break;
        };
        reverted.push(step);
    }
    Ok(reverted)
}

fn apply_next(db: &Db, conn: &mut Conn, sources: &[SchemaSource]) -> Result<Option<StepStatus>, SchemaError> {
    objects::exclude_others(conn)?;
    let recorded = inspect::checked(db.path(), conn, sources)?;
    let mut steps =
        sources.iter().flat_map(|source| source.migrations.iter().map(move |step| (source, step)));
    let Some((source, step)) = steps.find(|(source, step)| recorded.applied_at(source, step).is_none())
    else {
        return Ok(None);
    };
    let before = objects::of(conn, source)?;
    run(db, conn, source, step, step.script(db.backend()).up)?;
    let after = objects::of(conn, source)?;
    let now = SystemClock.now();
    let kept = recorded.objects(source).into_iter().filter(|object| after.contains(object));
    let objects = kept.chain(after.difference(&before).cloned()).collect();
    record::add(conn, source.context, step, now, &objects)?;
    Ok(Some(report(source, step, Some(now))))
}

fn revert_last(
    db: &Db,
    conn: &mut Conn,
    sources: &[SchemaSource],
    rows: Rows,
) -> Result<Option<StepStatus>, SchemaError> {
    objects::exclude_others(conn)?;
    let recorded = inspect::checked(db.path(), conn, sources)?;
    let last = sources.iter().rev().find_map(|source| {
        let last = source.migrations.iter().rev().find(|step| recorded.applied_at(source, step).is_some())?;
        Some((source, last))
    });
    let Some((source, step)) = last else { return Ok(None) };
    let filled = match rows {
        Rows::Keep => objects::tables_with_rows(conn, source)?,
        Rows::Discard => Vec::new(),
    };
    run(db, conn, source, step, step.script(db.backend()).down)?;
    let left = objects::tables(conn, source)?;
    if let Some(table) = filled.into_iter().find(|table| !left.contains(table)) {
        return Err(SchemaError::HoldsRows { step: step_name(source.context, step), table });
    }
    record::remove(conn, source.context, step)?;
    Ok(Some(report(source, step, None)))
}

fn run(
    db: &Db,
    conn: &mut Conn,
    source: &SchemaSource,
    step: &Migration,
    sql: &str,
) -> Result<(), SchemaError> {
    objects::enter(conn, source.schema())?;
    conn.batch_execute(sql).map_err(|error| SchemaError::Step {
        path: db.path().to_owned(),
        step: step_name(source.context, step),
        source: error,
    })?;
    Ok(objects::look_at(conn, record::SCHEMA)?)
}

fn report(source: &SchemaSource, step: &Migration, applied_at: Option<Timestamp>) -> StepStatus {
    StepStatus {
        context: source.context.to_owned(),
        version: step.version,
        name: step.name.to_owned(),
        applied_at,
    }
}

/// `users/0001_create`, as the folder is called.
fn step_name(context: &str, step: &Migration) -> String {
    format!("{context}/{:04}_{}", step.version, step.name)
}

#[cfg(test)]
mod tests;
