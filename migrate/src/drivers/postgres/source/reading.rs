//! Rows and keys in the open snapshot.
//!
//! Invariant: a batch's rows are what the mapping's select makes of exactly its keys, in one snapshot.

use super::super::rows::{Field, PgRows};
use super::super::shape::{Column, Shape};
use super::super::sql::{columns, equal, list, literal, numbered, restrict, row};
use super::PgSource;
use crate::engine::{Batch, Bound, KeyRange, Mapping, Rows as _};
use crate::error::MigrateError;

/// A source key as text, one text per column.
pub(in super::super) fn bound_texts(bound: &Bound) -> Result<Vec<String>, MigrateError> {
    serde_json::from_str(&bound.0)
        .map_err(|error| MigrateError::failed(format!("`{}` is no key: {error}", bound.0)))
}

/// The text of a key, by the server.
pub(in super::super) fn bound_of(expressions: &[String]) -> String {
    format!("json_build_array({})::text", list(expressions.iter().map(|key| format!("({key})::text"))))
}

/// The condition that expressions lie in a range; `types` are those that bounds are read as.
pub(in super::super) fn within(
    expressions: &[String],
    types: &[String],
    range: &KeyRange,
) -> Result<String, MigrateError> {
    let side = |bound: &Option<Bound>, operator: &str| -> Result<Option<String>, MigrateError> {
        let Some(bound) = bound else { return Ok(None) };
        let values = bound_texts(bound)?.into_iter().zip(types);
        let values: Vec<String> =
            values.map(|(text, as_type)| format!("{}::{as_type}", literal(&text))).collect();
        Ok(Some(format!("{} {operator} {}", row(expressions), row(&values))))
    };
    let sides: Vec<String> =
        [side(&range.after, ">")?, side(&range.up_to, "<=")?].into_iter().flatten().collect();
    Ok(if sides.is_empty() { "true".to_owned() } else { format!("({})", sides.join(" AND ")) })
}

impl PgSource {
    pub(in super::super) fn root(&mut self, mapping: &Mapping) -> Result<Shape, MigrateError> {
        let known = self.known.iter().flat_map(|known| &known.captured);
        match known.into_iter().find(|captured| captured.names.contains(&mapping.root)) {
            Some(captured) => Ok(captured.shape.clone()),
            None => Shape::read(&mut self.conn, &mapping.root),
        }
    }

    pub(in super::super) fn key_columns(&mut self, mapping: &Mapping) -> Result<Vec<Column>, MigrateError> {
        let root = self.root(mapping)?;
        Ok(root.some(&mapping.root_key)?.into_iter().cloned().collect())
    }

    fn key_types(&mut self, mapping: &Mapping) -> Result<Vec<String>, MigrateError> {
        Ok(self.key_columns(mapping)?.into_iter().map(|column| column.base).collect())
    }

    /// The types that the mapping's select yields.
    pub(in super::super) fn select_types(&mut self, mapping: &Mapping) -> Result<Vec<u32>, MigrateError> {
        if let Some(types) = self.types.get(&mapping.select) {
            return Ok(types.clone());
        }
        let types = self.conn.types(&restrict(&mapping.select, "keys", &|_| "false".to_owned())?)?;
        let keys = if mapping.needs_key_map() { mapping.root_key.len() } else { 0 };
        let expected = keys + mapping.columns.len();
        if types.len() != expected {
            return Err(MigrateError::Usage(format!(
                "the select for {} yields {} columns, and {expected} are to be filled",
                mapping.table,
                types.len()
            )));
        }
        self.types.insert(mapping.select.clone(), types.clone());
        Ok(types)
    }

    /// The mapping's rows under a condition on its keys, in the form in which they pass.
    fn copy_rows(
        &mut self,
        mapping: &Mapping,
        condition: &dyn Fn(&[String]) -> String,
    ) -> Result<PgRows, MigrateError> {
        let types = self.select_types(mapping)?;
        let fields: Vec<Field> = types.iter().map(|oid| Field::of(*oid)).collect();
        let names = numbered("c", types.len());
        let passed =
            fields.iter().zip(&types).zip(&names).map(|((field, oid), name)| field.expression(name, *oid));
        let select = restrict(&mapping.select, "keys", condition)?;
        let sql = format!("SELECT {} FROM ({select}) AS m({})", list(passed), list(&names));
        self.conn.copy_out(&sql, fields)
    }

    /// Keys that a select yields as `k1, k2 …` in the form in which they pass.
    pub(in super::super) fn copy_keys(
        &mut self,
        mapping: &Mapping,
        select: &str,
    ) -> Result<PgRows, MigrateError> {
        let keys = self.key_columns(mapping)?;
        let names = numbered("k", keys.len());
        let fields: Vec<Field> = keys.iter().map(|key| Field::of(key.oid)).collect();
        let passed =
            fields.iter().zip(&keys).zip(&names).map(|((field, key), name)| field.expression(name, key.oid));
        let sql = format!("SELECT {} FROM ({select}) AS s({})", list(passed), list(&names));
        self.conn.copy_out(&sql, fields)
    }

    /// Keys that came from elsewhere as a temporary table with `k1, k2 …` of the key's types; returns its name.
    pub(in super::super) fn take_in(
        &mut self,
        mapping: &Mapping,
        table: &str,
        keys: &PgRows,
    ) -> Result<String, MigrateError> {
        let types = self.key_types(mapping)?;
        let names = numbered("k", types.len());
        let wire: Vec<String> = keys.fields().iter().map(|field| field.oid.to_string()).collect();
        let wire = self.conn.one(&format!("SELECT ARRAY[{}]::regtype[]::text[]", list(&wire)), &[])?;
        let wire: Vec<String> = wire.get(0);
        if wire.len() != types.len() && !keys.is_empty() {
            return Err(MigrateError::failed(format!(
                "keys of {} have {} columns",
                mapping.root,
                wire.len()
            )));
        }
        let declared = names.iter().zip(&wire).map(|(name, wire)| format!("{name} {wire}"));
        let cast = names.iter().zip(&types).map(|(name, key)| format!("{name}::{key} AS {name}"));
        self.conn.run(&format!(
            "DROP TABLE IF EXISTS pg_temp.{table}, pg_temp.banyan_wire; CREATE TEMP TABLE banyan_wire ({}) ON COMMIT DROP",
            list(declared)
        ))?;
        self.conn.copy_in("pg_temp.banyan_wire", keys)?;
        self.conn.run(&format!(
            "CREATE TEMP TABLE {table} ON COMMIT DROP AS SELECT {} FROM pg_temp.banyan_wire; ANALYZE pg_temp.{table}",
            list(cast)
        ))?;
        Ok(format!("pg_temp.{table}"))
    }

    pub(super) fn read_piece(
        &mut self,
        mapping: &Mapping,
        from: u64,
        size: u32,
    ) -> Result<Option<Batch<PgRows>>, MigrateError> {
        let names = numbered("k", mapping.root_key.len());
        let piece =
            format!("FROM pg_temp.banyan_staged WHERE n > {from} AND n <= {}", from + u64::from(size));
        let keys = self.copy_keys(mapping, &format!("SELECT {} {piece} ORDER BY n", list(&names)))?;
        if keys.is_empty() {
            return Ok(None);
        }
        let rows = self.rows_in(mapping, &piece)?;
        Ok(Some(Batch { keys, rows }))
    }

    /// The rows of the keys `k1, k2 …` FROM somewhere. The range of the first column is said too: where keys lie close
    /// together, one scan of the index is cheaper than a search for each.
    fn rows_in(&mut self, mapping: &Mapping, from: &str) -> Result<PgRows, MigrateError> {
        let names = list(numbered("k", mapping.root_key.len()));
        let types = self.key_types(mapping)?;
        let first = types.first().cloned().unwrap_or_default();
        // Named otherwise than the key, which ORDER BY would take for the text.
        let end = |order: &str| format!("(SELECT k1::text AS bound {from} ORDER BY k1 {order} LIMIT 1)");
        let ends = self.conn.one(&format!("SELECT {}, {}", end("ASC"), end("DESC")), &[])?;
        let (Some(low), Some(high)) = (ends.get::<_, Option<String>>(0), ends.get::<_, Option<String>>(1))
        else {
            return self.copy_rows(mapping, &|_| "false".to_owned());
        };
        let (low, high) = (literal(&low), literal(&high));
        self.copy_rows(mapping, &|expressions| {
            let range = expressions.first().map_or_else(String::new, |expression| {
                format!(" AND {expression} >= {low}::{first} AND {expression} <= {high}::{first}")
            });
            format!("({} IN (SELECT {names} {from}){range})", row(expressions))
        })
    }

    pub(super) fn read_wider(
        &mut self,
        mapping: &Mapping,
        batch: &Batch<PgRows>,
        more: &PgRows,
    ) -> Result<Option<Batch<PgRows>>, MigrateError> {
        if more.is_empty() {
            return Ok(None);
        }
        self.take_in(mapping, "banyan_had", &batch.keys)?;
        self.take_in(mapping, "banyan_more", more)?;
        let count = mapping.root_key.len();
        let names = numbered("k", count);
        let staged = equal(&numbered("s.k", count), &numbered("m.k", count));
        let select = format!(
            "SELECT {0} FROM pg_temp.banyan_had UNION SELECT {0} FROM pg_temp.banyan_more AS m \
             WHERE EXISTS (SELECT FROM pg_temp.banyan_staged AS s WHERE {staged})",
            list(&names)
        );
        let keys = self.copy_keys(mapping, &select)?;
        if keys.len() <= batch.keys.len() {
            return Ok(None);
        }
        self.read_rows_of(mapping, &keys).map(Some)
    }

    pub(super) fn read_rows_of(
        &mut self,
        mapping: &Mapping,
        keys: &PgRows,
    ) -> Result<Batch<PgRows>, MigrateError> {
        let wanted = self.take_in(mapping, "banyan_wanted", keys)?;
        let rows = self.rows_in(mapping, &format!("FROM {wanted}"))?;
        Ok(Batch { keys: keys.clone(), rows })
    }

    pub(super) fn read_range_end(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Option<Bound>, MigrateError> {
        let (root, types) = (self.root(mapping)?.name, self.key_types(mapping)?);
        let key = columns("", &mapping.root_key);
        let behind = within(&key, &types, &KeyRange { after: after.cloned(), up_to: None })?;
        let order = list(&key);
        let found = self.conn.maybe(
            &format!(
                "SELECT {} FROM (SELECT {order} FROM {root} WHERE {behind} ORDER BY {order} OFFSET {} LIMIT 1) AS e",
                bound_of(&key),
                rows.max(1) - 1
            ),
            &[],
        )?;
        Ok(found.map(|row| Bound(row.get(0))))
    }

    pub(super) fn read_range(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
    ) -> Result<Batch<PgRows>, MigrateError> {
        let (root, types) = (self.root(mapping)?.name, self.key_types(mapping)?);
        let key = columns("", &mapping.root_key);
        let keys = format!("SELECT {} FROM {root} WHERE {}", list(&key), within(&key, &types, range)?);
        let keys = self.copy_keys(mapping, &keys)?;
        // The bounds were read above, so they can be written.
        let rows =
            self.copy_rows(mapping, &|expressions| within(expressions, &types, range).unwrap_or_default())?;
        Ok(Batch { keys, rows })
    }
}
