//! Loading an empty target: plain inserts without secondary indexes, which are built afterwards.
//!
//! Chunks are read in different snapshots, so two of them may hold one unique value that moved from one key to the other in
//! between. Whichever row stands in the way is removed, and the mapping's chunks are copied anew beside catch-up, which tells
//! values that moved from values that a mapping makes twice.
//!
//! Invariant: an index dropped is written down in the commit that drops it, and struck off in the commit that builds it.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::apply::Names;
use super::catalog::Table;
use super::connection;
use super::fault::{is_constraint, is_unique};
use super::index_text;
use super::rows::{SqliteRows, bind};
use super::sql::{list, numbered, quote, tuple};
use super::staged::row_width;
use super::target::{Ending, SqliteTarget};
use crate::engine::{Batch, ChunkDone, Mapping, Outcome, Stream};
use crate::error::MigrateError;

impl SqliteTarget {
    pub(super) fn load_chunk(
        &mut self,
        done: ChunkDone<'_>,
        mapping: &Mapping,
        batch: &Batch<SqliteRows>,
    ) -> Result<Ending<bool>, MigrateError> {
        let ChunkDone { lease, rows, hash } = done;
        if !self.finish(lease, rows, hash)? {
            return Ok(Ending::Undo(false));
        }
        self.needs_no_triggers(&mapping.table)?;
        self.silence_capture(&lease.stream)?;
        self.run("SAVEPOINT load")?;
        match self.insert_rows(mapping, &batch.rows) {
            Err(MigrateError::Database(error)) if is_constraint(&error) => {
                self.run("ROLLBACK TO load")?;
                let batch = Batch { keys: keys_of(mapping, &batch.rows), rows: batch.rows.clone() };
                self.load_into_collisions(&lease.stream, mapping, &batch)?;
            }
            done => done?,
        }
        self.run("RELEASE load")?;
        self.wake_capture(&lease.stream)?;
        Ok(Ending::Commit(true))
    }

    fn insert_rows(&self, mapping: &Mapping, rows: &SqliteRows) -> Result<(), MigrateError> {
        let names = Names::of(self.schema, mapping);
        let first = row_width(mapping) - mapping.columns.len();
        let (columns, values) = (list("", &mapping.columns), numbered("?", mapping.columns.len()));
        let sql = format!("INSERT INTO {} ({columns}) VALUES ({values})", names.table);
        let mut statement = self.conn.prepare_cached(&sql)?;
        for row in 0..rows.count() {
            bind(&mut statement, 1, rows.row(row).skip(first))?;
            statement.raw_execute()?;
        }
        let Some(map) = &names.map else { return Ok(()) };
        let places = mapping.key.iter().map(|name| mapping.columns.iter().position(|column| column == name));
        let places: Vec<usize> = places.flatten().map(|at| first + at).collect();
        let sql = format!(
            "INSERT INTO {map} ({}, {}) VALUES ({})",
            numbered("s", names.width),
            numbered("t", places.len()),
            numbered("?", names.width + places.len())
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        for row in 0..rows.count() {
            let key = places.iter().map(|place| rows.at(row, *place));
            bind(&mut statement, 1, rows.row(row).take(names.width).chain(key))?;
            statement.raw_execute()?;
        }
        Ok(())
    }

    fn load_into_collisions(
        &mut self,
        stream: &str,
        mapping: &Mapping,
        batch: &Batch<SqliteRows>,
    ) -> Result<(), MigrateError> {
        let names = Names::of(self.schema, mapping);
        loop {
            self.stage_batch(&names, mapping, batch)?;
            self.run("SAVEPOINT colliding")?;
            let outcome = self.write(&names, mapping)?;
            let Outcome::Collides { holders, example } = outcome else {
                return self.run("RELEASE colliding").map(drop);
            };
            self.run("ROLLBACK TO colliding")?;
            self.run("RELEASE colliding")?;
            let holders = holders.unwrap_or_else(|| SqliteRows::new(names.width));
            let ours: std::collections::HashSet<_> =
                (0..batch.keys.count()).map(|row| batch.keys.bound(row)).collect();
            let all_ours = (0..holders.count()).all(|row| ours.contains(&holders.bound(row)));
            if all_ours {
                return Err(MigrateError::refused(
                    format!(
                        "the mapping of {} makes two rows with one unique value: {example}",
                        mapping.table
                    ),
                    "correct its select, or remove the row if it is not ours",
                ));
            }
            self.stage_batch(
                &names,
                mapping,
                &Batch { keys: holders, rows: SqliteRows::new(row_width(mapping)) },
            )?;
            self.write(&names, mapping)?;
            note_doubled(&self.conn, self.schema, stream, &mapping.table)?;
        }
    }

    pub(super) fn drop_indexes(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let mut writer = connection::writing(&self.file, self.schema, self.options)?;
        let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let phase = "SELECT EXISTS (SELECT 1 FROM banyan_streams WHERE name = ?1 AND phase = 'loading')";
        if !tx.query_row(phase, [&stream.name], |row| row.get::<_, bool>(0))? {
            // Another process has ended it meanwhile: what were dropped now, nobody would build again.
            return Ok(());
        }
        for mapping in &stream.mappings {
            let mut statement = tx.prepare(
                "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND lower(tbl_name) = lower(?1)",
            )?;
            let indexes = statement.query_map([&mapping.table], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let indexes: Vec<(String, String)> = indexes.collect::<Result<_, _>>()?;
            for (name, sql) in indexes.iter().filter(|(_, sql)| !covers_key(mapping, sql)) {
                tx.execute(
                    "INSERT OR IGNORE INTO banyan_dropped VALUES (?1, ?2, ?3)",
                    (&stream.name, &mapping.table, sql),
                )?;
                tx.execute_batch(&format!("DROP INDEX {}", quote(name)))?;
            }
        }
        Ok(tx.commit()?)
    }

    pub(super) fn build_indexes(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let mut writer = connection::writing(&self.file, self.schema, self.options)?;
        writer.execute_batch("PRAGMA cache_size = -32000")?;
        // One at a time under the writer's lock, asked for anew: other processes may build, or drop, at the same time.
        loop {
            let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let next = "SELECT source, sql FROM banyan_dropped WHERE stream = ?1 LIMIT 1";
            let next = tx.query_row(next, [&stream.name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((table, sql)): Option<(String, String)> = next else {
                for (at, mapping) in stream.mappings.iter().enumerate() {
                    tx.execute(
                        "UPDATE banyan_chunks SET done = 0, rows = NULL, hash = NULL, snapshot = NULL, lease_until = 0 \
                         WHERE stream = ?1 AND mapping = ?2 \
                         AND EXISTS (SELECT 1 FROM banyan_notes WHERE stream = ?1 AND name = ?3)",
                        (&stream.name, at, doubled(&mapping.table)),
                    )?;
                    tx.execute(
                        "DELETE FROM banyan_notes WHERE stream = ?1 AND name = ?2",
                        (&stream.name, doubled(&mapping.table)),
                    )?;
                }
                tx.execute("UPDATE banyan_streams SET phase = 'following' WHERE name = ?1", [&stream.name])?;
                return Ok(tx.commit()?);
            };
            match tx.execute_batch(&sql) {
                Err(error) if is_unique(&error) => {
                    let silenced = Stream::opposite(&stream.name);
                    tx.execute("INSERT OR IGNORE INTO banyan_silenced VALUES (?1)", [&silenced])?;
                    remove_colliding(&tx, &table, &sql)?;
                    note_doubled(&tx, "main", &stream.name, &table)?;
                    tx.execute("DELETE FROM banyan_silenced WHERE stream = ?1", [&silenced])?;
                    tx.execute_batch(&sql)?;
                }
                done => done?,
            }
            tx.execute("DELETE FROM banyan_dropped WHERE stream = ?1 AND sql = ?2", (&stream.name, &sql))?;
            tx.commit()?;
        }
    }
}

/// The source keys of rows; keys without a row have nothing to be loaded.
fn keys_of(mapping: &Mapping, rows: &SqliteRows) -> SqliteRows {
    let place = |name: &String| mapping.columns.iter().position(|column| column == name);
    let width = mapping.root_key.len();
    let places: Vec<usize> = match mapping.needs_key_map() {
        true => (0..width).collect(),
        false => mapping.carries.iter().filter_map(place).collect(),
    };
    let mut keys = SqliteRows::new(width);
    (0..rows.count()).for_each(|row| places.iter().for_each(|place| keys.push(rows.at(row, *place))));
    keys
}

/// Loading finds rows by their key, should one collide.
fn covers_key(mapping: &Mapping, index: &str) -> bool {
    let (terms, condition) = index_text::parts(index);
    let is_key = |term: &String| {
        mapping.key.iter().any(|name| *term == quote(name) || term.eq_ignore_ascii_case(name))
    };
    condition.is_none() && terms.len() == mapping.key.len() && terms.iter().all(is_key)
}

/// The note that rows of a table stood in each other's way.
fn doubled(table: &str) -> String {
    format!("doubled:{table}")
}

fn note_doubled(conn: &Connection, schema: &str, stream: &str, table: &str) -> Result<(), MigrateError> {
    let sql = format!("INSERT OR REPLACE INTO {schema}.banyan_notes VALUES (?1, ?2, '')");
    conn.execute(&sql, (stream, doubled(table)))?;
    Ok(())
}

/// Removes every row that shares a value which the index wants unique.
fn remove_colliding(conn: &Connection, table: &str, index: &str) -> Result<(), MigrateError> {
    let (terms, condition) = index_text::parts(index);
    let identity = Table::read(conn, "main", table)?.identity().join(", ");
    let present = terms.iter().map(|term| format!("({term}) IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
    let table = quote(table);
    conn.execute_batch(&format!(
        "DELETE FROM {table} WHERE {} IN (SELECT {identity} FROM \
         (SELECT {identity}, count(*) OVER (PARTITION BY {}) AS banyan_count FROM {table} WHERE {present} AND ({})) \
         WHERE banyan_count > 1)",
        tuple(&identity),
        terms.join(", "),
        condition.as_deref().unwrap_or("1")
    ))?;
    Ok(())
}
