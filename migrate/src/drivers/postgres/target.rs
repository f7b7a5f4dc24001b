//! The writing end. Its bookkeeping stands in the schema `banyan`.
//!
//! Invariant: a method that writes is one transaction; rows and the progress they stand for commit together.

mod apply;
mod bookkeeping;
mod chunks;
mod loading;
mod sequences;
mod staging;
mod whole;

use std::collections::HashMap;

use super::connection::{Address, Connection};
use super::peer::Peer;
use super::rows::PgRows;
use super::shape::Shape;
use super::source::{bound_of, within};
use super::sql::{columns, list};
use crate::engine::driver::RangeEnd;
use crate::engine::{
    Batch, Bound, ChunksLeft, Claim, Guard, KeyRange, Lease, LeaseState, Mapping, Outcome, Position, Stream,
    StreamRow, Target,
};
use crate::error::MigrateError;
pub(super) use staging::Plan;

/// The writing end.
pub struct PgTarget {
    pub(super) conn: Connection,
    pub(super) peer: Peer,
    pub(super) in_snapshot: bool,
    shapes: HashMap<String, Shape>,
}

impl std::fmt::Debug for PgTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgTarget").finish_non_exhaustive()
    }
}

impl PgTarget {
    pub(super) fn connect(address: &Address, peer: Peer) -> Result<Self, MigrateError> {
        Ok(Self { conn: address.connect()?, peer, in_snapshot: false, shapes: HashMap::new() })
    }

    pub(super) fn shape(&mut self, table: &str) -> Result<Shape, MigrateError> {
        if let Some(shape) = self.shapes.get(table) {
            return Ok(shape.clone());
        }
        let shape = Shape::read(&mut self.conn, table)?;
        self.shapes.insert(table.to_owned(), shape.clone());
        Ok(shape)
    }

    pub(super) fn plan(&mut self, mapping: &Mapping) -> Result<Plan, MigrateError> {
        Plan::of(&self.shape(&mapping.table)?, mapping)
    }

    /// Commits what `work` did, unless it failed or says that nothing is to stay.
    fn transaction<T>(
        &mut self,
        begin: &str,
        work: impl FnOnce(&mut Self) -> Result<(T, Stay), MigrateError>,
    ) -> Result<T, MigrateError> {
        let done = self.conn.run(begin).and_then(|()| work(self));
        let end = if matches!(done, Ok((_, Stay::Yes))) { "COMMIT" } else { "ROLLBACK" };
        let ended = self.conn.run(end);
        if done.is_err() {
            self.shapes.clear();
        }
        let (value, _) = done?;
        ended?;
        Ok(value)
    }
}

/// Quoted names with a prefix before each.
fn columns_with(prefix: &str, quoted: &[String]) -> Vec<String> {
    quoted.iter().map(|name| format!("{prefix}{name}")).collect()
}

/// Whether a transaction commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    Yes,
    No,
}

impl Target for PgTarget {
    type Rows = PgRows;

    fn prepare(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.make_bookkeeping(stream)
    }

    fn stream(&mut self, name: &str) -> Result<Option<StreamRow>, MigrateError> {
        self.read_stream(name)
    }

    fn create_stream(&mut self, name: &str, row: &StreamRow) -> Result<(), MigrateError> {
        self.insert_stream(name, row)
    }

    fn forget_stream(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.forget(stream)
    }

    fn is_empty(&mut self, stream: &Stream) -> Result<bool, MigrateError> {
        for mapping in &stream.mappings {
            let table = self.shape(&mapping.table)?.name;
            if self.conn.one(&format!("SELECT EXISTS (SELECT FROM {table})"), &[])?.get(0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn claim(&mut self, name: &str) -> Result<Claim, MigrateError> {
        let row = self
            .conn
            .maybe("UPDATE banyan.streams SET token = token + 1 WHERE name = $1 RETURNING token", &[&name])?;
        let row = row.ok_or_else(|| {
            MigrateError::refused(
                format!("nothing was ever copied in the stream {name}"),
                "start with `migrate run`",
            )
        })?;
        Ok(Claim { stream: name.to_owned(), token: row.get(0) })
    }

    fn set_next(&mut self, claim: &Claim, next: &Position) -> Result<bool, MigrateError> {
        let changed = self.conn.execute(
            "UPDATE banyan.streams SET next = $3 WHERE name = $1 AND token = $2",
            &[&claim.stream, &claim.token, &next.0],
        )?;
        Ok(changed == 1)
    }

    fn set_pos(&mut self, claim: &Claim, as_read: &Position, pos: &Position) -> Result<bool, MigrateError> {
        let changed = self.conn.execute(
            "UPDATE banyan.streams SET pos = $4 WHERE name = $1 AND token = $2 AND pos = $3",
            &[&claim.stream, &claim.token, &as_read.0, &pos.0],
        )?;
        Ok(changed == 1)
    }

    fn known_keys(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<(PgRows, Option<Bound>), MigrateError> {
        let plan = self.plan(mapping)?;
        let limit = format!("LIMIT {rows}");
        let found = if let Some(map) = &plan.key_map {
            let behind = after.map_or_else(
                || "true".to_owned(),
                |bound| format!("source_key > {}", super::sql::literal(&bound.0)),
            );
            format!(
                "SELECT DISTINCT source_key AS bound, source_key FROM {map} WHERE {behind} ORDER BY 1 {limit}"
            )
        } else {
            let key = columns("", &mapping.carries);
            let range = KeyRange { after: after.cloned(), up_to: None };
            let behind = within(&key, &plan.carried_types, &range)?;
            let (order, there) = (list(&key), plan.carried_there(""));
            format!(
                "SELECT {} AS bound, e.* FROM (SELECT DISTINCT {order} FROM {} WHERE {behind} AND {there} ORDER BY {order} {limit}) AS e \
                 ORDER BY {order}",
                bound_of(&key),
                plan.table
            )
        };
        let last = self
            .conn
            .maybe(&format!("SELECT bound FROM ({found}) AS f OFFSET {} LIMIT 1", rows.max(1) - 1), &[])?;
        let (select, fields) = plan.passed_keys(&format!("({found}) AS f"), "f.", mapping);
        let keys = self.conn.copy_out(&select, fields)?;
        Ok((keys, last.map(|row| Bound(row.get(0)))))
    }

    fn apply(
        &mut self,
        guard: Guard<'_, PgRows>,
        mapping: &Mapping,
        batch: &Batch<PgRows>,
    ) -> Result<Outcome<PgRows>, MigrateError> {
        self.apply_batch(guard, mapping, batch)
    }

    fn lease_chunk(
        &mut self,
        stream: &Stream,
        seconds: u32,
        end: &mut RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError> {
        self.lease(stream, seconds, end)
    }

    fn register_chunk(&mut self, lease: &Lease, snapshot: &Position) -> Result<bool, MigrateError> {
        self.register(lease, snapshot)
    }

    fn release_chunk(&mut self, lease: &Lease) -> Result<(), MigrateError> {
        self.release(lease)
    }

    fn chunks_left(&mut self, stream: &Stream) -> Result<ChunksLeft, MigrateError> {
        self.left(stream)
    }

    fn load(
        &mut self,
        lease: &Lease,
        mapping: &Mapping,
        batch: &Batch<PgRows>,
    ) -> Result<bool, MigrateError> {
        self.load_chunk(lease, mapping, batch)
    }

    fn begin_loading(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.take_down(stream)
    }

    fn finish_loading(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.build_up(stream)
    }

    fn needed_positions(&mut self, name: &str) -> Result<Vec<Position>, MigrateError> {
        let rows = self.conn.query(
            "SELECT pos FROM banyan.streams WHERE name = $1 \
             UNION SELECT snapshot FROM banyan.chunks WHERE stream = $1 AND NOT done AND snapshot IS NOT NULL \
             UNION SELECT position FROM banyan.holds WHERE stream = $1 AND until > clock_timestamp()",
            &[&name],
        )?;
        Ok(rows.iter().map(|row| Position(row.get(0))).collect())
    }

    fn move_sequences(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.move_behind(stream)
    }

    fn note(&mut self, stream: &str, name: &str) -> Result<Option<String>, MigrateError> {
        let row = self
            .conn
            .maybe("SELECT text FROM banyan.notes WHERE stream = $1 AND name = $2", &[&stream, &name])?;
        Ok(row.map(|row| row.get(0)))
    }

    fn set_note(&mut self, stream: &str, name: &str, text: Option<&str>) -> Result<(), MigrateError> {
        let sql = match text {
            Some(_) => {
                "INSERT INTO banyan.notes VALUES ($1, $2, $3) ON CONFLICT (stream, name) DO UPDATE SET text = excluded.text"
            }
            None => "DELETE FROM banyan.notes WHERE stream = $1 AND name = $2 AND $3::text IS NULL",
        };
        self.conn.execute(sql, &[&stream, &name, &text]).map(|_| ())
    }

    fn leases(&mut self, stream: &str) -> Result<Vec<LeaseState>, MigrateError> {
        let rows = self.conn.query(
            "SELECT mapping, chunk, extract(epoch FROM until - clock_timestamp())::int8 FROM banyan.chunks \
             WHERE stream = $1 AND NOT done AND until IS NOT NULL ORDER BY mapping, chunk",
            &[&stream],
        )?;
        let lease = |row: &postgres::Row| LeaseState {
            mapping: usize::try_from(row.get::<_, i32>(0)).unwrap_or_default(),
            chunk: row.get(1),
            seconds_left: row.get(2),
        };
        Ok(rows.iter().map(lease).collect())
    }
}
