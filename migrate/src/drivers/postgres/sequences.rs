//! Ids that the target gives out go on behind every id that was ever given out.
//!
//! Invariant: a sequence is only moved forward, past its own last value, the highest number in its column, and what the source's
//! sequences reached; so the id of a row that was deleted long ago never comes back.

use super::connection::{Connection, column};
use super::shape::Shape;
use super::sql;
use crate::engine::Mapping;
use crate::error::MigrateError;

/// Moves the sequences of the columns that a mapping fills.
pub(super) fn move_past(
    source: &mut Connection,
    target: &mut Connection,
    mapping: &Mapping,
    shape: &Shape,
) -> Result<(), MigrateError> {
    for (name, sequence) in owned(target, &shape.target.name)? {
        if !mapping.columns.contains(&name) {
            continue;
        }
        let reached = reached(source, mapping, &name)?;
        let (table, quoted) = (&shape.target.name, sql::name(&name));
        target.run(&format!(
            "SELECT setval({}::regclass, h.high) FROM (SELECT s.last_value, s.is_called, \
               greatest({reached}, (SELECT max({quoted}) FROM {table})::bigint, \
                 CASE WHEN s.is_called THEN s.last_value END) AS high FROM {sequence} s) h \
             WHERE h.high > h.last_value OR (h.high = h.last_value AND NOT h.is_called)",
            sql::value(&sequence)
        ))?;
    }
    Ok(())
}

/// How far the source's sequences for a column went: that of the key's column where it carries one, else the furthest of all
/// tables that the mapping reads. 0: there is none.
fn reached(source: &mut Connection, mapping: &Mapping, filled: &str) -> Result<i64, MigrateError> {
    let carried = mapping.carries.iter().position(|column| column == filled);
    let wanted = carried.and_then(|at| mapping.root_key.get(at));
    let mut furthest = 0;
    let tables = std::iter::once(&mapping.root).chain(mapping.joins.iter().map(|join| &join.table));
    for table in tables {
        let name = source.qualified(table)?;
        for (column, sequence) in owned(source, &name)? {
            if wanted.is_some_and(|wanted| *wanted != column || *table != mapping.root) {
                continue;
            }
            let query = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
            furthest = furthest.max(source.number(&query)?);
        }
    }
    Ok(furthest)
}

/// The sequences that fill a table's columns: owned by them, or named in their defaults.
fn owned(connection: &mut Connection, table: &str) -> Result<Vec<(String, String)>, MigrateError> {
    let rows = connection.rows(&format!(
        "SELECT DISTINCT a.attname, format('%I.%I', n.nspname, s.relname) FROM pg_attribute a \
         LEFT JOIN pg_attrdef v ON v.adrelid = a.attrelid AND v.adnum = a.attnum \
         JOIN pg_depend d ON (d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass \
             AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')) \
           OR (d.classid = 'pg_attrdef'::regclass AND d.objid = v.oid AND d.refclassid = 'pg_class'::regclass) \
         JOIN pg_class s ON s.oid IN (d.objid, d.refobjid) AND s.relkind = 'S' \
         JOIN pg_namespace n ON n.oid = s.relnamespace \
         WHERE a.attrelid = {}::regclass AND a.attnum > 0",
        sql::value(table)
    ))?;
    Ok(rows.iter().map(|row| (column(row, 0).to_owned(), column(row, 1).to_owned())).collect())
}
