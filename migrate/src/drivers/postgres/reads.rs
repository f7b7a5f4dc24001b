//! What a mapping's select reads, as the server itself understands it: it says what a view of the select depends on.
//!
//! Invariant: the view is temporary, and undone with the transaction that makes it.

use super::connection::{Connection, column};
use super::sql;
use crate::engine::Mapping;
use crate::engine::compare::TableRead;
use crate::engine::select_text::reads_clock;
use crate::engine::soundness::{goes_by_key, needs_joins, not_the_same};
use crate::error::MigrateError;

/// The view, and all views below it.
const SEEN: &str = "WITH RECURSIVE seen(oid) AS (SELECT 'pg_temp.banyan_reads'::regclass::oid UNION \
    SELECT d.refobjid FROM seen s JOIN pg_rewrite w ON w.ev_class = s.oid \
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass \
    JOIN pg_class c ON c.oid = d.refobjid AND c.relkind = 'v')";

/// What a select reads and calls.
pub(super) struct Reads {
    pub(super) tables: Vec<TableRead>,
    /// Functions that may give something else from the same rows, with what is to be done about each.
    changing: Vec<(String, String)>,
}

impl Reads {
    /// Asks the server. No transaction may be open.
    pub(super) fn of(connection: &mut Connection, mapping: &Mapping) -> Result<Self, MigrateError> {
        let mut named = Vec::new();
        for table in std::iter::once(&mapping.root).chain(mapping.joins.iter().map(|join| &join.table)) {
            named.push((table.clone(), connection.qualified(table)?));
        }
        let select = sql::fill(&mapping.select, "keys", |_| "TRUE".to_owned())?;
        let keys = if mapping.needs_key_map() { mapping.root_key.len() } else { 0 };
        let columns = sql::numbered("c", keys + mapping.columns.len());
        let done = connection
            .run(&format!("BEGIN READ WRITE; CREATE TEMP VIEW banyan_reads ({columns}) AS\n{select}"))
            .and_then(|_| Ok((tables(connection)?, changing(connection)?)));
        // What the server said first is what is told.
        let undone = connection.run("ROLLBACK");
        let (mut tables, changing) = done?;
        undone?;
        for read in &mut tables {
            if let Some((name, _)) = named.iter().find(|(_, qualified)| *qualified == read.table) {
                read.table.clone_from(name);
            }
        }
        Ok(Self { tables, changing })
    }

    /// Refuses what could not be followed, or not compared.
    pub(super) fn check(&self, mapping: &Mapping) -> Result<(), MigrateError> {
        match self.changing.first() {
            Some((function, remedy)) => return Err(not_the_same(mapping, function, remedy)),
            // The server reads the clock once, when it reads the text, and its view holds what it read.
            None if reads_clock(&mapping.select) => {
                let clock = "for 'now', 'today' or their like as a time";
                return Err(not_the_same(mapping, clock, "take it out of the select"));
            }
            None => {}
        }
        goes_by_key(mapping)?;
        needs_joins(mapping, &self.tables)
    }
}

/// A row that is read as a whole names no column, so a table without any is taken to be read with all of them.
fn tables(connection: &mut Connection) -> Result<Vec<TableRead>, MigrateError> {
    let rows = connection.rows(&format!(
        "{SEEN}, of(rel, at) AS (SELECT d.refobjid, d.refobjsubid FROM seen s JOIN pg_rewrite w ON w.ev_class = s.oid \
           JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid \
           AND d.refclassid = 'pg_class'::regclass) \
         SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), \
           (SELECT json_agg(DISTINCT a.attname) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
             AND NOT a.attisdropped AND (a.attnum IN (SELECT at FROM of WHERE rel = c.oid) \
             OR NOT EXISTS (SELECT FROM of WHERE rel = c.oid AND at > 0))) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid IN (SELECT rel FROM of) AND c.relkind <> 'v' ORDER BY 1"
    ))?;
    let read = |row: &postgres::SimpleQueryRow| TableRead {
        table: column(row, 0).to_owned(),
        columns: serde_json::from_str(column(row, 1)).unwrap_or_default(),
    };
    Ok(rows.iter().map(read).collect())
}

/// Volatile functions, those that read the clock or the session, and CURRENT_TIMESTAMP and its like, which the tree of a rule
/// holds as a kind of node of their own. Operators, aggregates and casts are functions as well. Columns that every table has
/// are numbered below zero; `tableoid`, -6, says which partition a row is of.
fn changing(connection: &mut Connection) -> Result<Vec<(String, String)>, MigrateError> {
    let rows = connection.rows(&format!(
        "{SEEN}, rule(tree) AS (SELECT w.ev_action::text FROM seen s JOIN pg_rewrite w ON w.ev_class = s.oid), \
           called(oid) AS (SELECT DISTINCT m[1]::oid FROM rule, \
             regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\\d+)', 'g') m) \
         SELECT p.oid::regprocedure::text, \
           CASE WHEN p.oid >= 16384 THEN format('ALTER FUNCTION %s IMMUTABLE, if that is what it is; else take it out of the select', \
             p.oid::regprocedure) ELSE 'take it out of the select; a column of the target''s own may have a default' END \
         FROM called c JOIN pg_proc p ON p.oid = c.oid \
         WHERE p.provolatile = 'v' OR (p.pronamespace = 'pg_catalog'::regnamespace AND (p.proname IN ('now', \
             'statement_timestamp', 'transaction_timestamp', 'current_setting', 'pg_backend_pid') \
           OR p.proname ~ '^(txid|pg_current)_' \
           OR p.proname = 'age' AND p.pronargs = 1 AND p.prorettype = 'interval'::regtype)) \
         UNION ALL SELECT 'CURRENT_TIMESTAMP or its like', 'take it out of the select' \
         WHERE EXISTS (SELECT FROM rule WHERE strpos(tree, '{{SQLVALUEFUNCTION') > 0) \
         UNION ALL SELECT 'for ctid, xmin or their like', 'take it out of the select: only the row''s place is in it, or who wrote it' \
         WHERE EXISTS (SELECT FROM rule WHERE tree ~ ':varattno -[1-5] ') \
         UNION ALL SELECT 'TABLESAMPLE', 'take it out of the select' \
         WHERE EXISTS (SELECT FROM rule WHERE strpos(tree, '{{TABLESAMPLECLAUSE') > 0)"
    ))?;
    Ok(rows.iter().map(|row| (column(row, 0).to_owned(), column(row, 1).to_owned())).collect())
}
