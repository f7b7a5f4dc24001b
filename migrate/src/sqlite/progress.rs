//! How far a backfill has come, kept in the database that is filled, so that one commit holds rows and progress.
//!
//! Invariant: progress moves only from the state that was read in the same transaction; of two backfills that run
//! at once, each chunk is counted by one.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, named_params};
use serde::Serialize;

use super::Pair;
use super::copy::Deferred;
use super::sql::table;
use super::values::Key;
use crate::error::MigrateError;
use crate::flow::End;

const PROGRESS: &str = "banyan_backfill";
const DEFERRED: &str = "banyan_backfill_deferred";

/// How far a backfill has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// Which run of dual-write it belongs to: a number that never comes twice.
    pub epoch: i64,
    /// The mapping it copies with.
    pub mapping_hash: String,
    /// Every row is written anew, whatever its version.
    pub again: bool,
    /// All keys up to this one are done.
    #[serde(serialize_with = "as_text")]
    pub next_key: Option<Key>,
    /// The greatest key when it began.
    #[serde(serialize_with = "as_text")]
    pub max_key: Option<Key>,
    /// Root rows there were when it began.
    pub expected: i64,
    /// Keys copied.
    pub rows: i64,
    /// Chunks committed.
    pub chunks: i64,
    /// All ranges are done and nothing is deferred.
    pub done: bool,
}

fn as_text<S: serde::Serializer>(key: &Option<Key>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        None => serializer.serialize_none(),
        Some(Value::Integer(number)) => serializer.serialize_i64(*number),
        Some(other) => serializer.serialize_str(&super::values::key_text(other)),
    }
}

impl Pair {
    /// Creates the tables that progress is kept in.
    pub fn prepare_progress(&self, end: End) -> Result<(), MigrateError> {
        let (progress, deferred) = (table(end, PROGRESS), table(end, DEFERRED));
        Ok(self.conn.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {progress} (context TEXT PRIMARY KEY, epoch INTEGER NOT NULL, \
               mapping_hash TEXT NOT NULL, again INTEGER NOT NULL, next_key ANY, max_key ANY, \
               expected INTEGER NOT NULL, rows INTEGER NOT NULL, chunks INTEGER NOT NULL, done INTEGER NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS {deferred} (context TEXT NOT NULL, key ANY NOT NULL, reason TEXT NOT NULL, \
               PRIMARY KEY (context, key)) STRICT, WITHOUT ROWID;"
        ))?)
    }

    /// The progress recorded, or nothing if no backfill ran since dual-write was turned on.
    pub fn progress(&self, end: End, context: &str) -> Result<Option<Progress>, MigrateError> {
        if !self.has_table(end, PROGRESS)? {
            return Ok(None);
        }
        let sql = format!(
            "SELECT epoch, mapping_hash, again, next_key, max_key, expected, rows, chunks, done FROM {} WHERE context = ?1",
            table(end, PROGRESS)
        );
        let row = self.conn.query_row(&sql, [context], |row| {
            Ok(Progress {
                epoch: row.get(0)?,
                mapping_hash: row.get(1)?,
                again: row.get(2)?,
                next_key: row.get(3)?,
                max_key: row.get(4)?,
                expected: row.get(5)?,
                rows: row.get(6)?,
                chunks: row.get(7)?,
                done: row.get(8)?,
            })
        });
        row.optional().map_err(self.at(end))
    }

    /// Records progress in place of `before`, or refuses if something else stands there by now.
    pub fn record_progress(
        &self,
        end: End,
        context: &str,
        before: Option<&Progress>,
        now: &Progress,
    ) -> Result<(), MigrateError> {
        if self.progress(end, context)?.as_ref() != before {
            return Err(MigrateError::refused(
                format!("the progress of the backfill of {context} was changed by somebody else"),
                "let the other backfill end, or run this one again if dual-write was turned off and on",
            ));
        }
        let sql = format!(
            "INSERT OR REPLACE INTO {} (context, epoch, mapping_hash, again, next_key, max_key, expected, rows, chunks, done) \
             VALUES (:context, :epoch, :mapping_hash, :again, :next_key, :max_key, :expected, :rows, :chunks, :done)",
            table(end, PROGRESS)
        );
        self.conn.execute(
            &sql,
            named_params! {
                ":context": context, ":epoch": now.epoch, ":mapping_hash": now.mapping_hash, ":again": now.again,
                ":next_key": now.next_key, ":max_key": now.max_key, ":expected": now.expected, ":rows": now.rows,
                ":chunks": now.chunks, ":done": now.done,
            },
        )?;
        Ok(())
    }

    /// Voids all progress: what was copied before may have been changed while nobody was told.
    pub fn void_progress(&self, end: End, context: &str) -> Result<(), MigrateError> {
        for name in [PROGRESS, DEFERRED] {
            if self.has_table(end, name)? {
                self.conn
                    .execute(&format!("DELETE FROM {} WHERE context = ?1", table(end, name)), [context])?;
            }
        }
        Ok(())
    }

    /// Keys that could not be stored, with the reasons.
    pub fn deferred(&self, end: End, context: &str) -> Result<Vec<Deferred>, MigrateError> {
        if !self.has_table(end, DEFERRED)? {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT key, reason FROM {} WHERE context = ?1 ORDER BY key", table(end, DEFERRED));
        let mut statement = self.conn.prepare(&sql)?;
        let rows =
            statement.query_map([context], |row| Ok(Deferred { key: row.get(0)?, reason: row.get(1)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Remembers keys that could not be stored.
    pub fn defer(&self, end: End, context: &str, keys: &[Deferred]) -> Result<(), MigrateError> {
        let sql = format!(
            "INSERT OR REPLACE INTO {} (context, key, reason) VALUES (?1, ?2, ?3)",
            table(end, DEFERRED)
        );
        let mut statement = self.conn.prepare(&sql)?;
        for Deferred { key, reason } in keys {
            statement.execute(rusqlite::params![context, key, reason])?;
        }
        Ok(())
    }

    /// Forgets all keys that could not be stored.
    pub fn forget_deferred(&self, end: End, context: &str) -> Result<(), MigrateError> {
        self.conn.execute(&format!("DELETE FROM {} WHERE context = ?1", table(end, DEFERRED)), [context])?;
        Ok(())
    }
}
