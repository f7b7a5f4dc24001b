//! What went wrong, sorted by what the caller can do about it.
//!
//! Invariant: whatever may go away by itself (network, server, a lock, room on a disk) is `Unreachable`, so the engine tries
//! again; nothing else is.

use postgres::error::{DbError, SqlState};

use super::connection::Place;
use super::sql;
use crate::error::MigrateError;

/// Sorts an error of one end.
pub(super) fn fault(end: &Place, error: postgres::Error) -> MigrateError {
    let place = &end.shown;
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
        return MigrateError::refused(
            format!("{place} does not permit it: {words}"),
            grant(told.message(), end.role()),
        );
    }
    if let Some((what, remedy)) = in_the_way(told) {
        return MigrateError::refused(format!("{place} {what}: {words}"), remedy);
    }
    failed(format!("{place} did not do it: {words}"), error)
}

/// What somebody did to a database that a copy goes on in, and the remedy.
fn in_the_way(told: &DbError) -> Option<(&'static str, &'static str)> {
    let code = told.code();
    if [SqlState::CHECK_VIOLATION, SqlState::NOT_NULL_VIOLATION, SqlState::FOREIGN_KEY_VIOLATION]
        .contains(code)
    {
        return Some((
            "does not take a row as the mapping makes it",
            "correct the row at its source or the mapping, or drop the constraint; then `migrate run` goes on",
        ));
    }
    let is_missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code);
    (is_missing && told.message().contains("\"banyan")).then_some((
        "has no longer what is kept there of the copy",
        "begin anew: `migrate capture install` at the source, then `migrate backfill --again`, then `migrate run`",
    ))
}

/// Sorts an error of connecting; what the client itself misses is in its words only.
pub(super) fn no_session(end: &Place, error: postgres::Error) -> MigrateError {
    if whole(&error).contains("password missing") {
        return MigrateError::refused(
            format!("{} asks this role for a password", end.shown),
            "write it into migrate.toml, before the @: postgres://user:password@host/name",
        );
    }
    if whole(&error).contains("server does not support TLS") {
        return MigrateError::refused(
            format!("{} does not speak TLS, which the URL asks for", end.shown),
            "set ssl = on there with a certificate and restart it; within a private network, write sslmode=prefer",
        );
    }
    match not_trusted(&error) {
        Some((what, remedy)) => MigrateError::refused(format!("{} {what}", end.shown), remedy),
        None => fault(end, error),
    }
}

/// What keeps TLS from coming about, and the remedy. Another try would change nothing.
fn not_trusted(error: &postgres::Error) -> Option<(String, &'static str)> {
    use rustls::{CertificateError as Why, Error};
    let why = tls_error(error)?;
    Some(match why {
        Error::InvalidCertificate(Why::NotValidForName | Why::NotValidForNameContext { .. }) => (
            format!("shows a certificate for another host: {why}"),
            "write the host as its subjectAltName has it, or sslmode=verify-ca if the authority signs for nobody else",
        ),
        Error::InvalidCertificate(
            Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. },
        ) => (
            format!("shows a certificate out of its time: {why}"),
            "renew it there and run SELECT pg_reload_conf(); see that the clocks are right",
        ),
        Error::InvalidCertificate(Why::BadEncoding | Why::Other(_)) => (
            format!("shows a certificate that cannot be checked: {why}"),
            "make it anew there as X.509 version 3 with the host as subjectAltName; one that is an authority's own must \
             itself stand in sslrootcert",
        ),
        Error::InvalidCertificate(_) => (
            format!("shows a certificate that is not trusted: {why}"),
            "name the certificate of the authority that signed it: postgres://…?sslmode=verify-full&sslrootcert=FILE",
        ),
        Error::AlertReceived(_) => (
            format!("does not accept our TLS or our certificate: {why}"),
            "see the server's log; sslcert and sslkey must name a certificate that its ssl_ca_file has signed",
        ),
        _ => return None,
    })
}

/// TLS's own error in the chain of causes. An input or output error names its inner one's cause as its own.
fn tls_error<'a>(error: &'a postgres::Error) -> Option<&'a rustls::Error> {
    let mut next: Option<&'a (dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = next {
        let inner = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = inner.and_then(|inner| inner.downcast_ref()).or_else(|| current.downcast_ref());
        if found.is_some() {
            return found;
        }
        next = current.source();
    }
    None
}

/// An input or output error on a connection.
pub(super) fn broken(end: &Place, error: std::io::Error) -> MigrateError {
    let place = &end.shown;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
        Some(_) => {
            let inner = error.into_inner().and_then(|inner| inner.downcast::<postgres::Error>().ok());
            match inner {
                Some(inner) => fault(end, *inner),
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
            "let its pg_hba.conf accept this role, database and host, then run SELECT pg_reload_conf() there; a line \
             `hostssl` accepts only TLS, `hostnossl` only none, as sslmode in the URL says (require, disable)"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("client certificate") => {
            "name one that its ssl_ca_file has signed: postgres://…?sslmode=require&sslcert=FILE&sslkey=FILE"
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

/// The remedy for `permission denied for table item`, which the server names without its schema and without quotes.
fn grant(message: &str, role: &str) -> String {
    let denied = message.strip_prefix("permission denied for ").and_then(|rest| rest.split_once(' '));
    let role = sql::name(role);
    let statement =
        |rights: &str, name: &str| format!("run there: GRANT {rights} {} TO {role}", sql::name(name));
    match denied {
        Some(("table", name)) => {
            let statement = statement("SELECT, INSERT, UPDATE, DELETE, TRIGGER ON", name);
            format!(
                "{statement}, with its schema in front, which is banyan for what `migrate` keeps; at the source \
                 SELECT is enough for all but capture"
            )
        }
        Some(("schema", name)) => statement("USAGE, CREATE ON SCHEMA", name),
        Some(("database", name)) => statement("CREATE ON DATABASE", name),
        Some(("function", name)) => statement("EXECUTE ON FUNCTION", name),
        Some(("sequence", name)) => statement("USAGE, SELECT, UPDATE ON SEQUENCE", name),
        _ if message.contains("must be owner") => {
            format!("run there: ALTER TABLE … OWNER TO {role}, or connect as the table's owner")
        }
        _ if message.contains("row-level security") => {
            format!("run there: ALTER ROLE {role} BYPASSRLS, since it must see every row")
        }
        _ if message.contains("session_replication_role") => {
            format!(
                "run there: GRANT SET ON PARAMETER session_replication_role TO {role} (before PostgreSQL 15: connect as a superuser)"
            )
        }
        _ => format!("grant it to {role}"),
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
