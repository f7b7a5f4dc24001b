//! Chunks: the ranges of a backfill, and who copies which.
//!
//! Invariant: the ranges of a mapping follow each other without gap or overlap, as each begins where the last one made ends;
//! one with an open end is the mapping's last. A lease is changed only under its number.

use super::connection::{Connection, End, column};
use super::sql::value;
use crate::engine::driver::{ChunksLeft, LeaseState, RangeEnd};
use crate::engine::{Bound, ChunkDone, KeyRange, Lease, Mapping, Position, Stream};
use crate::error::MigrateError;

/// Leases the next chunk.
pub(super) fn lease(
    connection: &mut Connection,
    stream: &Stream,
    seconds: u32,
    end: &mut RangeEnd<'_>,
) -> Result<Option<Lease>, MigrateError> {
    loop {
        if let Some(lease) = lease_left_behind(connection, stream, seconds)? {
            return Ok(Some(lease));
        }
        let Some((mapping, at, last)) = frontier(connection, stream)? else { return Ok(None) };
        let after = last.as_ref().and_then(|(_, up_to)| up_to.clone());
        let chunk = last.map_or(0, |(chunk, _)| chunk + 1);
        // The source is read while no transaction is open here.
        let up_to = end(mapping, after.as_ref())?;
        let range = KeyRange { after, up_to };
        if let Some(lease) = make(connection, stream, seconds, at, chunk, &range)? {
            return Ok(Some(Lease { stream: stream.name.clone(), mapping: at, chunk, lease, range }));
        }
        // Another worker made this chunk meanwhile.
    }
}

fn lease_left_behind(
    connection: &mut Connection,
    stream: &Stream,
    seconds: u32,
) -> Result<Option<Lease>, MigrateError> {
    let rows = connection.rows(&format!(
        "UPDATE banyan.chunk c SET lease = nextval('banyan.lease'), snapshot = NULL, \
           leased_until = clock_timestamp() + interval '{seconds} s' \
         FROM (SELECT stream, mapping, chunk FROM banyan.chunk WHERE stream = {} AND NOT done \
           AND leased_until < clock_timestamp() ORDER BY mapping, chunk LIMIT 1 FOR UPDATE SKIP LOCKED) f \
         WHERE (c.stream, c.mapping, c.chunk) = (f.stream, f.mapping, f.chunk) \
         RETURNING c.mapping, c.chunk, c.lease, c.after_key, c.up_to",
        value(&stream.name)
    ))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let bound = |at| row.get(at).map(|text| Bound(text.to_owned()));
    Ok(Some(Lease {
        stream: stream.name.clone(),
        mapping: column(row, 0).parse().unwrap_or_default(),
        chunk: column(row, 1).parse().unwrap_or_default(),
        lease: column(row, 2).parse().unwrap_or_default(),
        range: KeyRange { after: bound(3), up_to: bound(4) },
    }))
}

/// A mapping with ranges left, its place, and the last chunk made with its end.
type Frontier<'a> = (&'a Mapping, usize, Option<(i64, Option<Bound>)>);

fn frontier<'a>(
    connection: &mut Connection,
    stream: &'a Stream,
) -> Result<Option<Frontier<'a>>, MigrateError> {
    let rows = connection.rows(&format!(
        "SELECT DISTINCT ON (mapping) mapping, chunk, up_to FROM banyan.chunk WHERE stream = {} \
         ORDER BY mapping, chunk DESC",
        value(&stream.name)
    ))?;
    for (at, mapping) in stream.mappings.iter().enumerate() {
        let place = at.to_string();
        let Some(row) = rows.iter().find(|row| row.get(0) == Some(&place)) else {
            return Ok(Some((mapping, at, None)));
        };
        if let Some(up_to) = row.get(2) {
            let chunk = column(row, 1).parse().unwrap_or_default();
            return Ok(Some((mapping, at, Some((chunk, Some(Bound(up_to.to_owned())))))));
        }
    }
    Ok(None)
}

fn make(
    connection: &mut Connection,
    stream: &Stream,
    seconds: u32,
    at: usize,
    chunk: i64,
    range: &KeyRange,
) -> Result<Option<i64>, MigrateError> {
    let bound =
        |bound: &Option<Bound>| bound.as_ref().map_or_else(|| "NULL".to_owned(), |bound| value(&bound.0));
    let lease = connection.text(&format!(
        "INSERT INTO banyan.chunk (stream, mapping, chunk, after_key, up_to, lease, leased_until) \
         VALUES ({}, {at}, {chunk}, {}, {}, nextval('banyan.lease'), clock_timestamp() + interval '{seconds} s') \
         ON CONFLICT DO NOTHING RETURNING lease",
        value(&stream.name),
        bound(&range.after),
        bound(&range.up_to)
    ))?;
    Ok(lease.and_then(|lease| lease.parse().ok()))
}

/// SQL for the chunk's row under its lease.
pub(super) fn under(lease: &Lease) -> String {
    format!(
        "stream = {} AND mapping = {} AND chunk = {} AND lease = {} AND NOT done",
        value(&lease.stream),
        lease.mapping,
        lease.chunk,
        lease.lease
    )
}

/// SQL that marks it done.
pub(super) fn mark_done(done: &ChunkDone<'_>) -> String {
    let ChunkDone { lease, rows, hash } = done;
    format!("UPDATE banyan.chunk SET done = true, rows = {rows}, hash = '{hash:016x}' WHERE {}", under(lease))
}

/// SQL for one that is marked done and was not written: it has no hash, and is to be copied when loading has ended.
pub(super) fn put_off(lease: &Lease) -> String {
    format!(
        "UPDATE banyan.chunk SET rows = 0, hash = NULL WHERE stream = {} AND mapping = {} AND chunk = {}",
        value(&lease.stream),
        lease.mapping,
        lease.chunk
    )
}

/// Records its snapshot.
pub(super) fn register(
    connection: &mut Connection,
    lease: &Lease,
    snapshot: &Position,
) -> Result<bool, MigrateError> {
    let changed = connection.run(&format!(
        "UPDATE banyan.chunk SET snapshot = {} WHERE {}",
        value(&snapshot.0),
        under(lease)
    ))?;
    Ok(changed == 1)
}

/// Ends it behind a key, and makes another one of what is left.
pub(super) fn split(connection: &mut Connection, lease: &Lease, end: &Bound) -> Result<bool, MigrateError> {
    let (stream, end) = (value(&lease.stream), value(&end.0));
    let up_to = lease.range.up_to.as_ref().map_or_else(|| "NULL".to_owned(), |bound| value(&bound.0));
    let (mapping, chunk) = (lease.mapping, lease.chunk);
    // The next chunk begins where the one with the greatest number ends, so what is left of any other gets a number below all.
    let rest = format!(
        "INSERT INTO banyan.chunk (stream, mapping, chunk, after_key, up_to, lease, leased_until) \
         SELECT {stream}, {mapping}, CASE WHEN max(chunk) = {chunk} THEN {chunk} + 1 ELSE least(min(chunk), 0) - 1 END, \
           {end}, {up_to}, nextval('banyan.lease'), '-infinity' \
         FROM banyan.chunk WHERE stream = {stream} AND mapping = {mapping} ON CONFLICT DO NOTHING"
    );
    let split = |connection: &mut Connection| {
        if connection.run(&format!("UPDATE banyan.chunk SET up_to = {end} WHERE {}", under(lease)))? == 0 {
            return Ok(End::RollBack(Some(false)));
        }
        match connection.run(&rest)? {
            // Another worker made or split a chunk meanwhile and took the number.
            0 => Ok(End::RollBack(None)),
            _ => Ok(End::Commit(Some(true))),
        }
    };
    loop {
        if let Some(done) = connection.transaction("", split)? {
            return Ok(done);
        }
    }
}

/// Gives it back.
pub(super) fn release(connection: &mut Connection, lease: &Lease) -> Result<(), MigrateError> {
    connection.run(&format!(
        "UPDATE banyan.chunk SET leased_until = '-infinity', snapshot = NULL WHERE {}",
        under(lease)
    ))?;
    Ok(())
}

/// What is left.
pub(super) fn left(connection: &mut Connection, stream: &Stream) -> Result<ChunksLeft, MigrateError> {
    let all_made = frontier(connection, stream)?.is_none();
    let rows = connection.rows(&format!(
        "SELECT count(*) FILTER (WHERE NOT done AND leased_until >= clock_timestamp()), \
           count(*) FILTER (WHERE NOT done), coalesce(sum(rows) FILTER (WHERE done), 0) \
         FROM banyan.chunk WHERE stream = {}",
        value(&stream.name)
    ))?;
    let number = |at| rows.first().map_or("", |row| column(row, at)).parse().unwrap_or_default();
    let (leased, open, copied): (u64, u64, u64) = (number(0), number(1), number(2));
    Ok(ChunksLeft { leased, done: all_made && open == 0, rows: copied })
}

/// The chunks under way.
pub(super) fn under_way(connection: &mut Connection, stream: &str) -> Result<Vec<LeaseState>, MigrateError> {
    let rows = connection.rows(&format!(
        "SELECT mapping, chunk, extract(epoch FROM leased_until - clock_timestamp())::bigint \
         FROM banyan.chunk WHERE stream = {} AND NOT done AND leased_until <> '-infinity' ORDER BY mapping, chunk",
        value(stream)
    ))?;
    let read = |row| LeaseState {
        mapping: column(row, 0).parse().unwrap_or_default(),
        chunk: column(row, 1).parse().unwrap_or_default(),
        seconds_left: column(row, 2).parse().unwrap_or_default(),
    };
    Ok(rows.iter().map(read).collect())
}
