//! What the log says: keys staged, touched, pruned.
//!
//! Invariant: what a logged value of a joined table concerns is asked when the log is read. A key that the log names for some
//! snapshot is named for every later one, or has a later log row of its own.

use super::super::position::Seen;
use super::super::rows::PgRows;
use super::super::sql::{equal, list, numbered, restrict, row};
use super::{Captured, PgSource};
use crate::engine::{Dirty, Mapping, Position, Rows as _, Stream, Touched};
use crate::error::MigrateError;

/// Log rows removed per transaction.
const AT_ONCE: u64 = 50_000;
/// From so many rows on, temporary tables get statistics and indexes.
const LARGE: u64 = 2_000;

impl PgSource {
    fn log_of(&self, table: &str) -> Result<&Captured, MigrateError> {
        let known = self.known.iter().flat_map(|known| &known.captured);
        known.into_iter().find(|captured| captured.names.iter().any(|name| name == table)).ok_or_else(|| {
            MigrateError::failed(format!("the log of {table} was asked for before a snapshot was taken"))
        })
    }

    /// Selects of the mapping's keys with a log row that meets a condition, and of whether there is one of a whole table.
    fn logged(&mut self, mapping: &Mapping, condition: &str) -> Result<(String, String), MigrateError> {
        let keys = self.key_columns(mapping)?;
        let names = numbered("k", keys.len());
        let cast = list(names.iter().zip(&keys).map(|(name, key)| format!("{name}::{} AS {name}", key.base)));
        let (mut selects, mut whole) = (Vec::new(), Vec::new());
        let root = std::iter::once((&mapping.root, &mapping.root_key, None));
        let joins = mapping.joins.iter().map(|join| (&join.table, &join.columns, join.keys.as_ref()));
        for (table, columns, expand) in root.chain(joins) {
            let captured = self.log_of(table)?;
            let place = |column| captured.logged.iter().position(|logged| logged == column).unwrap_or(0) + 1;
            let values: Vec<String> = columns.iter().map(|column| format!("v{}", place(column))).collect();
            let rows = format!("FROM {} WHERE {condition} AND NOT whole", captured.log);
            whole.push(format!("EXISTS (SELECT FROM {} WHERE {condition} AND whole)", captured.log));
            let found = match expand {
                None => format!("SELECT {} {rows}", list(&values)),
                Some(select) => restrict(select, "values", &|expressions| {
                    format!("{} IN (SELECT {} {rows})", row(expressions), list(&values))
                })?,
            };
            selects.push(format!("SELECT {cast} FROM ({found}) AS l({})", list(&names)));
        }
        let there: Vec<String> = names.iter().map(|name| format!("{name} IS NOT NULL")).collect();
        let keys = format!(
            "SELECT DISTINCT {} FROM ({}) AS d WHERE {}",
            list(&names),
            selects.join(" UNION ALL "),
            there.join(" AND ")
        );
        Ok((keys, format!("SELECT {}", whole.join(" OR "))))
    }

    pub(super) fn stage_new(&mut self, mapping: &Mapping, since: &Seen) -> Result<Dirty, MigrateError> {
        super::position::current(&mut self.conn)?.same_server(since)?;
        let (select, whole) = self.logged(mapping, &since.unseen())?;
        let whole = self.conn.one(&whole, &[])?.get(0);
        let order = list(numbered("k", mapping.root_key.len()));
        self.conn.run("DROP TABLE IF EXISTS pg_temp.banyan_staged")?;
        // In the order of the key, so that a piece lies close together in both tables.
        let keys = self.conn.execute(
            &format!(
                "CREATE TEMP TABLE banyan_staged ON COMMIT DROP AS \
                 SELECT row_number() OVER (ORDER BY {order}) AS n, d.* FROM ({select}) AS d ORDER BY n"
            ),
            &[],
        )?;
        if keys > LARGE {
            self.conn.run(
                "CREATE INDEX banyan_staged_n ON pg_temp.banyan_staged (n); ANALYZE pg_temp.banyan_staged",
            )?;
        }
        Ok(Dirty { keys, whole })
    }

    pub(super) fn stage_root(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        let root = super::Shape::read(&mut self.conn, &mapping.root)?.name;
        let key = list(super::super::sql::columns("", &mapping.root_key));
        self.add_staged(mapping, &format!("SELECT {key} FROM {root}"))
    }

    pub(super) fn stage_more(&mut self, mapping: &Mapping, keys: &PgRows) -> Result<(), MigrateError> {
        if keys.is_empty() {
            return Ok(());
        }
        let given = self.take_in(mapping, "banyan_more", keys)?;
        self.add_staged(mapping, &format!("SELECT * FROM {given}"))
    }

    fn add_staged(&mut self, mapping: &Mapping, select: &str) -> Result<(), MigrateError> {
        let names = numbered("k", mapping.root_key.len());
        let (order, same) =
            (list(&names), equal(&numbered("s.k", names.len()), &numbered("d.k", names.len())));
        self.conn.run(&format!(
            "CREATE INDEX IF NOT EXISTS banyan_staged_n ON pg_temp.banyan_staged (n); \
             CREATE INDEX IF NOT EXISTS banyan_staged_k ON pg_temp.banyan_staged ({order}); \
             INSERT INTO pg_temp.banyan_staged SELECT (SELECT coalesce(max(n), 0) FROM pg_temp.banyan_staged) \
             + row_number() OVER (ORDER BY {order}), d.* FROM (SELECT DISTINCT * FROM ({select}) AS g({order})) AS d \
             WHERE NOT EXISTS (SELECT FROM pg_temp.banyan_staged AS s WHERE {same}); \
             ANALYZE pg_temp.banyan_staged"
        ))
    }

    pub(super) fn read_touched(
        &mut self,
        mapping: &Mapping,
        seen: &Seen,
        unseen: &Seen,
    ) -> Result<Touched<PgRows>, MigrateError> {
        let condition = format!("{} AND {}", unseen.unseen(), seen.seen());
        let (select, whole) = self.logged(mapping, &condition)?;
        if self.conn.one(&whole, &[])?.get(0) {
            return Ok(Touched::Whole);
        }
        self.copy_keys(mapping, &select).map(Touched::Keys)
    }

    /// The condition that a key has a log row that `since` did not see, for `k1, k2 …`; nothing if a whole table has.
    pub(in super::super) fn dirty_select(
        &mut self,
        mapping: &Mapping,
        since: &Position,
    ) -> Result<Option<String>, MigrateError> {
        let (select, whole) = self.logged(mapping, &Seen::parse(since)?.unseen())?;
        let whole: bool = self.conn.one(&whole, &[])?.get(0);
        Ok((!whole).then_some(select))
    }

    pub(super) fn remove_seen(&mut self, stream: &Stream, seen_by: &[Position]) -> Result<u64, MigrateError> {
        let now = super::position::current(&mut self.conn)?;
        let mut conditions = Vec::new();
        for position in seen_by {
            let seen = Seen::parse(position)?;
            seen.same_server(&now)?;
            conditions.push(seen.seen());
        }
        if conditions.is_empty() {
            return Ok(0);
        }
        let (mut removed, condition) = (0, conditions.join(" AND "));
        for captured in self.captured(stream)? {
            let log = &captured.log;
            let sql = format!(
                "DELETE FROM {log} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {log} WHERE {condition} ORDER BY xid LIMIT {AT_ONCE}))"
            );
            loop {
                let some = self.conn.execute(&sql, &[])?;
                removed += some;
                if some < AT_ONCE {
                    break;
                }
            }
        }
        Ok(removed)
    }
}
