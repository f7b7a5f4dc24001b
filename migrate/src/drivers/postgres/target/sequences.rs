//! Sequences go on behind every id that either end ever gave out.
//!
//! Invariant: a sequence is only ever moved forward, and ids of rows deleted at the source count, too.

use super::super::sql::{literal, quote};
use super::{PgTarget, Stay};
use crate::engine::Stream;
use crate::error::MigrateError;

impl PgTarget {
    pub(super) fn move_behind(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        for mapping in &stream.mappings {
            let table = self.shape(&mapping.table)?.name;
            for column in &mapping.columns {
                let sequences = super::super::shape::sequences(&mut self.conn, &table, column)?;
                let carried = mapping.carries.iter().position(|carried| carried == column);
                let root_column = carried.and_then(|place| mapping.root_key.get(place));
                let above = match root_column {
                    Some(root_column) if !sequences.is_empty() => {
                        self.peer.last_id(&mapping.root, root_column)?
                    }
                    _ => None,
                };
                for sequence in sequences {
                    self.move_one(&table, column, &sequence, above)?;
                }
            }
        }
        Ok(())
    }

    fn move_one(
        &mut self,
        table: &str,
        column: &str,
        sequence: &str,
        above: Option<i64>,
    ) -> Result<(), MigrateError> {
        let sql = format!(
            "SELECT setval({name}::regclass, greatest(s.last_value, m.id, $1::int8)) \
             FROM {sequence} AS s, (SELECT max({})::int8 AS id FROM {table}) AS m \
             WHERE greatest(m.id, $1::int8) > s.last_value OR (greatest(m.id, $1::int8) = s.last_value AND NOT s.is_called)",
            quote(column),
            name = literal(sequence)
        );
        self.transaction("BEGIN", |target| target.conn.query(&sql, &[&above]).map(|_| ((), Stay::Yes)))
    }
}
