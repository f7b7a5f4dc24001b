//! Bringing keys to the state of a snapshot.
//!
//! Invariant: after a batch the table holds, for its keys less those left out, exactly the batch's rows; nothing else of it
//! has changed, columns outside the mapping and rows that were equal already included.

use super::bookkeeping::{self, key_map};
use super::fault::is_constraint;
use super::log::select;
use super::rows::{SqliteRows, bind, show};
use super::sql::{equal, list, numbered, quote, tuple};
use super::staged::row_width;
use super::target::{Ending, SqliteTarget};
use crate::engine::{Batch, ChunkDone, Guard, Mapping, Outcome, Phase, Stream, Touched};
use crate::error::MigrateError;

/// The page cache of a connection that writes rows. SQLite is built so that the connections of a process share one pool, as large as
/// their caches together; so only who writes rows asks for more than SQLite gives by itself.
const CACHE_KIB: u32 = 10_000;

/// A mapping's names as the statements use them: the table is `t`, a staged row `r`.
pub(super) struct Names {
    pub(super) table: String,
    pub(super) map: Option<String>,
    pub(super) keys: String,
    pub(super) rows: String,
    touched: String,
    pub(super) width: usize,
    /// The key in the table, and in a staged row.
    pub(super) own: Vec<String>,
    pub(super) staged: Vec<String>,
    /// The source key in a staged row.
    pub(super) source: Vec<String>,
    /// The source key in the table, where the table carries it.
    pub(super) carried: Vec<String>,
    /// Per mapped column, the staged row's.
    pub(super) values: Vec<String>,
}

impl Names {
    pub(super) fn of(schema: &str, mapping: &Mapping) -> Self {
        let width = mapping.root_key.len();
        let first = if mapping.needs_key_map() { width } else { 0 };
        let place =
            |name: &String| mapping.columns.iter().position(|column| column == name).unwrap_or_default();
        let staged = |name: &String| format!("r.c{}", first + place(name) + 1);
        let own = |name: &String| format!("t.{}", quote(name));
        let source = match mapping.needs_key_map() {
            true => (1..=width).map(|n| format!("r.c{n}")).collect(),
            false => mapping.carries.iter().map(staged).collect(),
        };
        Self {
            table: format!("{schema}.{}", quote(&mapping.table)),
            map: mapping.needs_key_map().then(|| key_map(schema, mapping)),
            keys: format!("temp.banyan_keys{width}"),
            rows: format!("temp.banyan_rows{}", row_width(mapping)),
            touched: format!("temp.banyan_touched{width}"),
            width,
            own: mapping.key.iter().map(own).collect(),
            staged: mapping.key.iter().map(staged).collect(),
            source,
            carried: mapping.carries.iter().map(own).collect(),
            values: (1..=mapping.columns.len()).map(|n| format!("r.c{}", first + n)).collect(),
        }
    }

    /// A staged row is the table's row.
    pub(super) fn is_own(&self) -> String {
        equal(&self.own, &self.staged)
    }

    /// The staged row differs from the table's, bit for bit; `=` would hold 1 equal to 1.0 and, under a collation, a to A.
    pub(super) fn differs(&self, mapping: &Mapping) -> String {
        let columns = mapping.columns.iter().zip(&self.values);
        let same = columns.map(|(name, value)| format!("banyan_same(t.{}, {value})", quote(name)));
        format!("NOT ({})", same.collect::<Vec<_>>().join(" AND "))
    }

    fn all_keys(&self) -> String {
        format!("SELECT {} FROM {}", numbered("k", self.width), self.keys)
    }

    /// The rows of the batch's keys.
    pub(super) fn of_batch(&self) -> String {
        match &self.map {
            None => format!("{} IN ({})", tuple(&self.carried.join(", ")), self.all_keys()),
            Some(map) => format!(
                "{} IN (SELECT {} FROM {map} WHERE {} IN ({}))",
                tuple(&self.own.join(", ")),
                numbered("t", self.own.len()),
                tuple(&numbered("s", self.width)),
                self.all_keys()
            ),
        }
    }
}

impl SqliteTarget {
    pub(super) fn apply_batch(
        &mut self,
        guard: Guard<'_, SqliteRows>,
        mapping: &Mapping,
        batch: &Batch<SqliteRows>,
    ) -> Result<Ending<Outcome<SqliteRows>>, MigrateError> {
        let names = Names::of(self.schema, mapping);
        let writer = guard.stream().to_owned();
        let mut done: Option<ChunkDone<'_>> = None;
        match guard {
            Guard::Claim(claim) => {
                let row = bookkeeping::stream(&self.conn, self.schema, &claim.stream)?;
                if row.is_none_or(|row| row.token != claim.token) {
                    return Ok(Ending::Undo(Outcome::Superseded));
                }
                self.stage_batch(&names, mapping, batch)?;
            }
            Guard::GivingWay { stream, chunk, touched } => {
                done = chunk;
                // Behind a lost lease the log may be pruned: nothing could be said of it.
                let lost = chunk.map_or(Ok(false), |done| self.holds(done.lease).map(|holds| !holds))?;
                let row = bookkeeping::stream(&self.conn, self.schema, stream)?;
                let Some(row) = row.filter(|row| !lost && row.phase != Phase::Resting) else {
                    return Ok(Ending::Undo(Outcome::Superseded));
                };
                self.stage_batch(&names, mapping, batch)?;
                self.leave_out(&names, &touched(&row.next)?)?;
            }
        }
        self.silence_capture(&writer)?;
        let outcome = self.write(&names, mapping)?;
        if !matches!(outcome, Outcome::Written(_)) {
            return Ok(Ending::Undo(outcome));
        }
        if let Some(ChunkDone { lease, rows, hash }) = done
            && !self.finish(lease, rows, hash)?
        {
            return Ok(Ending::Undo(Outcome::Superseded));
        }
        self.wake_capture(&writer)?;
        Ok(Ending::Commit(outcome))
    }

    /// While the row is there, triggers of the way back of the stream that writes log nothing; nobody else ever sees it.
    pub(super) fn silence_capture(&self, writer: &str) -> Result<(), MigrateError> {
        let sql = format!("INSERT OR IGNORE INTO {} VALUES (?1)", self.table("banyan_silenced"));
        Ok(self.conn.prepare_cached(&sql)?.execute([Stream::opposite(writer)]).map(drop)?)
    }

    pub(super) fn wake_capture(&self, writer: &str) -> Result<(), MigrateError> {
        let sql = format!("DELETE FROM {} WHERE stream = ?1", self.table("banyan_silenced"));
        Ok(self.conn.prepare_cached(&sql)?.execute([Stream::opposite(writer)]).map(drop)?)
    }

    /// Makes the temporary tables, outside of a transaction: one undone would take them with it, and every statement
    /// prepared on this connection would be prepared anew.
    pub(super) fn make_staging(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        let names = Names::of(self.schema, mapping);
        let (keys, rows) = (numbered("k", names.width), numbered("c", row_width(mapping)));
        let tables = [
            (&names.keys, format!("{keys}, UNIQUE ({keys})")),
            (&names.touched, format!("{keys}, UNIQUE ({keys})")),
            (&names.rows, format!("n INTEGER PRIMARY KEY, {rows}")),
        ];
        if self.made.is_empty() {
            let cache = format!("PRAGMA {}.cache_size = -{CACHE_KIB}", self.schema);
            self.conn.execute_batch(&cache)?;
        }
        for (table, columns) in tables {
            if !self.made.contains(table) {
                self.conn.execute_batch(&format!("CREATE TABLE IF NOT EXISTS {table} ({columns})"))?;
                self.made.insert(table.clone());
            }
        }
        Ok(())
    }

    pub(super) fn stage_batch(
        &mut self,
        names: &Names,
        mapping: &Mapping,
        batch: &Batch<SqliteRows>,
    ) -> Result<(), MigrateError> {
        self.stage_keys(&names.keys, &batch.keys, names.width)?;
        let width = row_width(mapping);
        self.run(&format!("DELETE FROM {}", names.rows))?;
        let (columns, values) = (numbered("c", width), numbered("?", width));
        let sql = format!("INSERT INTO {} ({columns}) VALUES ({values})", names.rows);
        let mut statement = self.conn.prepare_cached(&sql)?;
        for row in 0..batch.rows.count() {
            bind(&mut statement, 1, batch.rows.row(row))?;
            statement.raw_execute()?;
        }
        drop(statement);
        self.refuse_bad_keys(names, mapping)
    }

    fn stage_keys(&mut self, table: &str, keys: &SqliteRows, width: usize) -> Result<(), MigrateError> {
        self.run(&format!("DELETE FROM {table}"))?;
        let sql = format!("INSERT OR IGNORE INTO {table} VALUES ({})", numbered("?", width));
        let mut statement = self.conn.prepare_cached(&sql)?;
        for row in 0..keys.count() {
            bind(&mut statement, 1, keys.row(row))?;
            statement.raw_execute()?;
        }
        Ok(())
    }

    fn leave_out(&mut self, names: &Names, touched: &Touched<SqliteRows>) -> Result<(), MigrateError> {
        match touched {
            Touched::Whole => {
                self.run(&format!("DELETE FROM {}", names.keys))?;
                self.run(&format!("DELETE FROM {}", names.rows))?;
            }
            Touched::Keys(touched) if touched.count() > 0 => {
                self.stage_keys(&names.touched, touched, names.width)?;
                let keys = numbered("k", names.width);
                let left_out = format!("(SELECT {keys} FROM {})", names.touched);
                self.run(&format!("DELETE FROM {} WHERE {} IN {left_out}", names.keys, tuple(&keys)))?;
                let source = tuple(&names.source.join(", "));
                self.run(&format!("DELETE FROM {} AS r WHERE {source} IN {left_out}", names.rows))?;
            }
            Touched::Keys(_) => {}
        }
        Ok(())
    }

    /// A mapping whose rows cannot be told apart is wrong in any snapshot.
    fn refuse_bad_keys(&self, names: &Names, mapping: &Mapping) -> Result<(), MigrateError> {
        let key = names.staged.join(", ");
        let null = names.staged.iter().chain(&names.source).map(|part| format!("{part} IS NULL"));
        let null = null.collect::<Vec<_>>().join(" OR ");
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} AS r WHERE {null})", names.rows);
        let twice =
            format!("SELECT EXISTS (SELECT 1 FROM {} AS r GROUP BY {key} HAVING count(*) > 1)", names.rows);
        let found = |sql: &str| self.conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, bool>(0));
        let what = if found(&sql)? {
            "a row whose key or source key is NULL"
        } else if found(&twice)? {
            "two rows with one key"
        } else {
            return Ok(());
        };
        Err(MigrateError::refused(
            format!("the mapping of {} makes {what} ({})", mapping.table, mapping.key.join(", ")),
            "correct its select or its key",
        ))
    }

    /// Writes what is staged.
    pub(super) fn write(
        &mut self,
        names: &Names,
        mapping: &Mapping,
    ) -> Result<Outcome<SqliteRows>, MigrateError> {
        self.needs_no_triggers(&mapping.table)?;
        if let Some(collision) = self.rows_of_others(names, mapping)? {
            return Ok(collision);
        }
        let (own, staged) = (tuple(&names.own.join(", ")), names.staged.join(", "));
        let removed = self.run(&format!(
            "DELETE FROM {} AS t WHERE {} AND {own} NOT IN (SELECT {staged} FROM {} AS r)",
            names.table,
            names.of_batch(),
            names.rows
        ))?;
        self.run("SAVEPOINT plain")?;
        let written = match self.write_in_place(names, mapping) {
            Err(MigrateError::Database(error)) if is_constraint(&error) => {
                self.run("ROLLBACK TO plain")?;
                self.write_apart(names, mapping)?
            }
            written => Outcome::Written(written? as u64),
        };
        self.run("RELEASE plain")?;
        let Outcome::Written(written) = written else { return Ok(written) };
        self.needs_each(names, mapping)?;
        self.note_keys(names)?;
        Ok(Outcome::Written(written + removed as u64))
    }

    /// Refuses staged rows whose keys are one as the table's columns compare: one was written over the other. Keys that
    /// are source keys cannot be.
    fn needs_each(&self, names: &Names, mapping: &Mapping) -> Result<(), MigrateError> {
        if names.own == names.carried {
            return Ok(());
        }
        let sql = format!(
            "SELECT (SELECT count(*) FROM {} AS t WHERE {} IN (SELECT {} FROM {rows} AS r)) < (SELECT count(*) FROM {rows})",
            names.table,
            tuple(&names.own.join(", ")),
            names.staged.join(", "),
            rows = names.rows
        );
        if !self.conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))? {
            return Ok(());
        }
        let overwritten = format!(
            "SELECT {} FROM {} AS r CROSS JOIN {} AS t WHERE {} AND {} LIMIT 1",
            names.staged.join(", "),
            names.rows,
            names.table,
            names.is_own(),
            names.differs(mapping)
        );
        let found = select(&self.conn, &overwritten, names.staged.len(), [])?;
        let key: Vec<String> = (0..found.count()).flat_map(|row| found.row(row).map(show)).collect();
        Err(MigrateError::refused(
            format!(
                "the mapping of {} makes two rows with one key ({}) = ({}), as its columns compare",
                mapping.table,
                mapping.key.join(", "),
                key.join(", ")
            ),
            "correct its select or its key, or the rows at the source",
        ))
    }

    fn write_in_place(&self, names: &Names, mapping: &Mapping) -> Result<usize, MigrateError> {
        let set = mapping
            .columns
            .iter()
            .zip(&names.values)
            .map(|(name, value)| format!("{} = {value}", quote(name)));
        let changed = self.run(&format!(
            "UPDATE {} AS t SET {} FROM {} AS r WHERE {} AND {}",
            names.table,
            set.collect::<Vec<_>>().join(", "),
            names.rows,
            names.is_own(),
            names.differs(mapping)
        ))?;
        let added = self.run(&format!(
            "INSERT INTO {0} ({1}) SELECT {2} FROM {3} AS r WHERE NOT EXISTS (SELECT 1 FROM {0} AS t WHERE {4})",
            names.table,
            list("", &mapping.columns),
            names.values.join(", "),
            names.rows,
            names.is_own()
        ))?;
        Ok(changed + added)
    }

    /// Keeps the key map, where there is one.
    fn note_keys(&self, names: &Names) -> Result<(), MigrateError> {
        let Some(map) = &names.map else { return Ok(()) };
        let (source, own) = (numbered("s", names.width), numbered("t", names.own.len()));
        let (staged, from) = (names.staged.join(", "), names.source.join(", "));
        self.run(&format!("DELETE FROM {map} WHERE {} IN ({})", tuple(&source), names.all_keys()))?;
        self.run(&format!(
            "DELETE FROM {map} WHERE {} IN (SELECT {staged} FROM {} AS r)",
            tuple(&own),
            names.rows
        ))?;
        self.run(&format!(
            "INSERT INTO {map} ({source}, {own}) SELECT {from}, {staged} FROM {} AS r",
            names.rows
        ))?;
        Ok(())
    }
}
