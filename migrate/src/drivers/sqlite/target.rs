//! The writing end.
//!
//! Invariant: a batch and the progress it makes are one commit, taken under the writer's lock from its first statement on, so
//! that what it reads of the stream row cannot move before it is written.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::bookkeeping;
use super::catalog::Table;
use super::connection::FileIdentity;
use super::fault::locate;
use super::known::needs_writable;
use super::rows::SqliteRows;
use super::{Durability, SqliteOptions, connection};
use crate::engine::driver::{ChunksLeft, RangeEnd};
use crate::engine::{
    Batch, Bound, ChunkDone, Claim, Guard, Kept, Lease, LeaseState, Mapping, Outcome, Position, Stream,
    StreamRow, Target,
};
use crate::error::MigrateError;

/// The target file, written.
pub struct SqliteTarget {
    pub(super) conn: Connection,
    pub(super) schema: &'static str,
    /// Temporary tables made already.
    pub(super) made: HashSet<String>,
    /// Tables without triggers of others, and the version of the schema that says so.
    pub(super) without_triggers: HashMap<String, i64>,
    pub(super) file: PathBuf,
    opened: FileIdentity,
    pub(super) source_file: PathBuf,
    pub(super) options: SqliteOptions,
}

/// How a transaction ends.
pub(super) enum Ending<T> {
    Commit(T),
    Undo(T),
}

/// Pages that the write-ahead log gathers before they go into the file: several chunks, because each time waits for the disk.
const CHECKPOINT_PAGES: u32 = 16 * 1024;

impl SqliteTarget {
    pub(super) fn open(
        file: &Path,
        schema: &'static str,
        source_file: &Path,
        options: SqliteOptions,
    ) -> Result<Self, MigrateError> {
        let opened = FileIdentity::of(file, schema)?;
        let conn = connection::attached(file, schema, "rw", options)?;
        // A power failure may undo the last batches, but only together with the progress recorded in them.
        let synchronous = if options.durability == Durability::Kept { "normal" } else { "off" };
        let pragmas = format!(
            "PRAGMA {schema}.synchronous = {synchronous}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}"
        );
        conn.execute_batch(&pragmas).map_err(|error| locate(error.into(), schema, file))?;
        let (file, source_file) = (file.to_owned(), source_file.to_owned());
        let (made, without_triggers) = (HashSet::new(), HashMap::new());
        Ok(Self { conn, schema, made, without_triggers, file, opened, source_file, options })
    }

    pub(super) fn located<T>(&self, done: Result<T, MigrateError>) -> Result<T, MigrateError> {
        done.map_err(|error| locate(error, self.schema, &self.file))
    }

    /// What failed because somebody altered the table meanwhile is told as that.
    fn explained<T>(&self, mapping: &Mapping, done: Result<T, MigrateError>) -> Result<T, MigrateError> {
        if matches!(done, Err(MigrateError::Failed { .. })) {
            let table = Table::read(&self.conn, self.schema, &mapping.table);
            self.located(table.and_then(|table| bookkeeping::fits(mapping, &table)))?;
            needs_writable(&self.conn, self.schema, mapping)?;
        }
        done
    }

    /// Runs `work` under the writer's lock.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<Ending<T>, MigrateError>,
    ) -> Result<T, MigrateError> {
        let begun = self.run("BEGIN IMMEDIATE").map(drop);
        let done = begun.and_then(|()| work(self)).and_then(|ending| match ending {
            Ending::Commit(value) => self.run("COMMIT").map(|_| value),
            Ending::Undo(value) => self.run("ROLLBACK").map(|_| value),
        });
        if done.is_err() && !self.conn.is_autocommit() {
            // What went wrong first is what is told.
            self.run("ROLLBACK").ok();
        }
        self.located(done)
    }

    /// Runs a statement without parameters; returns how many rows it changed.
    pub(super) fn run(&self, sql: &str) -> Result<usize, MigrateError> {
        Ok(self.conn.prepare_cached(sql)?.raw_execute()?)
    }

    pub(super) fn table(&self, name: &str) -> String {
        format!("{}.{}", self.schema, super::sql::quote(name))
    }
}

impl Target for SqliteTarget {
    type Rows = SqliteRows;

    fn prepare(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.transaction(|target| target.make_tables(stream).map(Ending::Commit))
    }

    fn stream(&mut self, name: &str) -> Result<Option<StreamRow>, MigrateError> {
        self.opened.needs_same(&self.file, self.schema)?;
        let done = bookkeeping::stream(&self.conn, self.schema, name);
        self.located(done)
    }

    fn create_stream(&mut self, name: &str, row: &StreamRow) -> Result<(), MigrateError> {
        self.transaction(|target| target.make_stream(name, row).map(Ending::Commit))
    }

    fn forget_stream(&mut self, stream: &Stream, kept: Kept) -> Result<(), MigrateError> {
        self.transaction(|target| target.forget(stream, kept).map(Ending::Commit))
    }

    fn is_empty(&mut self, stream: &Stream) -> Result<bool, MigrateError> {
        let done = self.holds_nothing(stream);
        self.located(done)
    }

    fn claim(&mut self, name: &str) -> Result<Claim, MigrateError> {
        self.transaction(|target| target.take_over(name).map(Ending::Commit))
    }

    fn set_next(&mut self, claim: &Claim, next: &Position) -> Result<bool, MigrateError> {
        let sql =
            format!("UPDATE {} SET next = ?1 WHERE name = ?2 AND token = ?3", self.table("banyan_streams"));
        let done = self
            .conn
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute((&next.0, &claim.stream, claim.token)));
        self.located(done.map_err(Into::into)).map(|rows| rows == 1)
    }

    fn set_pos(&mut self, claim: &Claim, as_read: &Position, pos: &Position) -> Result<bool, MigrateError> {
        let sql = format!(
            "UPDATE {} SET pos = ?1 WHERE name = ?2 AND token = ?3 AND pos = ?4",
            self.table("banyan_streams")
        );
        let done = self
            .conn
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute((&pos.0, &claim.stream, claim.token, &as_read.0)));
        self.located(done.map_err(Into::into)).map(|rows| rows == 1)
    }

    fn known_keys(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<(SqliteRows, Option<Bound>), MigrateError> {
        let done = self.keys_after(mapping, after, rows);
        self.located(done)
    }

    fn apply(
        &mut self,
        guard: Guard<'_, SqliteRows>,
        mapping: &Mapping,
        batch: &Batch<SqliteRows>,
    ) -> Result<Outcome<SqliteRows>, MigrateError> {
        let made = self.make_staging(mapping);
        self.located(made)?;
        let applied = self.transaction(|target| target.apply_batch(guard, mapping, batch));
        self.explained(mapping, applied)
    }

    fn apply_together(
        &mut self,
        claim: &Claim,
        parts: &[(&Mapping, Batch<SqliteRows>)],
    ) -> Result<Outcome<SqliteRows>, MigrateError> {
        for (mapping, _) in parts {
            let made = self.make_staging(mapping);
            self.located(made)?;
        }
        let applied = self.transaction(|target| target.apply_parts(claim, parts));
        parts.iter().fold(applied, |applied, (mapping, _)| self.explained(mapping, applied))
    }

    fn rest(&mut self, name: &str) -> Result<Claim, MigrateError> {
        self.transaction(|target| target.set_to_rest(name).map(Ending::Commit))
    }

    fn wake(&mut self, name: &str, seen: i64) -> Result<bool, MigrateError> {
        self.transaction(|target| target.set_awake(name, seen).map(Ending::Commit))
    }

    fn start_at(&mut self, stream: &Stream, row: &StreamRow) -> Result<(), MigrateError> {
        self.transaction(|target| target.make_resting(stream, row).map(Ending::Commit))
    }

    fn lease_chunk(
        &mut self,
        stream: &Stream,
        seconds: u32,
        end: &mut RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError> {
        self.next_chunk(stream, seconds, end)
    }

    fn register_chunk(&mut self, lease: &Lease, snapshot: &Position) -> Result<bool, MigrateError> {
        self.transaction(|target| target.register(lease, snapshot).map(Ending::Commit))
    }

    fn split_chunk(&mut self, lease: &Lease, end: &Bound) -> Result<bool, MigrateError> {
        self.transaction(|target| target.split(lease, end).map(Ending::Commit))
    }

    fn release_chunk(&mut self, lease: &Lease) -> Result<(), MigrateError> {
        self.transaction(|target| target.release(lease).map(Ending::Commit))
    }

    fn chunks_left(&mut self, stream: &Stream) -> Result<ChunksLeft, MigrateError> {
        let done = self.count_chunks(stream);
        self.located(done)
    }

    fn load(
        &mut self,
        done: ChunkDone<'_>,
        mapping: &Mapping,
        batch: &Batch<SqliteRows>,
    ) -> Result<bool, MigrateError> {
        let made = self.make_staging(mapping);
        self.located(made)?;
        let loaded = self.transaction(|target| target.load_chunk(done, mapping, batch));
        self.explained(mapping, loaded)
    }

    fn begin_loading(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let done = self.drop_indexes(stream);
        self.located(done)
    }

    fn finish_loading(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let done = self.build_indexes(stream);
        self.located(done)
    }

    fn needed_positions(&mut self, name: &str) -> Result<Vec<Position>, MigrateError> {
        let done = self.needed(name);
        self.located(done)
    }

    fn move_sequences(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let done = self.raise_sequences(stream);
        self.located(done)
    }

    fn note(&mut self, stream: &str, name: &str) -> Result<Option<String>, MigrateError> {
        let done = self.read_note(stream, name);
        self.located(done)
    }

    fn set_note(&mut self, stream: &str, name: &str, text: Option<&str>) -> Result<(), MigrateError> {
        let done = self.write_note(stream, name, text);
        self.located(done)
    }

    fn leases(&mut self, stream: &str) -> Result<Vec<LeaseState>, MigrateError> {
        let done = self.chunks_under_way(stream);
        self.located(done)
    }
}
