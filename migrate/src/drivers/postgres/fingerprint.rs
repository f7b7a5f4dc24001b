//! The fingerprint of what a stream reads: one line per table, column, enum, trigger and function.
//!
//! Invariant: whatever may have changed rows, their form or their capture without a log row changes a line; a change names it.

use super::capture::Captured;
use super::connection::Connection;
use crate::engine::Stream;
use crate::error::MigrateError;

/// Everything about one table that must stay. A transaction's number says that something was made anew or altered.
const LINES: &str = "WITH RECURSIVE tree(oid) AS (SELECT $1::oid UNION SELECT inhrelid FROM pg_inherits JOIN tree ON oid = inhparent), \
    types(oid) AS (SELECT atttypid FROM pg_attribute WHERE attrelid IN (SELECT oid FROM tree) AND attnum > 0 AND NOT attisdropped \
      UNION SELECT x.oid FROM types JOIN pg_type t ON t.oid = types.oid, \
        LATERAL (VALUES (t.typbasetype), (t.typelem)) AS x(oid) WHERE x.oid <> 0) \
    SELECT line FROM ( \
      SELECT format('table %s kind %s file of %s', t.oid::regclass, c.relkind, coalesce(pg_get_expr(c.relpartbound, c.oid), 'all')) \
        FROM tree t JOIN pg_class c ON c.oid = t.oid \
      UNION ALL SELECT format('column %s.%I %s collation %s not null %s generated %s', t.oid::regclass, a.attname, \
        format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation, a.attnotnull, a.attgenerated) \
        FROM tree t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped \
      UNION ALL SELECT format('key %s', pg_get_indexdef(i.indexrelid)) FROM pg_index i \
        WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid \
      UNION ALL SELECT format('enum %s of %s', e.enumtypid::regtype, string_agg(quote_literal(e.enumlabel), ' ' ORDER BY e.enumsortorder)) \
        FROM pg_enum e WHERE e.enumtypid IN (SELECT oid FROM types) GROUP BY e.enumtypid \
      UNION ALL SELECT format('trigger %I on %s number %s enabled %s', g.tgname, g.tgrelid::regclass, g.xmin, g.tgenabled) \
        FROM pg_trigger g WHERE g.tgfoid = to_regprocedure($2) \
      UNION ALL SELECT format('function %s number %s', p.oid::regprocedure, p.xmin) FROM pg_proc p WHERE p.oid = to_regprocedure($2) \
      UNION ALL SELECT format('log %s number %s', c.oid::regclass, c.oid) FROM pg_class c WHERE c.oid = to_regclass($3) \
    ) lines(line) ORDER BY line COLLATE \"C\"";

pub(super) fn fingerprint(conn: &mut Connection, captured: &[Captured]) -> Result<String, MigrateError> {
    let mut lines: Vec<String> = Vec::new();
    for table in captured {
        let function = format!("{}()", table.function);
        let rows = conn.query(LINES, &[&table.shape.oid, &function, &table.log])?;
        lines.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    Ok(lines.join("\n"))
}

/// Refuses a fingerprint that is not the expected one, with the first difference.
pub(super) fn compare(stream: &Stream, expected: &str, found: &str) -> Result<(), MigrateError> {
    if expected == found {
        return Ok(());
    }
    let gone = expected.lines().find(|line| !found.lines().any(|other| other == *line));
    let new = found.lines().find(|line| !expected.lines().any(|other| other == *line));
    let told = |line: Option<&str>| line.map_or_else(|| "nothing".to_owned(), |line| format!("`{line}`"));
    Err(MigrateError::refused(
        format!(
            "what the stream {} reads, or its capture, was altered: {} became {}; changes meanwhile may be in no log",
            stream.name,
            told(gone),
            told(new)
        ),
        format!(
            "begin anew: `migrate capture remove {0} --forget`, empty the target, `migrate capture install {0}`, `migrate run {0}`",
            super::capture::applier_mark(&stream.name)
        ),
    ))
}
