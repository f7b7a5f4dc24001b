//! Chunks: ranges of a mapping's keys, each leased to one worker at a time.
//!
//! Invariant: a lease ends when another worker takes the chunk, not when its time is over; so exactly one lease can mark a
//! chunk done. The chunk without an upper bound is a mapping's last.

use rusqlite::OptionalExtension as _;

use super::target::{Ending, SqliteTarget};
use crate::engine::driver::{ChunksLeft, RangeEnd};
use crate::engine::{Bound, KeyRange, Lease, Position, Stream};
use crate::error::MigrateError;

pub(super) const NOW: &str = "unixepoch('now', 'subsec')";

/// The last chunk that a mapping has so far.
#[derive(PartialEq, Eq)]
struct LastChunk {
    chunk: i64,
    up_to: Option<Bound>,
}

impl SqliteTarget {
    pub(super) fn next_chunk(
        &mut self,
        stream: &Stream,
        seconds: u32,
        end: &mut RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError> {
        // Looked for without the writer's lock: another worker may hold it for a whole chunk.
        let is_there = self.has_abandoned(stream);
        if self.located(is_there)? {
            let abandoned =
                self.transaction(|target| target.take_abandoned(stream, seconds).map(Ending::Commit))?;
            if abandoned.is_some() {
                return Ok(abandoned);
            }
        }
        for (mapping, mapped) in stream.mappings.iter().enumerate() {
            loop {
                let last = self.last_chunk(&stream.name, mapping);
                let last = self.located(last)?;
                if last.as_ref().is_some_and(|last| last.up_to.is_none()) {
                    break;
                }
                // The end is looked for before the lock is taken; another worker may have been faster.
                let after = last.as_ref().and_then(|last| last.up_to.clone());
                let range = KeyRange { up_to: end(mapped, after.as_ref())?, after };
                let made = self.transaction(|target| {
                    target.add_chunk(stream, mapping, last.as_ref(), &range, seconds).map(Ending::Commit)
                })?;
                if made.is_some() {
                    return Ok(made);
                }
            }
        }
        Ok(None)
    }

    fn has_abandoned(&self, stream: &Stream) -> Result<bool, MigrateError> {
        let chunks = self.table("banyan_chunks");
        let sql = format!("SELECT 1 FROM {chunks} WHERE stream = ?1 AND NOT done AND lease_until <= {NOW}");
        Ok(self.conn.prepare_cached(&sql)?.exists([&stream.name])?)
    }

    fn take_abandoned(&mut self, stream: &Stream, seconds: u32) -> Result<Option<Lease>, MigrateError> {
        let chunks = self.table("banyan_chunks");
        let sql = format!(
            "UPDATE {chunks} SET lease = lease + 1, lease_until = {NOW} + ?2 \
             WHERE (stream, mapping, chunk) IN (SELECT stream, mapping, chunk FROM {chunks} \
               WHERE stream = ?1 AND NOT done AND lease_until <= {NOW} ORDER BY mapping, chunk LIMIT 1) \
             RETURNING mapping, chunk, lease, after, up_to"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let lease = statement.query_row((&stream.name, seconds), |row| {
            let bound = |text: Option<String>| text.map(Bound);
            Ok(Lease {
                stream: stream.name.clone(),
                mapping: row.get(0)?,
                chunk: row.get(1)?,
                lease: row.get(2)?,
                range: KeyRange { after: bound(row.get(3)?), up_to: bound(row.get(4)?) },
            })
        });
        Ok(lease.optional()?)
    }

    fn last_chunk(&self, stream: &str, mapping: usize) -> Result<Option<LastChunk>, MigrateError> {
        let sql = format!(
            "SELECT chunk, up_to FROM {} WHERE stream = ?1 AND mapping = ?2 ORDER BY chunk DESC LIMIT 1",
            self.table("banyan_chunks")
        );
        let last = self.conn.prepare_cached(&sql)?.query_row((stream, mapping), |row| {
            Ok(LastChunk { chunk: row.get(0)?, up_to: row.get::<_, Option<String>>(1)?.map(Bound) })
        });
        Ok(last.optional()?)
    }

    /// Nothing if the mapping's last chunk is another by now.
    fn add_chunk(
        &mut self,
        stream: &Stream,
        mapping: usize,
        last: Option<&LastChunk>,
        range: &KeyRange,
        seconds: u32,
    ) -> Result<Option<Lease>, MigrateError> {
        if self.last_chunk(&stream.name, mapping)?.as_ref() != last {
            return Ok(None);
        }
        let chunk = last.map_or(0, |last| last.chunk + 1);
        let sql = format!(
            "INSERT INTO {} (stream, mapping, chunk, after, up_to, lease, lease_until) \
             VALUES (?1, ?2, ?3, ?4, ?5, 1, {NOW} + ?6)",
            self.table("banyan_chunks")
        );
        let text = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.0.clone());
        let (after, up_to) = (text(&range.after), text(&range.up_to));
        self.conn.prepare_cached(&sql)?.execute((&stream.name, mapping, chunk, after, up_to, seconds))?;
        Ok(Some(Lease { stream: stream.name.clone(), mapping, chunk, lease: 1, range: range.clone() }))
    }

    pub(super) fn register(&mut self, lease: &Lease, snapshot: &Position) -> Result<bool, MigrateError> {
        self.change_chunk(lease, "snapshot = ?5", &snapshot.0)
    }

    pub(super) fn split(&mut self, lease: &Lease, end: &Bound) -> Result<bool, MigrateError> {
        if !self.change_chunk(lease, "up_to = ?5", &end.0)? {
            return Ok(false);
        }
        // The next chunk begins where the one with the greatest number ends, so what is left of any other gets a number below all.
        let sql = format!(
            "INSERT INTO {chunks} (stream, mapping, chunk, after, up_to, lease, lease_until) \
             SELECT ?1, ?2, CASE WHEN max(chunk) = ?3 THEN ?3 + 1 ELSE min(min(chunk), 0) - 1 END, ?4, ?5, 0, 0 \
             FROM {chunks} WHERE stream = ?1 AND mapping = ?2",
            chunks = self.table("banyan_chunks")
        );
        let up_to = lease.range.up_to.as_ref().map(|bound| bound.0.as_str());
        let mut statement = self.conn.prepare_cached(&sql)?;
        statement.execute((&lease.stream, lease.mapping, lease.chunk, &end.0, up_to))?;
        Ok(true)
    }

    pub(super) fn release(&mut self, lease: &Lease) -> Result<(), MigrateError> {
        self.change_chunk(lease, "lease_until = 0, snapshot = NULLIF(?5, '')", "").map(drop)
    }

    /// Whether the lease is still this one, and the chunk not done.
    pub(super) fn holds(&self, lease: &Lease) -> Result<bool, MigrateError> {
        let sql = format!(
            "SELECT 1 FROM {} WHERE stream = ?1 AND mapping = ?2 AND chunk = ?3 AND lease = ?4 AND NOT done",
            self.table("banyan_chunks")
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        Ok(statement.exists((&lease.stream, lease.mapping, lease.chunk, lease.lease))?)
    }

    /// Marks it done; false if the lease is somebody else's by now.
    pub(super) fn finish(&mut self, lease: &Lease, rows: u64, hash: u64) -> Result<bool, MigrateError> {
        self.change_chunk(lease, &format!("done = 1, rows = {rows}, hash = ?5"), &format!("{hash:016x}"))
    }

    fn change_chunk(&self, lease: &Lease, set: &str, value: &str) -> Result<bool, MigrateError> {
        let sql = format!(
            "UPDATE {} SET {set} WHERE stream = ?1 AND mapping = ?2 AND chunk = ?3 AND lease = ?4 AND NOT done",
            self.table("banyan_chunks")
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        Ok(statement.execute((&lease.stream, lease.mapping, lease.chunk, lease.lease, value))? == 1)
    }

    pub(super) fn count_chunks(&mut self, stream: &Stream) -> Result<ChunksLeft, MigrateError> {
        let sql = format!(
            "SELECT coalesce(sum(NOT done AND lease_until > {NOW}), 0), coalesce(sum(done AND up_to IS NULL), 0), \
               coalesce(sum(NOT done), 0), coalesce(sum(rows), 0) FROM {} WHERE stream = ?1",
            self.table("banyan_chunks")
        );
        let (leased, ended, left, rows): (u64, usize, u64, u64) = self
            .conn
            .prepare_cached(&sql)?
            .query_row([&stream.name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(ChunksLeft { leased, done: left == 0 && ended == stream.mappings.len(), rows })
    }

    pub(super) fn needed(&mut self, name: &str) -> Result<Vec<Position>, MigrateError> {
        let sql = format!(
            "SELECT pos FROM {} WHERE name = ?1 \
             UNION ALL SELECT snapshot FROM {} WHERE stream = ?1 AND NOT done AND snapshot IS NOT NULL \
             UNION ALL SELECT position FROM {} WHERE stream = ?1 AND until > {NOW}",
            self.table("banyan_streams"),
            self.table("banyan_chunks"),
            self.table("banyan_holds")
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let positions = statement.query_map([name], |row| row.get(0).map(Position))?;
        Ok(positions.collect::<Result<_, _>>()?)
    }
}
