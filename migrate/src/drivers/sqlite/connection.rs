//! Opening connections.
//!
//! Invariant: nothing waits for a lock without end, and a file that is not in WAL mode is not touched: reading it would
//! lock its application out. Nobody goes on with a file that another one has replaced.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags};

use super::fault::locate;
use super::rows::same;
use super::sql::quote;
use super::{Durability, SqliteOptions};
use crate::error::MigrateError;

/// Statements kept prepared: each mapping has about twenty.
const STATEMENTS: usize = 512;

/// Which file a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    number: u64,
}

impl FileIdentity {
    /// To be read before the file is opened: what replaces it in between is then noticed.
    pub(super) fn of(file: &Path, schema: &str) -> Result<Self, MigrateError> {
        let found = std::fs::metadata(file).map_err(|error| MigrateError::Unreachable {
            message: format!(
                "cannot open the {schema} database {}; check its path in migrate.toml",
                file.display()
            ),
            source: Some(Box::new(error)),
        })?;
        Ok(Self { device: found.dev(), number: found.ino() })
    }

    /// A connection goes on with the file that it opened, also where another one has taken its place: that one is opened anew.
    pub(super) fn needs_same(self, file: &Path, schema: &str) -> Result<(), MigrateError> {
        if Self::of(file, schema)? == self {
            return Ok(());
        }
        let message = format!("the {schema} database {} was replaced by another file", file.display());
        Err(MigrateError::Unreachable { message, source: None })
    }
}

/// A file attached under a name, with temporary tables in files: keys to be looked at may be millions.
pub(super) fn attached(
    file: &Path,
    schema: &str,
    mode: &str,
    options: SqliteOptions,
) -> Result<Connection, MigrateError> {
    let conn = in_any_mode(file, schema, mode, options)?;
    in_wal_mode(&conn, schema, file)?;
    Ok(conn)
}

/// The same, for those who read the schema only, whatever the file's journal mode.
pub(super) fn in_any_mode(
    file: &Path,
    schema: &str,
    mode: &str,
    options: SqliteOptions,
) -> Result<Connection, MigrateError> {
    FileIdentity::of(file, schema)?;
    let located = |error: rusqlite::Error| locate(error.into(), schema, file);
    let conn = Connection::open_with_flags(":memory:", flags()).map_err(located)?;
    set_up(&conn, options).map_err(located)?;
    let uri = format!("file:{}?mode={mode}", escape(&file.display().to_string()));
    match conn.execute(&format!("ATTACH ?1 AS {}", quote(schema)), [uri]) {
        Err(error) if error.to_string().contains("same text encoding") => Err(wide(file)),
        attached => attached.map(|_| conn).map_err(located),
    }
}

fn wide(file: &Path) -> MigrateError {
    let file = file.display();
    MigrateError::refused(
        format!("{file} keeps its text as UTF-16, and only UTF-8 is read"),
        format!(
            "stop its application, run `sqlite3 {file} .dump | sqlite3 {file}.utf8`, and let both use that file"
        ),
    )
}

/// A file opened for writing under the name `main`, whose commits are durable when they return.
pub(super) fn writing(file: &Path, schema: &str, options: SqliteOptions) -> Result<Connection, MigrateError> {
    FileIdentity::of(file, schema)?;
    let located = |error: rusqlite::Error| locate(error.into(), schema, file);
    let conn = Connection::open_with_flags(file, flags()).map_err(located)?;
    set_up(&conn, options).map_err(located)?;
    in_wal_mode(&conn, "main", file)?;
    let synchronous = if options.durability == Durability::Kept { "full" } else { "off" };
    conn.execute_batch(&format!("PRAGMA synchronous = {synchronous}")).map_err(located)?;
    Ok(conn)
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn set_up(conn: &Connection, options: SqliteOptions) -> Result<(), rusqlite::Error> {
    conn.busy_timeout(options.patience)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Foreign keys can only be switched off outside a transaction.
    conn.execute_batch("PRAGMA temp_store = file; PRAGMA foreign_keys = off")?;
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("banyan_same", 2, pure, |ctx| Ok(same(ctx.get_raw(0), ctx.get_raw(1))))
}

/// Refused unless readers leave writers alone.
pub(super) fn in_wal_mode(conn: &Connection, schema: &str, file: &Path) -> Result<(), MigrateError> {
    let mode: String = conn
        .query_row(&format!("PRAGMA {}.journal_mode", quote(schema)), [], |row| row.get(0))
        .map_err(|error| locate(error.into(), schema, file))?;
    if mode == "wal" {
        return Ok(());
    }
    let file = file.display();
    Err(MigrateError::refused(
        format!("{file} is in journal mode {mode}, so reading it would lock its application out"),
        format!("run `sqlite3 {file} 'PRAGMA journal_mode = wal'`; it stays so"),
    ))
}

/// Escapes the characters that mean something in a file URI.
fn escape(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
