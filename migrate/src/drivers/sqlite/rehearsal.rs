//! What a forward mapping would make of rows that the way back has not written: temporary tables of the same names hold them.
//!
//! Invariant: the tables themselves are only read.

use super::comparing::hashes_of_select;
use super::rows::{SqliteRows, bind};
use super::sql::{list, numbered, quote, ranged, within};
use super::staged::Bounds;
use super::target::SqliteTarget;
use crate::engine::compare::RowHash;
use crate::engine::select_text::with_schema;
use crate::engine::{Batch, KeyRange, Mapping};
use crate::error::MigrateError;

impl SqliteTarget {
    pub(super) fn rehearse(
        &mut self,
        forward: &Mapping,
        written: &[(&Mapping, Batch<SqliteRows>)],
        range: &KeyRange,
    ) -> Result<Vec<RowHash>, MigrateError> {
        let mut over = forward.clone();
        for (inverse, batch) in written {
            self.lay_over(inverse, &batch.rows, range)?;
            over.select = with_schema(&over.select, self.schema, &inverse.table, "temp");
        }
        let made = hashes_of_select(&self.conn, forward, &ranged(&over, range), range);
        for (inverse, _) in written {
            self.conn.execute_batch(&format!("DROP TABLE temp.{}", quote(&inverse.table)))?;
        }
        made
    }

    /// Makes a temporary table of a table's name that holds its rows of the range as they would be.
    fn lay_over(
        &mut self,
        inverse: &Mapping,
        rows: &SqliteRows,
        range: &KeyRange,
    ) -> Result<(), MigrateError> {
        let table = super::catalog::Table::read(&self.conn, self.schema, &inverse.table)?;
        if let Some(column) = table.columns.iter().find(|column| column.generated) {
            return Err(MigrateError::refused(
                format!("{}.{} is generated, which no temporary table repeats", inverse.table, column.name),
                "compare after the way back has run",
            ));
        }
        let (real, over) = (self.table(&inverse.table), format!("temp.{}", quote(&inverse.table)));
        let (columns, key) = (list("", &inverse.columns), list("", &inverse.key));
        let of_range = within(&list("", &inverse.carries), inverse.carries.len(), range);
        self.conn.execute_batch(&format!(
            "DROP TABLE IF EXISTS {over}; CREATE TEMP TABLE {} AS SELECT * FROM {real} LIMIT 0; \
             DROP TABLE IF EXISTS temp.banyan_old; CREATE TEMP TABLE banyan_old AS SELECT * FROM {real} LIMIT 0; \
             CREATE INDEX temp.banyan_old_key ON banyan_old ({key})",
            quote(&inverse.table)
        ))?;
        let fill = format!("INSERT INTO temp.banyan_old SELECT * FROM {real} WHERE {of_range}");
        let bounds = Bounds::of(range, inverse.carries.len())?;
        bounds.with(|params| self.conn.execute(&fill, params))?;
        // A row keeps what the inverse does not fill; one that the inverse does not make is gone.
        let find = inverse.key.iter().enumerate().map(|(at, name)| format!("{} IS ?{}", quote(name), at + 1));
        let keep = format!(
            "INSERT INTO {over} SELECT * FROM temp.banyan_old WHERE {}",
            find.collect::<Vec<_>>().join(" AND ")
        );
        let set = inverse.columns.iter().enumerate();
        let set: Vec<String> = set.map(|(at, name)| format!("{} = ?{}", quote(name), at + 1)).collect();
        let change = format!("UPDATE {over} SET {} WHERE rowid = last_insert_rowid()", set.join(", "));
        let values = numbered("?", inverse.columns.len());
        let add = format!("INSERT INTO {over} ({columns}) VALUES ({values})");
        let places: Vec<usize> = inverse
            .key
            .iter()
            .filter_map(|name| inverse.columns.iter().position(|column| column == name))
            .collect();
        for row in 0..rows.count() {
            let mut keeping = self.conn.prepare_cached(&keep)?;
            bind(&mut keeping, 1, places.iter().map(|place| rows.at(row, *place)))?;
            let statement = if keeping.raw_execute()? > 0 { &change } else { &add };
            let mut writing = self.conn.prepare_cached(statement)?;
            bind(&mut writing, 1, rows.row(row))?;
            writing.raw_execute()?;
        }
        Ok(())
    }
}
