//! The bookkeeping: where each stream stands, in the target's schema `banyan`.
//!
//! Invariant: a stream's row is changed only under its token, and rows of tables are written only in transactions that hold
//! it; so whoever lost the stream can change neither.

use super::connection::{Connection, column};
use super::loading::UNCHECKED;
use super::shape::Shape;
use super::sql::{self, value};
use crate::engine::in_the_way::{ADOPTED, AN_OLDER_COPY};
use crate::engine::{Claim, Kept, Mapping, Phase, Position, Stream, StreamRow};
use crate::error::MigrateError;

const TABLES: &str = "SELECT pg_advisory_xact_lock(hashtext('banyan.bookkeeping')); \
    CREATE SCHEMA IF NOT EXISTS banyan; \
    CREATE TABLE IF NOT EXISTS banyan.stream (name text PRIMARY KEY, pos text NOT NULL, next text NOT NULL, \
      token bigint NOT NULL, phase text NOT NULL, mapping_hash text NOT NULL, fingerprint text NOT NULL); \
    CREATE TABLE IF NOT EXISTS banyan.chunk (stream text, mapping int, chunk bigint, after_key text, up_to text, \
      lease bigint NOT NULL, leased_until timestamptz NOT NULL, snapshot text, done boolean NOT NULL DEFAULT false, \
      rows bigint, hash text, PRIMARY KEY (stream, mapping, chunk)); \
    CREATE INDEX IF NOT EXISTS chunk_open ON banyan.chunk (stream, mapping, chunk) WHERE NOT done; \
    CREATE SEQUENCE IF NOT EXISTS banyan.lease; \
    CREATE TABLE IF NOT EXISTS banyan.hold (stream text, name text, position text NOT NULL, until timestamptz NOT NULL, \
      PRIMARY KEY (stream, name)); \
    CREATE TABLE IF NOT EXISTS banyan.note (stream text, name text, text text NOT NULL, PRIMARY KEY (stream, name)); \
    CREATE TABLE IF NOT EXISTS banyan.token (stream text PRIMARY KEY, token bigint NOT NULL); \
    CREATE TABLE IF NOT EXISTS banyan.dropped (stream text, place int, relation text NOT NULL, name text NOT NULL, \
      kind text NOT NULL, build text NOT NULL, adopt text, parts json, condition text, \
      attributes json, is_deferrable boolean NOT NULL, doubled boolean NOT NULL DEFAULT false, PRIMARY KEY (stream, relation, name))";

/// The name of a mapping's key map.
pub(super) fn key_map(shape: &Shape) -> String {
    format!("banyan.keys_{}", shape.tag)
}

/// Makes the tables.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), MigrateError> {
    connection.run(&format!("BEGIN; {TABLES}; COMMIT"))?;
    Ok(())
}

/// Refuses a table that was dropped and made again since the stream began to fill it: what is recorded as copied is not in it.
pub(super) fn needs_same_table(
    connection: &mut Connection,
    stream: &Stream,
    table: &str,
) -> Result<(), MigrateError> {
    let name = value(&stream.name);
    let same = connection.text(&format!(
        "INSERT INTO banyan.note AS n VALUES ({name}, {}, {table}::regclass::oid::text) ON CONFLICT (stream, name) DO UPDATE \
         SET text = CASE WHEN EXISTS (SELECT FROM banyan.stream s WHERE s.name = {name}) THEN n.text ELSE EXCLUDED.text END \
         RETURNING (text = {table}::regclass::oid::text)::int",
        value(&format!("oid of {table}")),
        table = value(table)
    ))?;
    if same.as_deref() == Some("1") {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!(
            "{table} is not the table that was filled, but one made anew since: what was copied is not in it"
        ),
        format!("run `{} --again`, then `{}`", stream.command("backfill"), stream.command("run")),
    ))
}

/// Makes a mapping's key map: which target keys each source key has.
pub(super) fn prepare_key_map(
    connection: &mut Connection,
    mapping: &Mapping,
    shape: &Shape,
) -> Result<(), MigrateError> {
    let map = key_map(shape);
    let sources =
        shape.key_types.iter().enumerate().map(|(at, kind)| format!("s{at} {} NOT NULL", kind.name));
    let places = Shape::places(mapping, &mapping.key);
    let types = places.iter().filter_map(|at| shape.target.columns.get(*at));
    let targets = types.enumerate().map(|(at, kind)| format!("k{at} {} NOT NULL", kind.name));
    let columns: Vec<String> = sources.chain(targets).collect();
    connection.run(&format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtext('banyan.bookkeeping')); \
         CREATE TABLE IF NOT EXISTS {map} ({}, PRIMARY KEY ({})); \
         CREATE INDEX IF NOT EXISTS keys_{}_source ON {map} ({}); COMMENT ON TABLE {map} IS {}; COMMIT",
        columns.join(", "),
        sql::numbered("k", mapping.key.len()),
        shape.tag,
        sql::numbered("s", shape.key_types.len()),
        value(&format!("banyan: which rows of {} each row of {} has", mapping.table, mapping.root)),
    ))?;
    Ok(())
}

/// The stream's row.
pub(super) fn stream(connection: &mut Connection, name: &str) -> Result<Option<StreamRow>, MigrateError> {
    if !connection.holds("to_regclass('banyan.stream') IS NOT NULL")? {
        return Ok(None);
    }
    let rows = connection.rows(&format!(
        "SELECT pos, next, token, phase, mapping_hash, fingerprint FROM banyan.stream WHERE name = {}",
        value(name)
    ))?;
    Ok(rows.first().map(|row| StreamRow {
        pos: Position(column(row, 0).to_owned()),
        next: Position(column(row, 1).to_owned()),
        token: column(row, 2).parse().unwrap_or_default(),
        phase: Phase::of(column(row, 3)),
        mapping_hash: column(row, 4).to_owned(),
        fingerprint: column(row, 5).to_owned(),
    }))
}

/// Makes the stream's row.
pub(super) fn create(connection: &mut Connection, name: &str, row: &StreamRow) -> Result<(), MigrateError> {
    connection.run(&format!(
        "INSERT INTO banyan.stream VALUES ({name}, {}, {}, \
           greatest({}, (SELECT token FROM banyan.token WHERE stream = {name})), {}, {}, {}) ON CONFLICT (name) DO NOTHING",
        value(&row.pos.0),
        value(&row.next.0),
        row.token,
        value(row.phase.as_str()),
        value(&row.mapping_hash),
        value(&row.fingerprint),
        name = value(name)
    ))?;
    Ok(())
}

/// Forgets the stream, all but the token behind its last one, so that no process that followed it has one of the next. Indexes
/// that loading dropped must stand again first.
pub(super) fn forget(
    connection: &mut Connection,
    stream: &Stream,
    kept: Kept,
    maps: &[String],
) -> Result<(), MigrateError> {
    let name = value(&stream.name);
    let note = (kept != Kept::Nothing).then_some(AN_OLDER_COPY);
    let note = noting(&stream.name, ADOPTED, note);
    let drops: String = maps.iter().map(|map| format!("DROP TABLE IF EXISTS {map}; ")).collect();
    let tables =
        ["chunk", "hold", "note"].map(|table| format!("DELETE FROM banyan.{table} WHERE stream = {name}; "));
    // A foreign key that is still to be validated waits for the next copy of the name.
    connection.run(&format!(
        "BEGIN; {drops}{}{note}; DELETE FROM banyan.dropped WHERE stream = {name} AND NOT ({UNCHECKED}); WITH gone AS (DELETE FROM banyan.stream WHERE name = {name} RETURNING name, token) \
         INSERT INTO banyan.token SELECT name, token + 1 FROM gone \
         ON CONFLICT (stream) DO UPDATE SET token = EXCLUDED.token; COMMIT",
        tables.concat()
    ))?;
    Ok(())
}

/// Takes the stream over.
pub(super) fn claim(connection: &mut Connection, name: &str) -> Result<Claim, MigrateError> {
    let token = connection.text(&format!(
        "UPDATE banyan.stream SET token = token + 1 WHERE name = {} RETURNING token",
        value(name)
    ))?;
    match token.and_then(|token| token.parse().ok()) {
        Some(token) => Ok(Claim { stream: name.to_owned(), token }),
        None => Err(MigrateError::refused(
            format!("nothing was ever copied in the stream {name}"),
            "start with `migrate run`",
        )),
    }
}

/// Changes the stream's row under a claim. False: it is somebody else's.
pub(super) fn set_under(
    connection: &mut Connection,
    claim: &Claim,
    change: &str,
    condition: &str,
) -> Result<bool, MigrateError> {
    let Claim { stream, token } = claim;
    let changed = connection.run(&format!(
        "UPDATE banyan.stream SET {change} WHERE name = {} AND token = {token} AND {condition}",
        value(stream)
    ))?;
    Ok(changed == 1)
}

/// Positions whose later log rows are still needed.
pub(super) fn needed(connection: &mut Connection, name: &str) -> Result<Vec<Position>, MigrateError> {
    let name = value(name);
    let positions = connection.texts(&format!(
        "SELECT pos FROM banyan.stream WHERE name = {name} \
         UNION ALL SELECT snapshot FROM banyan.chunk WHERE stream = {name} AND NOT done AND snapshot IS NOT NULL \
         UNION ALL SELECT position FROM banyan.hold WHERE stream = {name} AND until > clock_timestamp()"
    ))?;
    Ok(positions.into_iter().map(Position).collect())
}

/// Keeps the log behind a position.
pub(super) fn hold(
    connection: &mut Connection,
    stream: &str,
    name: &str,
    position: &Position,
    seconds: u32,
) -> Result<(), MigrateError> {
    connection.run(&format!(
        "INSERT INTO banyan.hold VALUES ({}, {}, {}, clock_timestamp() + interval '{seconds} s') \
         ON CONFLICT (stream, name) DO UPDATE SET position = EXCLUDED.position, until = EXCLUDED.until",
        value(stream),
        value(name),
        value(&position.0)
    ))?;
    Ok(())
}

/// A note beside the stream.
pub(super) fn note(
    connection: &mut Connection,
    stream: &str,
    name: &str,
) -> Result<Option<String>, MigrateError> {
    if !connection.holds("to_regclass('banyan.note') IS NOT NULL")? {
        return Ok(None);
    }
    connection.text(&format!(
        "SELECT text FROM banyan.note WHERE stream = {} AND name = {}",
        value(stream),
        value(name)
    ))
}

/// Sets or removes it.
pub(super) fn set_note(
    connection: &mut Connection,
    stream: &str,
    name: &str,
    text: Option<&str>,
) -> Result<(), MigrateError> {
    connection.run(&noting(stream, name, text)).map(drop)
}

/// SQL that sets or removes it.
fn noting(stream: &str, name: &str, text: Option<&str>) -> String {
    let (stream, name) = (value(stream), value(name));
    match text {
        None => format!("DELETE FROM banyan.note WHERE stream = {stream} AND name = {name}"),
        Some(text) => format!(
            "INSERT INTO banyan.note VALUES ({stream}, {name}, {}) \
             ON CONFLICT (stream, name) DO UPDATE SET text = EXCLUDED.text",
            value(text)
        ),
    }
}
