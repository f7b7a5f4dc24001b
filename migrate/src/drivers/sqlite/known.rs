//! Functions and collations that only connections of the application know.
//!
//! Invariant: statements are prepared, and none runs.

use rusqlite::Connection;

use super::catalog::indexes;
use super::sql::{list, quote};
use crate::engine::Mapping;
use crate::error::MigrateError;
use crate::sqlite::words;

/// Refuses a mapping whose source rows cannot be brought into the order of their keys, or found by what they are joined by.
/// Whatever else the source's tables ask for concerns their writers only.
pub(super) fn needs_known_keys(
    conn: &Connection,
    schema: &str,
    mapping: &Mapping,
) -> Result<(), MigrateError> {
    let joins = mapping.joins.iter().map(|join| (&join.table, &join.columns));
    for (table, columns) in std::iter::once((&mapping.root, &mapping.root_key)).chain(joins) {
        let order = list("", columns);
        let Some(said) = unknown(conn, &format!("SELECT 1 FROM {schema}.{} ORDER BY {order}", quote(table)))
        else {
            continue;
        };
        return Err(MigrateError::refused(
            format!("rows of {table} cannot be found by ({order}): {said}; only SQLite's own are known here"),
            "find them by other columns, or leave the mapping out",
        ));
    }
    Ok(())
}

/// Refuses a table of which something can only be kept up by its application.
pub(super) fn needs_writable(conn: &Connection, schema: &str, mapping: &Mapping) -> Result<(), MigrateError> {
    unwritable(conn, schema, mapping)?.into_iter().next().map_or(Ok(()), Err)
}

/// Refusals of everything about a filled table that only its application can keep up, index by index.
pub(super) fn unwritable(
    conn: &Connection,
    schema: &str,
    mapping: &Mapping,
) -> Result<Vec<MigrateError>, MigrateError> {
    let (name, table) = (&mapping.table, format!("{schema}.{}", quote(&mapping.table)));
    let mut refusals = Vec::new();
    for index in indexes(conn, schema, name)? {
        let unique = index.read(conn, schema)?;
        let (order, condition) = (unique.collated().join(", "), unique.condition.as_deref().unwrap_or("1"));
        let sql = format!("SELECT 1 FROM {table} WHERE {condition} ORDER BY {order}");
        if let Some(said) = unknown(conn, &sql) {
            let remedy = match index.sql {
                Some(_) => format!(
                    "`DROP INDEX {}` until the copy has ended, and let its application make it again then",
                    quote(&index.name)
                ),
                None => "give the column another COLLATE there, or leave the mapping out".to_owned(),
            };
            let index = &index.name;
            refusals.push(MigrateError::refused(
                format!("the index {index} of {name} cannot be kept up or built: {said}; only SQLite's own are known here"),
                remedy,
            ));
        }
    }
    let (columns, values) = (list("", &mapping.columns), vec!["NULL"; mapping.columns.len()].join(", "));
    let insert = format!("INSERT INTO {table} ({columns}) VALUES ({values})");
    if refusals.is_empty()
        && let Some(said) = unknown(conn, &insert)
    {
        refusals.push(MigrateError::refused(
            format!("a CHECK or a generated column of {name} cannot be computed: {said}; only SQLite's own are known here"),
            "take it out of the table until the copy has ended, or leave the mapping out",
        ));
    }
    Ok(refusals)
}

/// What SQLite says if a statement needs a function or a collation that it does not know.
fn unknown(conn: &Connection, sql: &str) -> Option<String> {
    let said = words(&conn.prepare(sql).err()?);
    let said = said.split_once(" in ").map_or(&*said, |(said, _)| said);
    let is_it = ["no such function", "unknown function", "no such collation sequence"];
    is_it.iter().any(|begin| said.starts_with(begin)).then(|| said.to_owned())
}
