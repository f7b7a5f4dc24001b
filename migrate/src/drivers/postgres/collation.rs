//! By which rules the two ends compare keys of texts.
//!
//! Invariant: a column of the target finds rows by source key only if it tells all keys apart that the source tells apart.

use super::connection::Connection;
use super::sql;
use crate::engine::Mapping;
use crate::error::MigrateError;

/// A column of the source key, and the target's that carries it, ordered or compared by other rules.
pub(super) struct Unlike {
    from: String,
    to: String,
    one: Rules,
    other: Rules,
}

struct Rules {
    name: String,
    /// Some texts are equal that are spelt otherwise.
    joins: bool,
}

impl Unlike {
    /// What it is about.
    pub(super) fn what(&self) -> String {
        let Self { from, to, one, other } = self;
        format!(
            "the key {from} is ordered by {} at the source, {to} by {} at the target",
            one.name, other.name
        )
    }

    /// Whether the target may hold keys equal that the source does not.
    pub(super) fn may_join(&self) -> bool {
        self.other.joins
    }

    /// Whether the source may hold keys equal that the target does not.
    pub(super) fn may_part(&self) -> bool {
        self.one.joins
    }
}

/// What to do about one that may join keys.
pub(super) fn remedy(mapping: &Mapping) -> String {
    format!(
        "the target's holds different texts equal, so rows of two source keys would be one: give both the same type and \
         COLLATE, or say carries = [] in the mapping of {}, so that a map keeps the keys as the source has them",
        mapping.table
    )
}

/// All such columns; both tables are named with their schemas.
pub(super) fn unlike(
    source: &mut Connection,
    target: &mut Connection,
    mapping: &Mapping,
    root: &str,
    table: &str,
) -> Result<Vec<Unlike>, MigrateError> {
    let mut unlike = Vec::new();
    for (from, to) in mapping.root_key.iter().zip(&mapping.carries) {
        let (Some(one), Some(other)) = (rules(source, root, from)?, rules(target, table, to)?) else {
            continue;
        };
        if one.name != other.name {
            unlike.push(Unlike { from: from.clone(), to: to.clone(), one, other });
        }
    }
    Ok(unlike)
}

/// Refuses a mapping whose target would take two source keys for one.
pub(super) fn refuse_joined_keys(
    source: &mut Connection,
    target: &mut Connection,
    mapping: &Mapping,
    root: &str,
    table: &str,
) -> Result<(), MigrateError> {
    match unlike(source, target, mapping, root, table)?.iter().find(|pair| pair.may_join()) {
        Some(pair) => Err(MigrateError::refused(pair.what(), remedy(mapping))),
        None => Ok(()),
    }
}

/// Nothing if the column holds no text.
fn rules(connection: &mut Connection, table: &str, column: &str) -> Result<Option<Rules>, MigrateError> {
    let rows = connection.rows(&format!(
        "SELECT CASE WHEN t.typname = 'citext' THEN 'citext' \
           WHEN l.collname = 'default' THEN 'the database''s ' || d.datcollate ELSE l.collname END, \
           (t.typname = 'citext' OR NOT l.collisdeterministic)::int \
         FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation JOIN pg_type b ON b.oid = a.atttypid \
         JOIN pg_type t ON t.oid = CASE b.typbasetype WHEN 0 THEN b.oid ELSE b.typbasetype END \
         JOIN pg_database d ON d.datname = current_database() \
         WHERE a.attrelid = {}::regclass AND a.attname = {}",
        sql::value(table),
        sql::value(column)
    ))?;
    let read = |row: &postgres::SimpleQueryRow| Rules {
        name: row.get(0).unwrap_or_default().to_owned(),
        joins: row.get(1) == Some("1"),
    };
    Ok(rows.first().map(read))
}
