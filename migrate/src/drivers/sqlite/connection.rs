//! Opening connections.
//!
//! Invariant: nothing waits for a lock without end, and a file that is not in WAL mode is not touched: reading it would
//! lock its application out.

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
    exists(file, schema)?;
    let located = |error: rusqlite::Error| locate(error.into(), schema, file);
    let conn = Connection::open_with_flags(":memory:", flags()).map_err(located)?;
    set_up(&conn, options).map_err(located)?;
    let uri = format!("file:{}?mode={mode}", escape(&file.display().to_string()));
    conn.execute(&format!("ATTACH ?1 AS {}", quote(schema)), [uri]).map_err(located)?;
    Ok(conn)
}

/// A file opened for writing under the name `main`, whose commits are durable when they return.
pub(super) fn writing(file: &Path, schema: &str, options: SqliteOptions) -> Result<Connection, MigrateError> {
    exists(file, schema)?;
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

fn exists(file: &Path, schema: &str) -> Result<(), MigrateError> {
    std::fs::metadata(file).map(drop).map_err(|error| MigrateError::Unreachable {
        message: format!(
            "cannot open the {schema} database {}; check its path in migrate.toml",
            file.display()
        ),
        source: Some(Box::new(error)),
    })
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
