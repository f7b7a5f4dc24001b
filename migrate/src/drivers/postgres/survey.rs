//! What `plan` looks at in two PostgreSQL databases.
//!
//! Invariant: both sessions are read-only and their statements end after a few seconds (those that read whole tables
//! after the driver's limit); what a role may not see, or what fails, is a finding and hides nothing else.

mod columns;
mod orphans;
mod rows;
mod standing;
mod tables;

use std::time::Duration;

use postgres::error::SqlState;

use super::PostgresDriver;
use super::connection::{Connection, column};
use super::fault::words;
use super::sql;
use crate::engine::survey::{
    Depth, ForeignKey, Level, Role, Survey, SurveyDriver, TableSize, judge_foreign_keys,
};
use crate::engine::way_back::leaves_rows;
use crate::engine::{Mapping, Stream};
use crate::error::MigrateError;

/// How long a query of the catalogue, or of a sample, may take.
const SHORT: Duration = Duration::from_secs(10);

/// One survey.
struct Surveyor {
    source: Connection,
    target: Connection,
    /// The mappings whose tables are all there.
    stream: Stream,
    depth: Depth,
    /// Source columns that pass into some column as they are: table and place in it.
    carried: Vec<(u32, i16)>,
    survey: Survey,
}

/// A mapping with its tables' names as the servers know them.
struct Looked {
    mapping: Mapping,
    /// The root, qualified.
    root: String,
    /// The table filled, qualified.
    table: String,
    /// Rows of the root, roughly.
    keys: u64,
}

impl SurveyDriver for PostgresDriver {
    fn survey(&self, stream: &Stream, depth: Depth) -> Result<Survey, MigrateError> {
        let (mut source, mut target) = (self.source.open("plan")?, self.target.open("plan")?);
        let milliseconds = SHORT.as_millis();
        let opening =
            format!("SET default_transaction_read_only = on; SET statement_timeout = {milliseconds}");
        source.run(&opening)?;
        target.run(&opening)?;
        let stream = stream.clone();
        let mut surveyor =
            Surveyor { source, target, stream, depth, carried: Vec::new(), survey: Survey::default() };
        surveyor.look(self.source.options.statement)?;
        Ok(surveyor.survey)
    }
}

impl Surveyor {
    fn look(&mut self, whole: Duration) -> Result<(), MigrateError> {
        let looked = self.find_tables()?;
        self.stream.mappings = looked.iter().map(|looked| looked.mapping.clone()).collect();
        self.standing(whole)?;
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for (table, _) in self.stream.captured() {
            sources.push(self.source.qualified(&table)?);
        }
        targets.extend(looked.iter().map(|looked| looked.table.clone()));
        self.tables(Role::Source, &sources)?;
        self.tables(Role::Target, &targets)?;
        self.waits(&sources)?;
        for looked in &looked {
            let columns = self.columns(looked)?;
            self.rows(looked, &columns, whole)?;
        }
        self.orphans(&looked)?;
        self.left_out()?;
        let partly = looked.iter().filter(|looked| leaves_rows(&looked.mapping, &self.stream.forward));
        let partly: Vec<String> = partly.map(|looked| looked.table.clone()).collect();
        self.foreign_keys(Role::Source, &sources, &[])?;
        self.foreign_keys(Role::Target, &targets, &partly)
    }

    /// The mappings whose tables are there, and a problem for each that is not.
    fn find_tables(&mut self) -> Result<Vec<Looked>, MigrateError> {
        let mut found = Vec::new();
        for mapping in self.stream.mappings.clone() {
            let place = place(&mapping);
            let table = self.target.qualified(&mapping.table);
            let table = self.survey.take(&place, table)?;
            let root = self.source.qualified(&mapping.root);
            let root = self.survey.take(&place, root)?;
            let mut joined = true;
            for join in &mapping.joins {
                let name = self.source.qualified(&join.table);
                joined &= self.survey.take(&place, name)?.is_some();
            }
            if let (Some(table), Some(root), true) = (table, root, joined) {
                let keys = self.keys(&root)?;
                found.push(Looked { mapping, root, table, keys });
            }
        }
        Ok(found)
    }

    /// A table's rows: counted if they are few, as statistics may be missing, else as the statistics say.
    fn keys(&mut self, table: &str) -> Result<u64, MigrateError> {
        let (estimated, _) = size(&mut self.source, table)?;
        if estimated > Depth::SMALL {
            return Ok(estimated);
        }
        match self.source.try_rows(&format!("SELECT count(*) FROM {table}")) {
            Ok(rows) => Ok(rows.first().and_then(|row| row.get(0)?.parse().ok()).unwrap_or(estimated)),
            Err(error) => silence(&self.source, error).map(|_| estimated),
        }
    }

    fn end(&mut self, role: Role) -> &mut Connection {
        match role {
            Role::Source => &mut self.source,
            Role::Target => &mut self.target,
        }
    }

    /// Adds one finding per text that a query of an end gives.
    fn add_each(
        &mut self,
        role: Role,
        query: &str,
        level: Level,
        remedy: impl Fn(&str) -> String,
    ) -> Result<(), MigrateError> {
        let rows = self.end(role).rows(query)?;
        for row in &rows {
            let place = format!("{role} {}", column(row, 0));
            self.survey.add(level, place.trim_end(), column(row, 1), remedy(column(row, 2)));
        }
        Ok(())
    }

    fn foreign_keys(&mut self, role: Role, tables: &[String], partly: &[String]) -> Result<(), MigrateError> {
        if tables.is_empty() {
            return Ok(());
        }
        let action = |column: &str| {
            format!(
                "CASE {column} WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' \
                 WHEN 'r' THEN 'RESTRICT' ELSE 'NO ACTION' END"
            )
        };
        // What inherits from a table is filled and captured with it.
        let of = |oid: &str| {
            format!(
                "coalesce((SELECT o.root FROM ours o WHERE o.oid = {oid} ORDER BY o.root <> o.oid LIMIT 1), {oid})"
            )
        };
        let query = format!(
            "WITH RECURSIVE ours(oid, root) AS (SELECT c.oid, c.oid FROM pg_class c WHERE c.oid IN ({}) \
               UNION SELECT i.inhrelid, o.root FROM pg_inherits i JOIN ours o ON i.inhparent = o.oid) \
             SELECT quote_ident(k.conname), {}, {}, concat('ON DELETE ', {}, ', ON UPDATE ', {}, ', ', \
               CASE WHEN k.condeferred THEN 'DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable THEN 'DEFERRABLE' \
               ELSE 'NOT DEFERRABLE' END, CASE WHEN NOT k.convalidated THEN ', NOT VALID' END) \
             FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 \
             AND EXISTS (SELECT FROM ours o WHERE o.oid IN (k.conrelid, k.confrelid)) ORDER BY 1",
            oids(tables),
            named(&of("k.conrelid")),
            named(&of("k.confrelid")),
            action("k.confdeltype"),
            action("k.confupdtype"),
        );
        let rows = self.end(role).rows(&query)?;
        let key = |row| ForeignKey {
            name: column(row, 0).to_owned(),
            child: column(row, 1).to_owned(),
            parent: column(row, 2).to_owned(),
            nature: column(row, 3).to_owned(),
        };
        let keys: Vec<ForeignKey> = rows.iter().map(key).collect();
        judge_foreign_keys(&mut self.survey, role, &keys, tables, partly);
        Ok(())
    }

    fn add_size(&mut self, role: Role, table: &str) -> Result<(), MigrateError> {
        let (rows, bytes) = size(self.end(role), table)?;
        self.survey.tables.push(TableSize { end: role, table: table.to_owned(), rows, bytes });
        Ok(())
    }
}

/// How a mapping is named in findings.
fn place(mapping: &Mapping) -> String {
    format!("mapping {}", mapping.table)
}

/// The qualified name of a relation's number.
fn named(oid: &str) -> String {
    format!(
        "(SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid})"
    )
}

/// Qualified tables as numbers for IN.
fn oids(tables: &[String]) -> String {
    let each: Vec<String> = tables.iter().map(|table| format!("{}::regclass", sql::value(table))).collect();
    if each.is_empty() { "NULL".to_owned() } else { each.join(", ") }
}

/// About how many rows and bytes a table and all its partitions hold.
fn size(connection: &mut Connection, table: &str) -> Result<(u64, u64), MigrateError> {
    let rows = connection.rows(&format!(
        "WITH RECURSIVE {} SELECT coalesce(sum(CASE WHEN c.reltuples > 0 THEN c.reltuples \
           ELSE pg_relation_size(c.oid) / 100 END)::bigint, 0), coalesce(sum(pg_total_relation_size(c.oid))::bigint, 0) \
         FROM tree JOIN pg_class c ON c.oid = tree.oid WHERE c.relkind = 'r'",
        super::fingerprint::tree(&[table.to_owned()])
    ))?;
    let number =
        |at| rows.first().and_then(|row| row.get(at)).and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok((number(0), number(1)))
}

/// Why a query of data gave no answer.
enum Silence {
    /// It took too long.
    Late,
    /// Its data or its words are such that it cannot be answered.
    Broken(String),
}

/// Tells a query that failed because of what it asks from a server that went away.
fn silence(connection: &Connection, error: postgres::Error) -> Result<Silence, MigrateError> {
    let Some(told) = error.as_db_error() else { return Err(connection.fault(error)) };
    if told.code() == &SqlState::QUERY_CANCELED {
        return Ok(Silence::Late);
    }
    // A plan's session writes nothing, not even a sequence or a lock of a row, which a select may want to.
    if told.code() == &SqlState::READ_ONLY_SQL_TRANSACTION {
        return Ok(Silence::Broken(words(told)));
    }
    let class = told.code().code().get(..2).unwrap_or_default();
    match class {
        // Data, syntax and access, a feature that is missing, a broken external routine.
        "22" | "42" | "0A" | "38" | "39" | "P0" | "XX" => Ok(Silence::Broken(words(told))),
        _ => Err(connection.fault(error)),
    }
}
