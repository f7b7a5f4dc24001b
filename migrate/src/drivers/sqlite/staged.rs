//! Keys: which changed, which lie in a range, and what the mapping makes of them.
//!
//! Invariant: keys staged are exactly those with a log row in the window asked for, fanned out through the joins in the
//! *reading* snapshot, not when they were logged. NULL is no key, and a row that has none is refused.

use rusqlite::{ToSql, named_params};

use super::catalog::has_table;
use super::log::{select, select_up_to};
use super::place::Place;
use super::rows::{Borrowed, SqliteRows, bind};
use super::source::SqliteSource;
use super::sql::{among, list, numbered, quote, ranged, replace, tuple, within};
use crate::engine::{Batch, Bound, Bounded, Joining, KeyRange, Mapping, Position};
use crate::error::MigrateError;

/// A range's bounds as named parameters.
pub(super) struct Bounds {
    names: Vec<String>,
    values: SqliteRows,
}

impl Bounds {
    pub(super) fn of(range: &KeyRange, width: usize) -> Result<Self, MigrateError> {
        let (mut names, mut values) = (Vec::new(), SqliteRows::new(width));
        for (name, bound) in [(":after", &range.after), (":up_to", &range.up_to)] {
            if let Some(bound) = bound {
                names.extend((1..=width).map(|n| format!("{name}{n}")));
                values.push_bound(bound)?;
            }
        }
        Ok(Self { names, values })
    }

    /// Runs a select that names them.
    pub(super) fn with<T>(&self, run: impl FnOnce(&[(&str, &dyn ToSql)]) -> T) -> T {
        let values: Vec<Borrowed<'_>> =
            (0..self.values.count()).flat_map(|row| self.values.row(row)).map(Borrowed).collect();
        let params: Vec<(&str, &dyn ToSql)> = self
            .names
            .iter()
            .zip(&values)
            .map(|(name, value)| (name.as_str(), value as &dyn ToSql))
            .collect();
        run(&params)
    }
}

/// How many columns the mapping's select yields.
pub(super) fn row_width(mapping: &Mapping) -> usize {
    mapping.columns.len() + if mapping.needs_key_map() { mapping.root_key.len() } else { 0 }
}

impl SqliteSource {
    /// The temporary table of keys of one width, empty at first; rows are numbered from 1 without gaps.
    pub(super) fn key_table(&mut self, name: &str, width: usize) -> Result<String, MigrateError> {
        let table = format!("temp.banyan_{name}{width}");
        if self.made.insert(table.clone()) {
            let keys = numbered("k", width);
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {table} (n INTEGER PRIMARY KEY, {keys}, UNIQUE ({keys}))"
            );
            self.conn.execute_batch(&sql)?;
        }
        Ok(table)
    }

    pub(super) fn emptied(&mut self, name: &str, width: usize) -> Result<String, MigrateError> {
        let table = self.key_table(name, width)?;
        self.conn.prepare_cached(&format!("DELETE FROM {table}"))?.execute([])?;
        Ok(table)
    }

    fn put(&self, table: &str, keys: &SqliteRows) -> Result<(), MigrateError> {
        let width = keys.width();
        let (names, values) = (numbered("k", width), numbered("?", width));
        let sql = format!("INSERT OR IGNORE INTO {table} ({names}) VALUES ({values})");
        let mut statement = self.conn.prepare_cached(&sql)?;
        for row in 0..keys.count() {
            bind(&mut statement, 1, keys.row(row))?;
            statement.raw_execute()?;
        }
        Ok(())
    }

    /// Selects of the keys that log rows behind `:low` up to `:high` concern.
    fn changed(&self, mapping: &Mapping) -> Result<Vec<String>, MigrateError> {
        let log = self.known_log()?;
        let logged = |table: &str, columns: &[String]| {
            let (tab, places) = log.places(table, columns)?;
            let places = places.join(", ");
            let from =
                format!("{}.banyan_log WHERE pos > :low AND pos <= :high AND tab = {tab}", self.schema);
            Ok::<_, MigrateError>((format!("SELECT {places} FROM {from}"), places))
        };
        let mut selects = vec![logged(&mapping.root, &mapping.root_key)?.0];
        for join in &mapping.joins {
            let (select, places) = logged(&join.table, &join.columns)?;
            selects.push(match &join.keys {
                Some(keys) => replace(keys, "values", |values| format!("{} IN ({select})", tuple(values))),
                // A joined row that belongs to nobody concerns nobody.
                None => format!("{select} AND {} IS NOT NULL", places.replace(", ", " IS NOT NULL AND ")),
            });
        }
        Ok(selects)
    }

    /// Into the key table of that name.
    pub(super) fn stage_changed(
        &mut self,
        name: &str,
        mapping: &Mapping,
        since: &Position,
    ) -> Result<u64, MigrateError> {
        let high = self.snapshot()?.place.pos;
        let width = mapping.root_key.len();
        let table = self.emptied(name, width)?;
        let log = self.known_log()?;
        let low = log.standing(&self.conn, self.schema, since)?;
        let (selects, keys) = (self.changed(mapping)?, numbered("k", width));
        let fill = |select: &str| {
            let sql = format!("INSERT OR IGNORE INTO {table} ({keys}) {select}");
            self.conn.prepare_cached(&sql)?.execute(named_params! { ":low": low, ":high": high })
        };
        selects.iter().try_for_each(|select| fill(select).map(drop))?;
        let null = keys.replace(", ", " IS NULL OR ");
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {null} IS NULL)");
        if self.conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))? {
            // What had no key may be gone by now, and then it never was anywhere else.
            self.refuse_null(mapping)?;
            self.conn.prepare_cached(&format!("DELETE FROM {table}"))?.execute([])?;
            let present = keys.replace(", ", " IS NOT NULL AND ");
            let known = |select: &String| {
                format!("WITH s ({keys}) AS ({select}) SELECT {keys} FROM s WHERE {present} IS NOT NULL")
            };
            selects.iter().try_for_each(|select| fill(&known(select)).map(drop))?;
        }
        let sql = format!("SELECT coalesce(max(n), 0) FROM {table}");
        Ok(self.conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))?)
    }

    pub(super) fn stage_root(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        self.refuse_null(mapping)?;
        let width = mapping.root_key.len();
        let table = self.key_table("staged", width)?;
        let (names, keys, root) = (numbered("k", width), list("", &mapping.root_key), self.root(mapping));
        let sql = format!("INSERT OR IGNORE INTO {table} ({names}) SELECT {keys} FROM {root}");
        self.conn.execute(&sql, [])?;
        Ok(())
    }

    pub(super) fn stage_more(&mut self, mapping: &Mapping, keys: &SqliteRows) -> Result<(), MigrateError> {
        let table = self.key_table("staged", mapping.root_key.len())?;
        self.put(&table, keys)
    }

    pub(super) fn staged_piece(
        &mut self,
        mapping: &Mapping,
        from: u64,
        size: u32,
        most: u64,
    ) -> Result<Option<Bounded<SqliteRows>>, MigrateError> {
        let width = mapping.root_key.len();
        let table = self.key_table("staged", width)?;
        let staged = format!("SELECT {} FROM {table} WHERE n > :from AND n <= :to", numbered("k", width));
        let (from, to) = (from as i64, from as i64 + i64::from(size));
        let keys = select(&self.conn, &staged, width, named_params! { ":from": from, ":to": to })?;
        if keys.count() == 0 {
            return Ok(None);
        }
        let sql = among(mapping, &staged);
        let params = named_params! { ":from": from, ":to": to };
        let rows = select_up_to(&self.conn, most, (&sql, row_width(mapping)), params)?;
        Ok(Some(rows.map(|rows| Batch { keys, rows })))
    }

    pub(super) fn wider(
        &mut self,
        mapping: &Mapping,
        batch: &Batch<SqliteRows>,
        more: &SqliteRows,
        joining: Joining<'_>,
    ) -> Result<Option<Batch<SqliteRows>>, MigrateError> {
        let wanted = self.emptied("wanted", mapping.root_key.len())?;
        self.put(&wanted, more)?;
        if let Joining::AccountedFor(since) = joining {
            self.drop_unaccounted(mapping, &wanted, since)?;
        }
        self.put(&wanted, &batch.keys)?;
        let wider = self.wanted(mapping)?;
        Ok((wider.keys.count() > batch.keys.count()).then_some(wider))
    }

    fn drop_unaccounted(
        &self,
        mapping: &Mapping,
        wanted: &str,
        since: &Position,
    ) -> Result<(), MigrateError> {
        let high = self.snapshot()?.place.pos;
        let low = self.known_log()?.standing(&self.conn, self.schema, since)?;
        let held = format!("SELECT {} FROM {}", list("", &mapping.root_key), self.root(mapping));
        let key = tuple(&numbered("k", mapping.root_key.len()));
        // A NULL that was logged would make NOT IN unknown.
        let foreign = |select: &String| format!("({key} IN ({select})) IS NOT TRUE");
        let foreign: Vec<String> =
            std::iter::once(&held).chain(&self.changed(mapping)?).map(foreign).collect();
        let sql = format!("DELETE FROM {wanted} WHERE {}", foreign.join(" AND "));
        self.conn.prepare_cached(&sql)?.execute(named_params! { ":low": low, ":high": high })?;
        Ok(())
    }

    pub(super) fn read_keys(
        &mut self,
        mapping: &Mapping,
        keys: &SqliteRows,
    ) -> Result<Batch<SqliteRows>, MigrateError> {
        self.want(mapping, keys)?;
        self.wanted(mapping)
    }

    /// Puts keys aside; gives the select of them.
    pub(super) fn want(&mut self, mapping: &Mapping, keys: &SqliteRows) -> Result<String, MigrateError> {
        let wanted = self.emptied("wanted", mapping.root_key.len())?;
        self.put(&wanted, keys)?;
        Ok(format!("SELECT {} FROM {wanted}", numbered("k", mapping.root_key.len())))
    }

    fn wanted(&mut self, mapping: &Mapping) -> Result<Batch<SqliteRows>, MigrateError> {
        let width = mapping.root_key.len();
        let wanted = format!("SELECT {} FROM {}", numbered("k", width), self.key_table("wanted", width)?);
        let keys = select(&self.conn, &wanted, width, [])?;
        let rows = select(&self.conn, &among(mapping, &wanted), row_width(mapping), [])?;
        Ok(Batch { keys, rows })
    }

    pub(super) fn end_of_range(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        rows: u32,
    ) -> Result<Option<Bound>, MigrateError> {
        let width = mapping.root_key.len();
        let keys = list("", &mapping.root_key);
        let (root, within) = (self.root(mapping), within(&keys, width, range));
        let skip = rows.max(1) - 1;
        let sql = format!("SELECT {keys} FROM {root} WHERE {within} ORDER BY {keys} LIMIT 1 OFFSET {skip}");
        let last = Bounds::of(range, width)?.with(|params| select(&self.conn, &sql, width, params))?;
        Ok((last.count() > 0).then(|| last.bound(0)))
    }

    pub(super) fn read_range(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        most: u64,
    ) -> Result<Bounded<SqliteRows>, MigrateError> {
        let width = mapping.root_key.len();
        let keys = list("", &mapping.root_key);
        let sql = format!("SELECT {keys} FROM {} WHERE {}", self.root(mapping), within(&keys, width, range));
        let bounds = Bounds::of(range, width)?;
        let keys = bounds.with(|params| select(&self.conn, &sql, width, params))?;
        Ok(self.rows_of_range(mapping, range, most)?.map(|batch| Batch { keys, ..batch }))
    }

    pub(super) fn rows_of_range(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        most: u64,
    ) -> Result<Bounded<SqliteRows>, MigrateError> {
        if range.after.is_none() {
            self.refuse_null(mapping)?;
        }
        let (width, sql) = (mapping.root_key.len(), ranged(mapping, range));
        let bounds = Bounds::of(range, width)?;
        let select = (sql.as_str(), row_width(mapping));
        let rows = bounds.with(|params| select_up_to(&self.conn, most, select, params))?;
        Ok(rows.map(|rows| Batch { keys: SqliteRows::new(width), rows }))
    }

    /// Keys with a log row that `seen` saw and `unseen` did not, fanned out as of now: a key that has since moved away from
    /// a joined row has a log row of its own behind `seen`, so catch-up comes to it.
    pub(super) fn changed_between(
        &mut self,
        mapping: &Mapping,
        seen: &Position,
        unseen: &Position,
    ) -> Result<SqliteRows, MigrateError> {
        let log = self.known_log()?;
        let high = Place::of(log, seen)?;
        let low = log.standing(&self.conn, self.schema, unseen)?;
        if high <= low {
            return Ok(SqliteRows::new(mapping.root_key.len()));
        }
        let sql = self.changed(mapping)?.join(" UNION ");
        let params = named_params! { ":low": low, ":high": high };
        Ok(select(&self.conn, &sql, mapping.root_key.len(), params)?)
    }

    /// From the statistics of ANALYZE, if there are any.
    pub(super) fn guess(&mut self, mapping: &Mapping) -> Result<u64, MigrateError> {
        if has_table(&self.conn, self.schema, "sqlite_stat1")? {
            let sql =
                format!("SELECT max(CAST(stat AS INTEGER)) FROM {}.sqlite_stat1 WHERE tbl = ?1", self.schema);
            let known: Option<u64> = self.conn.query_row(&sql, [&mapping.root], |row| row.get(0))?;
            if let Some(known) = known {
                return Ok(known);
            }
        }
        let sql = format!("SELECT count(*) FROM {}", self.root(mapping));
        Ok(self.conn.query_row(&sql, [], |row| row.get(0))?)
    }

    fn root(&self, mapping: &Mapping) -> String {
        format!("{}.{}", self.schema, quote(&mapping.root))
    }

    /// SQLite lets NULL into a PRIMARY KEY that does not say NOT NULL.
    fn refuse_null(&self, mapping: &Mapping) -> Result<(), MigrateError> {
        let null = mapping.root_key.iter().map(|name| format!("{} IS NULL", quote(name)));
        let null = null.collect::<Vec<_>>().join(" OR ");
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {null})", self.root(mapping));
        if self.conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))? {
            return Err(null_key(mapping));
        }
        Ok(())
    }
}

fn null_key(mapping: &Mapping) -> MigrateError {
    let key = mapping.root_key.join(", ");
    MigrateError::refused(
        format!("{} holds rows whose key ({key}) is NULL, so nothing tells them apart", mapping.root),
        format!(
            "give them a key: `SELECT rowid, * FROM {} WHERE {} IS NULL` shows them",
            quote(&mapping.root),
            mapping.root_key.iter().map(|name| quote(name)).collect::<Vec<_>>().join(" IS NULL OR ")
        ),
    )
}
