//! The engine's own tables in the target: streams, chunks, key maps, holds.
//!
//! Invariant: whatever stands here was committed together with the rows it speaks of.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::catalog::{Table, has_table};
use super::collation::refuse_joined_keys;
use super::connection;
use super::known::needs_writable;
use super::log::select;
use super::rows::SqliteRows;
use super::sql::{list, numbered, quote, text, within};
use super::staged::Bounds;
use super::target::SqliteTarget;
use crate::engine::in_the_way::{ADOPTED, AN_OLDER_COPY};
use crate::engine::soundness::reads_itself;
use crate::engine::{Bound, Claim, Kept, KeyRange, Mapping, Phase, Position, Stream, StreamRow};
use crate::error::MigrateError;

/// Without a type, so that SQLite converts no key.
fn tables(schema: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {schema}.banyan_streams (name TEXT PRIMARY KEY, pos TEXT NOT NULL, next TEXT NOT NULL, \
           token INTEGER NOT NULL, phase TEXT NOT NULL, mapping_hash TEXT NOT NULL, fingerprint TEXT NOT NULL); \
         CREATE TABLE IF NOT EXISTS {schema}.banyan_chunks (stream TEXT, mapping INTEGER, chunk INTEGER, after TEXT, \
           up_to TEXT, lease INTEGER NOT NULL, lease_until REAL NOT NULL, snapshot TEXT, done INTEGER NOT NULL DEFAULT 0, \
           rows INTEGER, hash TEXT, PRIMARY KEY (stream, mapping, chunk)) WITHOUT ROWID; \
         CREATE TABLE IF NOT EXISTS {schema}.banyan_holds (stream TEXT, name TEXT, position TEXT NOT NULL, \
           until REAL NOT NULL, PRIMARY KEY (stream, name)) WITHOUT ROWID; \
         CREATE TABLE IF NOT EXISTS {schema}.banyan_dropped (stream TEXT, source TEXT, sql TEXT, \
           PRIMARY KEY (stream, sql)) WITHOUT ROWID; \
         CREATE TABLE IF NOT EXISTS {schema}.banyan_notes (stream TEXT, name TEXT, text TEXT NOT NULL, \
           PRIMARY KEY (stream, name)) WITHOUT ROWID; \
         CREATE TABLE IF NOT EXISTS {schema}.banyan_tokens (stream TEXT PRIMARY KEY, token INTEGER NOT NULL) WITHOUT ROWID; \
         CREATE TABLE IF NOT EXISTS {schema}.banyan_silenced (stream TEXT PRIMARY KEY)"
    )
}

/// The table from source keys to target keys.
pub(super) fn key_map(schema: &str, mapping: &Mapping) -> String {
    format!("{schema}.{}", quote(&format!("banyan_keys:{}", mapping.table)))
}

/// The stream's row; nothing if it, or its table, was never made.
pub(super) fn stream(conn: &Connection, schema: &str, name: &str) -> Result<Option<StreamRow>, MigrateError> {
    if !has_table(conn, schema, "banyan_streams")? {
        return Ok(None);
    }
    let sql = format!(
        "SELECT pos, next, token, phase, mapping_hash, fingerprint FROM {schema}.banyan_streams WHERE name = ?1"
    );
    let row = conn.prepare_cached(&sql)?.query_row([name], |row| {
        Ok(StreamRow {
            pos: Position(row.get(0)?),
            next: Position(row.get(1)?),
            token: row.get(2)?,
            phase: Phase::of(&row.get::<_, String>(3)?),
            mapping_hash: row.get(4)?,
            fingerprint: row.get(5)?,
        })
    });
    Ok(row.optional()?)
}

/// Refuses a mapping that reads the table which it fills.
pub(super) fn refuse_itself(mapping: &Mapping, source: &Path, target: &Path) -> Result<(), MigrateError> {
    let real = |file: &Path| std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let read = std::iter::once(&mapping.root).chain(mapping.joins.iter().map(|join| &join.table));
    if real(source) != real(target) || !read.into_iter().any(|name| name.eq_ignore_ascii_case(&mapping.table))
    {
        return Ok(());
    }
    Err(reads_itself(mapping))
}

impl SqliteTarget {
    pub(super) fn make_tables(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.conn.execute_batch(&tables(self.schema))?;
        let source = connection::attached(&self.source_file, "other", "ro", self.options)?;
        for mapping in &stream.mappings {
            let table = Table::read(&self.conn, self.schema, &mapping.table)?;
            fits(mapping, &table)?;
            refuse_joined_keys(mapping, &Table::read(&source, "other", &mapping.root)?, &table)?;
            needs_writable(&self.conn, self.schema, mapping)?;
            refuse_itself(mapping, &self.source_file, &self.file)?;
            refuse_triggers(&self.conn, self.schema, &mapping.table)?;
            if mapping.needs_key_map() {
                let map = key_map(self.schema, mapping);
                let (source, own) = (numbered("s", mapping.root_key.len()), numbered("t", mapping.key.len()));
                self.conn.execute_batch(&format!(
                    "CREATE TABLE IF NOT EXISTS {map} ({source}, {own}, PRIMARY KEY ({source}, {own}), UNIQUE ({own})) \
                     WITHOUT ROWID"
                ))?;
            }
        }
        Ok(())
    }

    /// Refused if somebody made a trigger meanwhile; looked for anew only when SQLite's count of changes of the schema has moved.
    pub(super) fn needs_no_triggers(&mut self, table: &str) -> Result<(), MigrateError> {
        let sql = format!("PRAGMA {}.schema_version", self.schema);
        let version = self.conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
        if self.without_triggers.get(table) != Some(&version) {
            refuse_triggers(&self.conn, self.schema, table)?;
            self.without_triggers.insert(table.to_owned(), version);
        }
        Ok(())
    }

    pub(super) fn make_stream(&mut self, name: &str, row: &StreamRow) -> Result<(), MigrateError> {
        let sql = format!(
            "INSERT OR IGNORE INTO {} VALUES (?1, ?2, ?3, max(?4, {}), ?5, ?6, ?7)",
            self.table("banyan_streams"),
            self.token_behind_forgotten()
        );
        let phase = row.phase.as_str();
        let (pos, next) = (&row.pos.0, &row.next.0);
        self.conn.execute(&sql, (name, pos, next, row.token, phase, &row.mapping_hash, &row.fingerprint))?;
        Ok(())
    }

    /// SQL for the token that a stream `?1` begins with: no process that followed a forgotten one has it.
    pub(super) fn token_behind_forgotten(&self) -> String {
        format!("coalesce((SELECT token FROM {} WHERE stream = ?1), 0)", self.table("banyan_tokens"))
    }

    pub(super) fn forget(&mut self, stream: &Stream, kept: Kept) -> Result<(), MigrateError> {
        self.conn.execute_batch(&tables(self.schema))?;
        let name = text(&stream.name);
        self.run(&format!(
            "INSERT OR REPLACE INTO {} SELECT name, token + 1 FROM {} WHERE name = {name}",
            self.table("banyan_tokens"),
            self.table("banyan_streams")
        ))?;
        self.run(&format!("DELETE FROM {} WHERE name = {name}", self.table("banyan_streams")))?;
        for table in ["banyan_chunks", "banyan_holds", "banyan_notes"] {
            self.run(&format!("DELETE FROM {} WHERE stream = {name}", self.table(table)))?;
        }
        for mapping in stream.mappings.iter().filter(|_| kept != Kept::RowsAndKeyMaps) {
            self.conn.execute_batch(&format!("DROP TABLE IF EXISTS {}", key_map(self.schema, mapping)))?;
        }
        match kept {
            Kept::Nothing => Ok(()),
            Kept::Rows | Kept::RowsAndKeyMaps => self.write_note(&stream.name, ADOPTED, Some(AN_OLDER_COPY)),
        }
    }

    pub(super) fn holds_nothing(&mut self, stream: &Stream) -> Result<bool, MigrateError> {
        for mapping in &stream.mappings {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", self.table(&mapping.table));
            if self.conn.query_row(&sql, [], |row| row.get(0))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn take_over(&mut self, name: &str) -> Result<Claim, MigrateError> {
        let sql = format!(
            "UPDATE {} SET token = token + 1, phase = CASE phase WHEN 'waking' THEN 'following' ELSE phase END \
             WHERE name = ?1 AND phase <> 'resting' RETURNING token",
            self.table("banyan_streams")
        );
        let token = self.conn.query_row(&sql, [name], |row| row.get(0)).optional()?;
        let token = token.ok_or_else(|| match stream(&self.conn, self.schema, name) {
            Ok(None) => MigrateError::refused(
                format!("nothing was ever copied in the stream {name}"),
                "start with `migrate run`",
            ),
            Ok(Some(_)) => MigrateError::refused(
                format!(
                    "the stream {name} rests: the side that it fills owns the data, or a switch is under way"
                ),
                "a switch to the other side lets it go on; `migrate status` ends one that was left behind",
            ),
            Err(error) => error,
        })?;
        Ok(Claim { stream: name.to_owned(), token })
    }

    pub(super) fn keys_after(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<(SqliteRows, Option<Bound>), MigrateError> {
        let width = mapping.root_key.len();
        let range = KeyRange { after: after.cloned(), up_to: None };
        let (columns, table) = match mapping.needs_key_map() {
            true => (numbered("s", width), key_map(self.schema, mapping)),
            false => (list("", &mapping.carries), self.table(&mapping.table)),
        };
        let (within, present) = (within(&columns, width, &range), columns.replace(", ", " IS NOT NULL AND "));
        let sql = format!(
            "SELECT DISTINCT {columns} FROM {table} WHERE {within} AND {present} IS NOT NULL ORDER BY {columns} LIMIT {rows}"
        );
        let keys = Bounds::of(&range, width)?.with(|params| select(&self.conn, &sql, width, params))?;
        let last = (keys.count() == rows as usize && rows > 0).then(|| keys.bound(keys.count() - 1));
        Ok((keys, last))
    }

    /// Only AUTOINCREMENT remembers ids that are gone; other tables give out their greatest id plus one.
    pub(super) fn raise_sequences(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let source = connection::attached(&self.source_file, "other", "ro", self.options)?;
        for mapping in &stream.mappings {
            let table = Table::read(&self.conn, self.schema, &mapping.table)?;
            let Some(key) = table.integer_key() else { continue };
            let given_out = sequence(&self.conn, self.schema, &mapping.table)?;
            let sql = format!(
                "SELECT name, lower(sql) LIKE '%autoincrement%' FROM {}.sqlite_schema \
                 WHERE type = 'table' AND lower(name) = lower(?1)",
                self.schema
            );
            let (name, numbered): (String, bool) =
                self.conn.query_row(&sql, [&mapping.table], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if !numbered {
                continue;
            }
            let sql = format!("SELECT max({}) FROM {}", quote(&key.name), self.table(&mapping.table));
            let mut least: Option<i64> = self.conn.query_row(&sql, [], |row| row.get(0))?;
            if mapping.carries == [key.name.clone()] {
                least = least.max(sequence(&source, "other", &mapping.root)?);
            }
            let least = least.max(given_out).unwrap_or_default();
            let sequences = format!("{}.sqlite_sequence", self.schema);
            self.conn.execute(&format!("DELETE FROM {sequences} WHERE name = ?1"), [&name])?;
            self.conn.execute(&format!("INSERT INTO {sequences} VALUES (?1, ?2)"), (&name, least))?;
        }
        Ok(())
    }
}

/// SQLite cannot switch somebody's triggers off for one writer.
fn refuse_triggers(conn: &Connection, schema: &str, table: &str) -> Result<(), MigrateError> {
    let triggers = foreign_triggers(conn, schema, table)?;
    triggers.first().map_or(Ok(()), |trigger| Err(fires(trigger, table)))
}

/// What is wrong with a trigger of somebody else's.
pub(super) fn fires(trigger: &str, table: &str) -> MigrateError {
    MigrateError::refused(
        format!("the trigger {trigger} on {table} would run on every row copied"),
        format!("`DROP TRIGGER {}` until the copy has ended, and make it again then", quote(trigger)),
    )
}

/// Triggers on a table that are not capture's.
pub(super) fn foreign_triggers(
    conn: &Connection,
    schema: &str,
    table: &str,
) -> Result<Vec<String>, MigrateError> {
    let mut statement = conn.prepare(&format!(
        "SELECT name FROM {}.sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = lower(?1) \
         AND substr(name, 1, 7) <> 'banyan:' ORDER BY name",
        quote(schema)
    ))?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// The greatest id that a table ever gave out, if it remembers that.
fn sequence(conn: &Connection, schema: &str, table: &str) -> Result<Option<i64>, MigrateError> {
    if !has_table(conn, schema, "sqlite_sequence")? {
        return Ok(None);
    }
    let sql = format!("SELECT max(seq) FROM {schema}.sqlite_sequence WHERE lower(name) = lower(?1)");
    Ok(conn.query_row(&sql, [table], |row| row.get(0))?)
}

/// Whether rows can be written and found as the mapping says.
pub(super) fn fits(mapping: &Mapping, table: &Table) -> Result<(), MigrateError> {
    let unmapped = mapping.key.iter().chain(&mapping.carries).find(|name| !mapping.columns.contains(name));
    if let Some(name) = unmapped {
        return Err(MigrateError::Usage(format!(
            "the mapping of {} does not fill {name}, by which it finds rows; add it to its columns and select",
            mapping.table
        )));
    }
    mapping.columns.iter().try_for_each(|name| writable(table, name))?;
    check_left_out(mapping, table)?;
    found_by_key(mapping, table)
}

/// A column that must have a value must be filled.
fn check_left_out(mapping: &Mapping, table: &Table) -> Result<(), MigrateError> {
    let filled = |name: &String| mapping.columns.iter().any(|filled| filled.eq_ignore_ascii_case(name));
    let rowid = table.integer_key().map(|key| key.name.clone());
    let left_out = table.columns.iter().find(|column| {
        column.required && !column.generated && !filled(&column.name) && rowid.as_ref() != Some(&column.name)
    });
    let Some(column) = left_out else { return Ok(()) };
    Err(MigrateError::refused(
        format!(
            "{}.{} is NOT NULL without a DEFAULT, and the mapping does not fill it",
            table.name, column.name
        ),
        "add it to the mapping's columns and select, or give it a DEFAULT",
    ))
}

/// The column can be written.
pub(super) fn writable(table: &Table, name: &str) -> Result<(), MigrateError> {
    if !table.column(name)?.generated {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!("{}.{name} is generated and cannot be written", table.name),
        "leave it out of the mapping",
    ))
}

/// Rows are found by a unique index over exactly the key.
pub(super) fn found_by_key(mapping: &Mapping, table: &Table) -> Result<(), MigrateError> {
    let unique = table.uniques.iter().any(|unique| {
        unique.condition.is_none()
            && unique.terms.len() == mapping.key.len()
            && mapping.key.iter().all(|name| unique.terms.iter().any(|term| table.is_compared_by(name, term)))
    });
    let rowid = table.integer_key().is_some_and(|key| mapping.key == [key.name.clone()]);
    if unique || rowid {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!("no unique index of {} covers exactly its key ({})", table.name, mapping.key.join(", ")),
        format!("`CREATE UNIQUE INDEX … ON {} ({})`", quote(&table.name), list("", &mapping.key)),
    ))
}
