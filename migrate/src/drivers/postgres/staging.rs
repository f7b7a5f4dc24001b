//! A batch at the target: the temporary tables that hold it, and the SQL that names their columns.
//!
//! Invariant: staged values are compared and written as the target's own types; whatever came as text is cast first.

use std::collections::HashMap;

use super::bookkeeping::key_map;
use super::capture::silenced;
use super::connection::Connection;
use super::rows::CopyRows;
use super::shape::Shape;
use super::sql;
use crate::engine::{Batch, Mapping};
use crate::error::MigrateError;

/// User triggers and foreign-key actions off; and plans that find rows by index, as nothing is known of how
/// many are staged.
const APPLIER: &str = "SET LOCAL session_replication_role = replica; SET LOCAL seq_page_cost = 100; \
    SET LOCAL random_page_cost = 0.1; SET LOCAL enable_mergejoin = off";

/// A mapping's staged batch.
pub(super) struct Staged<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) shape: &'a Shape,
    /// The table filled.
    pub(super) table: &'a str,
    /// Holds the batch's keys as `k0, …`.
    pub(super) keys: String,
    /// Holds its rows as `c0, …`, with `s0, …` for a key map.
    pub(super) rows: String,
    touched: String,
    /// The key map, if the mapping needs one.
    pub(super) map: Option<String>,
}

impl<'a> Staged<'a> {
    pub(super) fn of(mapping: &'a Mapping, shape: &'a Shape) -> Self {
        let name = |kind: &str| format!("pg_temp.{kind}_{}", shape.tag);
        Self {
            mapping,
            shape,
            table: &shape.target.name,
            keys: name("keys"),
            rows: name("rows"),
            touched: name("touched"),
            map: mapping.needs_key_map().then(|| key_map(shape)),
        }
    }

    /// What opens a transaction in which a stream writes the table.
    pub(super) fn opening(&self, writer: &str) -> String {
        let (silenced, table, tables) = (silenced(writer), self.table, self.tables());
        format!("{APPLIER}; {silenced}; LOCK TABLE {table} IN ROW EXCLUSIVE MODE; {tables}")
    }

    /// Makes the temporary tables.
    pub(super) fn tables(&self) -> String {
        let columns = |prefix: &str, types: Vec<&str>| {
            let columns = types.iter().enumerate().map(|(at, kind)| format!("{prefix}{at} {kind}"));
            columns.collect::<Vec<_>>().join(", ")
        };
        let key = columns("k", self.shape.key_types.iter().map(|kind| kind.staged()).collect());
        let mut row = columns("c", self.shape.target.columns.iter().map(|kind| kind.staged()).collect());
        if self.map.is_some() {
            let source = columns("s", self.shape.key_types.iter().map(|kind| kind.staged()).collect());
            row = format!("{source}, {row}");
        }
        let table = |name: &str, columns: &str| {
            let name = name.trim_start_matches("pg_temp.");
            format!("CREATE TEMP TABLE IF NOT EXISTS {name} ({columns}) ON COMMIT DELETE ROWS")
        };
        format!("{}; {}; {}", table(&self.keys, &key), table(&self.rows, &row), table(&self.touched, &key))
    }

    /// Puts the batch into the temporary tables.
    pub(super) fn fill(
        &self,
        connection: &mut Connection,
        batch: &Batch<CopyRows>,
    ) -> Result<(), MigrateError> {
        connection.copy_in(&self.keys, &batch.keys)?;
        connection.copy_in(&self.rows, &batch.rows)?;
        Ok(())
    }

    /// Takes keys out again, with their rows.
    pub(super) fn leave_out(&self, connection: &mut Connection, keys: &CopyRows) -> Result<(), MigrateError> {
        connection.copy_in(&self.touched, keys)?;
        let casts = self.shape.key_casts();
        let touched = expressions("x.k", &casts);
        let (key, row) = (same(&expressions("k.k", &casts), &touched), same(&self.source_of_row(), &touched));
        connection.run(&format!(
            "DELETE FROM {} k USING {touched} x WHERE {key}; DELETE FROM {} r USING {touched} x WHERE {row}",
            self.keys,
            self.rows,
            touched = self.touched
        ))?;
        Ok(())
    }

    /// The staged row's values, in the target's types.
    pub(super) fn values(&self) -> Vec<String> {
        let types = self.shape.target.columns.iter().enumerate();
        types.map(|(at, kind)| format!("r.c{at}::{}", kind.name)).collect()
    }

    /// A select of the staged rows under the table's names, as the table is going to hold them: with all that the mapping
    /// fills, and, if one of these columns is none of that, with what a row has there already or is given by the table.
    pub(super) fn stored(&self, columns: &[String]) -> String {
        let filled: HashMap<&String, String> = self.mapping.columns.iter().zip(self.values()).collect();
        let beside = columns.iter().any(|column| !filled.contains_key(column));
        let (mut written, mut generated) = (Vec::new(), String::new());
        for attribute in &self.shape.target.attributes {
            let name = sql::name(&attribute.name);
            let computed = attribute.computed.as_deref().unwrap_or("NULL");
            let value = match filled.get(&attribute.name) {
                Some(value) => value.clone(),
                None if !beside => continue,
                None if attribute.generated => {
                    generated += &format!(", {} AS {name}", attribute.stored(computed));
                    continue;
                }
                None => format!("CASE WHEN d.ctid IS NULL THEN {computed} ELSE d.{name} END"),
            };
            written.push(format!("{} AS {name}", attribute.stored(&value)));
        }
        let found = same(&self.key("d."), &self.key_of_row());
        let held = if beside { format!(" LEFT JOIN {} d ON {found}", self.table) } else { String::new() };
        format!("SELECT x.*{generated} FROM (SELECT {} FROM {} r{held}) x", written.join(", "), self.rows)
    }

    fn values_at(&self, columns: &[String]) -> Vec<String> {
        let values = self.values();
        Shape::places(self.mapping, columns).iter().filter_map(|at| values.get(*at).cloned()).collect()
    }

    /// The staged row's own key.
    pub(super) fn key_of_row(&self) -> Vec<String> {
        self.values_at(&self.mapping.key)
    }

    /// The staged row's own key, compared as the table's columns are.
    pub(super) fn compared_key_of_row(&self) -> Vec<String> {
        let compared = |(name, value): (&String, String)| {
            let mut attributes = self.shape.target.attributes.iter();
            let attribute = attributes.find(|attribute| attribute.name == *name);
            attribute.map_or_else(|| value.clone(), |attribute| attribute.compared(&value))
        };
        self.mapping.key.iter().zip(self.key_of_row()).map(compared).collect()
    }

    /// The staged row's source key.
    pub(super) fn source_of_row(&self) -> Vec<String> {
        match self.map {
            Some(_) => expressions("r.s", &self.shape.key_casts()),
            None => self.values_at(&self.mapping.carries),
        }
    }

    /// The key's columns behind a prefix.
    pub(super) fn key(&self, prefix: &str) -> Vec<String> {
        self.mapping.key.iter().map(|column| format!("{prefix}{}", sql::name(column))).collect()
    }

    /// The columns that carry the source key, behind a prefix.
    pub(super) fn carries(&self, prefix: &str) -> Vec<String> {
        self.mapping.carries.iter().map(|column| format!("{prefix}{}", sql::name(column))).collect()
    }

    /// A select of the batch's keys.
    pub(super) fn keys_select(&self) -> String {
        format!("SELECT {} FROM {} k", expressions("k.k", &self.shape.key_casts()).join(", "), self.keys)
    }

    /// A condition: a staged row has the key of `prefix`.
    pub(super) fn has_row(&self, prefix: &str) -> String {
        format!("EXISTS (SELECT FROM {} r WHERE {})", self.rows, same(&self.key_of_row(), &self.key(prefix)))
    }

    /// A condition on the target's row `t`: its source key is one of the batch's.
    pub(super) fn belongs_to_batch(&self) -> String {
        let keys = self.keys_select();
        match &self.map {
            None => format!("({}) IN ({keys})", self.carries("t.").join(", ")),
            Some(map) => format!(
                "({}) IN (SELECT {} FROM {map} m WHERE ({}) IN ({keys}))",
                self.key("t.").join(", "),
                sql::numbered("m.k", self.mapping.key.len()),
                sql::numbered("m.s", self.shape.key_types.len())
            ),
        }
    }
}

/// Each numbered column with its cast.
pub(super) fn expressions(prefix: &str, casts: &[String]) -> Vec<String> {
    casts.iter().enumerate().map(|(at, cast)| format!("{prefix}{at}{cast}")).collect()
}

/// Two lists are equal, one by one.
pub(super) fn same(one: &[String], other: &[String]) -> String {
    let each = one.iter().zip(other).map(|(one, other)| format!("{one} = {other}"));
    each.collect::<Vec<_>>().join(" AND ")
}
