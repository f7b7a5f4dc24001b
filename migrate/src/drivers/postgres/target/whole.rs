//! Rows whose unique values swap or move: removed and reinserted whole, unmapped columns included.
//!
//! Invariant: a value that a row outside the batch holds is reported with the holder; nothing is written then.

use postgres::error::SqlState;

use super::super::connection::words;
use super::super::rows::PgRows;
use super::super::sql::{equal, list, numbered};
use super::apply::refused_value;
use super::staging::Plan;
use super::{PgTarget, columns_with};
use crate::engine::{Mapping, Outcome};
use crate::error::MigrateError;

const UNIQUE: &str = "SELECT i.indexrelid::regclass::text, \
    array_agg(pg_get_indexdef(i.indexrelid, n, true) ORDER BY n), coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') \
    FROM pg_index i, generate_series(1, i.indnkeyatts) AS n WHERE i.indrelid = $1 AND i.indisunique GROUP BY i.indexrelid, i.indpred, i.indrelid";

impl PgTarget {
    pub(super) fn write_whole(
        &mut self,
        plan: &Plan,
        mapping: &Mapping,
        removed: u64,
    ) -> Result<Outcome<PgRows>, MigrateError> {
        self.conn.run(&plan.keep_whole())?;
        if let Some(collision) = self.collision(plan, mapping)? {
            return Ok(collision);
        }
        let (all, mapped) = (list(&plan.all), list(&plan.columns));
        let mut written = removed;
        for insert in [
            format!(
                "INSERT INTO {} ({all}) OVERRIDING SYSTEM VALUE SELECT {all} FROM pg_temp.banyan_whole",
                plan.table
            ),
            format!(
                "INSERT INTO {} ({mapped}) OVERRIDING SYSTEM VALUE SELECT {mapped} FROM pg_temp.banyan_new",
                plan.table
            ),
        ] {
            match self.conn.try_execute(&insert) {
                Ok(rows) => written += rows,
                Err(error) if error.code() == Some(&SqlState::EXCLUSION_VIOLATION) => {
                    return Ok(Outcome::Collides { holders: PgRows::default(), example: words(&error) });
                }
                Err(error) => return Err(refused_value(self, plan, error)),
            }
        }
        Ok(Outcome::Written(written))
    }

    /// Rows that remain in the table and hold what the batch's rows want.
    fn collision(&mut self, plan: &Plan, mapping: &Mapping) -> Result<Option<Outcome<PgRows>>, MigrateError> {
        let (mut holders, mut example) = (Vec::new(), None);
        for index in self.conn.query(UNIQUE, &[&plan.oid])? {
            let (name, expressions, predicate): (String, Vec<String>, String) =
                (index.get(0), index.get(1), index.get(2));
            let values = numbered("u", expressions.len());
            let named = list(
                expressions.iter().zip(&values).map(|(expression, name)| format!("{expression} AS {name}")),
            );
            let wanted =
                |from: &str| format!("SELECT {named}, {} FROM {from} WHERE {predicate}", list(&plan.key));
            let same = equal(&columns_with("h.", &values), &columns_with("w.", &values));
            let from = format!(
                "(SELECT *, {named} FROM {} WHERE {predicate}) AS h JOIN ({} UNION ALL {}) AS w({}) ON {same}",
                plan.table,
                wanted("pg_temp.banyan_whole"),
                wanted("pg_temp.banyan_new"),
                list(values.iter().cloned().chain(numbered("k", plan.key.len())))
            );
            let found = self.conn.maybe(
                &format!(
                    "SELECT ROW({})::text, ROW({})::text, ROW({})::text FROM {from} LIMIT 1",
                    list(columns_with("w.", &numbered("k", plan.key.len()))),
                    list(columns_with("h.", &values)),
                    list(columns_with("h.", &plan.key))
                ),
                &[],
            )?;
            if let Some(row) = found {
                let (wants, value, holds): (String, String, String) = (row.get(0), row.get(1), row.get(2));
                example = Some(format!(
                    "the row with the key {wants} wants {value} of {name}, which the row {holds} holds"
                ));
                holders.push(from);
            }
        }
        let Some(example) = example else { return Ok(None) };
        let link = plan.link();
        let holder_keys = holders.iter().map(|from| match &plan.key_map {
            None => format!("SELECT {} FROM {from}", list(columns_with("h.", &link))),
            Some(map) => format!(
                "SELECT m.source_key FROM {from} JOIN {map} AS m ON {}",
                equal(&columns_with("m.", &plan.key), &columns_with("h.", &plan.key))
            ),
        });
        let from = format!("({}) AS f", holder_keys.collect::<Vec<_>>().join(" UNION "));
        let (select, fields) = plan.passed_keys(&from, "f.", mapping);
        let holders = self.conn.copy_out(&select, fields)?;
        Ok(Some(Outcome::Collides { holders, example }))
    }
}

impl Plan {
    /// `banyan_whole`: rows that are there, as they are to be; `banyan_new`: those that are not. Those there are removed.
    fn keep_whole(&self) -> String {
        let Self { table, .. } = self;
        let same = equal(&columns_with("t.", &self.key), &columns_with("r.", &self.key));
        let merged = list(self.all.iter().map(|column| {
            let side = if self.columns.contains(column) { "r" } else { "t" };
            format!("{side}.{column}")
        }));
        let (all, mapped) = (list(&self.all), list(&self.columns));
        format!(
            "DROP TABLE IF EXISTS pg_temp.banyan_whole, pg_temp.banyan_new; \
             CREATE TEMP TABLE banyan_whole ON COMMIT DROP AS SELECT * FROM {table} WITH NO DATA; \
             CREATE TEMP TABLE banyan_new ON COMMIT DROP AS SELECT * FROM {table} WITH NO DATA; \
             INSERT INTO pg_temp.banyan_whole ({all}) SELECT {merged} FROM pg_temp.banyan_rows AS r JOIN {table} AS t ON {same}; \
             INSERT INTO pg_temp.banyan_new ({mapped}) SELECT {mapped} FROM pg_temp.banyan_rows AS r \
             WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same}); \
             DELETE FROM {table} AS t USING pg_temp.banyan_rows AS r WHERE {same}"
        )
    }
}
