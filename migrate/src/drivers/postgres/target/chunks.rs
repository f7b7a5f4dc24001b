//! Chunks: leased, registered, done.
//!
//! Invariant: a lease ends when another takes its number's place; only the present one marks its chunk done.

use super::{PgTarget, Stay};
use crate::engine::driver::RangeEnd;
use crate::engine::{Bound, ChunksLeft, KeyRange, Lease, Mapping, Position, Rows as _, Stream};
use crate::error::MigrateError;

impl PgTarget {
    pub(super) fn lease(
        &mut self,
        stream: &Stream,
        seconds: u32,
        end: &mut RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError> {
        let until = f64::from(seconds);
        let free = self.conn.maybe(
            "UPDATE banyan.chunks SET lease = lease + 1, snapshot = NULL, until = clock_timestamp() + make_interval(secs => $2) \
             WHERE (stream, mapping, chunk) = (SELECT stream, mapping, chunk FROM banyan.chunks \
               WHERE stream = $1 AND NOT done AND (until IS NULL OR until < clock_timestamp()) \
               ORDER BY mapping, chunk LIMIT 1 FOR UPDATE SKIP LOCKED) \
             RETURNING mapping, chunk, lease, after, up_to",
            &[&stream.name, &until],
        )?;
        if let Some(row) = free {
            let range = KeyRange {
                after: row.get::<_, Option<String>>(3).map(Bound),
                up_to: row.get::<_, Option<String>>(4).map(Bound),
            };
            let mapping = usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX);
            return Ok(Some(Lease {
                stream: stream.name.clone(),
                mapping,
                chunk: row.get(1),
                lease: row.get(2),
                range,
            }));
        }
        self.transaction("BEGIN", |target| {
            target.conn.query(
                "SELECT pg_advisory_xact_lock(hashtextextended('banyan chunks ' || $1, 0))",
                &[&stream.name],
            )?;
            for (number, mapping) in stream.mappings.iter().enumerate() {
                if let Some(lease) = target.next_chunk(stream, number, mapping, until, end)? {
                    return Ok((Some(lease), Stay::Yes));
                }
            }
            Ok((None, Stay::No))
        })
    }

    /// Nothing if the mapping has no ranges left.
    fn next_chunk(
        &mut self,
        stream: &Stream,
        number: usize,
        mapping: &Mapping,
        until: f64,
        end: &mut RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError> {
        let place = i32::try_from(number).unwrap_or(i32::MAX);
        let last = self.conn.maybe(
            "SELECT chunk, up_to FROM banyan.chunks WHERE stream = $1 AND mapping = $2 ORDER BY chunk DESC LIMIT 1",
            &[&stream.name, &place],
        )?;
        let (chunk, after) = match last {
            None => (0, None),
            Some(row) => match row.get::<_, Option<String>>(1) {
                None => return Ok(None),
                after => (row.get::<_, i64>(0) + 1, after),
            },
        };
        let after = after.map(Bound);
        let up_to = end(mapping, after.as_ref())?;
        let texts = (after.as_ref().map(|bound| &bound.0), up_to.as_ref().map(|bound| &bound.0));
        self.conn.execute(
            "INSERT INTO banyan.chunks (stream, mapping, chunk, table_name, lease, until, after, up_to) \
             VALUES ($1, $2, $3, $4, 1, clock_timestamp() + make_interval(secs => $5), $6, $7)",
            &[&stream.name, &place, &chunk, &mapping.table, &until, &texts.0, &texts.1],
        )?;
        let range = KeyRange { after, up_to };
        Ok(Some(Lease { stream: stream.name.clone(), mapping: number, chunk, lease: 1, range }))
    }

    pub(super) fn register(&mut self, lease: &Lease, snapshot: &Position) -> Result<bool, MigrateError> {
        self.change(lease, "snapshot = $5", &snapshot.0)
    }

    pub(super) fn release(&mut self, lease: &Lease) -> Result<(), MigrateError> {
        self.change(lease, "until = NULL, snapshot = NULLIF($5, $5)", &String::new()).map(|_| ())
    }

    /// Marks the chunk done, in the transaction that is open. False if the lease ran out.
    pub(super) fn mark_done(&mut self, lease: &Lease, rows: &super::PgRows) -> Result<bool, MigrateError> {
        let set = format!("done = true, until = NULL, rows = {}, hash = $5::text::int8", rows.len());
        self.change(lease, &set, &rows.hash().cast_signed().to_string())
    }

    fn change(&mut self, lease: &Lease, set: &str, value: &String) -> Result<bool, MigrateError> {
        let mapping = i32::try_from(lease.mapping).unwrap_or(i32::MAX);
        let changed = self.conn.execute(
            &format!(
                "UPDATE banyan.chunks SET {set} WHERE stream = $1 AND mapping = $2 AND chunk = $3 AND lease = $4 AND NOT done"
            ),
            &[&lease.stream, &mapping, &lease.chunk, &lease.lease, value],
        )?;
        Ok(changed == 1)
    }

    pub(super) fn left(&mut self, stream: &Stream) -> Result<ChunksLeft, MigrateError> {
        let row = self.conn.one(
            "SELECT count(*) FILTER (WHERE NOT done AND until > clock_timestamp()), coalesce(bool_and(done), false), \
             count(DISTINCT mapping) FILTER (WHERE up_to IS NULL), coalesce(sum(rows) FILTER (WHERE done), 0)::int8 \
             FROM banyan.chunks WHERE stream = $1",
            &[&stream.name],
        )?;
        let mappings = usize::try_from(row.get::<_, i64>(2)).unwrap_or(0);
        let count = |place: usize| u64::try_from(row.get::<_, i64>(place)).unwrap_or(0);
        let done = row.get::<_, bool>(1) && mappings == stream.mappings.len();
        Ok(ChunksLeft { leased: count(0), done, rows: count(3) })
    }
}
