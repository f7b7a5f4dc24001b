//! The fingerprint of what a stream reads: readable lines, so that a difference can be told and not only noticed.
//!
//! Invariant: everything that could make rows read wrong, or changes go unlogged, changes a line: columns, types, collations,
//! labels, partitions, and the triggers and functions of the stream's capture. `pg_trigger.xmin` tells a trigger that was disabled for a
//! while from one that never was.

use super::capture::Captured;
use super::connection::Connection;
use super::{bound, sql};
use crate::engine::Stream;
use crate::engine::driver::CaptureState;
use crate::error::MigrateError;

/// How many differences are told.
const SHOWN: usize = 6;

/// Reads it.
pub(super) fn read(connection: &mut Connection, stream: &Stream) -> Result<String, MigrateError> {
    let captured = Captured::of(connection, stream)?;
    let faults = faults(connection, &captured)?;
    if faults.is_empty() { lines(connection, &captured) } else { Err(not_whole(stream, &faults)) }
}

fn not_whole(stream: &Stream, faults: &[String]) -> MigrateError {
    MigrateError::refused(
        format!("capture is not whole: {}", faults.join("; ")),
        format!("{}: if it was whole before, changes went unlogged", stream.anew()),
    )
}

/// Refuses a schema that is not the expected one, and says in what it differs.
pub(super) fn compare(
    connection: &mut Connection,
    stream: &Stream,
    expected: &str,
) -> Result<(), MigrateError> {
    let captured = Captured::of(connection, stream)?;
    let now = lines(connection, &captured)?;
    if now == expected {
        return Ok(());
    }
    let full = full(connection, &captured)?;
    if !full.is_empty() {
        return Err(not_whole(stream, &full));
    }
    let gone = expected.lines().filter(|line| !now.lines().any(|other| other == *line));
    let new = now.lines().filter(|line| !expected.lines().any(|other| other == *line));
    let told = gone.map(|line| format!("no more: {line}")).chain(new.map(|line| format!("new: {line}")));
    let told: Vec<String> = told.take(SHOWN).collect();
    Err(MigrateError::refused(
        format!("{} was altered since the stream was begun: {}", connection.place.shown, told.join("; ")),
        format!("see that the mapping still fits, {}: changes may have gone unlogged", stream.anew()),
    ))
}

/// What capture lacks, one line each.
pub(super) fn faults(
    connection: &mut Connection,
    captured: &[Captured],
) -> Result<Vec<String>, MigrateError> {
    let mut faults = Vec::new();
    for table in captured {
        if !connection.holds(&format!("to_regclass({}) IS NOT NULL", sql::value(&table.log)))? {
            faults.push(format!("the log of {} is missing", table.name));
            continue;
        }
        let guarded = format!(
            "EXISTS (SELECT FROM pg_trigger WHERE tgrelid = {}::regclass AND tgname = 'banyan_guard' AND tgenabled = 'A')",
            sql::value(&table.log)
        );
        if !connection.holds(&guarded)? {
            faults.push(format!("nothing keeps the log of {} from being emptied", table.name));
        }
        let wanted: Vec<String> =
            table.triggers().iter().map(|(name, _)| format!("({})", sql::value(name))).collect();
        faults.extend(connection.texts(&format!(
            "WITH RECURSIVE {} SELECT format('the trigger %s of %s is missing or not enabled always', w.name, \
               tree.oid::regclass) \
             FROM tree CROSS JOIN (VALUES {}) w(name) WHERE NOT EXISTS (SELECT FROM pg_trigger t \
               WHERE t.tgrelid = tree.oid AND t.tgname = w.name AND t.tgenabled = 'A') ORDER BY 1",
            tree(std::slice::from_ref(&table.name)),
            wanted.join(", ")
        ))?);
    }
    faults.extend(full(connection, captured)?);
    Ok(faults)
}

/// Tables whose capture ended by itself, one line each.
fn full(connection: &mut Connection, captured: &[Captured]) -> Result<Vec<String>, MigrateError> {
    let tables = bound::full(connection, captured)?;
    Ok(tables.iter().map(|table| CaptureState::full(table)).collect())
}

/// A CTE `tree(oid)`: tables and everything that inherits from them.
pub(super) fn tree(tables: &[String]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| sql::value(table)).collect();
    format!(
        "tree(oid) AS (SELECT to_regclass(u.name)::oid FROM unnest(ARRAY[{}]::text[]) u(name) \
         UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)",
        tables.join(", ")
    )
}

fn lines(connection: &mut Connection, captured: &[Captured]) -> Result<String, MigrateError> {
    let names: Vec<String> = captured.iter().map(|table| table.name.clone()).collect();
    let logs: Vec<String> = captured.iter().map(|table| sql::value(&table.log)).collect();
    // Those of another stream on the same table come and go without concern to this one.
    let triggers = captured.iter().flat_map(|table| table.triggers().map(|(name, _)| sql::value(&name)));
    let triggers: Vec<String> = triggers.collect();
    let lines = connection.planned_texts(&format!(
        "WITH RECURSIVE {}, \
         relation AS (SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind, \
           pg_get_expr(c.relpartbound, c.oid) AS bound \
           FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace), \
         attribute AS (SELECT r.name, a.* FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid \
           WHERE a.attnum > 0 AND NOT a.attisdropped) \
         SELECT line FROM ( \
           SELECT format('table %s %s %s', name, relkind, bound) AS line FROM relation \
           UNION ALL SELECT format('column %s.%I %s %s%s%s', a.name, a.attname, \
             format_type(a.atttypid, a.atttypmod), (SELECT collname FROM pg_collation WHERE oid = a.attcollation), \
             CASE WHEN a.attnotnull THEN ' not null' END, CASE WHEN a.attgenerated <> '' THEN ' generated' END) \
           FROM attribute a \
           UNION ALL SELECT format('labels of %s: %s', e.enumtypid::regtype, \
             string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)) \
           FROM pg_enum e WHERE e.enumtypid IN (SELECT unnest(ARRAY[t.oid, t.typelem, t.typbasetype]) \
             FROM attribute a JOIN pg_type t ON t.oid = a.atttypid) GROUP BY e.enumtypid \
           UNION ALL SELECT format('trigger %I on %s: row %s, %s, %s', t.tgname, r.name, t.xmin, t.tgenabled, \
             md5(p.prosrc || p.prosecdef || coalesce(p.proconfig::text, ''))) \
           FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid JOIN pg_proc p ON p.oid = t.tgfoid \
           WHERE t.tgname = ANY (ARRAY[{}]::name[]) \
           UNION ALL SELECT format('log %s: %s', u.name, to_regclass(u.name)::oid) \
           FROM unnest(ARRAY[{}]::text[]) u(name)) l ORDER BY line COLLATE \"C\"",
        tree(&names),
        triggers.join(", "),
        logs.join(", ")
    ))?;
    Ok(lines.join("\n"))
}
