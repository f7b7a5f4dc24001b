//! The reading end.
//!
//! Invariant: one snapshot from `begin` to `end`; SQLite's snapshot holds the schema too, so nobody can alter a table
//! between the snapshot and the reading.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};

use super::connection::FileIdentity;
use super::fault::locate;
use super::known::needs_known_keys;
use super::log::Log;
use super::place::{Place, void};
use super::reads::Reads;
use super::rows::SqliteRows;
use super::sql::replace;
use super::staged::row_width;
use super::{SqliteOptions, capture, catalog, connection};
use crate::engine::{
    Batch, Bound, Bounded, CaptureState, Dirty, Joining, KeyRange, Mapping, Position, Source, Stream,
    TableShape, Touched,
};
use crate::error::MigrateError;
use crate::sqlite::words;

/// Log rows removed per transaction: the application's writers wait for each.
const PRUNED_AT_ONCE: i64 = 5_000;
/// Instructions of SQLite's between two looks at the clock: far less than a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// The source file, read; and written only where capture needs it.
pub struct SqliteSource {
    pub(super) conn: Connection,
    pub(super) schema: &'static str,
    pub(super) log: Option<Log>,
    /// Temporary tables made already.
    pub(super) made: HashSet<String>,
    file: PathBuf,
    opened: FileIdentity,
    options: SqliteOptions,
    writer: Option<Connection>,
    checked: Option<Checked>,
    snapshot: Option<Snapshot>,
}

/// The schema that was looked at last.
struct Checked {
    stream: String,
    identity: String,
    schema_version: i64,
    fingerprint: String,
}

/// The open snapshot.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) place: Place,
    /// Its newest log row is a heartbeat.
    beaten: bool,
}

impl SqliteSource {
    pub(super) fn open(
        file: &Path,
        schema: &'static str,
        options: SqliteOptions,
    ) -> Result<Self, MigrateError> {
        let opened = FileIdentity::of(file, schema)?;
        Ok(Self {
            opened,
            conn: connection::attached(file, schema, "ro", options)?,
            schema,
            log: None,
            made: HashSet::new(),
            file: file.to_owned(),
            options,
            writer: None,
            checked: None,
            snapshot: None,
        })
    }

    pub(super) fn located<T>(&self, done: Result<T, MigrateError>) -> Result<T, MigrateError> {
        done.map_err(|error| locate(error, self.schema, &self.file))
    }

    pub(super) fn snapshot(&self) -> Result<&Snapshot, MigrateError> {
        self.snapshot.as_ref().ok_or_else(|| MigrateError::failed("no snapshot of the source is open"))
    }

    pub(super) fn known_log(&self) -> Result<&Log, MigrateError> {
        self.log.as_ref().ok_or_else(|| MigrateError::failed("no snapshot of the source was ever open"))
    }

    fn writer(&mut self) -> Result<&mut Connection, MigrateError> {
        if self.writer.is_none() {
            self.writer = Some(connection::writing(&self.file, self.schema, self.options)?);
        }
        self.writer.as_mut().ok_or_else(|| MigrateError::failed("there is no writing connection"))
    }

    fn open_snapshot(&mut self, stream: &Stream, expected: Option<&str>) -> Result<Position, MigrateError> {
        self.close_snapshot()?;
        self.opened.needs_same(&self.file, self.schema)?;
        self.conn.prepare_cached("BEGIN")?.raw_execute()?;
        self.check_schema(stream)?;
        let log = self.known_log()?;
        let (place, beaten) = log.newest(&self.conn, self.schema)?;
        let position = place.position();
        self.snapshot = Some(Snapshot { place, beaten });
        let found = self.checked.as_ref().map(|checked| checked.fingerprint.as_str());
        match expected {
            None => self.check_selects(stream).map(|()| position),
            Some(expected) if Some(expected) != found => Err(MigrateError::refused(
                format!(
                    "the schema of the tables of {} is another than when the copy began: {}",
                    stream.name,
                    capture::difference(expected, found.unwrap_or_default())
                ),
                format!("see that the mapping still fits, {}", stream.anew()),
            )),
            _ => Ok(position),
        }
    }

    /// A select that does not run, or yields other columns than it fills, is told before anything is done.
    fn check_selects(&self, stream: &Stream) -> Result<(), MigrateError> {
        for mapping in &stream.mappings {
            needs_known_keys(&self.conn, self.schema, mapping)?;
            let table = &mapping.table;
            let select = replace(&mapping.select, "keys", |_| "1".to_owned());
            let prepared = self.conn.prepare(&select).map_err(|error| {
                let (file, said) = (self.file.display(), words(&error));
                MigrateError::Usage(format!(
                    "the select for {table} does not run on {file}: {said}; correct it in the manifest"
                ))
            })?;
            let (made, wanted) = (prepared.column_count(), row_width(mapping));
            if made != wanted {
                return Err(MigrateError::Usage(format!(
                    "the select for {table} yields {made} columns instead of {wanted}"
                )));
            }
            drop(prepared);
            // A table that is not there is told as that, not as one that the select does not read.
            catalog::Table::read(&self.conn, self.schema, &mapping.root)?;
            Reads::of(&self.conn, self.schema, mapping)?.check(mapping)?;
        }
        Ok(())
    }

    /// The text of the schema is read only when SQLite's count of its changes has moved.
    fn check_schema(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let sql = format!("PRAGMA {}.schema_version", self.schema);
        let schema_version = self.conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
        let log = Log::read(&self.conn, self.schema, &stream.name)?.ok_or_else(|| {
            MigrateError::refused(
                format!("no capture is installed for {}", stream.name),
                format!("run `{}`", stream.command("capture install")),
            )
        })?;
        // No change of the schema tells of it.
        capture::needs_room(&self.conn, self.schema, stream)?;
        let same = |checked: &Checked| {
            checked.schema_version == schema_version
                && checked.stream == stream.name
                && checked.identity == log.identity
        };
        if !self.checked.as_ref().is_some_and(same) {
            self.checked = None;
            let fingerprint = capture::fingerprint(&self.conn, self.schema, stream, &log)?;
            let (stream, identity) = (stream.name.clone(), log.identity.clone());
            self.checked = Some(Checked { stream, identity, schema_version, fingerprint });
        }
        self.log = Some(log);
        Ok(())
    }

    fn close_snapshot(&mut self) -> Result<(), MigrateError> {
        self.snapshot = None;
        if !self.conn.is_autocommit() {
            self.conn.prepare_cached("COMMIT")?.raw_execute()?;
        }
        Ok(())
    }

    fn beat(&mut self) -> Result<(), MigrateError> {
        if self.snapshot()?.beaten {
            return Ok(());
        }
        let heart = self.known_log()?.heart;
        let writer = self.writer()?;
        writer
            .prepare_cached("INSERT INTO banyan_log (tab, c1) VALUES (?1, randomblob(8))")?
            .execute([heart])?;
        Ok(())
    }

    fn first_number(&self, query: &str) -> Result<f64, MigrateError> {
        // SQLite has no timeout of its own for statements.
        let until = Instant::now() + self.options.patience;
        self.conn.progress_handler(INSTRUCTIONS, Some(move || Instant::now() > until))?;
        let number = self.number(query);
        self.conn.progress_handler(0, None::<fn() -> bool>)?;
        let patience = self.options.patience.as_secs();
        number.map_err(|error| {
            let MigrateError::Database(cause) = &error else { return error };
            let said = match cause.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return error,
                Some(ErrorCode::OperationInterrupted) => format!("it took more than {patience} s"),
                _ => words(cause),
            };
            MigrateError::Usage(format!("the load query `{query}` cannot be run: {said}"))
        })
    }

    fn number(&self, query: &str) -> Result<f64, MigrateError> {
        let mut statement = self.conn.prepare(query)?;
        if !statement.readonly() {
            return Err(MigrateError::Usage(format!("`{query}` writes, and a load is only read")));
        }
        let value = statement.query_row([], |row| row.get::<_, rusqlite::types::Value>(0))?;
        match value {
            rusqlite::types::Value::Real(number) => Ok(number),
            rusqlite::types::Value::Integer(number) => Ok(number as f64),
            other => Err(MigrateError::Usage(format!("`{query}` gives {other:?}, which is no number"))),
        }
    }

    fn remove_seen(&mut self, stream: &Stream, seen_by: &[Position]) -> Result<u64, MigrateError> {
        let writer = self.writer()?;
        let Some(log) = Log::read(writer, "main", &stream.name)? else { return Ok(0) };
        let seen: Vec<i64> =
            seen_by.iter().map(|position| Place::of(&log, position)).collect::<Result<_, _>>()?;
        let Some(least) = seen.into_iter().min() else { return Ok(0) };
        let sql = format!(
            "DELETE FROM banyan_log WHERE pos IN \
             (SELECT pos FROM banyan_log WHERE pos < ?1 AND tab IN ({}) ORDER BY pos LIMIT ?2)",
            log.tabs()
        );
        let mut removed = 0;
        loop {
            let rows = writer.prepare_cached(&sql)?.execute((least, PRUNED_AT_ONCE))?;
            removed += rows as u64;
            if (rows as i64) < PRUNED_AT_ONCE {
                return Ok(removed);
            }
        }
    }

    fn measure_log(&mut self, stream: &Stream) -> Result<(u64, u64), MigrateError> {
        let Some(log) = Log::read(&self.conn, self.schema, &stream.name)? else { return Ok((0, 0)) };
        let columns = log.tables.values().map(|(_, columns)| columns.len()).max().unwrap_or(1);
        let lengths = (1..=columns).map(|n| format!("coalesce(length(c{n}), 0) + 1"));
        let sql = format!(
            "SELECT count(*), coalesce(sum(8 + {}), 0) FROM {}.banyan_log WHERE tab IN ({})",
            lengths.collect::<Vec<_>>().join(" + "),
            self.schema,
            log.tabs()
        );
        Ok(self.conn.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }
}

impl Source for SqliteSource {
    type Rows = SqliteRows;

    fn install_capture(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let done = self
            .check_selects(stream)
            .and_then(|()| self.writer().and_then(|writer| capture::install(writer, stream)));
        self.located(done)
    }

    fn bound_log(&mut self, stream: &Stream, rows: u64) -> Result<(), MigrateError> {
        let done = self.writer().and_then(|writer| capture::bound(writer, stream, rows));
        self.located(done)
    }

    fn remove_capture(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let done = self.writer().and_then(|writer| capture::remove(writer, stream));
        self.located(done)
    }

    fn begin(&mut self, stream: &Stream, expected: Option<&str>) -> Result<Position, MigrateError> {
        let done = self.open_snapshot(stream, expected);
        if done.is_err() {
            // What went wrong first is what is told.
            self.close_snapshot().ok();
        }
        self.located(done)
    }

    fn fingerprint(&mut self, _stream: &Stream) -> Result<String, MigrateError> {
        self.snapshot()?;
        let checked = self.checked.as_ref().map(|checked| checked.fingerprint.clone());
        checked.ok_or_else(|| MigrateError::failed("no snapshot of the source is open"))
    }

    /// A heartbeat, committed with `synchronous = FULL`: that syncs the write-ahead log, and with it everything in front of
    /// the heartbeat, whatever an application with `synchronous = NORMAL` left unsynced. So once this returned, a power
    /// failure can neither take back what the snapshot saw nor give its numbers out again. If the snapshot's newest row is
    /// a heartbeat, this has been done already; an idle source is not written to.
    ///
    /// An application with `synchronous = OFF` checkpoints without syncing its file: of that a power failure may leave a
    /// damaged database, as SQLite documents, and no heartbeat helps; if the file was put back from a backup, or lost its
    /// tail, positions find another row under their number and are refused.
    fn persist_snapshot(&mut self) -> Result<(), MigrateError> {
        let done = self.beat();
        self.located(done)
    }

    fn end(&mut self) -> Result<(), MigrateError> {
        let done = self.close_snapshot();
        self.located(done)
    }

    fn check_position(&mut self, position: &Position) -> Result<(), MigrateError> {
        let done = self.known_log().and_then(|log| log.standing(&self.conn, self.schema, position));
        self.located(done).map(drop)
    }

    fn covers(&self, later: &Position, earlier: &Position) -> Result<bool, MigrateError> {
        let later = Place::parse(later)?;
        let earlier = Place::parse(earlier)?;
        if later.log != earlier.log {
            let stream = self.log.as_ref().map_or("CONTEXT", |log| log.stream.as_str());
            return Err(void(stream, &format!("{} and {} are of two logs", later.log, earlier.log)));
        }
        Ok(later.pos >= earlier.pos)
    }

    fn stage_dirty(&mut self, mapping: &Mapping, since: &Position) -> Result<Dirty, MigrateError> {
        let done = self.stage_changed("staged", mapping, since);
        self.located(done).map(|keys| Dirty { keys, whole: false })
    }

    fn stage_all(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        let done = self.stage_root(mapping);
        self.located(done)
    }

    fn stage(&mut self, mapping: &Mapping, keys: &SqliteRows) -> Result<(), MigrateError> {
        let done = self.stage_more(mapping, keys);
        self.located(done)
    }

    fn piece(
        &mut self,
        mapping: &Mapping,
        from: u64,
        size: u32,
        most: u64,
    ) -> Result<Option<Bounded<SqliteRows>>, MigrateError> {
        let done = self.staged_piece(mapping, from, size, most);
        self.located(done)
    }

    fn widen(
        &mut self,
        mapping: &Mapping,
        batch: &Batch<SqliteRows>,
        more: &SqliteRows,
        joining: Joining<'_>,
    ) -> Result<Option<Batch<SqliteRows>>, MigrateError> {
        let done = self.wider(mapping, batch, more, joining);
        self.located(done)
    }

    fn range_end(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        rows: u32,
    ) -> Result<Option<Bound>, MigrateError> {
        let done = self.end_of_range(mapping, range, rows);
        self.located(done)
    }

    fn range(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        most: u64,
    ) -> Result<Bounded<SqliteRows>, MigrateError> {
        let done = self.read_range(mapping, range, most);
        self.located(done)
    }

    fn range_to_load(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        most: u64,
    ) -> Result<Bounded<SqliteRows>, MigrateError> {
        let done = self.rows_of_range(mapping, range, most);
        self.located(done)
    }

    fn rows_of(&mut self, mapping: &Mapping, keys: &SqliteRows) -> Result<Batch<SqliteRows>, MigrateError> {
        let done = self.read_keys(mapping, keys);
        self.located(done)
    }

    fn estimate(&mut self, mapping: &Mapping) -> Result<u64, MigrateError> {
        let done = self.guess(mapping);
        self.located(done)
    }

    fn touched(
        &mut self,
        mapping: &Mapping,
        seen: &Position,
        unseen: &Position,
    ) -> Result<Touched<SqliteRows>, MigrateError> {
        let done = self.changed_between(mapping, seen, unseen);
        self.located(done).map(Touched::Keys)
    }

    fn prune(&mut self, stream: &Stream, seen_by: &[Position]) -> Result<u64, MigrateError> {
        let done = self.remove_seen(stream, seen_by);
        self.located(done)
    }

    fn log_size(&mut self, stream: &Stream) -> Result<(u64, u64), MigrateError> {
        let done = self.measure_log(stream);
        self.located(done)
    }

    fn capture_state(&mut self, stream: &Stream) -> Result<CaptureState, MigrateError> {
        let done = capture::state(&self.conn, self.schema, stream);
        self.located(done)
    }

    fn measure(&mut self, query: &str) -> Result<f64, MigrateError> {
        let done = self.first_number(query);
        self.located(done)
    }

    fn describe(&mut self) -> Result<Vec<TableShape>, MigrateError> {
        let done = catalog::shapes(&self.conn, self.schema);
        self.located(done)
    }
}
