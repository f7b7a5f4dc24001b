//! Compares what the records say with the tables and indexes that are there.
//!
//! Invariant: what should be there is learnt by running the recorded steps in an empty database in memory, so no
//! list of tables kept by hand can be wrong.

use std::collections::{BTreeMap, BTreeSet};

use diesel::connection::SimpleConnection;
use diesel::sql_types::{Bool, Text};
use diesel::{Connection, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::record::{self, Records};
use super::{Migration, SchemaError, SchemaSource, step_name};
use crate::DbError;

/// The tables that exist once all steps of a source are applied, in alphabetical order. For tests of a schema.
pub fn tables_of(source: &SchemaSource) -> Result<Vec<String>, SchemaError> {
    let mut scratch = Scratch::new()?;
    for step in source.migrations {
        scratch.run(source, step)?;
    }
    Ok(table_names(&mut scratch.conn)?.into_iter().collect())
}

/// The records, once they are known to agree with the tables and with this program.
pub(super) fn checked(
    path: &str,
    conn: &mut SqliteConnection,
    sources: &[SchemaSource],
) -> Result<Records, SchemaError> {
    let actual = objects(conn)?;
    let has_records = actual.iter().any(|object| object.name == record::TABLE);
    let records = if has_records { record::load(conn)? } else { Records(Vec::new()) };
    for source in sources {
        check_records(path, &records, source)?;
        check_objects(path, &records, source, &actual)?;
    }
    Ok(records)
}

/// The recorded steps must be the first ones of the source, in the same form.
fn check_records(path: &str, records: &Records, source: &SchemaSource) -> Result<(), SchemaError> {
    let mut steps = source.migrations.iter();
    for record in records.of(source.context) {
        let recorded = format!("{}/{:04}_{}", record.context, record.version, record.name);
        let path = path.to_owned();
        let Some(step) = steps.next() else {
            return Err(SchemaError::Unknown { path, step: recorded });
        };
        if step.version < record.version {
            return Err(SchemaError::HalfApplied {
                path,
                what: format!("{recorded} is recorded, {} before it is not", step_name(source.context, step)),
                remedy: RESTORE.to_owned(),
            });
        }
        if step.version != record.version || record.checksum != record::checksum(step) {
            return Err(SchemaError::Changed { path, step: recorded });
        }
    }
    Ok(())
}

/// What the recorded steps made must be there, what the others make must not.
fn check_objects(
    path: &str,
    records: &Records,
    source: &SchemaSource,
    actual: &BTreeSet<Object>,
) -> Result<(), SchemaError> {
    let half_applied = |what: String, remedy: &str| SchemaError::HalfApplied {
        path: path.to_owned(),
        what,
        remedy: remedy.to_owned(),
    };
    let (recorded, pending) = source
        .migrations
        .split_at_checked(records.of(source.context).count())
        .unwrap_or((source.migrations, &[]));
    let mut scratch = Scratch::new()?;
    let mut makers = BTreeMap::new();
    for step in recorded {
        for object in scratch.run(source, step)? {
            makers.insert(object, step_name(source.context, step));
        }
    }
    // The last one is a table where there is one: a lost table explains the indexes lost with it.
    if let Some(expected) = objects(&mut scratch.conn)?.difference(actual).last() {
        let maker = makers.get(expected).map_or(source.context, String::as_str);
        return Err(half_applied(format!("{expected} is missing, though {maker} is recorded"), RESTORE));
    }
    for step in pending {
        if let Some(found) = scratch.run(source, step)?.into_iter().find(|object| actual.contains(object)) {
            let step = step_name(source.context, step);
            return Err(half_applied(format!("{found} is there, though {step} is not recorded"), NOT_OURS));
        }
    }
    Ok(())
}

const RESTORE: &str = "restore the file from a backup, or begin with a new database.path";
const NOT_OURS: &str =
    "choose another database.path if the file is another program's, else restore it from a backup";

/// A table or an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub(super) struct Object {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    name: String,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

fn objects(conn: &mut SqliteConnection) -> QueryResult<BTreeSet<Object>> {
    let rows: Vec<Object> = sql_query(
        "SELECT type AS kind, name FROM sqlite_schema
         WHERE type IN ('table', 'index') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .load(conn)?;
    Ok(rows.into_iter().collect())
}

pub(super) fn table_names(conn: &mut SqliteConnection) -> QueryResult<BTreeSet<String>> {
    let tables = objects(conn)?.into_iter().filter(|object| object.kind == "table");
    Ok(tables.map(|object| object.name).collect())
}

/// Tables of the source that are there and hold at least one row.
pub(super) fn tables_with_rows(
    conn: &mut SqliteConnection,
    source: &SchemaSource,
) -> QueryResult<Vec<String>> {
    #[derive(QueryableByName)]
    struct Filled {
        #[diesel(sql_type = Bool)]
        filled: bool,
    }
    let there = table_names(conn)?;
    let mut filled = Vec::new();
    for table in source.tables.iter().filter(|table| there.contains(**table)) {
        let rows: Vec<Filled> =
            sql_query(format!("SELECT EXISTS (SELECT 1 FROM \"{table}\") AS filled")).load(conn)?;
        if rows.iter().any(|row| row.filled) {
            filled.push((*table).to_owned());
        }
    }
    Ok(filled)
}

/// An empty database in memory.
struct Scratch {
    conn: SqliteConnection,
}

impl Scratch {
    fn new() -> Result<Self, SchemaError> {
        let conn = SqliteConnection::establish(":memory:").map_err(|error| DbError::Open {
            path: ":memory:".to_owned(),
            reason: error.to_string(),
            remedy: "free some memory".to_owned(),
        })?;
        Ok(Self { conn })
    }

    /// Runs one step and returns what it made.
    fn run(&mut self, source: &SchemaSource, step: &Migration) -> Result<BTreeSet<Object>, SchemaError> {
        let before = objects(&mut self.conn)?;
        self.conn.batch_execute(step.up).map_err(|error| SchemaError::Step {
            path: ":memory:".to_owned(),
            step: step_name(source.context, step),
            source: error,
        })?;
        Ok(objects(&mut self.conn)?.difference(&before).cloned().collect())
    }
}
