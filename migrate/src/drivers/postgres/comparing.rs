//! Comparing: both ends hash what their rows hold, in the types of the target's columns.
//!
//! Invariant: what both ends hash of a row is the same SQL over the same types (see [`row_hash`]).

use super::connection::{Connection, NO_VALUE, column};
use super::reads::Reads;
use super::rows::CopyRows;
use super::shape::Shape;
use super::sql;
use super::target::{Keyed, keyed};
use super::{PostgresSource, PostgresTarget, bookkeeping, row_hash};
use crate::engine::compare::{
    CELL, Cells, CompareSource, CompareTarget, Part, RowHash, ShownRow, Sum, TableRead,
};
use crate::engine::{Batch, Bound, KeyRange, Mapping, Position, Source as _, Stream, StreamRow};
use crate::error::MigrateError;

/// Plans as the server makes them by itself, as parts may be large; but a range is done before workers for it have started.
const ANY_PLAN: &str = "SET LOCAL seq_page_cost = DEFAULT; SET LOCAL random_page_cost = DEFAULT; \
    SET LOCAL enable_mergejoin = DEFAULT; SET LOCAL max_parallel_workers_per_gather";

/// How many numbers between two parts' ends are looked up, to see whether most are keys.
const LOOKS: u32 = 16;

/// Rows of one end, as SQL.
pub(super) struct Compared {
    from: String,
    condition: String,
    /// The source key.
    key: Vec<String>,
    values: Vec<String>,
}

impl Compared {
    fn sum(&self, connection: &mut Connection, shape: &Shape, part: &Part) -> Result<Sum, MigrateError> {
        let workers = match part {
            Part::Range(_) => "0",
            Part::Bucket { .. } => "DEFAULT",
        };
        let rows = connection.rows(&format!(
            "{ANY_PLAN} = {workers}; SELECT count(*), coalesce(sum({}), 0)::text FROM {} WHERE {}",
            self.hash(shape),
            self.from,
            self.condition
        ))?;
        let sum = rows.first().and_then(|row| {
            let (rows, hash) = (column(row, 0).parse().ok()?, column(row, 1).parse::<i128>().ok()?);
            Some(Sum { rows, hash: u64::try_from(hash.rem_euclid(1 << 64)).ok()? })
        });
        sum.ok_or_else(|| MigrateError::failed(NO_VALUE))
    }

    pub(super) fn hashes(
        &self,
        connection: &mut Connection,
        shape: &Shape,
    ) -> Result<Vec<RowHash>, MigrateError> {
        let rows = connection.rows(&format!(
            "SELECT {}, {} FROM {} WHERE {}",
            shape.bound(&self.key),
            self.hash(shape),
            self.from,
            self.condition
        ))?;
        let read = |row| RowHash {
            key: Bound(column(row, 0).to_owned()),
            hash: column(row, 1).parse().unwrap_or_default(),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Cells are cut by the server: whole ones need not fit here.
    fn shown(
        &self,
        connection: &mut Connection,
        shape: &Shape,
        cells: Cells,
    ) -> Result<Vec<ShownRow>, MigrateError> {
        let types = self.values.iter().zip(&shape.target.columns).enumerate();
        let values = types.map(|(at, (value, kind))| {
            format!("{} AS v{at}", kind.shown(&format!("({value})::{}", kind.wire())))
        });
        let values: Vec<String> = values.collect();
        let cell = |at: usize| match cells {
            Cells::Whole => format!("q.v{at}"),
            Cells::Cut => format!(
                "CASE WHEN length(q.v{at}) > {CELL} THEN concat(left(q.v{at}, {CELL}), '... (', length(q.v{at}), \
                 ' characters, hash ', to_hex(hashtextextended(q.v{at} COLLATE \"C\", 11)), ')') ELSE q.v{at} END"
            ),
        };
        let (mut shown, mut bytes) = (Vec::new(), Vec::new());
        for at in 0..values.len() {
            shown.push(cell(at));
            bytes.push(format!("coalesce(octet_length(q.v{at}), 0)::bigint"));
        }
        // OFFSET keeps the server from making each text anew wherever it is named.
        let rows = connection.rows(&format!(
            "SELECT q.k, {}, {} FROM (SELECT {} AS k, {} FROM {} WHERE {} OFFSET 0) q",
            bytes.join(" + "),
            shown.join(", "),
            shape.bound(&self.key),
            values.join(", "),
            self.from,
            self.condition
        ))?;
        let read = |row: &postgres::SimpleQueryRow| ShownRow {
            key: Bound(column(row, 0).to_owned()),
            bytes: column(row, 1).parse().unwrap_or_default(),
            values: (2..values.len() + 2).map(|at| row.get(at).map(str::to_owned)).collect(),
        };
        Ok(rows.iter().map(read).collect())
    }

    fn hash(&self, shape: &Shape) -> String {
        row_hash::of(&self.values, &shape.target.columns)
    }
}

fn in_bucket(shape: &Shape, key: &[String], index: u32, of: u32) -> String {
    let hash = format!("hashtextextended(({}) COLLATE \"C\", 11)", shape.bound(key));
    format!("(({hash} % {of} + {of}) % {of}) = {index}")
}

/// `(A, B) IN (…)` for keys given as bounds.
fn among(columns: &str, casts: &[String], keys: &[Bound]) -> Result<String, MigrateError> {
    let each = keys.iter().map(|key| Ok(format!("({})", sql::bound_values_as(key, casts)?)));
    let each = each.collect::<Result<Vec<_>, MigrateError>>()?;
    Ok(if each.is_empty() { "FALSE".to_owned() } else { format!("({columns}) IN ({})", each.join(", ")) })
}

fn of_source(
    mapping: &Mapping,
    shape: &Shape,
    restrict: impl Fn(&str) -> Result<String, MigrateError>,
) -> Result<Compared, MigrateError> {
    restrict("NULL")?;
    let from = shape.select(mapping, |columns| restrict(columns).unwrap_or_default())?;
    let places = Shape::places(mapping, &mapping.carries);
    let key = if mapping.needs_key_map() {
        (0..shape.key_types.len()).map(|at| format!("r.s{at}")).collect()
    } else {
        places.iter().map(|at| format!("r.c{at}")).collect()
    };
    let values = (0..mapping.columns.len()).map(|at| format!("r.c{at}")).collect();
    Ok(Compared { from, condition: "TRUE".to_owned(), key, values })
}

fn part_of_source(mapping: &Mapping, shape: &Shape, part: &Part) -> Result<Compared, MigrateError> {
    match part {
        Part::Range(range) => source_range(mapping, shape, range),
        Part::Bucket { index, of } => {
            let mut all = of_source(mapping, shape, |_| Ok("TRUE".to_owned()))?;
            all.condition = in_bucket(shape, &all.key, *index, *of);
            Ok(all)
        }
    }
}

/// A range of what the mapping makes.
pub(super) fn source_range(
    mapping: &Mapping,
    shape: &Shape,
    range: &KeyRange,
) -> Result<Compared, MigrateError> {
    let casts = shape.root_casts();
    sql::within("NULL", &casts, range)?;
    of_source(mapping, shape, |columns| sql::within(columns, &casts, range))
}

fn of_target(
    mapping: &Mapping,
    shape: &Shape,
    condition: impl FnOnce(&[String]) -> Result<String, MigrateError>,
) -> Result<Compared, MigrateError> {
    let Keyed { from, key } = keyed(mapping, shape);
    let values = mapping.columns.iter().map(|column| format!("t.{}", sql::name(column))).collect();
    // `IS NULL` alone also holds of a composite value that is there; `num_nulls` alone takes longer.
    let has_key: Vec<String> =
        key.iter().map(|key| format!("NOT ({key} IS NULL AND num_nulls({key}) > 0)")).collect();
    let condition = format!("({}) AND {}", condition(&key)?, has_key.join(" AND "));
    Ok(Compared { from, condition, key, values })
}

fn part_of_target(mapping: &Mapping, shape: &Shape, part: &Part) -> Result<Compared, MigrateError> {
    of_target(mapping, shape, |key| match part {
        Part::Range(range) => sql::within(&key.join(", "), &shape.key_casts(), range),
        Part::Bucket { index, of } => Ok(in_bucket(shape, key, *index, *of)),
    })
}

/// Whether a table's columns are ordered byte by byte.
fn ordered_by_bytes(
    connection: &mut Connection,
    table: &str,
    columns: &[String],
) -> Result<bool, MigrateError> {
    let columns: Vec<String> = columns.iter().map(|column| sql::value(column)).collect();
    connection.holds(&format!(
        "NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation \
           WHERE a.attrelid = {}::regclass AND a.attname = ANY (ARRAY[{}]::name[]) \
           AND CASE WHEN c.collname = 'default' \
             THEN (SELECT datcollate FROM pg_database WHERE datname = current_database()) \
             ELSE coalesce(c.collcollate, '') END NOT IN ('C', 'POSIX'))",
        sql::value(table),
        columns.join(", ")
    ))
}

impl CompareSource for PostgresSource {
    fn orders_alike(&mut self, mapping: &Mapping) -> Result<bool, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let mut both = shape.root_types.iter().zip(&shape.key_types);
        if !both.all(|(root, key)| root.orders_like(key)) {
            return Ok(false);
        }
        if !shape.key_types.iter().any(super::types::Type::is_text) {
            return Ok(true);
        }
        // The key map's columns have the target database's own collation, which is not asked for here.
        if mapping.needs_key_map() || !ordered_by_bytes(&mut self.connection, &shape.root, &mapping.root_key)?
        {
            return Ok(false);
        }
        let mut target = self.shapes.target()?;
        ordered_by_bytes(&mut target, &shape.target.name, &mapping.carries)
    }

    /// Counting keys up to there reads the index, which takes a fifteenth of a verification. Of whole numbers, no more keys than numbers
    /// lie in a part, so where most numbers are keys, it ends with the first key from `rows` numbers on.
    fn part_end(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Option<Bound>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        if let ([key], [kind], Some(after)) = (&shape.root_key[..], &shape.root_types[..], after)
            && kind.is_whole_number()
            && let Ok(number) = sql::bound_values(after)?.concat().parse::<i64>()
            && let Some(from) = number.checked_add(i64::from(rows))
        {
            let (root, step) = (&shape.root, rows / LOOKS + 1);
            let there = format!("(SELECT 1 FROM {root} r WHERE r.{key} = s.n LIMIT 1)");
            let end = self.connection.text(&format!(
                "SELECT {} FROM (SELECT {key} FROM {root} WHERE {key} >= '{from}'::bigint ORDER BY {key} LIMIT 1) q(k0) \
                 WHERE (SELECT count({there}) > count(*) / 2 FROM generate_series('{number}'::bigint + 1, '{from}'::bigint, {step}) s(n))",
                shape.bound(&["q.k0".to_owned()])
            ))?;
            if let Some(end) = end {
                return Ok(Some(Bound(end)));
            }
        }
        self.range_end(mapping, &KeyRange { after: after.cloned(), up_to: None }, rows)
    }

    fn sum(&mut self, mapping: &Mapping, part: &Part) -> Result<Sum, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        part_of_source(mapping, &shape, part)?.sum(&mut self.connection, &shape, part)
    }

    fn row_hashes(&mut self, mapping: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        part_of_source(mapping, &shape, part)?.hashes(&mut self.connection, &shape)
    }

    fn show(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Vec<ShownRow>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let casts = shape.root_casts();
        among("NULL", &casts, keys)?;
        of_source(mapping, &shape, |columns| among(columns, &casts, keys))?.shown(
            &mut self.connection,
            &shape,
            Cells::Cut,
        )
    }

    fn dirty_among(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        keys: &[Bound],
    ) -> Result<Vec<Bound>, MigrateError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let shape = self.shapes.of(mapping)?;
        let span = self.not_seen(since)?;
        let span = self.span(span)?;
        let (whole, select) = (span.whole(mapping), span.keys(mapping, &shape)?);
        if self.connection.holds(&whole)? {
            return Ok(keys.to_vec());
        }
        let (casts, width) = (shape.root_casts(), shape.root_key.len());
        let asked = keys
            .iter()
            .map(|key| Ok(format!("({}, {})", sql::value(&key.0), sql::bound_values_as(key, &casts)?)));
        let asked = asked.collect::<Result<Vec<_>, MigrateError>>()?.join(", ");
        let (names, mine) = (sql::numbered("k", width), sql::numbered("a.k", width));
        let wanted = among(&names, &casts, keys)?;
        // The log may spell a key otherwise (1.0, 1.00): the answer is in the spelling of the question.
        let found = self.connection.texts(&format!(
            "SELECT a.bound FROM (VALUES {asked}) a(bound, {names}) \
             WHERE ({mine}) IN (SELECT {names} FROM ({select}) q WHERE {wanted})"
        ))?;
        Ok(found.into_iter().map(Bound).collect())
    }

    fn dirty_keys(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Option<Vec<Bound>>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let span = self.not_seen(since)?;
        let span = self.span(span)?;
        let (whole, select) = (span.whole(mapping), span.keys(mapping, &shape)?);
        if self.connection.holds(&whole)? {
            return Ok(None);
        }
        let places: Vec<String> = (0..shape.root_key.len()).map(|at| format!("q.k{at}")).collect();
        let names = places.join(", ");
        let range = KeyRange { after: after.cloned(), up_to: None };
        let behind = sql::within(&names, &shape.root_casts(), &range)?;
        let bound = shape.bound(&places);
        let found = self.connection.texts(&format!(
            "SELECT {bound} FROM ({select}) q WHERE {behind} ORDER BY {names} LIMIT {rows}"
        ))?;
        Ok(Some(found.into_iter().map(Bound).collect()))
    }

    fn bounds(&mut self, mapping: &Mapping, keys: &CopyRows) -> Result<Vec<Bound>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let given = self.give(&shape, "given", keys)?;
        let places: Vec<String> = (0..shape.key_types.len()).map(|at| format!("g.k{at}")).collect();
        let bounds = self.connection.texts(&format!("SELECT {} FROM {given} g", shape.bound(&places)))?;
        Ok(bounds.into_iter().map(Bound).collect())
    }

    fn reads(&mut self, mapping: &Mapping) -> Result<Vec<TableRead>, MigrateError> {
        Ok(Reads::of(&mut self.connection, mapping)?.tables)
    }

    fn keys(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<CopyRows, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let casts: Vec<String> = shape.key_types.iter().map(|kind| format!("::{}", kind.wire())).collect();
        let each = keys.iter().map(|key| Ok(format!("({})", sql::bound_values_as(key, &casts)?)));
        let each = each.collect::<Result<Vec<_>, MigrateError>>()?;
        if each.is_empty() {
            return Ok(CopyRows::default());
        }
        self.connection.copy_out(&format!("VALUES {}", each.join(", ")))
    }
}

impl CompareTarget for PostgresTarget {
    fn snapshot(&mut self, stream: &Stream) -> Result<Option<StreamRow>, MigrateError> {
        self.end_snapshot()?;
        let shapes = self.shapes.all(&stream.mappings)?;
        let tables: Vec<&str> = shapes.iter().map(|shape| shape.target.name.as_str()).collect();
        self.in_snapshot = true;
        self.connection.run(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE {} IN ACCESS SHARE MODE",
            tables.join(", ")
        ))?;
        bookkeeping::stream(&mut self.connection, &stream.name)
    }

    fn end_snapshot(&mut self) -> Result<(), MigrateError> {
        if std::mem::take(&mut self.in_snapshot) {
            self.connection.run("COMMIT")?;
        }
        Ok(())
    }

    fn sum(&mut self, mapping: &Mapping, part: &Part) -> Result<Sum, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        part_of_target(mapping, &shape, part)?.sum(&mut self.connection, &shape, part)
    }

    fn row_hashes(&mut self, mapping: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        part_of_target(mapping, &shape, part)?.hashes(&mut self.connection, &shape)
    }

    fn show(
        &mut self,
        mapping: &Mapping,
        keys: &[Bound],
        cells: Cells,
    ) -> Result<Vec<ShownRow>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let of = of_target(mapping, &shape, |columns| among(&columns.join(", "), &shape.key_casts(), keys))?;
        of.shown(&mut self.connection, &shape, cells)
    }

    fn rows_without_key(
        &mut self,
        mapping: &Mapping,
        most: u32,
    ) -> Result<(u64, Vec<ShownRow>), MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let Keyed { from, key } = keyed(mapping, &shape);
        let from = from.replacen(" t JOIN ", " t LEFT JOIN ", 1);
        // By an index where there is one; `IS NULL` alone also holds of a composite value that is there.
        let null = key.iter().map(|key| format!("{key} IS NULL")).collect::<Vec<_>>().join(" OR ");
        let condition = format!("({null}) AND num_nulls({}) > 0", key.join(", "));
        let count = self.connection.number(&format!("SELECT count(*) FROM {from} WHERE {condition}"))?;
        if count == 0 {
            return Ok((0, Vec::new()));
        }
        let values = mapping.columns.iter().map(|column| format!("t.{}", sql::name(column))).collect();
        let condition = format!("{condition} LIMIT {most}");
        let rows = Compared { from, condition, key, values };
        Ok((count, rows.shown(&mut self.connection, &shape, Cells::Cut)?))
    }

    fn would_make(
        &mut self,
        forward: &Mapping,
        written: &[(&Mapping, Batch<CopyRows>)],
        range: &KeyRange,
    ) -> Result<Vec<RowHash>, MigrateError> {
        self.rehearse(forward, written, range)
    }

    fn hold(
        &mut self,
        stream: &str,
        name: &str,
        position: &Position,
        seconds: u32,
    ) -> Result<(), MigrateError> {
        bookkeeping::hold(self.side()?, stream, name, position, seconds)
    }

    fn drop_hold(&mut self, stream: &str, name: &str) -> Result<(), MigrateError> {
        let (stream, name) = (sql::value(stream), sql::value(name));
        self.side()?.run(&format!("DELETE FROM banyan.hold WHERE stream = {stream} AND name = {name}"))?;
        Ok(())
    }
}
