//! The log, read: which source keys the rows of a span of transactions concern.
//!
//! Invariant: joins are followed when the log is read, in the reader's snapshot, never when it is written: only a later
//! snapshot sees a row that was inserted by a transaction still open then.

use super::capture::log_name;
use super::connection::Connection;
use super::position::Seen;
use super::shape::Shape;
use super::sql;
use crate::engine::driver::LOG_COUNTED;
use crate::engine::{Mapping, Position, Stream};
use crate::error::MigrateError;

/// How many rows go in one transaction of pruning.
const PRUNED_AT_ONCE: u64 = 20_000;

/// A span of the log.
pub(super) struct Span<'a> {
    /// Whose logs they are.
    pub(super) stream: &'a Stream,
    /// Which rows, as a condition on `l.xid`.
    pub(super) condition: String,
}

impl Span<'_> {
    /// A condition: a whole table was emptied or replaced.
    pub(super) fn whole(&self, mapping: &Mapping) -> String {
        let tables = std::iter::once(&mapping.root).chain(mapping.joins.iter().map(|join| &join.table));
        let each = tables.map(|table| {
            format!(
                "EXISTS (SELECT FROM {} l WHERE {} AND l.whole)",
                log_name(&self.stream.name, table),
                self.condition
            )
        });
        each.collect::<Vec<_>>().join(" OR ")
    }

    /// A select of the source keys `k0, …` of the root's types, none doubled, none with a NULL.
    pub(super) fn keys(&self, mapping: &Mapping, shape: &Shape) -> Result<String, MigrateError> {
        let count = shape.root_key.len();
        let mut parts = vec![self.logged(&mapping.root, &mapping.root_key)?];
        for join in &mapping.joins {
            let logged = self.logged(&join.table, &join.columns)?;
            parts.push(match &join.keys {
                None => logged,
                Some(keys) => sql::fill(keys, "values", |columns| format!("({columns}) IN ({logged})"))?,
            });
        }
        let names = sql::numbered("k", count);
        let types = shape.root_types.iter().enumerate();
        let types: Vec<String> = types.map(|(at, kind)| format!("p.k{at}::{} AS k{at}", kind.name)).collect();
        let parts: Vec<String> = parts
            .iter()
            .map(|part| format!("SELECT {} FROM (\n{part}\n) p({names})", types.join(", ")))
            .collect();
        Ok(format!(
            "SELECT DISTINCT {names} FROM ({}) u WHERE num_nulls({names}) = 0",
            parts.join(" UNION ALL ")
        ))
    }

    fn logged(&self, table: &str, columns: &[String]) -> Result<String, MigrateError> {
        let captured = self.stream.captured();
        let logged = captured.iter().find(|(name, _)| name == table).map(|(_, columns)| columns.as_slice());
        let place = |column: &String| {
            let place = logged.and_then(|logged| logged.iter().position(|known| known == column));
            place.map(|at| format!("l.c{at}")).ok_or_else(|| {
                MigrateError::failed(format!(
                    "{table}.{column} is not captured by the stream {}",
                    self.stream.name
                ))
            })
        };
        let columns = columns.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        Ok(format!(
            "SELECT {} FROM {} l WHERE {} AND NOT l.whole",
            columns.join(", "),
            log_name(&self.stream.name, table),
            self.condition
        ))
    }
}

/// Removes rows that all positions saw.
pub(super) fn prune(
    connection: &mut Connection,
    stream: &Stream,
    seen_by: &[Position],
) -> Result<u64, MigrateError> {
    let seen = seen_by.iter().map(Seen::parse).collect::<Result<Vec<_>, _>>()?;
    if seen.is_empty() {
        return Ok(0);
    }
    let seen: Vec<String> = seen.iter().map(|position| position.seen("l.xid")).collect();
    connection.run("SET banyan.pruning = 'on'")?;
    let mut removed = 0;
    for (table, _) in stream.captured() {
        let log = log_name(&stream.name, &table);
        loop {
            let now = connection.run(&format!(
                "DELETE FROM {log} WHERE ctid = ANY (ARRAY(SELECT l.ctid FROM {log} l WHERE {} \
                 ORDER BY l.xid LIMIT {PRUNED_AT_ONCE}))",
                seen.join(" AND ")
            ))?;
            removed += now;
            if now < PRUNED_AT_ONCE {
                break;
            }
        }
    }
    Ok(removed)
}

/// How many rows and bytes there are. Rows are counted along the index that pruning cleans as it goes; beyond what is counted,
/// and no further, the catalogue's estimate is taken.
pub(super) fn size(connection: &mut Connection, stream: &Stream) -> Result<(u64, u64), MigrateError> {
    let (mut rows, mut bytes) = (0, 0);
    for (table, _) in stream.captured() {
        let log = log_name(&stream.name, &table);
        let relation = format!("to_regclass({})", sql::value(&log));
        if !connection.holds(&format!("{relation} IS NOT NULL"))? {
            continue;
        }
        let counted: u64 = connection.number(&format!(
            "SELECT count(*) FROM (SELECT FROM {log} ORDER BY xid LIMIT {}) l",
            LOG_COUNTED + 1
        ))?;
        let estimated: u64 = connection.number(&estimate(&relation))?;
        rows += if counted > LOG_COUNTED { counted.max(estimated) } else { counted };
        bytes += connection.number::<u64>(&format!("SELECT pg_total_relation_size({relation})"))?;
    }
    Ok((rows, bytes))
}

/// A select of how many rows a log holds, as the catalogue makes it out.
pub(super) fn estimate(relation: &str) -> String {
    format!(
        "SELECT (CASE WHEN relpages > 0 AND reltuples >= 0 THEN reltuples * pg_relation_size(oid) / \
           (relpages * current_setting('block_size')::int) ELSE pg_relation_size(oid) / 60 END)::bigint \
         FROM pg_class WHERE oid = {relation}"
    )
}
