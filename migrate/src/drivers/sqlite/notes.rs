//! Texts that the engine keeps beside a stream, and the chunks under way as people look at them.
//!
//! Invariant: a note is one row, so it is always whole.

use rusqlite::OptionalExtension as _;

use super::catalog::has_table;
use super::chunks::NOW;
use super::target::SqliteTarget;
use crate::engine::LeaseState;
use crate::error::MigrateError;

impl SqliteTarget {
    pub(super) fn read_note(&mut self, stream: &str, name: &str) -> Result<Option<String>, MigrateError> {
        if !has_table(&self.conn, self.schema, "banyan_notes")? {
            return Ok(None);
        }
        let sql = format!("SELECT text FROM {} WHERE stream = ?1 AND name = ?2", self.table("banyan_notes"));
        let mut statement = self.conn.prepare_cached(&sql)?;
        Ok(statement.query_row([stream, name], |row| row.get(0)).optional()?)
    }

    pub(super) fn write_note(
        &mut self,
        stream: &str,
        name: &str,
        text: Option<&str>,
    ) -> Result<(), MigrateError> {
        let notes = self.table("banyan_notes");
        match text {
            Some(text) => {
                let sql = format!("INSERT OR REPLACE INTO {notes} VALUES (?1, ?2, ?3)");
                self.conn.prepare_cached(&sql)?.execute([stream, name, text])?;
            }
            None => {
                let sql = format!("DELETE FROM {notes} WHERE stream = ?1 AND name = ?2");
                self.conn.prepare_cached(&sql)?.execute([stream, name])?;
            }
        }
        Ok(())
    }

    pub(super) fn chunks_under_way(&mut self, stream: &str) -> Result<Vec<LeaseState>, MigrateError> {
        let sql = format!(
            "SELECT mapping, chunk, CAST(lease_until - {NOW} AS INTEGER) FROM {} \
             WHERE stream = ?1 AND NOT done AND lease_until > 0 ORDER BY mapping, chunk",
            self.table("banyan_chunks")
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let leases = statement.query_map([stream], |row| {
            Ok(LeaseState { mapping: row.get(0)?, chunk: row.get(1)?, seconds_left: row.get(2)? })
        })?;
        Ok(leases.collect::<Result<_, _>>()?)
    }
}
