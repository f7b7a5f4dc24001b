//! The tables and indexes that are there, in the words of each database.
//!
//! Invariant: changes nothing but the search path of the transaction.

use std::collections::BTreeSet;

use diesel::connection::SimpleConnection;
use diesel::sql_types::{Bool, Text};
use diesel::{QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::SchemaSource;
use crate::Conn;

/// Any number that nothing else in the database uses for an advisory lock.
const LOCK: i64 = 0x0062_616e_7961_6e00;

/// A table or an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub(super) struct Object {
    #[diesel(sql_type = Text)]
    pub(super) kind: String,
    #[diesel(sql_type = Text)]
    pub(super) name: String,
}

impl Object {
    /// The object that this text names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(' ')?;
        Some(Self { kind: kind.to_owned(), name: name.to_owned() })
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Waits until no other process changes the schema, and keeps others out until the transaction ends. A SQLite file has one
/// writer anyway.
pub(super) fn exclude_others(conn: &mut Conn) -> QueryResult<()> {
    if let Conn::Postgres(conn) = conn {
        // The other process may take as long as it needs; a step that waits for a table holds up everybody, and may not.
        conn.batch_execute(&format!(
            "SELECT set_config('banyan.lock_timeout', current_setting('lock_timeout'), true);
             SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({LOCK});
             SELECT set_config('lock_timeout', current_setting('banyan.lock_timeout'), true)"
        ))?;
    }
    look_at(conn, super::record::SCHEMA)
}

/// Makes a schema the only one whose tables need no prefix, until the transaction ends.
pub(super) fn look_at(conn: &mut Conn, schema: &str) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(_) => Ok(()),
        Conn::Postgres(conn) => conn.batch_execute(&format!("SET LOCAL search_path TO \"{schema}\"")),
    }
}

/// [`look_at`], in a schema that need not be there yet.
pub(super) fn enter(conn: &mut Conn, schema: &str) -> QueryResult<()> {
    if let Conn::Postgres(conn) = conn {
        conn.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""))?;
    }
    look_at(conn, schema)
}

/// All objects of the file, or those of the source's schema.
pub(super) fn of(conn: &mut Conn, source: &SchemaSource) -> QueryResult<BTreeSet<Object>> {
    match conn {
        Conn::Sqlite(conn) => in_file(conn),
        Conn::Postgres(_) => in_schema(conn, source.schema()),
    }
}

pub(super) fn in_file(conn: &mut SqliteConnection) -> QueryResult<BTreeSet<Object>> {
    let rows: Vec<Object> = sql_query(
        // What a search index keeps its words in is there or not like any table, but is nobody's own.
        "SELECT CASE WHEN name IN (SELECT name FROM pragma_table_list WHERE type IN ('virtual', 'shadow'))
                THEN 'virtual table' ELSE type END AS kind, name
         FROM sqlite_schema WHERE type IN ('table', 'index') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .load(conn)?;
    Ok(rows.into_iter().collect())
}

pub(super) fn in_schema(conn: &mut Conn, schema: &str) -> QueryResult<BTreeSet<Object>> {
    let rows: Vec<Object> = sql_query(
        "SELECT CASE WHEN relkind IN ('r', 'p') THEN 'table' ELSE 'index' END AS kind, relname::text AS name
         FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
         WHERE nspname = $1 AND relkind IN ('r', 'p', 'i', 'I')",
    )
    .bind::<Text, _>(schema)
    .load(conn)?;
    Ok(rows.into_iter().collect())
}

pub(super) fn tables(conn: &mut Conn, source: &SchemaSource) -> QueryResult<BTreeSet<String>> {
    let tables = of(conn, source)?.into_iter().filter(|object| object.kind == "table");
    Ok(tables.map(|object| object.name).collect())
}

/// Tables of the source that are there and hold at least one row.
pub(super) fn tables_with_rows(conn: &mut Conn, source: &SchemaSource) -> QueryResult<Vec<String>> {
    #[derive(QueryableByName)]
    struct Filled {
        #[diesel(sql_type = Bool)]
        filled: bool,
    }
    let there = tables(conn, source)?;
    let mut filled = Vec::new();
    for table in source.tables.iter().filter(|table| there.contains(**table)) {
        let name = match conn {
            Conn::Sqlite(_) => format!("\"{table}\""),
            Conn::Postgres(_) => format!("\"{}\".\"{table}\"", source.schema()),
        };
        let rows: Vec<Filled> =
            sql_query(format!("SELECT EXISTS (SELECT 1 FROM {name}) AS filled")).load(conn)?;
        if rows.iter().any(|row| row.filled) {
            filled.push((*table).to_owned());
        }
    }
    Ok(filled)
}
