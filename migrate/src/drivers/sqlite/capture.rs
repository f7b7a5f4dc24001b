//! Installing capture, removing it, and finding out whether it is still whole.
//!
//! Invariant: a log has one identity for as long as its triggers were there without a gap. Whatever had to be brought back
//! may have been missing for a while, so it gets a new identity, and stored positions are refused from then on.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use twox_hash::XxHash3_64;

use super::catalog::Table;
use super::log::{Log, TABLES};
use super::sql::{quote, text};
use super::triggers;
use crate::engine::{CaptureState, Stream};
use crate::error::MigrateError;

/// Puts triggers and log into the file.
pub(super) fn install(writer: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(TABLES)?;
    let log = Log::read(&tx, "main", &stream.name)?;
    if let Some(log) = log
        && registered(&log, stream)
        && first_gap(&tx, "main", stream, &log)?.is_none()
        && log.newest(&tx, "main").is_ok()
        && !is_full(&tx, "main", stream)?
    {
        return Ok(tx.commit()?);
    }
    forget(&tx, stream)?;
    widen(&tx, stream.captured().iter().map(|(_, columns)| columns.len()).max().unwrap_or(1))?;
    let register = "INSERT INTO banyan_capture (stream, source, columns) VALUES (?1, ?2, ?3)";
    let identity: String = tx.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))?;
    tx.execute(register, [&stream.name, "", &identity])?;
    tx.execute("INSERT INTO banyan_log (tab, c1) VALUES (last_insert_rowid(), randomblob(8))", [])?;
    for (table, columns) in stream.captured() {
        let known = Table::read(&tx, "main", &table)?;
        columns.iter().try_for_each(|name| known.column(name).map(drop))?;
        for mapping in stream.mappings.iter().filter(|mapping| mapping.root == table) {
            known.tells_apart(&mapping.root_key)?;
        }
        tx.execute(register, [&stream.name, &table, &serde_json::to_string(&columns).unwrap_or_default()])?;
        for trigger in triggers::of(&stream.name, &known, tx.last_insert_rowid(), &columns) {
            tx.execute_batch(&trigger.sql())?;
        }
    }
    Ok(tx.commit()?)
}

/// Sets how many rows the log may hold before capture of the stream ends by itself. All streams of the file share one log, so
/// what counts is how far its first row lies behind the last.
pub(super) fn bound(writer: &Connection, stream: &Stream, rows: u64) -> Result<(), MigrateError> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    Ok(writer
        .execute("INSERT OR REPLACE INTO banyan_bound VALUES (?1, ?2)", (&stream.name, rows))
        .map(drop)?)
}

/// Refuses a stream whose capture ended as its log was full.
pub(super) fn needs_room(conn: &Connection, schema: &str, stream: &Stream) -> Result<(), MigrateError> {
    if is_full(conn, schema, stream)? {
        let again = format!("{}: changes went unlogged", stream.anew());
        return Err(MigrateError::refused(CaptureState::full(&stream.name), again));
    }
    Ok(())
}

fn is_full(conn: &Connection, schema: &str, stream: &Stream) -> Result<bool, MigrateError> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {}.banyan_silenced WHERE stream = ?1)", quote(schema));
    Ok(conn.prepare_cached(&sql)?.query_row([triggers::full(&stream.name)], |row| row.get(0))?)
}

/// Removes what [`install`] made for the stream; the tables with the last of them.
pub(super) fn remove(writer: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let captured = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'banyan_capture')";
    if tx.query_row(captured, [], |row| row.get::<_, bool>(0))? {
        // Whatever somebody dropped of them; all go in the end.
        tx.execute_batch(TABLES)?;
    }
    if Log::read(&tx, "main", &stream.name)?.is_some() {
        forget(&tx, stream)?;
        let left: i64 = tx.query_row("SELECT count(*) FROM banyan_capture", [], |row| row.get(0))?;
        if left == 0 {
            tx.execute_batch("DROP TABLE banyan_log; DROP TABLE banyan_capture; DROP TABLE banyan_bound")?;
            let target = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'banyan_streams')";
            if !tx.query_row(target, [], |row| row.get::<_, bool>(0))? {
                tx.execute_batch("DROP TABLE banyan_silenced")?;
            }
        }
    }
    Ok(tx.commit()?)
}

/// The schema that a stream relies on, as a line with a hash for each part of it, so that a difference can be told; refused,
/// with the table's name, if a trigger is missing or would log more by now.
///
/// These are the captured tables and the stream's own triggers. Indexes are none of it: they change no row, and what a unique one
/// lets REPLACE displace is in the triggers, which are too few only when one was made.
pub(super) fn fingerprint(
    conn: &Connection,
    schema: &str,
    stream: &Stream,
    log: &Log,
) -> Result<String, MigrateError> {
    let again = || format!("{}: changes may have gone unlogged", stream.anew());
    if !registered(log, stream) {
        return Err(MigrateError::refused(
            format!("the log of {} was made for another mapping", stream.name),
            again(),
        ));
    }
    if let Some((table, trigger)) = first_gap(conn, schema, stream, log)? {
        return Err(MigrateError::refused(
            format!(
                "the table {table} was altered under capture: its trigger {trigger} is missing or out of date (a table \
                 rebuilt by DROP and RENAME loses its triggers, a new unique index asks for others)"
            ),
            again(),
        ));
    }
    let sql = format!(
        "SELECT type || ' ' || name, coalesce(sql, '') FROM {}.sqlite_schema \
         WHERE lower(tbl_name) IN ({}) AND (type = 'table' OR (type = 'trigger' AND substr(name, 1, ?2) = ?1)) \
         ORDER BY type, name",
        quote(schema),
        stream.captured().iter().map(|(table, _)| text(&table.to_lowercase())).collect::<Vec<_>>().join(", ")
    );
    let prefix = triggers::prefix(&stream.name);
    let mut statement = conn.prepare(&sql)?;
    let lines = statement.query_map((&prefix, prefix.chars().count()), |row| {
        let (part, sql): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(format!("{part} {:016x}", XxHash3_64::oneshot(sql.as_bytes())))
    })?;
    Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// Which parts of the schema are not as they were.
pub(super) fn difference(before: &str, now: &str) -> String {
    let part = |line: &str| line.rsplit_once(' ').map_or(line, |(part, _)| part).to_owned();
    let other = |line: &&str, lines: &str| !lines.lines().any(|known| known == *line);
    let gone = before.lines().filter(|line| other(line, now)).map(part);
    let new = now.lines().filter(|line| other(line, before)).map(part);
    let parts: std::collections::BTreeSet<String> = gone.chain(new).collect();
    parts.into_iter().collect::<Vec<_>>().join(", ")
}

/// What of it is there, and what is wrong with it.
pub(super) fn state(conn: &Connection, schema: &str, stream: &Stream) -> Result<CaptureState, MigrateError> {
    let looked = match Log::read(conn, schema, &stream.name) {
        Ok(None) => return Ok(CaptureState::default()),
        Ok(Some(log)) => {
            fingerprint(conn, schema, stream, &log).and_then(|_| needs_room(conn, schema, stream))
        }
        Err(error) => Err(error),
    };
    let faults = match looked {
        Err(MigrateError::Refused { reason, .. }) => vec![reason],
        looked => looked.map(|()| Vec::new())?,
    };
    Ok(CaptureState { installed: true, faults })
}

fn registered(log: &Log, stream: &Stream) -> bool {
    let captured = stream.captured();
    let same = |(table, columns): &(String, Vec<String>)| {
        log.tables.get(table).is_some_and(|known| known.1 == *columns)
    };
    captured.len() == log.tables.len() && captured.iter().all(same)
}

/// A table and its trigger that is not as it ought to be.
fn first_gap(
    conn: &Connection,
    schema: &str,
    stream: &Stream,
    log: &Log,
) -> Result<Option<(String, String)>, MigrateError> {
    let sql = format!("SELECT sql FROM {}.sqlite_schema WHERE type = 'trigger'", quote(schema));
    let mut statement = conn.prepare(&sql)?;
    let present: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
    for (table, columns) in stream.captured() {
        let known = Table::read(conn, schema, &table)?;
        let (tab, _) = log.places(&table, &columns)?;
        let missing = triggers::of(&stream.name, &known, tab, &columns)
            .into_iter()
            .find(|trigger| !present.iter().any(|sql| trigger.is_done_by(sql)));
        if let Some(trigger) = missing {
            return Ok(Some((table, trigger.name)));
        }
    }
    Ok(None)
}

/// Removes the stream's triggers, numbers and log rows.
fn forget(tx: &Transaction<'_>, stream: &Stream) -> Result<(), MigrateError> {
    let prefix = triggers::prefix(&stream.name);
    let mut statement =
        tx.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND substr(name, 1, ?2) = ?1")?;
    let names = statement.query_map((&prefix, prefix.chars().count()), |row| row.get::<_, String>(0))?;
    for name in names.collect::<Result<Vec<_>, _>>()? {
        tx.execute_batch(&format!("DROP TRIGGER {}", quote(&name)))?;
    }
    tx.execute(
        "DELETE FROM banyan_log WHERE tab IN (SELECT tab FROM banyan_capture WHERE stream = ?1)",
        [&stream.name],
    )?;
    tx.execute("DELETE FROM banyan_capture WHERE stream = ?1", [&stream.name])?;
    tx.execute("DELETE FROM banyan_bound WHERE stream = ?1", [&stream.name])?;
    tx.execute("DELETE FROM banyan_silenced WHERE stream = ?1", [triggers::full(&stream.name)])?;
    Ok(())
}

/// Gives the log as many columns as the widest captured table needs.
fn widen(tx: &Transaction<'_>, columns: usize) -> Result<(), MigrateError> {
    let count = "SELECT count(*) - 2 FROM pragma_table_info('banyan_log')";
    let present: usize = tx.query_row(count, [], |row| row.get(0))?;
    for number in present + 1..=columns {
        tx.execute_batch(&format!("ALTER TABLE banyan_log ADD COLUMN c{number}"))?;
    }
    Ok(())
}
