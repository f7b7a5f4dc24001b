//! The SQLite driver: one connection that sees both databases, and everything that is written in its dialect.
//!
//! Invariants: the end that is not written is attached read-only, so no mistake in a mapping can touch it; a write
//! transaction takes the writer's lock *before* its snapshot of the other end, so that snapshot is never behind an
//! image that the written end has applied.

mod catalog;
mod compare;
mod copy;
mod dirty;
mod explain;
mod fault;
mod fit;
mod ownership;
mod profile;
mod progress;
mod sql;
mod values;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use catalog::{Column, KeyKind, TableShape, Trigger, UniqueIndex};
pub use compare::{Scan, SideRows};
pub(crate) use compare::{key_places, order_rows, same_value};
pub(crate) use copy::Job;
pub use copy::{Copied, Deferred};
pub use dirty::KeyState;
pub(crate) use fault::words;
pub(crate) use fit::describe;
pub use ownership::{Backlog, ContextState, SequenceMove};
pub use profile::Profile;
pub use progress::Progress;
pub use sql::KeyRange;
pub(crate) use values::key_text;
pub use values::{Key, Row, show};

use crate::error::MigrateError;
use crate::flow::End;

/// How long a lock is waited for, unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the two databases are.
#[derive(Debug, Clone)]
pub struct Files {
    /// The monolith's database.
    pub source: PathBuf,
    /// The service's database.
    pub target: PathBuf,
}

/// Both databases on one connection, at most one of them writable.
#[derive(Debug)]
pub struct Pair {
    conn: Connection,
    files: Files,
    writable: Option<End>,
    /// How long a lock is waited for.
    patience: Cell<Duration>,
}

impl Files {
    /// The file of one end.
    pub fn of(&self, end: End) -> &Path {
        match end {
            End::Source => &self.source,
            End::Target => &self.target,
        }
    }
}

impl Pair {
    /// Opens both read-only.
    pub fn read_only(files: &Files) -> Result<Self, MigrateError> {
        Self::open(files, None)
    }

    /// Opens one end for writing, the other read-only.
    pub fn writing(files: &Files, end: End) -> Result<Self, MigrateError> {
        Self::open(files, Some(end))
    }

    fn open(files: &Files, writable: Option<End>) -> Result<Self, MigrateError> {
        let pair = Self::empty(files, writable)?;
        // BEGIN IMMEDIATE locks in the order of attachment: the end that is written must come first.
        let first = writable.unwrap_or(End::Source);
        pair.attach(first)?;
        pair.attach(first.other())?;
        if let Some(end) = writable {
            // A power failure may undo the last chunks, but only together with the progress recorded in them.
            pair.conn
                .execute_batch(&format!("PRAGMA {}.synchronous = normal", end.schema()))
                .map_err(pair.at(end))?;
        }
        pair.conn
            .execute_batch("CREATE TEMP TABLE banyan_keys (key ANY PRIMARY KEY) STRICT, WITHOUT ROWID")?;
        Ok(pair)
    }

    /// Opens one end read-only, and only that one.
    pub(crate) fn alone(files: &Files, end: End) -> Result<Self, MigrateError> {
        let pair = Self::empty(files, None)?;
        pair.attach(end)?;
        Ok(pair)
    }

    fn empty(files: &Files, writable: Option<End>) -> Result<Self, MigrateError> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(":memory:", flags)?;
        conn.busy_timeout(PATIENCE)?;
        conn.execute_batch("PRAGMA temp_store = memory; PRAGMA foreign_keys = off")?;
        Ok(Self { conn, files: files.clone(), writable, patience: Cell::new(PATIENCE) })
    }

    fn attach(&self, end: End) -> Result<(), MigrateError> {
        let file = self.files.of(end);
        std::fs::metadata(file).map_err(|error| MigrateError::Unreachable {
            message: format!(
                "cannot open the {end} database {}; start the {} once, or check its path",
                file.display(),
                end.side()
            ),
            source: Some(Box::new(error)),
        })?;
        let mode = if self.writable == Some(end) { "rw" } else { "ro" };
        let uri = format!("file:{}?mode={mode}", escape(&file.display().to_string()));
        let journal = self
            .conn
            .execute(&format!("ATTACH ?1 AS {}", end.schema()), [uri])
            .and_then(|_| {
                let pragma = format!("PRAGMA {}.journal_mode", end.schema());
                self.conn.query_row(&pragma, [], |row| row.get::<_, String>(0))
            })
            .map_err(|error| self.cannot_open(end, &error))?;
        if journal != "wal" {
            let reason = format!(
                "the {end} database {} is in journal mode {journal}, so reading it would lock its application out",
                file.display()
            );
            return Err(MigrateError::refused(reason, "run `PRAGMA journal_mode = wal` on it"));
        }
        Ok(())
    }

    /// Shortens or lengthens how long a lock is waited for.
    pub fn wait_for_locks(&self, at_most: Duration) -> Result<(), MigrateError> {
        self.patience.set(at_most);
        Ok(self.conn.busy_timeout(at_most)?)
    }

    /// Runs `work` in one transaction that holds the written end's lock, and sees one snapshot of the other.
    pub fn write<T>(&self, work: impl FnOnce(&Self) -> Result<T, MigrateError>) -> Result<T, MigrateError> {
        self.transaction("BEGIN IMMEDIATE", work)
    }

    /// Runs `work` on one snapshot of each database that it reads.
    pub fn snapshot<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, MigrateError>,
    ) -> Result<T, MigrateError> {
        self.transaction("BEGIN", work)
    }

    fn transaction<T>(
        &self,
        begin: &str,
        work: impl FnOnce(&Self) -> Result<T, MigrateError>,
    ) -> Result<T, MigrateError> {
        self.conn.execute_batch(begin).map_err(|error| self.locate(error.into()))?;
        let done = work(self).and_then(|value| {
            self.conn.execute_batch("COMMIT")?;
            Ok(value)
        });
        if done.is_err() && !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK").map_err(|error| self.locate(error.into()))?;
        }
        done.map_err(|error| self.locate(error))
    }
}

/// Escapes the characters that mean something in a file URI.
fn escape(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
