//! Sums, hashes and rows of a part, alike at both ends.
//!
//! Invariants: a column is hashed as one type at both ends, which the target's column decides; integers, booleans, uuid, bytea,
//! dates, timestamps raw, floats as their bytes, all else as text under pinned settings. A row's hash is mixed before it is
//! summed, since `hash_record_extended` alone is linear in its columns.

use super::connection::Connection;
use super::shape::Column;
use super::source::{PgSource, bound_of, bound_texts, within};
use super::sql::{columns, equal, list, literal, numbered, restrict};
use super::target::{PgTarget, Plan};
use crate::engine::compare::{CompareSource, CompareTarget, Part, RowHash, ShownRow, Sum};
use crate::engine::{Bound, KeyRange, Mapping, Position, Stream, StreamRow, Target as _};
use crate::error::MigrateError;

/// An expression as it is hashed. The source's is cast to what the target holds, where that is a built-in type.
fn hashed(expression: &str, column: &Column, cast: Cast) -> String {
    let typed = match cast {
        Cast::ToTarget if column.oid < 16_384 => format!("({expression})::{}", column.base),
        _ => expression.to_owned(),
    };
    match column.oid {
        20 | 21 | 23 | 16 | 17 | 2950 | 1082 | 1114 | 1184 => typed,
        700 => format!("float4send({typed})"),
        701 => format!("float8send({typed})"),
        _ => format!("(({typed})::text COLLATE \"C\")"),
    }
}

/// An expression as a person reads it, different if the values are.
fn shown(expression: &str, column: &Column, cast: Cast) -> String {
    match cast {
        Cast::ToTarget if column.oid < 16_384 => format!("(({expression})::{})::text", column.base),
        _ => format!("({expression})::text"),
    }
}

#[derive(Debug, Clone, Copy)]
enum Cast {
    ToTarget,
    None,
}

/// Rows of a mapping as both ends select them: `key`, then what else is asked for, FROM something.
struct Selected {
    /// The columns' expressions.
    values: Vec<String>,
    /// The source key as text, as a [`Bound`].
    key: String,
    /// What is selected from, restricted to the part.
    from: String,
    cast: Cast,
}

impl Selected {
    fn hash(&self, shapes: &[Column]) -> String {
        let values = self.values.iter().zip(shapes).map(|(value, column)| hashed(value, column, self.cast));
        format!("hashint8extended(hash_record_extended(ROW({}), 0), 7)", list(values))
    }

    fn sum(&self, conn: &mut Connection, shapes: &[Column]) -> Result<Sum, MigrateError> {
        let sql =
            format!("SELECT count(*), coalesce(sum({}), 0)::text FROM {}", self.hash(shapes), self.from);
        let row = conn.one(&sql, &[])?;
        Ok(Sum { rows: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0), hash: row.get(1) })
    }

    fn row_hashes(&self, conn: &mut Connection, shapes: &[Column]) -> Result<Vec<RowHash>, MigrateError> {
        let rows =
            conn.query(&format!("SELECT {}, {} FROM {}", self.key, self.hash(shapes), self.from), &[])?;
        let hash = |row: &postgres::Row| RowHash { key: Bound(row.get(0)), hash: row.get(1) };
        Ok(rows.iter().map(hash).collect())
    }

    fn show(&self, conn: &mut Connection, shapes: &[Column]) -> Result<Vec<ShownRow>, MigrateError> {
        let values = self.values.iter().zip(shapes).map(|(value, column)| shown(value, column, self.cast));
        let rows = conn.query(
            &format!("SELECT {}, ARRAY[{}]::text[] FROM {}", self.key, list(values), self.from),
            &[],
        )?;
        let shown = |row: &postgres::Row| ShownRow { key: Bound(row.get(0)), values: row.get(1) };
        Ok(rows.iter().map(shown).collect())
    }
}

/// The condition that a key's text falls into a bucket.
fn in_bucket(key: &str, index: u32, of: u32) -> String {
    format!("(hashtextextended({key} COLLATE \"C\", 0) & 9223372036854775807) % {of} = {index}")
}

impl PgSource {
    fn target_columns(&mut self, mapping: &Mapping) -> Result<Vec<Column>, MigrateError> {
        let shape = self.peer.shape(&mapping.table)?;
        Ok(shape.some(&mapping.columns)?.into_iter().cloned().collect())
    }

    /// The mapping's rows under a condition on its keys.
    fn selected(
        &mut self,
        mapping: &Mapping,
        shapes: &[Column],
        condition: &dyn Fn(&[String]) -> String,
    ) -> Result<Selected, MigrateError> {
        let count = self.select_types(mapping)?.len();
        let leading = count.saturating_sub(mapping.columns.len());
        let (names, select) = (numbered("c", count), restrict(&mapping.select, "keys", condition)?);
        let (first, values) = names.split_at(leading);
        let key = if mapping.needs_key_map() {
            first.to_vec()
        } else {
            // As the target holds it, so that the texts are the same.
            let place = |name: &String| mapping.columns.iter().position(|column| column == name);
            let places = mapping.carries.iter().filter_map(place);
            let cast = |place: usize| Some((values.get(place)?, shapes.get(place)?));
            let of = |(value, column): (&String, &Column)| match column.oid < 16_384 {
                true => format!("{value}::{}", column.base),
                false => value.clone(),
            };
            places.filter_map(cast).map(of).collect()
        };
        let from = format!("({select}) AS m({})", list(&names));
        Ok(Selected { values: values.to_vec(), key: bound_of(&key), from, cast: Cast::ToTarget })
    }

    fn part(&mut self, mapping: &Mapping, shapes: &[Column], part: &Part) -> Result<Selected, MigrateError> {
        match part {
            Part::Range(range) => {
                let types: Vec<String> = self.key_columns(mapping)?.into_iter().map(|key| key.base).collect();
                within(&[], &types, range)?;
                self.selected(mapping, shapes, &|keys| within(keys, &types, range).unwrap_or_default())
            }
            Part::Bucket { index, of } => {
                let mut selected = self.selected(mapping, shapes, &|_| "true".to_owned())?;
                selected.from += &format!(" WHERE {}", in_bucket(&selected.key, *index, *of));
                Ok(selected)
            }
        }
    }

    /// Keys given as text, as a temporary table with `bound, k1, k2 …`.
    fn given(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<(), MigrateError> {
        let types = self.key_columns(mapping)?.into_iter().map(|key| key.base);
        let cast =
            types.enumerate().map(|(place, of)| format!("(b::json->>{place})::{of} AS k{}", place + 1));
        let bounds: Vec<&str> = keys.iter().map(|key| key.0.as_str()).collect();
        self.conn.run("DROP TABLE IF EXISTS pg_temp.banyan_given")?;
        let texts = list(bounds.iter().map(|bound| literal(bound)));
        self.conn.run(&format!(
            "CREATE TEMP TABLE banyan_given ON COMMIT DROP AS SELECT b AS bound, {} FROM unnest(ARRAY[{texts}]::text[]) AS b",
            list(cast)
        ))
    }
}

impl CompareSource for PgSource {
    fn orders_alike(&mut self, mapping: &Mapping) -> Result<bool, MigrateError> {
        if mapping.needs_key_map() {
            return Ok(false);
        }
        let keys = self.key_columns(mapping)?;
        let target = self.peer.shape(&mapping.table)?;
        let carried = target.some(&mapping.carries)?;
        let alike = |(key, carried): (&Column, &&Column)| match (key.oid, carried.oid) {
            (20 | 21 | 23, 20 | 21 | 23) => true,
            (25 | 1043, 25 | 1043) => key.bytewise && carried.bytewise,
            (key, carried) => key == carried && matches!(key, 2950 | 1082 | 1114 | 1184),
        };
        Ok(keys.len() == carried.len() && keys.iter().zip(&carried).all(alike))
    }

    fn sum(&mut self, mapping: &Mapping, part: &Part) -> Result<Sum, MigrateError> {
        let shapes = self.target_columns(mapping)?;
        self.part(mapping, &shapes, part)?.sum(&mut self.conn, &shapes)
    }

    fn row_hashes(&mut self, mapping: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError> {
        let shapes = self.target_columns(mapping)?;
        self.part(mapping, &shapes, part)?.row_hashes(&mut self.conn, &shapes)
    }

    fn show(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Vec<ShownRow>, MigrateError> {
        let shapes = self.target_columns(mapping)?;
        self.given(mapping, keys)?;
        let names = list(numbered("k", mapping.root_key.len()));
        let selected = self.selected(mapping, &shapes, &|expressions| {
            format!("({}) IN (SELECT {names} FROM pg_temp.banyan_given)", list(expressions))
        })?;
        selected.show(&mut self.conn, &shapes)
    }

    fn dirty_among(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        keys: &[Bound],
    ) -> Result<Vec<Bound>, MigrateError> {
        let Some(dirty) = self.dirty_select(mapping, since)? else { return Ok(keys.to_vec()) };
        self.given(mapping, keys)?;
        let count = mapping.root_key.len();
        let rows = self.conn.query(
            &format!(
                "SELECT DISTINCT g.bound FROM pg_temp.banyan_given AS g JOIN ({dirty}) AS d ON {}",
                equal(&numbered("g.k", count), &numbered("d.k", count))
            ),
            &[],
        )?;
        Ok(rows.iter().map(|row| Bound(row.get(0))).collect())
    }

    fn keys(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Self::Rows, MigrateError> {
        self.given(mapping, keys)?;
        let names = list(numbered("k", mapping.root_key.len()));
        self.copy_keys(mapping, &format!("SELECT {names} FROM pg_temp.banyan_given"))
    }

    fn dirty_keys(
        &mut self,
        mapping: &Mapping,
        since: &Position,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Option<Vec<Bound>>, MigrateError> {
        let Some(dirty) = self.dirty_select(mapping, since)? else { return Ok(None) };
        let keys = numbered("k", mapping.root_key.len());
        let types: Vec<String> = self.key_columns(mapping)?.into_iter().map(|key| key.base).collect();
        let behind = within(&keys, &types, &KeyRange { after: after.cloned(), up_to: None })?;
        let found = self.conn.query(
            &format!(
                "SELECT {} FROM ({dirty}) AS d WHERE {behind} ORDER BY {} LIMIT {rows}",
                bound_of(&keys),
                list(&keys)
            ),
            &[],
        )?;
        Ok(Some(found.iter().map(|row| Bound(row.get(0))).collect()))
    }
}

impl PgTarget {
    fn held_part(mapping: &Mapping, plan: &Plan, part: &Part) -> Result<Selected, MigrateError> {
        let condition = match part {
            Part::Range(range) => within(&columns("t.", &mapping.carries), &plan.carried_types, range)?,
            Part::Bucket { index, of } => {
                let key = held(mapping, plan, "true").key;
                in_bucket(&key, *index, *of)
            }
        };
        Ok(held(mapping, plan, &condition))
    }
}

/// Rows of the table under a condition.
fn held(mapping: &Mapping, plan: &Plan, condition: &str) -> Selected {
    let values: Vec<String> = plan.columns.iter().map(|name| format!("t.{name}")).collect();
    let (key, from) = match &plan.key_map {
        None => {
            let carried = columns("t.", &mapping.carries);
            let there = plan.carried_there("t.");
            (bound_of(&carried), format!("{} AS t WHERE {there} AND {condition}", plan.table))
        }
        Some(map) => {
            let same = equal(&columns("t.", &mapping.key), &columns("m.", &mapping.key));
            (
                "m.source_key".to_owned(),
                format!("{} AS t JOIN {map} AS m ON {same} WHERE {condition}", plan.table),
            )
        }
    };
    Selected { values, key, from, cast: Cast::None }
}

impl CompareTarget for PgTarget {
    fn snapshot(&mut self, stream: &Stream) -> Result<Option<StreamRow>, MigrateError> {
        self.end_snapshot()?;
        self.conn.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        self.in_snapshot = true;
        self.stream(&stream.name)
    }

    fn end_snapshot(&mut self) -> Result<(), MigrateError> {
        if std::mem::take(&mut self.in_snapshot) {
            self.conn.run("ROLLBACK")?;
        }
        Ok(())
    }

    fn sum(&mut self, mapping: &Mapping, part: &Part) -> Result<Sum, MigrateError> {
        let plan = self.plan(mapping)?;
        Self::held_part(mapping, &plan, part)?.sum(&mut self.conn, &plan.shapes)
    }

    fn row_hashes(&mut self, mapping: &Mapping, part: &Part) -> Result<Vec<RowHash>, MigrateError> {
        let plan = self.plan(mapping)?;
        Self::held_part(mapping, &plan, part)?.row_hashes(&mut self.conn, &plan.shapes)
    }

    fn show(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Vec<ShownRow>, MigrateError> {
        let plan = self.plan(mapping)?;
        let mut wanted = Vec::new();
        for key in keys {
            let values = match &plan.key_map {
                Some(_) => vec![literal(&key.0)],
                None => {
                    let texts = bound_texts(key)?.into_iter().zip(&plan.carried_types);
                    texts.map(|(text, of)| format!("{}::{of}", literal(&text))).collect()
                }
            };
            wanted.push(format!("({})", list(&values)));
        }
        let link = if plan.key_map.is_some() {
            "m.source_key".to_owned()
        } else {
            list(columns("t.", &mapping.carries))
        };
        let condition = if wanted.is_empty() {
            "false".to_owned()
        } else {
            format!("({link}) IN (VALUES {})", list(&wanted))
        };
        held(mapping, &plan, &condition).show(&mut self.conn, &plan.shapes)
    }

    fn rows_without_key(&mut self, mapping: &Mapping) -> Result<u64, MigrateError> {
        let plan = self.plan(mapping)?;
        let sql = match &plan.key_map {
            None => {
                format!("SELECT count(*) FROM {} AS t WHERE NOT ({})", plan.table, plan.carried_there("t."))
            }
            Some(map) => {
                let same = equal(&columns("t.", &mapping.key), &columns("m.", &mapping.key));
                format!(
                    "SELECT count(*) FROM {} AS t WHERE NOT EXISTS (SELECT FROM {map} AS m WHERE {same})",
                    plan.table
                )
            }
        };
        Ok(u64::try_from(self.conn.one(&sql, &[])?.get::<_, i64>(0)).unwrap_or(0))
    }

    fn hold(
        &mut self,
        stream: &str,
        name: &str,
        position: &Position,
        seconds: u32,
    ) -> Result<(), MigrateError> {
        self.conn
            .execute(
                "INSERT INTO banyan.holds VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) \
                 ON CONFLICT (stream, name) DO UPDATE SET position = excluded.position, until = excluded.until",
                &[&stream, &name, &position.0, &f64::from(seconds)],
            )
            .map(|_| ())
    }

    fn drop_hold(&mut self, stream: &str, name: &str) -> Result<(), MigrateError> {
        self.conn
            .execute("DELETE FROM banyan.holds WHERE stream = $1 AND name = $2", &[&stream, &name])
            .map(|_| ())
    }
}
