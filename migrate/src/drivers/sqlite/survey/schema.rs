//! What else touches an end's tables: views, triggers, foreign keys, and kinds of tables.
//!
//! Invariant: only schemas are read, and rows are counted.

use super::super::bookkeeping::{fires, foreign_triggers};
use super::super::sql::quote;
use super::Surveyor;
use crate::engine::survey::{ForeignKey, Level, Role, judge_foreign_keys, mentions};
use crate::error::MigrateError;

impl Surveyor<'_> {
    pub(super) fn touching(&mut self, role: Role, tables: &[String]) -> Result<(), MigrateError> {
        for table in tables {
            self.add_size(role, table)?;
            self.kind(role, table)?;
            self.triggers(role, table)?;
        }
        self.readers(role, tables)
    }

    fn kind(&mut self, role: Role, table: &str) -> Result<(), MigrateError> {
        let end = self.end(role);
        let sql = "SELECT wr, strict FROM pragma_table_list(?1) WHERE schema = ?2";
        let (bare, strict): (bool, bool) =
            end.conn.query_row(sql, [table, end.schema], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let place = format!("{role} {table}");
        if bare {
            let what = "it is WITHOUT ROWID: its primary key tells its rows apart";
            self.survey.add(Level::Note, &*place, what, "");
        }
        if strict {
            let what = "it is STRICT: it holds values of the declared types only";
            self.survey.add(Level::Note, &*place, what, "");
        }
        Ok(())
    }

    fn triggers(&mut self, role: Role, table: &str) -> Result<(), MigrateError> {
        let end = self.end(role);
        let triggers = foreign_triggers(&end.conn, end.schema, table)?;
        let place = format!("{role} {table}");
        for trigger in &triggers {
            if role == Role::Target {
                self.survey.take::<()>(&place, Err(fires(trigger, table)))?;
                continue;
            }
            let what = format!("the trigger {trigger} runs when it is written");
            let remedy = "what it writes to captured tables is copied; other effects stay at the source";
            self.survey.add(Level::Note, &*place, what, remedy);
        }
        if role == Role::Source && !triggers.is_empty() {
            let what = "whether its triggers fire for rows that REPLACE displaces is decided by recursive_triggers of \
                 each connection of the application; capture logs them either way";
            self.survey.add(Level::Note, place, what, "");
        }
        Ok(())
    }

    /// Views, and triggers on other tables, that name a table.
    fn readers(&mut self, role: Role, tables: &[String]) -> Result<(), MigrateError> {
        let end = self.end(role);
        let mut statement = end.conn.prepare(&format!(
            "SELECT type, name, tbl_name, sql FROM {}.sqlite_schema WHERE type IN ('view', 'trigger') \
             AND name NOT LIKE 'banyan:%' ORDER BY name",
            quote(end.schema)
        ))?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok::<(String, String, String, String), _>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        };
        let found = statement.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
        drop(statement);
        for (kind, name, of, sql) in &found {
            let own = |table: &&String| kind == "trigger" && table.eq_ignore_ascii_case(of);
            for table in tables.iter().filter(|table| !own(table) && mentions(sql, table)) {
                let place = format!("{role} {table}");
                let on = if kind == "trigger" { format!(" on {of}") } else { String::new() };
                let what = format!("the {kind} {name}{on} names it");
                let remedy = match role {
                    Role::Source => "it stays behind: see who relies on it before the cut-over",
                    Role::Target => "",
                };
                self.survey.add(Level::Note, place, what, remedy);
            }
        }
        Ok(())
    }

    pub(super) fn foreign_keys(
        &mut self,
        role: Role,
        tables: &[String],
        partly: &[String],
    ) -> Result<(), MigrateError> {
        let end = self.end(role);
        let mut statement = end.conn.prepare(&format!(
            "SELECT s.name, k.\"table\", group_concat(k.\"from\", ', '), k.on_delete, k.on_update, \
               s.sql LIKE '%DEFERRABLE%INITIALLY%DEFERRED%' \
             FROM {}.sqlite_schema AS s, pragma_foreign_key_list(s.name, ?1) AS k \
             WHERE s.type = 'table' GROUP BY s.name, k.id ORDER BY s.name, k.id",
            quote(end.schema)
        ))?;
        let spelt = |name: String| {
            tables.iter().find(|table| table.eq_ignore_ascii_case(&name)).cloned().unwrap_or(name)
        };
        let read = |row: &rusqlite::Row<'_>| {
            let (delete, update): (String, String) = (row.get(3)?, row.get(4)?);
            let deferred = match row.get(5)? {
                true => "keys of its table are DEFERRABLE",
                false => "NOT DEFERRABLE",
            };
            Ok(ForeignKey {
                name: format!("({})", row.get::<_, String>(2)?),
                child: spelt(row.get(0)?),
                parent: spelt(row.get(1)?),
                nature: format!("ON DELETE {delete}, ON UPDATE {update}, {deferred}"),
            })
        };
        let keys = statement.query_map([end.schema], read)?.collect::<Result<Vec<_>, _>>()?;
        drop(statement);
        let touching = |key: &ForeignKey| tables.contains(&key.child) || tables.contains(&key.parent);
        let keys: Vec<ForeignKey> = keys.into_iter().filter(touching).collect();
        judge_foreign_keys(&mut self.survey, role, &keys, tables, partly);
        Ok(())
    }
}
