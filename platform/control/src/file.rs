//! The store in a SQLite file, opened by every process on the machine.
//!
//! Invariant: one process uses one file for all its life. A file that was deleted or put in its place is never
//! followed: its flags would be another store's, with tokens that begin anew.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error::DatabaseError;

use crate::conn::Conn;
use crate::error::ControlError;
use crate::schema;
use crate::settings::ControlSettings;
use crate::transaction::{self, Access, Ending};

/// How long a file that others use is waited for.
const BUSY: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(5);
/// Connections kept for the next call.
const MOST_IDLE: usize = 4;

pub(crate) struct File {
    path: PathBuf,
    /// Device and number of the file that was opened first; none before that.
    identity: OnceLock<(u64, u64)>,
    idle: Mutex<Vec<Conn>>,
}

impl File {
    /// Opens the file, or creates it with its tables.
    pub(crate) fn open(settings: &ControlSettings) -> Result<Self, ControlError> {
        let file = Self::later(settings);
        file.begin()?;
        Ok(file)
    }

    /// A file that is opened by the first call that finds it.
    pub(crate) fn later(settings: &ControlSettings) -> Self {
        Self { path: settings.path.clone(), identity: OnceLock::new(), idle: Mutex::default() }
    }

    fn begin(&self) -> Result<(), ControlError> {
        let path = self.path.display().to_string();
        let mut first = connect(&path)?;
        let cannot = |reason: String| ControlError::CannotOpen { path: path.clone(), reason };
        schema::ensure_file(&mut first, &path).map_err(|error| match error {
            ControlError::Database(error) => cannot(error.to_string()),
            other => other,
        })?;
        let found = fs::metadata(&self.path).map_err(|error| cannot(error.to_string()))?;
        // Of two calls that begin at once, both found the same file, or the second is told so when it looks.
        self.identity.get_or_init(|| (found.dev(), found.ino()));
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(Conn::Sqlite(first));
        Ok(())
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
        let Some(identity) = self.identity.get() else {
            return match fs::metadata(&self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Err(ControlError::Missing { place: path(), what: "there is no such file" })
                }
                _ => self.begin(),
            };
        };
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == *identity => Ok(()),
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
    conn.batch_execute("PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(|error| cannot(error.to_string()))?;
    turn_to_wal(&mut conn).map_err(|error| cannot(error.to_string()))?;
    Ok(conn)
}

/// Of two who turn a new file to WAL at once SQLite refuses one without any wait, since neither could go on.
fn turn_to_wal(conn: &mut SqliteConnection) -> QueryResult<()> {
    let deadline = Instant::now() + BUSY;
    loop {
        match conn.batch_execute("PRAGMA journal_mode = WAL;") {
            Err(DatabaseError(_, told)) if told.message().contains("locked") && Instant::now() < deadline => {
                thread::sleep(BETWEEN_TRIES);
            }
            done => return done,
        }
    }
}
