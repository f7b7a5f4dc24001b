//! A SQLite file: what it takes to open it, and how each connection is prepared.
//!
//! Invariant: a file that cannot be used as it is is refused with words, before a pool hides the reason.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use crate::{DatabaseSettings, DbError};

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Reader,
    Writer,
}

/// The absolute path of the file, which is there and can be used.
pub(crate) fn usable(settings: &DatabaseSettings) -> Result<String, DbError> {
    let refuse = |reason: String, remedy: &str| DbError::Open {
        path: settings.path.display().to_string(),
        reason,
        remedy: remedy.to_owned(),
    };
    touch(&settings.path).map_err(|(reason, remedy)| refuse(reason, remedy))?;
    let absolute = std::path::absolute(&settings.path)
        .ok()
        .and_then(|path| path.to_str().map(str::to_owned))
        .ok_or_else(|| refuse("its path is not UTF-8".to_owned(), "choose another database.path"))?;
    probe(&absolute, settings).map_err(|reason| {
        refuse(reason, "name a SQLite file that no other program keeps locked in database.path")
    })?;
    Ok(absolute)
}

pub(crate) fn connect(
    path: &str,
    settings: &DatabaseSettings,
    role: Role,
) -> Result<SqliteConnection, String> {
    let mut conn = SqliteConnection::establish(path).map_err(|error| error.to_string())?;
    prepare(&mut conn, settings, role).map_err(|error| error.to_string())?;
    Ok(conn)
}

/// Creates the file if need be: the operating system says what is wrong, SQLite only that something is.
fn touch(path: &Path) -> Result<(), (String, &'static str)> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map(drop).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            ("its folder does not exist".to_owned(), "create the folder or set database.path")
        }
        ErrorKind::PermissionDenied => {
            ("permission denied".to_owned(), "give this user the right to write it or set database.path")
        }
        _ => (error.to_string(), "set database.path to a file that can be written"),
    })
}

/// Opens one connection to learn, in words, why the pool would not.
fn probe(path: &str, settings: &DatabaseSettings) -> Result<(), String> {
    let mut conn = connect(path, settings, Role::Writer)?;
    let mode = sql_query("PRAGMA journal_mode").load::<JournalMode>(&mut conn);
    let mode = mode.map_err(|error| error.to_string())?.pop().map(|row| row.journal_mode);
    match mode.as_deref() {
        Some("wal") => Ok(()),
        other => {
            Err(format!("it cannot use a write-ahead log (journal mode {})", other.unwrap_or("unknown")))
        }
    }
}

#[derive(QueryableByName)]
struct JournalMode {
    #[diesel(sql_type = Text)]
    journal_mode: String,
}

fn prepare(conn: &mut SqliteConnection, settings: &DatabaseSettings, role: Role) -> QueryResult<()> {
    // First of all, since every statement after it may meet another process's lock.
    conn.batch_execute(&format!("PRAGMA busy_timeout = {}", settings.busy_timeout_ms))?;
    match role {
        Role::Reader => conn.batch_execute("PRAGMA query_only = ON"),
        // Checkpoints four times as rare as SQLite's default: an import writes mostly new pages, and each checkpoint
        // waits for the disk.
        Role::Writer => conn.batch_execute(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {}; PRAGMA foreign_keys = ON;
             PRAGMA cache_size = -{}; PRAGMA wal_autocheckpoint = 4000",
            settings.synchronous.pragma(),
            settings.cache_kib
        )),
    }
}
