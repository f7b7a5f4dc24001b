//! What went wrong, sorted by what the caller can do about it.
//!
//! Invariant: whatever may go away by itself (network, server, a lock, room on a disk) is `Unreachable`, so the engine tries
//! again; nothing else is.

use postgres::error::{DbError, SqlState};

use crate::error::MigrateError;

/// Sorts an error of one end, named by `place`.
pub(super) fn fault(place: &str, error: postgres::Error) -> MigrateError {
    let Some(told) = error.as_db_error() else {
        return if error.is_closed() || is_transport(&error) {
            unreachable(format!("lost or never had the connection to {place}: {}", whole(&error)), error)
        } else {
            failed(format!("{place} did not do it: {}", whole(&error)), error)
        };
    };
    let words = words(told);
    if may_go_away(told.code()) {
        return unreachable(format!("{place} cannot do it now: {words}"), error);
    }
    if let Some(remedy) = let_in(told) {
        return MigrateError::refused(format!("{place} does not let us in: {words}"), remedy);
    }
    if told.code() == &SqlState::INSUFFICIENT_PRIVILEGE {
        return MigrateError::refused(format!("{place} does not permit it: {words}"), grant(told.message()));
    }
    failed(format!("{place} did not do it: {words}"), error)
}

/// Sorts an error of connecting; what the client itself misses is in its words only.
pub(super) fn no_session(place: &str, error: postgres::Error) -> MigrateError {
    if whole(&error).contains("password missing") {
        return MigrateError::refused(
            format!("{place} asks this role for a password"),
            "write it into migrate.toml, before the @: postgres://user:password@host/name",
        );
    }
    fault(place, error)
}

/// An input or output error on a connection.
pub(super) fn broken(place: &str, error: std::io::Error) -> MigrateError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
        Some(_) => {
            let inner = error.into_inner().and_then(|inner| inner.downcast::<postgres::Error>().ok());
            match inner {
                Some(inner) => fault(place, *inner),
                None => MigrateError::failed(format!("{place} did not do it")),
            }
        }
        None => MigrateError::Unreachable {
            message: format!("lost the connection to {place}: {error}"),
            source: Some(Box::new(error)),
        },
    }
}

/// Whether a unique or exclusion constraint was in the way.
pub(super) fn is_conflict(error: &postgres::Error) -> bool {
    [SqlState::UNIQUE_VIOLATION, SqlState::EXCLUSION_VIOLATION].iter().any(|code| error.code() == Some(code))
}

/// What the server said, with its detail and hint.
pub(super) fn words(told: &DbError) -> String {
    let more = [told.detail(), told.hint()].into_iter().flatten();
    let more: String = more.map(|text| format!("; {text}")).collect();
    format!("{}{more} ({})", told.message(), told.code().code())
}

fn may_go_away(code: &SqlState) -> bool {
    // Connection exceptions, resources, an operator's intervention, system errors.
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "53" | "57" | "58")
        || [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::OBJECT_IN_USE,
        ]
        .contains(code)
}

/// The remedy where the server refuses the connection itself.
fn let_in(told: &DbError) -> Option<&'static str> {
    let message = told.message();
    Some(match *told.code() {
        SqlState::INVALID_PASSWORD => {
            "correct the password in migrate.toml, or set it there: ALTER ROLE … PASSWORD '…'"
        }
        SqlState::INVALID_CATALOG_NAME => {
            "correct the database's name in migrate.toml, or make it there: CREATE DATABASE …"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("pg_hba.conf") => {
            "let its pg_hba.conf accept this role, database and host without TLS, then run SELECT pg_reload_conf() there"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("not permitted to log in") => {
            "run there: ALTER ROLE … LOGIN"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "correct the role in migrate.toml, or make it there: CREATE ROLE … LOGIN"
        }
        _ => return None,
    })
}

/// The remedy for `permission denied for table item`.
fn grant(message: &str) -> String {
    let denied = message.strip_prefix("permission denied for ").and_then(|rest| rest.split_once(' '));
    let role = "to the role that migrate connects as";
    match denied {
        Some(("table", name)) => format!("GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON {name} {role}"),
        Some(("schema", name)) => format!("GRANT USAGE ON SCHEMA {name} {role}"),
        Some(("database", name)) => format!("GRANT CREATE ON DATABASE {name} {role}"),
        Some(("function", name)) => format!("GRANT EXECUTE ON FUNCTION {name} {role}"),
        Some(("sequence", name)) => format!("GRANT USAGE, SELECT, UPDATE ON SEQUENCE {name} {role}"),
        _ if message.contains("must be owner") => {
            "connect as the table's owner, or GRANT its owner's role to the role that migrate connects as"
                .to_owned()
        }
        _ if message.contains("row-level security") => {
            "ALTER ROLE … BYPASSRLS for the role that migrate connects as: it must see every row".to_owned()
        }
        _ if message.contains("session_replication_role") => {
            format!(
                "GRANT SET ON PARAMETER session_replication_role {role} (before PostgreSQL 15: connect as a superuser)"
            )
        }
        _ => format!("grant it {role}"),
    }
}

fn is_transport(error: &postgres::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = next {
        if current.is::<std::io::Error>() {
            return true;
        }
        next = current.source();
    }
    false
}

fn whole(error: &postgres::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(current) = next {
        text = format!("{text}: {current}");
        next = current.source();
    }
    text
}

fn unreachable(message: String, error: postgres::Error) -> MigrateError {
    MigrateError::Unreachable { message, source: Some(Box::new(error)) }
}

fn failed(message: String, error: postgres::Error) -> MigrateError {
    MigrateError::Failed { message, source: Some(Box::new(error)) }
}
