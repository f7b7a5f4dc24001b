//! The load of the source, by a query of the operator's.
//!
//! Invariant: it changes nothing, and a run never waits for it for long.

use postgres::error::SqlState;

use super::connection::Connection;
use crate::error::MigrateError;

/// How long it may take, in milliseconds, locks included.
const PATIENCE: u32 = 5_000;

/// The first value of the first row as a number.
pub(super) fn measure(connection: &mut Connection, query: &str) -> Result<f64, MigrateError> {
    connection.run(&format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {PATIENCE}; SET LOCAL lock_timeout = {PATIENCE}"
    ))?;
    // Only one statement can be prepared; the simple protocol, which shows values of every type as text, takes several.
    let told = connection.client.prepare(query).and_then(|_| connection.try_rows(query));
    let ended = connection.run("ROLLBACK");
    let rows = told.map_err(|error| {
        let code = error.code().cloned();
        let said = error.as_db_error().map(|told| told.message().to_owned());
        let late = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE];
        match (connection.fault(error), code, said) {
            (_, Some(code), _) if late.contains(&code) => {
                unfit(query, &format!("it took more than {PATIENCE} ms"))
            }
            (_, Some(SqlState::READ_ONLY_SQL_TRANSACTION), _) => {
                unfit(query, "it writes, and a load is only read")
            }
            (away @ MigrateError::Unreachable { .. }, ..) => away,
            (_, _, Some(said)) => unfit(query, &said),
            (fault, ..) => fault,
        }
    })?;
    ended?;
    let value = rows.first().and_then(|row| row.get(0));
    let number = value.and_then(|value| value.parse::<f64>().ok()).filter(|number| number.is_finite());
    number
        .ok_or_else(|| unfit(query, &format!("it gives {}, which is no number", value.unwrap_or("nothing"))))
}

fn unfit(query: &str, said: &str) -> MigrateError {
    MigrateError::Usage(format!("the load query `{query}` cannot be run: {said}"))
}
