//! Compares what the records say with the tables and indexes that are there.
//!
//! Invariant: what should be there is learnt from the steps themselves, by running them in an empty SQLite database in
//! memory, or by what PostgreSQL held after it had run them; so no list of tables kept by hand can be wrong.

use std::collections::{BTreeMap, BTreeSet};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::objects::{self, Object};
use super::record::{self, Records};
use super::{Migration, SchemaError, SchemaSource, step_name};
use crate::{Backend, Conn, DbError};

/// The tables that exist in a SQLite file once all steps of a source are applied, in alphabetical order. For tests of a
/// schema; [`facts`](super::facts()) says what is in a database.
pub fn tables_of(source: &SchemaSource) -> Result<Vec<String>, SchemaError> {
    let mut scratch = Scratch::new()?;
    for step in source.migrations {
        scratch.run(source, step)?;
    }
    let tables = objects::in_file(&mut scratch.conn)?.into_iter().filter(|object| object.kind == "table");
    Ok(tables.map(|object| object.name).collect())
}

/// The records, once they are known to agree with the tables and with this program.
pub(super) fn checked(path: &str, conn: &mut Conn, sources: &[SchemaSource]) -> Result<Records, SchemaError> {
    let backend = match conn {
        Conn::Sqlite(_) => Backend::Sqlite,
        Conn::Postgres(_) => Backend::Postgres,
    };
    let records = records(conn)?;
    for source in sources {
        check_records(path, &records, source, backend)?;
        let actual = objects::of(conn, source)?;
        match backend {
            Backend::Sqlite => check_file(path, &records, source, &actual)?,
            Backend::Postgres => check_schema(path, &records, source, &actual)?,
        }
    }
    Ok(records)
}

fn records(conn: &mut Conn) -> Result<Records, SchemaError> {
    let objects = match conn {
        Conn::Sqlite(conn) => objects::in_file(conn)?,
        Conn::Postgres(_) => objects::in_schema(conn, record::SCHEMA)?,
    };
    if objects.iter().any(|object| object.name == record::TABLE) {
        return Ok(record::load(conn)?);
    }
    Ok(Records(Vec::new()))
}

/// The recorded steps must be the first ones of the source, in the same form.
fn check_records(
    path: &str,
    records: &Records,
    source: &SchemaSource,
    backend: Backend,
) -> Result<(), SchemaError> {
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
        if step.version != record.version || record.checksum != record::checksum(step, backend) {
            return Err(SchemaError::Changed { path, step: recorded });
        }
    }
    Ok(())
}

/// What the recorded steps made must be in the file, what the others make must not.
fn check_file(
    path: &str,
    records: &Records,
    source: &SchemaSource,
    actual: &BTreeSet<Object>,
) -> Result<(), SchemaError> {
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
    refuse_missing(path, source, &objects::in_file(&mut scratch.conn)?, actual, &makers)?;
    for step in pending {
        if let Some(found) = scratch.run(source, step)?.into_iter().find(|object| actual.contains(object)) {
            return Err(unrecorded(path, &found, source, step));
        }
    }
    Ok(())
}

/// What the recorded steps made must be in the schema. While none is recorded, no table of unknown origin may be there;
/// later ones are met by the step itself, which then fails and is rolled back.
fn check_schema(
    path: &str,
    records: &Records,
    source: &SchemaSource,
    actual: &BTreeSet<Object>,
) -> Result<(), SchemaError> {
    let mut makers = BTreeMap::new();
    for (record, step) in records.of(source.context).zip(source.migrations) {
        for object in &record.objects {
            makers.entry(object.clone()).or_insert_with(|| step_name(source.context, step));
        }
    }
    refuse_missing(path, source, &records.objects(source), actual, &makers)?;
    let first = source.migrations.first().filter(|_| records.of(source.context).next().is_none());
    let explained = |object: &Object| {
        object.name == record::TABLE || records.0.iter().any(|record| record.objects.contains(object))
    };
    let found = actual.iter().find(|object| object.kind == "table" && !explained(object));
    match (first, found) {
        (Some(first), Some(found)) => Err(unrecorded(path, found, source, first)),
        _ => Ok(()),
    }
}

fn refuse_missing(
    path: &str,
    source: &SchemaSource,
    expected: &BTreeSet<Object>,
    actual: &BTreeSet<Object>,
    makers: &BTreeMap<Object, String>,
) -> Result<(), SchemaError> {
    // The last one is a table where there is one: a lost table explains the indexes lost with it.
    let Some(missing) = expected.difference(actual).last() else { return Ok(()) };
    let maker = makers.get(missing).map_or(source.context, String::as_str);
    Err(SchemaError::HalfApplied {
        path: path.to_owned(),
        what: format!("{missing} is missing, though {maker} is recorded"),
        remedy: RESTORE.to_owned(),
    })
}

fn unrecorded(path: &str, found: &Object, source: &SchemaSource, step: &Migration) -> SchemaError {
    SchemaError::HalfApplied {
        path: path.to_owned(),
        what: format!("{found} is there, though {} is not recorded", step_name(source.context, step)),
        remedy: NOT_OURS.to_owned(),
    }
}

const RESTORE: &str = "restore the database from a backup, or begin with a new database.path or database.url";
const NOT_OURS: &str = "choose another database.path or database.url if it is another program's, else restore it \
                        from a backup";

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
        let before = objects::in_file(&mut self.conn)?;
        self.conn.batch_execute(step.sqlite.up).map_err(|error| SchemaError::Step {
            path: ":memory:".to_owned(),
            step: step_name(source.context, step),
            source: error,
        })?;
        Ok(objects::in_file(&mut self.conn)?.difference(&before).cloned().collect())
    }
}
