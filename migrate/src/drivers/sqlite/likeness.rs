//! An empty table in memory, declared as one of a database's.
//!
//! Invariant: SQLite itself says what the table would make of a row: affinities, defaults, generated columns, checks. Foreign keys
//! and triggers are left out.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::catalog::{Table, Unique};
use super::log::select;
use super::rows::{SqliteRows, bind};
use super::sql::{list, numbered, quote};

/// Makes it, under its own name.
pub(super) fn of(conn: &Connection, schema: &str, table: &str) -> rusqlite::Result<Connection> {
    let sql = format!(
        "SELECT sql FROM {}.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)",
        quote(schema)
    );
    let create: String = conn.query_row(&sql, [table], |row| row.get(0))?;
    let likeness = Connection::open_in_memory()?;
    likeness.execute_batch("PRAGMA foreign_keys = off")?;
    likeness.execute_batch(&create)?;
    Ok(likeness)
}

/// What a row would hold in each unique index of the table that it would be in. A rowid that only the table itself can give is
/// left out.
pub(super) fn held<'a, 't>(
    likeness: &Connection,
    table: &'t Table,
    columns: &[String],
    row: impl Iterator<Item = ValueRef<'a>>,
) -> rusqlite::Result<Vec<(&'t Unique, SqliteRows)>> {
    let name = quote(&table.name);
    let insert =
        format!("INSERT INTO {name} ({}) VALUES ({})", list("", columns), numbered("?", columns.len()));
    let mut statement = likeness.prepare_cached(&insert)?;
    bind(&mut statement, 1, row)?;
    statement.raw_execute()?;
    let given = |term: &str| Some(term) != table.rowid || table.integer_key().is_some();
    let mut held = Vec::new();
    for unique in table.uniques.iter().filter(|unique| unique.terms.iter().all(|(term, _)| given(term))) {
        let terms: Vec<&str> = unique.terms.iter().map(|(term, _)| term.as_str()).collect();
        let condition = unique.condition.as_deref().unwrap_or("1");
        let sql = format!("SELECT {} FROM {name} WHERE {condition}", terms.join(", "));
        let values = select(likeness, &sql, terms.len(), [])?;
        if values.count() > 0 {
            held.push((unique, values));
        }
    }
    likeness.prepare_cached(&format!("DELETE FROM {name}"))?.execute([])?;
    Ok(held)
}
