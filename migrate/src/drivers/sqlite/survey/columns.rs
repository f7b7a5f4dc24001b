//! Columns: what the select yields, what the target declares, which nobody carries, and keys.
//!
//! Invariant: what a run would refuse about a column is asked of the very checks that refuse it.

use super::super::bookkeeping::{found_by_key, refuse_itself, writable};
use super::super::catalog::{Column, Table};
use super::super::collation::{remedy, unlike};
use super::super::reads::Reads;
use super::super::sql::{list, quote};
use super::super::staged::row_width;
use super::{Looked, Surveyor, place};
use crate::engine::survey::{ColumnFate, Fate, GENERATED, LeftOver, Level, Role, mentions, readers};
use crate::error::MigrateError;
use crate::sqlite::words;

/// A column that the select yields: the table and column that it is, if it is nothing more.
type Origin = Option<(String, String)>;

impl Surveyor<'_> {
    /// Whether the select can be run and every column that it fills is there.
    pub(super) fn columns(&mut self, looked: &Looked) -> Result<bool, MigrateError> {
        let (mapping, table) = (&looked.mapping, &looked.table);
        let place = place(mapping);
        let mut complete = true;
        self.survey.take(&place, found_by_key(mapping, table))?;
        for stray in mapping.key.iter().chain(&mapping.carries) {
            if !mapping.columns.contains(stray) {
                let what = format!("it does not fill {stray}, by which it finds rows");
                self.survey.add(Level::Problem, &*place, what, "add it to its columns and its select");
            }
        }
        for name in &mapping.columns {
            complete &= self.survey.take(&place, writable(table, name))?.is_some();
        }
        for name in &mapping.root_key {
            complete &= self.survey.take(&place, looked.root.column(name))?.is_some();
        }
        let Some(origins) = self.origins(looked)? else { return Ok(false) };
        let sound = Reads::of(&self.source.conn, self.source.schema, mapping)?.check(mapping);
        self.survey.take(&place, sound)?;
        self.survey.take(&place, refuse_itself(mapping, &self.source.file, &self.target.file))?;
        self.fates(looked, &origins)?;
        self.key_collations(looked);
        Ok(complete)
    }

    fn origins(&mut self, looked: &Looked) -> Result<Option<Vec<Origin>>, MigrateError> {
        let place = place(&looked.mapping);
        let sql = self.select(looked, None);
        let statement = match self.source.conn.prepare(&sql) {
            Ok(statement) => statement,
            Err(error) => {
                let what = format!("its select cannot be run: {}", words(&error));
                self.survey.add(Level::Problem, place, what, "correct the select");
                return Ok(None);
            }
        };
        let origin = |column: &rusqlite::ColumnMetadata<'_>| {
            column
                .table_name()
                .zip(column.origin_name())
                .map(|(table, name)| (table.to_owned(), name.to_owned()))
        };
        let mut origins: Vec<Origin> = statement.columns_with_metadata().iter().map(origin).collect();
        let (found, wanted) = (origins.len(), row_width(&looked.mapping));
        if found != wanted {
            let what = format!("its select yields {found} columns instead of {wanted}");
            self.survey.add(Level::Problem, place, what, "correct the select, or the mapping's columns");
            return Ok(None);
        }
        Ok(Some(origins.split_off(wanted - looked.mapping.columns.len())))
    }

    fn fates(&mut self, looked: &Looked, origins: &[Origin]) -> Result<(), MigrateError> {
        let (mapping, name) = (&looked.mapping, &looked.mapping.table);
        self.carried.extend(origins.iter().flatten().cloned());
        let must: Vec<String> = self.names(
            "SELECT name FROM pragma_table_xinfo(?1, ?2) WHERE \"notnull\" AND dflt_value IS NULL AND hidden = 0 \
             AND NOT (pk > 0 AND upper(type) = 'INTEGER')",
            name,
        )?;
        for column in &looked.table.columns {
            let at = mapping.columns.iter().position(|filled| filled.eq_ignore_ascii_case(&column.name));
            let made = at.and_then(|at| origins.get(at));
            if made.is_none() && must.contains(&column.name) {
                let what = format!(
                    "{} must have a value and has no default, and the mapping does not fill it",
                    column.name
                );
                self.survey.add(
                    Level::Problem,
                    format!("target {name}"),
                    what,
                    "fill it, give it a default, or let it be NULL",
                );
            }
            let (fate, from) = match made {
                None if column.generated => (Fate::LeftOut, GENERATED.to_owned()),
                None => (Fate::LeftOut, String::new()),
                Some(None) => (Fate::Computed, "an expression".to_owned()),
                Some(Some((table, origin))) => (Fate::Carried, self.declared(table, origin)),
            };
            self.survey.columns.push(ColumnFate {
                end: Role::Target,
                table: name.clone(),
                column: column.name.clone(),
                declared: column.declared.clone(),
                fate,
                from,
            });
        }
        Ok(())
    }

    fn names(&self, sql: &str, table: &str) -> Result<Vec<String>, MigrateError> {
        let mut statement = self.target.conn.prepare(sql)?;
        let names = statement.query_map([table, self.target.schema], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    fn declared(&self, table: &str, column: &str) -> String {
        let read = Table::read(&self.source.conn, self.source.schema, table);
        let declared =
            read.ok().and_then(|read| read.column(column).ok().map(|column| column.declared.clone()));
        format!("{table}.{column} {}", declared.unwrap_or_default()).trim_end().to_owned()
    }

    /// Keys that one end holds equal and the other does not.
    fn key_collations(&mut self, looked: &Looked) {
        let (mapping, place) = (&looked.mapping, place(&looked.mapping));
        for pair in unlike(mapping, &looked.root, &looked.table) {
            if pair.may_join() {
                self.survey.add(Level::Problem, &place, pair.what(), remedy(mapping));
            } else {
                let remedy = "give both the same COLLATE: else keys that are one at the source are several at the target";
                self.survey.add(Level::Warning, &place, pair.what(), remedy);
            }
        }
    }

    /// Keys that are NULL, or there more than once; of a large table those of its first rows.
    pub(super) fn null_keys(&mut self, looked: &Looked, limit: Option<u64>) -> Result<(), MigrateError> {
        let (mapping, place) = (&looked.mapping, place(&looked.mapping));
        let by_rowid =
            looked.root.integer_key().is_some_and(|column| mapping.root_key == [column.name.clone()]);
        if by_rowid {
            return Ok(());
        }
        let (root, keys) = (self.source.table(&mapping.root), list("", &mapping.root_key));
        let identity = looked.root.rowid.map_or_else(String::new, |rowid| format!("{rowid}, "));
        let rows = match limit {
            None => root,
            Some(limit) => format!("(SELECT {identity}{keys} FROM {root} LIMIT {limit})"),
        };
        let null: Vec<String> =
            mapping.root_key.iter().map(|name| format!("{} IS NULL", quote(name))).collect();
        let null = null.join(" OR ");
        let example = match looked.root.rowid {
            Some(rowid) => format!("'rowid ' || min({rowid})"),
            None => "''".to_owned(),
        };
        let sql = format!("SELECT count(*), {example} FROM {rows} WHERE {null}");
        let remedy = format!("give them a key: SELECT * FROM {} WHERE {null}", quote(&mapping.root));
        self.count(&place, &sql, "rows have NULL in the source key", &remedy)?;
        if self.survey.take(&place, looked.root.tells_apart(&mapping.root_key))?.is_some() {
            return Ok(());
        }
        let key: Vec<String> = mapping.root_key.iter().map(|name| quote(name)).collect();
        let shown: Vec<String> = key.iter().map(|name| format!("quote({name})")).collect();
        let sql = format!(
            "SELECT count(*), min(k) FROM (SELECT {} AS k FROM {rows} GROUP BY {keys} HAVING count(*) > 1)",
            shown.join(" || ', ' || ")
        );
        self.count(&place, &sql, "source keys are there more than once", "name a from_key that is unique")
    }

    /// A problem if a query counts anything.
    pub(super) fn count(
        &mut self,
        place: &str,
        sql: &str,
        what: &str,
        remedy: &str,
    ) -> Result<(), MigrateError> {
        let (count, example): (u64, Option<String>) =
            self.source.conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count > 0 {
            let example = example.unwrap_or_default();
            self.survey.add(Level::Problem, place, format!("{count} {what}, for example {example}"), remedy);
        }
        Ok(())
    }

    /// The source's columns that are not carried as they are.
    pub(super) fn left_out(&mut self) -> Result<(), MigrateError> {
        let stream = self.stream.clone();
        for (table, _) in stream.captured() {
            let known = Table::read(&self.source.conn, self.source.schema, &table)?;
            let is_carried = |column: &Column| {
                let is_it = |(of, name): &(String, String)| {
                    of.eq_ignore_ascii_case(&table) && name.eq_ignore_ascii_case(&column.name)
                };
                self.carried.iter().any(is_it)
            };
            let left = known.columns.into_iter().filter(|column| !is_carried(column));
            let left =
                left.map(|Column { name, declared, generated, .. }| LeftOver { name, declared, generated });
            let left: Vec<_> = left.collect();
            self.survey.left_over(&table, &readers(&stream, &table), left);
        }
        Ok(())
    }

    /// Values of other types than their columns declare, which SQLite stores as they are.
    pub(super) fn dynamic_types(&mut self, table: &str) -> Result<(), MigrateError> {
        let known = Table::read(&self.source.conn, self.source.schema, table)?;
        let limit = self.depth.limit(self.source.count(table)?);
        let typed = known.columns.iter().filter(|column| !column.generated);
        let typed: Vec<_> =
            typed.filter_map(|column| classes(&column.declared).map(|classes| (column, classes))).collect();
        let mut key: Vec<_> = known.columns.iter().filter(|column| column.key_part > 0).collect();
        key.sort_by_key(|column| column.key_part);
        let (named, key) = match key.is_empty() {
            true => ("rowid", known.identity()),
            false => ("key", key.iter().map(|column| quote(&column.name)).collect()),
        };
        let identity = key.iter().map(|part| format!("quote({part})")).collect::<Vec<_>>();
        let identity = identity.join(" || ', ' || ");
        for (column, classes) in typed {
            let name = quote(&column.name);
            // Of the rows only what is made of them, as a collation of the column's may be unknown here.
            let first = limit.map_or_else(String::new, |limit| format!(" LIMIT {limit}"));
            let rows = self.source.table(table);
            let sql = format!(
                "SELECT count(*), min(shown), group_concat(DISTINCT class) \
                 FROM (SELECT {identity} AS shown, typeof({name}) AS class FROM {rows}{first}) \
                 WHERE class NOT IN ('null', {classes})"
            );
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let (count, example, found): (u64, Option<String>, Option<String>) =
                self.source.conn.query_row(&sql, [], read)?;
            if count == 0 {
                continue;
            }
            let what = format!(
                "{count} rows hold {} in {} {}, for example that of {named} {}",
                found.unwrap_or_default(),
                column.name,
                column.declared,
                example.unwrap_or_default()
            );
            let remedy =
                "they are copied as they are if the target's column takes them; see the mapping's findings";
            self.survey.add(Level::Warning, format!("source {table}"), what, remedy);
        }
        Ok(())
    }

    /// Values that the target's unique indexes allow once.
    pub(super) fn uniques(&mut self, looked: &Looked, limit: Option<u64>) -> Result<(), MigrateError> {
        let (mapping, place) = (&looked.mapping, place(&looked.mapping));
        let skipped = row_width(mapping) - mapping.columns.len();
        let sources = (0..skipped).map(|at| format!("banyan_s{at}"));
        let names: Vec<String> = sources.chain(mapping.columns.iter().map(|name| quote(name))).collect();
        let select = self.select(looked, limit);
        let key = looked.table.integer_key().map(|column| quote(&column.name));
        for unique in &looked.table.uniques {
            // A name in quotes that is no column would be taken for a text.
            let term = |term: &String| match (&key, looked.table.rowid) {
                (Some(key), Some(rowid)) if term == rowid => key.clone(),
                _ if term.starts_with('"') => format!("m.{term}"),
                _ => term.clone(),
            };
            let terms: Vec<(String, &String)> =
                unique.terms.iter().map(|(name, collation)| (term(name), collation)).collect();
            if key.is_none() && terms.iter().any(|(name, _)| Some(name.as_str()) == looked.table.rowid) {
                continue;
            }
            let each = |make: &dyn Fn(&str, &str) -> String, between: &str| {
                terms.iter().map(|(term, collation)| make(term, collation)).collect::<Vec<_>>().join(between)
            };
            let sql = format!(
                "WITH m({}) AS (\n{select}\n) SELECT count(*), min(k) FROM (SELECT {} AS k FROM m WHERE ({}) AND {} \
                 GROUP BY {} HAVING count(*) > 1)",
                names.join(", "),
                each(&|term, _| format!("quote({term})"), " || ', ' || "),
                unique.condition.as_deref().unwrap_or("1"),
                each(&|term, _| format!("({term}) IS NOT NULL"), " AND "),
                each(&|term, collation| format!("({term}) COLLATE {}", quote(collation)), ", "),
            );
            let over = each(&|term, _| term.trim_start_matches("m.").to_owned(), ", ");
            if let Err(error) = self.source.conn.prepare(&sql) {
                let left_out =
                    looked.table.columns.iter().map(|column| column.name.as_str()).filter(|name| {
                        let is_read = |text: &str| mentions(text, name);
                        let filled = mapping.columns.iter().any(|filled| filled.eq_ignore_ascii_case(name));
                        !filled && (is_read(&over) || unique.condition.as_deref().is_some_and(is_read))
                    });
                let left_out = left_out.collect::<Vec<_>>().join(", ");
                let why = match left_out.as_str() {
                    "" => words(&error),
                    left_out => format!("the mapping does not fill {left_out}"),
                };
                let what = format!("whether its rows are unique by ({over}) was not looked at: {why}");
                self.survey.add(
                    Level::Note,
                    &*place,
                    what,
                    "see that what the mapping does not fill keeps them apart",
                );
                continue;
            }
            let what =
                format!("values are made more than once that the unique index over ({over}) allows once");
            self.count(&place, &sql, &what, "correct the rows at the source, or the mapping, or the index")?;
        }
        Ok(())
    }

    pub(super) fn try_rows(&mut self, looked: &Looked, limit: Option<u64>) -> Result<(), MigrateError> {
        let found = super::trial::run(self, looked, limit)?;
        for (level, what, remedy) in found {
            self.survey.add(level, place(&looked.mapping), what, remedy);
        }
        Ok(())
    }
}

/// The types that a declared type stands for, as a list for IN; nothing where any will do.
fn classes(declared: &str) -> Option<&'static str> {
    if declared.contains("INT") {
        Some("'integer'")
    } else if ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word)) {
        Some("'text'")
    } else if declared.contains("BLOB") {
        Some("'blob'")
    } else if ["REAL", "FLOA", "DOUB"].iter().any(|word| declared.contains(word)) {
        Some("'real'")
    } else {
        None
    }
}
