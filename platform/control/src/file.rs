//! The store in a SQLite file, opened by every process on the machine.
//!
//! Invariant: one process uses one file for all its life. A file that was deleted or put in its place is never
//! followed: its flags would be another store's, with tokens that begin anew.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::conn::Conn;
use crate::error::ControlError;
use crate::schema;
use crate::settings::ControlSettings;
use crate::transaction::{self, Access, Ending};

/// Connections kept for the next call.
const MOST_IDLE: usize = 4;

pub(crate) struct File {
    path: PathBuf,
    /// Device and number of the file that was opened first.
    identity: (u64, u64),
    idle: Mutex<Vec<Conn>>,
}

impl File {
    /// Opens the file, or creates it with its tables.
    pub(crate) fn open(settings: &ControlSettings) -> Result<Self, ControlError> {
        let path = settings.path.clone();
        let mut first = connect(&path.display().to_string())?;
        let cannot = |reason: String| ControlError::CannotOpen { path: path.display().to_string(), reason };
        schema::ensure_file(&mut first, &path.display().to_string()).map_err(|error| match error {
            ControlError::Database(error) => cannot(error.to_string()),
            other => other,
        })?;
        let found = fs::metadata(&path).map_err(|error| cannot(error.to_string()))?;
        let identity = (found.dev(), found.ino());
        Ok(Self { path, identity, idle: Mutex::new(vec![Conn::Sqlite(first)]) })
    }

    /// A connection of its own for whoever watches: its commits do not wait for the disk, since a sign of life lost in
    /// a power cut is no loss, and whoever waits for a slow disk notices a change of a flag late.
    pub(crate) fn watching(&self) -> Result<SqliteConnection, ControlError> {
        self.needs_same()?;
        let mut conn = connect(&self.path.display().to_string())?;
        conn.batch_execute("PRAGMA synchronous = NORMAL;")?;
        Ok(conn)
    }

    /// Refuses if another file has taken the place of the one that was opened, or none.
    pub(crate) fn needs_same(&self) -> Result<(), ControlError> {
        let path = || self.path.display().to_string();
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => Ok(()),
            Ok(_) => Err(ControlError::Replaced { path: path(), what: "was replaced by another file" }),
            Err(_) => Err(ControlError::Replaced { path: path(), what: "is gone" }),
        }
    }

    pub(crate) fn transact<T>(
        &self,
        access: Access,
        work: impl FnOnce(&mut Conn) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        self.needs_same()?;
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut conn = match kept {
            Some(conn) => conn,
            None => Conn::Sqlite(connect(&self.path.display().to_string())?),
        };
        let done = transaction::run(&mut conn, access, &Ending::default(), work);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(done, Err(ControlError::Database(_))) && idle.len() < MOST_IDLE {
            idle.push(conn);
        }
        done
    }
}

/// `synchronous = FULL`: a flip that was answered must outlive a power cut.
fn connect(path: &str) -> Result<SqliteConnection, ControlError> {
    let cannot = |reason: String| ControlError::CannotOpen { path: path.to_owned(), reason };
    let mut conn = SqliteConnection::establish(path).map_err(|error| cannot(error.to_string()))?;
    conn.batch_execute(
        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
    )
    .map_err(|error| cannot(error.to_string()))?;
    Ok(conn)
}
