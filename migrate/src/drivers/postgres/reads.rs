//! What a mapping's select reads, as the server itself understands it: it says what a view of the select depends on.
//!
//! Invariant: the view is temporary, and undone with the transaction that makes it.

use super::connection::{Connection, column};
use super::sql;
use crate::engine::Mapping;
use crate::engine::compare::TableRead;
use crate::error::MigrateError;

/// The view, and all views below it.
const SEEN: &str = "WITH RECURSIVE seen(oid) AS (SELECT 'pg_temp.banyan_reads'::regclass::oid UNION \
    SELECT d.refobjid FROM seen s JOIN pg_rewrite w ON w.ev_class = s.oid \
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass \
    JOIN pg_class c ON c.oid = d.refobjid AND c.relkind = 'v')";

/// What a select reads.
pub(super) struct Reads {
    pub(super) tables: Vec<TableRead>,
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
            .and_then(|_| ask(connection));
        // What the server said first is what is told.
        let undone = connection.run("ROLLBACK");
        let mut tables = done?;
        undone?;
        for read in &mut tables {
            if let Some((name, _)) = named.iter().find(|(_, qualified)| *qualified == read.table) {
                read.table.clone_from(name);
            }
        }
        Ok(Self { tables })
    }
}

/// A row that is read as a whole names no column, so a table without any is taken to be read with all of them.
fn ask(connection: &mut Connection) -> Result<Vec<TableRead>, MigrateError> {
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
