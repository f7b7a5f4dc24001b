//! The mapped rows, tried one by one in an empty copy of the target's table in memory.
//!
//! Invariant: SQLite itself says what the table refuses (NOT NULL, CHECK, STRICT) and what it changes (affinity), so the
//! answer is that of the copy to come; uniques and foreign keys are looked at elsewhere.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::super::likeness;
use super::super::rows::{SqliteRows, bind, same};
use super::super::sql::{list, numbered, quote};
use super::super::staged::row_width;
use super::{Looked, Surveyor};
use crate::engine::survey::Level;
use crate::error::MigrateError;
use crate::sqlite::words;

/// How many rows something is true of, and the key of one.
type Counted = BTreeMap<String, (u64, String)>;

const REFUSED: &str = "correct these rows, map them otherwise, or loosen the target's column";
const CHANGED: &str = "cast them in the select, or declare the target's column so that it keeps them: verify would tell them apart";

/// What the rows would meet: level, what, remedy.
pub(super) fn run(
    surveyor: &Surveyor<'_>,
    looked: &Looked,
    limit: Option<u64>,
) -> Result<Vec<(Level, String, &'static str)>, MigrateError> {
    let name = &looked.mapping.table;
    let trial = likeness::of(&surveyor.target.conn, surveyor.target.schema, name);
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => return Ok(vec![not_looked_at(name, &words(&error))]),
    };
    let (refused, changed) = all(surveyor, looked, limit, &trial)?;
    let refused = refused.into_iter().map(|(why, (count, key))| {
        (
            Level::Problem,
            format!("{count} rows are refused by {name} ({why}), for example that of key {key}"),
            REFUSED,
        )
    });
    let changed = changed.into_iter().map(|(how, (count, key))| {
        (
            Level::Problem,
            format!("{count} rows would be stored as another value ({how}), for example that of key {key}"),
            CHANGED,
        )
    });
    Ok(refused.chain(changed).collect())
}

fn not_looked_at(name: &str, said: &str) -> (Level, String, &'static str) {
    // A CHECK that calls it is not seen where the file is attached read-only. A collation need not be known to write rows.
    let level = if said.starts_with("no such function") { Level::Problem } else { Level::Warning };
    let what = format!("whether {name} takes its rows was not looked at: {said}");
    let remedy = "functions and collations of the application are not known here: take them out of the table until the copy has ended";
    (level, what, remedy)
}

fn all(
    surveyor: &Surveyor<'_>,
    looked: &Looked,
    limit: Option<u64>,
    trial: &Connection,
) -> Result<(Counted, Counted), MigrateError> {
    let (name, columns) = (quote(&looked.mapping.table), &looked.mapping.columns);
    let (names, width) = (list("", columns), columns.len());
    let skipped = row_width(&looked.mapping) - width;
    let insert = format!("INSERT INTO {name} ({names}) VALUES ({})", numbered("?", width));
    let (mut refused, mut changed) = (Counted::new(), Counted::new());
    let sql = surveyor.select(looked, limit);
    let mut statement = surveyor.source.conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut given = SqliteRows::new(width);
        given.take(row, skipped)?;
        let mut inserting = trial.prepare_cached(&insert)?;
        bind(&mut inserting, 1, given.row(0))?;
        if let Err(error) = inserting.raw_execute() {
            count(&mut refused, words(&error), looked, &given);
            continue;
        }
        let mut reading = trial.prepare_cached(&format!("SELECT {names} FROM {name}"))?;
        let mut stored = reading.query([])?;
        if let Some(stored) = stored.next()? {
            for (at, column) in columns.iter().enumerate() {
                let (one, other) = (given.at(0, at), stored.get_ref(at)?);
                if !same(one, other) {
                    let how = format!("{column}: {} becomes {}", one.data_type(), other.data_type());
                    count(&mut changed, how.to_lowercase(), looked, &given);
                }
            }
        }
        drop(stored);
        trial.prepare_cached(&format!("DELETE FROM {name}"))?.execute([])?;
    }
    Ok((refused, changed))
}

fn count(counted: &mut Counted, what: String, looked: &Looked, row: &SqliteRows) {
    let key = || {
        let places = looked
            .mapping
            .key
            .iter()
            .filter_map(|key| looked.mapping.columns.iter().position(|name| name == key));
        let shown: Vec<String> = places.map(|at| super::super::rows::show(row.at(0, at))).collect();
        shown.join(", ")
    };
    counted.entry(what).or_insert_with(|| (0, key())).0 += 1;
}
