//! What a mapping's select reads, as SQLite itself understands it: its authorizer is asked about each column while the select is
//! prepared.
//!
//! Invariant: the authorizer allows everything and is gone before anything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::catalog::has_table;
use super::sql::replace;
use crate::engine::Mapping;
use crate::engine::compare::TableRead;
use crate::engine::select_text::{calls_without_time, says};
use crate::engine::soundness::{goes_by_key, needs_joins, not_the_same};
use crate::error::MigrateError;

/// Functions that give something else each time.
const CHANGING: [&str; 8] = [
    "random",
    "randomblob",
    "changes",
    "total_changes",
    "last_insert_rowid",
    "current_timestamp",
    "current_date",
    "current_time",
];
/// Functions that read the clock if they are told 'now', or nothing.
const CLOCKS: [&str; 7] = ["date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"];

/// Columns by table, and functions.
#[derive(Debug, Clone, Default)]
struct Heard {
    tables: BTreeMap<String, BTreeSet<String>>,
    functions: BTreeSet<String>,
}

/// What a select reads and calls.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    pub(super) tables: Vec<TableRead>,
    pub(super) functions: BTreeSet<String>,
}

impl Reads {
    /// Prepares the select; tables are those of `schema`.
    pub(super) fn of(
        conn: &Connection,
        schema: &'static str,
        mapping: &Mapping,
    ) -> Result<Self, rusqlite::Error> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = Arc::clone(&heard);
        conn.authorizer(Some(move |context: AuthContext<'_>| {
            let mut heard = hearing.lock().unwrap_or_else(PoisonError::into_inner);
            match context.action {
                AuthAction::Read { table_name, column_name } if context.database_name == Some(schema) => {
                    let columns = heard.tables.entry(table_name.to_owned()).or_default();
                    columns.extend((!column_name.is_empty()).then(|| column_name.to_owned()));
                }
                AuthAction::Function { function_name } => {
                    heard.functions.insert(function_name.to_lowercase());
                }
                _ => {}
            }
            Authorization::Allow
        }))?;
        let prepared = conn.prepare(&replace(&mapping.select, "keys", |_| "1".to_owned())).map(drop);
        conn.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        prepared?;
        let Heard { tables, functions } = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut reads = Vec::new();
        for (table, columns) in tables {
            // Of a view, the tables below it are heard as well.
            if has_table(conn, schema, &table)? {
                let (table, columns) = (as_named(mapping, table), columns.into_iter().collect());
                reads.push(TableRead { table, columns });
            }
        }
        Ok(Self { tables: reads, functions })
    }

    /// Refuses what could not be followed, or not compared.
    pub(super) fn check(&self, mapping: &Mapping) -> Result<(), MigrateError> {
        needs_joins(mapping, &self.tables)?;
        goes_by_key(mapping)?;
        let remedy = "take it out of the select; a column of the target's own may have a default";
        let called = |name: &str| self.functions.contains(name);
        let timeless =
            |name: &str| calls_without_time(&mapping.select, name, usize::from(name == "strftime"));
        let now = |name: &str| says(&mapping.select, "now") || timeless(name);
        let clock = CLOCKS.iter().find(|name| called(name) && now(name));
        match CHANGING.iter().find(|name| called(name)).or(clock) {
            Some(name) => Err(not_the_same(mapping, &format!("{name}()"), remedy)),
            None => Ok(()),
        }
    }
}

fn as_named(mapping: &Mapping, table: String) -> String {
    let mut named = std::iter::once(&mapping.root).chain(mapping.joins.iter().map(|join| &join.table));
    named.find(|named| named.eq_ignore_ascii_case(&table)).cloned().unwrap_or(table)
}
