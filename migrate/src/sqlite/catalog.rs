//! What the databases say of their own tables.
//!
//! Invariant: reads schema only, never rows, so it costs the same on any amount of data.

use rusqlite::OptionalExtension as _;

use super::Pair;
use super::sql::quote;
use crate::error::MigrateError;
use crate::flow::End;

/// One table as its database declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// Values must have the declared types.
    pub strict: bool,
    /// Ids of deleted rows are never given out again.
    pub autoincrement: bool,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its declared type, upper case, possibly empty.
    pub declared: String,
    /// NULL is refused.
    pub not_null: bool,
    /// It has a default.
    pub has_default: bool,
    /// Its place in the primary key, or nothing.
    pub key_part: Option<u32>,
    /// Computed from other columns, so never written.
    pub generated: bool,
}

/// A unique index, or a primary key seen as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueIndex {
    /// Its name.
    pub name: String,
    /// Its columns with their collations; empty if it is over expressions.
    pub columns: Vec<(String, String)>,
    /// The rows it covers, if not all, as an SQL condition.
    pub condition: Option<String>,
}

/// A trigger on a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The table.
    pub table: String,
}

/// How keys are written as text and read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Whole numbers.
    Integer,
    /// Texts.
    Text,
}

impl KeyKind {
    /// SQL that turns an id's text into a key.
    pub(crate) fn key_of(self, expression: &str) -> String {
        match self {
            Self::Integer => format!("CAST({expression} AS INTEGER)"),
            Self::Text => expression.to_owned(),
        }
    }
}

impl TableShape {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

impl Column {
    /// The storage classes that the declared type stands for; nothing where any will do.
    pub fn storage_classes(&self) -> Option<&'static [&'static str]> {
        let declared = self.declared.as_str();
        if declared.contains("INT") {
            Some(&["integer"])
        } else if ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word)) {
            Some(&["text"])
        } else if declared.contains("BLOB") {
            Some(&["blob"])
        } else if ["REAL", "FLOA", "DOUB"].iter().any(|word| declared.contains(word)) {
            Some(&["real"])
        } else {
            None
        }
    }
}

impl Pair {
    /// A table's shape, or nothing if there is no such table.
    pub fn shape(&self, end: End, table: &str) -> Result<Option<TableShape>, MigrateError> {
        let schema = end.schema();
        let listed =
            format!("SELECT strict FROM pragma_table_list(?1) WHERE schema = '{schema}' AND type = 'table'");
        let Some(strict) = self.conn.query_row(&listed, [table], |row| row.get(0)).optional()? else {
            return Ok(None);
        };
        let mut statement = self.conn.prepare(&format!(
            "SELECT name, upper(type), \"notnull\", dflt_value IS NOT NULL, pk, hidden \
             FROM pragma_table_xinfo(?1, '{schema}')"
        ))?;
        let columns = statement
            .query_map([table], |row| {
                let (part, hidden): (u32, u32) = (row.get(4)?, row.get(5)?);
                Ok(Column {
                    name: row.get(0)?,
                    declared: row.get(1)?,
                    not_null: row.get::<_, bool>(2)? || part > 0,
                    has_default: row.get(3)?,
                    key_part: (part > 0).then_some(part),
                    generated: hidden > 1,
                })
            })?
            .collect::<Result<_, _>>()?;
        let ddl: String = self.conn.query_row(
            &format!(
                "SELECT sql FROM {schema}.sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE"
            ),
            [table],
            |row| row.get(0),
        )?;
        let autoincrement = ddl.to_uppercase().contains("AUTOINCREMENT");
        Ok(Some(TableShape { columns, strict, autoincrement }))
    }

    /// Whether a table is there.
    pub fn has_table(&self, end: End, table: &str) -> Result<bool, MigrateError> {
        let sql =
            format!("SELECT count(*) FROM {}.sqlite_schema WHERE type = 'table' AND name = ?1", end.schema());
        Ok(self.conn.query_row(&sql, [table], |row| row.get::<_, i64>(0)).map_err(self.at(end))? > 0)
    }

    /// How the root's keys are written as text.
    pub fn key_kind(&self, end: End, table: &str, key: &str) -> Result<KeyKind, MigrateError> {
        let shape = self.shape(end, table)?;
        let column = shape.as_ref().and_then(|shape| shape.column(key));
        match column.map(Column::storage_classes) {
            Some(Some(["integer"])) => Ok(KeyKind::Integer),
            Some(Some(["text"])) => Ok(KeyKind::Text),
            Some(_) => Err(MigrateError::refused(
                format!("the key {key} of the {end} table {table} is neither an integer nor a text"),
                "name a root table whose key is declared INTEGER or TEXT",
            )),
            None => Err(MigrateError::refused(
                format!("the {end} database has no column {key} in a table {table}"),
                format!("correct [{end}] in the manifest, or create the schema"),
            )),
        }
    }

    /// A table's unique indexes, the primary key among them unless it is the rowid.
    pub fn unique_indexes(&self, end: End, table: &str) -> Result<Vec<UniqueIndex>, MigrateError> {
        let schema = end.schema();
        let mut statement = self.conn.prepare(&format!(
            "SELECT i.name, i.partial, s.sql FROM pragma_index_list(?1, '{schema}') AS i \
             LEFT JOIN {schema}.sqlite_schema AS s ON s.type = 'index' AND s.name = i.name WHERE i.\"unique\""
        ))?;
        let mut indexes = Vec::new();
        let mut rows = statement.query([table])?;
        while let Some(row) = rows.next()? {
            let (name, partial, ddl): (String, bool, Option<String>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let condition = ddl.filter(|_| partial).and_then(|ddl| condition_of(&ddl));
            let columns = self.index_columns(end, &name)?;
            indexes.push(UniqueIndex { name, columns, condition });
        }
        Ok(indexes)
    }

    /// An index's columns; empty if one of them is an expression.
    fn index_columns(&self, end: End, index: &str) -> Result<Vec<(String, String)>, MigrateError> {
        let sql = format!("SELECT name, coll FROM pragma_index_xinfo(?1, '{}') WHERE \"key\"", end.schema());
        let mut statement = self.conn.prepare(&sql)?;
        let columns: Vec<(Option<String>, String)> =
            statement.query_map([index], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let plain: Option<Vec<_>> =
            columns.into_iter().map(|(name, collation)| Some((name?, collation))).collect();
        Ok(plain.unwrap_or_default())
    }

    /// The triggers on one end's tables.
    pub fn triggers(&self, end: End, tables: &[String]) -> Result<Vec<Trigger>, MigrateError> {
        let mut statement = self.conn.prepare(&format!(
            "SELECT name, tbl_name FROM {}.sqlite_schema WHERE type = 'trigger' ORDER BY name",
            end.schema()
        ))?;
        let all = statement.query_map([], |row| Ok(Trigger { name: row.get(0)?, table: row.get(1)? }))?;
        let all: Vec<Trigger> = all.collect::<Result<_, _>>()?;
        Ok(all.into_iter().filter(|trigger| tables.contains(&trigger.table)).collect())
    }

    /// How many rows a table holds.
    pub fn count(&self, end: End, table: &str) -> Result<i64, MigrateError> {
        let sql = format!("SELECT count(*) FROM {}.{}", end.schema(), quote(table));
        self.conn.query_row(&sql, [], |row| row.get(0)).map_err(self.at(end))
    }

    /// Whether any of these tables holds a row.
    pub fn any_rows(&self, end: End, tables: &[String]) -> Result<bool, MigrateError> {
        for table in tables {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {}.{})", end.schema(), quote(table));
            if self.conn.query_row(&sql, [], |row| row.get(0))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The condition of a partial index: what follows the WHERE behind the list of columns.
fn condition_of(ddl: &str) -> Option<String> {
    let mut depth = 0_i32;
    for (offset, character) in ddl.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => continue,
        }
        let tail = ddl.get(offset + 1..)?.trim_start();
        if depth == 0 && tail.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("where")) {
            return tail.get(5..).map(|condition| condition.trim().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_of_a_partial_index_is_found_behind_its_columns() {
        let ddl = "CREATE UNIQUE INDEX c ON contact(value, lower(kind))\n where kind = 'e-mail (where)'";
        assert_eq!(condition_of(ddl).as_deref(), Some("kind = 'e-mail (where)'"));
        assert_eq!(condition_of("CREATE UNIQUE INDEX c ON contact(value)"), None);
    }
}
