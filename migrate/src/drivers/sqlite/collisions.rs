//! Unique values that swap or move, and rows that stand in the way.
//!
//! Invariant: either all rows of the batch are written, or none and the holders of what they need are named. All rows that
//! change are taken out before the first is put back, whole, so no order of them matters.

use rusqlite::Connection;

use super::apply::Names;
use super::catalog::Table;
use super::fault::is_unique;
use super::likeness;
use super::log::select;
use super::rows::{SqliteRows, bind, show};
use super::sql::{list, numbered, quote, tuple};
use super::target::SqliteTarget;
use crate::engine::{Mapping, Outcome};
use crate::error::MigrateError;
use crate::sqlite::words;

/// Rows of other keys that a batch would have to overwrite, shown at once; more come with the next try.
const SHOWN: usize = 100;

/// Rows to be put into a table.
struct Rows<'a> {
    columns: &'a [String],
    rows: SqliteRows,
}

/// What stood in the way.
struct Found {
    holders: SqliteRows,
    example: Option<String>,
    /// Made once it is needed.
    likeness: Option<Connection>,
}

impl SqliteTarget {
    /// Rows of the table that have a key of the batch's rows and belong to source keys outside the batch, or to none.
    pub(super) fn rows_of_others(
        &self,
        names: &Names,
        mapping: &Mapping,
    ) -> Result<Option<Outcome<SqliteRows>>, MigrateError> {
        if names.own == names.carried {
            return Ok(None);
        }
        let sql = format!(
            "SELECT {}, {} FROM {} AS r CROSS JOIN {} AS t WHERE {} AND ({}) IS NOT TRUE LIMIT {SHOWN}",
            self.source_key(names),
            names.own.join(", "),
            names.rows,
            names.table,
            names.is_own(),
            names.of_batch()
        );
        let width = names.width + names.own.len();
        let found = select(&self.conn, &sql, width, [])?;
        if found.count() == 0 {
            return Ok(None);
        }
        let mut holders = SqliteRows::new(names.width);
        for row in
            (0..found.count()).filter(|row| !matches!(found.at(*row, 0), rusqlite::types::ValueRef::Null))
        {
            found.row(row).take(names.width).for_each(|value| holders.push(value));
        }
        let shown = found.row(0).map(show).collect::<Vec<_>>();
        let (source, own) = shown.split_at(names.width.min(shown.len()));
        let example = format!(
            "the row of {} with ({}) = ({}) belongs to the source key ({})",
            mapping.table,
            mapping.key.join(", "),
            own.join(", "),
            source.join(", ")
        );
        Ok(Some(Outcome::Collides { holders: Some(holders), example }))
    }

    /// The source key of the row `t`; NULL if it has none.
    fn source_key(&self, names: &Names) -> String {
        let Some(map) = &names.map else { return names.carried.join(", ") };
        let own = names.own.iter().enumerate().map(|(at, own)| format!("m.t{} = {own}", at + 1));
        let own = own.collect::<Vec<_>>().join(" AND ");
        let part = |n| format!("(SELECT m.s{n} FROM {map} AS m WHERE {own})");
        (1..=names.width).map(part).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn write_apart(
        &self,
        names: &Names,
        mapping: &Mapping,
    ) -> Result<Outcome<SqliteRows>, MigrateError> {
        let table = Table::read(&self.conn, self.schema, &mapping.table)?;
        let stored = table.stored();
        let mapped =
            |name: &String| mapping.columns.iter().position(|column| column.eq_ignore_ascii_case(name));
        let merged = stored.iter().map(|name| {
            mapped(name)
                .and_then(|at| names.values.get(at).cloned())
                .unwrap_or_else(|| format!("t.{}", quote(name)))
        });
        let merged = merged.collect::<Vec<_>>().join(", ");
        // CROSS JOIN keeps SQLite from walking the table instead of the batch.
        let changing = format!(
            "FROM {} AS r CROSS JOIN {} AS t WHERE {} AND {}",
            names.rows,
            names.table,
            names.is_own(),
            names.differs(mapping)
        );
        let moved = select(&self.conn, &format!("SELECT {merged} {changing}"), stored.len(), [])?;
        let fresh = format!(
            "SELECT {} FROM {} AS r WHERE NOT EXISTS (SELECT 1 FROM {} AS t WHERE {})",
            names.values.join(", "),
            names.rows,
            names.table,
            names.is_own()
        );
        let fresh = select(&self.conn, &fresh, names.values.len(), [])?;
        let own = names.own.join(", ");
        self.run(&format!(
            "DELETE FROM {} AS t WHERE {} IN (SELECT {own} {changing})",
            names.table,
            tuple(&own)
        ))?;
        let mut found = Found { holders: SqliteRows::new(names.width), example: None, likeness: None };
        let moved = Rows { columns: &stored, rows: moved };
        let fresh = Rows { columns: &mapping.columns, rows: fresh };
        let mut written = 0;
        for rows in [moved, fresh] {
            written += self.put_back(&rows, &table, names, mapping, &mut found)?;
        }
        Ok(match found.example {
            Some(example) => Outcome::Collides { holders: Some(found.holders), example },
            None => Outcome::Written(written),
        })
    }

    fn put_back(
        &self,
        rows: &Rows<'_>,
        table: &Table,
        names: &Names,
        mapping: &Mapping,
        found: &mut Found,
    ) -> Result<u64, MigrateError> {
        let (columns, values) = (list("", rows.columns), numbered("?", rows.columns.len()));
        let sql = format!("INSERT INTO {} ({columns}) VALUES ({values})", names.table);
        let mut statement = self.conn.prepare_cached(&sql)?;
        for row in 0..rows.rows.count() {
            bind(&mut statement, 1, rows.rows.row(row))?;
            let Err(error) = statement.raw_execute() else { continue };
            let shown = rows.rows.words(row);
            if error.sqlite_error_code() != Some(rusqlite::ErrorCode::ConstraintViolation) {
                return Err(error.into());
            }
            if !is_unique(&error) || !self.find_holders(rows, row, table, names, found)? {
                return Err(not_storable(mapping, rows.columns, &shown, &error));
            }
        }
        Ok(rows.rows.count() as u64)
    }

    /// Adds the rows that hold a unique value of this one; false if there are none.
    fn find_holders(
        &self,
        rows: &Rows<'_>,
        row: usize,
        table: &Table,
        names: &Names,
        found: &mut Found,
    ) -> Result<bool, MigrateError> {
        if found.likeness.is_none() {
            found.likeness = Some(likeness::of(&self.conn, self.schema, &table.name)?);
        }
        let Some(likeness) = &found.likeness else { return Ok(false) };
        let stored = table.stored();
        let mut any = false;
        for (unique, values) in likeness::held(likeness, table, rows.columns, rows.rows.row(row))? {
            let sql = format!(
                "SELECT {}, {} FROM {} AS t WHERE {}",
                self.source_key(names),
                list("t.", &stored),
                names.table,
                unique.holds_parameters()
            );
            let mut statement = self.conn.prepare_cached(&sql)?;
            bind(&mut statement, 1, values.row(0))?;
            let mut holders = statement.raw_query();
            while let Some(holder) = holders.next()? {
                any = true;
                if !matches!(holder.get_ref(0)?, rusqlite::types::ValueRef::Null) {
                    found.holders.take(holder, 0)?;
                }
                let mut other = SqliteRows::new(stored.len());
                other.take(holder, names.width)?;
                found.example.get_or_insert_with(|| {
                    format!(
                        "({}) = {} against ({}) = {}",
                        rows.columns.join(", "),
                        rows.rows.words(row),
                        stored.join(", "),
                        other.words(0)
                    )
                });
            }
        }
        Ok(any)
    }
}

fn not_storable(mapping: &Mapping, columns: &[String], shown: &str, error: &rusqlite::Error) -> MigrateError {
    MigrateError::refused(
        format!(
            "{} cannot hold the row ({}) = {shown}: {}; the rest of its batch waits with it",
            mapping.table,
            columns.join(", "),
            words(error)
        ),
        "correct the row at the source, the mapping, or the table's constraint, then run it again",
    )
}
