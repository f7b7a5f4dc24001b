//! What the database's own catalogue says about tables and foreign keys, for tests of the boundaries between contexts.
//!
//! Invariant: reads the catalogue and nothing else, so a table that no schema source knows is listed too.

use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl, sql_query};

use crate::{Conn, Db, DbError};

/// Every table and every foreign key of a database, in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The tables.
    pub tables: Vec<Table>,
    /// The foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub struct Table {
    /// Its PostgreSQL schema; `main` in SQLite.
    #[diesel(sql_type = Text)]
    pub schema: String,
    /// Its name.
    #[diesel(sql_type = Text)]
    pub name: String,
}

/// A foreign key from one table to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignKey {
    /// The table that refers.
    pub from: Table,
    /// The table that is referred to.
    pub to: Table,
}

#[derive(QueryableByName)]
struct Ends {
    #[diesel(sql_type = Text)]
    from_schema: String,
    #[diesel(sql_type = Text)]
    from_name: String,
    #[diesel(sql_type = Text)]
    to_schema: String,
    #[diesel(sql_type = Text)]
    to_name: String,
}

/// The facts of this database. Blocking.
pub fn facts(db: &Db) -> Result<Facts, DbError> {
    db.read_blocking(|conn| {
        let (tables, foreign_keys) = match conn {
            Conn::Sqlite(_) => (TABLES_SQLITE, KEYS_SQLITE),
            Conn::Postgres(_) => (TABLES_POSTGRES, KEYS_POSTGRES),
        };
        let mut tables: Vec<Table> = sql_query(tables).load(conn)?;
        tables.sort();
        let ends: Vec<Ends> = sql_query(foreign_keys).load(conn)?;
        let key = |ends: Ends| ForeignKey {
            from: Table { schema: ends.from_schema, name: ends.from_name },
            to: Table { schema: ends.to_schema, name: ends.to_name },
        };
        let mut foreign_keys: Vec<ForeignKey> = ends.into_iter().map(key).collect();
        foreign_keys.sort();
        Ok(Facts { tables, foreign_keys })
    })
}

const TABLES_SQLITE: &str = "SELECT 'main' AS schema, name FROM sqlite_schema
    WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
        AND name NOT IN (SELECT name FROM pragma_table_list WHERE type IN ('virtual', 'shadow'))";

const KEYS_SQLITE: &str = "SELECT 'main' AS from_schema, owner.name AS from_name, 'main' AS to_schema,
    held.\"table\" AS to_name FROM sqlite_schema AS owner, pragma_foreign_key_list(owner.name) AS held
    WHERE owner.type = 'table'";

const TABLES_POSTGRES: &str = "SELECT nspname::text AS schema, relname::text AS name FROM pg_catalog.pg_class
    JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema'";

const KEYS_POSTGRES: &str =
    "SELECT owner_schema.nspname::text AS from_schema, owner.relname::text AS from_name,
    held_schema.nspname::text AS to_schema, held.relname::text AS to_name FROM pg_catalog.pg_constraint
    JOIN pg_catalog.pg_class AS owner ON owner.oid = conrelid
    JOIN pg_catalog.pg_namespace AS owner_schema ON owner_schema.oid = owner.relnamespace
    JOIN pg_catalog.pg_class AS held ON held.oid = confrelid
    JOIN pg_catalog.pg_namespace AS held_schema ON held_schema.oid = held.relnamespace
    WHERE contype = 'f'";
