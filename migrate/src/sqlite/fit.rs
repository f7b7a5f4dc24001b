//! Whether a manifest and the databases agree: every table and column named is there, every select compiles.
//!
//! Invariant: a mapping without misfits can only fail at run time because of a row's values or a broken database.

use super::Pair;
use super::catalog::TableShape;
use super::sql::{self, KeyRange, Keys};
use crate::error::MigrateError;
use crate::flow::End;
use crate::manifest::{Manifest, TableMap};

impl Pair {
    /// Everything in the manifest that the databases do not have, one line each.
    pub fn misfits(&self, manifest: &Manifest) -> Result<Vec<String>, MigrateError> {
        let mut misfits = Vec::new();
        for end in [End::Source, End::Target] {
            for map in manifest.maps_into(end) {
                self.misfits_of(manifest, end, map, &mut misfits)?;
            }
        }
        for end in [End::Source, End::Target] {
            let tables = manifest.tables(end);
            let Some(shape) = self.shape(end, &tables.root)? else { continue };
            for column in [&tables.key, &tables.version] {
                if shape.column(column).is_none() {
                    misfits.push(format!(
                        "[{end}] names column {column}, which its table {} does not have",
                        tables.root
                    ));
                }
            }
        }
        Ok(misfits)
    }

    fn misfits_of(
        &self,
        manifest: &Manifest,
        end: End,
        map: &TableMap,
        misfits: &mut Vec<String>,
    ) -> Result<(), MigrateError> {
        let name = describe(end, map);
        let Some(shape) = self.shape(end, &map.table)? else {
            misfits.push(format!("{name}: the {end} database has no table {}", map.table));
            return Ok(());
        };
        for column in &map.columns {
            match shape.column(column) {
                None => misfits.push(format!(
                    "{name} names column {column}, which the {end} table {} does not have",
                    map.table
                )),
                Some(found) if found.generated => {
                    misfits.push(format!(
                        "{name} writes column {column}, which the {end} table {} computes itself",
                        map.table
                    ));
                }
                Some(_) => {}
            }
        }
        for column in unfilled(&shape, map) {
            misfits
                .push(format!("{name} leaves out column {column} of {}, which must have a value", map.table));
        }
        if let Err(problem) = self.compile(map) {
            let tables = manifest.tables(end.other()).tables.join(", ");
            misfits.push(match problem.split_once("no such column: ") {
                Some((_, column)) => {
                    format!("{name}: its select names column {column}, which none of the tables {tables} has")
                }
                None => format!("{name}: its select is refused: {problem}"),
            });
        }
        Ok(())
    }

    /// Compiles a map's select and counts its columns.
    fn compile(&self, map: &TableMap) -> Result<(), String> {
        let range = KeyRange::default();
        let select = sql::restrict(&map.select, Keys::Range(&range));
        let statement = self.conn.prepare(&select).map_err(|error| match error {
            rusqlite::Error::SqlInputError { msg, .. } => msg,
            other => other.to_string(),
        })?;
        let (made, named) = (statement.column_count(), map.columns.len());
        if made != named {
            return Err(format!("it makes {made} columns, but {named} are named"));
        }
        Ok(())
    }
}

/// Columns without a default that must have a value and are not written.
fn unfilled<'a>(shape: &'a TableShape, map: &'a TableMap) -> impl Iterator<Item = &'a str> {
    let written = |name: &str| map.columns.iter().any(|column| column.eq_ignore_ascii_case(name));
    let must =
        shape.columns.iter().filter(|column| column.not_null && !column.has_default && !column.generated);
    must.map(|column| column.name.as_str()).filter(move |name| !written(name))
}

/// How the manifest calls a map.
pub(crate) fn describe(end: End, map: &TableMap) -> String {
    let kind = match end {
        End::Target => "mapping",
        End::Source => "inverse",
    };
    format!("[[{kind}]] {}", map.table)
}
