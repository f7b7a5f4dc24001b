//! Rows and keys in temporary tables of the target's own types.
//!
//! Invariant: what does not pass in the column's own form is cast to the column's type without its modifier and then assigned,
//! so a value too long is an error and is not cut.

use twox_hash::XxHash3_64;

use super::super::rows::{Field, PgRows, TEXT};
use super::super::shape::{Column, Shape};
use super::super::source::bound_of;
use super::super::sql::{columns, list, numbered, quote};
use super::PgTarget;
use crate::engine::{Mapping, Rows as _};
use crate::error::MigrateError;

/// From so many rows on, a temporary table gets statistics.
const LARGE: u64 = 500;

/// How a mapping's table is written.
#[derive(Debug, Clone)]
pub(in super::super) struct Plan {
    pub(in super::super) table: String,
    pub(super) oid: u32,
    /// Mapped columns, quoted, and what the catalogue says of them.
    pub(in super::super) columns: Vec<String>,
    pub(in super::super) shapes: Vec<Column>,
    pub(super) key: Vec<String>,
    pub(super) key_types: Vec<String>,
    /// The columns that hold the source key; none if there is a key map.
    pub(in super::super) carried: Vec<String>,
    pub(in super::super) carried_types: Vec<String>,
    carried_shapes: Vec<Column>,
    /// The key map's table.
    pub(in super::super) key_map: Option<String>,
    /// Columns that are not computed, mapped or not.
    pub(super) all: Vec<String>,
}

impl Plan {
    pub(super) fn of(shape: &Shape, mapping: &Mapping) -> Result<Self, MigrateError> {
        let owned = |names: &[String]| -> Result<Vec<Column>, MigrateError> {
            Ok(shape.some(names)?.into_iter().cloned().collect())
        };
        let types = |columns: &[Column]| columns.iter().map(|column| column.base.clone()).collect();
        let carried_shapes = owned(&mapping.carries)?;
        let number = XxHash3_64::oneshot(format!("{}\0{}", shape.name, mapping.root).as_bytes());
        let stored = shape.columns.iter().filter(|column| !column.generated);
        Ok(Self {
            table: shape.name.clone(),
            oid: shape.oid,
            columns: columns("", &mapping.columns),
            shapes: owned(&mapping.columns)?,
            key: columns("", &mapping.key),
            key_types: types(&owned(&mapping.key)?),
            carried: columns("", &mapping.carries),
            carried_types: types(&carried_shapes),
            carried_shapes,
            key_map: mapping
                .needs_key_map()
                .then(|| format!("banyan.{}", quote(&format!("key_map_{number:016x}")))),
            all: stored.map(|column| quote(&column.name)).collect(),
        })
    }

    /// That every carried column holds something.
    pub(in super::super) fn carried_there(&self, prefix: &str) -> String {
        let there: Vec<String> =
            self.carried.iter().map(|key| format!("{prefix}{key} IS NOT NULL")).collect();
        if there.is_empty() { "true".to_owned() } else { there.join(" AND ") }
    }

    /// The columns by which rows in temporary tables belong to keys.
    pub(super) fn link(&self) -> Vec<String> {
        if self.key_map.is_some() { vec!["source_key".to_owned()] } else { self.carried.clone() }
    }

    /// A select of source keys in the form in which they pass, from something that has them under `prefix`.
    pub(super) fn passed_keys(&self, from: &str, prefix: &str, mapping: &Mapping) -> (String, Vec<Field>) {
        if self.key_map.is_some() {
            let places = 0..mapping.root_key.len();
            let texts = places.clone().map(|place| format!("{prefix}source_key::json->>{place}"));
            let fields = places.map(|_| Field::of(TEXT)).collect();
            return (format!("SELECT DISTINCT {} FROM {from}", list(texts)), fields);
        }
        let fields: Vec<Field> = self.carried_shapes.iter().map(|column| Field::of(column.oid)).collect();
        let passed = fields.iter().zip(&self.carried_shapes).zip(&self.carried);
        let passed =
            passed.map(|((field, column), name)| field.expression(&format!("{prefix}{name}"), column.oid));
        let there = self.carried_there(prefix);
        (format!("SELECT DISTINCT {} FROM {from} WHERE {there}", list(passed)), fields)
    }

    /// Whether rows can be copied straight into the columns.
    pub(super) fn fits(&self, rows: &PgRows) -> bool {
        self.key_map.is_none() && fits(rows.fields(), &self.shapes)
    }
}

/// An enum's value passes as the text of its label, which is its own binary form.
fn fits(fields: &[Field], columns: &[Column]) -> bool {
    let one =
        |field: &Field, column: &Column| field.oid == column.oid || (field.oid == TEXT && column.is_enum);
    fields.len() == columns.len() && fields.iter().zip(columns).all(|(field, column)| one(field, column))
}

impl PgTarget {
    /// `banyan_rows`: the mapped columns, with `source_key` in front where there is a key map.
    pub(super) fn stage_rows(&mut self, plan: &Plan, rows: &PgRows) -> Result<(), MigrateError> {
        let keys = rows.fields().len().saturating_sub(plan.columns.len());
        self.stage_into("banyan_rows", plan, rows, keys, (&plan.columns, &plan.shapes))
    }

    /// Source keys under a name, with the columns of [`Plan::link`].
    pub(super) fn stage_keys(&mut self, name: &str, plan: &Plan, keys: &PgRows) -> Result<(), MigrateError> {
        let leading = if plan.key_map.is_some() { keys.fields().len() } else { 0 };
        self.stage_into(name, plan, keys, leading, (&plan.carried, &plan.carried_shapes))
    }

    fn stage_into(
        &mut self,
        name: &str,
        plan: &Plan,
        rows: &PgRows,
        leading: usize,
        (names, shapes): (&[String], &[Column]),
    ) -> Result<(), MigrateError> {
        let source_key = plan.key_map.is_some().then(|| "NULL::text COLLATE \"C\" AS source_key".to_owned());
        let made = list(source_key.into_iter().chain(names.iter().cloned()));
        self.conn.run(&format!(
            "DROP TABLE IF EXISTS pg_temp.{name}; \
             CREATE TEMP TABLE {name} ON COMMIT DROP AS SELECT {made} FROM {} WITH NO DATA",
            plan.table
        ))?;
        if rows.fields().is_empty() && rows.is_empty() {
            return Ok(());
        }
        if plan.key_map.is_none() && fits(rows.fields(), shapes) {
            self.conn.copy_in(&format!("pg_temp.{name}"), rows)?;
        } else {
            self.stage_cast(name, plan, rows, leading, shapes)?;
        }
        if rows.len() > LARGE {
            self.conn.run(&format!("ANALYZE pg_temp.{name}"))?;
        }
        Ok(())
    }

    fn stage_cast(
        &mut self,
        name: &str,
        plan: &Plan,
        rows: &PgRows,
        leading: usize,
        shapes: &[Column],
    ) -> Result<(), MigrateError> {
        let count = rows.fields().len();
        if count != leading + shapes.len() {
            return Err(MigrateError::failed(format!("rows for {} came with {count} columns", plan.table)));
        }
        let wire = list(rows.fields().iter().map(|field| field.oid.to_string()));
        let row = self.conn.one(&format!("SELECT ARRAY[{wire}]::regtype[]::text[]"), &[])?;
        let wire: Vec<String> = row.get(0);
        let names = numbered("w", count);
        let declared = list(names.iter().zip(&wire).map(|(name, wire)| format!("{name} {wire}")));
        let (key, values) = names.split_at(leading.min(count));
        let values = values.iter().zip(shapes).map(|(name, column)| format!("{name}::{}", column.declared));
        let key = plan.key_map.is_some().then(|| bound_of(key));
        self.conn.run(&format!(
            "DROP TABLE IF EXISTS pg_temp.banyan_wire; CREATE TEMP TABLE banyan_wire ({declared}) ON COMMIT DROP"
        ))?;
        self.conn.copy_in("pg_temp.banyan_wire", rows)?;
        self.conn.run(&format!(
            "INSERT INTO pg_temp.{name} SELECT {} FROM pg_temp.banyan_wire",
            list(key.into_iter().chain(values))
        ))
    }
}
