//! What an end's catalogue says of its tables: kind, partitions, and everything else that touches them.
//!
//! Invariant: one query per concern over all tables of the end; rows are not read.

use super::super::{catalog, sql};
use super::{Surveyor, named, oids};
use crate::engine::survey::{Level, Role};
use crate::error::MigrateError;

/// A relation's name, for the first column of findings.
const NAME: &str = "format('%I.%I', n.nspname, c.relname)";
const RELATION: &str = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace";

impl Surveyor {
    pub(super) fn tables(&mut self, role: Role, tables: &[String]) -> Result<(), MigrateError> {
        if tables.is_empty() {
            return Ok(());
        }
        for table in tables {
            self.add_size(role, table)?;
        }
        let list = oids(tables);
        self.kinds(role, tables)?;
        self.row_security(role, &list)?;
        self.views(role, &list)?;
        self.triggers_and_rules(role, tables, &list)?;
        self.publications(role, &list)
    }

    fn kinds(&mut self, role: Role, tables: &[String]) -> Result<(), MigrateError> {
        let tree = super::super::fingerprint::tree(tables);
        let foreign = format!(
            "WITH RECURSIVE {tree} SELECT {NAME}, CASE c.relkind WHEN 'f' THEN 'it is a foreign table, whose rows are \
               not this server''s' WHEN 'v' THEN 'it is a view' WHEN 'm' THEN 'it is a materialized view' \
               ELSE 'it is a temporary table' END, '' \
             FROM tree JOIN {RELATION} ON c.oid = tree.oid WHERE c.relkind NOT IN ('r', 'p') OR c.relpersistence = 't'"
        );
        self.add_each(role, &foreign, Level::Problem, |_| {
            "name the tables behind it in the mapping".to_owned()
        })?;
        let unlogged = format!(
            "WITH RECURSIVE {tree} SELECT {NAME}, 'it is unlogged: a crash of the server empties it without a trace', {NAME} \
             FROM tree JOIN {RELATION} ON c.oid = tree.oid WHERE c.relpersistence = 'u'"
        );
        self.add_each(role, &unlogged, Level::Warning, |name| format!("ALTER TABLE {name} SET LOGGED"))?;
        let parts = format!(
            "SELECT {NAME}, format('it has %s partitions or heirs, which are captured and filled with it', \
               (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = c.oid)), '' FROM {RELATION} \
             WHERE c.oid IN ({}) AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)",
            oids(tables)
        );
        let remedy = match role {
            Role::Source => "capture notices a partition that is added; run `migrate capture install` then",
            Role::Target => "see that a partition takes every row: a row without one stops the copy",
        };
        self.add_each(role, &parts, Level::Note, |_| remedy.to_owned())
    }

    fn row_security(&mut self, role: Role, list: &str) -> Result<(), MigrateError> {
        let hidden = format!(
            "SELECT {NAME}, CASE WHEN row_security_active(c.oid) THEN 'row security hides rows of it from the role that \
               migrate connects as' ELSE 'it has row security, which does not concern the role that migrate connects as' \
             END, CASE WHEN row_security_active(c.oid) THEN format('ALTER ROLE %I BYPASSRLS', current_user) END \
             FROM {RELATION} WHERE c.oid IN ({list}) AND c.relrowsecurity"
        );
        let rows = self.end(role).rows(&hidden)?;
        for row in &rows {
            let text = |at| row.get(at).unwrap_or_default();
            let level = if text(2).is_empty() { Level::Note } else { Level::Problem };
            self.survey.add(level, format!("{role} {}", text(0)), text(1), text(2));
        }
        Ok(())
    }

    fn views(&mut self, role: Role, list: &str) -> Result<(), MigrateError> {
        let reading = format!(
            "SELECT DISTINCT {}, format('the %s %s.%s reads it', \
               CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, quote_ident(n.nspname), \
               quote_ident(c.relname)), c.relkind::text \
             FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass \
             JOIN {RELATION} ON c.oid = w.ev_class WHERE d.refclassid = 'pg_class'::regclass \
             AND d.refobjid IN ({list}) AND c.oid <> d.refobjid AND c.relkind IN ('v', 'm') ORDER BY 1, 2",
            named("d.refobjid")
        );
        self.add_each(role, &reading, Level::Note, |kind| match (role, kind) {
            (Role::Source, _) => "it stays behind: see who reads it before the cut-over".to_owned(),
            (Role::Target, "m") => "REFRESH it when the copy has ended".to_owned(),
            (Role::Target, _) => String::new(),
        })
    }

    fn triggers_and_rules(&mut self, role: Role, tables: &[String], list: &str) -> Result<(), MigrateError> {
        let triggers = format!(
            "SELECT {NAME}, format('the trigger %I calls %s', t.tgname, t.tgfoid::regproc), '' FROM pg_trigger t \
             JOIN {RELATION} ON c.oid = t.tgrelid WHERE t.tgrelid IN ({list}) AND NOT t.tgisinternal AND t.tgparentid = 0 \
             AND t.tgname NOT LIKE 'banyan\\_%' AND t.tgenabled = 'O' ORDER BY 1, 2"
        );
        let remedy = match role {
            Role::Source => "what it writes to captured tables is copied; other effects stay at the source",
            Role::Target => "it does not fire for copied rows: what it would do must come from the mapping",
        };
        let level = if role == Role::Source { Level::Note } else { Level::Warning };
        self.add_each(role, &triggers, level, |_| remedy.to_owned())?;
        let rules = format!(
            "SELECT {NAME}, format('the rule %I rewrites writes to it', w.rulename), w.ev_enabled::text FROM pg_rewrite w \
             JOIN {RELATION} ON c.oid = w.ev_class WHERE w.ev_class IN ({list}) AND w.rulename <> '_RETURN' \
             AND w.ev_enabled <> 'D'"
        );
        self.add_each(role, &rules, Level::Warning, |enabled| match (role, enabled) {
            (Role::Source, _) => "rows that it writes elsewhere are logged only where they land".to_owned(),
            (Role::Target, "A" | "R") => "it fires for copied rows, too: disable it while copying".to_owned(),
            (Role::Target, _) => "it does not fire for copied rows".to_owned(),
        })?;
        if role == Role::Source {
            return Ok(());
        }
        for table in tables {
            let (place, regclass) = (format!("{role} {table}"), format!("{}::regclass", sql::value(table)));
            let always = catalog::refuse_always_triggers(&mut self.target, table, &regclass);
            self.survey.take(&place, always)?;
        }
        Ok(())
    }

    fn publications(&mut self, role: Role, list: &str) -> Result<(), MigrateError> {
        let faceless = "(c.relreplident = 'n' OR (c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i \
             WHERE i.indrelid = c.oid AND i.indisprimary)))";
        let published = format!(
            "SELECT {NAME}, format('the publication %I sends its rows%s', p.pubname, CASE WHEN {faceless} \
               THEN ', and it has no replica identity: UPDATE and DELETE are refused' END), \
               ({faceless} AND (p.pubupdate OR p.pubdelete))::int::text \
             FROM pg_publication_tables s JOIN pg_publication p ON p.pubname = s.pubname \
             JOIN {RELATION} ON n.nspname = s.schemaname AND c.relname = s.tablename WHERE c.oid IN ({list}) ORDER BY 1, 2"
        );
        let rows = self.end(role).rows(&published)?;
        for row in &rows {
            let text = |at| row.get(at).unwrap_or_default();
            let (level, remedy) = match (role, text(2)) {
                (Role::Target, "1") => (
                    Level::Problem,
                    format!("ALTER TABLE {} REPLICA IDENTITY FULL, or add a primary key", text(0)),
                ),
                (Role::Target, _) => (
                    Level::Note,
                    "subscribers receive every copied row; see that they can take them".to_owned(),
                ),
                (Role::Source, _) => (Level::Note, String::new()),
            };
            self.survey.add(level, format!("{role} {}", text(0)), text(1), remedy);
        }
        Ok(())
    }
}
