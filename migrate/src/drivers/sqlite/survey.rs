//! What `plan` looks at in two SQLite files.
//!
//! Invariant: both files are attached read-only, and the rows of one that is not in WAL mode are left alone, since
//! reading them would lock its application out.

mod columns;
mod schema;
mod trial;

use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::catalog::Table;
use super::fault::locate;
use super::known::{needs_known_keys, unwritable};
use super::sql::{list, quote, replace, tuple};
use super::{SqliteDriver, connection};
use crate::engine::survey::{Depth, Level, Role, SampleRead, Survey, SurveyDriver, TableSize};
use crate::engine::way_back::leaves_rows;
use crate::engine::{Driver as _, Mapping, Source as _, Stream};
use crate::error::MigrateError;
use crate::sqlite::words;

/// One file.
struct End {
    conn: Connection,
    schema: &'static str,
    file: PathBuf,
}

/// One survey.
struct Surveyor<'a> {
    driver: &'a SqliteDriver,
    source: End,
    target: End,
    /// The mappings whose tables are all there and can be read.
    stream: Stream,
    depth: Depth,
    /// Source columns that pass into some column as they are.
    carried: Vec<(String, String)>,
    survey: Survey,
}

/// A mapping with its tables.
struct Looked {
    mapping: Mapping,
    root: Table,
    table: Table,
    /// Rows of the root.
    keys: u64,
}

impl SurveyDriver for SqliteDriver {
    fn survey(&self, stream: &Stream, depth: Depth) -> Result<Survey, MigrateError> {
        let open = |file: &Path, schema| {
            let conn = connection::in_any_mode(file, schema, "ro", self.options)?;
            Ok::<_, MigrateError>(End { conn, schema, file: file.to_owned() })
        };
        let mut surveyor = Surveyor {
            driver: self,
            source: open(&self.source, self.names.source)?,
            target: open(&self.target, self.names.target)?,
            stream: stream.clone(),
            depth,
            carried: Vec::new(),
            survey: Survey::default(),
        };
        let looked = surveyor.look();
        looked.map_err(|error| locate(error, self.names.source, &self.source))?;
        Ok(surveyor.survey)
    }
}

impl Surveyor<'_> {
    fn look(&mut self) -> Result<(), MigrateError> {
        let readable = self.files()?;
        let looked = self.find_tables(readable)?;
        if readable {
            self.capture()?;
        }
        self.stream.mappings = looked.iter().map(|looked| looked.mapping.clone()).collect();
        let sources: Vec<String> = self.stream.captured().into_iter().map(|(table, _)| table).collect();
        let targets: Vec<String> = looked.iter().map(|looked| looked.mapping.table.clone()).collect();
        self.touching(Role::Source, &sources)?;
        self.touching(Role::Target, &targets)?;
        for looked in &looked {
            let complete = self.columns(looked)?;
            if readable && complete {
                self.rows(looked)?;
            }
        }
        self.left_out()?;
        if readable {
            for table in &sources {
                self.dynamic_types(table)?;
            }
        }
        let partly = looked.iter().filter(|looked| leaves_rows(&looked.mapping, &self.stream.forward));
        let partly: Vec<String> = partly.map(|looked| looked.mapping.table.clone()).collect();
        self.foreign_keys(Role::Source, &sources, &[])?;
        self.foreign_keys(Role::Target, &targets, &partly)
    }

    /// Whether the source's rows can be read without locking anybody out.
    fn files(&mut self) -> Result<bool, MigrateError> {
        let mut readable = true;
        for role in [Role::Source, Role::Target] {
            let end = if role == Role::Source { &self.source } else { &self.target };
            let (place, file) = (role.to_string(), end.file.display().to_string());
            let version: i64 = end.pragma("schema_version")?;
            let mode = connection::in_wal_mode(&end.conn, end.schema, &end.file);
            let read_only = std::fs::metadata(&end.file).is_ok_and(|data| data.permissions().readonly());
            if self.survey.take(&place, mode)?.is_some() {
                let what = format!("{file} is in WAL mode, its schema is of version {version}");
                self.survey.add(Level::Ok, &*place, what, "");
            } else if role == Role::Source {
                readable = false;
                let what = "its rows were not looked at, since reading them would lock its application out";
                self.survey.add(Level::Warning, &*place, what, "change the journal mode, then plan again");
            }
            if read_only {
                let what =
                    format!("{file} cannot be written, and both ends are: the log there, the rows here");
                self.survey.add(Level::Problem, &*place, what, format!("`chmod u+w {file}`"));
            }
        }
        Ok(readable)
    }

    fn find_tables(&mut self, readable: bool) -> Result<Vec<Looked>, MigrateError> {
        let mut found = Vec::new();
        for mapping in self.stream.mappings.clone() {
            let place = place(&mapping);
            let table = Table::read(&self.target.conn, self.target.schema, &mapping.table);
            let table = self.survey.take(&place, table)?;
            let root = Table::read(&self.source.conn, self.source.schema, &mapping.root);
            let root = self.survey.take(&place, root)?;
            let mut joined = true;
            for join in &mapping.joins {
                let table = Table::read(&self.source.conn, self.source.schema, &join.table);
                joined &= self.survey.take(&place, table)?.is_some();
            }
            if table.is_some() {
                for refusal in unwritable(&self.target.conn, self.target.schema, &mapping)? {
                    self.survey.take::<()>(&place, Err(refusal))?;
                }
            }
            let found_by = needs_known_keys(&self.source.conn, self.source.schema, &mapping);
            joined &= self.survey.take(&place, found_by)?.is_some();
            if let (Some(table), Some(root), true) = (table, root, joined) {
                let keys = if readable { self.source.count(&mapping.root)? } else { 0 };
                found.push(Looked { mapping, root, table, keys });
            }
        }
        Ok(found)
    }

    fn capture(&mut self) -> Result<(), MigrateError> {
        let mut source = self.driver.source()?;
        let state = source.capture_state(&self.stream);
        let Some(state) = self.survey.take("source", state)? else { return Ok(()) };
        if !state.installed {
            let next = "`migrate capture install` comes next";
            self.survey.add(Level::Ok, "source", "capture is not installed", next);
            return Ok(());
        }
        for fault in &state.faults {
            let remedy = "run `migrate capture install`; changes may have gone unlogged, so copy anew";
            self.survey.add(Level::Problem, "source", format!("capture is not whole: {fault}"), remedy);
        }
        let (rows, bytes) = source.log_size(&self.stream)?;
        let what = format!("capture is installed, its log holds {rows} rows, {} KiB", bytes >> 10);
        self.survey.add(Level::Ok, "source", what, "");
        Ok(())
    }

    fn rows(&mut self, looked: &Looked) -> Result<(), MigrateError> {
        let limit = self.depth.limit(looked.keys);
        let place = place(&looked.mapping);
        self.null_keys(looked, limit)?;
        if let Err(error) = self.sample(looked).and_then(|()| self.try_rows(looked, limit)) {
            let words = match &error {
                MigrateError::Database(error) => words(error),
                _ => return Err(error),
            };
            let what = format!("its select fails on the data: {words}");
            self.survey.add(Level::Problem, &*place, what, "correct the select, or the rows");
            return Ok(());
        }
        let what = match limit {
            None => format!("all of its {} keys were read", looked.keys),
            Some(limit) => format!("the first {limit} of {} keys were read", looked.keys),
        };
        let remedy = if limit.is_none() { "" } else { "`--deep` reads all of them" };
        self.survey.add(Level::Ok, &*place, what, remedy);
        self.uniques(looked, limit)
    }

    /// How long the first keys take to read.
    fn sample(&mut self, looked: &Looked) -> Result<(), MigrateError> {
        let sql = self.select(looked, Some(Depth::SAMPLE));
        let mut statement = self.source.conn.prepare(&sql)?;
        let width = statement.column_count();
        let (begun, mut count, mut bytes) = (Instant::now(), 0_u64, 0_u64);
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            count += 1;
            for column in 0..width {
                bytes += length(row.get_ref(column)?);
            }
        }
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let sampled = looked.keys.min(Depth::SAMPLE);
        let mut read = SampleRead::of(&looked.mapping.table, looked.keys, sampled, (count, bytes, micros));
        let lengths = looked.mapping.root_key.iter().map(|name| format!("length({}) + 1", quote(name)));
        let sql = format!(
            "SELECT coalesce(CAST(avg(bytes) AS INTEGER), 8) FROM (SELECT {} AS bytes FROM {} LIMIT 1000)",
            lengths.collect::<Vec<_>>().join(" + "),
            self.source.table(&looked.mapping.root)
        );
        let key: u64 = self.source.conn.query_row(&sql, [], |row| row.get(0))?;
        // A row of the log holds its number, the table's, and a header in front of the key.
        read.log_bytes = key + 12;
        self.survey.reads.push(read);
        Ok(())
    }

    /// The mapping's select, over the first keys or all.
    fn select(&self, looked: &Looked, limit: Option<u64>) -> String {
        let keys = list("", &looked.mapping.root_key);
        let root = self.source.table(&looked.mapping.root);
        replace(&looked.mapping.select, "keys", |columns| match limit {
            None => "1".to_owned(),
            Some(limit) => {
                format!("{} IN (SELECT {keys} FROM {root} ORDER BY {keys} LIMIT {limit})", tuple(columns))
            }
        })
    }

    fn end(&self, role: Role) -> &End {
        match role {
            Role::Source => &self.source,
            Role::Target => &self.target,
        }
    }

    /// Adds a table's size; its bytes are those of the first rows, extrapolated.
    fn add_size(&mut self, role: Role, table: &str) -> Result<(), MigrateError> {
        let end = self.end(role);
        let stored = Table::read(&end.conn, end.schema, table)?.stored();
        let lengths =
            stored.iter().map(|name| format!("coalesce(length(CAST({} AS BLOB)), 0) + 1", quote(name)));
        let sql = format!(
            "SELECT coalesce(avg(bytes), 0) FROM (SELECT {} AS bytes FROM {} LIMIT 1000)",
            lengths.collect::<Vec<_>>().join(" + "),
            end.table(table)
        );
        let average: f64 = end.conn.query_row(&sql, [], |row| row.get(0))?;
        let rows = end.count(table)?;
        let bytes = (average * rows as f64) as u64;
        self.survey.tables.push(TableSize { end: role, table: table.to_owned(), rows, bytes });
        Ok(())
    }
}

impl End {
    fn pragma<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<T, MigrateError> {
        let sql = format!("PRAGMA {}.{name}", quote(self.schema));
        self.located(self.conn.query_row(&sql, [], |row| row.get(0)))
    }

    fn table(&self, name: &str) -> String {
        format!("{}.{}", quote(self.schema), quote(name))
    }

    /// Walks the smallest index.
    fn count(&self, table: &str) -> Result<u64, MigrateError> {
        let sql = format!("SELECT count(*) FROM {}", self.table(table));
        self.located(self.conn.query_row(&sql, [], |row| row.get(0)))
    }

    fn located<T>(&self, done: rusqlite::Result<T>) -> Result<T, MigrateError> {
        done.map_err(|error| locate(error.into(), self.schema, &self.file))
    }
}

/// How a mapping is named in findings.
fn place(mapping: &Mapping) -> String {
    format!("mapping {}", mapping.table)
}

fn length(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Null => 1,
        ValueRef::Integer(_) | ValueRef::Real(_) => 9,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64 + 1,
    }
}
