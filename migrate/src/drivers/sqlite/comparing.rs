//! What verification reads: sums and hashes of rows, hashed while stepping, which costs less than a function per row.
//!
//! Invariant: both ends hash a row's mapped columns in the mapping's order by [`RowHasher`], and nothing else.

use rusqlite::{Connection, Params, Row};

use super::apply::Names;
use super::bookkeeping;
use super::catalog::{Table, Unique};
use super::log::select;
use super::reads::Reads;
use super::rows::{RowHasher, SqliteRows, bound, show, show_cut, size};
use super::source::SqliteSource;
use super::sql::{among, list, numbered, quote, ranged, replace, within};
use super::staged::{Bounds, row_width};
use super::target::SqliteTarget;
use crate::engine::compare::{Cells, CompareSource, CompareTarget, Part, RowHash, ShownRow, Sum, TableRead};
use crate::engine::{Batch, Bound, KeyRange, Mapping, Position, Stream, StreamRow};
use crate::error::MigrateError;

/// Where a result row holds the source key and the mapped columns.
struct Layout {
    key: Vec<usize>,
    columns: std::ops::Range<usize>,
}

/// A select, what it is bound to, and which of its rows count.
struct Reading<'a> {
    conn: &'a Connection,
    sql: String,
    bounds: Bounds,
    layout: Layout,
    bucket: Option<(u32, u32)>,
}

impl Layout {
    fn of_source(mapping: &Mapping) -> Self {
        let first = row_width(mapping) - mapping.columns.len();
        let place =
            |name: &String| mapping.columns.iter().position(|column| column == name).unwrap_or_default();
        let key = if mapping.needs_key_map() {
            (0..first).collect()
        } else {
            mapping.carries.iter().map(place).collect()
        };
        Self { key, columns: first..row_width(mapping) }
    }

    fn of_target(mapping: &Mapping) -> Self {
        let width = mapping.root_key.len();
        Self { key: (0..width).collect(), columns: width..width + mapping.columns.len() }
    }
}

impl Reading<'_> {
    /// Calls `each` for every row of the part.
    fn read(
        &self,
        mut each: impl FnMut(&Row<'_>, &Layout) -> Result<(), rusqlite::Error>,
    ) -> Result<(), MigrateError> {
        let mut statement = self.conn.prepare_cached(&self.sql)?;
        let mut hasher = RowHasher::default();
        self.bounds.with(|params| {
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                if let Some((index, of)) = self.bucket {
                    hasher.begin();
                    for place in &self.layout.key {
                        hasher.add(row.get_ref(*place)?);
                    }
                    if hasher.finish() % u64::from(of.max(1)) != u64::from(index) {
                        continue;
                    }
                }
                each(row, &self.layout)?;
            }
            Ok(())
        })
    }

    fn sum(&self) -> Result<Sum, MigrateError> {
        let (mut rows, mut sum, mut hasher) = (0, 0_u64, RowHasher::default());
        self.read(|row, layout| {
            rows += 1;
            sum = sum.wrapping_add(hash(&mut hasher, row, layout)?);
            Ok(())
        })?;
        Ok(Sum { rows, hash: sum })
    }

    fn row_hashes(&self) -> Result<Vec<RowHash>, MigrateError> {
        let (mut hashes, mut hasher) = (Vec::new(), RowHasher::default());
        self.read(|row, layout| {
            let hash = hash(&mut hasher, row, layout)?.cast_signed();
            hashes.push(RowHash { key: key(row, layout)?, hash });
            Ok(())
        })?;
        Ok(hashes)
    }

    fn shown(&self, cells: Cells) -> Result<Vec<ShownRow>, MigrateError> {
        let text = match cells {
            Cells::Whole => show,
            Cells::Cut => show_cut,
        };
        let mut shown = Vec::new();
        self.read(|row, layout| {
            let (mut values, mut bytes) = (Vec::new(), 0);
            for place in layout.columns.clone() {
                let value = row.get_ref(place)?;
                values.push((value != rusqlite::types::ValueRef::Null).then(|| text(value)));
                bytes += size(value);
            }
            shown.push(ShownRow { key: key(row, layout)?, values, bytes });
            Ok(())
        })?;
        Ok(shown)
    }
}

fn hash(hasher: &mut RowHasher, row: &Row<'_>, layout: &Layout) -> Result<u64, rusqlite::Error> {
    hasher.begin();
    for place in layout.columns.clone() {
        hasher.add(row.get_ref(place)?);
    }
    Ok(hasher.finish())
}

fn key(row: &Row<'_>, layout: &Layout) -> Result<Bound, rusqlite::Error> {
    let values: Vec<_> = layout.key.iter().map(|place| row.get_ref(*place)).collect::<Result<_, _>>()?;
    Ok(bound(values.into_iter()))
}

/// The hashes of what a select makes for a mapping; its bounds are those of the range.
pub(super) fn hashes_of_select(
    conn: &Connection,
    mapping: &Mapping,
    select: &str,
    range: &KeyRange,
) -> Result<Vec<RowHash>, MigrateError> {
    let bounds = Bounds::of(range, mapping.root_key.len())?;
    let (sql, layout) = (select.to_owned(), Layout::of_source(mapping));
    Reading { conn, sql, bounds, layout, bucket: None }.row_hashes()
}

fn split(part: &Part) -> (KeyRange, Option<(u32, u32)>) {
    match part {
        Part::Range(range) => (range.clone(), None),
        Part::Bucket { index, of } => (KeyRange::default(), Some((*index, *of))),
    }
}

/// The collations of the unique index over exactly these columns, in their order.
fn collations(table: &Table, columns: &[String]) -> Option<Vec<String>> {
    if table.integer_key().is_some_and(|key| columns == [key.name.clone()]) {
        return Some(vec!["BINARY".to_owned()]);
    }
    let of = |unique: &Unique| {
        let one = |name: &String| unique.terms.iter().find(|(term, _)| *term == quote(name));
        let all: Option<Vec<String>> =
            columns.iter().map(|name| one(name).map(|(_, collation)| collation.clone())).collect();
        all
    };
    table.uniques.iter().find_map(of)
}

/// How values of a declared type are converted, and so ordered.
fn affinity(table: &Table, columns: &[String]) -> Result<Vec<u8>, MigrateError> {
    let one = |name: &String| {
        let declared = &table.column(name)?.declared;
        Ok(if declared.contains("INT") {
            1
        } else if ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word)) {
            2
        } else if declared.is_empty() || declared.contains("BLOB") {
            3
        } else {
            4
        })
    };
    columns.iter().map(one).collect()
}

impl SqliteSource {
    fn reading(&self, mapping: &Mapping, part: &Part) -> Result<Reading<'_>, MigrateError> {
        let (range, bucket) = split(part);
        let bounds = Bounds::of(&range, mapping.root_key.len())?;
        let layout = Layout::of_source(mapping);
        Ok(Reading { conn: &self.conn, sql: ranged(mapping, &range), bounds, layout, bucket })
    }

    fn rows_of_bounds(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Vec<ShownRow>, MigrateError> {
        let keys = self.keys(mapping, keys)?;
        let sql = among(mapping, &self.want(mapping, &keys)?);
        let bounds = Bounds::of(&KeyRange::default(), mapping.root_key.len())?;
        let layout = Layout::of_source(mapping);
        Reading { conn: &self.conn, sql, bounds, layout, bucket: None }.shown(Cells::Cut)
    }

    fn staged_among(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        keys: &[Bound],
    ) -> Result<Vec<Bound>, MigrateError> {
        self.stage_changed("asked", mapping, since)?;
        let width = mapping.root_key.len();
        let table = self.key_table("asked", width)?;
        // Under NOCASE a key that was asked for as 'a' may be logged as 'A'.
        let root = Table::read(&self.conn, self.schema, &mapping.root)?;
        let equal = (1..).zip(&mapping.root_key).map(|(n, name)| {
            let collation = quote(&root.column(name)?.collation);
            Ok(format!("k{n} COLLATE {collation} = :after{n}"))
        });
        let equal = equal.collect::<Result<Vec<_>, MigrateError>>()?.join(" AND ");
        let sql = format!("SELECT 1 FROM {table} WHERE {equal}");
        let mut dirty = Vec::new();
        for key in keys {
            let bounds = Bounds::of(&KeyRange { after: Some(key.clone()), up_to: None }, width)?;
            if bounds.with(|params| exists(&self.conn, &sql, params))? {
                dirty.push(key.clone());
            }
        }
        Ok(dirty)
    }
}

impl SqliteSource {
    fn staged_after(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Vec<Bound>, MigrateError> {
        self.stage_changed("asked", mapping, since)?;
        let width = mapping.root_key.len();
        let (table, keys) = (self.key_table("asked", width)?, numbered("k", width));
        let range = KeyRange { after: after.cloned(), up_to: None };
        let sql = format!(
            "SELECT {keys} FROM {table} WHERE {} ORDER BY {keys} LIMIT {rows}",
            within(&keys, width, &range)
        );
        let found = Bounds::of(&range, width)?.with(|params| select(&self.conn, &sql, width, params))?;
        Ok((0..found.count()).map(|row| found.bound(row)).collect())
    }
}

fn exists(conn: &Connection, sql: &str, params: impl Params) -> Result<bool, rusqlite::Error> {
    conn.prepare_cached(sql)?.exists(params)
}

impl CompareSource for SqliteSource {
    /// Where the collations and affinities of the two keys' unique indexes are the same; the target's are not known to
    /// this end, so it answers for keys that SQLite orders alike in every column: those of integers.
    fn orders_alike(&mut self, mapping: &Mapping) -> Result<bool, MigrateError> {
        let alike = || {
            let table = Table::read(&self.conn, self.schema, &mapping.root)?;
            let integers = affinity(&table, &mapping.root_key)?.iter().all(|affinity| *affinity == 1);
            Ok(integers && collations(&table, &mapping.root_key).is_some() && !mapping.needs_key_map())
        };
        let done = alike();
        self.located(done)
    }

    fn sum(&mut self, mapping: &Mapping, part: &Part) -> Result<Sum, MigrateError> {
        let done = self.reading(mapping, part).and_then(|reading| reading.sum());
        self.located(done)
    }

    fn row_hashes(&mut self, mapping: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError> {
        let done = self.reading(mapping, part).and_then(|reading| reading.row_hashes());
        self.located(done)
    }

    fn show(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Vec<ShownRow>, MigrateError> {
        let done = self.rows_of_bounds(mapping, keys);
        self.located(done)
    }

    fn dirty_among(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        keys: &[Bound],
    ) -> Result<Vec<Bound>, MigrateError> {
        let done = self.staged_among(mapping, since, keys);
        self.located(done)
    }

    fn keys(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<SqliteRows, MigrateError> {
        let mut rows = SqliteRows::new(mapping.root_key.len());
        keys.iter().try_for_each(|key| rows.push_bound(key))?;
        Ok(rows)
    }

    fn bounds(&mut self, _mapping: &Mapping, keys: &SqliteRows) -> Result<Vec<Bound>, MigrateError> {
        Ok((0..keys.count()).map(|row| keys.bound(row)).collect())
    }

    fn reads(&mut self, mapping: &Mapping) -> Result<Vec<TableRead>, MigrateError> {
        let done = Reads::of(&self.conn, self.schema, mapping).map_err(MigrateError::from);
        self.located(done).map(|reads| reads.tables)
    }

    fn dirty_keys(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Option<Vec<Bound>>, MigrateError> {
        let done = self.staged_after(mapping, since, after, rows);
        self.located(done).map(Some)
    }
}

impl SqliteTarget {
    /// Rows with their source keys in front; those without one are counted apart.
    fn reading(&self, mapping: &Mapping, part: &Part) -> Result<Reading<'_>, MigrateError> {
        let (range, bucket) = split(part);
        let width = mapping.root_key.len();
        let select = self.keyed_select(mapping);
        let sql = replace(&select, "keys", |keys| {
            format!(
                "{} AND {} IS NOT NULL",
                within(keys, width, &range),
                keys.replace(", ", " IS NOT NULL AND ")
            )
        });
        let bounds = Bounds::of(&range, width)?;
        Ok(Reading { conn: &self.conn, sql, bounds, layout: Layout::of_target(mapping), bucket })
    }

    fn keyed_select(&self, mapping: &Mapping) -> String {
        let names = Names::of(self.schema, mapping);
        let (table, columns) = (&names.table, list("t.", &mapping.columns));
        let Some(map) = &names.map else {
            let key = names.carried.join(", ");
            return format!("SELECT {key}, {columns} FROM {table} AS t WHERE {{keys {key}}}");
        };
        let key = numbered("m.s", names.width);
        let own = names.own.iter().enumerate().map(|(at, own)| format!("m.t{} = {own}", at + 1));
        let own = own.collect::<Vec<_>>().join(" AND ");
        format!("SELECT {key}, {columns} FROM {table} AS t JOIN {map} AS m ON {own} WHERE {{keys {key}}}")
    }

    fn shown(&self, mapping: &Mapping, keys: &[Bound], cells: Cells) -> Result<Vec<ShownRow>, MigrateError> {
        let width = mapping.root_key.len();
        let select = self.keyed_select(mapping);
        let sql = replace(&select, "keys", |keys| {
            let one = keys.split(", ").enumerate().map(|(at, key)| format!("{key} = :after{}", at + 1));
            one.collect::<Vec<_>>().join(" AND ")
        });
        let mut shown = Vec::new();
        for key in keys {
            let bounds = Bounds::of(&KeyRange { after: Some(key.clone()), up_to: None }, width)?;
            let layout = Layout::of_target(mapping);
            shown.extend(
                Reading { conn: &self.conn, sql: sql.clone(), bounds, layout, bucket: None }.shown(cells)?,
            );
        }
        Ok(shown)
    }

    fn without_key(&self, mapping: &Mapping, most: u32) -> Result<(u64, Vec<ShownRow>), MigrateError> {
        let names = Names::of(self.schema, mapping);
        let condition = match &names.map {
            None => format!("{} IS NULL", names.carried.join(" IS NULL OR ")),
            Some(map) => {
                let own = names.own.iter().enumerate().map(|(at, own)| format!("m.t{} = {own}", at + 1));
                let own = own.collect::<Vec<_>>().join(" AND ");
                format!("NOT EXISTS (SELECT 1 FROM {map} AS m WHERE {own})")
            }
        };
        let sql = format!("SELECT count(*) FROM {} AS t WHERE {condition}", names.table);
        let count = self.conn.query_row(&sql, [], |row| row.get(0))?;
        let columns = list("t.", &mapping.columns);
        let sql = format!("SELECT {columns} FROM {} AS t WHERE {condition} LIMIT {most}", names.table);
        let bounds = Bounds::of(&KeyRange::default(), names.width)?;
        let layout = Layout { key: Vec::new(), columns: 0..mapping.columns.len() };
        let rows = Reading { conn: &self.conn, sql, bounds, layout, bucket: None }.shown(Cells::Cut)?;
        Ok((count, rows))
    }
}

impl CompareTarget for SqliteTarget {
    fn snapshot(&mut self, stream: &Stream) -> Result<Option<StreamRow>, MigrateError> {
        self.end_snapshot()?;
        let done = self.run("BEGIN").and_then(|_| bookkeeping::stream(&self.conn, self.schema, &stream.name));
        self.located(done)
    }

    fn end_snapshot(&mut self) -> Result<(), MigrateError> {
        let done = if self.conn.is_autocommit() { Ok(()) } else { self.run("COMMIT").map(drop) };
        self.located(done)
    }

    fn sum(&mut self, mapping: &Mapping, part: &Part) -> Result<Sum, MigrateError> {
        let done = self.reading(mapping, part).and_then(|reading| reading.sum());
        self.located(done)
    }

    fn row_hashes(&mut self, mapping: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError> {
        let done = self.reading(mapping, part).and_then(|reading| reading.row_hashes());
        self.located(done)
    }

    fn show(
        &mut self,
        mapping: &Mapping,
        keys: &[Bound],
        cells: Cells,
    ) -> Result<Vec<ShownRow>, MigrateError> {
        let done = self.shown(mapping, keys, cells);
        self.located(done)
    }

    fn rows_without_key(
        &mut self,
        mapping: &Mapping,
        most: u32,
    ) -> Result<(u64, Vec<ShownRow>), MigrateError> {
        let done = self.without_key(mapping, most);
        self.located(done)
    }

    fn would_make(
        &mut self,
        forward: &Mapping,
        written: &[(&Mapping, Batch<SqliteRows>)],
        range: &KeyRange,
    ) -> Result<Vec<RowHash>, MigrateError> {
        let done = self.rehearse(forward, written, range);
        self.located(done)
    }

    fn hold(
        &mut self,
        stream: &str,
        name: &str,
        position: &Position,
        seconds: u32,
    ) -> Result<(), MigrateError> {
        let sql = format!(
            "INSERT OR REPLACE INTO {} VALUES (?1, ?2, ?3, unixepoch('now', 'subsec') + ?4)",
            self.table("banyan_holds")
        );
        let done = self.conn.execute(&sql, (stream, name, &position.0, seconds));
        self.located(done.map(drop).map_err(Into::into))
    }

    fn drop_hold(&mut self, stream: &str, name: &str) -> Result<(), MigrateError> {
        let sql = format!("DELETE FROM {} WHERE stream = ?1 AND name = ?2", self.table("banyan_holds"));
        let done = self.conn.execute(&sql, [stream, name]);
        self.located(done.map(drop).map_err(Into::into))
    }
}
