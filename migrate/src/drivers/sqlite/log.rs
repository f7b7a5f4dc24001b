//! The key log's tables in the source, and what they say of one stream.
//!
//! One table serves all streams of a file: `banyan_log(pos, tab, c1, c2, …)`, its columns without a type, lest SQLite
//! convert keys. `banyan_capture` numbers each captured table; the one without a name is the stream's heartbeat and holds
//! the log's identity. `banyan_bound` says how long the log may grow before the triggers of a stream end capture by themselves,
//! in that they enter it, as full, into `banyan_silenced`. There is no mark for a whole table: SQLite has no TRUNCATE, and a
//! DELETE without WHERE fires the triggers of every row.
//!
//! Invariant: numbers never come again. SQLite gives out the greatest number left plus one, so the row of every stored
//! position stays (pruning is *strictly* below), and a position whose row is gone is refused.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Params, Row};

use super::place::{Place, void};
use super::rows::{RowHasher, SqliteRows};
use super::sql::quote;
use crate::engine::{Position, Rows as _, TooMuch};
use crate::error::MigrateError;

/// The tables, made in the file that the connection writes.
pub(super) const TABLES: &str = "\
    CREATE TABLE IF NOT EXISTS banyan_capture (tab INTEGER PRIMARY KEY, stream TEXT NOT NULL, source TEXT NOT NULL, \
      columns TEXT NOT NULL, UNIQUE (stream, source)); \
    CREATE TABLE IF NOT EXISTS banyan_log (pos INTEGER PRIMARY KEY, tab INTEGER NOT NULL, c1); \
    CREATE TABLE IF NOT EXISTS banyan_bound (stream TEXT PRIMARY KEY, log_rows INTEGER NOT NULL); \
    CREATE TABLE IF NOT EXISTS banyan_silenced (stream TEXT PRIMARY KEY)";

/// What a stream's log looks like.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) stream: String,
    pub(super) identity: String,
    /// The number of heartbeats.
    pub(super) heart: i64,
    /// Per captured table its number and columns.
    pub(super) tables: HashMap<String, (i64, Vec<String>)>,
}

impl Log {
    /// Nothing if capture was never installed for the stream.
    pub(super) fn read(conn: &Connection, schema: &str, stream: &str) -> Result<Option<Self>, MigrateError> {
        let present = format!(
            "SELECT group_concat(name) FROM {}.sqlite_schema WHERE name IN ('banyan_capture', 'banyan_log')",
            quote(schema)
        );
        let present: Option<String> = conn.prepare_cached(&present)?.query_row([], |row| row.get(0))?;
        let present = present.unwrap_or_default();
        if !present.contains("banyan_capture") {
            return Ok(None);
        }
        if !present.contains("banyan_log") {
            return Err(void(stream, "the log was dropped"));
        }
        let sql =
            format!("SELECT tab, source, columns FROM {}.banyan_capture WHERE stream = ?1", quote(schema));
        let mut statement = conn.prepare_cached(&sql)?;
        let mut rows = statement.query([stream])?;
        let (mut identity, mut tables) = (None, HashMap::new());
        while let Some(row) = rows.next()? {
            let (tab, source, columns): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if source.is_empty() {
                identity = Some((columns, tab));
            } else {
                tables.insert(source, (tab, serde_json::from_str(&columns).unwrap_or_default()));
            }
        }
        let stream = stream.to_owned();
        Ok(identity.map(|(identity, heart)| Self { stream, identity, heart, tables }))
    }

    /// All its numbers, for a condition.
    pub(super) fn tabs(&self) -> String {
        let mut tabs: Vec<i64> = self.tables.values().map(|(tab, _)| *tab).collect();
        tabs.push(self.heart);
        tabs.sort_unstable();
        tabs.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The number of a table, and where the log holds some of its columns.
    pub(super) fn places(&self, table: &str, columns: &[String]) -> Result<(i64, Vec<String>), MigrateError> {
        let missing = || {
            MigrateError::refused(format!("capture does not watch {table}"), "run `migrate capture install`")
        };
        let (tab, captured) = self.tables.get(table).ok_or_else(missing)?;
        let place = |name: &String| captured.iter().position(|known| known == name);
        let places: Option<Vec<_>> =
            columns.iter().map(|name| place(name).map(|at| format!("c{}", at + 1))).collect();
        Ok((*tab, places.ok_or_else(missing)?))
    }

    /// The newest row, and whether it is a heartbeat.
    pub(super) fn newest(&self, conn: &Connection, schema: &str) -> Result<(Place, bool), MigrateError> {
        let sql = format!(
            "SELECT pos, tab, c1 FROM {}.banyan_log WHERE tab IN ({}) ORDER BY pos DESC LIMIT 1",
            quote(schema),
            self.tabs()
        );
        let newest = conn.prepare_cached(&sql)?.query_row([], |row| {
            let place = Place { log: self.identity.clone(), pos: row.get(0)?, row: hash(row, 1)? };
            Ok((place, row.get::<_, i64>(1)? == self.heart))
        });
        newest.optional()?.ok_or_else(|| void(&self.stream, "the log is empty"))
    }

    /// The number of a position; refused unless its very row is still there.
    pub(super) fn standing(
        &self,
        conn: &Connection,
        schema: &str,
        position: &Position,
    ) -> Result<i64, MigrateError> {
        let pos = Place::of(self, position)?;
        let sql = format!("SELECT tab, c1 FROM {}.banyan_log WHERE pos = ?1", quote(schema));
        let found = conn.prepare_cached(&sql)?.query_row([pos], |row| hash(row, 0)).optional()?;
        if found == Some(Place::parse(position)?.row) {
            return Ok(pos);
        }
        Err(void(
            &self.stream,
            &format!("the log no longer holds its row {pos}, up to which changes were applied"),
        ))
    }
}

/// A hash over number and first value of a log row; heartbeats hold a random one.
fn hash(row: &Row<'_>, first: usize) -> Result<String, rusqlite::Error> {
    let mut hasher = RowHasher::default();
    hasher.add(row.get_ref(first)?);
    hasher.add(row.get_ref(first + 1)?);
    Ok(format!("{:08x}", hasher.finish() & 0xffff_ffff))
}

/// Runs a select and takes its rows.
pub(super) fn select(
    conn: &Connection,
    sql: &str,
    width: usize,
    params: impl Params,
) -> Result<SqliteRows, rusqlite::Error> {
    let mut taken = SqliteRows::new(width);
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        taken.take(row, 0)?;
    }
    Ok(taken)
}

/// The same for a batch of no more than `most` bytes.
pub(super) fn select_up_to(
    conn: &Connection,
    most: u64,
    (sql, width): (&str, usize),
    params: impl Params,
) -> Result<Result<SqliteRows, TooMuch>, rusqlite::Error> {
    let mut taken = SqliteRows::with_room(width);
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        let fitting = taken.len();
        taken.take(row, 0)?;
        if taken.bytes() > most {
            return Ok(Err(TooMuch { rows: fitting }));
        }
    }
    Ok(Ok(taken))
}
