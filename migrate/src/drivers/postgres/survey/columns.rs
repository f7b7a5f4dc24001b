//! Columns: what the select yields, what the target's columns hold, and which nobody carries.
//!
//! Invariant: what a run would refuse about a column is asked of the very checks that refuse it.

use platform::error::chain;

use super::super::collation::{remedy, unlike};
use super::super::reads::Reads;
use super::super::types::Type;
use super::super::{catalog, shape, sql};
use super::{Looked, Silence, Surveyor, place, silence};
use crate::engine::Mapping;
use crate::engine::survey::{ColumnFate, Fate, GENERATED, LeftOver, Level, Role, readers};
use crate::error::MigrateError;

/// A filled column that is there at both ends.
pub(super) struct Filled {
    pub(super) name: String,
    /// What the select yields.
    pub(super) from: Type,
    /// What the target holds.
    pub(super) to: Type,
    /// The target's type with its length, as it can be cast to.
    pub(super) declared: String,
    /// The length, precision or the like, as the catalogue encodes it.
    pub(super) modifier: i32,
    pub(super) not_null: bool,
}

/// A column of the target's table.
struct Stored {
    name: String,
    oid: u32,
    declared: String,
    modifier: i32,
    not_null: bool,
    /// It gets a value by itself.
    supplied: bool,
    generated: bool,
}

/// A column of a source's table, with its place.
struct Read {
    left: LeftOver,
    origin: (u32, i16),
}

impl Surveyor {
    pub(super) fn columns(&mut self, looked: &Looked) -> Result<Vec<Filled>, MigrateError> {
        let mapping = &looked.mapping;
        let named = place(mapping);
        self.target_checks(looked)?;
        let itself = shape::refuse_itself(&mut self.source, &mut self.target, mapping, &looked.table);
        self.survey.take(&named, itself)?;
        let regclass = format!("{}::regclass", sql::value(&looked.table));
        let stored = self.stored(&regclass)?;
        let yielded =
            match self.source.client.prepare(&sql::fill(&mapping.select, "keys", |_| "TRUE".into())?) {
                Ok(_) => shape::select_columns(&mut self.source, mapping),
                Err(error) => match silence(&self.source, error)? {
                    Silence::Late => Ok(Vec::new()),
                    Silence::Broken(words) => Err(MigrateError::refused(
                        format!("its select cannot be run: {words}"),
                        "correct the select, or grant what it lacks",
                    )),
                },
            };
        let yielded = self.survey.take(&named, yielded)?.unwrap_or_default();
        if !yielded.is_empty() {
            self.reads(mapping)?;
        }
        let mut filled = Vec::new();
        for column in &stored {
            let at = mapping.columns.iter().position(|name| *name == column.name);
            if at.is_none() {
                self.unfilled(looked, column);
            }
            let Some(made) = at.and_then(|at| yielded.get(at)) else { continue };
            let to = Type::look_up(&mut self.target, &[column.oid])?;
            let Some(to) = to.into_iter().next() else { continue };
            let what = format!("{}.{}", mapping.table, column.name);
            let cast = made.kind.check_cast(&to, &what);
            self.survey.take(&named, cast)?;
            let origin = made.origin.filter(|_| made.kind.base == to.base);
            self.carried.extend(made.origin);
            let from = self.origin(made.origin)?.unwrap_or_else(|| made.kind.name.clone());
            self.survey.columns.push(ColumnFate {
                end: Role::Target,
                table: looked.table.clone(),
                column: column.name.clone(),
                declared: column.declared.clone(),
                fate: if origin.is_some() { Fate::Carried } else { Fate::Computed },
                from,
            });
            filled.push(Filled {
                name: column.name.clone(),
                from: made.kind.clone(),
                to,
                declared: column.declared.clone(),
                modifier: column.modifier,
                not_null: column.not_null,
            });
        }
        self.key_types(looked, &filled)?;
        self.collations(looked)?;
        Ok(filled)
    }

    /// Keys that are one at the source and may be several at the target: of those the log names one.
    fn key_types(&mut self, looked: &Looked, filled: &[Filled]) -> Result<(), MigrateError> {
        let Mapping { root_key, carries, .. } = &looked.mapping;
        for (from, to) in root_key.iter().zip(carries) {
            let types = shape::root_key_types(&mut self.source, &looked.root, std::slice::from_ref(from));
            let (Ok(types), Some(held)) = (types, filled.iter().find(|column| column.name == *to)) else {
                continue;
            };
            let apart = |kind: &&Type| {
                let one_spelling = kind.is_exact() || kind.is_text() || !kind.labels.is_empty();
                !one_spelling && kind.base != held.to.base
            };
            if let Some(kind) = types.iter().find(apart) {
                let what = format!(
                    "values that are equal as {}, the type of the key {from} at the source, may be several as {}, that of {to}",
                    kind.base, held.to.base
                );
                let remedy = "give both one type: else a key that is written anew in another spelling (1.0, 1.00) leaves the old row";
                self.survey.add(Level::Warning, place(&looked.mapping), what, remedy);
            }
        }
        Ok(())
    }

    /// What a run would refuse about what the select reads and calls.
    fn reads(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        let named = place(mapping);
        match Reads::of(&mut self.source, mapping) {
            Ok(reads) => self.survey.take(&named, reads.check(mapping)).map(drop),
            Err(error @ MigrateError::Unreachable { .. }) => Err(error),
            Err(error) => {
                let what = format!("which tables its select reads could not be asked: {}", chain(&error));
                self.survey.add(Level::Warning, named, what, "see that each of them is its root or a join");
                Ok(())
            }
        }
    }

    /// What a run would refuse about the table and its key, all of it.
    fn target_checks(&mut self, looked: &Looked) -> Result<(), MigrateError> {
        let (mapping, table) = (&looked.mapping, &looked.table);
        let (named, regclass) = (place(mapping), format!("{}::regclass", sql::value(table)));
        let kind = catalog::check_kind(&mut self.target, table, &regclass);
        self.survey.take(&named, kind)?;
        let attributes = catalog::attributes(&mut self.target, &regclass)?;
        for column in &mapping.key {
            self.survey.take(&named, catalog::check_key_column(table, column, &attributes))?;
        }
        for column in &mapping.columns {
            self.survey.take(&named, catalog::filled_column(table, mapping, column, &attributes))?;
        }
        let uniques = catalog::uniques(&mut self.target, table)?;
        self.survey.take(&named, catalog::check_key_index(table, mapping, &uniques))?;
        for column in &mapping.root_key {
            let key = std::slice::from_ref(column);
            let types = shape::root_key_types(&mut self.source, &looked.root, key);
            self.survey.take(&named, types)?;
        }
        let strays = mapping.key.iter().chain(&mapping.carries);
        for stray in strays.filter(|column| !mapping.columns.contains(column)) {
            let what = format!("it does not fill {stray}, by which it finds rows");
            self.survey.add(Level::Problem, &*named, what, "add it to its columns and its select");
        }
        Ok(())
    }

    fn unfilled(&mut self, looked: &Looked, column: &Stored) {
        let place = format!("target {}", looked.table);
        if column.not_null && !column.supplied {
            let what = format!(
                "{} must have a value and has no default, and the mapping does not fill it",
                column.name
            );
            self.survey.add(Level::Problem, place, what, "fill it, give it a default, or let it be NULL");
        }
        self.survey.columns.push(ColumnFate {
            end: Role::Target,
            table: looked.table.clone(),
            column: column.name.clone(),
            declared: column.declared.clone(),
            fate: Fate::LeftOut,
            from: if column.generated { GENERATED.to_owned() } else { String::new() },
        });
    }

    fn stored(&mut self, regclass: &str) -> Result<Vec<Stored>, MigrateError> {
        let rows = self.target.rows(&format!(
            "SELECT a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod), \
               CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, (a.attnotnull OR t.typnotnull)::int, \
               (a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' OR t.typdefault IS NOT NULL)::int, \
               (a.attgenerated <> '')::int \
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             WHERE a.attrelid = {regclass} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ))?;
        let read = |row: &postgres::SimpleQueryRow| {
            let text = |at| row.get(at).unwrap_or_default();
            Stored {
                name: text(0).to_owned(),
                oid: text(1).parse().unwrap_or(0),
                declared: text(2).to_owned(),
                modifier: text(3).parse().unwrap_or(-1),
                not_null: text(4) == "1",
                supplied: text(5) == "1",
                generated: text(6) == "1",
            }
        };
        Ok(rows.iter().map(read).collect())
    }

    fn origin(&mut self, origin: Option<(u32, i16)>) -> Result<Option<String>, MigrateError> {
        let Some((table, at)) = origin else { return Ok(None) };
        self.source.text(&format!(
            "SELECT format('%s.%I %s', attrelid::regclass, attname, format_type(atttypid, atttypmod)) \
             FROM pg_attribute WHERE attrelid = {table} AND attnum = {at}"
        ))
    }

    /// Keys of texts that the two ends order, or hold equal, by other rules.
    fn collations(&mut self, looked: &Looked) -> Result<(), MigrateError> {
        let (mapping, place) = (&looked.mapping, place(&looked.mapping));
        for pair in unlike(&mut self.source, &mut self.target, mapping, &looked.root, &looked.table)? {
            if pair.may_join() {
                self.survey.add(Level::Problem, &place, pair.what(), remedy(mapping));
                continue;
            }
            let buckets =
                "verification goes by buckets of hashes then, which reads more; one collation spares that";
            self.survey.add(Level::Note, &place, pair.what(), buckets);
            if pair.may_part() {
                let what = format!("{}, and the source's holds different texts equal", pair.what());
                let remedy = "give both the same COLLATE: else keys that are one at the source are several at the target";
                self.survey.add(Level::Warning, &place, what, remedy);
            }
        }
        Ok(())
    }

    /// The source's columns that are not carried as they are.
    pub(super) fn left_out(&mut self) -> Result<(), MigrateError> {
        let stream = self.stream.clone();
        for (table, _) in stream.captured() {
            let name = self.source.qualified(&table)?;
            let mut columns = self.read(&name)?;
            columns.retain(|column| !self.carried.contains(&column.origin));
            let columns = columns.into_iter().map(|column| column.left);
            self.survey.left_over(&name, &readers(&stream, &table), columns);
        }
        Ok(())
    }

    fn read(&mut self, table: &str) -> Result<Vec<Read>, MigrateError> {
        let rows = self.source.rows(&format!(
            "SELECT attname, format_type(atttypid, atttypmod), attrelid::int8, attnum, (attgenerated <> '')::int \
             FROM pg_attribute \
             WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            sql::value(table)
        ))?;
        let read = |row: &postgres::SimpleQueryRow| {
            let text = |at| row.get(at).unwrap_or_default();
            let origin = (text(2).parse().unwrap_or(0), text(3).parse().unwrap_or(0));
            let (name, declared) = (text(0).to_owned(), text(1).to_owned());
            Read { left: LeftOver { name, declared, generated: text(4) == "1" }, origin }
        };
        Ok(rows.iter().map(read).collect())
    }
}
