//! What is true of the two servers: privileges, capture, publications, and who would have to be waited for.
//!
//! Invariant: only the catalogue and the lists of sessions and locks are read.

use std::time::Duration;

use super::super::{capture, log, privileges};
use super::{Surveyor, oids};
use crate::engine::survey::{Level, Role};
use crate::error::MigrateError;

impl Surveyor {
    pub(super) fn standing(&mut self, whole: Duration) -> Result<(), MigrateError> {
        let at_source = privileges::missing_at_source(&mut self.source, &self.stream)?;
        let mut at_target = privileges::missing_at_target(&mut self.target, &self.stream)?;
        at_target.extend(self.missing_for_loading(at_target.is_empty())?);
        for (role, mut missing) in [(Role::Source, at_source), (Role::Target, at_target)] {
            missing.dedup();
            if missing.is_empty() {
                self.survey.add(Level::Ok, role.to_string(), "its role has every privilege needed", "");
            }
            for grant in missing {
                let what = "the role that migrate connects as lacks a privilege";
                self.survey.add(Level::Problem, role.to_string(), what, format!("run there: {grant}"));
            }
        }
        self.capture()?;
        self.timeouts(whole)?;
        self.publications_of_all()
    }

    /// Only an empty target is loaded without its indexes. What may not be read is empty if it takes no room.
    fn missing_for_loading(&mut self, readable: bool) -> Result<Vec<String>, MigrateError> {
        let mut tables = Vec::new();
        for mapping in &self.stream.mappings {
            let table = self.target.qualified(&mapping.table)?;
            let rows = match readable {
                true => format!("EXISTS (SELECT FROM {table})"),
                false => format!("pg_relation_size({}) > 0", super::sql::value(&table)),
            };
            if self.target.holds(&rows)? {
                return Ok(Vec::new());
            }
            tables.push(table);
        }
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        privileges::missing_for_loading(&mut self.target, &tables)
    }

    fn capture(&mut self) -> Result<(), MigrateError> {
        let state = capture::state(&mut self.source, &self.stream)?;
        if !state.installed {
            let next = "`migrate capture install` comes next";
            self.survey.add(Level::Ok, "source", "capture is not installed", next);
            return Ok(());
        }
        for fault in &state.faults {
            let remedy = "run `migrate capture install`; changes may have gone unlogged, so copy anew";
            self.survey.add(Level::Problem, "source", format!("capture is not whole: {fault}"), remedy);
        }
        let (rows, bytes) = log::size(&mut self.source, &self.stream)?;
        let what = format!("capture is installed, its log holds about {rows} rows, {} KiB", bytes >> 10);
        self.survey.add(Level::Ok, "source", what, "");
        Ok(())
    }

    fn timeouts(&mut self, whole: Duration) -> Result<(), MigrateError> {
        let lock = self.source.text("SHOW lock_timeout")?.unwrap_or_default();
        let what = format!(
            "capture install waits {lock} at most for each lock, ten times, and writers queue behind it for as long; \
             a statement may take {} s",
            whole.as_secs()
        );
        self.survey.add(Level::Ok, "source", what, "");
        for role in [Role::Source, Role::Target] {
            let limit =
                self.end(role).text("SELECT nullif(current_setting('transaction_timeout', true), '0')")?;
            let Some(limit) = limit.filter(|limit| !limit.is_empty()) else { continue };
            self.survey.add(
                Level::Warning,
                role.to_string(),
                format!("transaction_timeout is {limit}: a chunk or an index that takes longer is ended"),
                "ALTER ROLE … SET transaction_timeout = 0 for the role that migrate connects as",
            );
        }
        Ok(())
    }

    /// Logs have no replica identity, so a publication of everything would refuse to prune them.
    fn publications_of_all(&mut self) -> Result<(), MigrateError> {
        let query = "SELECT '', format('the publication %I is FOR ALL TABLES: rows of the log, which has no replica \
             identity, could not be deleted', pubname), '' \
             FROM pg_publication WHERE puballtables AND (pubupdate OR pubdelete)";
        for role in [Role::Source, Role::Target] {
            self.add_each(role, query, Level::Problem, |_| {
                "name its tables in the publication, or publish inserts only".to_owned()
            })?;
        }
        Ok(())
    }

    /// Transactions whose locks the triggers of capture would wait for.
    pub(super) fn waits(&mut self, tables: &[String]) -> Result<(), MigrateError> {
        if tables.is_empty() {
            return Ok(());
        }
        let modes = "l.locktype = 'relation' AND l.granted AND l.database = (SELECT oid FROM pg_database \
             WHERE datname = current_database()) AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')";
        let list = oids(tables);
        let running = format!(
            "SELECT string_agg(DISTINCT l.relation::regclass::text, ', '), format('a transaction of session %s (%s, %s), \
               open for %s s, keeps writers'' locks: capture install waits for it', a.pid, a.usename, \
               coalesce(nullif(a.application_name, ''), 'unnamed'), extract(epoch FROM now() - a.xact_start)::int), \
               a.pid::text \
             FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE {modes} AND l.relation IN ({list}) \
             AND l.pid <> pg_backend_pid() AND a.backend_type = 'client backend' GROUP BY a.pid, a.usename, a.application_name, a.xact_start"
        );
        self.add_each(Role::Source, &running, Level::Warning, |pid| {
            format!("let it end, or SELECT pg_terminate_backend({pid})")
        })?;
        let prepared = format!(
            "SELECT string_agg(DISTINCT l.relation::regclass::text, ', '), format('the prepared transaction %L of %s, \
               from %s, keeps its locks until it is ended: capture install waits for it', p.gid, p.owner, p.prepared), \
               quote_literal(p.gid) \
             FROM pg_prepared_xacts p JOIN pg_locks x ON x.locktype = 'transactionid' AND x.transactionid = p.transaction \
             JOIN pg_locks l ON l.virtualtransaction = x.virtualtransaction AND l.pid IS NULL \
             WHERE {modes} AND l.relation IN ({list}) GROUP BY p.gid, p.owner, p.prepared"
        );
        self.add_each(Role::Source, &prepared, Level::Problem, |gid| {
            format!("COMMIT PREPARED {gid}, or ROLLBACK PREPARED {gid}")
        })?;
        let oldest = "SELECT '', format('the oldest snapshot of session %s (%s) is %s s old: rows of the log that were \
             pruned keep their space until it ends', pid, usename, extract(epoch FROM now() - xact_start)::int), pid::text \
             FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() \
             AND now() - xact_start > interval '10 minutes' ORDER BY xact_start LIMIT 1";
        self.add_each(Role::Source, oldest, Level::Warning, |pid| {
            format!("see whether it is needed; SELECT pg_terminate_backend({pid}) ends it")
        })
    }
}
