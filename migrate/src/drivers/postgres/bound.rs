//! How large a log may grow: one that nobody catches up with must not fill the source's disk. At its bound, capture ends by
//! itself: the transaction that finds it there replaces the functions of the table's triggers by one that logs nothing.
//!
//! Invariant: who sees a change that went unlogged sees the replaced functions. Others call them only after they are
//! committed, and the transaction that replaced them commits both at once.

use super::capture::{Captured, KINDS};
use super::connection::Connection;
use super::{log, sql};
use crate::engine::Stream;
use crate::error::MigrateError;

/// What the functions do from then on; told from others by its text.
const FULL: &str = "BEGIN RETURN NULL; END /* the log is full */";
/// No row of a log takes less of its file.
const LEAST_BYTES: u64 = 40;

/// Sets how many rows the stream's logs may hold, each.
pub(super) fn set(connection: &mut Connection, stream: &Stream, rows: u64) -> Result<(), MigrateError> {
    for table in Captured::of(connection, stream)? {
        connection.run(&function(&table, rows))?;
    }
    Ok(())
}

/// The function that looks whether a table's log is full. The rows are estimated as status does; where even the smallest
/// would not be too many, nothing is asked. If another transaction finds it full at the same moment, one of the two goes on;
/// what cannot be replaced now is replaced by the next to look, as no writer may fail for it.
pub(super) fn function(table: &Captured, rows: u64) -> String {
    let (log, tag) = (sql::value(&table.log), &table.tag);
    let replaced = KINDS.map(|kind| {
        format!("CREATE OR REPLACE FUNCTION banyan.{kind}_{tag}() RETURNS trigger LANGUAGE plpgsql AS $full${FULL}$full$;")
    });
    format!(
        "CREATE OR REPLACE FUNCTION banyan.bound_{tag}() RETURNS void LANGUAGE plpgsql SECURITY DEFINER \
         SET search_path = pg_catalog, pg_temp AS $banyan$ BEGIN \
         IF pg_relation_size({log}) / {LEAST_BYTES} < {rows} THEN RETURN; END IF; \
         IF ({}) < {rows} OR NOT pg_try_advisory_xact_lock({}) THEN RETURN; END IF; \
         BEGIN {} EXCEPTION WHEN OTHERS THEN RETURN; END; END $banyan$",
        log::estimate(&format!("{log}::regclass")),
        lock(table),
        replaced.join(" ")
    )
}

/// Keeps capture of a table from ending by itself, until the session lets go of its locks; waits for a transaction in which
/// it does.
pub(super) fn hold(table: &Captured) -> String {
    format!("SELECT pg_advisory_lock({})", lock(table))
}

fn lock(table: &Captured) -> String {
    format!("hashtext({})", sql::value(&table.log))
}

/// The tables whose logs are full.
pub(super) fn full(connection: &mut Connection, captured: &[Captured]) -> Result<Vec<String>, MigrateError> {
    let mut full = Vec::new();
    for table in captured {
        if connection.holds(&exists(table, &format!("prosrc = {}", sql::value(FULL))))? {
            full.push(table.name.clone());
        }
    }
    Ok(full)
}

/// Whether the triggers have called other functions than these.
pub(super) fn is_gap(
    connection: &mut Connection,
    table: &Captured,
    functions: &[(&'static str, String)],
) -> Result<bool, MigrateError> {
    let wanted: Vec<String> = functions
        .iter()
        .map(|(kind, body)| {
            format!("({}, {})", sql::value(&format!("{kind}_{}", table.tag)), sql::value(body))
        })
        .collect();
    connection.holds(&exists(table, &format!("(proname, prosrc) NOT IN ({})", wanted.join(", "))))
}

fn exists(table: &Captured, condition: &str) -> String {
    let names = KINDS.map(|kind| sql::value(&format!("{kind}_{}", table.tag)));
    format!(
        "EXISTS (SELECT FROM pg_proc WHERE pronamespace = to_regnamespace('banyan') AND proname IN ({}) AND {condition})",
        names.join(", ")
    )
}
