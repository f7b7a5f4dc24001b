//! What the catalogue says of a table.
//!
//! Invariant: read by plain queries, so in a snapshot it says what was true in that snapshot.

use super::connection::Connection;
use super::sql::{list, quote};
use crate::error::MigrateError;

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) oid: u32,
    /// Quoted, with its schema.
    pub(super) name: String,
    /// As in pg_class.
    pub(super) kind: String,
    /// As in pg_class: permanent, unlogged, temporary.
    pub(super) persistence: String,
    pub(super) columns: Vec<Column>,
    /// Itself first, then every table below it.
    pub(super) members: Vec<Member>,
    /// The columns of each unique index that holds for every row.
    pub(super) unique: Vec<Vec<String>>,
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type's number; of a domain, that of what it is based on.
    pub(super) oid: u32,
    /// The type's name without its modifier.
    pub(super) declared: String,
    /// The name of the type below a domain, without its modifier.
    pub(super) base: String,
    pub(super) not_null: bool,
    pub(super) generated: bool,
    /// `GENERATED ALWAYS AS IDENTITY`.
    pub(super) identity_always: bool,
    pub(super) is_enum: bool,
    /// Texts compare byte by byte; true for what has no collation.
    pub(super) bytewise: bool,
    /// Its collation, quoted with its schema, where it has one.
    pub(super) collation: Option<String>,
}

/// A table of a partition tree.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) oid: u32,
    pub(super) name: String,
    pub(super) kind: String,
}

/// Resolves a name as SQL would, or as it stands if it is not lower case.
const RESOLVE: &str = "SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relpersistence::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = coalesce(to_regclass($1), to_regclass(quote_ident($1)))";

const COLUMNS: &str = "WITH RECURSIVE base(attnum, oid) AS ( \
      SELECT attnum, atttypid FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped \
      UNION ALL SELECT b.attnum, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd') \
    SELECT a.attname::text, t.oid, format_type(a.atttypid, -1), format_type(t.oid, -1), a.attnotnull, \
      a.attgenerated <> '', a.attidentity = 'a', t.typtype = 'e', \
      a.attcollation = 0 OR co.collname IN ('C', 'POSIX', 'ucs_basic') OR (co.collname = 'default' \
        AND (SELECT datcollate IN ('C', 'POSIX') AND coalesce(to_jsonb(d)->>'datlocprovider', 'c') = 'c' \
             FROM pg_database d WHERE datname = current_database())), \
      CASE WHEN a.attcollation <> 0 THEN format('%I.%I', cn.nspname, co.collname) END \
    FROM pg_attribute a JOIN base b ON b.attnum = a.attnum JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd' \
    LEFT JOIN pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace \
    WHERE a.attrelid = $1 ORDER BY a.attnum";

const MEMBERS: &str = "WITH RECURSIVE tree(oid, level) AS (SELECT $1::oid, 0 \
      UNION ALL SELECT i.inhrelid, t.level + 1 FROM pg_inherits i JOIN tree t ON t.oid = i.inhparent) \
    SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind::text \
    FROM (SELECT oid, min(level) AS level FROM tree GROUP BY oid) t JOIN pg_class c ON c.oid = t.oid \
    JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY t.level, 2";

const UNIQUE: &str = "SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i \
    CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
    AND k.place <= i.indnkeyatts GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC, i.indexrelid";

impl Shape {
    /// Refused if there is no such table.
    pub(super) fn read(conn: &mut Connection, table: &str) -> Result<Self, MigrateError> {
        let found = conn.maybe(RESOLVE, &[&table])?.ok_or_else(|| {
            MigrateError::refused(
                format!("there is no table {table}, or its schema is not in the search path"),
                "correct the manifest, or write the schema before the table's name",
            )
        })?;
        let oid: u32 = found.get(0);
        let columns = conn.query(COLUMNS, &[&oid])?;
        let columns = columns.iter().map(|row| Column {
            name: row.get(0),
            oid: row.get(1),
            declared: row.get(2),
            base: row.get(3),
            not_null: row.get(4),
            generated: row.get(5),
            identity_always: row.get(6),
            is_enum: row.get(7),
            bytewise: row.get::<_, Option<bool>>(8).unwrap_or(false),
            collation: row.get(9),
        });
        let members = conn.query(MEMBERS, &[&oid])?;
        let members =
            members.iter().map(|row| Member { oid: row.get(0), name: row.get(1), kind: row.get(2) });
        let unique = conn.query(UNIQUE, &[&oid])?.iter().map(|row| row.get(0)).collect();
        Ok(Self {
            oid,
            name: found.get(1),
            kind: found.get(2),
            persistence: found.get(3),
            columns: columns.collect(),
            members: members.collect(),
            unique,
        })
    }

    pub(super) fn column(&self, name: &str) -> Result<&Column, MigrateError> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            MigrateError::refused(
                format!("the table {} has no column {}", self.name, quote(name)),
                format!(
                    "correct the manifest; it has {}",
                    list(self.columns.iter().map(|column| &column.name))
                ),
            )
        })
    }

    pub(super) fn some(&self, names: &[String]) -> Result<Vec<&Column>, MigrateError> {
        names.iter().map(|name| self.column(name)).collect()
    }
}

/// The sequences from which a column gets its default, quoted with their schemas.
pub(super) fn sequences(
    conn: &mut Connection,
    table: &str,
    column: &str,
) -> Result<Vec<String>, MigrateError> {
    let rows = conn.query(
        "SELECT DISTINCT format('%I.%I', n.nspname, s.relname) FROM pg_attribute a \
         LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum \
         JOIN pg_depend d ON (d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass) \
           OR (d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid \
             AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')) \
         JOIN pg_class s ON s.relkind = 'S' AND s.oid IN (d.objid, d.refobjid) \
         JOIN pg_namespace n ON n.oid = s.relnamespace WHERE a.attrelid = $1::text::regclass AND a.attname = $2::text",
        &[&table, &column],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
