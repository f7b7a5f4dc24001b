//! What a forward mapping would make of rows that the way back has not written: temporary tables of the same names hold them.
//!
//! Invariant: all of it happens in one transaction that is rolled back, and the tables themselves are only read.

use std::sync::Arc;

use super::comparing::source_range;
use super::connection::{Connection, column};
use super::rows::CopyRows;
use super::shape::Shapes;
use super::sql;
use super::staging::{Staged, same};
use super::target::PostgresTarget;
use crate::engine::compare::RowHash;
use crate::engine::select_text::with_schema;
use crate::engine::{Batch, KeyRange, Mapping};
use crate::error::MigrateError;

impl PostgresTarget {
    pub(super) fn rehearse(
        &mut self,
        forward: &Mapping,
        written: &[(&Mapping, Batch<CopyRows>)],
        range: &KeyRange,
    ) -> Result<Vec<RowHash>, MigrateError> {
        let there = Shapes::new(Arc::clone(&self.connection.place), Arc::clone(&self.source));
        let shape = there.of(forward)?;
        self.connection.run("BEGIN")?;
        let made = self
            .lay_all_over(forward, written, range)
            .and_then(|over| source_range(&over, &shape, range)?.hashes(&mut self.connection, &shape));
        // What the server said first is what is told.
        let undone = self.connection.run("ROLLBACK");
        let made = made?;
        undone.map(|_| made)
    }

    /// Gives the forward mapping as it reads what was laid over.
    fn lay_all_over(
        &mut self,
        forward: &Mapping,
        written: &[(&Mapping, Batch<CopyRows>)],
        range: &KeyRange,
    ) -> Result<Mapping, MigrateError> {
        let mut over = forward.clone();
        for (inverse, batch) in written {
            let shape = self.shapes.of(inverse)?;
            let staged = Staged::of(inverse, &shape);
            self.connection.run(&staged.tables())?;
            self.connection.copy_in(&staged.rows, &batch.rows)?;
            let within = sql::within(&staged.carries("t.").join(", "), &shape.key_casts(), range)?;
            let (schema, table) = names(&mut self.connection, &shape.target.name)?;
            lay_over(&mut self.connection, &staged, &within, &table)?;
            over.select = with_schema(&over.select, &schema, &table, "pg_temp");
        }
        Ok(over)
    }
}

/// Makes a temporary table of a table's name that holds its rows of the range as they would be: a row keeps what the inverse does
/// not fill, and one that the inverse does not make is gone.
fn lay_over(
    connection: &mut Connection,
    staged: &Staged<'_>,
    within: &str,
    table: &str,
) -> Result<(), MigrateError> {
    let Staged { mapping, rows, table: real, .. } = staged;
    let generated = format!(
        "EXISTS (SELECT FROM pg_attribute WHERE attrelid = {}::regclass AND attgenerated <> '')",
        sql::value(real)
    );
    if connection.holds(&generated)? {
        return Err(MigrateError::refused(
            format!("{real} has generated columns, which no temporary table repeats"),
            "compare after the way back has run",
        ));
    }
    let over = sql::name(table);
    let (found, values) = (same(&staged.key("t."), &staged.key_of_row()), staged.values());
    let set = mapping.columns.iter().zip(&values);
    let set: Vec<String> = set.map(|(column, value)| format!("{} = {value}", sql::name(column))).collect();
    connection.run(&format!(
        "CREATE TEMP TABLE {over} ON COMMIT DROP AS SELECT t.* FROM {real} t WHERE ({within}) AND {has_row}; \
         UPDATE pg_temp.{over} t SET {set} FROM {rows} r WHERE {found}; \
         INSERT INTO pg_temp.{over} ({columns}) SELECT {values} FROM {rows} r \
           WHERE NOT EXISTS (SELECT FROM {real} t WHERE ({within}) AND {found}); \
         ANALYZE pg_temp.{over}",
        has_row = staged.has_row("t."),
        set = set.join(", "),
        columns = sql::names("", &mapping.columns),
        values = values.join(", "),
    ))?;
    Ok(())
}

/// A qualified table's schema and name, unquoted.
fn names(connection: &mut Connection, qualified: &str) -> Result<(String, String), MigrateError> {
    let rows = connection.rows(&format!(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {}::regclass",
        sql::value(qualified)
    ))?;
    let part = |at| rows.first().map_or_else(String::new, |row| column(row, at).to_owned());
    Ok((part(0), part(1)))
}
