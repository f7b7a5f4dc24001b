//! What a database says of its tables.
//!
//! Invariant: reads the schema only, never rows, so it costs the same on any amount of data.

use rusqlite::{Connection, OptionalExtension as _};

use super::index_text;
use super::sql::{equal, quote, text};
use crate::engine::survey::mentions;
use crate::engine::{ColumnShape, TableShape};
use crate::error::MigrateError;

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// A name for the rowid that no column hides; none in a table WITHOUT ROWID.
    pub(super) rowid: Option<&'static str>,
    /// The id that SQLite chooses next, as an expression, if it chooses any.
    pub(super) next_id: Option<String>,
    /// Everything that REPLACE could displace a row by.
    pub(super) uniques: Vec<Unique>,
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) key_part: u32,
    pub(super) generated: bool,
    /// A row without a value for it is refused.
    pub(super) required: bool,
    /// Its default as an expression, if it may not be NULL: REPLACE writes that in a NULL's place.
    pub(super) instead_of_null: Option<String>,
    /// By which its values are compared where nothing else is said.
    pub(super) collation: String,
}

/// A unique index, a primary key, or the rowid.
#[derive(Debug, Clone)]
pub(super) struct Unique {
    /// Expressions with their collations.
    pub(super) terms: Vec<(String, String)>,
    pub(super) condition: Option<String>,
}

/// What the schema calls an index.
pub(super) struct Index {
    pub(super) name: String,
    unique: bool,
    partial: bool,
    /// Nothing if a constraint of the table made it.
    pub(super) sql: Option<String>,
}

/// Whether a schema has a table of that name, spelt as it was made.
pub(super) fn has_table(conn: &Connection, schema: &str, name: &str) -> Result<bool, rusqlite::Error> {
    let sql = format!("SELECT 1 FROM {}.sqlite_schema WHERE type = 'table' AND name = ?1", quote(schema));
    conn.prepare_cached(&sql)?.exists([name])
}

impl Table {
    /// Reads it; refused if it is none that rows can be captured in.
    pub(super) fn read(conn: &Connection, schema: &str, name: &str) -> Result<Self, MigrateError> {
        let sql = "SELECT type, wr FROM pragma_table_list(?1) WHERE schema = ?2";
        let found = conn
            .prepare_cached(sql)?
            .query_row([name, schema], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))
            .optional()?;
        let (kind, without_rowid) = found.ok_or_else(|| {
            MigrateError::refused(
                format!("there is no table {name}"),
                "correct the mapping, or make the table",
            )
        })?;
        if kind != "table" {
            return Err(MigrateError::refused(
                format!("{name} is a {kind}, and only tables can be captured"),
                "name the tables below it in the mapping",
            ));
        }
        let columns = columns(conn, schema, name)?;
        let hidden = |alias: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(alias));
        let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(|alias| !hidden(alias));
        let rowid = rowid.filter(|_| !without_rowid);
        // Columns may hide every name of the rowid but that of the key.
        let key = || sole_integer_key(&columns).filter(|_| !without_rowid).map(|key| quote(&key.name));
        let by_rowid = rowid
            .map(str::to_owned)
            .or_else(key)
            .map(|rowid| Unique { terms: vec![(rowid, "BINARY".to_owned())], condition: None });
        let mut uniques: Vec<Unique> = by_rowid.into_iter().collect();
        for index in indexes(conn, schema, name)?.iter().filter(|index| index.unique) {
            uniques.push(index.read(conn, schema)?);
        }
        let next_id = match rowid {
            Some(rowid) => Some(next_id(conn, schema, name, rowid)?),
            None => None,
        };
        Ok(Self { name: name.to_owned(), columns, rowid, next_id, uniques })
    }

    /// The column of that name; refused if there is none.
    pub(super) fn column(&self, name: &str) -> Result<&Column, MigrateError> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            MigrateError::refused(
                format!("the table {} has no column {name}", self.name),
                "correct the mapping, or bring the column back",
            )
        })
    }

    /// Refused if two rows may have one key.
    pub(super) fn tells_apart(&self, key: &[String]) -> Result<(), MigrateError> {
        let among = |term: &(String, String)| key.iter().any(|name| self.is_compared_by(name, term));
        let unique = |unique: &Unique| unique.condition.is_none() && unique.terms.iter().all(among);
        let is_rowid = |column: &Column| key.iter().any(|name| name.eq_ignore_ascii_case(&column.name));
        if self.integer_key().is_some_and(is_rowid) || self.uniques.iter().any(unique) {
            return Ok(());
        }
        Err(MigrateError::refused(
            format!(
                "the source key ({}) of {} is not unique: no unique index over it, as its columns compare, says so",
                key.join(", "),
                self.name
            ),
            format!(
                "`CREATE UNIQUE INDEX … ON {} ({})`, or name another from_key",
                quote(&self.name),
                key.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
            ),
        ))
    }

    /// Whether a term of an index is the column, and what the column's collation holds equal is so in the index: under BINARY
    /// two rows may hold what NOCASE takes for one value.
    pub(super) fn is_compared_by(&self, name: &str, (term, collation): &(String, String)) -> bool {
        quote(name).eq_ignore_ascii_case(term)
            && self.columns.iter().filter(|column| column.name.eq_ignore_ascii_case(name)).all(|column| {
                column.collation == "BINARY" || column.collation.eq_ignore_ascii_case(collation)
            })
    }

    /// Columns that can be written.
    pub(super) fn stored(&self) -> Vec<String> {
        self.columns.iter().filter(|column| !column.generated).map(|column| column.name.clone()).collect()
    }

    /// A value with its column's name, compared as the column is: NEW.x has no affinity. That of a scalar subselect is its last
    /// arm's; a compound that is read as a table may lose it, and CAST would change values of other types.
    fn as_stored(&self, column: &Column, value: &str) -> String {
        let (table, name, collation) = (quote(&self.name), quote(&column.name), quote(&column.collation));
        format!("(SELECT {value} UNION ALL SELECT {name} FROM {table} WHERE 0) COLLATE {collation} AS {name}")
    }

    /// What tells one row from another: the rowid or the primary key.
    pub(super) fn identity(&self) -> Vec<String> {
        match self.rowid {
            Some(rowid) => vec![rowid.to_owned()],
            None => {
                let key = self.columns.iter().filter(|column| column.key_part > 0);
                key.map(|column| quote(&column.name)).collect()
            }
        }
    }

    /// Its column that is the rowid under another name.
    pub(super) fn integer_key(&self) -> Option<&Column> {
        sole_integer_key(&self.columns).filter(|_| self.rowid.is_some())
    }
}

/// Behind the greatest there is, and with AUTOINCREMENT behind the greatest there ever was.
fn next_id(conn: &Connection, schema: &str, name: &str, rowid: &str) -> Result<String, MigrateError> {
    let sql = format!(
        "SELECT lower(sql) LIKE '%autoincrement%' FROM {}.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)",
        quote(schema)
    );
    let greatest = format!("coalesce((SELECT max({rowid}) FROM {}), 0)", quote(name));
    if !conn.prepare_cached(&sql)?.query_row([name], |row| row.get::<_, bool>(0))? {
        return Ok(format!("({greatest} + 1)"));
    }
    let ever = format!("(SELECT seq FROM sqlite_sequence WHERE lower(name) = lower({}))", text(name));
    Ok(format!("(max({greatest}, coalesce({ever}, 0)) + 1)"))
}

fn sole_integer_key(columns: &[Column]) -> Option<&Column> {
    let mut key = columns.iter().filter(|column| column.key_part > 0);
    let first = key.next().filter(|column| column.declared == "INTEGER");
    first.filter(|_| key.next().is_none())
}

impl Unique {
    /// Whether one of its terms is an expression that reads the column.
    pub(super) fn is_computed_from(&self, table: &Table, column: &str) -> bool {
        let is_column = |term: &str| {
            Some(term) == table.rowid || table.columns.iter().any(|column| quote(&column.name) == term)
        };
        self.terms.iter().any(|(term, _)| !is_column(term) && mentions(term, column))
    }

    /// SQL for its terms, compared as it compares them.
    pub(super) fn collated(&self) -> Vec<String> {
        let each =
            self.terms.iter().map(|(term, collation)| format!("({term}) COLLATE {}", quote(collation)));
        each.collect()
    }

    /// The condition that a row of the table is in the index with the values `?1, …`.
    pub(super) fn holds_parameters(&self) -> String {
        self.has(&(1..=self.terms.len()).map(|n| format!("?{n}")).collect::<Vec<_>>())
    }

    /// The condition that a row of the table may be displaced by the row whose columns `new` gives as expressions. Not all of a new
    /// row is known yet, so only the terms are asked of it: that says of more rows.
    pub(super) fn may_hold(&self, table: &Table, new: impl Fn(&str) -> String) -> String {
        let value = |term: &str| match table.columns.iter().find(|column| quote(&column.name) == term) {
            Some(column) => new(&column.name),
            None if Some(term) == table.rowid => new(term),
            None => {
                let column = |column: &Column| match mentions(term, &column.name) {
                    true => table.as_stored(column, &new(&column.name)),
                    false => format!("{} AS {}", new(&column.name), quote(&column.name)),
                };
                let row = table.columns.iter().map(column).collect::<Vec<_>>().join(", ");
                format!("(SELECT {term} FROM (SELECT {row}))")
            }
        };
        self.has(&self.terms.iter().map(|(term, _)| value(term)).collect::<Vec<_>>())
    }

    fn has(&self, values: &[String]) -> String {
        let condition = self.condition.as_ref().map(|condition| format!(" AND ({condition})"));
        format!("{}{}", equal(&self.collated(), values), condition.unwrap_or_default())
    }
}

impl Index {
    /// What is in it, as of a unique one.
    pub(super) fn read(&self, conn: &Connection, schema: &str) -> Result<Unique, MigrateError> {
        let (texts, condition) = self.sql.as_deref().map(index_text::parts).unwrap_or_default();
        let mut statement = conn.prepare_cached(
            "SELECT seqno, name, cid, coll FROM pragma_index_xinfo(?1, ?2) WHERE key = 1 ORDER BY seqno",
        )?;
        let terms = statement.query_map([self.name.as_str(), schema], |row| {
            let (place, cid): (usize, i64) = (row.get(0)?, row.get(2)?);
            let name: Option<String> = row.get(1)?;
            let text = || texts.get(place).cloned().unwrap_or_default();
            let term = if cid >= 0 { name.as_deref().map(quote).unwrap_or_else(text) } else { text() };
            Ok((term, row.get(3)?))
        })?;
        let condition = condition.filter(|_| self.partial);
        Ok(Unique { terms: terms.collect::<Result<_, _>>()?, condition })
    }
}

/// Every table of the application, those that others refer to first.
pub(super) fn shapes(conn: &Connection, schema: &str) -> Result<Vec<TableShape>, MigrateError> {
    let mut statement = conn.prepare(
        "SELECT name FROM pragma_table_list WHERE schema = ?1 AND type = 'table' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'banyan\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names = statement.query_map([schema], |row| row.get::<_, String>(0))?;
    let mut left: Vec<String> = names.collect::<Result<_, _>>()?;
    let mut shapes: Vec<TableShape> = Vec::new();
    while !left.is_empty() {
        let mut free = None;
        for (place, name) in left.iter().enumerate() {
            let waits = |parent: &String| parent != name && left.contains(parent);
            if !parents(conn, schema, name)?.iter().any(waits) {
                free = Some(place);
                break;
            }
        }
        // Tables that refer to each other in a ring have no order; the first goes first.
        shapes.push(shape(conn, schema, &left.remove(free.unwrap_or(0)))?);
    }
    Ok(shapes)
}

fn parents(conn: &Connection, schema: &str, name: &str) -> Result<Vec<String>, MigrateError> {
    let mut statement = conn.prepare_cached("SELECT \"table\" FROM pragma_foreign_key_list(?1, ?2)")?;
    let parents = statement.query_map([name, schema], |row| row.get(0))?;
    Ok(parents.collect::<Result<_, _>>()?)
}

fn shape(conn: &Connection, schema: &str, name: &str) -> Result<TableShape, MigrateError> {
    let table = Table::read(conn, schema, name)?;
    let mut primary: Vec<&Column> = table.columns.iter().filter(|column| column.key_part > 0).collect();
    primary.sort_by_key(|column| column.key_part);
    let mut key: Vec<String> = primary.into_iter().map(|column| column.name.clone()).collect();
    if key.is_empty() || table.tells_apart(&key).is_err() {
        key = unique_without_null(conn, schema, &table)?;
    }
    let columns = table.columns.iter().map(|column| ColumnShape {
        name: column.name.clone(),
        declared: column.declared.clone(),
        generated: column.generated,
    });
    Ok(TableShape { name: name.to_owned(), columns: columns.collect(), key })
}

fn unique_without_null(conn: &Connection, schema: &str, table: &Table) -> Result<Vec<String>, MigrateError> {
    let mut statement =
        conn.prepare_cached("SELECT name FROM pragma_table_xinfo(?1, ?2) WHERE \"notnull\"")?;
    let names = statement.query_map([table.name.as_str(), schema], |row| row.get::<_, String>(0))?;
    let never_null: Vec<String> = names.collect::<Result<_, _>>()?;
    let plain = |unique: &Unique| -> Option<Vec<String>> {
        let column = |term: &(String, String)| {
            never_null.iter().find(|name| table.is_compared_by(name, term)).cloned()
        };
        let columns: Option<Vec<String>> = unique.terms.iter().map(column).collect();
        columns.filter(|_| unique.condition.is_none())
    };
    Ok(table.uniques.iter().find_map(plain).unwrap_or_default())
}

fn columns(conn: &Connection, schema: &str, table: &str) -> Result<Vec<Column>, MigrateError> {
    let mut statement = conn.prepare_cached(
        "SELECT name, upper(type), pk, hidden, \"notnull\" AND dflt_value IS NULL, \
             CASE WHEN \"notnull\" THEN dflt_value END FROM pragma_table_xinfo(?1, ?2)",
    )?;
    let columns = statement.query_map([table, schema], |row| {
        let name: String = row.get(0)?;
        let (_, collation, ..) = conn.column_metadata(Some(schema), table, &name)?;
        Ok(Column {
            collation: collation.map_or_else(|| "BINARY".into(), |name| name.to_string_lossy().into_owned()),
            name,
            declared: row.get(1)?,
            key_part: row.get(2)?,
            generated: row.get::<_, u32>(3)? > 0,
            required: row.get(4)?,
            instead_of_null: row.get::<_, Option<String>>(5)?.map(|text| index_text::default_value(&text)),
        })
    })?;
    Ok(columns.collect::<Result<_, _>>()?)
}

/// The indexes of a table.
pub(super) fn indexes(conn: &Connection, schema: &str, table: &str) -> Result<Vec<Index>, MigrateError> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT l.name, l.\"unique\", l.partial, s.sql FROM pragma_index_list(?1, ?2) AS l \
         LEFT JOIN {}.sqlite_schema AS s ON s.type = 'index' AND s.name = l.name ORDER BY l.name",
        quote(schema)
    ))?;
    let indexes = statement.query_map([table, schema], |row| {
        Ok(Index { name: row.get(0)?, unique: row.get(1)?, partial: row.get(2)?, sql: row.get(3)? })
    })?;
    Ok(indexes.collect::<Result<_, _>>()?)
}
